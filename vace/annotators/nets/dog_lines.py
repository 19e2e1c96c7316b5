"""Line drawings without a network (network "scribble", embedded): ridges of differences of Gaussians, drawn thin.

What is dark beside something brighter answers to a difference of Gaussians (Winnemoeller et al., "XDoG", 2012), and
smoothing that answer along the best of eight directions joins it into lines (as in Kang et al., "Coherent Line
Drawing", 2007). Lines among many of their like (grass, hair, wood) are held back by those around them (Grigorescu et
al., "Contour detection based on nonclassical receptive field inhibition", 2003). Every threshold is a ramp, and none
depends on the frame as a whole, so lines of a moving picture fade in and out and do not flash.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

SHORT_SIDE = 480  # pixels: larger frames are drawn at this size, so that lines keep their weight on the picture
LEAST = 16  # pixels a side: smaller frames are drawn with their last row and column repeated
LENGTH, REACH = 2.8, 6  # of the smoothing along a line: sigma and half length, pixels
RIVALS = 12  # pixels around, twice, over which lines hold each other back
SHORTEST = 16  # pixels at half size: shorter lines are left out, those of twice the length are drawn whole
EDGE = 3  # pixels along the frame's edges without ink: shading that ends there looks like a line
FAINT = 30  # of 255: from here on ink counts as a line


@dataclass(frozen=True)
class Layer:
    """How one kind of answer becomes ink.

    sigma: of the inner Gaussian, pixels at the layer's size; the outer one is 1.6 times as wide. floor, ramp: where ink
    begins, and how much more makes it black. rivals: how strongly lines around hold back. side: pixels to either side
    that an answer is measured against. thin: the share of the stronger of those two at which ink begins, and is whole.
    """

    sigma: float
    floor: float
    ramp: float
    rivals: float
    side: int
    thin: tuple[float, float]


FINE = Layer(1.25, 0.0022, 0.003, 1.8, 2, (0.5, 0.95))
COARSE = Layer(1.1, 0.004, 0.004, 1.8, 1, (0.75, 1.0))  # at half size: soft edges
COLOR = Layer(1.1, 0.012, 0.01, 1.8, 1, (0.75, 1.0))  # at half size: edges between equally bright colours


class DogLines:
    """Thin dark lines on white, each frame for itself."""

    def lines(self, frames: np.ndarray) -> np.ndarray:
        """RGB uint8 [t,H,W,3] -> the drawing, 0 black to 255 white, uint8 [t,H,W]."""
        return np.stack([drawing(frame) for frame in frames])


def drawing(frame: np.ndarray) -> np.ndarray:
    """RGB uint8 [H,W,3] -> its lines, dark on white, uint8 [H,W]."""
    import cv2

    height, width = frame.shape[:2]
    scale = min(1.0, SHORT_SIDE / min(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    below, beside = (max(0, LEAST - side) for side in frame.shape[:2])
    whole = cv2.copyMakeBorder(np.ascontiguousarray(frame), 0, below, 0, beside, cv2.BORDER_REPLICATE)
    ink = np.ascontiguousarray(_long(_ink(whole))[: frame.shape[0], : frame.shape[1]])
    if scale < 1:
        ink = cv2.resize(ink, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.bitwise_not(ink)


def _ink(frame: np.ndarray) -> np.ndarray:
    """RGB uint8 [H,W,3] -> lines, uint8 [H,W], 255 black: fine ones; where there are none, coarse ones and colour."""
    import cv2

    height, width = frame.shape[:2]
    small = cv2.resize(frame, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    light = cv2.LUT(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), _logarithm(0.06))
    fine = _lines(_dark_side(light, FINE.sigma), FINE)
    light = cv2.LUT(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), _logarithm(0.06))
    coarse = _lines(_dark_side(light, COARSE.sigma), COARSE)
    red, green, blue = cv2.split(cv2.LUT(small, _logarithm(0.12)))  # dark colours are mostly noise: a higher floor
    hue = cv2.max(_dark_side(red - green, COLOR.sigma), _dark_side(red - blue, COLOR.sigma))
    seen = cv2.max(coarse, cv2.resize(fine, small.shape[1::-1], interpolation=cv2.INTER_AREA))
    coarse = cv2.max(coarse, _without(_lines(hue, COLOR), seen, 7))
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.max(fine, _without(coarse, fine, 7))


def _dark_side(values: np.ndarray, sigma: float) -> np.ndarray:
    """float32 [H,W] -> how much darker each place is than what is around it, in the same units."""
    import cv2

    inner, outer = (cv2.GaussianBlur(values, (size, size), wide) for size, wide in ((7, sigma), (11, 1.6 * sigma)))
    return cv2.subtract(outer, inner, dst=outer)


def _lines(dark: np.ndarray, layer: Layer) -> np.ndarray:
    """What `_dark_side` gave -> ink, uint8 [H,W]: along lines, across them only where it is strongest."""
    import cv2

    ways = [_strongest(dark, kernels) for kernels in _strokes()]
    best = cv2.max(functools.reduce(cv2.max, ways), 0)
    beside = np.ones_like(best)
    for way, ends in zip(ways, _across(layer.side), strict=True):
        cv2.copyTo(cv2.dilate(best, ends), cv2.compare(way, best, cv2.CMP_GE), beside)
    low, high = layer.thin
    share = cv2.divide(best, cv2.max(beside, 1e-6))
    thin = _levels(share, 1 / (high - low), share, 0, -low / (high - low))
    ink = _levels(best, 1 / layer.ramp, _around(best), -layer.rivals / layer.ramp, -layer.floor / layer.ramp)
    ink = cv2.multiply(ink, thin, scale=1 / 255)
    return cv2.rectangle(ink, (0, 0), (ink.shape[1] - 1, ink.shape[0] - 1), 0, 2 * EDGE - 1)


def _strongest(values: np.ndarray, kernels: tuple[np.ndarray, ...]) -> np.ndarray:
    """The largest of the answers that the kernels give, at each place."""
    import cv2

    out = None
    for kernel in kernels:
        answer = cv2.filter2D(values, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        out = answer if out is None else cv2.max(out, answer, dst=out)
    return out


def _levels(a: np.ndarray, times_a: float, b: np.ndarray, times_b: float, plus: float) -> np.ndarray:
    """a * times_a + b * times_b + plus, 0..1 to 0..255, what lies beyond cut off: uint8."""
    import cv2

    return cv2.addWeighted(a, 255 * times_a, b, 255 * times_b, 255 * plus, dtype=cv2.CV_8U)


def _around(answer: np.ndarray) -> np.ndarray:
    """The mean answer in the neighbourhood, float32 [H,W]; worked out at a quarter of the size, where it is smooth."""
    import cv2

    height, width = answer.shape
    small = cv2.resize(answer, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    side = RIVALS // 2 + 1
    small = cv2.blur(cv2.blur(small, (side, side)), (side, side))
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _without(ink: np.ndarray, other: np.ndarray, reach: int) -> np.ndarray:
    """`ink` where no ink of `other` is within `reach` // 2 pixels: else one edge would be drawn twice."""
    import cv2

    near = cv2.dilate(other, np.ones((reach, reach), np.uint8))
    return cv2.multiply(ink, cv2.bitwise_not(near), scale=1 / 255)


