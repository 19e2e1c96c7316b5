"""Which pixels are the thing's: what its look, the flow, its colours and the ground behind it say, put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vace.annotators.nets.appearance import PER_SLOPE, TOLERANCE, Look, Sight
from vace.annotators.nets.track_pose import rescaled

WINDOW = 5  # pixels around one that are asked whether they look the same


@dataclass(frozen=True)
class Labels:
    """chance: float32 [H,W], 0..1, that a pixel is the thing's. shape: where the look puts it, 0..1. same: 0..1, how
    well the look agrees there."""

    chance: np.ndarray
    shape: np.ndarray
    same: np.ndarray
    like_ground: np.ndarray


def warped(layer: np.ndarray, pose: np.ndarray, size: tuple[int, int], border: float = 0.0) -> np.ndarray:
    import cv2

    return cv2.warpAffine(
        layer, pose, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(border,) * 4
    )


def likeness(first: np.ndarray, second: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """How alike two pictures are around each pixel, 0..1 (0.5 at the tolerance); weight: which pixels count."""
    import cv2

    gray = _mean(first)
    slope = cv2.magnitude(*(cv2.Scharr(gray, -1, x, 1 - x, scale=1 / 32) for x in (1, 0)))
    off = np.minimum(_mean(cv2.absdiff(first, second)) / (TOLERANCE + PER_SLOPE * slope), 3)
    if weight is None:
        off = cv2.boxFilter(off, -1, (WINDOW, WINDOW))
    else:
        total = cv2.boxFilter(weight, -1, (WINDOW, WINDOW))
        off = cv2.boxFilter(off * weight, -1, (WINDOW, WINDOW)) / np.maximum(total, 1e-4)
        off = np.where(total < 0.01, _spread_out(off, total), off)
    off *= off
    return 1 / (1 + off * off)


def _spread_out(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`values` where `weight` is, and their mean over a wider window elsewhere."""
    import cv2

    known = (weight >= 0.01).astype(np.float32)
    total = cv2.boxFilter(known, -1, (11, 11))
    return cv2.boxFilter(values * known, -1, (11, 11)) / np.maximum(total, 1e-4)


def _mean(picture: np.ndarray) -> np.ndarray:
    """Of the three channels of float32 [H,W,3]."""
    import cv2

    return cv2.transform(picture, np.full((1, 3), 1 / 3, np.float32))


def labelled(
    sight: Sight,
    look: Look,
    pose: np.ndarray,
    stiffness: float,
    flow_says: np.ndarray | None,
    flow_trust: np.ndarray | None,
    ground: np.ndarray | None,
    is_known: np.ndarray | None,
) -> Labels:
    """Every pixel's label. stiffness: 0..1, how far the look is believed to be all there is to the thing."""
    size = sight.gray.shape[::-1]
    shape = warped(look.mask, pose, size)
    core = warped((look.depth > min(1.5, 0.5 * look.depth.max())).astype(np.float32), pose, size)
    there = warped(look.sight.soft, pose, size)
    same = likeness(there, sight.soft, core)
    odds = np.where(
        shape > 0.5, stiffness * (6 * same - 2.5) + (1 - stiffness) * (2 * same - 0.5), -4 * stiffness - 0.3
    )
    tell = look.contrast
    lean = np.clip(np.log((sight.chances + 0.02) / (1.02 - sight.chances)), -3, 3)
    odds = odds + lean * (0.15 + 0.85 * tell) * (1 - 0.7 * stiffness)
    if flow_says is not None:
        odds = odds + flow_trust * (2 * flow_says - 1) * 3 * (1 - 0.6 * stiffness)
    like_ground = np.zeros_like(same)
    if ground is not None:
        like_ground = likeness(ground, sight.soft)
        weight = np.where(shape > 0.5, np.clip(1 - 1.5 * same * stiffness, 0, 1), 1.0)
        odds = (
            odds + np.where(is_known, np.where(like_ground > 0.5, -2.0, 0.7) * np.abs(2 * like_ground - 1), 0) * weight
        )
        like_ground = np.where(is_known, like_ground, 0)
    return Labels((1 / (1 + np.exp(-odds))).astype(np.float32), shape, same.astype(np.float32), like_ground)


def smoothed(chance: np.ndarray, guide: np.ndarray, reach: int = 4, softness: float = 40.0) -> np.ndarray:
    """`chance` by the guided filter of He, Sun and Tang (PAMI 2013): smooth, but with the edges of `guide` (0..255)."""
    import cv2

    def mean(one: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(one, -1, (2 * reach + 1,) * 2)

    guide = guide.astype(np.float32)
    guide_mean, mean_chance = mean(guide), mean(chance)
    slope = (mean(guide * chance) - guide_mean * mean_chance) / (mean(guide * guide) - guide_mean**2 + softness)
    return mean(slope) * guide + mean(mean_chance - slope * guide_mean)


def tidied(mask: np.ndarray, least: float) -> np.ndarray:
    """`mask` (bool [H,W]) without parts smaller than `least` pixels and without holes as small."""
    import cv2

    out = mask.astype(np.uint8)
    for value in (1, 0):
        count, names, stats, _ = cv2.connectedComponentsWithStats((out == value).astype(np.uint8), connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] < least
        small[0] = False
        if count > 1 and small.any():
            out[small[names]] = 1 - value
    return out.astype(bool)


def enlarged_shape(look: Look, pose: np.ndarray, factor: float, size: tuple[int, int]) -> np.ndarray:
    """The look's whole mask under `pose` at the clip's own size, float32 0..1; factor: clip's pixels per working one."""
    return warped((look.whole > 0).astype(np.float32), rescaled(pose, factor), size)
