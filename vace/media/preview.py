"""What a person looks at: the frames with the mask laid over them."""

from __future__ import annotations

import cv2
import numpy as np

TINT = (255, 40, 160)  # RGB: a pink that hardly occurs in footage
OPACITY = 0.4
KERNEL = np.ones((3, 3), np.uint8)


def preview_frames(frames: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
    """Frames with the white part of the mask tinted and outlined.

    frames: RGB uint8 [t,H,W,3]. masks: uint8 [t,H,W], white from 128 up, or None (the frames come back unchanged).
    Returns RGB uint8 [t,H,W,3], a new array where there are masks.
    """
    if masks is None:
        return frames
    return np.stack([_tint(frame, mask) for frame, mask in zip(frames, masks, strict=True)])


def _tint(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    white = cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)[1]
    colour = np.full_like(frame, TINT)
    shown = frame.copy()
    cv2.copyTo(cv2.addWeighted(frame, 1 - OPACITY, colour, OPACITY, 0), white, shown)
    edge = cv2.morphologyEx(white, cv2.MORPH_GRADIENT, KERNEL)
    cv2.copyTo(colour, edge, shown)
    return shown
