"""Drawn people against the original, and what the drawing promises."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from goldens_io import annotator_document, comparable_cases, equal_within

from vace.annotators.draw_pose import MOST_PIXELS, draw_people, drawing_size, from_drawing, to_drawing
from vace.annotators.nets.poses import BODY, FACE, LEFT_HAND, NOBODY, POINTS, RIGHT_HAND, People

same = partial(equal_within, "drawn and copied annotator output")


def drawn_people(case: dict) -> People:
    """A `draw` case: points as shares of the picture, -1 where unseen; body points by their index, -1 where unseen."""
    given, (width, height) = case["inputs"], (case["params"]["W"], case["params"]["H"])
    count = len(given["subset"])
    points, scores = np.zeros((count, POINTS, 2)), np.zeros((count, POINTS))
    points[:, BODY] = given["candidate"].reshape(count, 18, 2)
    scores[:, BODY] = given["subset"] >= 0
    hands = given["hands"].reshape(2, count, 21, 2)  # all left ones, then all right ones
    for part, shares in ((FACE, given["faces"]), (LEFT_HAND, hands[0]), (RIGHT_HAND, hands[1])):
        points[:, part] = shares
        scores[:, part] = shares[..., 0] >= 0
    return People(points * (width, height), scores)


@pytest.mark.parity
def test_drawing_is_the_originals():
    found = set()
    for case in comparable_cases("pose"):
        params = case.get("params", {})
        if "use_hand" not in params:
            continue
        parts = {"body": params["use_body"], "face": params["use_face"], "hands": params["use_hand"]}
        canvas = draw_people(drawn_people(case), params["W"], params["H"], **parts)
        assert same(canvas[..., ::-1], case["output"]), case["id"]
        found.add(tuple(parts.values()))
    assert len(found) >= 2


@pytest.mark.parity
def test_maps_of_the_frames_size_are_the_originals():
    compared = 0
    for case in comparable_cases("pose"):
        params = case.get("params", {})
        if "ori_w" not in params:
            continue
        people = People(case["inputs"]["candidate"], case["inputs"]["subset"])
        for name, golden in case["output"].items():
            parts = {part: part in name.replace("detected_map_", "") for part in ("body", "face")}
            canvas = draw_people(people, params["W"], params["H"], **parts, hands="hand" in name)
            assert same(from_drawing(canvas, params["ori_w"], params["ori_h"]), golden), (case["id"], name)
            compared += 1
    assert compared


@pytest.mark.parity
def test_drawing_sizes_are_the_originals():
    table = next(case for case in annotator_document("pose")["cases"] if case["id"] == "resize_1024_table")
    for height, width, drawn_height, drawn_width in table["rows"]:
        assert drawing_size(width, height)[:2] == (drawn_width, drawn_height)


def person(**places) -> People:
    """One person of whom only some points are seen: their numbers, as p<number>=(x, y, score)."""
    points, scores = np.full((1, POINTS, 2), 50.0), np.zeros((1, POINTS))
    for name, (x, y, score) in places.items():
        points[0, int(name[1:])], scores[0, int(name[1:])] = (x, y), score
    return People(points, scores)


def test_red_and_blue_are_exchanged_and_sticks_dimmer_than_joints():
    """OpenPose draws the nose red and the way from neck to nose blue; the models saw it the other way round."""
    canvas = draw_people(person(p0=(50, 20, 1), p1=(50, 80, 1)), 100, 100)
    assert canvas[20, 50].tolist() == [0, 0, 255]
    assert canvas[80, 50].tolist() == [0, 85, 255]
    assert canvas[50, 50].tolist() == [153, 0, 0]
    assert (canvas.max(axis=2) > 0).mean() < 0.1


def test_a_limb_needs_both_its_ends():
    alone = draw_people(person(p0=(50, 20, 1), p1=(50, 80, 0.3)), 100, 100)
    assert alone[20, 50].any() and not alone[30:].any()


def test_parts_are_drawn_when_asked_for_and_sure():
    people = person(p0=(20, 20, 1), p30=(50, 50, 0.3), p31=(80, 50, 0.29), p92=(50, 80, 1), p93=(60, 80, 1))
    assert not draw_people(people, 100, 100)[40:].any()
    face = draw_people(people, 100, 100, body=False, face=True)
    assert face[50, 50].tolist() == [255] * 3 and not face[:, 70:].any() and not face[70:].any()
    hands = draw_people(people, 100, 100, body=False, hands=True)
    assert hands[80, 50].tolist() == [255, 0, 0] and hands[80, 55].tolist() == [0, 0, 255] and not hands[:70].any()


def test_nobody_is_black_and_what_lies_outside_breaks_nothing():
    assert not draw_people(NOBODY, 64, 48, face=True, hands=True).any()
    far = person(p0=(-500, -500, 1), p1=(900, 20, 1), p30=(-3, 5, 1), p31=(400, 400, 1), p92=(-9, -9, 1))
    assert draw_people(far, 64, 48, face=True, hands=True).shape == (48, 64, 3)


def test_a_point_on_the_first_pixel_does_not_show():
    """As in the original, where 0 stands for an unseen point of face or hand."""
    assert not draw_people(person(p30=(0.9, 30, 1)), 64, 64, body=False, face=True).any()
    assert draw_people(person(p30=(1.0, 30, 1)), 64, 64, body=False, face=True).any()


@pytest.mark.parametrize(("width", "height"), [(20_000, 10), (41, 100_000), (1, 1), (1, 60_000), (7, 4096)])
def test_no_canvas_is_without_bounds(width, height):
    across, down, _ = drawing_size(width, height)
    assert across * down <= MOST_PIXELS and across % 64 == down % 64 == 0 and min(across, down) >= 64


def test_enlarging_is_told():
    assert drawing_size(832, 480)[2] is True and drawing_size(3840, 2160)[2] is False


@pytest.mark.parametrize("size", [(90, 60), (2000, 1300)])
def test_frames_are_brought_to_the_canvas_and_back(size):
    frame = np.full((size[1], size[0], 3), (10, 120, 250), np.uint8)
    canvas = to_drawing(frame)
    assert (canvas.shape[1], canvas.shape[0]) == drawing_size(*size)[:2]
    assert np.array_equal(from_drawing(canvas, *size), frame)
