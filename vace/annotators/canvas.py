"""The region canvas: what a mask covers, cut out, scaled and put somewhere on an empty canvas."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from vace.annotators.boxes import mask_box
from vace.errors import InputError

SCALE_RANGE = (0.75, 1.0)
WHITE = 255


def region_canvas(
    image: np.ndarray,
    mask: np.ndarray,
    rng: random.Random,
    *,
    scale_range: tuple[float, float] = SCALE_RANGE,
    canvas_value: int = WHITE,
    use_resize: bool = True,
    use_canvas: bool = True,
    augment: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """What `mask` (uint8 [H,W], above 0) covers of `image` (RGB uint8 [H,W,3]), canvas_value around it.

    use_resize: scaled, by area, so that the larger side fills a part of the image drawn from scale_range.
    use_canvas: put at a place drawn from rng on a canvas of the image's size; else the cut-out alone is returned.
    augment: changes the cut-out mask. Draws in order: scale, x, y. Without resizing the original fails to make a
    canvas; here the cut-out goes on it in its own size. Raises InputError for an empty mask.
    """
    box = mask_box(mask)
    if box is None:
        raise InputError("--mask: it is black everywhere, so there is nothing to cut out; mark the thing with white")
    x1, y1, x2, y2 = box
    cut, cut_mask = image[y1:y2, x1:x2].copy(), mask[y1:y2, x1:x2]
    if augment:
        cut_mask = augment(cut_mask)
    cut[cut_mask == 0] = canvas_value
    if use_resize:
        cut = _scaled(cut, image.shape[1], image.shape[0], rng.uniform(*scale_range))
    return _put(cut, image.shape, rng, canvas_value) if use_canvas else cut


def _scaled(cut: np.ndarray, width: int, height: int, scale: float) -> np.ndarray:
    """`cut` as large as fits into int(scale * width) x int(scale * height), its aspect kept."""
    import cv2

    own_height, own_width = cut.shape[:2]
    max_width, max_height = max(1, int(width * scale)), max(1, int(height * scale))
    if max_width / own_width < max_height / own_height:
        size = (max_width, max(1, int(own_height * max_width / own_width)))
    else:
        size = (max(1, int(own_width * max_height / own_height)), max_height)
    return cv2.resize(cut, size, interpolation=cv2.INTER_AREA)


def _put(cut: np.ndarray, shape: tuple[int, ...], rng: random.Random, canvas_value: int) -> np.ndarray:
    canvas = np.full(shape, canvas_value, np.uint8)
    x = rng.randint(0, max(0, shape[1] - cut.shape[1]))
    y = rng.randint(0, max(0, shape[0] - cut.shape[0]))
    canvas[y : y + cut.shape[0], x : x + cut.shape[1]] = cut
    return canvas
