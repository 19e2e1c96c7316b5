"""SAM 2.1: one thing cut out of a picture, or followed through a clip.

Ravi et al. 2024, "SAM 2: Segment Anything in Images and Videos". The network is transformers' `Sam2VideoModel`, which
serves pictures too; before and after it everything is as in the original (facebookresearch/sam2's predictors, as
vace/annotators/sam2.py calls them).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from vace.annotators.batching import fitting_batch
from vace.annotators.nets.prompts import Prompt, mask_logits
from vace.annotators.networks import Weights
from vace.errors import InputError
from vace.media.clip import Clip

if TYPE_CHECKING:
    import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
ON_THING, FIRST_CORNER, SECOND_CORNER = 1, 2, 3  # what a point is said to be
BYTES_PER_PIXEL = 1000  # of the image encoder's working memory: twice what the largest took in float32


def coordinates(prompt: Prompt, width: int, height: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A prompt's points or box, in pixels of width x height, as points float32 [n,2] in a square of `side` pixels,
    and what each is, int64 [n]: 1 on the thing, 2 and 3 a box's first and second corner.
    """
    if prompt.box is not None:
        points, kinds = np.reshape(np.asarray(prompt.box, np.float32), (2, 2)), [FIRST_CORNER, SECOND_CORNER]
    else:
        points = np.reshape(np.asarray(prompt.points, np.float32), (-1, 2))
        kinds = [ON_THING] * len(points)
    return points / np.float32([width, height]) * np.float32(side), np.asarray(kinds, np.int64)


def check_prompt(prompt: Prompt) -> None:
    """Raises InputError for a prompt that marks nothing, or that is not exactly one of box, points and mask."""
    given = [name for name in ("box", "points", "mask") if getattr(prompt, name) is not None]
    if len(given) != 1:
        raise InputError(f"what to cut out: {' and '.join(given) or 'nothing'} given; give a box, points or a mask")
    if prompt.mask is not None and not prompt.mask.any():
        raise InputError("--mask: black everywhere, nothing to cut out; make the thing's pixels white")
    if prompt.points is not None and not len(prompt.points):
        raise InputError("--mask: no dot of pure white (255) on the thing to cut out; draw at least one")


class Sam2:
    """SAM 2 with trained weights: the original's file or a folder in transformers' layout.

    device: a torch.device. batch_size: frames at a time through the image encoder, None for as many as fit in memory.
    On CUDA clips are followed in bfloat16, as in the original; pictures, and all on the CPU, in float32.
    """

    def __init__(self, weights: Weights, *, device: torch.device, batch_size: int | None = None) -> None:
        self.model, self.device, self._asked = load(weights).to(device), device, batch_size
        self.side = self.model.config.image_size

    def mask(self, image: np.ndarray, prompt: Prompt) -> np.ndarray:
        """The thing that `prompt` points at in `image` (RGB uint8 [H,W,3]): uint8 [H,W], 0 or 255.

        Raises InputError for a prompt that marks nothing.
        """
        import torch

        from vace.annotators.nets.sam2_video import drawn

        check_prompt(prompt)
        height, width = image.shape[:2]
        with torch.inference_mode():
            *fine, coarse = self.model.get_image_embeddings(self._pixels(image[None]))
            sparse, dense = self._prompt(prompt, width, height)
            logits, *_ = self.model.mask_decoder(
                image_embeddings=coarse,
                image_positional_embeddings=self.model.get_image_wide_positional_embeddings(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
                high_resolution_features=fine,
            )
            return drawn(logits[:, 0].float(), width, height)

    def track(self, clip: Clip, prompt: Prompt) -> Iterator[np.ndarray]:
        """The masks of the thing that `prompt` points at in the first frame of `clip`: uint8 [t,H,W] chunks, 0 or 255.

        One mask per frame, black where the thing is out of sight. Memory does not grow with the clip. Raises
        InputError, at once, for a prompt that marks nothing.
        """
        check_prompt(prompt)
        return self._track(clip, prompt)

    def _track(self, clip: Clip, prompt: Prompt) -> Iterator[np.ndarray]:
        import torch

        from vace.annotators.nets.sam2_video import BoundedSession, encoded, followed, prompt_session

        session = BoundedSession(clip.width, clip.height, clip.frame_count, self.device)
        prompt_session(session, prompt, clip.width, clip.height, self.side)
        size = fitting_batch(self.side**2, BYTES_PER_PIXEL, self.device, self._asked)
        index = 0
        for chunk in clip.chunks():
            masks = []
            with torch.inference_mode(), self._half():  # left before the chunk goes out: the mode is the thread's
                for features in encoded(self.model, chunk, self._pixels, size):
                    masks.append(followed(self.model, session, features, index))
                    index += 1
            yield np.stack(masks)

    def _half(self) -> AbstractContextManager:
        import torch

        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def _pixels(self, frames: np.ndarray) -> torch.Tensor:
        """RGB uint8 [t,H,W,3] stretched to a square, bilinear with antialias, and normalised: float32 [t,3,S,S]."""
        import torch
        from torch.nn import functional

        pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2).float() / 255
        square = (self.side, self.side)
        pixels = functional.interpolate(pixels, square, mode="bilinear", align_corners=False, antialias=True)
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        return (pixels - mean) / std

    def _prompt(self, prompt: Prompt, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The prompt as the mask decoder's tokens and its dense picture."""
        import torch

        encoder = self.model.prompt_encoder
        points = labels = masks = None
        if prompt.mask is None:
            found = coordinates(prompt, width, height, self.side)
            points, labels = (torch.from_numpy(array).to(self.device)[None, None] for array in found)
        else:
            coarse = mask_logits(prompt.mask, encoder.mask_input_size[0])
            masks = torch.from_numpy(coarse).to(self.device)[None, None]
        sparse, dense = encoder(points, labels, None, masks)
        if sparse is None:  # the original's tokens are none; transformers would add an empty point
            sparse = dense.new_zeros(1, 1, 0, dense.shape[1])
        return sparse, dense


def load(weights: Weights) -> Any:
    """`Sam2VideoModel` with `weights`, as float32 on the CPU. Raises CheckpointError for what is not SAM 2's."""
    from transformers import Sam2VideoModel

    from vace.annotators.nets import loading_hf, sam2_keys

    if weights.folder is not None:
        return loading_hf.from_folder(Sam2VideoModel, weights.folder)
    where = str(weights.files[0])
    with loading_hf.quiet():
        config, tensors = sam2_keys.read(weights.files[0])
    network = loading_hf.from_tensors(Sam2VideoModel, config, tensors, where)
    # transformers keeps silent about some unknown tensors: those that its picture network has no use for.
    loading_hf.refuse_misfits(where, "SAM 2", unknown=tensors.keys() - network.state_dict().keys())
    return network
