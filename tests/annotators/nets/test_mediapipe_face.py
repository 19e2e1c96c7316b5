"""Faces and hands by MediaPipe's networks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vace.annotators.nets import mediapipe_face, mediapipe_hands
from vace.annotators.nets.blaze import Found, Roi
from vace.annotators.nets.mediapipe_face import POINTS68, MediapipeFace, find_face, find_faces, mesh


@pytest.fixture(scope="module")
def woman(request) -> np.ndarray:
    """The astronaut, RGB uint8 [512,512,3]: hairline at 65, chin at 178, ears at 178 and 272, eyes at y 110."""
    from vace.media.image import read_image

    return read_image(request.config.rootpath / "assets" / "images" / "test.jpg")


def test_a_box_goes_from_the_hairline_to_the_chin(woman):
    ((x1, y1, x2, y2),) = MediapipeFace().faces(woman)
    assert [type(value) for value in (x1, y1)] == [float, float]
    assert (x1, y1, x2, y2) == pytest.approx((178, 70, 272, 177), abs=9)


def test_a_small_face_is_found_in_a_part(woman):
    import cv2

    scale = 0.3
    small = cv2.resize(woman, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    image = np.full((480, 832, 3), 90, np.uint8)
    image[300 : 300 + len(small), 600 : 600 + len(small)] = small
    (box,) = MediapipeFace().faces(image)
    expected = np.array([178, 70, 272, 177]) * scale + (600, 300, 600, 300)
    assert box == pytest.approx(tuple(expected), abs=4)


def test_two_faces_are_two_best_first(woman):
    faces = find_faces(np.hstack([woman, woman[:, ::-1]]))
    assert len(faces) == 2
    assert sorted(face.points[:, 0].mean() for face in faces) == pytest.approx([225, 1024 - 225], abs=12)


@pytest.mark.parametrize("name", ["test2.jpg", "test3.jpg"])
def test_no_face_in_a_cat_or_a_cup(root, name):
    from vace.media.image import read_image

    assert MediapipeFace().faces(read_image(root / "assets" / "images" / name)) == []


def test_a_mesh_is_gated_by_its_flag(woman):
    face = mesh(woman, Roi(225, 125, 160))
    assert face.score > 0.9 and face.points.shape == (468, 2)
    assert mesh(woman, Roi(60, 420, 160)) is None  # a sleeve


def test_the_sixty_eight_lie_like_a_face(woman):
    points = mesh(woman, Roi(225, 125, 160)).points[list(POINTS68)]
    assert len(POINTS68) == len(set(POINTS68)) == 68
    jaw, brows, nose, eyes, mouth = points[:17], points[17:27], points[27:36], points[36:48], points[48:]
    assert brows[:, 1].max() < eyes[:, 1].min() + 4 and eyes[:, 1].max() < nose[4:, 1].min() < mouth[:, 1].mean()
    assert (np.diff(jaw[:, 0])[2:14] > 0).all() and jaw[:, 1].argmax() in (7, 8, 9)
    assert eyes[:6, 0].max() < nose[:, 0].mean() < eyes[6:, 0].min()
    assert (np.diff(brows[:5, 0]) > 0).all() and (np.diff(brows[5:, 0]) > 0).all()
    outer, inner = mouth[:12], mouth[12:]
    assert outer[:, 0].min() <= inner[:, 0].min() and inner[:, 0].max() <= outer[:, 0].max()


@pytest.mark.parametrize("turn", [0, 25, -40])
def test_a_turned_face_has_its_points_turned(woman, turn):
    import cv2

    matrix = cv2.getRotationMatrix2D((225, 125), turn, 1.0)
    image = cv2.warpAffine(woman, matrix, (512, 512))
    (face,) = find_faces(image)
    right, left = face.points[33], face.points[263]
    level = math.degrees(math.atan2(-(left[1] - right[1]), left[0] - right[0]))
    assert level == pytest.approx(turn, abs=7)
    assert math.degrees(face.roi.angle) == pytest.approx(-level, abs=1e-3)


HEAD = np.array([[218, 128], [240, 106], [200, 102], [265, 120], [185, 115], [225, 150], [205, 148]], np.float32)


def test_the_face_of_a_head_is_found_and_followed(woman, monkeypatch):
    found = find_face(woman, HEAD)
    assert found.box == pytest.approx((178, 70, 272, 177), abs=9)
    monkeypatch.setattr(mediapipe_face, "detect", lambda *given: pytest.fail("there is a square to look at"))
    followed = find_face(woman, HEAD + 3, found.roi)
    assert np.abs(followed.points - found.points).max() < 6


def test_a_face_elsewhere_is_not_this_heads(woman):
    assert find_face(woman, HEAD + (0, 150), Roi(225, 125, 160)) is None


def test_a_head_of_few_pixels_has_no_face(woman):
    assert find_face(woman, np.array([[200.0, 100], [203, 102], [205, 101]])) is None


# Hands: no picture of the project shows one, so the networks' answers are made up.


class Palms:
    """In the place of the two networks: a hand whose 21 points are `points`, in the input's pixels; palms as given."""

    def __init__(self, monkeypatch, palms=(), flags=(1.0,)):
        self.looks, self.flags = [], list(flags)
        self.points = np.random.default_rng(0).uniform(60, 160, (21, 2)).astype(np.float32)
        monkeypatch.setattr(mediapipe_hands, "detect", lambda image, net, rois: list(palms))
        monkeypatch.setattr(mediapipe_hands.mediapipe, "model", lambda name: self)
        monkeypatch.setattr(mediapipe_hands, "cut", lambda image, roi, size: self.looks.append(roi))

    def __call__(self, tensor):
        flag = self.flags.pop(0) if len(self.flags) > 1 else self.flags[0]
        values = np.column_stack([self.points, np.zeros(21)]).ravel()[None]
        return values, np.array([[flag]], np.float32), None, None


