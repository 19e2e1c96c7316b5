"""Sound carried from a source into a written video: cut to a span, re-encoded as aac, in step with the picture."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vace.errors import InputError
from vace.media.files import existing_file

if TYPE_CHECKING:
    import av

logger = logging.getLogger("vace")

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # what players take for aac
CHANNEL_BIT_RATE = 80_000
RUN_UP = 0.5  # seconds decoded before the span, so that the decoder has settled


class SoundTrack:
    """The sound of `source` from `start` for `duration` seconds, both counted from its first frame, as an aac stream.

    `advance(t)` muxes the sound up to second t of the output, `finish(t)` the rest up to there. Where the source has no
    sound every call does nothing. Raises InputError when `source` cannot be opened.
    """

    def __init__(self, output: av.container.OutputContainer, source: Path, start: float, duration: float) -> None:
        import av

        source = existing_file(source, "a file with sound")
        try:
            self._input = av.open(str(source.absolute()))
        except (av.FFmpegError, ValueError) as cause:
            raise InputError(f"{source}: its sound cannot be read; choose another file") from cause
        self._output, self._stream, self._done = output, None, 0  # done: samples encoded
        audio = self._input.streams.best("audio")
        if audio is None or audio.codec_context is None:
            self.close()
            return
        self._rate = min(RATES, key=lambda rate: abs(rate - audio.rate))
        self._layout = "mono" if len(audio.layout.channels) == 1 else "stereo"
        self._length = round(duration * self._rate)
        self._stream = output.add_stream("aac", rate=self._rate, layout=self._layout)
        self._stream.bit_rate = CHANNEL_BIT_RATE * len(self._stream.layout.channels)
        self._blocks = self._cut(audio, max(float(start), 0.0))

    def _cut(self, audio: av.AudioStream, start: float) -> Iterator[np.ndarray]:
        """Yield float32 [channels,samples] of the span, silence first where the sound begins later than it."""
        start += _picture_start(self._input)
        if start > 2 * RUN_UP:
            self._input.seek(int((start - RUN_UP) / audio.time_base), stream=audio)
        offset = None  # of the next block, in samples from the start of the span
        for time, block in self._resampled(audio):
            if offset is None:
                offset = round((time - start) * self._rate)
                if offset > 0:
                    yield np.zeros((block.shape[0], offset), np.float32)
            inside = block[:, max(0, -offset) :]
            offset += block.shape[1]
            if inside.shape[1]:
                yield inside

    def _resampled(self, audio: av.AudioStream) -> Iterator[tuple[float, np.ndarray]]:
        """Yield (seconds on the source's clock, float32 [channels,samples]); stops with a warning at damage."""
        import av

        resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        try:
            for frame in self._input.decode(audio):
                time = frame.time or 0.0
                for part in resampler.resample(frame):
                    yield time, part.to_ndarray()
        except av.FFmpegError as cause:
            logger.warning("%s: its sound is damaged (%s); carried up to there", self._input.name, cause)

    def advance(self, seconds: float) -> None:
        """Mux sound up to `seconds` of the output."""
        if self._stream is None:
            return
        goal = min(round(seconds * self._rate), self._length)
        while self._done < goal:
            block = next(self._blocks, None)
            if block is None:
                return
            self._encode(block[:, : self._length - self._done])

    def _encode(self, block: np.ndarray) -> None:
        import av

        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate, self._done
        self._done += block.shape[1]
        self._output.mux(self._stream.encode(frame))

    def finish(self, seconds: float) -> None:
        """Mux what is left up to `seconds` of the output and end the stream."""
        if self._stream is None:
            return
        self._length = min(self._length, round(seconds * self._rate))
        self.advance(seconds)
        self._output.mux(self._stream.encode(None))

    def close(self) -> None:
        """Close the source."""
        self._input.close()


def _picture_start(container: av.container.InputContainer) -> float:
    """The time of the first frame on the container's clock, 0 where there is no picture."""
    video = container.streams.best("video")
    if video is None or video.start_time is None:
        return 0.0
    return float(video.start_time * video.time_base)
