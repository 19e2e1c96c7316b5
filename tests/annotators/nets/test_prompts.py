"""What a segmenter is told, against what the original handed to its predictor, and by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from goldens_io import annotator_pack, comparable_cases, equal_within
from parity_fixes import FIXES

from vace.annotators.nets.prompts import LOGITS_SIDE, centres_box, component_centres, mask_logits

same = partial(equal_within, "drawn and copied annotator output")


@pytest.mark.parity
def test_prompts_of_a_picture():
    to_float32, shrunk = FIXES["prompt_in_float32"][1], FIXES["prompt_mask_size"][1]
    compared = set()
    for case in comparable_cases("sam2_prompts"):
        mask, task, golden = case["inputs"].get("mask"), case["params"]["task_type"], case["output"]
        if mask is None:
            continue  # a box goes through as it is
        if task == "mask_point":
            expected = to_float32(golden["point_coords"]).reshape(-1, 2)
            assert same(component_centres(mask), expected), case["id"]
        elif task == "mask_box":
            assert same(centres_box(mask), to_float32(golden["box"])), case["id"]
        else:
            assert same(mask_logits(mask), shrunk(golden["mask_input"][0])), case["id"]
        compared.add(task)
    assert compared == {"mask_point", "mask_box", "mask"}


@pytest.mark.parity
def test_nothing_drawn_has_no_box():
    """Where the original fails for want of a dot, there is no box."""
    for case in annotator_pack("sam2_prompts").values():
        if "raises" in case and case["params"]["task_type"] == "mask_box":
            assert centres_box(case["inputs"]["mask"]) is None, case["id"]
            assert component_centres(case["inputs"]["mask"]).shape == (0, 2)


@pytest.mark.parity
def test_mask_of_a_picture_as_inpainting_hands_it_over():
    for case in comparable_cases("inpainting"):
        for call in case.get("calls") or []:
            given = call["kw"].get("mask")
            if call["model"] == "sam2" and given is not None and given.shape == (LOGITS_SIDE, LOGITS_SIDE):
                name = "salient" if case["params"]["mode"].startswith("salient") else "mask"
                assert same(mask_logits(case["inputs"][name]), given), case["id"]


def test_parts_that_touch_at_corners_are_two():
    mask = np.zeros((6, 8), np.uint8)
    mask[1:3, 2:4] = mask[3:5, 4:6] = 255
    assert component_centres(mask).tolist() == [[2.5, 1.5], [4.5, 3.5]]
    assert centres_box(mask) == (2.5, 1.5, 4.5, 3.5)


def test_parts_are_ordered_from_the_left():
    mask = np.zeros((9, 12), np.uint8)
    mask[0, 10] = mask[8, 1] = mask[4, 5] = 255
    assert component_centres(mask).tolist() == [[1, 8], [5, 4], [10, 0]]
    mask[2, 5] = 255  # same column: the higher first
    assert component_centres(mask).tolist() == [[1, 8], [5, 2], [5, 4], [10, 0]]


def test_centre_of_an_uneven_part_and_of_a_whole_picture():
    mask = np.zeros((4, 5), np.uint8)
    mask[0, :4] = mask[1, 0] = 255
    assert component_centres(mask).tolist() == [[np.float32(6 / 5), np.float32(1 / 5)]]
    assert component_centres(np.full((4, 5, 1), 255, np.uint8)).tolist() == [[2, 1.5]]


def test_pale_pixels_are_no_dots():
    assert component_centres(np.full((4, 5), 254, np.uint8)).shape == (0, 2)
    assert centres_box(np.full((4, 5), 254, np.uint8)) is None


def test_logits_keep_their_values_and_pick_the_nearest_pixel():
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    found = mask_logits(mask, side=6)
    assert found.dtype == np.float32 and found.shape == (6, 6)
    assert found.tolist() == mask[np.ix_([0, 0, 1, 1, 2, 2], [0, 0, 1, 2, 2, 3])].tolist()
    assert np.array_equal(mask_logits(mask[..., None], side=6), found)
