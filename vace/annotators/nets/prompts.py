"""What is said to a segmenter, and what a detector answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vace.annotators.boxes import Box


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
    """Centres (x, y) of the connected parts of `mask` (uint8 [H,W], 4-connected, pixels of 255): float32 [n,2].

    As the original asks SAM 2 for a drawn dot each (vace/annotators/sam2.py).
    """
    raise NotImplementedError
