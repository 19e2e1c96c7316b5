"""Outpainting: the picture on a larger gray canvas (outpainting), or its own border grayed out (outpainting_inner)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vace.annotators.base import Chunk, Result
from vace.annotators.boxes import Box
from vace.annotators.masks import FILLER
from vace.annotators.streams import still
from vace.errors import InputError, nearest
from vace.media.clip import Clip

DIRECTIONS = ("left", "right", "up", "down")
DEFAULT_DIRECTION = ("left", "right")


@dataclass(frozen=True)
class Geometry:
    """width, height: of the canvas. source: the box of the picture that is kept. at: where its left top corner goes.

    keep: the box of the canvas that is black in the mask. All in whole pixels, right and bottom exclusive.
    """

    width: int
    height: int
    source: Box
    at: tuple[int, int]
    keep: Box


def _margins(width: int, height: int, direction: Sequence[str], ratio: float) -> dict[str, int]:
    unknown = [name for name in direction if name not in DIRECTIONS]
    if unknown or not direction:
        name = unknown[0] if unknown else "(empty)"
        raise InputError(f"--direction {name}: there is no such direction; {nearest(name, DIRECTIONS)}")
    if not 0 <= ratio <= 1:
        raise InputError(f"--expand_ratio {ratio}: give a number from 0 to 1 (0.25 adds a quarter on each side)")
    sizes = {"left": width, "right": width, "up": height, "down": height}
    return {name: int(ratio * sizes[name]) if name in direction else 0 for name in DIRECTIONS}


def _padded(length: int, before: bool, after: bool, multiple: int) -> tuple[int, int]:
    """`length` rounded up to a multiple, and how much of what is added lies before: on the sides asked for."""
    total = -(-length // multiple) * multiple
    extra = total - length
    return total, (extra // 2 if after else extra) if before else 0


def _keep_box(at: tuple[int, int], size: tuple[int, int], direction: Sequence[str], mask_blur: int) -> Box:
    """Where the picture lies, 2 * mask_blur pixels narrower on each side asked for."""
    edge = {name: 2 * mask_blur if name in direction else 0 for name in DIRECTIONS}
    x1, y1 = at[0] + edge["left"], at[1] + edge["up"]
    x2, y2 = at[0] + size[0] - edge["right"], at[1] + size[1] - edge["down"]
    return (x1, y1, max(x1, x2), max(y1, y2))


def outer_geometry(
    width: int,
    height: int,
    direction: Sequence[str],
    expand_ratio: float,
    keep_padding_ratio: int = 1,
    mask_blur: int = 0,
) -> Geometry:
    """The canvas that is larger by int(expand_ratio * size) on each side of `direction`.

    It is rounded up to a multiple of keep_padding_ratio; the rest goes to the sides asked for and is white like them
    (where no side of an axis was asked for, the original keeps a gray bar there).
    """
    margins = _margins(width, height, direction, expand_ratio)
    multiple = max(1, int(keep_padding_ratio))
    wide, before_x = _padded(width + margins["left"] + margins["right"], *_asked(direction, "left", "right"), multiple)
    high, before_y = _padded(height + margins["up"] + margins["down"], *_asked(direction, "up", "down"), multiple)
    at = (margins["left"] + before_x, margins["up"] + before_y)
    return Geometry(wide, high, (0, 0, width, height), at, _keep_box(at, (width, height), direction, mask_blur))


def inner_geometry(
    width: int,
    height: int,
    direction: Sequence[str],
    expand_ratio: float,
    keep_padding_ratio: int = 1,
    mask_blur: int = 0,
) -> Geometry:
    """The canvas of the picture's size, of which int(expand_ratio * size) on each side of `direction` is made anew.

    The original keeps one pixel too much at the right and below; here the mask ends where the gray begins. Raises
    InputError where opposite sides would take more than there is.
    """
    margins = _margins(width, height, direction, expand_ratio)
    x2, y2 = width - margins["right"], height - margins["down"]
    if x2 < margins["left"] or y2 < margins["up"]:
        raise InputError(f"--expand_ratio {expand_ratio}: opposite sides together take more than all; give 0.5 at most")
    multiple = max(1, int(keep_padding_ratio))
    wide, before_x = _padded(width, *_asked(direction, "left", "right"), multiple)
    high, before_y = _padded(height, *_asked(direction, "up", "down"), multiple)
    at = (margins["left"] + before_x, margins["up"] + before_y)
    size = (x2 - margins["left"], y2 - margins["up"])
    return Geometry(wide, high, (margins["left"], margins["up"], x2, y2), at, _keep_box(at, size, direction, mask_blur))


def _asked(direction: Sequence[str], before: str, after: str) -> tuple[bool, bool]:
    return before in direction, after in direction


def place(frames: np.ndarray, geometry: Geometry, fill: int = FILLER) -> np.ndarray:
    """RGB uint8 [t,H,W,3] -> their kept part on a canvas of `fill`, [t,height,width,3]."""
    left, top, right, bottom = geometry.source
    x, y = geometry.at
    x2, y2 = x + right - left, y + bottom - top
    canvas = np.empty((len(frames), geometry.height, geometry.width, 3), np.uint8)
    canvas[:, :y], canvas[:, y2:] = fill, fill
    canvas[:, y:y2, :x], canvas[:, y:y2, x2:] = fill, fill
    canvas[:, y:y2, x:x2] = frames[:, top:bottom, left:right]
    return canvas


def keep_mask(width: int, height: int, box: Box) -> np.ndarray:
    """Black (0, keep) in `box`, white (255, generate) around it: uint8 [height,width]."""
    mask = np.full((height, width), 255, np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 0
    return mask


class Outpainting:
    """The clip on a larger canvas: gray (128), and white in the mask, where the picture is to be continued.

    direction: any of left, right, up, down. expand_ratio: how much each of them grows, 0..1 of the size.
    keep_padding_ratio: the canvas becomes a multiple of it. mask_blur: lets 2 * mask_blur pixels of the picture, at the
    sides asked for, be made anew too. Raises InputError for an unknown direction and a ratio outside 0..1.
    """

    geometry = staticmethod(outer_geometry)

    def __call__(
        self,
        *,
        frames: Clip,
        direction: Sequence[str] = DEFAULT_DIRECTION,
        expand_ratio: float = 0.25,
        keep_padding_ratio: int = 1,
        mask_blur: int = 0,
    ) -> Result:
        found = self.geometry(frames.width, frames.height, direction, expand_ratio, keep_padding_ratio, mask_blur)
        mask = keep_mask(found.width, found.height, found.keep)
        chunks = (Chunk(place(chunk, found), still(mask, len(chunk))) for chunk in frames.chunks())
        return Result(chunks, frames.frame_count, found.width, found.height, has_masks=True)


class OutpaintingInner(Outpainting):
    """The clip in its own size with gray (128) borders to be made anew; parameters as for Outpainting."""

    geometry = staticmethod(inner_geometry)


class ImageOutpainting:
    """Pictures, RGB uint8 [H,W,3] each, on a larger canvas, and their masks; parameters as for Outpainting."""

    def __call__(
        self,
        *,
        images: Sequence[np.ndarray],
        direction: Sequence[str] = DEFAULT_DIRECTION,
        expand_ratio: float = 0.25,
        keep_padding_ratio: int = 1,
        mask_blur: int = 0,
    ) -> Result:
        result = Result()
        for image in images:
            height, width = image.shape[:2]
            found = outer_geometry(width, height, direction, expand_ratio, keep_padding_ratio, mask_blur)
            result.images.append(place(image[None], found)[0])
            result.image_masks.append(keep_mask(found.width, found.height, found.keep))
        return result
