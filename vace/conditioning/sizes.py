"""Areas and token budgets: how large a clip the model sees, as pure arithmetic.

A stride is (frames, height, width): how many frames and pixels one token of the model covers in each direction.
The model reads (width / sw) * (height / sh) * ((frames - 1) / st + 1) tokens, and a size carries the most it may read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vace.errors import InputError, nearest

Stride = tuple[int, int, int]

WAN_STRIDE: Stride = (4, 16, 16)
LTX_STRIDE: Stride = (8, 32, 32)
WAN_FRAMES = 81  # the clip length the Wan budgets are stated for
LTX_FRAMES = 97
WAN_SIZES: Mapping[str, tuple[int, int]] = {"480p": (832, 480), "720p": (1280, 720)}  # name -> (width, height)
LTX_SIZES: Mapping[str, tuple[int, int]] = {"480p": (832, 480), "512p": (768, 512), "720p": (1280, 704)}


@dataclass(frozen=True)
class Size:
    """A pixel budget. width, height: pixels, multiples of the stride; max_tokens: most tokens a clip may have."""

    width: int
    height: int
    max_tokens: int

    @property
    def area(self) -> int:
        """Pixels of one frame."""
        return self.width * self.height

    @property
    def sides(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def parse_size(
    text: str,
    stride: Stride = WAN_STRIDE,
    frames: int = WAN_FRAMES,
    names: Mapping[str, tuple[int, int]] = WAN_SIZES,
) -> Size:
    """Read a size: a name (`480p`, `720p`: landscape budgets), `WxH` or `W*H`, both width first.

    `frames` is the clip length the token budget is counted for: 32,760 tokens for 480p and 75,600 for 720p at 81.
    Raises InputError where the text is neither, or the sides are not multiples of the stride (nearest sizes named).
    """
    cleaned = text.strip().lower()
    if cleaned in names:
        width, height = names[cleaned]
    else:
        width, height = _parse_sides(text, cleaned, names)
        _check_divisible(width, height, stride)
    return Size(width, height, token_count(width, height, frames, stride=stride))


def token_count(width: int, height: int, frames: int, refs: int = 0, stride: Stride = WAN_STRIDE) -> int:
    """Tokens the model reads for `frames` frames and `refs` reference images, each of which adds one latent frame."""
    st, sh, sw = stride
    return (width // sw) * (height // sh) * ((frames - 1) // st + 1 + refs)


def max_frames(width: int, height: int, max_tokens: int, stride: Stride = WAN_STRIDE) -> int:
    """The longest clip (st*n + 1 frames) of exactly this size within the budget; reference images do not count.

    Raises InputError where not even one frame fits.
    """
    st, sh, sw = stride
    slots = max_tokens // ((width // sw) * (height // sh))
    if slots < 1:
        one = token_count(width, height, 1, stride=stride)
        raise InputError(
            f"size {width}x{height} takes {one} tokens a frame, over the budget of {max_tokens}: use a smaller --size"
        )
    return (slots - 1) * st + 1


def fit_area(
    width: int, height: int, max_area: int, stride: Stride = WAN_STRIDE, name: str = "src_video"
) -> tuple[int, int]:
    """The (width, height) at which a source video enters the model: its aspect, at most `max_area` pixels.

    The original's rule: count whole strides that fit in the source or in the budget, whichever is less, and share them
    out by the aspect. A source is never enlarged, beyond rounding one side to the stride.
    Raises InputError for a source smaller than one stride.
    """
    _, sh, sw = stride
    cells = _cells(width, height, max_area, stride, name)
    rows = max(1, round(math.sqrt(cells * (height / width))))
    columns = int(cells / rows)
    if columns < 1:
        raise InputError(
            f"{name} is {width}x{height} pixels, too narrow for its height: crop it, or use a larger --size"
        )
    return columns * sw, rows * sh


def source_frames(width: int, height: int, size: Size, stride: Stride = WAN_STRIDE, name: str = "src_video") -> int:
    """The most frames (st*n + 1) of a source video of this size, by the original's count.

    It counts the cells before `fit_area` rounds them, so it can be less than `max_frames` of the fitted size.
    A small source may have more frames than a large one: the token budget is what stays.
    Raises InputError for a source smaller than one stride.
    """
    cells = min(size.max_tokens, _cells(width, height, size.area, stride, name))
    return (int(size.max_tokens / cells) - 1) * stride[0] + 1


def aspect_matches(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two (width, height) are the same picture at two scales, one pixel of rounding allowed."""
    (w1, h1), (w2, h2) = sorted((first, second))
    return abs(w1 - w2 * h1 / h2) <= 1 or abs(h1 - h2 * w1 / w2) <= 1


def _cells(width: int, height: int, max_area: int, stride: Stride, name: str) -> float:
    """How many strides of a frame are used: what the source holds, or what the area allows."""
    _, sh, sw = stride
    if width < sw or height < sh:
        raise InputError(f"{name} is {width}x{height} pixels; the model needs at least {sw}x{sh}: give a larger video")
    return min(max_area / (sh * sw), (height // sh) * (width // sw))


def _parse_sides(text: str, cleaned: str, names: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)\s*[x*×]\s*(\d+)", cleaned)
    if match and int(match[1]) > 0 and int(match[2]) > 0:
        return int(match[1]), int(match[2])
    raise InputError(
        f"--size '{text}' is not a size: give WxH in two positive whole numbers, such as 832x480, "
        f"or a name ({nearest(cleaned, names)})"
    )


def _check_divisible(width: int, height: int, stride: Stride) -> None:
    _, sh, sw = stride
    if width % sw == 0 and height % sh == 0:
        return
    widths, heights = _multiples_around(width, sw), _multiples_around(height, sh)
    candidates = sorted(
        ((w, h) for w in widths for h in heights), key=lambda wh: abs(wh[0] - width) + abs(wh[1] - height)
    )
    near = " or ".join(f"{w}x{h}" for w, h in candidates[:2])
    rule = f"multiples of {sw}" if sw == sh else f"a width in multiples of {sw} and a height of {sh}"
    raise InputError(f"--size {width}x{height} is not divisible for this model, which needs {rule}: use {near}")


def _multiples_around(value: int, step: int) -> list[int]:
    below = value // step * step
    return [value] if below == value else [n for n in (below, below + step) if n > 0]
