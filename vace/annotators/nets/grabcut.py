"""Edges by colour, found on small copies of pictures.

GrabCut (Rother et al. 2004, doi:10.1145/1015706.1015720) is told roughly where a thing is, by a matte or a box, and
cuts between the colours in and out of it. The guided filter (He et al. 2013, doi:10.1109/TPAMI.2012.213) only moves a
matte that is nearly right onto the picture's edges, and so cannot lose dark hair before a dark wall.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIDE = 512  # pixels of the longer side that edges are searched at
STEPS = 4  # rounds of learning colours and cutting
SURE, ABSENT = 235, 20  # of a matte: what lies above is the thing, what lies below is not
SLACK = 0.03  # of the thing's own size: how far a matte may be wrong even where it is sure
SPECK = 0.08  # of the largest part's area: smaller parts are dropped
HOLE = 0.01  # of the thing's area: smaller holes are filled
REACH, EPSILON = 6, 1e-4  # of the guided filter: pixels, and the variance of colours in 0..1 that makes an edge
FADE = 26  # of 255: what a guided matte is fainter than is nothing, and as near to white is white
SEED = 1  # GrabCut's clustering draws from OpenCV's global generator: set before each call, so that results repeat


def refine(
    image: np.ndarray, matte: np.ndarray, *, slack: float = SLACK, side: int = SIDE, steps: int = STEPS
) -> np.ndarray:
    """The thing that `matte` (uint8 [H,W]) roughly shows in `image` (RGB uint8 [H,W,3]), cut out: uint8 [H,W], 0..255.

    The result is 0 or 255 but for a pixel or two along the edge. Where the matte is sure, more than `slack` of the
    thing's size inside or outside of its edge, it stays as it is. All 0 for an empty matte.
    """
    small, guess = shrunk(image, side), _resized(matte, shrunk_size(image, side))
    likely = guess > 127
    if not likely.any() or likely.all():
        return np.where(_resized(guess, matte.shape) > 127, np.uint8(255), np.uint8(0))
    reach = max(1, round(slack * float(likely.sum()) ** 0.5))
    surest = guess >= min(SURE, int(guess.max()))
    inside, outside = eroded(surest, reach), eroded(guess <= max(ABSENT, int(guess.min())), reach)
    if not inside.any():  # a thin thing: nothing of it lies deep
        inside = surest
    return enlarged(cut(small, inside, outside, likely, steps), matte.shape)


def from_box(image: np.ndarray, box: Sequence[float], *, side: int = SIDE, steps: int = STEPS) -> np.ndarray:
    """The thing in `box` (x1, y1, x2, y2 in pixels of `image`, RGB uint8 [H,W,3]), cut out: uint8 [H,W], 0..255.

    What lies outside the box is not the thing; within, its middle is taken for more likely than its corners. Where no
    edge is found the box's inscribed ellipse is the answer.
    """
    height, width = shrunk_size(image, side)
    scale = np.array([width, height, width, height]) / np.array([image.shape[1], image.shape[0]] * 2)
    x1, y1, x2, y2 = (np.asarray(box, np.float64) * scale).tolist()
    y, x = np.mgrid[:height, :width] + 0.5
    within = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    middle = np.hypot((x - (x1 + x2) / 2) / max(x2 - x1, 1), (y - (y1 + y2) / 2) / max(y2 - y1, 1))
    likely, inside = within & (middle <= 0.5), within & (middle <= 0.1)
    if not likely.any():
        likely = inside = within
    found = cut(shrunk(image, side), inside, ~within, likely, steps)
    if found.sum() < 0.1 * likely.sum():
        found = likely
    return enlarged(found, image.shape[:2])


def cut(
    image: np.ndarray, inside: np.ndarray, outside: np.ndarray, likely: np.ndarray, steps: int = STEPS
) -> np.ndarray:
    """GrabCut of `image` (RGB uint8 [h,w,3]): bool [h,w]. inside, outside: bool, surely so; likely: the guess between.

    Where there is nothing to learn colours from, on one side or the other, the guess is the answer.
    """
    import cv2

    labels = np.where(likely, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_PR_BGD))
    labels[outside] = cv2.GC_BGD
    labels[inside] = cv2.GC_FGD
    is_thing = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    if not is_thing.any() or is_thing.all() or not ((labels == cv2.GC_PR_FGD) | (labels == cv2.GC_PR_BGD)).any():
        return is_thing
    cv2.setRNGSeed(SEED)
    cv2.grabCut(image, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), steps, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def guided(image: np.ndarray, matte: np.ndarray, *, side: int = SIDE) -> np.ndarray:
    """`matte` (uint8 [H,W]) moved onto the edges of `image` (RGB uint8 [H,W,3]) that lie near its own: uint8 [H,W]."""
    import cv2

    colours = shrunk(image, side).astype(np.float32) / 255
    values = _resized(matte, colours.shape[:2]).astype(np.float32) / 255

    def mean(array: np.ndarray) -> np.ndarray:
        return cv2.blur(array, (2 * REACH + 1, 2 * REACH + 1))

    mean_colours, mean_values = mean(colours), mean(values)
    # In each window the matte is a linear function of the colours; of all windows' functions a pixel takes the mean.
    products = (colours[..., :, None] * colours[..., None, :]).reshape(*values.shape, 9)
    spread = np.concatenate([mean(products[..., i : i + 3]) for i in (0, 3, 6)], axis=-1).reshape(*values.shape, 3, 3)
    spread += EPSILON * np.eye(3, dtype=np.float32) - mean_colours[..., :, None] * mean_colours[..., None, :]
    joint = mean(colours * values[..., None]) - mean_colours * mean_values[..., None]
    slopes = np.linalg.solve(spread, joint[..., None])[..., 0]
    offsets = mean_values - (slopes * mean_colours).sum(axis=-1)
    slopes, offsets = (_resized(mean(part), image.shape[:2]) for part in (slopes, offsets))
    found = ((slopes * image).sum(axis=-1) / 255 + offsets) * 255
    return np.clip((found - FADE) * (255 / (255 - 2 * FADE)), 0, 255).astype(np.uint8)


def cleaned(mask: np.ndarray, speck: float = SPECK, hole: float = HOLE) -> np.ndarray:
    """`mask` (bool [h,w]) without specks and small holes, by their share of the largest part, and of the whole."""
    import cv2

    if not mask.any():
        return mask
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = areas >= speck * areas[1:].max()
    kept[0] = False
    mask = kept[parts]
    count, parts, stats, _ = cv2.connectedComponentsWithStats((~mask).view(np.uint8), connectivity=4)
    filled = stats[:, cv2.CC_STAT_AREA] < hole * mask.sum()
    filled[0] = False  # the thing itself
    return mask | filled[parts]


def eroded(mask: np.ndarray, reach: int) -> np.ndarray:
    """What of `mask` (bool [h,w]) lies at least `reach` pixels from its outside; the picture's edge is no outside."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.erode(mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1).view(bool)


def shrunk_size(image: np.ndarray, side: int) -> tuple[int, int]:
    """Height and width of `image` at which its longer side has at most `side` pixels."""
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """`image` at `shrunk_size`, by area."""
    return _resized(np.ascontiguousarray(image), shrunk_size(image, side))


def _resized(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    if array.shape[:2] == tuple(size):
        return array
    flag = cv2.INTER_AREA if size[0] < array.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(array, (size[1], size[0]), interpolation=flag)


def enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool [h,w] -> uint8 of `size`, 0..255, the stairs of its edge rounded off where it is enlarged."""
    import cv2

    found = np.where(mask, np.uint8(255), np.uint8(0))
    if mask.shape == tuple(size):
        return found
    factor = size[0] / mask.shape[0]
    smooth = cv2.GaussianBlur(cv2.resize(found, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), (0, 0), factor)
    # Back to a narrow ramp: beyond it the background would shine through.
    return np.clip((smooth.astype(np.float32) - 127.5) * factor + 127.5, 0, 255).astype(np.uint8)
