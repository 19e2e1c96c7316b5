"""Mask augmentation: a mask simplified (itself, its convex hull, its box) and, in the `_expand` modes, enlarged.

The original draws anew for every frame, so that the edge flickers; here the draws are made once for a clip. It also
stops at hulls of a single pixel, which stay that pixel here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vace.annotators.base import Chunk
from vace.annotators.boxes import mask_box
from vace.annotators.masks import binary, fill_under
from vace.annotators.streams import is_still, still
from vace.errors import InputError, nearest

MODES = ("original", "original_expand", "hull", "hull_expand", "bbox", "bbox_expand")
DEFAULT_RATIO = 0.3
GIVEN_RATIO_STEPS = 5  # dilations when the ratio is given, as the original's command line has it
Sides = tuple[float, float, float, float]


def hull_of(mask: np.ndarray, clockwise: bool = True) -> np.ndarray:
    """The convex hull of everything above 0 in `mask` (uint8 [H,W]), filled with 255."""
    import cv2
    from PIL import Image, ImageDraw

    contours, _ = cv2.findContours((mask > 0).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.zeros_like(mask)
    corners = cv2.convexHull(np.concatenate(contours), clockwise=clockwise).reshape(-1, 2)
    if len(corners) < 2:
        return binary(mask)
    canvas = Image.new("L", (mask.shape[1], mask.shape[0]), 0)
    ImageDraw.Draw(canvas).polygon([(int(x), int(y)) for x, y in corners], fill=255, outline=255)
    return np.array(canvas)


def box_of(mask: np.ndarray) -> np.ndarray:
    """The smallest box around everything above 0 in `mask` (uint8 [H,W]), filled with 255."""
    out, box = np.zeros_like(mask), mask_box(mask)
    if box:
        out[box[1] : box[3], box[0] : box[2]] = 255
    return out


def expand(mask: np.ndarray, ratio: float, steps: int, sides: Sequence[float]) -> np.ndarray:
    """Dilate `mask` (uint8 [H,W], values kept) by `steps` rectangles.

    To the left, right, top and bottom a step adds int(side * min(ratio * box side, gap to the border / 2) / steps)
    pixels. The original's kernel has an even width, twice the largest of the four, so that left and top fall one
    pixel short where they are that largest.
    """
    import cv2

    box = mask_box(mask)
    if box is None:
        return mask
    height, width = mask.shape
    x1, y1, x2, y2 = box
    # The gap to the right and below counts the box's last pixel, as the original does.
    gaps = (x1, width - x2 + 1, y1, height - y2 + 1)
    spans = (x2 - x1, x2 - x1, y2 - y1, y2 - y1)
    amounts = [int(s * min(span * ratio, gap / 2) / steps) for s, span, gap in zip(sides, spans, gaps, strict=True)]
    largest = max(amounts)
    if largest == 0:
        return mask
    left, right, top, bottom = amounts
    left, top = min(left, largest - 1), min(top, largest - 1)
    # The steps of a rectangle are one larger rectangle.
    kernel = np.ones((steps * (top + bottom) + 1, steps * (left + right) + 1), np.uint8)
    return cv2.dilate(mask, kernel, anchor=(steps * right, steps * bottom))


def augment(
    mask: np.ndarray, mode: str, ratio: float, steps: int, sides: Sequence[float], clockwise: bool = True
) -> np.ndarray:
    """`mask` (uint8 [H,W]) in `mode`, everything random given: see `expand` for ratio, steps and sides."""
    kind, _, grown = mode.partition("_")
    if kind == "hull":
        mask = hull_of(mask, clockwise)
    elif kind == "bbox":
        mask = box_of(mask)
    return expand(mask, ratio, steps, sides) if grown else mask


@dataclass(frozen=True)
class Draw:
    """What chance decides: see `expand`; clockwise is the direction in which a hull is walked."""

    ratio: float
    steps: int
    sides: Sides
    clockwise: bool


class MaskAugmenter:
    """Augments masks in one `mode`, the random part drawn once from `seed`: the same for every frame of a clip.

    ratio: how far the `_expand` modes grow the mask, as part of its size, 0..1; a pair is a range to draw from;
    None is DEFAULT_RATIO. Raises InputError for an unknown mode and a ratio outside 0..1.
    """

    def __init__(self, mode: str, ratio: float | tuple[float, float] | None = None, seed: int = 0) -> None:
        if mode not in MODES:
            raise InputError(f"--maskaug_mode {mode}: there is no such mode; {nearest(mode, MODES)}")
        for value in ratio if isinstance(ratio, tuple) else (ratio,):
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"--maskaug_ratio {value}: give a number from 0 to 1")
        self.mode, self.seed = mode, seed
        self.draw = _draw(mode, ratio, random.Random(seed))

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """uint8 [H,W] -> uint8 [H,W]."""
        draw = self.draw
        return augment(mask, self.mode, draw.ratio, draw.steps, draw.sides, draw.clockwise)


def _draw(mode: str, ratio: float | tuple[float, float] | None, rng: random.Random) -> Draw:
    """The draws in the order of the original, which chooses a mode (here: of one) before anything else."""
    rng.choices([mode])
    from_range = isinstance(ratio, tuple)
    if from_range:
        ratio = rng.uniform(*ratio)
    elif ratio is None:
        ratio = DEFAULT_RATIO
    steps, clockwise, sides = GIVEN_RATIO_STEPS, True, (0.0, 0.0, 0.0, 0.0)
    if mode.endswith("expand"):
        steps = rng.randint(1, 10) if from_range else steps
        sides = (rng.random(), rng.random(), rng.random(), rng.random())
    if mode.startswith("hull"):
        clockwise = rng.choice([True, False])
    return Draw(ratio, steps, sides, clockwise)


def augmenter(maskaug_mode: str | None, maskaug_ratio: float | None, seed: int) -> MaskAugmenter | None:
    """The augmenter that the flags ask for, None where they ask for none."""
    if maskaug_mode:
        return MaskAugmenter(maskaug_mode, maskaug_ratio, seed)
    if maskaug_ratio is not None:
        raise InputError(f"--maskaug_ratio {maskaug_ratio}: needs --maskaug_mode too; one of {', '.join(MODES)}")
    return None


def augmented(
    chunks: Iterator[Chunk],
    maskaug_mode: str,
    maskaug_ratio: float | None = None,
    seed: int = 0,
    fill: int | None = None,
) -> Iterator[Chunk]:
    """`chunks` with their masks augmented, and with `fill`, where given, under all that is white then.

    Without `fill` the frames stay as they are: where content lies under white, it is not for a mask to take it away.
    """
    augment_one = MaskAugmenter(maskaug_mode, maskaug_ratio, seed)
    return _augmented(chunks, augment_one, fill)


def _augmented(chunks: Iterator[Chunk], augment_one: MaskAugmenter, fill: int | None) -> Iterator[Chunk]:
    for chunk in chunks:
        if is_still(chunk.masks):
            masks = still(binary(augment_one(chunk.masks[0])), len(chunk.masks))
        else:
            masks = np.stack([binary(augment_one(mask)) for mask in chunk.masks])
        yield Chunk(chunk.frames if fill is None else fill_under(chunk.frames, masks, fill), masks)