def _long(ink: np.ndarray) -> np.ndarray:
    """`ink` without connected parts shorter than SHORTEST, counted at half size, where a line is one pixel wide."""
    import cv2

    height, width = ink.shape
    small = cv2.resize(ink, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    marks = cv2.threshold(small, FAINT, 255, cv2.THRESH_BINARY)[1]
    _, part, facts, _ = cv2.connectedComponentsWithStats(marks, connectivity=8)
    share = np.clip(facts[:, cv2.CC_STAT_AREA] / SHORTEST - 1, 0, 1) * 255
    share[0] = 0  # the ground
    keep = cv2.dilate(share.astype(np.uint8)[part], np.ones((3, 3), np.uint8))
    return cv2.multiply(ink, cv2.resize(keep, (width, height), interpolation=cv2.INTER_LINEAR), scale=1 / 255)


@functools.cache
def _logarithm(floor: float) -> np.ndarray:
    """For each level the logarithm of its light plus `floor`, stretched to 0..1: contrast counts as the eye sees it."""
    light = np.log(np.arange(256) / 255 + floor)
    return ((light - light[0]) / (light[-1] - light[0])).astype(np.float32)


@functools.cache
def _strokes() -> tuple[tuple[np.ndarray, ...], ...]:
    """Kernels that smooth along a line, two each for lines that go mostly right, right and down, down, left and down.

    One pixel wide, as what they smooth is smooth already, and cut to what is not zero: OpenCV is slow above 11x11.
    """
    groups = []
    for group in range(4):
        kernels = []
        for half in (-0.25, 0.25):
            right, down = np.cos(np.pi * (group + half) / 4), np.sin(np.pi * (group + half) / 4)
            step = max(abs(right), abs(down))
            ends = int(REACH * step)
            kernel = np.zeros((2 * REACH + 1, 2 * REACH + 1), np.float32)
            for at in np.arange(-ends, ends + 1) / step:
                kernel[REACH + round(at * down), REACH + round(at * right)] = np.exp(-((at / LENGTH) ** 2) / 2)
            rows, columns = np.nonzero(kernel.any(axis=1))[0], np.nonzero(kernel.any(axis=0))[0]
            kernels.append((kernel / kernel.sum())[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        groups.append(tuple(kernels))
    return tuple(groups)


@functools.cache
def _across(side: int) -> tuple[np.ndarray, ...]:
    """For the directions of `_strokes` the two pixels `side` away to the left and right of the line."""
    out = []
    for down, right in ((1, 0), (1, -1), (0, 1), (1, 1)):
        ends = np.zeros((2 * side + 1, 2 * side + 1), np.uint8)
        ends[side + side * down, side + side * right] = ends[side - side * down, side - side * right] = 1
        out.append(ends)
    return tuple(out)
