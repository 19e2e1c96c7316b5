"""Masks for clips: one still mask, a mask video, a folder of mask images, or an array."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from vace.media.clip import CHUNK
from vace.media.image import is_image, read_mask_image
from vace.media.stills import animated_format, folder_files
from vace.media.video import VideoReader

LOSSY_IMAGES = {".jpg", ".jpeg"}
LOSSY_NOISE = 16  # levels: what JPEG and h264 leave around a white shape stays below this


class ArrayMask:
    """A mask already in memory. array: uint8 [T,H,W], or [H,W] for a still one; 255 = generate, 0 = keep."""

    def __init__(self, array: np.ndarray, name: str = "mask") -> None:
        self.array = array if array.ndim == 3 else array[None]
        self.name = name
        self.frame_count, self.height, self.width = self.array.shape

    def chunks(self, size: int = CHUNK, first: int = 0) -> Iterator[np.ndarray]:
        for start in range(first, self.frame_count, size):
            yield self.array[start : start + size]


class FolderMask:
    """A folder of mask images, one a frame, each read by the rules of `read_mask_image`."""

    def __init__(self, folder: Path) -> None:
        self._files = folder_files(folder)
        clip = VideoReader(folder)  # checks that all are of one size
        self.name, self.width, self.height, self.frame_count = clip.name, clip.width, clip.height, clip.frame_count

    def chunks(self, size: int = CHUNK, first: int = 0) -> Iterator[np.ndarray]:
        for start in range(first, self.frame_count, size):
            yield np.stack([read_mask_image(file) for file in self._files[start : start + size]])


class VideoMask:
    """A mask video: the luma of every frame, values as stored; below `noise`, which lossy codecs leave around, 0."""

    def __init__(self, reader: VideoReader, noise: int = 0) -> None:
        self._noise = noise
        self._reader = reader
        self.name, self.width, self.height = reader.name, reader.width, reader.height
        self.frame_count = reader.frame_count

    def chunks(self, size: int = CHUNK, first: int = 0) -> Iterator[np.ndarray]:
        for frames in self._reader.chunks(size, first):
            yield _quieted(np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]), self._noise)


def open_mask(path: str | os.PathLike, *, allow_truncated: bool = False) -> ArrayMask | FolderMask | VideoMask:
    """A `MaskClip` over an image (still: frame_count 1), a video or animation, or a folder of images.

    Raises InputError as `read_mask_image` and `VideoReader` do.
    """
    path = Path(path)
    if path.is_dir():
        return FolderMask(path)
    if path.is_file() and is_image(path) and not animated_format(path):
        noise = LOSSY_NOISE if path.suffix.lower() in LOSSY_IMAGES else 0
        return ArrayMask(_quieted(read_mask_image(path), noise), name=path.name)
    reader = VideoReader(path, allow_truncated=allow_truncated)
    return VideoMask(reader, 0 if reader.is_rgb else LOSSY_NOISE)


def _quieted(mask: np.ndarray, noise: int) -> np.ndarray:
    """`mask` (uint8) with everything below `noise` at 0."""
    return np.where(mask < noise, np.uint8(0), mask) if noise else mask
