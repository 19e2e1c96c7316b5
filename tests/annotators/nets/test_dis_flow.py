"""DIS flow: it finds known motion, on frames of any size, whatever the pairs are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vace.annotators.nets.dis_flow import DisFlow


def shifted(height: int, width: int, steps: list[tuple[int, int]], seed: int = 0) -> np.ndarray:
    """A texture seen at places `steps` (x, y) apart from each other: RGB uint8 [n,height,width,3]."""
    margin = 12
    texture = np.random.default_rng(seed).integers(0, 256, (height + 2 * margin, width + 2 * margin, 3), dtype=np.uint8)
    texture = cv2.GaussianBlur(texture, (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([texture[margin - y :, margin - x :][:height, :width] for x, y in steps])


@pytest.mark.parametrize("step", [(3, -2), (-5, 1), (0, 4)])
def test_motion_is_right_and_down(step):
    frames = shifted(96, 128, [(0, 0), step])
    (flow,) = DisFlow().flows(frames[:1], frames[1:])
    assert flow.shape == (96, 128, 2) and flow.dtype == np.float32
    inner = flow[16:-16, 16:-16]
    assert np.abs(np.median(inner, axis=(0, 1)) - step).max() < 0.1
    assert (np.abs(inner - np.float32(step)).max(axis=-1) < 0.5).mean() > 0.95


def test_still_frames_stand_still():
    frame = shifted(64, 80, [(0, 0)])
    assert np.abs(DisFlow().flows(frame, frame)).max() < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (2, 70), (8, 8), (8, 64), (64, 8), (15, 15), (12, 300)])
def test_small_frames_have_a_flow(size):
    """OpenCV raises on some of these sizes and ends the process on others."""
    frames = shifted(*size, [(0, 0), (1, 0)])
    flow = DisFlow().flows(frames[:1], frames[1:])
    assert flow.shape == (1, *size, 2) and np.isfinite(flow).all()


def test_pairs_do_not_depend_on_their_neighbours():
    frames = shifted(48, 64, [(0, 0), (1, 0), (3, 1), (4, 4), (2, 5)])
    first, second = frames[[0, 1, 3]], frames[[1, 2, 4]]
    together = DisFlow().flows(first, second)
    apart = [DisFlow().flows(first[i : i + 1], second[i : i + 1])[0] for i in range(3)]
    assert np.array_equal(together, np.stack(apart))
    assert abs(np.median(together[2][12:-12, 12:-12, 0]) + 2) < 0.2
