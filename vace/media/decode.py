"""Pixels out of a video file: PyAV for reading in order, decord for picking frames, the same RGB from both.

PyAV stays at one memory size however long the clip is and sees damage that decord passes over in silence; decord is
the faster one at jumping about. decord serves only what it was measured to decode bit for bit like PyAV.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vace.errors import InputError
from vace.media.probe import VideoInfo, decoded, opened, probe

if TYPE_CHECKING:
    import av
    import decord

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
        self.is_rgb = self.info.pix_fmt.startswith(("gbr", "rgb", "bgr", "pal"))
        self._decord = None
        self._only_decord = backend == "decord"
        self.backend = "av" if backend == "av" or self._refuse(_why_not_decord(self.info)) else "decord"

    def _refuse(self, reason: str | None) -> bool:
        """True when there is a reason to do without decord; an error when decord alone was asked for."""
        if reason and self._only_decord:
            raise InputError(f"{self.path}: decord cannot read it ({reason}); use the av backend")
        if reason:
            logger.debug("%s: frames are picked by PyAV, not decord: %s", self.path, reason)
        return bool(reason)

    def chunks(self, size: int, first: int = 0) -> Iterator[np.ndarray]:
        if self._only_decord:
            count = self.info.frame_count
            return (self.get(range(start, min(start + size, count))) for start in range(first, count, size))
        return self._chunks_in_order(size, first)

    def _chunks_in_order(self, size: int, first: int) -> Iterator[np.ndarray]:
        shape = (min(size, self.info.frame_count - first), self.height, self.width, 3)
        chunk, filled = np.empty(shape, np.uint8), 0
        with opened(self.path, self.lenient) as (container, stream):
            done = jumped = self._jump(container, stream, first)
            frames = decoded(container, stream, lenient=self.lenient)
            for frame, has_error in frames:
                if has_error and not self.lenient:
                    if jumped:
                        raise self._unreadable(done)
                    raise self._damaged(done + sum(1 for f, is_bad in frames if f is not None and not is_bad))
                if frame is None or done == self.info.frame_count:
                    continue
                if jumped and frame.pts < self.info.pts[jumped]:
                    continue  # shown before the key frame that was jumped to
                if jumped and frame.pts != self.info.pts[done]:
                    raise self._unreadable(done)
                done += 1
                if done <= first:
                    continue
                chunk[filled] = self._to_rgb(frame)
                filled += 1
                if filled == len(chunk):
                    yield chunk
                    chunk, filled = np.empty(shape, np.uint8), 0
        if done < self.info.frame_count:
            raise self._damaged(done)
        if filled:
            yield chunk[:filled]

    def _jump(self, container: av.container.InputContainer, stream: av.VideoStream, first: int) -> int:
        """Go to the last key frame up to frame `first`, where that can be found; the index decoding begins with."""
        if not first or not self.info.is_indexed or self.info.is_edited:
            return 0
        key_pts, key_dts = next(key for key in reversed(self.info.keys) if key[0] <= self.info.pts[first])
        index = int(np.searchsorted(self.info.pts, key_pts))
        if index:
            container.seek(key_dts, stream=stream)
        return index

    def _damaged(self, good: int) -> InputError:
        return InputError(
            f"{self.path}: is damaged inside: its header promises {self.info.frame_count} frames, {good} decode "
            "without error; copy it again, or go on with what is there by --allow_truncated"
        )

    def _unreadable(self, index: int) -> InputError:
        return InputError(
            f"{self.path}: is damaged inside: frame {index} of {self.info.frame_count} cannot be decoded; "
            "copy it again, or go on with what is there by --allow_truncated"
        )

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """RGB uint8 [H,W,3] as shown; a stream that changes its size midway is brought to its first."""
        swap = self.info.orientation.swap
        width, height = (self.height, self.width) if swap else (self.width, self.height)
        if (frame.width, frame.height) != (width, height):
            frame = frame.reformat(width=width, height=height, format="rgb24")
        return self.info.orientation.apply(frame.to_ndarray(format="rgb24"))

    def get(self, indices: Sequence[int]) -> np.ndarray:
        indices = [int(i) for i in indices]
        if self.backend == "decord":
            try:
                return self._get_by_decord(indices)
            except (RuntimeError, ImportError, OSError) as cause:
                self._refuse(str(cause).splitlines()[0])
                self.backend, self._decord = "av", None
        picked = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            places.setdefault(index, []).append(place)
        pick = self._pick_by_time if self.info.is_indexed and not self.info.is_edited else self._pick_by_count
        for index, frame in pick(sorted(places)):
            picked[places[index]] = self._to_rgb(frame)
        return picked

    def _get_by_decord(self, indices: list[int]) -> np.ndarray:
        import decord

        try:
            self._decord = self._decord or _open_decord(self.path, self.info)
            return self._decord.get_batch(indices).asnumpy()
        except decord.DECORDError as cause:
            raise RuntimeError(str(cause)) from cause

    def _pick_by_count(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield (index, frame) for ascending indices, decoding from the start."""
        remaining = set(wanted)
        with opened(self.path, self.lenient) as (container, stream):
            frames = (frame for frame, _ in decoded(container, stream, lenient=self.lenient) if frame is not None)
            for index, frame in enumerate(frames):
                if index in remaining:
                    remaining.discard(index)
                    yield index, frame
                if not remaining:
                    return
        raise self._unreadable(min(remaining))

    def _pick_by_time(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield (index, frame) for ascending indices, jumping to key frames where that saves decoding."""
        pts, frames, reached = self.info.pts, iter(()), None
        with opened(self.path, self.lenient) as (container, stream):
            for index in wanted:
                target = int(pts[index])
                key_pts, key_dts = next(key for key in reversed(self.info.keys) if key[0] <= target)
                if reached is None or key_pts > reached:
                    container.seek(key_dts, stream=stream)
                    frames = decoded(container, stream, lenient=self.lenient)
                frame, is_bad = next(((f, bad) for f, bad in frames if bad or f.pts == target), (None, True))
                if is_bad:
                    raise self._unreadable(index)
                reached = target
                yield index, frame

    def close(self) -> None:
        self._decord = None


def _why_not_decord(info: VideoInfo) -> str | None:
    """The reason to leave a file to PyAV, or None."""
    checks = {
        "it is not installed": not _has_decord(),
        f"codec {info.codec}": info.codec not in DECORD_CODECS,
        f"pixel format {info.pix_fmt}": info.pix_fmt not in DECORD_PIXELS,
        "the picture is rotated": not info.orientation.is_identity,
        "an edit list hides frames": info.is_edited,
        "its groups of frames are open": info.is_open,  # it gives other frames when it jumps into one
        "its frames had to be counted by decoding": not info.is_indexed,
    }
    return next((reason for reason, holds in checks.items() if holds), None)


def _has_decord() -> bool:
    try:
        return importlib.util.find_spec("decord") is not None
    except ValueError:  # its entry in sys.modules was blocked
        return False


def _open_decord(path: Path, info: VideoInfo) -> decord.VideoReader:
    """A decord reader that agrees with the probe. Raises RuntimeError when it does not."""
    import decord

    reader = decord.VideoReader(str(path.absolute()), num_threads=2)
    if len(reader) != info.frame_count:
        raise RuntimeError(f"it counts {len(reader)} frames, not {info.frame_count}")
    shape = reader.get_batch([0]).shape[1:3]
    if tuple(shape) != (info.height, info.width):
        raise RuntimeError(f"it shows {shape[1]}x{shape[0]}")
    times = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    if times[0] < 0 or not np.allclose(times - times[0], info.starts, atol=2e-3):
        raise RuntimeError("it gives other timestamps")
    return reader
