"""MiDaS DPT-hybrid (Ranftl et al., arXiv 2103.13413): inverse depth of every pixel, at the frames' own size."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from vace.annotators.batching import Precision, fitting_batch, in_batches
from vace.annotators.depth import levels
from vace.annotators.nets import midas_keys as keys
from vace.annotators.networks import Weights
from vace.weight_files import open_weights

MULTIPLE = 64
LONGEST_SHORT_SIDE = 1024
BYTES_PER_PIXEL = 2100  # measured in float32; most of it is the head, 128 channels at full size


def network_size(height: int, width: int) -> tuple[int, int]:
    """Height and width that the network sees: the short side at most 1024, both rounded (half to even) to 64s.

    A side below 32 rounds to nothing in the original, which fails on it; here 64 is the least.
    """
    scale = min(height, width, LONGEST_SHORT_SIDE) / min(height, width)
    rounded = (int(np.round(side * scale / MULTIPLE)) * MULTIPLE for side in (height, width))
    return tuple(max(MULTIPLE, side) for side in rounded)


def network_input(frames: np.ndarray) -> np.ndarray:
    """RGB uint8 [t,H,W,3] -> float32 [t,3,h,w] in -1..1, resized by areas while still uint8, as the original."""
    import cv2

    height, width = network_size(*frames.shape[1:3])
    resized = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames]
    pixels = np.stack(resized).astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


class AnySize(nn.Module):
    """A DPT-hybrid of transformers at every size in 16s: float32 [t,3,h,w] -> inverse depth [t,h,w], 0 or more.

    The class itself takes squares of its training size only, so its parts are called one by one.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.taken = set(model.config.backbone_out_indices[2:])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        rows, columns = (side // keys.PATCH for side in pixels.shape[2:])
        start = self.model.dpt.embeddings(pixels, interpolate_pos_encoding=True)
        tokens, features = start.last_hidden_states, list(start.intermediate_activations)
        for index, layer in enumerate(self.model.dpt.encoder.layer):
            tokens = layer(tokens)
            if index in self.taken:
                features.append(tokens)
        return self.model.head(self.model.neck(features, rows, columns))


def load(weights: Weights) -> nn.Module:
    """transformers' DPTForDepthEstimation with the weights, of either layout. Raises CheckpointError."""
    from transformers import DPTConfig, DPTForDepthEstimation

    is_original = weights.layout == "original"
    config, files = ({}, open_weights(weights.files)) if is_original else keys.folder_files(weights.folder, "dpt")

    def make() -> nn.Module:
        settings = keys.config_of(files.shapes) if is_original else config
        return DPTForDepthEstimation(DPTConfig.from_dict({**settings, "is_hybrid": True}))

    model = keys.empty(make, weights.where)
    if is_original:
        return keys.fill(model, files, keys.original_names(files.shapes), keys.IDLE_ORIGINAL, weights.where)
    names = {name: (name,) for name in model.state_dict()}
    return keys.fill(model, files, names, keys.IDLE, weights.where)


class Midas:
    """Inverse depth by MiDaS DPT-hybrid: network "depth" (see vace.annotators.nets)."""

    def __init__(self, weights: Weights, *, device: torch.device, batch_size: int | None = None) -> None:
        self.device, self.batch_size = device, batch_size
        self._run = Precision(AnySize(load(weights)).to(device), device, levels)

    def maps(self, frames: np.ndarray) -> np.ndarray:
        """RGB uint8 [t,H,W,3] -> inverse depth, float32 [t,h,w], 0 or more, of `network_size`."""
        height, width = network_size(*frames.shape[1:3])
        size = fitting_batch(height * width, BYTES_PER_PIXEL, self.device, self.batch_size)
        return in_batches(lambda batch: self._run(torch.from_numpy(network_input(batch)).to(self.device)), size, frames)

    def depths(self, frames: np.ndarray) -> np.ndarray:
        """`maps` at the frames' size, float32 [t,H,W]."""
        import cv2

        height, width = frames.shape[1:3]
        return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) for one in self.maps(frames)])
