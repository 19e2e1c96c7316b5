"""MediaPipe's detectors: anchors, decoding, merging, and the turned squares."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vace.annotators.nets import blaze
from vace.annotators.nets.blaze import BODIES, FAR_FACES, NEAR_FACES, PALMS, Roi

DETECTORS = {net.model: net for net in (BODIES, PALMS, NEAR_FACES, FAR_FACES)}


@pytest.mark.parametrize("name", DETECTORS)
def test_the_table_says_what_the_files_hold(name):
    from vace.annotators import mediapipe

    net, model = DETECTORS[name], mediapipe.model(name)
    count = len(blaze.anchors(net.grids))
    assert model.inputs == [(1, net.size, net.size, 3)]
    assert model.outputs == [(1, count, 4 + 2 * net.points), (1, count, 1)]


def test_anchors_lie_in_the_middle_of_their_cells_row_by_row():
    centres = blaze.anchors(((2, 2), (1, 3)))
    assert (
        centres.tolist()
        == [[0.25, 0.25]] * 2 + [[0.75, 0.25]] * 2 + [[0.25, 0.75]] * 2 + [[0.75, 0.75]] * 2 + [[0.5, 0.5]] * 3
    )
    assert blaze.anchors(BODIES.grids)[28 * 28 * 2].tolist() == pytest.approx([0.5 / 14, 0.5 / 14])


def said(net, *things):
    """What a network would say of things, each (anchor, logit, (dx, dy, w, h, *points)) in pixels of its input."""
    count = len(blaze.anchors(net.grids))
    raw, logits = np.zeros((count, 4 + 2 * net.points), np.float32), np.full(count, -200, np.float32)
    for anchor, logit, values in things:
        raw[anchor, : len(values)], logits[anchor] = values, logit
    return raw, logits


def test_decoding_gives_corners_then_points_best_first():
    near = (8.0, -8.0, 32.0, 64.0, 4.0, 12.0)
    scores, found = blaze.decode(*said(NEAR_FACES, (0, 0.5, near), (600, 3.0, near), (700, -0.1, near)), NEAR_FACES)
    assert scores == pytest.approx([1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-0.5))])
    assert found.shape == (2, 8, 2)
    first = np.array([0.5 / 16, 0.5 / 16]) * 128
    corners = np.array([[first[0] + 8 - 16, first[1] - 8 - 32], [first[0] + 8 + 16, first[1] - 8 + 32]])
    assert found[1, :2] * 128 == pytest.approx(corners)
    assert found[1, 2] * 128 == pytest.approx(first + (4, 12))


def test_nothing_sure_is_nothing():
    scores, found = blaze.decode(*said(PALMS, (5, -1.0, (0, 0, 9, 9))), PALMS)
    assert scores.shape == (0,) and found.shape == (0, 9, 2)
    assert [len(part) for part in blaze.merge(scores, found)] == [0, 0]


def test_what_overlaps_is_averaged_by_score_and_keeps_the_best_score():
    boxes = np.array([[[0, 0], [10, 10]], [[2, 0], [12, 10]], [[50, 50], [60, 60]]], float)
    scores, merged = blaze.merge(np.array([0.9, 0.6, 0.5]), boxes)
    assert scores.tolist() == [0.9, 0.5]
    assert merged[0].tolist() == pytest.approx(np.array([[0.8, 0], [10.8, 10]]))
    assert merged[1].tolist() == boxes[2].tolist()


def test_a_box_without_area_is_merged_with_nothing():
    flat = np.array([[[5, 5], [5, 9]], [[5, 5], [5, 9]]], float)
    assert len(blaze.merge(np.array([0.9, 0.8]), flat)[0]) == 2


@pytest.mark.parametrize("angle", [0, 0.6, -2.0])
def test_points_of_a_square_lie_where_its_pixels_were_cut(angle):
    """A smooth picture's value at a point of the cut-out is its value where the point lies in the picture."""
    y, x = np.mgrid[:200, :300]
    image = np.stack([x * 0.8, y, 0 * x], axis=-1).astype(np.uint8)
    roi = Roi(150, 100, 60, angle)
    square = blaze.cut(image, roi, 120)[0] * 255
    for place in ((0.5, 0.5), (0.25, 0.75), (0.8, 0.1)):
        column, row = (round(value * 120 - 0.5) for value in place)
        where = roi.to_picture(np.array([(column + 0.5) / 120, (row + 0.5) / 120])) - 0.5
        assert square[row, column, :2] == pytest.approx([where[0] * 0.8, where[1]], abs=1.5)


def test_a_square_of_whole_pixels_is_a_slice():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    square = blaze.cut(image, Roi(30, 20, 16), 16)
    assert np.allclose(square[0], image[12:28, 22:38] / 255, atol=1e-6)
    assert np.allclose(blaze.cut(image, Roi(30, 20, 16), 16, low=-1.0)[0], image[12:28, 22:38] / 127.5 - 1, atol=1e-6)


def test_a_large_square_is_shrunk_by_area():
    """Single pixels picked out of a fine chessboard would be black or white, an area of it is gray."""
    y, x = np.mgrid[:512, :512]
    image = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)
    square = blaze.cut(image, Roi(256, 256, 512), 64)
    assert np.abs(square[0, 1:-1, 1:-1] - 0.5).max() < 0.02


def test_outside_the_picture_is_black():
    white = np.full((20, 20, 3), 255, np.uint8)
    square = blaze.cut(white, Roi(20, 10, 20), 20, low=-1.0)[0]
    assert (square[:, :9] == 1).all() and (square[:, 11:] == -1).all()
    assert (blaze.cut(white, Roi(500, 500, 20), 20) == 0).all()


def test_turned_brings_a_line_upright():
    """The angle is that of a square in which the line points up."""
    for degrees in (0, 30, 90, 200):
        up = np.array([math.sin(math.radians(degrees)), -math.cos(math.radians(degrees))])
        angle = blaze.turned(np.zeros(2), up, 90)
        assert math.cos(angle - math.radians(degrees)) == pytest.approx(1)
        assert -math.pi <= angle < math.pi
        tip = Roi(0, 0, 1, angle).to_picture(np.array([0.5, -0.5]))
        assert tip.tolist() == pytest.approx(up.tolist(), abs=1e-6)


@pytest.mark.parametrize(("width", "height", "side"), [(640, 360, 180), (100, 100, 100), (50, 300, 60), (30, 30, 64)])
def test_parts_cover_the_picture(width, height, side):
    covered = np.zeros((height, width), int)
    places = list(blaze.tiles(np.zeros((height, width, 3), np.uint8), side))
    for roi in places:
        x, y, half = round(roi.x), round(roi.y), side / 2
        covered[max(0, int(y - half)) : int(y + half) + 1, max(0, int(x - half)) : int(x + half) + 1] += 1
    assert covered.min() >= 1
    columns = sorted({roi.x for roi in places})
    assert all(after - before <= side / 2 + 1e-6 for before, after in zip(columns, columns[1:], strict=False))


def test_no_squares_is_nothing_found():
    assert blaze.detect(np.zeros((64, 64, 3), np.uint8), NEAR_FACES, []) == []
