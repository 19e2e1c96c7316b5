"""People as points, in the order of DWPose's 133 whole-body points with the neck added (OpenPose's 18 come first)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POINTS = 134
BODY, FEET, FACE = slice(0, 18), slice(18, 24), slice(24, 92)
LEFT_HAND, RIGHT_HAND = slice(92, 113), slice(113, 134)


@dataclass(frozen=True)
class People:
    """Those seen in one frame. points: float32 [n,134,2], x and y in pixels. scores: float32 [n,134], 0..1."""

    points: np.ndarray
    scores: np.ndarray


NOBODY = People(np.zeros((0, POINTS, 2), np.float32), np.zeros((0, POINTS), np.float32))
