"""Pixels out of a video file: PyAV for reading in order, decord for picking frames, the same RGB from both.

PyAV stays at one memory size however long the clip is and sees damage that decord passes over in silence; decord is
the faster one at jumping about. decord serves only what it was measured to decode bit for bit like PyAV.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vace.errors import InputError, MissingDependency
from vace.media.probe import VideoInfo, decoded, opened, probe

logger = logging.getLogger("vace")

DECORD_CODECS = {"h264", "hevc", "vp9"}
DECORD_PIXELS = {"yuv420p", "yuvj420p", "yuv422p", "yuv444p", "gbrp"}


class VideoSource:
    """Frames of one video file. See `VideoReader`, which is what the rest of vace uses."""

    def __init__(self, path: Path, *, allow_truncated: bool, backend: str) -> None:
        self.path, self.lenient = path, allow_truncated
        self.info = probe(path, allow_truncated=allow_truncated)
        self.width, self.height, self.fps = self.info.width, self.info.height, self.info.fps
        self.starts, self.ends = self.info.starts, self.info.ends
        self.codec, self.has_audio = self.info.codec, self.info.has_audio
        self._decord = None
        self.backend = self._choose(backend)
        self._in_order_by_decord = backend == "decord"

    def _choose(self, backend: str) -> str:
        if backend == "av":
            return "av"
        reason = _why_not_decord(self.info)
        if reason is None:
            try:
                self._decord = _open_decord(self.path, self.info)
                return "decord"
            except (ImportError, OSError) as cause:
                if backend == "decord":
                    raise MissingDependency(f"decord is not installed ({cause}); pip install decord") from cause
                reason = "it is not installed"
            except RuntimeError as cause:  # DECORDError is one
                reason = str(cause).splitlines()[0]
        if backend == "decord":
            raise InputError(f"{self.path}: decord cannot read it ({reason}); use the av backend")
        logger.debug("%s: read by PyAV alone, decord: %s", self.path, reason)
        return "av"

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        if self._in_order_by_decord:
            count = self.info.frame_count
            return (self.get(range(start, min(start + size, count))) for start in range(0, count, size))
        return self._chunks_in_order(size)

    def _chunks_in_order(self, size: int) -> Iterator[np.ndarray]:
        shape = (min(size, self.info.frame_count), self.height, self.width, 3)
        chunk, filled, done = np.empty(shape, np.uint8), 0, 0
        with opened(self.path, self.lenient) as (container, stream):
            frames = decoded(container, stream, lenient=self.lenient)
            for frame, has_error in frames:
                if has_error and not self.lenient:
                    raise self._damaged(done + sum(1 for f, is_bad in frames if f is not None and not is_bad))
                if frame is None or done == self.info.frame_count:
                    continue
                chunk[filled] = self._to_rgb(frame)
                done, filled = done + 1, filled + 1
                if filled == len(chunk):
                    yield chunk
                    chunk, filled = np.empty(shape, np.uint8), 0
        if done < self.info.frame_count:
            raise self._damaged(done)
        if filled:
            yield chunk[:filled]

    def _damaged(self, good: int) -> InputError:
        return InputError(
            f"{self.path}: is damaged inside: its header promises {self.info.frame_count} frames, {good} decode "
            "without error; copy it again, or go on with what is there by --allow_truncated"
        )

    def _to_rgb(self, frame) -> np.ndarray:
        """RGB uint8 [H,W,3] as shown; a stream that changes its size midway is brought to its first."""
        swap = self.info.orientation.swap
        width, height = (self.height, self.width) if swap else (self.width, self.height)
        if (frame.width, frame.height) != (width, height):
            frame = frame.reformat(width=width, height=height, format="rgb24")
        return self.info.orientation.apply(frame.to_ndarray(format="rgb24"))

    def get(self, indices: Sequence[int]) -> np.ndarray:
        indices = [int(i) for i in indices]
        if self._decord is not None:
            return self._decord.get_batch(indices).asnumpy()
        picked = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            places.setdefault(index, []).append(place)
        for index, frame in self._pick(sorted(places)):
            picked[places[index]] = self._to_rgb(frame)
        return picked

    def _pick(self, wanted: list[int]) -> Iterator[tuple[int, object]]:
        """Yield (index, frame) for ascending indices, jumping to key frames where that saves decoding."""
        pts = self.info.pts
        with opened(self.path, self.lenient) as (container, stream):
            position, frames = -1, iter(())
            for index in wanted:
                target = int(pts[index])
                key = self._key_before(target)
                if key is not None and (position < 0 or key[0] > pts[position]):
                    container.seek(key[1], stream=stream)
                    frames = decoded(container, stream, lenient=self.lenient)
                elif position < 0:
                    frames = decoded(container, stream, lenient=self.lenient)
                frame = next((f for f, _ in frames if f is not None and f.pts == target), None)
                if frame is None:
                    raise InputError(f"{self.path}: frame {index} cannot be decoded; copy the file again")
                position = index
                yield index, frame

    def _key_before(self, target: int) -> tuple[int, int] | None:
        """(pts, dts) of the last key frame shown at or before `target`; None where decoding must begin at the start."""
        if self.info.is_edited or self.info.is_damaged:
            return None
        earlier = [key for key in self.info.keys if key[0] <= target]
        return earlier[-1] if earlier else None

    def close(self) -> None:
        self._decord = None


def _why_not_decord(info: VideoInfo) -> str | None:
    """The reason to leave a file to PyAV, or None."""
    checks = {
        f"codec {info.codec}": info.codec not in DECORD_CODECS,
        f"pixel format {info.pix_fmt}": info.pix_fmt not in DECORD_PIXELS,
        "rotated": not info.orientation.is_identity,
        "an edit list hides frames": info.is_edited,
        "damaged": info.is_damaged,
    }
    return next((reason for reason, holds in checks.items() if holds), None)


def _open_decord(path: Path, info: VideoInfo):
    """A decord reader that agrees with the probe. Raises RuntimeError when it does not."""
    import decord

    reader = decord.VideoReader(str(path.absolute()), num_threads=2)
    if len(reader) != info.frame_count:
        raise RuntimeError(f"it counts {len(reader)} frames, not {info.frame_count}")
    times = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    if not np.allclose(times - times[0], info.starts, atol=2e-3) or times[0] < 0:
        raise RuntimeError("its timestamps differ")
    return reader
