"""Reference images as LTX was trained with: brought to whole cells of 32 pixels, at most 384 of them.

The shared `vace.conditioning.pixels.letterbox` puts them on the white canvas afterwards. Transparent parts are white
already: `vace.media.image.read_image` sees to that.
"""

from __future__ import annotations

import math

import numpy as np

from vace.errors import InputError

CELL = 32  # pixels
MAX_CELLS = 384  # of one frame of 768x512


def reference_size(width: int, height: int, max_cells: int = MAX_CELLS) -> tuple[int, int]:
    """The (width, height) a reference image gets: its own, made smaller to `max_cells`, cut down to multiples of 32.

    A side that comes out below 32 pixels becomes 32, and `crop_reference` enlarges the image to fill it; the original
    makes such a side 0 and fails. A banner longer than the cells allow loses its ends.
    Raises InputError for an image without pixels.
    """
    if width < 1 or height < 1:
        raise InputError(f"src_ref_images holds an image of {width}x{height} pixels: give a real one")
    scale = min(1.0, math.sqrt(max_cells / ((height / CELL) * (width / CELL))))
    columns, rows = (min(max(1, int(side * scale) // CELL), max_cells) for side in (width, height))
    return columns * CELL, rows * CELL


def crop_reference(image: np.ndarray, max_cells: int = MAX_CELLS) -> np.ndarray:
    """A reference image cut to `reference_size`: RGB uint8 [H,W,3] -> RGB uint8 [h,w,3].

    It is resized by Lanczos to cover that size and its centre is kept, so up to 31 pixels at the sides are lost. One
    that has the size already comes back unchanged (the same array). Raises InputError for an image without pixels.
    """
    from PIL import Image

    height, width = image.shape[:2]
    columns, rows = reference_size(width, height, max_cells)
    if (width, height) == (columns, rows):
        return image
    scale = max(columns / width, rows / height)
    size = round(scale * width), round(scale * height)
    covering = np.array(Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS))
    left, top = (size[0] - columns) // 2, (size[1] - rows) // 2
    return np.ascontiguousarray(covering[top : top + rows, left : left + columns])
