"""Control by the footage itself, as it is or without its colours; the same for reference pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vace.annotators.base import Chunk, Result
from vace.media.clip import Clip


def gray_frames(frames: np.ndarray) -> np.ndarray:
    """RGB uint8 [t,H,W,3] -> its brightness in three equal channels, uint8 [t,H,W,3].

    The original weighs red as blue and blue as red (BGR weights on RGB frames); the models were trained on that, so it
    stays: 0.114 R + 0.587 G + 0.299 B.
    """
    import cv2

    count, height, width, channels = frames.shape
    column = np.ascontiguousarray(frames).reshape(count * height, width, channels)
    gray = cv2.cvtColor(cv2.cvtColor(column, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2RGB)
    return gray.reshape(count, height, width, 3)


class Plain:
    """The clip, unchanged, as src_video."""

    def __call__(self, *, frames: Clip) -> Result:
        chunks = (Chunk(chunk) for chunk in frames.chunks())
        return Result(chunks, frames.frame_count, frames.width, frames.height)


class Gray:
    """The clip without its colours, see `gray_frames`."""

    def __call__(self, *, frames: Clip) -> Result:
        chunks = (Chunk(gray_frames(chunk)) for chunk in frames.chunks())
        return Result(chunks, frames.frame_count, frames.width, frames.height)


class ImagePlain:
    """Pictures, RGB uint8 [H,W,3] each, unchanged, as references."""

    def __call__(self, *, images: Sequence[np.ndarray]) -> Result:
        return Result(images=list(images))


class ImageGray:
    """Pictures, RGB uint8 [H,W,3] each, without their colours, as references."""

    def __call__(self, *, images: Sequence[np.ndarray]) -> Result:
        return Result(images=[gray_frames(image[None])[0] for image in images])
