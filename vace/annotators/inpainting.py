"""Inpainting: a region of the clip, or of pictures, grayed out to be made anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vace.annotators.base import Chunk, MaskClip, Result
from vace.annotators.maskaug import augmenter
from vace.annotators.masks import FILLER, binary, fill_under, warn_if_useless
from vace.annotators.networks import Networks
from vace.annotators.regions import Asked, clip_regions, image_region
from vace.annotators.streams import zip_chunks
from vace.annotators.subject import each_asked
from vace.media.clip import Clip


class Inpainting:
    """Frames with gray (128) in the region, and the region as masks.

    frames: the clip. mode: a key of `regions.MODES`; mask (one picture, or one per frame; white, above 0, is the
    region), bbox (one box), label (names, each followed by itself) and caption lead it. A mask of another size but the
    same aspect is stretched (the original fails on it). maskaug_mode and maskaug_ratio enlarge the region, drawn once
    from seed for the whole clip (the original: tracked masks only, drawn anew for each frame). networks: what finds and
    follows. Raises InputError for what is absent or does not fit the clip, and for what is not found.
    """

    def __call__(
        self,
        *,
        frames: Clip,
        mode: str,
        mask: MaskClip | None = None,
        bbox: Sequence | None = None,
        label: Sequence[str] = (),
        caption: str | None = None,
        networks: Networks | None = None,
        maskaug_mode: str | None = None,
        maskaug_ratio: float | None = None,
        seed: int = 0,
    ) -> Result:
        asked = Asked(mode, mask, bbox, label, caption)
        masks = clip_regions(frames, asked, networks, augmenter(maskaug_mode, maskaug_ratio, seed))
        chunks = (
            Chunk(fill_under(some, their_masks, FILLER), their_masks)
            for some, their_masks in zip_chunks(frames.chunks(), masks)
        )
        return Result(chunks, frames.frame_count, frames.width, frames.height, has_masks=True)


class ImageInpainting:
    """Pictures, RGB uint8 [H,W,3] each, with gray (128) in the region, and their masks; modes as for Inpainting.

    masks, bbox, label, caption: one for all pictures, or one each. Raises InputError as Inpainting does.
    """

    def __call__(
        self,
        *,
        images: Sequence[np.ndarray],
        mode: str,
        masks: Sequence[np.ndarray] | None = None,
        bbox: Sequence | None = None,
        label: Sequence[str] = (),
        caption: Sequence[str] = (),
        networks: Networks | None = None,
        maskaug_mode: str | None = None,
        maskaug_ratio: float | None = None,
        seed: int = 0,
    ) -> Result:
        augment, result = augmenter(maskaug_mode, maskaug_ratio, seed), Result()
        every = each_asked("image_inpainting", mode, len(images), masks, bbox, label, caption)
        for image, asked in zip(images, every, strict=True):
            found = image_region(image, asked, networks)
            if augment:
                found = binary(augment(found))
            warn_if_useless(bool(found.any()), bool(found.all()))
            result.images.append(fill_under(image[None], found[None], FILLER)[0])
            result.image_masks.append(found)
        return result
