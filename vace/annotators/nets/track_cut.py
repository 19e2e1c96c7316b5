"""One thing cut out of a picture: by GrabCut within a box or around points, and a generous mask drawn in to it."""

from __future__ import annotations

import numpy as np

from vace.annotators.boxes import Box

WORK = 256  # pixels of the longer side at which GrabCut works: it takes 0.1 s there
AROUND = 0.5  # of a box's side, on each side, that shows GrabCut what is not the thing
ROUNDS = 4
RIM = 0.04  # of the longer side: a drawn mask may be that much too wide
REACHES = (0.08, 0.15, 0.3)  # of the longer side, how far from its points a thing may reach
FILLED, CORE = 0.5, 0.35  # where the cut fills less of the box, that much of its sides is the thing for sure
LEAST, MOST = 0.03, 0.985  # share of the box that a believable cut covers


def cut_box(image: np.ndarray, box: Box) -> np.ndarray:
    """The thing inside `box` of RGB uint8 [H,W,3]: uint8 [H,W], 0 or 255.

    What lies around the box, and along the picture's edge, is taken for what is not the thing. Where that tells
    nothing apart, the ellipse in the box is the answer.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(value) for value in box)
    wide, high = (x2 - x1) * AROUND, (y2 - y1) * AROUND
    left, top = max(0, int(x1 - wide)), max(0, int(y1 - high))
    right, bottom = min(width, int(np.ceil(x2 + wide))), min(height, int(np.ceil(y2 + high)))
    inner = (x1 - left, y1 - top, x2 - left, y2 - top)
    found = _cut_in(image[top:bottom, left:right], inner)
    out = np.zeros((height, width), np.uint8)
    out[top:bottom, left:right] = found
    return out


def _cut_in(part: np.ndarray, box: Box, seeds: np.ndarray | None = None) -> np.ndarray:
    """As `cut_box`, for a picture that is all context. seeds: points [n,2] that are the thing for sure."""
    import cv2

    small, factor = _shrunk(part)
    height, width = small.shape[:2]
    x1, y1, x2, y2 = (int(round(value * factor)) for value in box)
    x1, y1 = min(x1, width - 2), min(y1, height - 2)
    x2, y2 = max(x1 + 1, min(x2, width)), max(y1 + 1, min(y2, height))
    labels = np.full((height, width), cv2.GC_BGD, np.uint8)
    labels[y1:y2, x1:x2] = cv2.GC_PR_FGD
    edge = max(1, min(height, width) // 40)
    if not (labels == cv2.GC_BGD).any():  # a box over everything: only the edge tells what is behind
        labels[:edge], labels[-edge:], labels[:, :edge], labels[:, -edge:] = (cv2.GC_BGD,) * 4
    inner = (x1, y1, x2, y2)
    if seeds is not None:
        labels[y1:y2, x1:x2] = cv2.GC_PR_BGD
        for x, y in np.rint((seeds + 0.5) * factor - 0.5).astype(int):
            cv2.circle(labels, (int(x), int(y)), max(2, (x2 - x1) // 6), cv2.GC_PR_FGD, -1)
            cv2.circle(labels, (int(x), int(y)), max(1, (x2 - x1) // 24), cv2.GC_FGD, -1)
        found = _one_thing(grabbed(small, labels), seeds * factor)
    else:
        found = _one_thing(grabbed(small, labels), None)
        if _filling(found, inner) < FILLED:
            labels[_ellipse(labels.shape, inner, CORE) > 0] = cv2.GC_FGD
            found = _one_thing(grabbed(small, labels), None)
    share = found.sum() / max(1, (x2 - x1) * (y2 - y1))
    if not LEAST < share < MOST:
        found = _ellipse(labels.shape, inner, 1.0)
    return _enlarged(found, part.shape)


def _ellipse(shape: tuple, box: Box, share: float) -> np.ndarray:
    """1 in the ellipse of `share` of the box's sides, in its middle."""
    import cv2

    x1, y1, x2, y2 = box
    out = np.zeros(shape, np.uint8)
    cv2.ellipse(out, (((x1 + x2 - 1) / 2, (y1 + y2 - 1) / 2), ((x2 - x1) * share, (y2 - y1) * share), 0), 1, -1)
    return out


def _filling(found: np.ndarray, box: Box) -> float:
    """Share of the box that the box around `found` takes: a box is drawn close around its thing."""
    import cv2

    _, _, width, height = cv2.boundingRect(found)
    return width * height / max(1, (box[2] - box[0]) * (box[3] - box[1]))


def edge_strength(image: np.ndarray) -> np.ndarray:
    """How much RGB uint8 [H,W,3] changes at each pixel, in any channel, float32 [H,W]."""
    import cv2

    soft = cv2.GaussianBlur(image, (0, 0), max(1.0, max(image.shape) / 500)).astype(np.float32)
    across, down = (cv2.Scharr(soft, -1, x, 1 - x, scale=1 / 32) for x in (1, 0))
    return np.sqrt((across**2 + down**2).max(axis=2))


