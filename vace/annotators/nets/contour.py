"""Line drawings (network "scribble", neural): the generator of "Informative Drawings" in its anime style.

Chan, Durand and Isola, "Learning to generate line drawings that convey geometry and semantics" (CVPR 2022). The module
names its tensors as `scribble/anime_style/netG_A_latest.pth` does, so that file loads as it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vace.annotators.batching import Precision, fitting_batch, in_batches
from vace.annotators.nets.loading import load_original
from vace.annotators.networks import Weights

WIDTH = 64  # channels at full size; twice at half, four times at a quarter
BLOCKS = 3  # residual, at a quarter of the size
LEAST = 8  # pixels a side: the network mirrors up to three at its edges, and one at a quarter of the size
BYTES_PER_PIXEL = 1500  # of working memory: four or five maps of 64 channels at full size


def _normed(convolution: nn.Module) -> tuple[nn.Module, ...]:
    return convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU(inplace=True)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        first = nn.ReflectionPad2d(1), *_normed(nn.Conv2d(channels, channels, 3))
        second = nn.ReflectionPad2d(1), *_normed(nn.Conv2d(channels, channels, 3))
        self.conv_block = nn.Sequential(*first, *second[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv_block(x)


class ContourModule(nn.Module):
    """RGB in 0..1, float32 [n,3,H,W] -> brightness of the drawing in 0..1, float32 [n,4 ceil(H/4),4 ceil(W/4)].

    Sizes that 4 does not divide come out larger, with more at the right and below; the rest lies where it was.
    """

    def __init__(self) -> None:
        super().__init__()
        a, b, c = WIDTH, 2 * WIDTH, 4 * WIDTH
        down, up = {"stride": 2, "padding": 1}, {"stride": 2, "padding": 1, "output_padding": 1}
        self.model0 = nn.Sequential(nn.ReflectionPad2d(3), *_normed(nn.Conv2d(3, a, 7)))
        self.model1 = nn.Sequential(*_normed(nn.Conv2d(a, b, 3, **down)), *_normed(nn.Conv2d(b, c, 3, **down)))
        self.model2 = nn.Sequential(*(_Residual(c) for _ in range(BLOCKS)))
        rise = nn.ConvTranspose2d(c, b, 3, **up), nn.ConvTranspose2d(b, a, 3, **up)
        self.model3 = nn.Sequential(*_normed(rise[0]), *_normed(rise[1]))
        self.model4 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(a, 1, 7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in (self.model0, self.model1, self.model2, self.model3, self.model4):
            x = part(x)
        return torch.sigmoid(x)[:, 0]


class Contour:
    """The generator with weights.files[0], the original's netG_A_latest.pth.

    batch_size: frames at a time, None for as many as fit in memory. Raises CheckpointError for another file.
    """

    def __init__(self, weights: Weights, *, device: torch.device, batch_size: int | None = None) -> None:
        module = ContourModule().eval()
        load_original(module, weights.files)
        self.device, self.batch_size = device, batch_size
        self._run = Precision(module.to(device), device, _levels)

    def lines(self, frames: np.ndarray) -> np.ndarray:
        """RGB uint8 [t,H,W,3] -> the drawing, dark lines on white, uint8 [t,H,W].

        The original leaves sizes that 4 does not divide larger than they were; here what is too much is cut off.
        """
        height, width = frames.shape[1:3]
        size = fitting_batch(height * width, BYTES_PER_PIXEL, self.device, self.batch_size)
        return in_batches(lambda some: _levels(self._brightness(some)), size, frames)[:, :height, :width]

    def _brightness(self, frames: np.ndarray) -> np.ndarray:
        pictures = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2).float() / 255
        below, beside = (max(0, LEAST - side) for side in frames.shape[1:3])
        return self._run(F.pad(pictures, (0, beside, 0, below), mode="replicate"))


def _levels(brightness: np.ndarray) -> np.ndarray:
    """0..1 -> uint8, cut to whole numbers as in the original."""
    return (np.nan_to_num(brightness) * 255).astype(np.uint8)
