"""Optical flow by RAFT (network "flow", neural): our own module for the original's weights, raft-things.pth."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vace.annotators.batching import Precision, fitting_batch, in_batches
from vace.annotators.nets.loading import load_original
from vace.annotators.nets.raft_blocks import DOWN, HIDDEN, Correlation, Encoder, Update
from vace.annotators.networks import Weights
from vace.annotators.wheel import flow_to_image

ROUNDS = 20  # of the update, as in the original
LEAST = 128  # pixels a side: below, the correlation's coarsest level is one pixel and the flow no number


class RaftModule(nn.Module):
    """Its tensors are named as in the original's file, without the leading `module.`"""

    def __init__(self) -> None:
        super().__init__()
        self.fnet, self.cnet = Encoder(nn.InstanceNorm2d), Encoder(nn.BatchNorm2d)
        self.update_block = Update()

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures [n,3,H,W], 0..255 RGB, sides divisible by 8 -> what is compared, float32 [n,256,H/8,W/8]."""
        return self.fnet(_centred(pictures)).float()

    def flow(
        self, pictures: torch.Tensor, first: torch.Tensor, second: torch.Tensor, rounds: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """From `pictures` [n,3,H,W], whose features are `first`, to those whose features are `second`.

        -> flow at 1/8 of the size [n,2,H/8,W/8], in pixels of that size, and at full size [n,2,H,W], in its pixels.
        """
        with torch.autocast(pictures.device.type, enabled=False):  # its sums stay whole floats, as in the original
            alike = Correlation(first, second)
        state, context = self.cnet(_centred(pictures)).split(HIDDEN, dim=1)
        state, context = (x.contiguous(memory_format=torch.channels_last) for x in (state.tanh(), context.relu()))
        prepared = self.update_block.gru.prepare(context)
        start = _places(first)
        flow = torch.zeros_like(start, memory_format=torch.channels_last)
        for _ in range(rounds):
            motion = self.update_block.encoder(flow, alike.at(start + flow))
            state = self.update_block.gru.step(state, motion, prepared)
            flow = flow + self.update_block.flow_head(state).float()
        return flow, self.update_block.enlarge(flow, state)


class _Pairs(nn.Module):
    """Flow between frames that are each looked at once, however many pairs they are in; the last of one batch too."""

    def __init__(self, raft: RaftModule) -> None:
        super().__init__()
        self.raft, self.rounds = raft, ROUNDS
        self._last: dict[bool, tuple[torch.Tensor, torch.Tensor]] = {}  # by precision: a frame and its features

    def forward(self, frames: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Padded frames [n,3,H,W] and the numbers of those paired, int64 [t] each -> flow, float32 [t,H,W,2]."""
        features = self._features(frames)
        _, flow = self.raft.flow(frames[first], features[first], features[second], self.rounds)
        return flow.permute(0, 2, 3, 1)

    def _features(self, frames: torch.Tensor) -> torch.Tensor:
        kind = torch.is_autocast_enabled(frames.device.type)
        frame, known = self._last.get(kind, (frames[:0], None))
        if known is not None and torch.equal(frame, frames[:1]):
            rest = frames[1:]
            features = torch.cat([known, self.raft.features(rest)]) if len(rest) else known
        else:
            features = self.raft.features(frames)
        self._last[kind] = frames[-1:].clone(), features[-1:].clone()
        return features


class Raft:
    """RAFT with weights.files[0], the original's raft-things.pth.

    batch_size: pairs at a time, None for as many as fit in memory. Raises CheckpointError for another file.
    """

    def __init__(self, weights: Weights, *, device: torch.device, batch_size: int | None = None) -> None:
        module = RaftModule().eval()
        load_original(module, weights.files)
        self.device, self.batch_size = device, batch_size
        self._run = Precision(_Pairs(module).to(device).eval(), device, _levels)

    def flows(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Where each pixel of `first` is in `second`: RGB uint8 [t,H,W,3] each -> float32 [t,H,W,2], right and down."""
        height, width = first.shape[1:3]
        top, bottom = padding(height, LEAST)
        left, right = padding(width, LEAST)
        pixels = (height + top + bottom) * (width + left + right)
        size = fitting_batch(pixels, _bytes_per_pixel(pixels), self.device, self.batch_size)
        flow = in_batches(partial(self._padded_flows, edges=(left, right, top, bottom)), size, first, second)
        return flow[:, top : top + height, left : left + width]

    def _padded_flows(self, first: np.ndarray, second: np.ndarray, edges: tuple[int, int, int, int]) -> np.ndarray:
        frames, starts, ends = distinct(first, second)
        pictures = torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2).float()
        numbers = (torch.tensor(index, device=self.device) for index in (starts, ends))
        return self._run(F.pad(pictures, edges, mode="replicate"), *numbers)


def padding(side: int, least: int = DOWN) -> tuple[int, int]:
    """Pixels before and after a side so that it divides by 8 and has at least `least`, the odd one after."""
    whole = max(least, -(-side // DOWN) * DOWN)
    return (whole - side) // 2, (whole - side) - (whole - side) // 2


def distinct(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, list[int], list[int]]:
    """Pairs of frames, [t,H,W,3] each -> the frames in them, and for every pair the numbers of its two.

    A frame that ends one pair and begins the next is there once.
    """
    frames, starts, ends = [], [], []
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        if not index or not np.array_equal(one, second[index - 1]):
            frames.append(one)
        starts.append(len(frames) - 1)
        ends.append(len(frames))
        frames.append(other)
    return np.stack(frames), starts, ends


def _bytes_per_pixel(pixels: int) -> float:
    """Of working memory for one pair: the encoders' maps, and the correlation, which grows with the square."""
    places = pixels / DOWN**2
    return 1000 + 1.25 * (4 / 3 * 4 * places) / DOWN**2  # bytes of a float, with all levels and room to make them


def _levels(flow: np.ndarray) -> np.ndarray:
    """What is written of flow, for the judgement on half precision: its colours."""
    return np.stack([flow_to_image(np.nan_to_num(one)) for one in flow])


def _centred(pictures: torch.Tensor) -> torch.Tensor:
    return 2 * (pictures / 255) - 1


def _places(features: torch.Tensor) -> torch.Tensor:
    """The x and y of every place of a map [n,c,h,w]: float32 [n,2,h,w]."""
    count, _, height, width = features.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).float().to(features.device).expand(count, -1, -1, -1)
