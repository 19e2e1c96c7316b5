"""One thing followed through a clip by SAM 2, in memory that does not grow with the clip.

transformers' session is given each frame's features when its turn comes, and keeps of the frames gone by only what the
memory attention still looks at: the prompted frame, the last `num_maskmem - 1` frames' memories and the last
`max_object_pointers_in_encoder - 1` frames' pointers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn import functional
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession, Sam2VideoModel

from vace.annotators.nets.prompts import Prompt
from vace.annotators.nets.sam2 import coordinates

log = logging.getLogger("vace")

THING = 0  # the id of what is followed
MEMORY = ("maskmem_features", "maskmem_pos_enc")  # of a frame, as transformers calls it


class BoundedSession(Sam2VideoInferenceSession):
    """A session without the clip's pixels. frame_count: of the whole clip; the encoding of time depends on it."""

    def __init__(self, width: int, height: int, frame_count: int, device: torch.device) -> None:
        super().__init__(
            video_height=height,
            video_width=width,
            inference_device=device,
            inference_state_device=device,
            video_storage_device=device,
            dtype=torch.float32,
        )
        self._frame_count = frame_count

    @property
    def num_frames(self) -> int:
        return self._frame_count

    def forget(self, done: int, memories: int, pointers: int) -> None:
        """Drops what no frame after `done` will look at; memories, pointers: of frames, the prompted one included."""
        for outputs in self.output_dict_per_obj.values():
            for output in outputs["cond_frame_outputs"].values():
                _keep(output, (*MEMORY, "object_pointer"))
            tracked = outputs["non_cond_frame_outputs"]
            for index in list(tracked):
                age = done + 1 - index  # seen from the next frame
                if age >= max(memories, pointers):
                    del tracked[index]
                else:
                    wanted = MEMORY if age < memories else ()
                    _keep(tracked[index], (*wanted, "object_pointer"))
        for inputs in (*self.point_inputs_per_obj.values(), *self.mask_inputs_per_obj.values()):
            inputs.pop(done, None)
        for seen in self.frames_tracked_per_obj.values():
            seen.pop(done, None)
        self.cache.clear_all()


def _keep(output: dict, wanted: tuple[str, ...]) -> None:
    for name in [name for name in output if name not in wanted]:
        del output[name]


def prompt_session(session: Sam2VideoInferenceSession, prompt: Prompt, width: int, height: int, side: int) -> None:
    """Says in `session` where the thing is in frame 0: `prompt` in pixels of width x height, for an input of `side`.

    As the original: a box is its two corners, a mask what is above 0, stretched to the network's input.
    """
    index = session.obj_id_to_idx(THING)
    if prompt.mask is None:
        points, labels = coordinates(prompt, width, height, side)
        inputs = {
            "point_coords": torch.from_numpy(points)[None, None],
            "point_labels": torch.from_numpy(labels)[None, None],
        }
        session.add_point_inputs(index, 0, inputs)
    else:
        mask = torch.from_numpy((prompt.mask > 0).astype(np.float32))[None, None]
        if mask.shape[-2:] != (side, side):
            mask = functional.interpolate(mask, (side, side), mode="bilinear", align_corners=False, antialias=True)
        inside = mask >= 0.5
        inside = inside if inside.any() else mask > 0  # a dot that stretching thins out stays a dot
        session.add_mask_inputs(index, 0, inside.float())
    session.obj_with_new_inputs = [THING]


def frame_features(model: Sam2VideoModel, pixels: torch.Tensor) -> list[dict[str, list[torch.Tensor]]]:
    """What the session wants of each frame in `pixels` (normalised float32 [t,3,S,S]), from one pass over them."""
    seen = model.get_image_features(pixels, return_dict=True)
    levels = {"vision_feats": seen.fpn_hidden_states, "vision_pos_embeds": seen.fpn_position_encoding}
    return [
        {name: [level[:, i : i + 1] for level in tensors] for name, tensors in levels.items()}
        for i in range(len(pixels))
    ]


def encoded(
    model: Sam2VideoModel, frames: np.ndarray, prepare: Callable[[np.ndarray], torch.Tensor], size: int
) -> Iterator[dict[str, list[torch.Tensor]]]:
    """`frame_features` of RGB uint8 frames [t,H,W,3], `size` of them at a time, or fewer where memory is short."""
    start = 0
    while start < len(frames):
        try:
            found = frame_features(model, prepare(frames[start : start + size]))
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
            torch.cuda.empty_cache()
            log.info("the device's memory is short: %d frames at a time", size)
            continue
        start += len(found)
        yield from found


def followed(
    model: Sam2VideoModel, session: BoundedSession, features: dict[str, list[torch.Tensor]], index: int
) -> np.ndarray:
    """The mask of the thing in frame `index`, uint8 [H,W], 0 or 255; frames are asked for in order, from 0 on."""
    session.cache.cache_vision_features(index, features)
    logits = model(session, frame_idx=index).pred_masks.float()
    session.forget(index, model.config.num_maskmem, model.config.max_object_pointers_in_encoder)
    return drawn(logits, session.video_width, session.video_height)


def drawn(logits: torch.Tensor, width: int, height: int) -> np.ndarray:
    """Coarse logits [1,1,h,w] as a mask of width x height: uint8 [H,W], 255 where the stretched logits are above 0."""
    full = functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
    return ((full[0, 0] > 0).to(torch.uint8) * 255).cpu().numpy()
