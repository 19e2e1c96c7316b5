"""Depth by cues: a scene of known depth drawn here, its order, its calm over time, and what it remembers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vace.annotators.nets.cue_depth import CueDepth

HEIGHT, WIDTH, HORIZON = 120, 208, 40


def scene(count: int, seed: int, step: float = 4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ground of blotches below a sky, and a box that goes over it: frames, inverse depth, the box's masks.

    The camera stands one unit above the ground: a row y below the horizon sees it at a distance of 1 / (y - horizon).
    """
    rng = np.random.default_rng(seed)
    blotches = cv2.GaussianBlur(rng.uniform(0, 255, (512, 512)).astype(np.float32), (0, 0), 2)
    blotches = np.interp(blotches, (110, 145), (60, 170))
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    near = np.maximum(y - HORIZON, 0) / (HEIGHT - HORIZON)
    away = 60 / np.maximum(near, 1 / 60)
    across = (x - WIDTH / 2) * away / 60
    ground = cv2.remap(blotches.astype(np.float32), across % 511, away % 511, cv2.INTER_LINEAR)
    tint = np.array([1.0, 0.9, 0.6], np.float32) * rng.uniform(0.7, 1, 3).astype(np.float32)
    sky = np.array([150.0, 180.0, 220.0], np.float32) + (HORIZON - y[..., None]) * -0.4
    still = np.where((y > HORIZON)[..., None], ground[..., None] * tint, sky)
    skin = cv2.resize(rng.uniform(90, 255, (8, 6, 1)).astype(np.float32), (36, 60), interpolation=cv2.INTER_CUBIC)
    box = np.clip(skin[..., None] * rng.permutation([0.9, 0.25, 0.35]), 0, 255)
    frames, depths, masks = (np.repeat(part[None], count, axis=0) for part in (still, near, np.zeros_like(near, bool)))
    for index in range(count):
        left = int(60 + step * index)
        foot, inside = 105, np.s_[105 - 60 : 105, left : left + 36]
        frames[index][inside], masks[index][inside] = box, True
        depths[index][inside] = (foot - HORIZON) / (HEIGHT - HORIZON)
    noisy = frames + rng.normal(0, 2, frames.shape)
    return noisy.clip(0, 255).astype(np.uint8), depths, masks


def agreement(found: np.ndarray, true: np.ndarray) -> float:
    """Spearman's correlation; equal depths get their mean rank."""

    def ranks(values):
        _, place, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[place]

    return float(np.corrcoef(ranks(found), ranks(true))[0, 1])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_order_of_depth(seed):
    frames, depths, masks = scene(8, seed)
    found = CueDepth().depths(frames)
    assert found.shape == depths.shape and found.dtype == np.float32
    assert 0 <= found.min() and found.max() <= 1
    for one, true, mask in zip(found, depths, masks, strict=True):
        assert agreement(one, true) > 0.8
        rows = np.flatnonzero(mask.any(axis=1))[:40]  # the box against what is beside it, behind it
        assert one[rows][mask[rows]].mean() > one[rows][~mask[rows]].mean() + 0.2


def test_motion_alone_brings_forward():
    """A patch of the ground's own colours that moves, in the upper half: only its motion tells it."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.uniform(0, 255, (120, 208, 3)).astype(np.float32), (0, 0), 2)
    ground = ((ground - ground.mean()) * 5 + 128).clip(0, 255).astype(np.uint8)
    patch = np.ascontiguousarray(ground[60:100, 100:150][::-1, ::-1])
    frames = np.repeat(ground[None], 6, axis=0)
    for index, frame in enumerate(frames):
        frame[30:70, 60 + 4 * index : 110 + 4 * index] = patch
    moving, standing = CueDepth().depths(frames)[5], CueDepth().depths(frames[5:])[0]
    inside, beside = np.s_[35:65, 90:120], np.s_[35:65, 10:40]
    assert moving[inside].mean() > moving[beside].mean() + 0.2
    assert moving[inside].mean() - moving[beside].mean() > standing[inside].mean() - standing[beside].mean() + 0.1


def test_no_flicker():
    """Noise and a still camera: from one frame to the next hardly a level changes, nor does the range."""
    frames, _, masks = scene(12, 4, step=0)
    maps = CueDepth().depths(frames)
    assert np.abs(np.diff(maps, axis=0)).mean(axis=(1, 2)).max() < 1.5 / 255
    moving, _, masks = scene(12, 4)
    maps = CueDepth().depths(moving)
    means = np.array([one[~mask].mean() for one, mask in zip(maps, masks, strict=True)])
    assert np.abs(np.diff(means)).max() < 0.02
    assert np.ptp(maps.max(axis=(1, 2))) < 0.1 and np.ptp(maps.min(axis=(1, 2))) < 0.1


def test_chunks_make_one_clip():
    frames, _, _ = scene(9, 5)
    whole, net = CueDepth().depths(frames), CueDepth()
    np.testing.assert_array_equal(
        np.concatenate([net.depths(part) for part in (frames[:4], frames[4:5], frames[5:])]), whole
    )


def test_a_clip_is_calmer_than_its_frames():
    frames, _, _ = scene(6, 5, step=0)
    noisy = (frames + np.random.default_rng(0).normal(0, 12, frames.shape)).clip(0, 255).astype(np.uint8)
    alone = np.concatenate([CueDepth().depths(frame[None]) for frame in noisy])
    changes = [np.abs(np.diff(maps, axis=0)).mean() for maps in (CueDepth().depths(noisy), alone)]
    assert changes[0] < 0.6 * changes[1]


def test_another_scene_or_copy_remembers_nothing(noise):
    frames, _, _ = scene(6, 6)
    other = 255 - frames[::-1]
    net = CueDepth()
    net.depths(frames)
    np.testing.assert_array_equal(net.depths(other), CueDepth().depths(other))
    net.depths(frames)
    small = np.ascontiguousarray(frames[:, ::2, ::2])
    np.testing.assert_array_equal(net.depths(small), CueDepth().depths(small))
    net.depths(frames)
    np.testing.assert_array_equal(net.fresh().depths(frames[3:]), CueDepth().depths(frames[3:]))
    assert np.abs(net.depths(frames[3:]) - CueDepth().depths(frames[3:])).max() > 0.01


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 9), (400, 6), (30, 900)])
def test_any_size(noise, height, width):
    found = CueDepth().depths(noise(3, height, width))
    assert found.shape == (3, height, width) and np.isfinite(found).all()


def test_a_plain_picture_is_nearer_below():
    found = CueDepth().depths(np.full((2, 60, 80, 3), 90, np.uint8))
    assert np.isfinite(found).all()
    assert (found[:, -10:].mean(axis=(1, 2)) > found[:, :10].mean(axis=(1, 2)) + 0.5).all()
