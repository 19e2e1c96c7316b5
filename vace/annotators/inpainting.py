"""Inpainting: a region of the clip grayed out, to be made anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vace.annotators.base import Chunk, MaskClip, Result
from vace.annotators.boxes import box_mask, check_boxes
from vace.annotators.maskaug import augmenter
from vace.annotators.masks import FILLER, clip_masks, fill_under, still_masks
from vace.annotators.streams import zip_chunks
from vace.errors import InputError, nearest
from vace.media.clip import Clip

MODES = ("mask", "bbox")


def region_masks(
    frames: Clip, mode: str, mask: MaskClip | None, bbox: Sequence | None, augment=None
) -> Iterator[np.ndarray]:
    """The region of every frame, 0 or 255 uint8 [t,H,W]: by `mask` (mode mask) or by one box (mode bbox).

    Raises InputError, at once, for an unknown mode and for a mask or box that is absent or does not fit.
    """
    if mode not in MODES:
        raise InputError(f"--mode {mode}: inpainting has no such mode; {nearest(str(mode), MODES)}")
    if mode == "bbox":
        box = check_boxes(bbox, frames.width, frames.height, 1)[0]
        return still_masks(frames, box_mask(box, frames.width, frames.height), augment)
    if mask is None:
        raise InputError("--mask: mode mask needs a mask; give a picture, a video or a folder, white where to repaint")
    return clip_masks(frames, mask, augment)


class Inpainting:
    """Frames with gray (128) in the region, and the region as masks.

    frames: the clip. mode: "mask" (mask: one picture, or one per frame; white, above 0, is the region) or "bbox" (bbox:
    one box). A mask of another size but the same aspect is stretched (the original fails on it). maskaug_mode and
    maskaug_ratio enlarge the region, drawn once from seed for the whole clip (the original: tracked masks only, drawn
    anew for each frame). Raises InputError for what is absent or does not fit the clip.
    """

    def __call__(
        self,
        *,
        frames: Clip,
        mode: str,
        mask: MaskClip | None = None,
        bbox: Sequence | None = None,
        maskaug_mode: str | None = None,
        maskaug_ratio: float | None = None,
        seed: int = 0,
    ) -> Result:
        masks = region_masks(frames, mode, mask, bbox, augmenter(maskaug_mode, maskaug_ratio, seed))
        chunks = (
            Chunk(fill_under(some, their_masks, FILLER), their_masks)
            for some, their_masks in zip_chunks(frames.chunks(), masks)
        )
        return Result(chunks, frames.frame_count, frames.width, frames.height, has_masks=True)
