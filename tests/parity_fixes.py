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


def _box_with_area(box, mask):
    if box[0] < box[2] and box[1] < box[3]:
        return tuple(box)
    y, x = np.nonzero(mask)
    return (x.min(), y.min(), x.max(), y.max())


FIXES |= {
    "box_of_one_part": (
        "the original's box around the centres of a mask's parts is a point where there is one part; ours is its box",
        _box_with_area,
    ),
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


def _without_padding(picture, height, width, multiple=8):
    """What the original added to a picture to make whole multiples of 8 lies half before and half after."""
    top, left = (-height % multiple // 2, -width % multiple // 2)
    return picture[top : top + height, left : left + width]


FIXES |= {
    "scribble_size": (
        "the original's drawing grows to whole multiples of 4, to the right and below; ours is cut back to the picture",
        lambda drawing, like: drawing[: like.shape[0], : like.shape[1]],
    ),
    "flow_padding": (
        "the original leaves on what it added to make whole multiples of 8; ours has the size of the clip",
        _without_padding,
    ),
    "flow_of_one_frame": (
        "of a single frame the original makes no frame at all; ours stands still, which is white",
        lambda frames, golden: golden or [np.full_like(frame, 255) for frame in frames],
    ),
    "negative_face_ends": (
        "a box that begins left of or above the picture counts from the far side in the original; ours is cut off",
        lambda box: [max(0, value) for value in box],
    ),
    "smallest_network_side": (
        "sides below 32 round to nothing in the original, which then fails; ours are 64 at least",
        lambda side: max(64, side),
    ),
    "prompt_in_float32": (
        "the original keeps points in float64 until its predictor makes them float32; ours are float32 at once",
        np.float32,
    ),
    "prompt_mask_size": (
        "the annotator's case holds the mask as given; the caller shrinks it to 256x256 by the nearest pixel before",
        lambda mask: mask[np.ix_(*(np.arange(256) * side // 256 for side in mask.shape))],
    ),
    "names_of_a_caption": (
        "the original leaves a caption's names as they were before boxes were sorted and dropped; ours go with them",
        lambda boxes, given, names: [names[np.flatnonzero((given == np.float32(box)).all(axis=1))[0]] for box in boxes],
    ),
}

FIXES |= {
    "smallest_reference": (
        "a reference's side below 32 pixels rounds to nothing in the original, which then fails; ours becomes 32",
        lambda side: max(32, side),
    ),
    "single_step": (
        "stretched, the original's only step is not a number; ours goes from 1 to 0",
        np.ones_like,
    ),
    "negative_as_list": (
        "the original hands the negative prompt over as a list, and cleans how a list is written; ours is the text",
        lambda text: str([text]),
    ),
    "ltx_residual_skip": (
        "the original's residual skip never takes effect, so its rows are as if nothing were skipped; ours skips",
        lambda row: row._replace(skips=frozenset()),
    ),
}
