"""Which pixels are the thing's: what its look, the flow, its colours and the ground behind it say, put together.

Everything here is worked out in a window of the frame, a pair of slices (rows, columns) around the thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vace.annotators.nets.appearance import PER_SLOPE, TOLERANCE, Look, Sight
from vace.annotators.nets.track_pose import joined, rescaled

Window = tuple[slice, slice]

ALIKE = 5  # pixels: the side of the square around a pixel that is asked whether it looks the same
SMOOTH, EDGE = 4, 40.0  # the guided filter's reach in pixels, and the variance (levels squared) that makes an edge


@dataclass(frozen=True)
class Evidence:
    """What is known of each pixel of the window, float32 [h,w] each, 0..1 but for `lean`.

    shape: where the look puts the thing. blank: where the look's own frame did not reach. same: how well the look
    agrees. trust: how well the flow does. ground: how well the known ground does. lean: log odds of its colour.
    """

    shape: np.ndarray
    blank: np.ndarray
    same: np.ndarray
    trust: np.ndarray
    ground: np.ndarray
    is_ground_known: np.ndarray
    lean: np.ndarray


def window_around(boxes: list[tuple[float, float, float, float]], margin: float, size: tuple[int, int]) -> Window:
    """The smallest window with `margin` pixels around all boxes (x1, y1, x2, y2), within a frame of (width, height)."""
    left, top = (min(box[i] for box in boxes) - margin for i in (0, 1))
    right, bottom = (max(box[i] for box in boxes) + margin for i in (2, 3))
    x1, y1 = (int(np.clip(value, 0, most - 8)) for value, most in zip((left, top), size, strict=True))
    x2, y2 = (int(np.clip(np.ceil(v), low + 8, m)) for v, low, m in zip((right, bottom), (x1, y1), size, strict=True))
    return slice(y1, y2), slice(x1, x2)


def warped(layer: np.ndarray, pose: np.ndarray, window: Window, border: float = 0.0) -> np.ndarray:
    """`layer` under `pose`, as the window shows it; `border` from outside."""
    import cv2

    rows, columns = window
    pose = joined(np.array([[1.0, 0, -columns.start], [0, 1.0, -rows.start]]), pose)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    return cv2.warpAffine(
        layer, pose, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(border,) * 4
    )


def carried(layer: np.ndarray, flow: np.ndarray, window: Window, border: float = 0.0) -> np.ndarray:
    """`layer` of the frame before, as `flow` (back, of the whole frame) takes it into this frame's window."""
    import cv2

    rows, columns = window
    x = np.arange(columns.start, columns.stop, dtype=np.float32)
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    here = flow[window]
    return cv2.remap(
        layer,
        here[..., 0] + x,
        here[..., 1] + y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(border,) * 4,
    )


