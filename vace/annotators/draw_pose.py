"""People drawn as coloured sticks on black, as VACE's models learned them.

Colours, widths and order are those of OpenPose as DWPose draws it (annotators/dwpose/util.py of the original), its red
and blue exchanged: the original reverses the channels of what it drew, and the models were trained on that.
"""

from __future__ import annotations

import colorsys
import math

import numpy as np

from vace.annotators.nets.poses import BODY, FACE, LEFT_HAND, RIGHT_HAND, People

BODY_SURE, PART_SURE = 0.3, 0.3  # a body point shows above, a face or hand point from
STICK, JOINT, FACE_DOT = 4, 4, 3  # half width and radii in pixels
DIM = 0.6  # of the sticks' brightness against the joints'
SIDE, GRID = 1024, 64  # the short side that is drawn at, and what both sides are multiples of
MOST_PIXELS = 64 << 20  # of the canvas: beyond, a strip's short side is less than SIDE

LIMBS = ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
         (0, 14), (14, 16), (0, 15), (15, 17))  # fmt: skip
FINGERS = tuple((0 if k == 1 else first + k - 2, first + k - 1) for first in (1, 5, 9, 13, 17) for k in (1, 2, 3, 4))
_WHEEL = ((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0),
          (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255),
          (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85))  # fmt: skip
JOINT_COLORS = tuple(color[::-1] for color in _WHEEL)
LIMB_COLORS = tuple(tuple(int(value * DIM) for value in color) for color in JOINT_COLORS[: len(LIMBS)])
FINGER_COLORS = tuple(
    tuple(255 * value for value in colorsys.hsv_to_rgb(k / len(FINGERS), 1, 1)[::-1]) for k in range(len(FINGERS))
)
HAND_DOT_COLOR, FACE_COLOR = (255, 0, 0), (255, 255, 255)


def drawing_size(width: int, height: int) -> tuple[int, int, bool]:
    """(width, height) that a frame is drawn at, and whether that enlarges it: short side 1024, multiples of 64.

    A strip that would take more than `MOST_PIXELS` (narrower than 1:64) is drawn with a lesser short side.
    """
    scale = SIDE / min(width, height)
    sides = [max(GRID, round(length * scale / GRID) * GRID) for length in (width, height)]
    if math.prod(sides) > MOST_PIXELS:
        scale = math.sqrt(MOST_PIXELS / (width * height))
        short, long = (int(length * scale) // GRID * GRID for length in sorted((width, height)))
        short = max(GRID, short)
        long = min(long, MOST_PIXELS // short // GRID * GRID)
        sides = [short, long] if width < height else [long, short]
    return sides[0], sides[1], scale > 1


def to_drawing(frame: np.ndarray) -> np.ndarray:
    """A frame, uint8 [h,w,3], at the size it is drawn at."""
    import cv2

    width, height, is_larger = drawing_size(frame.shape[1], frame.shape[0])
    how = cv2.INTER_LANCZOS4 if is_larger else cv2.INTER_AREA
    return cv2.resize(frame, (width, height), interpolation=how)


def from_drawing(canvas: np.ndarray, width: int, height: int) -> np.ndarray:
    """What was drawn, uint8 [H,W,3], at the frame's size."""
    import cv2

    is_larger = width * height > canvas.shape[0] * canvas.shape[1]
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_LANCZOS4 if is_larger else cv2.INTER_AREA)


def draw_people(
    people: People, width: int, height: int, *, body: bool = True, face: bool = False, hands: bool = False
) -> np.ndarray:
    """The people's bodies, faces and hands, as asked for, on black: uint8 [height,width,3], red in blue's place.

    people: points in pixels of that size.
    """
    canvas = np.zeros((height, width, 3), np.uint8)
    if body:
        _draw_bodies(canvas, people.points[:, BODY], people.scores[:, BODY])
    if hands:
        for part in (LEFT_HAND, RIGHT_HAND):
            for points, scores in zip(people.points[:, part], people.scores[:, part], strict=True):
                _draw_hand(canvas, points, scores)
    if face:
        for points, scores in zip(people.points[:, FACE], people.scores[:, FACE], strict=True):
            _draw_dots(canvas, points, scores, FACE_DOT, FACE_COLOR)
    return canvas


def _draw_bodies(canvas: np.ndarray, points: np.ndarray, scores: np.ndarray) -> None:
    import cv2

    seen = scores > BODY_SURE
    for (start, end), color in zip(LIMBS, LIMB_COLORS, strict=True):
        for n in np.flatnonzero(seen[:, start] & seen[:, end]):
            cv2.fillConvexPoly(canvas, _stick(points[n, start], points[n, end]), color)
    for index, color in enumerate(JOINT_COLORS):
        for n in np.flatnonzero(seen[:, index]):
            cv2.circle(canvas, _pixel(points[n, index]), JOINT, color, thickness=-1)


def _stick(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The outline of an ellipse from `start` to `end` (x, y)."""
    import cv2

    (x1, y1), (x2, y2) = start, end
    half = int(math.hypot(x1 - x2, y1 - y2) / 2)
    angle = int(math.degrees(math.atan2(y1 - y2, x1 - x2)))
    return cv2.ellipse2Poly((int((x1 + x2) / 2), int((y1 + y2) / 2)), (half, STICK), angle, 0, 360, 1)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _draw_hand(canvas: np.ndarray, points: np.ndarray, scores: np.ndarray) -> None:
    import cv2

    shown = _shown(points, scores)
    for (start, end), color in zip(FINGERS, FINGER_COLORS, strict=True):
        if shown[start] and shown[end]:
            cv2.line(canvas, _pixel(points[start]), _pixel(points[end]), color, thickness=2)
    _draw_dots(canvas, points, scores, JOINT, HAND_DOT_COLOR)


def _draw_dots(canvas: np.ndarray, points: np.ndarray, scores: np.ndarray, radius: int, color) -> None:
    import cv2

    for index in np.flatnonzero(_shown(points, scores)):
        cv2.circle(canvas, _pixel(points[index]), radius, color, thickness=-1)


def _shown(points: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Points of faces and hands that show: sure enough, and not left of or above the first whole pixel."""
    return (scores >= PART_SURE) & np.all(points >= 1, axis=-1)
