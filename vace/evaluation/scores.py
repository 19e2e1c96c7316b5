"""What is measured, as pure functions of arrays: no model, no annotator, nothing of the toy worlds.

Letters: T frames, H and W pixels. Videos are uint8 [T,H,W,3] RGB, masks bool [T,H,W], drawings uint8 [T,H,W] (dark on
white), flows float32 [T,H,W,2] in pixels. A score is a float, or None where it says nothing of this clip (no pixel to
compare, no motion in the truth).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST_PSNR = 60.0  # dB: where two clips are equal
LEAST_RISE = 0.02  # of a score between 0 and 1, that is no accident
LEAST_PIXELS = 16  # of a frame that say something of a correlation
INK = 128  # levels: what is darker is a line
LEAST_MOTION = 0.15  # pixels a frame, on average: below it a flow has no direction to compare


def psnr(made: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None) -> float | None:
    """Peak signal to noise, dB, at most MOST_PSNR; where: of these pixels alone."""
    error = made.astype(np.float32) - truth
    error = error if where is None else error[where]
    if not error.size:
        return None
    mean = float(np.mean(np.square(error), dtype=np.float64))
    return min(MOST_PSNR, 10 * np.log10(255**2 / mean)) if mean else MOST_PSNR


def blurred_error(made: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None, sigma: float = 1.5):
    """Mean absolute difference in levels after a blur of `sigma` pixels within the region: float or None.

    The blur leaves out what nobody could know (how the texture under a mask went on), not what stands there. What lies
    outside the region has no part in it.
    """
    import cv2

    where = np.ones(made.shape[:3], bool) if where is None else where
    if not where.any():
        return None
    total = 0.0
    for one, other, inside in zip(made, truth, where.astype(np.float32), strict=True):
        if inside.any():
            difference = cv2.GaussianBlur((one.astype(np.float32) - other) * inside[..., None], (0, 0), sigma)
            weight = cv2.GaussianBlur(inside, (0, 0), sigma)
            difference /= np.maximum(weight, 1e-3)[..., None]
            total += float(np.abs(difference[inside > 0]).mean(axis=-1).sum())
    return total / float(where.sum())


def correlation(made: np.ndarray, wanted: np.ndarray, where: np.ndarray | None = None) -> float | None:
    """Mean over the frames of Pearson's correlation of two float or uint8 [T,H,W]; where: of these pixels alone.

    Frames in which `wanted` is flat are left out; a flat frame of `made` correlates with nothing: 0.
    """
    found = []
    for t in range(len(wanted)):
        inside = np.s_[:] if where is None else where[t]
        one, other = (planes[t][inside].astype(np.float64) for planes in (made, wanted))
        if one.size < LEAST_PIXELS or other.std() <= 0.5:
            continue
        one, other = one - one.mean(), other - other.mean()
        spread = np.sqrt(np.square(one).mean()), np.sqrt(np.square(other).mean())
        found.append(float((one * other).mean() / (spread[0] * spread[1])) if spread[0] > 1e-3 else 0.0)
    return float(np.mean(found)) if found else None


def line_f1(made: np.ndarray, wanted: np.ndarray, reach: float = 1.5, where: np.ndarray | None = None) -> float | None:
    """F1 of the lines of two drawings, uint8 [T,H,W] dark on white; a line within `reach` pixels is met.

    Counted over the whole clip, or where bool [T,H,W] says. None where nothing was to be drawn; 0 where nothing was.
    """
    import cv2

    everywhere = np.True_ if where is None else where
    ink, asked = made < INK, wanted < INK
    if not (asked & everywhere).any():
        return None
    if not (ink & everywhere).any():
        return 0.0
    side = 2 * int(np.ceil(reach)) + 1
    places = np.indices((side, side)) - side // 2
    disk = (np.square(places).sum(axis=0) <= reach**2).astype(np.uint8)
    near_ink, near_asked = (
        np.stack([cv2.dilate(plane.astype(np.uint8), disk) for plane in planes]) > 0 for planes in (ink, asked)
    )
    ink, asked = ink & everywhere, asked & everywhere
    precision, recall = (ink & near_asked).sum() / ink.sum(), (asked & near_ink).sum() / asked.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def flow_agreement(made: np.ndarray, wanted: np.ndarray, where: np.ndarray | None = None) -> float | None:
    """Cosine between two flow fields, the mean over pairs of frames: 1 the same motion, 0 another, -1 the opposite.

    Free of scale, as the pictures of flow are: each of them shows its motion relative to its fastest pixel. where:
    bool [T,H,W], of these pixels alone. Frames in which nothing was to move are left out; where nothing moves and
    something should: 0.
    """
    found = []
    for t in range(len(wanted)):
        inside = np.s_[:] if where is None else where[t]
        one, other = (field[t][inside].astype(np.float64) for field in (made, wanted))
        if not other.size or np.linalg.norm(other, axis=-1).mean() < LEAST_MOTION:
            continue
        sizes = np.sqrt(np.square(one).sum()), np.sqrt(np.square(other).sum())
        found.append(float((one * other).sum() / (sizes[0] * sizes[1])) if sizes[0] > 1e-6 else 0.0)
    return float(np.mean(found)) if found else None


def flow_error(made: np.ndarray, wanted: np.ndarray) -> float:
    """Mean distance between the ends of two flow fields' vectors, in pixels a frame."""
    return float(np.linalg.norm(made - wanted, axis=-1).mean())


