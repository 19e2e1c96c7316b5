"""RTMPose before and behind its network, against the original and by itself."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from goldens_io import comparable_cases, equal_within

from vace.annotators.nets import rtmpose

close = partial(equal_within, "networks' pre- and post-processing", bar=1e-4)


@pytest.mark.parity
def test_input_points_and_scores_are_the_originals():
    compared = 0
    for case in comparable_cases("pose_onnx"):
        given, golden = case["inputs"], case["output"]
        if "simcc_x" not in given:
            continue
        height, width = given["image"].shape[:2]
        places = rtmpose.crops(case["params"]["boxes"], width, height)
        tensor, expected = rtmpose.net_inputs(given["image"], places), np.stack(golden["net_input_s8"])
        step = rtmpose.WIDTH // expected.shape[-1]
        assert close(tensor[:, :, ::step, ::step], expected.reshape(len(places), 3, *expected.shape[-2:])), case["id"]
        bins = (given[key].reshape(len(places), rtmpose.COCO_POINTS, -1) for key in ("simcc_x", "simcc_y"))
        points, scores = rtmpose.points_of(*bins, places)
        assert close(points, golden["keypoints"]) and close(scores, golden["scores"]), case["id"]
        compared += 1
    assert compared


@pytest.mark.parity
def test_neck_and_order_are_the_originals():
    compared = 0
    for case in comparable_cases("pose"):
        given = case.get("inputs", {})
        if "keypoints133" not in given:
            continue
        people = rtmpose.with_neck(given["keypoints133"], given["scores133"])
        assert close(people.points, case["output"]["keypoints"]), case["id"]
        assert close(people.scores, case["output"]["scores"]), case["id"]
        compared += 1
    assert compared


def test_a_crop_keeps_the_networks_aspect_and_its_middle():
    wide, tall = rtmpose.crops([(10, 20, 110, 40), (10, 20, 30, 220)], 640, 480)
    for place, box in ((wide, (10, 20, 110, 40)), (tall, (10, 20, 30, 220))):
        assert tuple(place[:2]) == ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        assert place[2] / place[3] == pytest.approx(rtmpose.WIDTH / rtmpose.HEIGHT)
    assert wide[2] == 125 and tall[3] == 250


def test_without_boxes_the_whole_picture_is_one():
    (place,) = rtmpose.crops([], 300, 100)
    assert tuple(place[:3]) == (150, 50, 375)


def test_a_bin_leads_back_to_the_pixel_it_shows():
    """A bright dot in a picture, found in the crop by its brightest column and row, lies where it was."""
    image = np.zeros((200, 300, 3), np.uint8)
    image[118:123, 148:153] = 255
    places = rtmpose.crops([(100, 60, 180, 190)], 300, 200)
    (tensor,) = rtmpose.net_inputs(image, places)
    bins_x = np.zeros((1, 1, rtmpose.WIDTH * 2))
    bins_y = np.zeros((1, 1, rtmpose.HEIGHT * 2))
    columns, rows = tensor[0].sum(axis=0), tensor[0].sum(axis=1)
    bins_x[0, 0, 2 * int(np.flatnonzero(columns > columns.max() - 1e-3).mean())] = 0.8
    bins_y[0, 0, 2 * int(np.flatnonzero(rows > rows.max() - 1e-3).mean())] = 0.6
    points, scores = rtmpose.points_of(bins_x, bins_y, places)
    assert points[0, 0] == pytest.approx((150, 120), abs=0.6) and scores[0, 0] == 0.6


def test_a_point_that_nothing_shows_has_no_score():
    places = rtmpose.crops([], 288, 384)
    empty = np.full((1, 1, 576), -0.1), np.full((1, 1, 768), 0.5)
    points, scores = rtmpose.points_of(*empty, places)
    assert scores[0, 0] == pytest.approx(-0.1) and (points[0, 0] < 0).all()


def test_the_neck_is_seen_only_between_two_shoulders():
    points, scores = np.zeros((2, 133, 2)), np.ones((2, 133))
    points[:, 5], points[:, 6] = (10, 20), (30, 40)
    scores[1, 6] = 0.2
    people = rtmpose.with_neck(points, scores)
    assert people.points[0, 1].tolist() == [20, 30]
    assert people.scores[:, 1].tolist() == [1, 0]
    assert people.points.shape == (2, 134, 2)
