"""What a picture is of: U2Net (Qin et al. 2020, arXiv:2005.09007), as the original runs it (annotators/salient.py).

The module names its tensors as `salient/u2net.pt` does, so that file loads as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate, max_pool2d

from vace.annotators.batching import Precision, fitting_batch, in_batches
from vace.annotators.nets.loading import load_original
from vace.annotators.networks import Weights

SIDE = 320  # of the network's square input, whatever the picture's aspect
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, on RGB in 0..1
BYTES_PER_PIXEL = 4000  # of working memory for one frame: 1734 in activations at their peak, and cuDNN's own
# name -> (height of the unit, channels in, middle, out); F: dilated convolutions in place of pooling
ENCODER = {
    "stage1": ("7", 3, 32, 64),
    "stage2": ("6", 64, 32, 128),
    "stage3": ("5", 128, 64, 256),
    "stage4": ("4", 256, 128, 512),
    "stage5": ("F", 512, 256, 512),
    "stage6": ("F", 512, 256, 512),
}
DECODER = {
    "stage5d": ("F", 1024, 256, 512),
    "stage4d": ("4", 1024, 128, 256),
    "stage3d": ("5", 512, 64, 128),
    "stage2d": ("6", 256, 32, 64),
    "stage1d": ("7", 128, 16, 64),
}
SIDES = (64, 64, 128, 256, 512, 512)  # channels that side1..side6 read
DILATIONS = {"F": (1, 2, 4, 8)}  # of rebnconv1..4 of an F unit


class REBNCONV(nn.Module):
    """3x3 convolution, batch norm, ReLU: the unit that everything is built of."""

    def __init__(self, channels_in: int, channels_out: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv_s1 = nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation)
        self.bn_s1 = nn.BatchNorm2d(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(self.bn_s1(self.conv_s1(x)))


class ResidualU(nn.Module):
    """A small U of its own, added to its input's first convolution (RSU in the paper)."""

    def __init__(self, kind: str, channels_in: int, middle: int, channels_out: int) -> None:
        super().__init__()
        self.is_pooled = kind not in DILATIONS
        dilations = DILATIONS.get(kind) or (1,) * (int(kind) - 1) + (2,)
        self.depth = len(dilations)
        self.rebnconvin = REBNCONV(channels_in, channels_out)
        for level, dilation in enumerate(dilations, 1):
            self.add_module(f"rebnconv{level}", REBNCONV(channels_out if level == 1 else middle, middle, dilation))
        for level in range(self.depth - 1, 0, -1):
            out = channels_out if level == 1 else middle
            self.add_module(
                f"rebnconv{level}d", REBNCONV(2 * middle, out, 1 if self.is_pooled else dilations[level - 1])
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        entry = self.rebnconvin(x)
        levels = [self.rebnconv1(entry)]
        for level in range(2, self.depth + 1):
            above = levels[-1]
            if self.is_pooled and level < self.depth:
                above = max_pool2d(above, 2, ceil_mode=True)
            levels.append(self.get_submodule(f"rebnconv{level}")(above))
        x = levels.pop()
        for level in range(self.depth - 1, 0, -1):
            skip = levels.pop()
            x = self.get_submodule(f"rebnconv{level}d")(torch.cat((_resized(x, skip), skip), 1))
        return x + entry


class U2NetModule(nn.Module):
    """RGB normalised by MEAN and STD, float32 [B,3,H,W] -> saliency in 0..1, float32 [B,H,W] (the original's d0)."""

    def __init__(self) -> None:
        super().__init__()
        for name, sizes in {**ENCODER, **DECODER}.items():
            self.add_module(name, ResidualU(*sizes))
        for index, channels in enumerate(SIDES, 1):
            self.add_module(f"side{index}", nn.Conv2d(channels, 1, 3, padding=1))
        self.outconv = nn.Conv2d(len(SIDES), 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for name in ENCODER:
            x = self.get_submodule(name)(max_pool2d(x, 2, ceil_mode=True) if skips else x)
            skips.append(x)
        heights = [skips.pop()]
        for name in DECODER:
            skip = skips.pop()
            heights.append(self.get_submodule(name)(torch.cat((_resized(heights[-1], skip), skip), 1)))
        maps = [self.get_submodule(f"side{index}")(found) for index, found in enumerate(reversed(heights), 1)]
        whole = self.outconv(torch.cat([maps[0], *(_resized(found, maps[0]) for found in maps[1:])], 1))
        return torch.sigmoid(whole)[:, 0]


def _resized(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return x if x.shape[2:] == like.shape[2:] else interpolate(x, like.shape[2:], mode="bilinear")


def prepared(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Frames (RGB uint8 [H,W,3] each) as the network reads them: float32 [t,3,320,320], squeezed to the square."""
    from PIL import Image

    small = [np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for frame in frames]
    scaled = np.stack(small).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((scaled - np.float32(MEAN)) / np.float32(STD)).transpose(0, 3, 1, 2))


def levels(saliency: np.ndarray) -> np.ndarray:
    """float32 [t,h,w] -> uint8 [t,h,w]: each map stretched to 0..255 and cut to whole numbers; 0 where it is constant.

    The original divides by zero on a constant map.
    """
    low, high = (extreme(saliency, axis=(1, 2), keepdims=True) for extreme in (np.min, np.max))
    span = high - low
    return ((saliency - low) / np.where(span > 0, span, 1) * 255).astype(np.uint8)


def enlarged(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [t,h,w] -> uint8 [t,height,width], between pixels linearly."""
    import cv2

    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in maps])


class U2Net:
    """The network `salient`: the original's own weights, weights.files = (u2net.pt,).

    Raises CheckpointError when the file is not that network's.
    """

    def __init__(self, weights: Weights, *, device: torch.device, batch_size: int | None = None) -> None:
        module = U2NetModule().eval()
        load_original(module, weights.files)
        self._device, self._asked = device, batch_size
        # Channels last: its many thin layers are bound by memory, and a quarter faster so (2.0 against 2.8 s a frame on
        # one core, with the batch norms folded in).
        self._run = Precision(_fused(module).to(device, memory_format=torch.channels_last), device, levels)

    def maps(self, frames: np.ndarray) -> np.ndarray:
        """RGB uint8 [t,H,W,3] -> how salient each pixel is, uint8 [t,H,W], 0..255."""
        size = fitting_batch(SIDE * SIDE, BYTES_PER_PIXEL, self._device, self._asked)
        return enlarged(levels(in_batches(self._saliency, size, frames)), *frames.shape[1:3])

    def _saliency(self, frames: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(prepared(frames)).to(self._device)
        return self._run(batch.contiguous(memory_format=torch.channels_last))


def _fused(module: U2NetModule) -> U2NetModule:
    """`module` with each batch norm folded into its convolution: the same function in fewer passes over memory."""
    for unit in module.modules():
        if isinstance(unit, REBNCONV):
            unit.conv_s1 = nn.utils.fuse_conv_bn_eval(unit.conv_s1, unit.bn_s1)
            unit.bn_s1 = nn.Identity()
    return module
