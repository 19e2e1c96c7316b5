"""References: the subject of a picture, cut out on white."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence

import numpy as np

from vace.annotators.base import Result
from vace.annotators.boxes import mask_box
from vace.annotators.canvas import region_canvas
from vace.annotators.maskaug import augmenter
from vace.annotators.masks import region
from vace.errors import InputError, nearest

log = logging.getLogger("vace")

MODES = ("plain", "mask", "bbox")
THRESHOLD = 1  # of the mask: the subject is above it


def cut_subject(
    image: np.ndarray,
    mask: np.ndarray,
    augment: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    crop: bool = True,
    roi_only: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """The subject (RGB uint8 [h,w,3]) and its mask (uint8 [h,w]) out of image [H,W,3] and mask [H,W].

    crop: to the box around the mask; the whole picture where the mask is empty. roi_only: white outside the mask.
    augment: changes the mask after the cut, as in the original, so that nothing outside the box comes in.
    """
    box = mask_box(mask, THRESHOLD + 1)
    if crop and box:
        x1, y1, x2, y2 = box
        image, mask = image[y1:y2, x1:x2], mask[y1:y2, x1:x2]
    if augment:
        mask = augment(mask)
    if roi_only:
        image = np.where(mask[..., None] == 0, np.uint8(255), image)
    return image.copy(), mask.copy()


def one_each(given: Sequence | None, count: int, flag: str) -> list:
    """One of `given` for each of `count` pictures: as many as pictures, or one for all; None stays None for each.

    Raises InputError, naming `flag`, for any other number.
    """
    found = list(given) if given is not None else []
    if not found:
        return [None] * count
    if len(found) not in (1, count):
        raise InputError(f"{flag}: {len(found)} given for {count} images; give one for all, or one for each")
    return found * count if len(found) == 1 else found


class ImageReference:
    """Subjects of pictures as references, with their masks.

    images: RGB uint8 [H,W,3] each. mode: "plain" (the picture as it is), "mask" (masks: uint8 [H,W], one for each
    picture or one for all, any size of the same aspect) or "bbox" (bbox: likewise boxes). maskaug_mode and
    maskaug_ratio simplify the subject's mask, drawn once from seed. canvas: put each subject at a drawn size and place
    on white of the picture's size instead of cropping. Raises InputError for what is absent or does not fit.
    """

    def __call__(
        self,
        *,
        images: Sequence[np.ndarray],
        mode: str = "plain",
        masks: Sequence[np.ndarray] | None = None,
        bbox: Sequence | None = None,
        maskaug_mode: str | None = None,
        maskaug_ratio: float | None = None,
        seed: int = 0,
        canvas: bool = False,
    ) -> Result:
        if mode not in MODES:
            raise InputError(f"--mode {mode}: image_reference has no such mode; {nearest(str(mode), MODES)}")
        augment = augmenter(maskaug_mode, maskaug_ratio, seed)
        if mode == "plain":
            return Result(images=list(images), image_masks=[None] * len(images))
        rng, result = random.Random(seed), Result()
        each_mask, each_box = one_each(masks, len(images), "--mask"), one_each(bbox, len(images), "--bbox")
        for image, mask, box in zip(images, each_mask, each_box, strict=True):
            found = region(mode, image.shape[1], image.shape[0], mask, [box] if box is not None else None)
            if not found.any():
                log.warning("the mask is black everywhere: the reference will be white; mark the subject with white")
            if canvas:
                subject, subject_mask = region_canvas(image, found, rng, augment=augment), None
            else:
                subject, subject_mask = cut_subject(image, found, augment)
            result.images.append(subject)
            result.image_masks.append(subject_mask)
        return result
