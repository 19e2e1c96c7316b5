"""Depth Anything V2 (Yang et al., arXiv 2406.09414): inverse depth of every pixel, with finer edges than MiDaS."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn

from vace.annotators.batching import Precision, fitting_batch, in_batches
from vace.annotators.depth import levels
from vace.annotators.nets import depth_anything_keys as keys
from vace.annotators.nets.midas_keys import empty, fill, folder_files
from vace.annotators.networks import Weights
from vace.weight_files import open_weights

SHORT_SIDE = 518
MULTIPLE = 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
OFFSET = 0.1
BYTES_PER_PIXEL = 2100  # measured in float32; most of it is the head, 128 channels at full size


def network_size(height: int, width: int) -> tuple[int, int]:
    """Height and width that the network sees: the short side 518 or little more, both rounded (half to even) to 14s."""
    scale = max(SHORT_SIDE / height, SHORT_SIDE / width)
    return _rounded(scale * height), _rounded(scale * width)


def _rounded(side: float) -> int:
    nearest = int(np.round(side / MULTIPLE) * MULTIPLE)
    return nearest if nearest >= SHORT_SIDE else int(np.ceil(side / MULTIPLE) * MULTIPLE)


def network_input(frames: np.ndarray, *, bgr: bool = True) -> np.ndarray:
    """RGB uint8 [t,H,W,3] -> float32 [t,3,h,w], by ImageNet's mean and deviation, resized by cubics as floats.

    bgr: the channels reversed. The network was trained on RGB, but the original hands it BGR (its code takes its input
    for OpenCV's), and VACE was trained on what came of that: the default. False gives the network what it knows.
    """
    import cv2

    height, width = network_size(*frames.shape[1:3])
    pixels = (frames[..., ::-1] if bgr else frames) / np.float32(255)
    resized = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in pixels])
    normal = (resized - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2))


def grid_positions(embeddings: nn.Module, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The position table [1,1+n,c] for a picture of height x width: resized as the original does, cubics and all.

    It adds 0.1 to the number of patches, which shifts all by a little; transformers' class does not. tokens: [t,1+n,c].
    """
    table = embeddings.position_embeddings
    rows, columns = height // embeddings.patch_size, width // embeddings.patch_size
    if tokens.shape[1] == table.shape[1] and height == width:
        return table
    side = int((table.shape[1] - 1) ** 0.5)
    grid = table[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = ((rows + OFFSET) / side, (columns + OFFSET) / side)
    grid = nn.functional.interpolate(grid, scale_factor=scale, mode="bicubic")
    return torch.cat([table[:, :1].float(), grid.flatten(2).transpose(1, 2)], dim=1).to(tokens.dtype)


class FrameSized(nn.Module):
    """Depth Anything of transformers, its inverse depth resized: (float32 [t,3,h,w], H, W) -> [t,H,W], 0 or more."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        embeddings = model.backbone.embeddings
        embeddings.interpolate_pos_encoding = partial(grid_positions, embeddings)

    def forward(self, pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
        depth = self.model(pixels).predicted_depth.float()
        return nn.functional.interpolate(depth[:, None], (height, width), mode="bilinear", align_corners=True)[:, 0]


def load(weights: Weights) -> nn.Module:
    """transformers' DepthAnythingForDepthEstimation with the weights, of either layout. Raises CheckpointError."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

    is_original = weights.layout == "original"
    config, files = ({}, open_weights(weights.files)) if is_original else folder_files(weights.folder, "depth_anything")

    def make() -> nn.Module:
        settings = keys.config_of(files.shapes) if is_original else config
        return DepthAnythingForDepthEstimation(DepthAnythingConfig.from_dict(settings))

    model = empty(make, weights.where)
    wanted = set(model.state_dict())
    if is_original:
        mapped = keys.original_names(files.shapes)
        names = {key: tuple(keys.respelled(name, wanted) for name in targets) for key, targets in mapped.items()}
        return fill(model, files, names, keys.IDLE_ORIGINAL, weights.where)
    names = {name if name in files.shapes else keys.published(name): (name,) for name in wanted}
    return fill(model, files, names, keys.IDLE, weights.where)


class DepthAnything:
    """Inverse depth by Depth Anything V2: network "depthv2" (see vace.annotators.nets). bgr: see `network_input`."""

    def __init__(
        self, weights: Weights, *, device: torch.device, batch_size: int | None = None, bgr: bool = True
    ) -> None:
        self.device, self.batch_size, self.bgr = device, batch_size, bgr
        self._run = Precision(FrameSized(load(weights)).to(device), device, levels)

    def depths(self, frames: np.ndarray) -> np.ndarray:
        """RGB uint8 [t,H,W,3] -> inverse depth, float32 [t,H,W], 0 or more."""
        height, width = frames.shape[1:3]
        rows, columns = network_size(height, width)
        size = fitting_batch(rows * columns, BYTES_PER_PIXEL, self.device, self.batch_size)

        def run(batch: np.ndarray) -> np.ndarray:
            pixels = torch.from_numpy(network_input(batch, bgr=self.bgr)).to(self.device)
            return self._run(pixels, height, width)

        return in_batches(run, size, frames)
