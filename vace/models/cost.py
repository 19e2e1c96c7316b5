"""What the cost estimates of all base models share: operations of convolutions, bytes of weights. Needs no torch."""

from __future__ import annotations

import math

from vace.models.parts import Part
from vace.weight_files import PICKLED

FLOAT32 = 4  # bytes of a number


def conv_flops(before: int, after: int, taps: int, volume: int) -> int:
    """A convolution from `before` to `after` channels with `taps` weights a pair, at `volume` places."""
    return 2 * before * after * taps * volume


def residual_flops(before: int, after: int, volume: int) -> int:
    """Two convolutions of 3x3x3, and one of 1 where the width changes."""
    shortcut = conv_flops(before, after, 1, volume) if before != after else 0
    return conv_flops(before, after, 27, volume) + conv_flops(after, after, 27, volume) + shortcut


def part_bytes(part: Part, per_number: int) -> int:
    """The weights of a part on the device, `per_number` bytes each."""
    if part.weights.files[0].suffix in PICKLED and part.component == "text_encoder":
        return sum(path.stat().st_size for path in part.weights.files)
    return per_number * sum(math.prod(part.weights.shapes[name]) for name in part.names.values())
