"""What the annotator tests share: clips cut into odd chunks, masks over arrays, results gathered."""

from __future__ import annotations

import numpy as np
import pytest

from vace.media.clip import ArrayClip


class CutClip(ArrayClip):
    """A clip that comes in chunks of `cut` frames, whatever size is asked for."""

    def __init__(self, frames: np.ndarray, cut: int = 16, fps: float = 16.0, name: str = "frames") -> None:
        super().__init__(frames, fps, name)
        self.cut = cut

    def chunks(self, size: int = 16):
        return super().chunks(self.cut)


class CutMask:
    """A MaskClip over an array [T,H,W], in chunks of `cut` frames."""

    def __init__(self, array: np.ndarray, cut: int = 16, name: str = "mask.png") -> None:
        self.array, self.cut, self.name = np.asarray(array), cut, name
        self.frame_count, self.height, self.width = self.array.shape

    def chunks(self, size: int = 16):
        for start in range(0, self.frame_count, self.cut):
            yield self.array[start : start + self.cut]


def _gather(result) -> tuple[np.ndarray, np.ndarray | None]:
    """Every frame and mask of a result; checks what it promised about them on the way."""
    chunks = list(result.chunks)
    frames = np.concatenate([chunk.frames for chunk in chunks])
    assert frames.shape == (result.frame_count, result.height, result.width, 3)
    assert frames.dtype == np.uint8
    if not result.has_masks:
        assert all(chunk.masks is None for chunk in chunks)
        return frames, None
    masks = np.concatenate([chunk.masks for chunk in chunks])
    assert masks.shape == frames.shape[:3] and masks.dtype == np.uint8
    return frames, masks


@pytest.fixture
def gather():
    return _gather


@pytest.fixture
def cut_clip():
    return CutClip


@pytest.fixture
def cut_mask():
    return CutMask


@pytest.fixture
def noise():
    """Seeded random frames: noise(count, height, width, seed) -> uint8 [count,height,width,3]."""

    def make(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)

    return make


@pytest.fixture
def disc():
    """A soft-edged disc as a mask: disc(height, width) -> uint8 [H,W]."""

    def make(height: int, width: int, radius: float = 0.3) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        distance = np.hypot(y - height / 2, x - width / 2) - radius * min(height, width)
        return (np.clip(1 - distance / 2, 0, 1) * 255).astype(np.uint8)

    return make