def mask_iou(made: np.ndarray | None, truth: np.ndarray) -> float | None:
    """Intersection over union of two masks, the mean over frames in which the truth shows something; None made: 0."""
    seen = truth.any(axis=(1, 2))
    if not seen.any():
        return None
    if made is None:
        return 0.0
    both, either = (made & truth).sum(axis=(1, 2)), (made | truth).sum(axis=(1, 2))
    return float((both[seen] / either[seen]).mean())


def box_iou(made: np.ndarray, truth: np.ndarray) -> float | None:
    """Intersection over union of boxes x1, y1, x2, y2, float [T,4], the mean over frames where the truth has one.

    Boxes count edges: x2 - x1 is the width; an empty box is all zeros.
    """
    low, high = np.maximum(made[:, :2], truth[:, :2]), np.minimum(made[:, 2:], truth[:, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=1)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1) for boxes in (made, truth)]
    seen = areas[1] > 0
    if not seen.any():
        return None
    return float((both[seen] / (areas[0] + areas[1] - both)[seen]).mean())


def seam(made: np.ndarray, truth: np.ndarray, kept: np.ndarray) -> float | None:
    """How much more two neighbours differ across the border of `kept` than they do in the truth, in levels; 0 at best.

    kept: bool [T,H,W]. None where the kept part has no border within the picture.
    """
    steps = []
    for video in (made, truth):
        video = video.astype(np.float32)
        across = [np.abs(np.diff(video, axis=axis)).mean(axis=-1)[np.diff(kept, axis=axis)] for axis in (1, 2)]
        steps.append(np.concatenate(across))
    return max(0.0, float(steps[0].mean() - steps[1].mean())) if steps[0].size else None


def jump(made: np.ndarray, truth: np.ndarray, kept: np.ndarray) -> float | None:
    """`seam` in time: between the last kept frame and the first made one, or the other way round.

    kept: bool [T], which frames are kept. None where all or none are.
    """
    at = np.flatnonzero(np.diff(kept))
    if not at.size:
        return None
    steps = [np.abs(np.diff(video.astype(np.float32), axis=0)[at]).mean() for video in (made, truth)]
    return max(0.0, float(steps[0] - steps[1]))


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error over rows; the error of one row alone is unknown: nan."""
    values = np.asarray(values, float)
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(values.mean()), error


def share(model: Sequence[float], baseline: Sequence[float], truth: Sequence[float], least: float = 1e-6):
    """How far the model is on the way from the baseline to the truth: 1 as good as the truth, 0 as the baseline.

    (mean of model - mean of baseline) / (mean of truth - mean of baseline), clamped to [-1, 1]: a ratio of means, so
    that one row whose baseline is near its truth cannot spoil it. least: by how much the truth must be better than the
    baseline for that to mean something; below 0 where less is better. float, or None without rows or such a truth.
    """
    if not len(model):
        return None
    means = [float(np.mean(values)) for values in (model, baseline, truth)]
    gap = means[2] - means[1]
    is_wide = gap >= least if least > 0 else gap <= least
    return float(np.clip((means[0] - means[1]) / gap, -1, 1)) if is_wide else None


def share_error(model: Sequence[float], baseline: Sequence[float], truth: Sequence[float], least: float = 1e-6):
    """The standard error of `share` by the jackknife over rows: float, nan for fewer than two."""
    rows = np.stack([np.asarray(values, float) for values in (model, baseline, truth)])
    count = rows.shape[1]
    if count < 2:
        return float("nan")
    left = [share(*np.delete(rows, n, axis=1), least) for n in range(count)]
    left = np.array([value for value in left if value is not None])
    return float(np.sqrt((count - 1) / count * np.square(left - left.mean()).sum())) if left.size > 1 else float("nan")


def is_rising(rows: np.ndarray) -> bool:
    """Whether a score rises with a setting: rows float [V,N], V settings in order, the same N rows at each.

    The last setting is better than the first, by LEAST_RISE and by two standard errors of their difference, and none is
    worse than the one before it by more than two of theirs.
    """
    rows = np.asarray(rows, float)
    if len(rows) < 2 or not rows.size:
        return False
    steps, whole = np.diff(rows, axis=0), rows[-1] - rows[0]
    return bool((steps.mean(axis=1) >= -_slack(steps)).all() and whole.mean() >= max(LEAST_RISE, _slack(whole)))


def _slack(differences: np.ndarray) -> np.ndarray:
    """Two standard errors of the mean over the last axis; 0 for one row alone."""
    count = differences.shape[-1]
    return 2 * differences.std(axis=-1, ddof=1) / np.sqrt(count) if count > 1 else np.zeros(differences.shape[:-1])
