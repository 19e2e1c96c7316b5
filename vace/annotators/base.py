"""What annotators take and give.

An annotator is a callable with keyword arguments only: materials (a `Clip` for video, RGB uint8 [H,W,3] arrays for
images, `MaskClip`s for masks) and parameters. It returns a `Result` whose chunks are made lazily, so the caller decides
how much is alive at a time. Annotators never open or write files: the verbs do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vace.media.clip import Clip


@dataclass(frozen=True)
class Chunk:
    """Consecutive frames of src_video and, where the task makes a mask, of src_mask.

    frames: RGB uint8 [t,H,W,3]. masks: uint8 [t,H,W], 255 = generate, 0 = keep; None when the task makes no mask.
    """

    frames: np.ndarray
    masks: np.ndarray | None = None


@dataclass
class Result:
    """The outcome of one annotator call: a video (chunks), reference images, or both."""

    chunks: Iterator[Chunk] | None = None
    frame_count: int = 0
    width: int = 0
    height: int = 0
    has_masks: bool = False
    images: list[np.ndarray] = field(default_factory=list)  # RGB uint8 [H,W,3] -> src_ref_image[_i]
    image_masks: list[np.ndarray | None] = field(default_factory=list)  # uint8 [H,W] beside each image, where made
    filler: list[tuple[int, int]] = field(default_factory=list)  # [start, stop) frame ranges that hold no given content


class MaskClip(Protocol):
    """A mask for a clip: one still mask (frame_count 1) or one per frame. Values 0..255 as stored."""

    name: str
    width: int
    height: int
    frame_count: int

    def chunks(self, size: int = 16) -> Iterator[np.ndarray]:
        """Yield uint8 [t,H,W] chunks in order."""
        ...


class Annotator(Protocol):
    def __call__(self, **materials_and_params) -> Result: ...


def redrawn(
    frames: Clip | None, images: Sequence[np.ndarray] | None, draw: Callable[[np.ndarray], np.ndarray]
) -> Result:
    """`draw` (RGB uint8 [t,H,W,3] -> as many frames of the same size) over a clip, or over pictures one by one.

    Exactly one of frames and images is given. An annotator for images is the same callable on one frame.
    """
    if frames is None:
        return Result(images=[draw(image[None])[0] for image in images or []])
    chunks = (Chunk(draw(chunk)) for chunk in frames.chunks())
    return Result(chunks, frames.frame_count, frames.width, frames.height)
