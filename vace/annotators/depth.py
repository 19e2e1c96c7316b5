"""Depth as control: nearness as brightness, from the networks "depth" (MiDaS) and "depthv2" (Depth Anything V2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vace.annotators.base import Chunk, Result, redrawn
from vace.annotators.networks import Networks
from vace.errors import InputError, nearest
from vace.media.clip import Clip
from vace.media.spool import Spool

NORMALIZE = ("frame", "clip")


def levels(maps: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Inverse depth, float32 [t,h,w], as uint8 [t,h,w]: 0 at `low` (farthest), 255 at `high`, cut off, not rounded.

    Without low and high each map's own extremes, as the original does (vace/annotators/depth.py). Where everything is
    equally far there is nothing to stretch: 0, where the original divides by nothing.
    """
    low = maps.min(axis=(1, 2), keepdims=True) if low is None else np.float32(low)
    high = maps.max(axis=(1, 2), keepdims=True) if high is None else np.float32(high)
    span = np.asarray(high - low, np.float32)
    return ((maps - low) / np.where(span > 0, span, 1) * np.float32(255)).clip(0, 255).astype(np.uint8)


def pictures(stretched: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [t,h,w] of any size -> RGB uint8 [t,height,width,3] with equal channels, resized by areas as the original.

    The levels are made before resizing, because the extremes are those of what the network said.
    """
    import cv2

    if stretched.shape[1:] != (height, width):
        stretched = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) for one in stretched])
    return np.repeat(stretched[..., None], 3, axis=-1)


class Depth:
    """A clip, or pictures one by one, as inverse depth: white is nearest. Same size, as many frames.

    normalize: "frame" stretches every frame to 0..255 by itself, as the original; "clip" stretches all of a clip alike,
    so that its scale does not flicker (the network still sees each frame once; pictures are always by themselves).
    Raises InputError for another word.
    """

    network = "depth"

    def __call__(
        self,
        *,
        frames: Clip | None = None,
        images: Sequence[np.ndarray] | None = None,
        networks: Networks,
        normalize: str = "frame",
    ) -> Result:
        if normalize not in NORMALIZE:
            raise InputError(f"--normalize {normalize}: unknown; {nearest(str(normalize), NORMALIZE)}")
        network = networks.get(self.network)
        if frames is None:
            return redrawn(None, images, lambda image: _draw(image, _fresh(network)))
        network = _fresh(network)
        if normalize == "frame" or hasattr(network, "limits"):
            return redrawn(frames, None, lambda chunk: _draw(chunk, network))
        return Result(_clip_wide(frames, network), frames.frame_count, frames.width, frames.height)


class DepthV2(Depth):
    """`Depth` by Depth Anything V2: finer edges."""

    network = "depthv2"


def _fresh(network: Any) -> Any:
    """A network that remembers frames is asked for a copy that remembers none, so that no clip sees another."""
    return network.fresh() if hasattr(network, "fresh") else network


def _maps(frames: np.ndarray, network: Any) -> np.ndarray:
    """Maps at the network's own size where it has one, else at the frames'."""
    return network.maps(frames) if hasattr(network, "maps") else network.depths(frames)


def _draw(frames: np.ndarray, network: Any) -> np.ndarray:
    """Every frame stretched by itself; by the network's own limits where it keeps its range steady."""
    low, high = getattr(network, "limits", (None, None))
    return pictures(levels(_maps(frames, network), low, high), *frames.shape[1:3])


def _clip_wide(frames: Clip, network: Any) -> Iterator[Chunk]:
    """The clip's chunks, stretched by the extremes of all maps: these wait in a file until the last is known."""
    spool, low, high = Spool(), np.inf, -np.inf
    for chunk in frames.chunks():
        made = _maps(chunk, network)
        low, high = min(low, made.min()), max(high, made.max())
        spool.add(made)
    for made in spool.replay():
        yield Chunk(pictures(levels(made, low, high), frames.height, frames.width))
