from __future__ import annotations

import numpy as np
import pytest

from vace.annotators.base import Chunk
from vace.annotators.boxes import mask_box
from vace.annotators.maskaug import MODES, MaskAugmenter, augmented, augmenter, expand, hull_of
from vace.annotators.streams import is_still, still
from vace.errors import InputError


def white(mask: np.ndarray) -> np.ndarray:
    return mask > 0


@pytest.mark.parametrize("mode", MODES)
def test_only_ever_adds(mode, disc):
    mask = disc(60, 90)
    mask[:10, :10] = 255
    for seed in range(5):
        out = MaskAugmenter(mode, 0.6, seed)(mask)
        assert out.shape == mask.shape and out.dtype == np.uint8
        assert (white(out) | ~white(mask)).all()
        assert white(out).sum() > white(mask).sum() or mode in ("original", "original_expand")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.endswith("expand")])
def test_ratio_and_seed_decide_how_far(mode, disc):
    mask = disc(120, 160, 0.15)
    sizes = [white(MaskAugmenter(mode, ratio, 3)(mask)).sum() for ratio in (0.0, 0.3, 1.0)]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[0] == white(MaskAugmenter(mode.removesuffix("_expand"), None, 3)(mask)).sum()
    first, again, other = (MaskAugmenter(mode, 1.0, seed)(mask) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("mode", MODES)
def test_a_pixel_a_line_and_nothing_at_all(mode):
    change = MaskAugmenter(mode, 0.5, 1)
    nothing = np.zeros((20, 30), np.uint8)
    assert not change(nothing).any()
    pixel, line = nothing.copy(), nothing.copy()
    pixel[7, 9], line[7, 9:20] = 255, 255
    assert change(pixel)[7, 9] == 255 and change(pixel).sum() == 255
    assert (change(line)[7, 9:20] == 255).all()


def test_steady_over_a_clip(disc):
    """One draw for a clip: a mask that moves without changing comes out as the same shape, moved."""
    masks = []
    for shift in range(0, 30, 3):
        mask = np.zeros((200, 300), np.uint8)
        mask[80:110, 100 + shift : 160 + shift] = 255
        masks.append(mask)
    for mode in MODES:
        change = MaskAugmenter(mode, 0.2, seed=11)
        boxes = np.array([mask_box(change(mask)) for mask in masks])
        sizes = boxes[:, 2:] - boxes[:, :2]
        assert (sizes == sizes[0]).all(), mode
        assert np.array_equal(boxes[:, 0] - boxes[0, 0], np.arange(0, 30, 3)), mode


def test_expand_reaches_as_far_as_told():
    mask = np.zeros((100, 120), np.uint8)
    mask[40:60, 50:70] = 200
    out = expand(mask, 0.5, 2, (0.4, 1.0, 0.2, 0.8))
    # per step: left int(.4*10/2)=2, right 5, top 1, bottom 4
    assert mask_box(out) == (50 - 4, 40 - 2, 70 + 10, 60 + 8)
    assert set(np.unique(out)) == {0, 200}
    assert np.array_equal(expand(mask, 0.0, 2, (1, 1, 1, 1)), mask)


def test_hull_spans_all_parts():
    mask = np.zeros((40, 60), np.uint8)
    mask[5:8, 5:8], mask[30:33, 50:53] = 1, 255
    hull = hull_of(mask)
    assert set(np.unique(hull)) == {0, 255} and mask_box(hull) == (5, 5, 53, 33) and hull[19, 28] == 255


def test_what_the_flags_ask_for():
    assert augmenter(None, None, 0) is None
    assert isinstance(augmenter("hull", None, 0), MaskAugmenter)
    with pytest.raises(InputError, match="--maskaug_mode"):
        augmenter(None, 0.5, 0)
    with pytest.raises(InputError, match="hull_expand"):
        augmenter("hul_expand", None, 0)
    for ratio in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="--maskaug_ratio"):
            augmenter("hull_expand", ratio, 0)


def test_augmented_chunks_are_grayed_only_on_request(noise, disc):
    frames, mask = noise(5, 40, 50), disc(40, 50)
    bits = np.where(mask > 0, 255, 0).astype(np.uint8)
    change = MaskAugmenter("bbox_expand", 0.4, 5)
    for masks in (still(bits, 5), np.stack([bits] * 5)):
        (kept,) = augmented(iter([Chunk(frames, masks)]), "bbox_expand", 0.4, seed=5)
        (filled,) = augmented(iter([Chunk(frames, masks)]), "bbox_expand", 0.4, seed=5, fill=128)
        assert all(np.array_equal(one, change(bits)) for one in kept.masks)
        assert np.array_equal(kept.frames, frames)
        region = filled.masks > 0
        assert (filled.frames[region] == 128).all() and np.array_equal(filled.frames[~region], frames[~region])
    assert is_still(still(bits, 5)) and not is_still(np.stack([bits] * 5))
