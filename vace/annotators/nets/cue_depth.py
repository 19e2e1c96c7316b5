"""Depth without a network: an approximate inverse depth from what usually goes with nearness.

Place (the ground rises towards the horizon, things stand upright on it), colours that the picture's edges do not have,
contrast (what is out of focus is far), haze, and motion against the background. The frames of a clip agree: the last
map moves along with what is seen, and colours and range change slowly. On pictures of known depth it orders pixels only
a little better than their rows do: good enough to try a task out, not to build on.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

LONGEST = 256  # side of the pictures that are looked at
BINS = 12  # of each of three colour axes
ROUNDS = 3  # in which a first frame's colours are sorted into near and far
KEPT = 0.88  # of the last frame's map, where it fits
SLOW = 0.92  # share of the old in colours and range, from one frame to the next
LEARNT = 4  # every so many frames the colours are sorted anew
CUT = 0.1  # mean difference of brightness, after motion, from which on it is another scene
STILL = 0.8  # pixels of motion, below which it says ever less
REACH = 60.0  # steps from the picture's foot to its head, at each of which what is not upright gives way to its row
OUTER = 0.3  # how much the outer thirds count as the picture's edges
SMALLEST = 32  # side that the flow needs
FADE, FADE_FAST = 0.98, 0.7  # share left of what has moved, from one frame to the next: all still, others moving
STANDING, SUBJECT, MOVING, CONTRAST, CLEAR = 0.42, 0.2, 0.24, 0.07, 0.07  # what a map is made of


@dataclass
class _Memory:
    """Of the clip so far: last brightness, map and movers, colours near and far, range of maps, extent of motion."""

    gray: np.ndarray
    map: np.ndarray
    moving: np.ndarray
    near: np.ndarray
    far: np.ndarray
    low: float
    high: float
    moved: float | None
    count: int = 1


@dataclass(frozen=True)
class _Back:
    """A look back: flow to the last frame, its map and movers moved along, how far the map is trusted, 0..1."""

    flow: np.ndarray
    map: np.ndarray
    moving: np.ndarray
    trust: np.ndarray


class CueDepth:
    """Approximate inverse depth: networks "depth" and "depthv2" (see vace.annotators.nets).

    It remembers the clip whose chunks it is given one after the other, until the scene or the size changes.
    """

    limits = (0.0, 1.0)  # it stretches by itself, slowly: stretched frame by frame the scale would flicker

    def __init__(self) -> None:
        self._memory: _Memory | None = None
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def fresh(self) -> CueDepth:
        """One that remembers nothing: for another clip, or a picture."""
        return CueDepth()

    def depths(self, frames: np.ndarray) -> np.ndarray:
        """RGB uint8 [t,H,W,3] -> float32 [t,H,W] in 0..1, 1 = nearest, edges along those of the frames."""
        smalls = [_small(frame) for frame in frames]
        grays = [cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) for small in smalls]
        out = np.empty(frames.shape[:3], np.float32)
        for index, frame in enumerate(frames):
            following = grays[index + 1] if index + 1 < len(frames) else None
            out[index] = _refined(self._coarse(smalls[index], grays[index], following), grays[index], frame)
        return out

    def _coarse(self, small: np.ndarray, gray: np.ndarray, following: np.ndarray | None) -> np.ndarray:
        """The map of one small frame, 0..1; `following` tells the motion in a clip's first frame."""
        ids = _colour_ids(cv2.cvtColor(small, cv2.COLOR_RGB2LAB))
        back = None if self._memory is None else self._look_back(gray, self._memory)
        memory = self._renewed(ids, gray, back) if back else self._first(ids, gray, following)
        subject = _subject(ids, gray, memory.near, memory.far)
        made = _combined(small, gray, subject, memory.moving)
        low, high = (float(value) for value in np.percentile(made[::2, ::2], (1, 99)))
        if back:
            made = made + back.trust * (back.map - made)
            low, high = _slowly(memory.low, low), _slowly(memory.high, high)
        memory.map, memory.low, memory.high = made, low, high
        self._memory = memory
        return np.clip((made - low) / max(high - low, 1e-3), 0, 1)

    def _first(self, ids: np.ndarray, gray: np.ndarray, following: np.ndarray | None) -> _Memory:
        extent, moving = None, np.zeros(gray.shape, np.float32)
        if following is not None:
            extent, moving = _motion(self._motion_between(gray, following), gray, None)
        near, far = _sorted_colours(ids, gray, moving)
        return _Memory(gray, np.zeros_like(moving), moving, near, far, 0.0, 1.0, extent)

    def _renewed(self, ids: np.ndarray, gray: np.ndarray, back: _Back) -> _Memory:
        last = self._memory
        extent, now = _motion(back.flow, gray, last.moved)
        # Who stands while others move is background; where all stand still, the last mover is still who it was.
        kept = np.float32(FADE - (FADE - FADE_FAST) * min(1.0, float(now.max())))
        moving = np.where(now > back.moving, back.moving + 0.3 * (now - back.moving), kept * back.moving)
        colours = last.near, last.far
        if last.count % LEARNT == 0:
            seen = _sorted_colours(ids, gray, moving)
            colours = (_slowly(old, new, SLOW**LEARNT) for old, new in zip(colours, seen, strict=True))
        return _Memory(gray, last.map, moving, *colours, last.low, last.high, extent, last.count + 1)

    def _motion_between(self, gray: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.nan_to_num(self._flow.calc(gray, other, None), posinf=0, neginf=0)

    def _look_back(self, gray: np.ndarray, last: _Memory) -> _Back | None:
        """The last frame, moved along to this one; None where it was another scene or size."""
        if last.gray.shape != gray.shape:
            return None
        flow = self._motion_between(gray, last.gray)
        x, y = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in gray.shape[::-1]))
        at = x + flow[..., 0], y + flow[..., 1]
        before, earlier, moving = (
            cv2.remap(image, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for image in (last.gray, last.map, last.moving)
        )
        difference = cv2.absdiff(before, gray).astype(np.float32) / 255
        if difference.mean() > CUT:
            return None
        return _Back(flow, earlier, moving, KEPT * np.exp(-8 * cv2.blur(difference, (3, 3))))


def _small(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = max(SMALLEST, round(width * scale)), max(SMALLEST, round(height * scale))
    return cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA)


def _slowly(old, new, share: float = SLOW):
    return share * old + (1 - share) * new


@functools.lru_cache(maxsize=8)
def _places(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights float32 [height,width]: the row (0 top, 1 bottom), the picture's edges but the lower, its middle."""
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
    x = ((np.arange(width, dtype=np.float32) + 0.5) / width)[None]
    from_edge = np.minimum(np.minimum(x, 1 - x), y)
    edges = np.clip(1 - from_edge / 0.1, 0, 1) * np.clip((1.1 - y) / 0.4, 0, 1)
    edges = np.maximum(edges, OUTER * np.clip(np.abs(x - 0.5) / 0.25 - 0.6, 0, 1))
    middle = np.exp(-(((x - 0.5) / 0.2) ** 2 + ((y - 0.6) / 0.3) ** 2) / 2)
    return np.broadcast_to(y, (height, width)), edges, middle


def _colour_ids(lab: np.ndarray) -> np.ndarray:
    """The bin of every pixel, int32 [h,w]; a and b of Lab are cut to the range that pictures use."""
    lightness = lab[..., 0].astype(np.int32) * BINS // 256
    a, b = (np.clip((lab[..., axis].astype(np.int32) - 68) // 10, 0, BINS - 1) for axis in (1, 2))
    return (lightness * BINS + a) * BINS + b


def _histograms(ids: np.ndarray, subject: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often colours are near and far, given how much each pixel is subject (float32 [h,w], 0..1)."""
    _, edges, middle = _places(*ids.shape)
    weights = subject * (0.15 + middle), (1 - subject) * (0.1 + edges) + edges
    return tuple(_histogram(ids, weight) for weight in weights)


def _histogram(ids: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Shares of the bins, smoothed to their neighbours so that no pixel hangs on the border of one."""
    counts = np.bincount(ids.ravel(), weight.ravel(), BINS**3).astype(np.float32).reshape(BINS, BINS * BINS)
    kernel = np.float32([[1, 2, 1]]) / 4
    for _ in range(3):  # one axis after the other, turned to the front
        counts = cv2.filter2D(counts, -1, kernel.T, borderType=cv2.BORDER_CONSTANT)
        counts = np.ascontiguousarray(counts.reshape(BINS, BINS, BINS).transpose(1, 2, 0)).reshape(BINS, BINS * BINS)
    return (counts / max(float(counts.sum()), 1e-6)).ravel()


def _likely_near(ids: np.ndarray, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    return (near / (near + far + 1e-5))[ids]


def _sorted_colours(ids: np.ndarray, gray: np.ndarray, moving: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours near and far of one frame: those of its middle against those of its edges, then of what they mark.

    What moves is near. Every frame is sorted by itself: marks made with earlier ones would creep over the picture.
    """
    _, edges, middle = _places(*ids.shape)
    near, far = _histogram(ids, middle + moving), _histogram(ids, edges)
    for _ in range(ROUNDS - 1):
        near, far = _histograms(ids, np.maximum(_marked(ids, gray, near, far), moving))
    return near, far


def _marked(ids: np.ndarray, gray: np.ndarray, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    likely = _guided(gray.astype(np.float32) / 255, _likely_near(ids, near, far), 5, 0.003)
    return np.clip((likely - 0.5) * 2.5 + 0.5, 0, 1)


def _subject(ids: np.ndarray, gray: np.ndarray, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """How much a pixel is subject, float32 [h,w] in 0..1: by its colour, by lying within or between such colours.

    A face has the colours of many backgrounds, but hair above it and clothes below.
    """
    marked = _marked(ids, gray, near, far)
    closed = cv2.morphologyEx(marked, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    outside = cv2.copyMakeBorder((closed > 0.6).astype(np.uint8), 1, 0, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(outside, None, (0, 0), 2)
    enclosed = (outside[1:, 1:-1] != 2).astype(np.float32)
    tall = np.ones((max(3, len(gray) // 5), 1), np.uint8)
    between = cv2.morphologyEx(cv2.erode(closed, np.ones((3, 3), np.uint8)), cv2.MORPH_CLOSE, tall)
    found = np.maximum.reduce([marked, 0.6 * enclosed, 0.7 * between]) * (1 - 0.85 * _backdrop(gray))
    return cv2.blur(found, (5, 5))


def _backdrop(gray: np.ndarray) -> np.ndarray:
    """Sky and walls, float32 [h,w] in 0..1: what is reached from the upper edge straight down without any edge."""
    smooth = cv2.blur(gray, (5, 5)).astype(np.float32) / 255
    slopes = (cv2.Sobel(smooth, -1, along, 1 - along, scale=1 / 8) for along in (0, 1))
    steps = np.maximum(*(np.abs(slope) for slope in slopes))
    crossed = np.cumsum(np.maximum(steps - 0.012, 0), axis=0)
    return cv2.blur(np.exp(-crossed / 0.08), (7, 3))


def _motion(flow: np.ndarray, gray: np.ndarray, moved: float | None) -> tuple[float, np.ndarray]:
    """Extent of motion against the background in pixels, renewed slowly, and how much every pixel has of it, 0..1."""
    length = cv2.magnitude(*cv2.split(flow - _background(flow)))
    unsteady = np.median(length[_places(*gray.shape)[1] > 0.5])  # noise moves the background too
    length = np.maximum(length - 2 * unsteady, 0)
    extent = float(np.percentile(length[::2, ::2], 95))
    extent = extent if moved is None else _slowly(moved, extent)
    moving = np.clip(length / (extent + 0.3), 0, 1) * np.float32(min(1.0, extent / STILL) ** 2)
    return extent, np.clip(_guided(gray.astype(np.float32) / 255, moving, 4, 0.002), 0, 1)


def _background(flow: np.ndarray) -> np.ndarray:
    """The affine motion of the picture's edges, float32 [h,w,2], fitted again with less weight for what strays."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    basis = np.stack([x / width - 0.5, y / height - 0.5, np.ones_like(x)], axis=-1)
    step = slice(None, None, 4)
    points, moves = basis[step, step].reshape(-1, 3), flow[step, step].reshape(-1, 2)
    weight = _places(height, width)[1][step, step].reshape(-1, 1)
    strays = np.ones_like(weight)
    for _ in range(3):
        weighted = points * weight * strays
        fit = np.linalg.solve(weighted.T @ points + 1e-3 * np.eye(3, dtype=np.float32), weighted.T @ moves)
        strays = 1 / (1 + np.sum((moves - points @ fit) ** 2, axis=1, keepdims=True))
    return basis @ fit


def _combined(small: np.ndarray, gray: np.ndarray, subject: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Inverse depth, float32 [h,w], from all cues."""
    contrast = _contrast(gray.astype(np.float32) / 255)
    darkest = cv2.min(cv2.min(small[..., 0], small[..., 1]), small[..., 2])  # haze leaves no channel dark
    clear = 1 - cv2.blur(cv2.erode(darkest, np.ones((5, 5), np.uint8)), (7, 7)).astype(np.float32) / 255
    upright = np.minimum(np.maximum.reduce([subject, moving, 0.6 * contrast]), 0.99)
    total = STANDING * _standing(upright) + SUBJECT * subject + MOVING * moving + CONTRAST * contrast + CLEAR * clear
    levels = (np.clip(total, 0, 1) * 255).astype(np.uint8)
    return cv2.blur(cv2.medianBlur(levels, 7).astype(np.float32) / 255, (3, 3))


def _contrast(gray: np.ndarray) -> np.ndarray:
    """Strength of fine detail around a pixel, float32 [h,w] in 0..1: defocus leaves none."""
    detail = cv2.dilate(np.abs(gray - cv2.GaussianBlur(gray, (0, 0), 1.2)), np.ones((5, 5), np.uint8))
    spread = cv2.blur(cv2.blur(detail, (11, 11)), (11, 11))
    return np.clip(spread / (np.percentile(spread[::2, ::2], 95) + 0.02), 0, 1)


def _standing(upright: np.ndarray) -> np.ndarray:
    """The row where what is seen meets the ground: from below, a pixel takes its row, or that below where upright.

    After Hoiem et al., Automatic Photo Pop-up (2005): ground recedes with height, things stand on it.
    """
    height = len(upright)
    rows, _, _ = _places(*upright.shape)
    carry = cv2.blur(upright, (7, 5)) ** (REACH / height)
    out = np.empty_like(upright)
    below = np.ones(upright.shape[1], np.float32)
    for row in range(height - 1, -1, -1):
        below = out[row] = carry[row] * below + (1 - carry[row]) * rows[row]
    return cv2.blur(out, (5, 3))


def _linear(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Slope and offset by which `values` follow `guide` locally (guided filter, He et al., 2010)."""
    window = (2 * radius + 1, 2 * radius + 1)
    mean, value = cv2.blur(guide, window), cv2.blur(values, window)
    variance = cv2.blur(guide * guide, window) - mean * mean
    slope = (cv2.blur(guide * values, window) - mean * value) / (variance + epsilon)
    return cv2.blur(slope, window), cv2.blur(value - slope * mean, window)


def _guided(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    slope, offset = _linear(guide, values, radius, epsilon)
    return slope * guide + offset


def _refined(coarse: np.ndarray, gray: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """A small map at the frame's size, its edges where the frame's are."""
    size = frame.shape[1::-1]
    slope, offset = _linear(gray.astype(np.float32) / 255, coarse, 5, 0.01)
    guide = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    return np.clip(cv2.resize(slope, size) * guide + cv2.resize(offset, size), 0, 1)
