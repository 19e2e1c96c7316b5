"""Optical flow by OpenCV's DIS (network "flow", embedded): Kroeger et al., "Fast Optical Flow using Dense Inverse
Search" (ECCV 2016)."""

from __future__ import annotations

import numpy as np

LEAST = 16  # pixels a side, two of its patches: on smaller frames OpenCV stops with an error, or the whole process


class DisFlow:
    """DIS at its medium preset: at the full size it takes four times as long, for a tenth less error of the warp."""

    def __init__(self) -> None:
        import cv2

        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def flows(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Where each pixel of `first` is in `second`: RGB uint8 [t,H,W,3] each -> float32 [t,H,W,2], right and down."""
        out = np.empty((*first.shape[:3], 2), np.float32)
        height, width = first.shape[1:3]
        seen = None  # the gray frame that ended the last pair
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            is_next = index and np.array_equal(one, second[index - 1])
            start, seen = seen if is_next else _gray(one), _gray(other)
            out[index] = self._dis.calc(start, seen, None)[:height, :width]
        return out


def _gray(frame: np.ndarray) -> np.ndarray:
    """RGB uint8 [H,W,3] -> its brightness, uint8, the last row and column repeated up to LEAST."""
    import cv2

    gray = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    below, beside = (max(0, LEAST - side) for side in gray.shape)
    return cv2.copyMakeBorder(gray, 0, below, 0, beside, cv2.BORDER_REPLICATE) if below or beside else gray
