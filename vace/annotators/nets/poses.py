"""People as points, in the order of DWPose's 133 whole-body points with the neck added (OpenPose's 18 come first)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

POINTS = 134
BODY, FEET, FACE = slice(0, 18), slice(18, 24), slice(24, 92)
LEFT_HAND, RIGHT_HAND = slice(92, 113), slice(113, 134)


@dataclass(frozen=True)
class People:
    """Those seen in one frame. points: float [n,134,2], x and y in pixels. scores: float [n,134], 0..1."""

    points: np.ndarray
    scores: np.ndarray


NOBODY = People(np.zeros((0, POINTS, 2), np.float32), np.zeros((0, POINTS), np.float32))


@dataclass
class Memory:
    """What a network keeps of a clip between two calls, so that the clip's chunks are one clip to it.

    Whoever calls makes one for each clip and passes it with every chunk, in order. fps: of the clip. state: the
    network's own.
    """

    fps: float = 16.0
    state: Any = None


@dataclass
class OneEuro:
    """Points freed from trembling: smoothed hard while they rest, hardly while they move (Casiez et al., CHI 2012).

    rest: the cut-off in Hz of what rests. haste: how much a speed of one size a second adds to it. The defaults are
    those MediaPipe smooths bodies with (pose_landmark_filtering.pbtxt).
    """

    rest: float = 0.05
    haste: float = 80.0
    _value: np.ndarray | None = field(default=None, repr=False)
    _speed: np.ndarray | float = field(default=0.0, repr=False)

    def __call__(self, points: np.ndarray, size: float, fps: float) -> np.ndarray:
        """The next frame's points [n,2], smoothed. size: of the thing they lie on, in the points' unit."""
        if self._value is None:
            self._value = points
            return points
        speed = (points - self._value) * (fps / max(size, 1e-6))
        self._speed = self._speed + _share(1.0, fps) * (speed - self._speed)
        share = _share(self.rest + self.haste * np.abs(self._speed), fps)
        self._value = self._value + share * (points - self._value)
        return self._value


def _share(cutoff, fps: float):
    """The share of a new value in a low pass of `cutoff` Hz."""
    return 1 / (1 + fps / (2 * math.pi * cutoff))
