"""Reading back what was written."""

from __future__ import annotations

import numpy as np


def frames_of(path) -> np.ndarray:
    """Every frame of a video, animation, picture or folder, as its decoder gives it: RGB uint8 [T,H,W,3]."""
    from vace.media.video import VideoReader

    with VideoReader(path) as reader:
        return np.concatenate(list(reader.chunks()))