def likeness(first: np.ndarray, second: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """How alike two pictures, float32 [h,w,3], are around each pixel, 0..1, 0.5 at the tolerance.

    weight: float32 [h,w], which pixels count; where none does near, the pixels farther off speak.
    """
    import cv2

    mean = np.full((1, 3), 1 / 3, np.float32)
    gray = cv2.transform(first, mean)
    slope = cv2.magnitude(*(cv2.Scharr(gray, -1, x, 1 - x, scale=1 / 32) for x in (1, 0)))
    off = np.minimum(cv2.transform(cv2.absdiff(first, second), mean) / (TOLERANCE + PER_SLOPE * slope), 3)
    if weight is None:
        off = cv2.boxFilter(off, -1, (ALIKE, ALIKE))
    else:
        total, off = (cv2.boxFilter(one, -1, (ALIKE, ALIKE)) for one in (weight, off * weight))
        off = off / np.maximum(total, 1e-4)
        near = (total >= 0.01).astype(np.float32)
        wide, far = (cv2.boxFilter(one, -1, (2 * ALIKE + 1,) * 2) for one in (near, off * near))
        off = np.where(near > 0, off, far / np.maximum(wide, 1e-4))
    off *= off
    return (1 / (1 + off * off)).astype(np.float32)


def evidence(sight: Sight, look: Look, pose: np.ndarray, before, flow, ground, window: Window) -> Evidence:
    """Everything about the window. before, flow: the frame before (Sight) and the flow back to it, or None.

    ground: track_motion.Ground.
    """
    here = sight.soft[window]
    shape, core = warped(look.mask, pose, window), warped(look.core, pose, window)
    same = likeness(warped(look.sight.soft, pose, window), here, core)
    nothing = np.zeros_like(shape)
    trust = nothing if flow is None else likeness(carried(before.soft, flow, window, -255.0), here)
    known = ground.is_known[window] if ground.picture is not None else nothing > 0
    behind = np.where(known, likeness(ground.picture[window], here), 0) if known.any() else nothing
    chance = sight.chances[window]
    lean = np.clip(np.log((chance + 0.02) / (1.02 - chance)), -3, 3)
    blank = 1 - warped(np.ones_like(look.mask), pose, window)
    return Evidence(shape, blank, same, trust, behind, known, lean)


def chance_of(odds: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def rigid_chance(seen: Evidence, says: np.ndarray | None, tell: float) -> np.ndarray:
    """Chances for a thing that keeps its shape: its look where it agrees, and nothing beyond it.

    says: the chances of the frame before, carried here; tell: 0..1, how much colours tell.
    """
    odds = np.where(seen.shape > 0.5, 6 * seen.same - 2.5, -4.3 * (1 - seen.blank))
    odds = odds + (0.05 + 0.25 * tell) * seen.lean * (1 + seen.blank)
    if says is not None:
        odds = odds + 1.2 * seen.trust * (2 * says - 1)
    weight = np.where(seen.shape > 0.5, np.clip(1 - 1.5 * seen.same, 0, 1), 1.0)
    return chance_of(odds + weight * _ground_odds(seen))


def loose_chance(seen: Evidence, says: np.ndarray | None, tell: float) -> np.ndarray:
    """Chances for a thing that changes its shape: what flow carries here, colours, and its look where it agrees."""
    odds = np.where(seen.shape > 0.5, 2 * seen.same - 0.5, -0.3) + (0.15 + 0.85 * tell) * seen.lean
    if says is not None:
        odds = odds + 3 * seen.trust * (2 * says - 1)
    return chance_of(odds + _ground_odds(seen))


def _ground_odds(seen: Evidence) -> np.ndarray:
    """What looks like the known ground is hardly the thing; what does not may be the thing, or something else."""
    odds = np.where(seen.ground > 0.5, -2.0, 0.7) * np.abs(2 * seen.ground - 1)
    return np.where(seen.is_ground_known, odds, 0)


def softened(chance: np.ndarray, guide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and offset of the guided filter (He, Sun and Tang, PAMI 2013): slope x guide + offset is `chance` made
    smooth but for the edges of `guide` (float32 [h,w], 0..255)."""
    import cv2

    def mean(one: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(one, -1, (2 * SMOOTH + 1,) * 2)

    guide_mean, chance_mean = mean(guide), mean(chance)
    slope = (mean(guide * chance) - guide_mean * chance_mean) / (mean(guide * guide) - guide_mean**2 + EDGE)
    return mean(slope), mean(chance_mean - slope * guide_mean)


def tidied(mask: np.ndarray, least: float) -> np.ndarray:
    """`mask` (bool [h,w]) without parts smaller than `least` pixels and without holes as small."""
    import cv2

    out = mask.astype(np.uint8)
    for value in (1, 0):
        count, names, stats, _ = cv2.connectedComponentsWithStats((out == value).astype(np.uint8), connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] < least
        small[0] = False
        if count > 1 and small.any():
            out[small[names]] = 1 - value
    return out.astype(bool)


def connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The parts of `mask` (bool [h,w]) of which at least a tenth lies in `seeds`: what else looks alike is another."""
    import cv2

    count, names = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    size = np.bincount(names.ravel(), minlength=count)
    held = np.bincount(names[seeds], minlength=count)
    kept = held >= 0.1 * size
    kept[0] = False
    return kept[names]


def whole_window(window: Window, factor: float, size: tuple[int, int]) -> Window:
    """The window in a frame `factor` times as large, of (width, height)."""
    rows, columns = window
    return tuple(
        slice(int(one.start * factor), min(most, int(np.ceil(one.stop * factor))))
        for one, most in ((rows, size[1]), (columns, size[0]))
    )


def enlarged(layer: np.ndarray, window: Window, large: Window, factor: float) -> np.ndarray:
    """`layer` of the window at the clip's own size, float32."""
    if factor == 1:
        return layer.astype(np.float32)
    back = rescaled(np.array([[1.0, 0, window[1].start], [0, 1.0, window[0].start]]), 1.0)
    grow = (factor - 1) / 2
    pose = joined(np.array([[factor, 0, grow], [0, factor, grow]]), back)
    framed = np.pad(layer.astype(np.float32), 1, mode="edge")
    return warped(framed, joined(pose, np.array([[1.0, 0, -1], [0, 1.0, -1]])), large)


def rigid_mask(look: Look, pose, seen: Evidence, mask: np.ndarray, window, large, factor: float) -> np.ndarray:
    """The look's own outline at the clip's size, less what is hidden, and what is beyond it: bool."""
    import cv2

    shape = warped((look.whole > 0).astype(np.float32), rescaled(pose, factor), large) > 0.5
    inside = seen.shape > 0.5
    hidden = cv2.morphologyEx((inside & ~mask).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    more = (mask & ~inside).astype(np.uint8)
    more = cv2.morphologyEx(more, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) | (more & (seen.blank > 0.5))
    hidden, more = (enlarged(one, window, large, factor) > 0.5 for one in (hidden, more))
    return (shape & ~hidden) | more


def loose_mask(slope, offset, mask: np.ndarray, guide: np.ndarray, window, large, factor: float) -> np.ndarray:
    """The softened chances at the clip's size, along the edges of `guide` (float32 gray at that size): bool."""
    import cv2

    if factor == 1:
        return mask
    slope, offset = (enlarged(one, window, large, factor) for one in (slope, offset))
    kernel = np.ones((3, 3), np.uint8)
    most, least = (
        enlarged(grow(mask.astype(np.uint8), kernel), window, large, factor) > 0.5 for grow in (cv2.dilate, cv2.erode)
    )
    return ((slope * guide + offset > 0.5) & most) | least
