"""Clips: frames that are read a chunk at a time, whatever they come from.

A `Clip` is anything with the attributes below; `vace.media.video.VideoReader` is the one over files.
Frames are RGB uint8 [T,H,W,3] in 0..255; memory stays flat because nobody holds more than one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

SPARSE = 4  # frames to pass over for each one taken, from which jumping is faster than reading in order
CHUNK = 16  # frames per chunk: 44 MB at 720p, large enough that per-chunk costs vanish


@runtime_checkable
class Clip(Protocol):
    """name: for messages; width, height: pixels as shown (after rotation); fps: frames a second; frame_count: shown."""

    name: str
    width: int
    height: int
    fps: float
    frame_count: int

    def chunks(self, size: int = CHUNK) -> Iterator[np.ndarray]:
        """Yield RGB uint8 [t,H,W,3] chunks, 1 <= t <= size, in order. May be called again: it starts over."""
        ...


class ArrayClip:
    """A clip already in memory. frames: RGB uint8 [T,H,W,3]."""

    def __init__(self, frames: np.ndarray, fps: float = 16.0, name: str = "frames") -> None:
        self.frames, self.fps, self.name = frames, fps, name
        self.frame_count, self.height, self.width = frames.shape[:3]

    def chunks(self, size: int = CHUNK) -> Iterator[np.ndarray]:
        for start in range(0, self.frame_count, size):
            yield self.frames[start : start + size]


class SelectedClip:
    """The frames of `clip` with the given indices, ascending, repeats allowed."""

    def __init__(self, clip: Clip, indices: Sequence[int], fps: float | None = None) -> None:
        self.clip, self.indices = clip, [int(i) for i in indices]
        self.name, self.width, self.height = clip.name, clip.width, clip.height
        self.fps = getattr(clip, "fps", 0.0) if fps is None else fps  # a mask has no rate of its own
        self.frame_count = len(self.indices)

    def chunks(self, size: int = CHUNK) -> Iterator[np.ndarray]:
        # A few frames of a long clip are jumped to, where the clip can; else all up to the last one are read.
        if hasattr(self.clip, "get") and self.indices[-1] > SPARSE * len(self.indices):
            return (self.clip.get(self.indices[at : at + size]) for at in range(0, self.frame_count, size))
        return self._chunks_in_order(size)

    def _chunks_in_order(self, size: int) -> Iterator[np.ndarray]:
        wanted = iter(self.indices)
        index, start = next(wanted, None), 0
        picked: list[np.ndarray] = []
        for chunk in self.clip.chunks(size):
            while index is not None and index < start + len(chunk):
                picked.append(chunk[index - start].copy())
                if len(picked) == size:
                    yield np.stack(picked)
                    picked = []
                index = next(wanted, None)
            start += len(chunk)
            if index is None:
                break
        if picked:
            yield np.stack(picked)


def read_all(clip: Clip) -> np.ndarray:
    """Every frame at once, RGB uint8 [T,H,W,3]: only for clips known to be short."""
    return np.concatenate(list(clip.chunks()))
