"""Edges by colour: a rough guess of a disc comes out as the disc, and nothing is made up where there is no edge."""

from __future__ import annotations

import numpy as np
import pytest

from vace.annotators.nets import grabcut


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one > 127, other > 127
    return (one & other).sum() / (one | other).sum()


@pytest.fixture
def scene():
    """A speckled disc on a speckled ground of another colour: scene(height, width) -> picture, its mask."""

    def make(height, width, seed=0):
        y, x = np.mgrid[:height, :width]
        disc = np.hypot(y - 0.55 * height, x - 0.4 * width) < 0.25 * height
        base = np.where(disc[..., None], (190, 90, 60), (70, 110, 140))
        speckle = np.random.default_rng(seed).normal(0, 18, (height, width, 3))
        return np.clip(base + speckle, 0, 255).astype(np.uint8), np.where(disc, np.uint8(255), np.uint8(0))

    return make


@pytest.mark.parametrize(("height", "width"), [(120, 160), (300, 700)])
def test_a_rough_matte_is_refined(scene, height, width):
    image, mask = scene(height, width)
    rough = np.roll(mask, (height // 20, -height // 20), (0, 1)) // 2 + 70
    assert overlap(rough, mask) < 0.87
    found = grabcut.refine(image, rough, slack=0.3)
    assert found.shape == mask.shape and found.dtype == np.uint8
    assert overlap(found, mask) > 0.95
    assert ((found > 0) & (found < 255)).mean() < 0.03  # hard but for the edge


def test_results_repeat_whatever_ran_before(scene):
    image, mask = scene(96, 128)
    rough = np.roll(mask, 5, 1) // 2 + 70
    first = grabcut.refine(image, rough)
    grabcut.from_box(scene(64, 64, 5)[0], (5, 5, 40, 50))
    assert np.array_equal(first, grabcut.refine(image, rough))


def test_what_the_matte_is_sure_of_stays(scene):
    image, _ = scene(120, 160)
    sure = np.zeros((120, 160), np.uint8)
    sure[10:50, 100:150] = 255  # on plain ground: colours say nothing for it
    found = grabcut.refine(image, sure, slack=0.05)
    assert (found[14:46, 104:146] == 255).all() and not found[60:, :90].any()


@pytest.mark.parametrize("value", [0, 255])
def test_a_matte_without_an_edge_is_its_own_answer(scene, value):
    image, _ = scene(40, 60)
    assert (grabcut.refine(image, np.full((40, 60), value, np.uint8)) == value).all()


def test_a_thin_thing_is_kept():
    image = np.full((80, 120, 3), 90, np.uint8)
    image[40:42] = (240, 230, 20)
    matte = np.zeros((80, 120), np.uint8)
    matte[40:42] = 200
    assert overlap(grabcut.refine(image, matte), matte) > 0.9


@pytest.mark.parametrize(("height", "width"), [(120, 160), (300, 700)])
def test_the_thing_in_a_box(scene, height, width):
    image, mask = scene(height, width)
    box = (0.1 * height, 0.25 * height, 0.4 * width + 0.35 * height, 0.9 * height)
    found = grabcut.from_box(image, box)
    assert overlap(found, mask) > 0.93
    outside = np.ones(mask.shape, bool)
    outside[int(box[1]) - 3 : int(box[3]) + 3, max(0, int(box[0]) - 3) : int(box[2]) + 3] = False
    assert not found[outside].any()


@pytest.mark.parametrize("box", [(0, 0, 60, 40), (10, 5, 30, 30), (50, 30, 60, 40), (20, 10, 20.4, 10.4)])
def test_a_box_on_nothing_gives_what_fills_it(box):
    found = grabcut.from_box(np.full((40, 60, 3), 128, np.uint8), box)
    x1, y1, x2, y2 = box
    assert found.shape == (40, 60) and not found[: int(y1)].any() and not found[:, : int(x1)].any()
    if x2 - x1 > 1:
        assert 0.5 < (found > 127).sum() / ((x2 - x1) * (y2 - y1)) <= 1.0
        assert found[int((y1 + y2) / 2), int((x1 + x2) / 2)] == 255


def test_guided_moves_the_edge_onto_the_pictures():
    image = np.full((100, 200, 3), (40, 60, 90), np.uint8)
    image[:, 100:] = (200, 180, 150)
    x = np.arange(200)
    truth = np.where(x >= 100, 255, 0)
    matte = np.tile(np.clip(128 + (x - 102) * 16, 0, 255), (100, 1)).astype(np.uint8)
    found = grabcut.guided(image, matte)
    assert np.abs(found - truth).mean() < 0.65 * np.abs(matte - truth).mean()
    step = np.diff(found[50].astype(int))
    assert step.argmax() == 99 and step.max() > 100  # from the last dark column to the first bright one
    assert (found[:, 120:] == 255).all() and not found[:, :85].any()


def test_cleaned_drops_specks_and_fills_holes():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    expected = mask.copy()
    mask[20:22, 20:22] = False  # a hole
    mask[30:45, 30:45] = False  # large enough to be meant
    expected[30:45, 30:45] = False
    mask[55:57, 55:57] = True  # a speck
    assert np.array_equal(grabcut.cleaned(mask), expected)
    assert not grabcut.cleaned(np.zeros((5, 5), bool)).any()
    assert grabcut.cleaned(np.ones((5, 5), bool)).all()


def test_large_masks_get_no_stairs():
    y, x = np.mgrid[:60, :60]
    small = np.hypot(y - 30, x - 30) < 20
    y, x = np.mgrid[:480, :480]
    large = np.where(np.hypot(y - 243.5, x - 243.5) < 160, np.uint8(255), np.uint8(0))
    found = grabcut.enlarged(small, (480, 480))
    assert overlap(found, large) > 0.98
    assert ((found > 0) & (found < 255)).sum() < 4 * 2 * np.pi * 160  # a ramp of a few pixels
