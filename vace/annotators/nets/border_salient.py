"""What a picture is of, without trained saliency: its people, else what stands out from what its border shows."""

from __future__ import annotations

import numpy as np

from vace.annotators.nets import grabcut
from vace.annotators.nets.matte import find_persons, foreground

SIDE = 256  # pixels of the longer side that colours are learnt and cut at
SLACK = 0.05  # of the thing's size, see `grabcut.refine`
PERSON_AREA = 0.02  # of the picture: people who take less are not what it is of
CROWD = 0.25  # of the largest person's area, from which others belong to the picture's subject
STANDS_OUT, SURE = 0.01, 170  # the share of the picture, and the strongest value, that foreground is believed from
BORDER, COLOURS = 0.06, 6  # of each side: what lies there is taken for background; colours it is summed up in
RARE = 0.03  # of the border: rarer colours there may be the thing's own
SAME, SPREAD = 8.0, 1.5  # a distance in Lab that tells nothing, and deviations of a background colour that neither do
CENTRE = 0.64  # of half a side: the deviation of the prior that a thing lies in the middle
DISTANT, CONTRAST = 0.95, 3.2  # least of the largest distances, and of them against the median, that show a thing
PLAIN = 1.4  # distance from which a colour is the thing's, however far others are
FRINGE = 100  # of 255: fainter edges are black, since whoever reads a saliency map takes all that is not
MOST = 0.75  # of the picture: a thing that takes more is the ground itself


class BorderSalient:
    """The network `salient` without downloads: people by MediaPipe's networks, else GrabCut.

    GrabCut starts from what MediaPipe's segmenters take for foreground, or where they see none, from the distance of
    colours to those along the border, weighed towards the centre.
    """

    def maps(self, frames: np.ndarray) -> np.ndarray:
        """RGB uint8 [t,H,W,3] -> how salient each pixel is, uint8 [t,H,W], 0..255; all 0 where nothing stands out."""
        return np.stack([salient_map(frame) for frame in frames])


def salient_map(image: np.ndarray) -> np.ndarray:
    """One picture, RGB uint8 [H,W,3] -> uint8 [H,W], 0..255."""
    people = _people(image)
    found = (_thing(image) if people is None else people).astype(np.float32)
    return np.clip((found - FRINGE) * (255 / (255 - FRINGE)), 0, 255).astype(np.uint8)


def _people(image: np.ndarray) -> np.ndarray | None:
    """The people whom the picture is of, as one matte; None where there are none."""
    masks = [one.mask for one in find_persons(image, with_small=False)]
    areas = [float((mask > 127).mean()) for mask in masks]
    if not areas or max(areas) < PERSON_AREA:
        return None
    return np.maximum.reduce([mask for mask, area in zip(masks, areas, strict=True) if area >= CROWD * max(areas)])


def _thing(image: np.ndarray) -> np.ndarray:
    size, small = image.shape[:2], grabcut.shrunk(image, SIDE)
    stands_out = trusted(foreground(small))
    prior = border_prior(small) if stands_out is None else stands_out
    if prior is None:
        return np.zeros(size, np.uint8)
    mask = grabcut.cleaned(grabcut.refine(small, prior, slack=SLACK, side=SIDE) > 127)
    if stands_out is None and mask.mean() > MOST:
        return np.zeros(size, np.uint8)
    return grabcut.guided(image, grabcut.enlarged(mask, size))


def trusted(matte: np.ndarray) -> np.ndarray | None:
    """The segmenters' foreground (uint8 [h,w]) with its strongest value made 255; None where it is too little."""
    if (matte > 127).mean() < STANDS_OUT or matte.max() < SURE:
        return None
    return np.rint(matte.astype(np.float32) * (255 / matte.max())).astype(np.uint8)


def border_prior(image: np.ndarray) -> np.ndarray | None:
    """How far each colour of `image` (RGB uint8 [h,w,3]) is from those of its border, weighed towards its centre.

    uint8 [h,w], 0..255; None where no part of the picture differs from the border: one colour, noise, a pattern.
    """
    import cv2

    if min(image.shape[:2]) < 3:  # all of it is border
        return None
    distances = cv2.GaussianBlur(border_distances(image), (0, 0), 2) * _centre(*image.shape[:2])
    far = float(np.percentile(distances, 99.5))
    if far < DISTANT or far < CONTRAST * float(np.median(distances)):
        return None
    return np.rint(np.clip(distances / min(far, PLAIN), 0, 1) * 255).astype(np.uint8)


def border_distances(image: np.ndarray) -> np.ndarray:
    """The distance in Lab of each pixel of `image` (RGB uint8 [h,w,3]) to the nearest colour of its border, float32.

    In units of what that colour itself varies by, and more.
    """
    import cv2

    height, width = image.shape[:2]
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    rows, columns = max(1, round(BORDER * height)), max(1, round(BORDER * width))
    is_border = np.ones((height, width), bool)
    is_border[rows:-rows, columns:-columns] = False
    pixels = lab[is_border]
    cv2.setRNGSeed(grabcut.SEED)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    _, labels, colours = cv2.kmeans(pixels, min(COLOURS, len(pixels)), None, stop, 2, cv2.KMEANS_PP_CENTERS)
    nearest = np.full((height, width), np.inf, np.float32)
    for index, colour in enumerate(colours):
        own = pixels[labels.ravel() == index]
        if len(own) >= RARE * len(pixels):
            apart = np.linalg.norm(lab - colour, axis=-1) / (SAME + SPREAD * float(own.std(axis=0).mean()))
            np.minimum(nearest, apart, out=nearest)
    return nearest


def _centre(height: int, width: int) -> np.ndarray:
    y = (np.arange(height, dtype=np.float32)[:, None] * 2 + 1) / height - 1
    x = (np.arange(width, dtype=np.float32)[None] * 2 + 1) / width - 1
    return np.exp(-(y * y + x * x) / (2 * CENTRE * CENTRE))
