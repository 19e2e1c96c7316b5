"""A face as reference: cut out of its picture."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from vace.annotators.base import Result
from vace.annotators.boxes import Box
from vace.annotators.networks import Networks
from vace.errors import InputError

log = logging.getLogger("vace")


def face_slices(box: Box) -> tuple[slice, slice]:
    """Rows and columns of a picture that a face's box (x1, y1, x2, y2) takes.

    Its ends are cut to whole pixels and belong to it, as in the original (vace/annotators/face.py), where a box that
    begins left of or above the picture counts from the far side; here it is cut off at the edge.
    """
    x1, y1, x2, y2 = (int(value) for value in box)
    return slice(max(0, y1), max(0, y2 + 1)), slice(max(0, x1), max(0, x2 + 1))


def cut_face(image: np.ndarray, box: Box) -> np.ndarray:
    """The part of `image` (RGB uint8 [H,W,3]) within `box`."""
    return image[face_slices(box)].copy()


def face_mask(image: np.ndarray, box: Box) -> np.ndarray:
    """White (255) within `box`, black elsewhere: uint8 [H,W]."""
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[face_slices(box)] = 255
    return mask


class ImageFace:
    """The first face of each picture, cut out with nothing around it; where there are more, a warning tells how many.

    Raises InputError, naming --image and which, for a picture without a face.
    """

    def __call__(self, *, images: Sequence[np.ndarray], networks: Networks) -> Result:
        network = networks.get("face")
        found = [self._first(network, image, f"--image ({i} of {len(images)})") for i, image in enumerate(images, 1)]
        return Result(images=found, image_masks=[None] * len(found))

    def _first(self, network, image: np.ndarray, name: str) -> np.ndarray:
        cut = [face for face in (cut_face(image, box) for box in network.faces(image)) if face.size]
        if not cut:
            height, width = image.shape[:2]
            raise InputError(
                f"{name}: no face is found in this picture of {width}x{height} pixels; give one in which a face is "
                "seen from before, at least some 20 pixels high, or cut it out by --task image_reference --mode bbox"
            )
        if len(cut) > 1:
            log.warning("%s: %d faces are found, the surest one is taken", name, len(cut))
        return cut[0]