def cut_points(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The thing that `points` (float [n,2], x and y) of RGB uint8 [H,W,3] lie on: uint8 [H,W], 0 or 255.

    Tried at several sizes; the one whose outline lies on the strongest edges is the answer.
    """
    height, width = image.shape[:2]
    edges = edge_strength(image)
    points = np.clip(np.asarray(points, np.float64).reshape(-1, 2), 0, (width - 1, height - 1))
    best, most = None, -1.0
    for reach in REACHES:
        reach = reach * max(height, width)
        low, high = np.maximum(points.min(0) - reach, 0), np.minimum(points.max(0) + reach + 1, (width, height))
        outer_low = np.maximum(low - 0.3 * reach, 0).astype(int)
        outer_high = np.minimum(np.ceil(high + 0.3 * reach), (width, height)).astype(int)
        window = slice(outer_low[1], outer_high[1]), slice(outer_low[0], outer_high[0])
        box = (*(low - outer_low), *(high - outer_low))
        found = np.zeros((height, width), np.uint8)
        found[window] = _cut_in(image[window], box, points - outer_low)
        worth = _outline_worth(found, edges, (*low, *high))
        if worth > most:
            best, most = found, worth
    return best


def _outline_worth(found: np.ndarray, edges: np.ndarray, box: Box) -> float:
    """Mean of `edges` along the outline, more for larger things; what runs along the box was cut off: it is worth 0."""
    import cv2

    y, x = np.nonzero(found - cv2.erode(found, np.ones((3, 3), np.uint8)))
    if not len(x):
        return 0.0
    x1, y1, x2, y2 = box
    near = (np.abs(x - x1) < 3) | (np.abs(x - x2 + 1) < 3) | (np.abs(y - y1) < 3) | (np.abs(y - y2 + 1) < 3)
    return float(np.where(near, 0, edges[y, x]).mean() * np.count_nonzero(found) ** 0.25)


def grabbed(image: np.ndarray, labels: np.ndarray, rounds: int = ROUNDS) -> np.ndarray:
    """GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004) from OpenCV's labels: uint8 [H,W], 1 on the thing."""
    import cv2

    is_sure = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if not is_sure.any() or is_sure.all():
        return is_sure.astype(np.uint8)
    labels = labels.copy()
    cv2.setRNGSeed(0)  # its clusters start from OpenCV's own random numbers
    back, front = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(image), labels, None, back, front, rounds, cv2.GC_INIT_WITH_MASK)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)


def _one_thing(found: np.ndarray, seeds: np.ndarray | None) -> np.ndarray:
    """The parts of `found` (0 or 1) that hold a seed, or else those of at least a fifth of the largest; no holes."""
    import cv2

    kernel = np.ones((3, 3), np.uint8)
    opened = cv2.morphologyEx(found, cv2.MORPH_OPEN, kernel)
    found = opened if opened.any() else found
    count, names, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=4)
    if count < 2:
        return found
    area = stats[1:, cv2.CC_STAT_AREA]
    kept = {index + 1 for index in np.nonzero(area >= 0.2 * area.max())[0]}
    if seeds is not None:
        height, width = found.shape
        x, y = np.clip(np.rint(seeds), 0, (width - 1, height - 1)).astype(int).T
        kept = (set(names[y, x].tolist()) - {0}) or kept
    found = np.isin(names, list(kept)).astype(np.uint8)
    outlines, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    holes = cv2.drawContours(np.zeros_like(found), outlines, -1, 1, -1) - found
    count, names, stats, _ = cv2.connectedComponentsWithStats(holes, connectivity=4)
    small = np.nonzero(stats[:, cv2.CC_STAT_AREA] < 0.02 * found.sum())[0]
    return found | np.isin(names, small[small > 0]).astype(np.uint8)


def tightened(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, int]:
    """A mask drawn with a rim around the thing, drawn in to the thing, and how wide the rim was, in pixels.

    mask: uint8 [H,W], 0 or 255. A mask that already lies on edges comes back as it is, with 0.
    """
    import cv2

    small, factor = _shrunk(image, 2 * WORK)
    whole = cv2.resize(mask, small.shape[1::-1], interpolation=cv2.INTER_AREA) > 127
    rim = max(3, round(RIM * max(small.shape)))
    framed = cv2.copyMakeBorder(whole.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1]
    if depth.max() < 1.5 * rim or whole.all():
        return mask, 0
    labels = np.where(whole, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    labels[depth > rim] = cv2.GC_FGD
    labels[(depth > 0) & (depth < 0.5 * rim)] = cv2.GC_PR_BGD
    y, x = np.nonzero(cv2.dilate(whole.astype(np.uint8), np.ones((4 * rim + 1,) * 2, np.uint8)))
    window = slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)
    tight = np.zeros_like(labels)
    tight[window] = grabbed(small[window], labels[window], 3)
    tight = cv2.morphologyEx(tight, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    width = _rim_width(small, whole.astype(np.uint8), tight)
    if not width:
        return mask, 0
    return _enlarged(tight, mask.shape) & mask, max(1, round(width / factor))


def _rim_width(image: np.ndarray, whole: np.ndarray, tight: np.ndarray) -> float:
    """How far `tight` lies within `whole`, where it does so all around and on stronger edges; else 0."""
    import cv2

    if not tight.any():
        return 0.0
    away = cv2.distanceTransform(1 - tight, cv2.DIST_L2, 5)
    outlines = [one - cv2.erode(one, np.ones((3, 3), np.uint8), borderValue=1) for one in (whole, tight)]
    rim = away[outlines[0] > 0]
    low, width, high = np.quantile(rim, (0.15, 0.5, 0.85))
    edges = edge_strength(image)
    drawn, found = (float(edges[outline > 0].mean()) for outline in outlines)
    is_even = width >= 2 and low >= 0.4 * width and high <= 2.2 * width
    return float(width) if is_even and found > 1.3 * drawn else 0.0


def _shrunk(image: np.ndarray, most: int = WORK) -> tuple[np.ndarray, float]:
    import cv2

    factor = min(1.0, most / max(image.shape[:2]))
    if factor == 1:
        return image, 1.0
    size = tuple(max(2, round(side * factor)) for side in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), factor


def _enlarged(found: np.ndarray, shape: tuple) -> np.ndarray:
    """`found` (0 or 1) at the size of `shape`, as 0 or 255."""
    import cv2

    large = cv2.resize(found.astype(np.float32), shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.where(large > 0.5, np.uint8(255), np.uint8(0))
