"""Masks of regions: opened, fitted to their clip, enlarged on request, and grayed out of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from vace.annotators.align import check_mask_size, fit_mask
from vace.annotators.base import MaskClip
from vace.annotators.streams import is_still, still_chunks
from vace.errors import InputError
from vace.media.clip import Clip

log = logging.getLogger("vace")

FILLER = 128  # what is written under white by inpainting and outpainting
Augment = Callable[[np.ndarray], np.ndarray]


def binary(mask: np.ndarray) -> np.ndarray:
    """255 where `mask` (uint8) is above 0, else 0: soft edges belong to the region."""
    return np.where(mask > 0, np.uint8(255), np.uint8(0))


def fill_under(frames: np.ndarray, masks: np.ndarray, value: int | Sequence[int] = FILLER) -> np.ndarray:
    """A copy of `frames` (RGB uint8 [t,H,W,3]) with `value`, one number or (r, g, b), where `masks` is white.

    masks: uint8 [t,H,W] of 0 and 255 only.
    """
    import cv2

    color = np.broadcast_to(np.asarray(value, np.uint8), (3,))
    if is_still(masks):
        white = cv2.merge([masks[0]] * 3)
        out = np.bitwise_and(frames, ~white)
        return np.bitwise_or(out, white & color, out=out)
    out = np.empty(frames.shape, np.uint8)
    for target, frame, mask in zip(out, frames, masks, strict=True):
        white = cv2.merge([mask] * 3)
        np.bitwise_and(frame, ~white, out=target)
        np.bitwise_or(target, white & color, out=target)
    return out


def clip_masks(clip: Clip, mask: MaskClip, augment: Augment | None = None) -> Iterator[np.ndarray]:
    """One mask for each frame of `clip`, 0 or 255 uint8 [t,H,W]: fitted, and enlarged by `augment` where given.

    Raises InputError, at once, when the mask is of another aspect, or has neither one frame nor as many as the clip.
    """
    check_mask_size((mask.width, mask.height), clip.width, clip.height, f"--mask {mask.name}")
    if mask.frame_count not in (1, clip.frame_count):
        raise InputError(
            f"--mask {mask.name}: {mask.frame_count} frames for a clip of {clip.frame_count}; "
            f"give {clip.frame_count} frames, or one picture for all"
        )
    if clip.frame_count > 1 and mask.frame_count == 1:
        return still_masks(clip, fit_mask(next(iter(mask.chunks()))[0], clip.width, clip.height), augment)
    return _moving_masks(clip, mask, augment)


def still_masks(clip: Clip, mask: np.ndarray, augment: Augment | None = None) -> Iterator[np.ndarray]:
    """The same mask, uint8 [H,W] of the clip's size, for every frame of `clip`, enlarged once."""
    mask = binary(mask)
    if augment:
        mask = binary(augment(mask))
    warn_if_useless(bool(mask.any()), bool(mask.all()))
    return still_chunks(mask, clip.frame_count)


def _moving_masks(clip: Clip, mask: MaskClip, augment: Augment | None) -> Iterator[np.ndarray]:
    any_white, all_white, seen = False, True, 0
    for chunk in mask.chunks():
        fitted = np.stack([binary(fit_mask(one, clip.width, clip.height)) for one in chunk])
        if augment:
            fitted = np.stack([binary(augment(one)) for one in fitted])
        any_white, all_white = any_white or bool(fitted.any()), all_white and bool(fitted.all())
        seen += len(fitted)
        if seen == mask.frame_count:  # before the last chunk goes out: nobody may ask for one after it
            warn_if_useless(any_white, all_white)
        yield fitted


def warn_if_useless(any_white: bool, all_white: bool) -> None:
    if not any_white:
        log.warning("the mask is black everywhere: nothing will be changed; white marks what shall be made anew")
    elif all_white:
        log.warning("the mask is white everywhere: nothing of the source is kept; black marks what shall stay")
