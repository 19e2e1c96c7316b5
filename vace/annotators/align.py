"""Bringing a second picture, clip or mask to the size of the first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vace.errors import InputError
from vace.media.clip import CHUNK, Clip

ASPECT_TOLERANCE = 0.02  # of width / height: what rounding to even sizes or to multiples of 16 can make


def align_frames(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale RGB uint8 [t,H,W,3] to fit into width x height, keeping its aspect, and centre it on white.

    INTER_AREA also when enlarging and sizes cut to whole pixels, as the models saw it; unchanged when it fits already.
    """
    import cv2

    own_height, own_width = frames.shape[1:3]
    if (own_width, own_height) == (width, height):
        return frames
    ratio = min(width / own_width, height / own_height)
    new_width, new_height = max(1, int(own_width * ratio)), max(1, int(own_height * ratio))
    left, top = (width - new_width) // 2, (height - new_height) // 2
    canvas = np.full((len(frames), height, width, 3), 255, np.uint8)
    for target, frame in zip(canvas, frames, strict=True):
        scaled = cv2.resize(frame, (new_width, new_height), interpolation=cv2.INTER_AREA)
        target[top : top + new_height, left : left + new_width] = scaled
    return canvas


def same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """True when two (width, height) sizes agree in aspect within ASPECT_TOLERANCE."""
    ratio = (first[0] * second[1]) / (first[1] * second[0])
    return abs(ratio - 1) <= ASPECT_TOLERANCE


def fit_frames(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """RGB uint8 [t,H,W,3] stretched to width x height; unchanged when it has that size."""
    import cv2

    if frames.shape[1:3] == (height, width):
        return frames
    shrinks = width * height < frames.shape[1] * frames.shape[2]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (width, height), interpolation=method) for frame in frames])


def fit_mask(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    """A mask uint8 [H,W] stretched to width x height, its values kept (nearest neighbour)."""
    import cv2

    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)


def check_mask_size(size: tuple[int, int], width: int, height: int, flag: str = "--mask") -> None:
    """Raise InputError, with both sizes, unless a mask of `size` (width, height) can be stretched to width x height.

    flag: what the message begins with, the flag and the file.
    """
    if not same_aspect(size, (width, height)):
        found, wanted = f"{size[0]}x{size[1]}", f"{width}x{height}"
        raise InputError(f"{flag}: {found} is of another shape than the {wanted} it is for; make it {wanted}")


class AlignedClip:
    """`clip` brought to width x height by `align_frames`, chunk by chunk."""

    def __init__(self, clip: Clip, width: int, height: int) -> None:
        self.clip, self.width, self.height = clip, width, height
        self.name, self.fps, self.frame_count = clip.name, clip.fps, clip.frame_count

    def chunks(self, size: int = CHUNK) -> Iterator[np.ndarray]:
        for chunk in self.clip.chunks(size):
            yield align_frames(chunk, self.width, self.height)
