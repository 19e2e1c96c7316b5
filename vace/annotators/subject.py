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
from vace.annotators.networks import Networks
from vace.annotators.regions import MODES as REGION_MODES
from vace.annotators.regions import Asked, image_region
from vace.errors import InputError, nearest

log = logging.getLogger("vace")

MODES = ("plain", *REGION_MODES)
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


def each_asked(
    name: str,
    mode: str,
    count: int,
    masks: Sequence[np.ndarray] | None = None,
    bbox: Sequence | None = None,
    label: Sequence[str] = (),
    caption: Sequence[str] = (),
    flags: str = "--",
    together: bool = False,
) -> list[Asked]:
    """What leads to the region of each of `count` pictures: one value for all, or one each.

    Several labels for one picture are all of its things, and so they are with `together` for each. name: of the task.
    flags: how the flags begin that brought the values. Raises InputError for another number of values, an unknown mode
    and what the mode lacks.
    """
    each_mask, each_box = one_each(masks, count, f"{flags}mask"), one_each(bbox, count, f"{flags}bbox")
    each_caption = one_each(caption, count, f"{flags}caption")
    several = [list(label)] if together or (count == 1 and len(label) > 1) else [[one] for one in label]
    each_label = one_each(several, count, f"{flags}label")
    values = zip(each_mask, each_box, each_label, each_caption, strict=True)
    return [
        Asked(
            mode, mask, [box] if box is not None else None, labels or (), text, flags, name,
            f" (picture {number} of {count})" if count > 1 else "",
        ).check()
        for number, (mask, box, labels, text) in enumerate(values, 1)
    ]  # fmt: skip


class ImageReference:
    """Subjects of pictures as references, with their masks.

    images: RGB uint8 [H,W,3] each. mode: "plain" (the picture as it is) or a key of `regions.MODES`; masks (uint8
    [H,W], any size of the same aspect), bbox, label and caption lead it, one for all pictures or one each. maskaug_mode
    and maskaug_ratio simplify the subject's mask, drawn once from seed. canvas: put each subject at a drawn size and
    place on white of the picture's size instead of cropping. networks: what finds the subject. flags, name: how the
    flags begin that brought the values, and the task's name, for messages. together: every label is for every picture.
    Raises InputError for what is absent, does
    not fit or is not found.
    """

    def __call__(
        self,
        *,
        images: Sequence[np.ndarray],
        mode: str = "plain",
        masks: Sequence[np.ndarray] | None = None,
        bbox: Sequence | None = None,
        label: Sequence[str] = (),
        caption: Sequence[str] = (),
        networks: Networks | None = None,
        maskaug_mode: str | None = None,
        maskaug_ratio: float | None = None,
        seed: int = 0,
        canvas: bool = False,
        flags: str = "--",
        name: str = "image_reference",
        together: bool = False,
    ) -> Result:
        if mode not in MODES:
            raise InputError(f"--mode {mode}: {name} has no such mode for its pictures; {nearest(str(mode), MODES)}")
        augment = augmenter(maskaug_mode, maskaug_ratio, seed)
        if mode == "plain":
            return Result(images=list(images), image_masks=[None] * len(images))
        rng, result = random.Random(seed), Result()
        every = each_asked(name, mode, len(images), masks, bbox, label, caption, flags, together)
        for image, asked in zip(images, every, strict=True):
            found = image_region(image, asked, networks)
            if not found.any():
                raise InputError(f"{flags}mask{asked.which}: it is black everywhere, or nothing was found: no subject "
                                 "to cut out; mark it with white, or use --mode plain for all of it")  # fmt: skip
            if found.all():
                log.warning("the subject covers the whole picture: the reference is the picture as it is")
            if canvas:
                subject, subject_mask = region_canvas(image, found, rng, augment=augment), None
            else:
                subject, subject_mask = cut_subject(image, found, augment)
            result.images.append(subject)
            result.image_masks.append(subject_mask)
        return result
