"""A piece of a clip or mask, as a clip or mask of its own: read from where it begins, with its own time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vace.media.clip import CHUNK
from vace.media.video import VideoReader

SAME_RATE = 0.01  # of the rate, and ROUNDING seconds of the length: what times rounded by a container can make
ROUNDING = 0.002


class TrimmedMask:
    """Frames `first` to `last`, the last included, of `mask`, whose `chunks` can begin anywhere."""

    def __init__(self, mask, first: int, last: int) -> None:
        self.clip, self.first, self.frame_count = mask, first, last - first + 1
        self.name, self.width, self.height = mask.name, mask.width, mask.height

    def chunks(self, size: int = CHUNK, first: int = 0) -> Iterator[np.ndarray]:
        """As those of the whole, from frame `first` of the piece."""
        left = self.frame_count - first
        for chunk in self.clip.chunks(min(size, left), self.first + first) if left > 0 else ():
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return


class TrimmedClip(TrimmedMask):
    """Frames `first` to `last`, the last included, of a video: a `Clip` that begins at second 0 with the first of them.

    Attributes are those of `VideoReader`, of the piece; begins: seconds of the video before it. fps is that of the
    video, unless the piece of a video of variable rate has another.
    """

    def __init__(self, video: VideoReader, first: int, last: int) -> None:
        super().__init__(video, first, last)
        self.path, self.codec, self.is_rgb, self.has_audio = video.path, video.codec, video.is_rgb, video.has_audio
        stamps = video.timestamps[first : last + 1].astype(np.float64)
        self.begins = float(stamps[0, 0])
        self.timestamps = (stamps - stamps[0, 0]).astype(np.float32)
        self.duration = float(self.timestamps[-1, 1])
        self.fps = _rate(video.fps, self.timestamps)

    def get(self, indices: Sequence[int]) -> np.ndarray:
        """The frames with these indices within the piece: RGB uint8 [n,H,W,3]. IndexError when outside."""
        wrong = [i for i in indices if not 0 <= i < self.frame_count]
        if wrong:
            raise IndexError(f"{self.name}: frame {wrong[0]} asked for, the piece has 0 to {self.frame_count - 1}")
        return self.clip.get([self.first + int(i) for i in indices])


def _rate(fps: float, stamps: np.ndarray) -> float:
    """`fps`, where the times [N,2] of the frames bear it out, else their own rate; one frame tells by its length."""
    steps = max(1, len(stamps) - 1)
    seconds = float(stamps[-1, 0] if len(stamps) > 1 else stamps[0, 1])
    if seconds <= 0 or abs(steps / fps - seconds) <= SAME_RATE * seconds + ROUNDING:
        return fps
    return steps / seconds
