"""Compositions of pictures and motion: move_anything and expand_anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vace.annotators.base import Chunk, Result
from vace.annotators.boxes import check_boxes
from vace.annotators.colors import Color
from vace.annotators.frameref import DEFAULT_EXPAND_NUM, Part, check_expand_num, extension, picture
from vace.annotators.layout import box_path, draw_path, pick_color
from vace.annotators.outpainting import DEFAULT_DIRECTION, keep_mask, outer_geometry, place
from vace.annotators.streams import still
from vace.annotators.subject import ImageReference
from vace.errors import InputError, nearest

LEAD_MODES = ("firstframe", "lastframe")


class MoveAnything:
    """A picture as first frame, then a box that shows where its thing goes.

    images: one RGB uint8 [H,W,3]. bbox: two boxes within it; the first is drawn in the frame after the picture, the
    second in the last frame (the original never reaches it). label, color_table: as for LayoutBbox. expand_num: frames
    with the box; the default makes 81 frames in all, as --expand_num 80 does everywhere (the original's own default,
    81 of them, makes 82). The picture is kept, the rest is made. Raises InputError for more than one picture and for
    boxes that are not two or do not lie in it.
    """

    def __call__(
        self,
        *,
        images: Sequence[np.ndarray],
        bbox: Sequence,
        label: str | list[str] | None = None,
        expand_num: int = DEFAULT_EXPAND_NUM,
        color_table: Mapping[str, Color] | None = None,
    ) -> Result:
        if len(images) != 1:
            raise InputError(f"--image: {len(images)} given, move_anything takes one")
        expand_num = check_expand_num(expand_num)
        height, width = images[0].shape[:2]
        start, end = check_boxes(bbox, width, height, 2)
        drawn = draw_path(box_path(start, end, expand_num), width, height, pick_color(label, color_table))
        return Result(_moved(images[0], drawn), 1 + expand_num, width, height, has_masks=True)


def _moved(image: np.ndarray, drawn: Iterator[np.ndarray]) -> Iterator[Chunk]:
    yield Chunk(image[None], np.zeros((1, *image.shape[:2]), np.uint8))
    white = np.full(image.shape[:2], 255, np.uint8)
    for frames in drawn:
        yield Chunk(frames, still(white, len(frames)))


def split_mode(mode: str) -> tuple[str, str]:
    """ "firstframe,plain" -> what the first picture is, and how references are cut; one word is the second.

    Raises InputError for a first word other than firstframe and lastframe.
    """
    lead, _, own = mode.rpartition(",")
    lead = lead.strip() or LEAD_MODES[0]
    if lead not in LEAD_MODES:
        raise InputError(f"--mode {mode}: expand_anything cannot lead with '{lead}'; {nearest(lead, LEAD_MODES)}")
    return lead, own.strip()


class ExpandAnything:
    """The first picture outpainted and extended into a video; the other pictures are references.

    images: RGB uint8 [H,W,3] each; without a second one there are no references (the original fails). mode: how the
    references are cut (see ImageReference), after "firstframe," or "lastframe," for the place of the first picture.
    direction, expand_ratio: as for Outpainting. expand_num: gray frames to make. masks, bbox, maskaug_mode,
    maskaug_ratio, seed: for the references. The mask of the outpainted frame stands beside it at whichever end it is
    (the original leaves it at the beginning). Raises InputError for what is absent or does not fit.
    """

    def __call__(
        self,
        *,
        images: Sequence[np.ndarray],
        mode: str = "plain",
        direction: Sequence[str] = DEFAULT_DIRECTION,
        expand_ratio: float = 0.25,
        expand_num: int = DEFAULT_EXPAND_NUM,
        masks: Sequence[np.ndarray] | None = None,
        bbox: Sequence | None = None,
        maskaug_mode: str | None = None,
        maskaug_ratio: float | None = None,
        seed: int = 0,
    ) -> Result:
        if not images:
            raise InputError("--image: expand_anything needs the picture to expand, then any references")
        lead, reference_mode = split_mode(mode)
        height, width = images[0].shape[:2]
        found = outer_geometry(width, height, direction, expand_ratio)
        expanded = picture(place(images[0][None], found)[0])
        part = Part(expanded, keep_mask(found.width, found.height, found.keep))
        ends = (part, None) if lead == "firstframe" else (None, part)
        result = extension(ends[0], check_expand_num(expand_num), ends[1])
        if len(images) > 1:
            augment = {"maskaug_mode": maskaug_mode, "maskaug_ratio": maskaug_ratio, "seed": seed}
            cut = ImageReference()(images=images[1:], mode=reference_mode, masks=masks, bbox=bbox, **augment)
            result.images, result.image_masks = cut.images, cut.image_masks
        return result
