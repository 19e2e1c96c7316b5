"""Streams of frames: several read in step, and constant ones that cost no memory.

Chunks that are handed on may be read-only views of one frame: whoever wants to change them copies them first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from vace.media.clip import CHUNK


def zip_chunks(*streams: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
    """Pieces of equal length from streams whose chunks are cut differently, until the shortest stream ends."""
    sources = [iter(stream) for stream in streams]
    held: list[np.ndarray | None] = [None] * len(sources)
    while True:
        for i, source in enumerate(sources):
            if held[i] is None or not len(held[i]):
                held[i] = next(source, None)
                if held[i] is None:
                    return
        length = min(len(chunk) for chunk in held)
        yield tuple(chunk[:length] for chunk in held)
        held = [chunk[length:] for chunk in held]


def still(frame: np.ndarray, count: int) -> np.ndarray:
    """`frame` [...] repeated `count` times [count,...], without copying it; read-only."""
    return np.broadcast_to(frame, (count, *frame.shape))


def still_chunks(frame: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """`frame` repeated `count` times, in chunks."""
    for start in range(0, count, CHUNK):
        yield still(frame, min(CHUNK, count - start))


def is_still(frames: np.ndarray) -> bool:
    """True for what `still` makes: one frame seen several times."""
    return len(frames) > 1 and frames.strides[0] == 0
