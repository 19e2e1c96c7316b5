"""Where we fix the original, its golden is read through one of these corrections, each with its reason."""

from __future__ import annotations

import numpy as np

from vace.errors import InputError

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


def _inner_edge(masks, geometry):
    fixed = masks.copy()
    fixed[:, :, geometry.keep[2] : geometry.keep[2] + 1] = 255
    fixed[:, geometry.keep[3] : geometry.keep[3] + 1] = 255
    return fixed


def _white_padding(mask, geometry):
    (x, y), (left, top, right, bottom) = geometry.at, geometry.source
    fixed = np.full_like(mask, 255)
    inside = slice(y, y + bottom - top), slice(x, x + right - left)
    fixed[inside] = mask[inside]
    return fixed


def _negative_ends(box, width, height):
    x1, y1, x2, y2 = (int(value) for value in box)
    return (x1, y1, x2 + width if x2 < 0 else x2, y2 + height if y2 < 0 else y2)


FIXES |= {
    "float_filler": (
        "the original holds filler as 127.5 in floats, which its writer cuts to 127; ours are the bytes on disk",
        lambda frame: frame.astype(np.uint8),
    ),
    "layout_end": ("the original's box stops one step before its end; ours reaches it", False),
    "move_default": ("the original adds 81 frames by default, making 82; ours adds 80 as everywhere", 81),
    "expand_lastframe_mask": (
        "in lastframe mode the original leaves the outpainted frame's mask at the beginning; it belongs to the last",
        lambda masks: np.concatenate([np.full_like(masks[:1], 255), masks[1:-1], masks[:1]]),
    ),
    "subject_stub": (
        "the references were made by a stub that inverts; ours are the pictures",
        lambda image: 255 - image,
    ),
    "outpainting_padding": (
        "where the canvas is rounded up on an axis no side of which was asked for, the original keeps a gray bar",
        _white_padding,
    ),
    "outpainting_given_mask": (
        "with a mask given the original leaves the picture unfilled; inpainting is for that, ours takes no mask",
        "mask",
    ),
    "outpainting_inner_edge": ("the original keeps one pixel of gray at the right and below", _inner_edge),
    "augmentation_of_still_masks": (
        "the original ignores augmentation where nothing is tracked; ours augments every mask",
        ("mask", "bbox", "salient"),
    ),
    "negative_box_ends": (
        "a box that ends left of or above the frame counts from the far side in the original; ours refuses it",
        _negative_ends,
    ),
    "subject_of_nothing": ("an empty mask makes a reference that is all white; ours says that it is empty", InputError),
    "canvas_of_nothing": ("an empty mask makes a picture without pixels; ours says that it is empty", InputError),
    "composition_mask_form": (
        "the original's masks are 0/1 or 0/255 with a channel axis, ours are bool",
        lambda masks: masks[..., 0] > 0,
    ),
}
