"""Boxes: reading and checking --bbox, and between boxes and masks.

A box is (x1, y1, x2, y2) in pixels of the frame, x to the right and y down; x2 and y2 are exclusive.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from vace.errors import InputError

Box = tuple[float, float, float, float]

FORM = "give x1,y1,x2,y2 (left, top, right, bottom) in pixels"
COUNTS = {1: "one box", 2: "two boxes 'x1,y1,x2,y2 x1,y1,x2,y2' (where it starts and where it ends)"}


def parse_boxes(text: str, flag: str = "--bbox") -> list[Box]:
    """The boxes in `text`: four numbers each, separated by commas, spaces or both; eight numbers are two boxes.

    Raises InputError for anything that is no number and for counts that four does not divide.
    """
    words = [word for word in re.split(r"[,\s]+", text) if word]
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise InputError(f"{flag} '{text}': {error}; {FORM}") from None
    if not numbers or len(numbers) % 4:
        raise InputError(f"{flag} '{text}': {len(numbers)} numbers found, a box takes four; {FORM}")
    return [tuple(numbers[i : i + 4]) for i in range(0, len(numbers), 4)]


def check_boxes(
    boxes: Sequence[Sequence] | None, width: int, height: int, count: int | None = None, flag: str = "--bbox"
) -> list[Box]:
    """`boxes` as a list of tuples, each lying in a frame of width x height pixels; `count` of them where it is given.

    Raises InputError, naming `flag`, the frame size and the form expected, for a wrong number of boxes and for a box
    that has not four finite numbers, is reversed, covers no pixel or reaches outside the frame.
    """
    frame = f"the frame is {width}x{height}"
    found = list(boxes or [])
    if count is not None and len(found) != count:
        expected = COUNTS.get(count, f"{count} boxes")
        raise InputError(f"{flag}: {len(found)} boxes given, {expected} needed; {FORM}, {frame}")
    return [_checked(box, width, height, f"{flag} ", frame) for box in found]


def _checked(box: Sequence[float], width: int, height: int, flag: str, frame: str) -> Box:
    try:
        values = tuple(float(value) for value in box)
    except (TypeError, ValueError):
        raise InputError(f"{flag}{box}: not a box of four numbers; {FORM}, {frame}") from None
    shown = ",".join(f"{value:g}" for value in values)
    if len(values) != 4 or not all(math.isfinite(value) for value in values):
        raise InputError(f"{flag}{shown}: {len(values)} numbers, four finite ones needed; {FORM}, {frame}")
    x1, y1, x2, y2 = values
    if x2 < x1 or y2 < y1:
        raise InputError(f"{flag}{shown}: reversed, x2 must be right of x1 and y2 below y1; {FORM}, {frame}")
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        raise InputError(f"{flag}{shown}: reaches outside, {frame}; {FORM} within 0,0,{width},{height}")
    if int(x1) == int(x2) or int(y1) == int(y2):
        raise InputError(f"{flag}{shown}: covers no pixel; {FORM}, {frame}")
    return values


def box_mask(box: Sequence[float], width: int, height: int) -> np.ndarray:
    """White (255) inside `box`, cut to whole pixels and to the frame, black (0) outside: uint8 [H,W]."""
    x1, y1, x2, y2 = (max(0, int(value)) for value in box)
    mask = np.zeros((height, width), np.uint8)
    mask[y1:y2, x1:x2] = 255
    return mask


def mask_box(mask: np.ndarray, threshold: int = 1) -> tuple[int, int, int, int] | None:
    """The smallest box around the pixels of `mask` (uint8 [H,W]) of at least `threshold`; None if there is none."""
    import cv2

    x, y, width, height = cv2.boundingRect((mask >= threshold).view(np.uint8))
    return (x, y, x + width, y + height) if width else None
