"""Videos out: exact ones for models to read, playable ones for people to watch, folders of PNGs for other tools.

Each writer encodes in a thread of its own, a few frames behind `write`, so that several of them and the decoder work at
once (the encoders let go of the interpreter lock).
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from vace.errors import OutputError
from vace.media.files import discard, output_error, refusals_as_output_errors, reserve
from vace.media.image import encode_png
from vace.media.sound import SoundTrack

if TYPE_CHECKING:
    import av

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
QUEUED_FRAMES = 8  # 22 MB at 720p: enough to bridge the encoder's uneven pace
BT709, LIMITED_RANGE = 1, 1  # ffmpeg's numbers for the colour tags
CPU_AVX_512F = 13  # OpenCV's number for it, which its Python module does not name
UP_TO_AVX2 = "asm=MMX2,SSE2Fast,LZCNT,SSSE3,SSE4.2,AVX,FMA3,BMI2,AVX2"


@dataclass(frozen=True)
class Kind:
    """One way of writing. bytes_per_pixel: measured on detailed footage; plain footage takes half, noise thrice it."""

    bytes_per_pixel: float
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_subsampled(self) -> bool:
        return self.pix_fmt == "yuv420p"

    def encoder_options(self) -> dict[str, str]:
        """Options for the encoder, such that the same frames give the same bytes on the same machine.

        The AVX-512 code of x264's macroblock tree reads memory it never set (measured: with it the bytes follow
        MALLOC_PERTURB_, without it they do not), so it is left out where the processor has it.
        """
        import cv2

        repeatable = {"x264-params": UP_TO_AVX2} if cv2.checkHardwareSupport(CPU_AVX_512F) else {}
        return self.options | repeatable


KINDS = {
    # RGB comes back bit for bit; veryfast is 1.6 times faster than medium and 18 % larger
    "exact": Kind(0.7, "libx264rgb", "rgb24", {"crf": "0", "preset": "veryfast"}),
    "small": Kind(0.06, options={"crf": "20", "preset": "veryfast"}),
    "preview": Kind(0.08, options={"crf": "18", "preset": "veryfast"}),
    "result": Kind(0.08, options={"crf": "18", "preset": "medium"}),
    "png": Kind(1.6),
}


def estimated_bytes(kind: str, width: int, height: int, frames: int) -> int:
    """About how many bytes a file of this kind takes (see `Kind`). Raises OutputError for an unknown kind."""
    return int(_kind(kind).bytes_per_pixel * width * height * frames) + 65536


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise OutputError(f"unknown kind of output '{name}'; expected one of {', '.join(KINDS)}")
    return KINDS[name]


class VideoWriter:
    """Writes frames to `path` under a temporary name; a clean exit renames it, any exception removes it.

    path: .mp4, .m4v, .mov or .mkv; for kind "png" a new or empty folder. fps: frames a second. kind: "exact"
    (libx264rgb, the same RGB comes back), "small", "preview", "result" (h264 yuv420p bt709 with the index in front,
    odd sizes padded by repeating one edge pixel), "png" (frame_00000.png ...). audio_from: (source, start, duration) in
    seconds from the source's first frame; its sound is carried over as aac. comment: text kept in the container.

    Raises OutputError when the place cannot be written or the disk fills up (from `write` or on exit), InputError when
    the source of sound cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        fps: float,
        *,
        kind: str,
        audio_from: tuple[str | os.PathLike, float, float] | None = None,
        comment: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.frame_count = 0
        settings = _kind(kind)
        sink_type = _FolderSink if kind == "png" else _FileSink
        self._sink = sink_type(self.path, fps, settings, audio_from, comment)
        self._shape: tuple[int, int] | None = None
        self._error: BaseException | None = None
        self._queue: queue.Queue = queue.Queue(QUEUED_FRAMES)
        self._thread: threading.Thread | None = None
        self._abandoned = threading.Event()

    def write(self, frames: np.ndarray) -> None:
        """Add RGB uint8 [t,H,W,3] or gray uint8 [t,H,W]; every call of one size. The array may be reused afterwards."""
        self._check(frames)
        if self._thread is None:
            self._shape = frames.shape[1:3]
            self._thread = threading.Thread(target=self._work, name=f"write {self.path.name}", daemon=True)
            self._thread.start()
        for frame in frames:
            self._put(self._sink.prepare(frame))
            self.frame_count += 1

    def _check(self, frames: np.ndarray) -> None:
        if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or (frames.ndim == 4 and frames.shape[3] != 3):
            found = f"{frames.dtype} {frames.shape}"
            raise OutputError(f"{self.path}: cannot write {found}; expected uint8 [t,H,W,3] or [t,H,W]")
        if self._shape is not None and frames.shape[1:3] != self._shape:
            (height, width), (now_height, now_width) = self._shape, frames.shape[1:3]
            raise OutputError(
                f"{self.path}: frames of {now_width}x{now_height} after frames of {width}x{height}; expected one size"
            )

    def _put(self, item: object) -> None:
        while True:
            if self._error is not None:
                raise self._error
            with contextlib.suppress(queue.Full):
                return self._queue.put(item, timeout=0.5)  # wakes up to see whether the encoder failed

    def _work(self) -> None:
        """The encoder's thread. Whatever goes wrong here is raised again by `write` or on exit."""
        try:
            while not self._abandoned.is_set() and (item := self._queue.get()) is not None:
                self._sink.add(item)
        except OSError as cause:
            self._error = output_error(self.path, cause)
        except BaseException as cause:  # noqa: BLE001 - handed to the caller's thread
            self._error = cause

    def _finish_thread(self) -> None:
        if self._thread is None:
            raise OutputError(f"{self.path}: no frame was made for it; nothing was written")
        self._put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _stop_thread(self) -> None:
        self._abandoned.set()
        if self._thread is None:
            return
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._queue.put(None)
        self._thread.join()

    def close(self) -> None:
        """Finish the file and give it its name. Nothing is left behind when that fails."""
        try:
            self._finish_thread()
            with refusals_as_output_errors(self.path):
                self._sink.finish()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Stop and remove what was written."""
        self._stop_thread()
        self._sink.discard()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self.abort()


class _FileSink:
    """One video file: container, picture stream, sound."""

    def __init__(self, path: Path, fps: float, kind: Kind, audio_from: tuple | None, comment: str | None) -> None:
        self.path, self.kind, self.comment = path, kind, comment
        self.rate = Fraction(fps).limit_denominator(1001)
        if self.rate <= 0:
            raise OutputError(f"{path}: cannot write at {fps} frames a second; expected a positive rate")
        if path.suffix.lower() not in CONTAINERS:
            raise OutputError(f"{path}: unknown kind of video file '{path.suffix}'; expected {', '.join(CONTAINERS)}")
        self.audio_from, self.count = audio_from, 0
        self.container = self.sound = None
        self.temporary = reserve(path)

    def prepare(self, frame: np.ndarray) -> av.VideoFrame:
        """RGB [H,W,3] or gray [H,W] -> the frame to encode; a copy, so the caller may reuse its array."""
        import av

        if self.kind.is_subsampled and (frame.shape[0] % 2 or frame.shape[1] % 2):
            pad = [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2)] + [(0, 0)] * (frame.ndim - 2)
            frame = np.pad(frame, pad, mode="edge")
        if frame.ndim == 2:
            frame = np.broadcast_to(frame[..., None], (*frame.shape, 3))
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")

    def _open(self, width: int, height: int) -> None:
        import av

        name = CONTAINERS[self.path.suffix.lower()]
        options = {} if name == "matroska" else {"movflags": "+faststart"}
        self.container = av.open(str(self.temporary.absolute()), "w", format=name, options=options)
        if self.comment is not None:
            self.container.metadata["comment"] = self.comment
        self.video = self.container.add_stream(self.kind.codec, rate=self.rate, options=self.kind.encoder_options())
        self.video.width, self.video.height, self.video.pix_fmt = width, height, self.kind.pix_fmt
        self.video.codec_context.time_base = 1 / self.rate
        if self.kind.is_subsampled:
            context = self.video.codec_context
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED_RANGE
        if self.audio_from is not None:
            self.sound = SoundTrack(self.container, *self.audio_from)

    def add(self, frame: av.VideoFrame) -> None:
        if self.container is None:
            self._open(frame.width, frame.height)
        if self.kind.is_subsampled:
            frame = frame.reformat(format=self.kind.pix_fmt, dst_colorspace=BT709, dst_color_range=LIMITED_RANGE)
        frame.pts, frame.time_base = self.count, 1 / self.rate
        self.container.mux(self.video.encode(frame))
        self.count += 1
        if self.sound is not None:
            self.sound.advance(float(self.count / self.rate))

    def finish(self) -> None:
        self.container.mux(self.video.encode(None))
        if self.sound is not None:
            self.sound.finish(float(self.count / self.rate))
        self._close()
        os.replace(self.temporary, self.path)

    def _close(self) -> None:
        container, sound, self.container, self.sound = self.container, self.sound, None, None
        if sound is not None:
            sound.close()
        if container is not None:
            container.close()

    def discard(self) -> None:
        import av

        with contextlib.suppress(OSError, av.FFmpegError):  # the end of a file that is thrown away may fail as well
            self._close()
        discard(self.temporary)


class _FolderSink:
    """A folder of frame_00000.png, frame_00001.png, ...; sound and comment have no place in it."""

    def __init__(self, path: Path, fps: float, kind: Kind, audio_from: tuple | None, comment: str | None) -> None:
        self.path, self.count = path, 0
        with refusals_as_output_errors(path):
            if path.is_dir() and any(path.iterdir()):
                raise OutputError(f"{path}: already holds files; name a new folder for the images")
            if path.is_dir():
                path.rmdir()
        self.temporary = reserve(path)
        with refusals_as_output_errors(path):
            self.temporary.unlink()
            self.temporary.mkdir()

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        return frame.copy()

    def add(self, frame: np.ndarray) -> None:
        encode_png(self.temporary / f"frame_{self.count:05d}.png", frame)
        self.count += 1

    def finish(self) -> None:
        os.replace(self.temporary, self.path)

    def discard(self) -> None:
        discard(self.temporary)
