"""Drawn people against the original, and what the drawing promises."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from goldens_io import annotator_document, comparable_cases, equal_within

from vace.annotators.draw_pose import MOST_PIXELS, draw_people, drawing_size, from_drawing
from vace.annotators.nets.poses import BODY, FACE, LEFT_HAND, NOBODY, POINTS, RIGHT_HAND, People

same = partial(equal_within, "drawn and copied annotator output")
PARTS = {"detected_map_body": "body", "detected_map_face": "face"}


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
        parts = {name: bool(params[f"use_{name[:4]}"]) for name in ("body", "face")} | {"hands": bool(params["use_hand"])}
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