def palm(x: float, y: float) -> Found:
    """A palm of 40 pixels, its wrist at (x, y), pointing right."""
    points = np.array([[x, y], [x + 20, y], [x + 40, y]] + [[x, y]] * 4, np.float32)
    return Found(0.9, (x, y - 20, x + 40, y + 20), points)


IMAGE, WRIST = np.zeros((300, 300, 3), np.uint8), np.array([100.0, 150.0])
NEAR = Roi(110, 150, 100)


def test_the_palm_nearest_to_the_wrist_is_taken(monkeypatch):
    net = Palms(monkeypatch, [palm(130, 150), palm(104, 150)])
    hand = mediapipe_hands.find_hand(IMAGE, WRIST, NEAR)
    (roi,) = net.looks
    assert math.degrees(roi.angle) == pytest.approx(90)  # its up is the picture's right
    assert roi.side == pytest.approx(2.6 * 40) and (roi.x, roi.y) == pytest.approx((124 + 20, 150))
    expected = roi.to_picture(net.points / 224)
    assert hand.points == pytest.approx(expected, abs=1e-3) and hand.score == 1.0


def test_a_palm_far_from_the_wrist_is_another_hands(monkeypatch):
    Palms(monkeypatch, [palm(160, 150)])
    assert mediapipe_hands.find_hand(IMAGE, WRIST, NEAR) is None


def test_what_is_no_hand_is_none_and_the_next_palm_is_tried(monkeypatch):
    net = Palms(monkeypatch, [palm(104, 150), palm(120, 150)], flags=[0.2, 0.8])
    assert mediapipe_hands.find_hand(IMAGE, WRIST, NEAR).score == pytest.approx(0.8)
    assert len(net.looks) == 2


def test_the_square_before_is_tried_first(monkeypatch):
    before = Roi(100, 150, 60)
    net = Palms(monkeypatch, [palm(104, 150)])
    net.points[0] = 112, 112  # the wrist in the middle of the square
    mediapipe_hands.find_hand(IMAGE, WRIST, NEAR, before)
    assert net.looks == [before]
    net.looks.clear()
    mediapipe_hands.find_hand(IMAGE, WRIST, NEAR, Roi(220, 150, 60))  # a hand, but another one's
    assert len(net.looks) == 2


def test_the_next_square_holds_the_whole_hand_upright():
    """A hand pointing down: its square is turned by half, larger than its knuckles, and reaches towards the tips."""
    y = np.repeat([0.0, 20, 40, 55, 65], [1, 5, 5, 5, 5])[:21]
    columns = np.concatenate([[0], np.tile(np.linspace(-15, 15, 5), 4)])
    points = np.zeros((21, 2))
    for finger in range(5):
        for joint in range(4):
            points[1 + 4 * finger + joint] = columns[1 + finger], y[1 + 5 * joint]
    roi = mediapipe_hands.hand_roi(points + 100)
    assert abs(math.degrees(roi.angle)) == pytest.approx(180, abs=1)
    assert roi.x == pytest.approx(100, abs=1) and 120 < roi.y < 140
    assert roi.side == pytest.approx(2 * 55, abs=30)
