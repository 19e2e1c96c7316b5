"""The salient thing of a picture as a reference: cut out on white, by itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from vace.annotators.base import Result
from vace.annotators.networks import Networks
from vace.annotators.subject import THRESHOLD, cut_subject

log = logging.getLogger("vace")


def salient_region(saliency: np.ndarray) -> np.ndarray:
    """What of a saliency map (uint8 [H,W]) is the salient thing: 255 there, else 0, uint8 [H,W].

    The map is stretched to 0..255 and counts from 2, as in the original; a map of one value has nothing salient.
    """
    low, high = int(saliency.min()), int(saliency.max())
    stretched = (saliency.astype(np.float32) - low) * (255 / max(1, high - low))
    return np.where(stretched.astype(np.uint8) > THRESHOLD, np.uint8(255), np.uint8(0))


class ImageSalient:
    """Salient things of pictures as references, white around them, cropped to their boxes, with their masks.

    images: RGB uint8 [H,W,3] each. networks: `salient` is asked. A picture in which nothing stands out, or all of it
    alike, stays whole, with a warning.
    """

    def __call__(self, *, images: Sequence[np.ndarray], networks: Networks) -> Result:
        network, result = networks.get("salient"), Result()
        for number, image in enumerate(images, 1):
            region = salient_region(network.maps(image[None])[0])
            if not region.any():
                log.warning("image %d of %d: nothing stands out of the rest, so the whole picture is the reference; "
                            "mark its subject with image_reference --mask or --bbox", number, len(images))  # fmt: skip
                region = np.full_like(region, 255)
            subject, mask = cut_subject(image, region)
            result.images.append(subject)
            result.image_masks.append(mask)
        return result
