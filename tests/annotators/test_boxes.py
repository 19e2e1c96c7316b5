from __future__ import annotations

import numpy as np
import pytest

from vace.annotators.boxes import box_mask, check_boxes, mask_box, parse_boxes
from vace.errors import InputError


@pytest.mark.parametrize(
    "text",
    ["1,2,30,40", "1, 2, 30, 40", "1 2 30 40", " 1 ,2  30,40 ", "1.0,2.0,3e1,40", "1,2,30,40,"],
)
def test_one_box_in_every_spelling(text):
    assert parse_boxes(text) == [(1, 2, 30, 40)]


@pytest.mark.parametrize("text", ["1,2,3,4 5,6,7,8", "1,2,3,4,5,6,7,8", "1 2 3 4 5 6 7 8", "1, 2, 3, 4, 5, 6, 7, 8"])
def test_eight_numbers_are_two_boxes(text):
    assert parse_boxes(text) == [(1, 2, 3, 4), (5, 6, 7, 8)]


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,3,4 5,6,7", "left,2,3,4", "1;2;3;4"])
def test_what_is_no_box(text):
    with pytest.raises(InputError, match="--bbox") as error:
        parse_boxes(text)
    assert "x1,y1,x2,y2" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("boxes", "count", "words"),
    [
        ([(0, 0, 10, 10)], 2, "two boxes"),
        ([], 1, "one box"),
        (None, 1, "0 boxes"),
        ([(0, 0, 10, 10)] * 3, 2, "3 boxes"),
        ([(30, 2, 10, 20)], 1, "reversed"),
        ([(3, 20, 10, 2)], 1, "reversed"),
        ([(0, 0, 65, 48)], 1, "outside"),
        ([(0, 0, 64, 49)], 1, "outside"),
        ([(-1, 0, 10, 10)], 1, "outside"),
        ([(5, 5, 5, 9)], 1, "no pixel"),
        ([(5.1, 5, 5.9, 9)], 1, "no pixel"),
        ([(1, 2, 3)], 1, "3 numbers"),
        ([(1, 2, 3, float("nan"))], 1, "finite"),
        ([(1, 2, float("inf"), 4)], 1, "finite"),
        ([7], 1, "not a box"),
    ],
)
def test_boxes_that_do_not_fit(boxes, count, words):
    with pytest.raises(InputError, match="--bbox") as error:
        check_boxes(boxes, 64, 48, count)
    message = str(error.value)
    assert words in message and "64x48" in message and "x1,y1,x2,y2" in message


def test_a_box_may_fill_the_frame_and_hold_fractions():
    assert check_boxes([(0, 0, 64, 48), [1.5, 2, 3.5, 4]], 64, 48) == [(0, 0, 64, 48), (1.5, 2, 3.5, 4)]


def test_box_and_mask_are_inverse():
    mask = box_mask((3.9, 4, 20, 31.2), 40, 36)
    assert mask.shape == (36, 40) and mask.dtype == np.uint8
    assert (mask[4:31, 3:20] == 255).all() and mask.sum() == 27 * 17 * 255
    assert mask_box(mask) == (3, 4, 20, 31)
    assert mask_box(np.zeros((5, 5), np.uint8)) is None
    assert mask_box(mask // 2, threshold=200) is None
