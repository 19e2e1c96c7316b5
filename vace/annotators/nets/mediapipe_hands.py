"""Hands by MediaPipe's networks: a palm near a wrist, and 21 points of the hand it belongs to.

Squares and gates are those of MediaPipe's published graphs (Apache-2.0, mediapipe/modules/hand_landmark; the networks:
Zhang et al., arXiv:2006.10214).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vace.annotators import mediapipe
from vace.annotators.nets.blaze import PALMS, Found, Roi, cut, detect, turned

SIZE = 224  # side of the landmark network's input
FLAG = 0.5  # from which what it sees is a hand
WRIST, MIDDLE = 0, 2  # among a palm's points: the wrist, and the root of the middle finger
PALM_SCALE, PALM_SHIFT = 2.6, 0.5  # the square about a hand, against the palm's box, and how far up it lies
HAND_SCALE, HAND_SHIFT = 2.0, 0.1  # the same, against the box about the knuckles of the frame before
KNUCKLES = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
FAR = 0.4  # of the searched square's side: a palm whose wrist is farther from the arm's is another hand's


@dataclass(frozen=True)
class Hand:
    """points: float32 [21,2], x and y in pixels, from the wrist to the little finger's tip.

    score: that it is one, 0..1. roi: the square to look for it in the next frame.
    """

    points: np.ndarray
    score: float
    roi: Roi


def find_hand(image: np.ndarray, wrist: np.ndarray, near: Roi, before: Roi | None = None) -> Hand | None:
    """The hand at `wrist` (x, y), looked for in the square `near` of `image` (RGB uint8 [H,W,3]); None without one.

    before: the square that the hand of the frame before told of, which is tried first.
    """
    hand = None if before is None else _look(image, before)
    if hand is not None and _distance(hand.points[WRIST], wrist) < FAR * near.side:
        return hand
    palms = [(_distance(palm.points[WRIST], wrist), palm) for palm in detect(image, PALMS, [near])]
    for distance, palm in sorted(palms, key=lambda pair: pair[0]):
        hand = _look(image, palm_roi(palm)) if distance < FAR * near.side else None
        if hand is not None:
            return hand
    return None


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other))


def palm_roi(palm: Found) -> Roi:
    """The square about the hand that a detected palm belongs to."""
    x1, y1, x2, y2 = palm.box
    angle = turned(palm.points[WRIST], palm.points[MIDDLE], 90)
    return _shifted((x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1), angle, PALM_SCALE, PALM_SHIFT)


def hand_roi(points: np.ndarray) -> Roi:
    """The square about the hand, from its own 21 points."""
    index, middle, ring = points[6], points[10], points[14]
    angle = turned(points[0], ((index + ring) / 2 + middle) / 2, 90)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    upright = points[list(KNUCKLES)] @ turn.T
    low, high = upright.min(axis=0), upright.max(axis=0)
    middle_of_box = turn.T @ ((low + high) / 2)
    return _shifted(*middle_of_box.tolist(), float((high - low).max()), angle, HAND_SCALE, HAND_SHIFT)


def _shifted(x: float, y: float, side: float, angle: float, scale: float, shift: float) -> Roi:
    """A square `scale` times as large, moved by `shift` of its former side to where its upper edge is."""
    reach = side * shift
    return Roi(x + reach * float(np.sin(angle)), y - reach * float(np.cos(angle)), max(side * scale, 1.0), angle)


def _look(image: np.ndarray, roi: Roi) -> Hand | None:
    values, flag, _, _ = mediapipe.model("hand_landmark_full")(cut(image, roi, SIZE))
    score = float(flag.ravel()[0])
    if score < FLAG:
        return None
    points = roi.to_picture(values.reshape(21, 3)[:, :2] / SIZE)
    return Hand(points, score, hand_roi(points))
