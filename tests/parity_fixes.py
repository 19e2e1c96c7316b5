"""Where we fix the original, its golden is read through one of these corrections, each with its reason."""

from __future__ import annotations

FIXES: dict[str, tuple[str, object]] = {
    "resize_on_uint8": (
        "the rows of this input type resize floats, which the shipped path never does; the uint8 rows are compared",
        "float32",
    ),
    "mask_has_one_channel": (
        "where no mask was given the original's has three equal channels, of which it reads the first; ours has one",
        lambda mask: mask[:1],
    ),
}
