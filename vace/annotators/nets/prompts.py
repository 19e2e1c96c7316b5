"""What is said to a segmenter, and what a detector answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vace.annotators.boxes import Box

DRAWN = 255  # pixels of a drawn dot; paler ones are its soft edge
LOGITS_SIDE = 256  # of the coarse mask that a picture's segmentation may start from


@dataclass(frozen=True)
class Prompt:
    """Where the thing is, in the picture or in the clip's first frame: exactly one of three ways.

    box: (x1, y1, x2, y2) in pixels. points: float32 [n,2], x and y of pixels on the thing. mask: uint8 [H,W], above 0
    on the thing.
    """

    box: Box | None = None
    points: np.ndarray | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Detection:
    """One thing found: its box in pixels, how sure, the words it answers to, and its mask (uint8 [H,W]) where known."""

    box: Box
    score: float
    name: str
    mask: np.ndarray | None = None


def component_centres(mask: np.ndarray) -> np.ndarray:
    """Centres (x, y) of the 4-connected parts of the pixels of 255 in `mask` (uint8 [H,W] or [H,W,1]): float32 [n,2].

    As the original asks SAM 2 for a drawn dot each (vace/annotators/sam2.py), ordered by each part's leftmost column,
    then by its highest pixel there. No pixel of 255: float32 [0,2].
    """
    import cv2

    drawn = np.ascontiguousarray((_plane(mask) >= DRAWN).T, np.uint8)  # columns first: the order of the original
    _, parts, _, centres = cv2.connectedComponentsWithStats(drawn, connectivity=4)
    labels, first_seen = np.unique(parts, return_index=True)
    order = labels[np.argsort(first_seen)]
    return centres[order[order > 0], ::-1].astype(np.float32)


def centres_box(mask: np.ndarray) -> Box | None:
    """The smallest box (x1, y1, x2, y2) around the `component_centres` of `mask`, without area where there is one part.

    None where there is none (the original fails there).
    """
    centres = component_centres(mask)
    return (*centres.min(axis=0).tolist(), *centres.max(axis=0).tolist()) if len(centres) else None


def mask_logits(mask: np.ndarray, side: int = LOGITS_SIDE) -> np.ndarray:
    """`mask` (uint8 [H,W] or [H,W,1]) as SAM 2 takes it with a picture: float32 [side,side], nearest pixels, 0..255.

    The values stay as they are, though the network reads them as logits: so does the original.
    """
    import cv2

    plane = np.ascontiguousarray(_plane(mask))
    return cv2.resize(plane, (side, side), interpolation=cv2.INTER_NEAREST).astype(np.float32)


def _plane(mask: np.ndarray) -> np.ndarray:
    return mask[..., 0] if mask.ndim == 3 else mask
