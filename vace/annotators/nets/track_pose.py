"""Poses of a thing between two pictures, and how to find the pose that fits a picture best.

A pose is a float64 [2,3] matrix of a similarity (turn, scale, shift) from pixels of a look (the picture that the thing
was learned from) to pixels of another picture. Fitting is by inverse compositional steps (Baker and Matthews, "Lucas-
Kanade 20 Years On", IJCV 2004) with Tukey's weights, coarse to fine.
"""

from __future__ import annotations

import numpy as np

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
STEPS = (10, 8, 8)  # of fitting on the pictures of full, half and quarter size
STILL = 0.01  # pixels: a smaller step ends the fitting


def joined(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The pose that applies `first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def undone(pose: np.ndarray) -> np.ndarray:
    """The inverse of `pose`."""
    back = np.linalg.inv(pose[:, :2])
    return np.column_stack([back, -back @ pose[:, 2]])


def moved(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points [n,2] (x, y) under `pose`."""
    return points @ pose[:, :2].T + pose[:, 2]


def size_of(pose: np.ndarray) -> float:
    """The factor of lengths."""
    return float(np.sqrt(max(1e-12, abs(np.linalg.det(pose[:, :2])))))


def angle_of(pose: np.ndarray) -> float:
    """The turn in radians."""
    return float(np.arctan2(pose[1, 0] - pose[0, 1], pose[0, 0] + pose[1, 1]))


def pose_at(centre: np.ndarray, target: np.ndarray, angle: float, size: float) -> np.ndarray:
    """The pose that takes the point `centre` to `target`, turned by `angle` radians and scaled by `size`."""
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, np.asarray(target) - turn @ np.asarray(centre)])


def rescaled(pose: np.ndarray, factor: float) -> np.ndarray:
    """`pose` for pictures `factor` times as large; pixel centres lie at whole numbers."""
    shift = (factor - 1) / 2
    grow = np.array([[factor, 0, shift], [0, factor, shift]])
    return joined(joined(grow, pose), undone(grow))


def sampled(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`picture` (float32 [H,W] or [H,W,C]) between its pixels, bilinear, NaN outside: float32 [n,C] or [k,n,C].

    points: (x, y), [n,2] or [k,n,2].
    """
    import cv2

    at = np.ascontiguousarray(points.reshape(-1, *points.shape[-2:]), np.float32)
    border = (np.nan,) * 4
    found = cv2.remap(picture, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=border)
    return found.reshape(*points.shape[:-1], -1)


class Samples:
    """Points of a picture with their values and the steepest descent of each parameter, for one level and channel set.

    points: [n,2]. picture: float32 [H,W,C]. centre, reach: of the thing, so that turns are about its middle and all
    four parameters count in pixels.
    """

    def __init__(self, picture: np.ndarray, points: np.ndarray, centre: np.ndarray, reach: float) -> None:
        import cv2

        self.points, self.values = points, sampled(picture, points)
        self.open = np.ones(len(points))  # 0 where something is in front of the thing
        across = sampled(cv2.Scharr(picture, -1, 1, 0, scale=1 / 32), points)
        down = sampled(cv2.Scharr(picture, -1, 0, 1, scale=1 / 32), points)
        x, y = ((points - centre) / reach).T
        x, y = x[:, None], y[:, None]
        self.slope = np.sqrt(np.mean(np.nan_to_num(across**2 + down**2), axis=1))
        descent = np.stack([across, down, across * x + down * y, down * x - across * y], -1).reshape(-1, 4)
        self.descent = np.nan_to_num(descent).astype(np.float32)  # [n*C,4]


def normal_equations(
    samples: Samples, picture: np.ndarray, pose: np.ndarray, least: float, most: float
) -> tuple[np.ndarray, np.ndarray]:
    """The weighted [4,4] matrix and [4] right side for one step; least, most: bounds of the scale of residuals."""
    residual = sampled(picture, moved(samples.points, pose)) - samples.values
    size = np.einsum("ij,ij->i", residual, residual) / residual.shape[1]  # squared
    known = size == size  # not NaN
    count = np.count_nonzero(known)
    if count < 8:
        return np.zeros((4, 4)), np.zeros(4)
    size[~known] = np.inf
    middle = np.sqrt(np.partition(size, count // 2)[count // 2])
    scale = 4.685 * min(max(1.4826 * middle, least), most)
    weight = np.square(np.maximum(0, 1 - size / scale**2)) * samples.open
    if count < len(size):
        residual[~known] = 0
    weighted = samples.descent * np.repeat(weight.astype(np.float32), residual.shape[1])[:, None]
    return weighted.T @ samples.descent, weighted.T @ residual.reshape(-1)


def fitted(
    levels,
    pictures,
    pose: np.ndarray,
    centre: np.ndarray,
    reach: float,
    shifts_only: bool = False,
    is_strict: bool = False,
    finest: int = 0,
) -> np.ndarray:
    """`pose` moved to where the picture fits best.

    levels: per level, finest first, (Samples, index of the channel set, least residual, weight) each. pictures: per
    level the channel sets of the picture, float32 [H,W,C] each. shifts_only: neither turned nor scaled.
    is_strict: only what already fits well counts, for a thing that is mostly hidden. finest: the level to end with.
    """
    for level in range(len(levels) - 1, min(finest, len(levels) - 1) - 1, -1):
        factor = 2.0**-level
        here, middle, around = rescaled(pose, factor), (centre + 0.5) * factor - 0.5, reach * factor
        for _ in range(STEPS[min(level, len(STEPS) - 1)]):
            matrix, right = np.zeros((4, 4)), np.zeros(4)
            for samples, channel, least, weight in levels[level]:
                most = least * (1 if is_strict else 4)
                one, other = normal_equations(samples, pictures[level][channel], here, least, most)
                matrix, right = matrix + weight * one, right + weight * other
            if shifts_only:
                matrix[2:, :2] = matrix[:2, 2:] = 0
            damp = 1e-3 * np.trace(matrix) / 4 + 1e-6
            step = np.linalg.solve(matrix + damp * np.diag([0.05, 0.05, 1, 1]) + 1e-9 * np.eye(4), right)
            step = np.clip(step, -2, 2)
            if shifts_only:
                step[2:] = 0
            grow, turn = step[2] / around, step[3] / around
            change = np.array([[1 + grow, -turn], [turn, 1 + grow]])
            change = np.column_stack([change, middle + step[:2] - change @ middle])
            here = joined(here, undone(change))
            if np.abs(step).max() < STILL:
                break
        pose = rescaled(here, 1 / factor)
    return pose
