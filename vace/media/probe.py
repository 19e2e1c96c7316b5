"""What a video file holds, found out cheaply: its packets are walked through once, only the first frame is decoded.

The frame count is that of the packets to be shown, where container and codec make that the truth; else the frames are
counted by decoding. A file that holds less than its header promises is an error unless the caller allows it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vace.errors import InputError

if TYPE_CHECKING:
    import av

logger = logging.getLogger("vace")

EXPECTED = "a video (mp4, mov, mkv, webm, avi), a gif, an image or a folder of images"
# Demuxers that accept text or point at other files: never a video of the user's.
FOREIGN_FORMATS = {"tty", "bin", "xbin", "adf", "idf", "concat", "hls", "dash", "sdp", "lavfi"}
INDEXED_FORMATS = ("mp4", "matroska")  # one packet holds one shown frame here, for the codecs below
COUNTABLE_CODECS = {"h264", "hevc", "vp9", "av1", "mjpeg", "prores", "ffv1", "png", "dnxhd", "rawvideo"}
LATE = 0.5  # seconds of the promised duration that may be missing before a file counts as cut short
STRICT = {"err_detect": "explode"}  # the decoder reports damage it would otherwise paint over
HDR_CURVES = {16: "PQ", 18: "HLG"}  # color_trc values that need tone mapping to look right


@dataclass(frozen=True)
class Orientation:
    """How stored pixels become shown pixels: swap the sides first, then flip."""

    swap: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def is_identity(self) -> bool:
        return not (self.swap or self.flip_x or self.flip_y)

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """A view of [H,W,C] as it is meant to be shown."""
        if self.swap:
            frame = frame.transpose(1, 0, 2)
        return frame[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


@dataclass(frozen=True)
class VideoInfo:
    """One video stream. width, height, orientation: as shown. starts, ends: seconds float64 [N] from the first frame.

    pts: int64 [N] of the shown frames, ascending, in the stream's time base. keys: (pts, dts) of the key frames, where
    decoding can start.
    """

    width: int
    height: int
    fps: float
    codec: str
    pix_fmt: str
    orientation: Orientation
    has_audio: bool
    pts: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    keys: list[tuple[int, int]]
    is_edited: bool  # an edit list hides frames
    is_open: bool  # frames shown before a key frame are decoded after it, from both sides
    is_indexed: bool  # `pts` came from whole packets: a frame can be found by its time

    @property
    def frame_count(self) -> int:
        return len(self.pts)


@dataclass
class Scan:
    """What walking through the packets showed."""

    times: list[tuple[int, int]] = field(default_factory=list)  # (pts, duration) of the packets to be shown
    keys: list[tuple[int, int]] = field(default_factory=list)  # (pts, dts)
    packets: int = 0
    hidden: int = 0  # decoded but not shown: outside the edit list
    broken: int = 0  # read only in part
    empty: int = 0  # a repeat of the frame before, as avi stores it
    untimed: int = 0
    leading: int = 0  # shown before the key frame they come after
    end: float = 0.0  # seconds: where the last packet of any stream ends
    first: av.VideoFrame | None = None


@contextlib.contextmanager
def opened(path: Path, lenient: bool = False) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its main video stream, set up for decoding. Raises InputError when there is none."""
    import av

    try:
        container = av.open(str(path.absolute()))  # absolute: a colon in a bare name would read as a protocol
    except (av.FFmpegError, ValueError) as cause:
        raise InputError(f"{path}: {_why_unreadable(path)}") from cause
    with container:
        if container.format.name in FOREIGN_FORMATS:
            raise InputError(f"{path}: is not a video; expected {EXPECTED}; check the path")
        stream = main_stream(container, path)
        stream.thread_type = "AUTO"
        if not lenient:
            stream.codec_context.options = dict(STRICT)
        yield container, stream


def _why_unreadable(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "is an mp4 without its index: cut short or never finished, 0 frames can be decoded; copy it again"
    return f"is not a readable video; expected {EXPECTED}; convert it or check the path"


def main_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The best video stream that is no cover picture. Raises InputError when there is none."""
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        found = "only sound" if container.streams.audio else "no picture"
        raise InputError(f"{path}: holds {found}, no video stream; expected {EXPECTED}; choose another file")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise InputError(f"{path}: its video codec is unknown to this build; convert it to h264 first")
    return stream


def probe(path: Path, *, allow_truncated: bool = False) -> VideoInfo:
    """Find out what `path` holds.

    With `allow_truncated` every frame is decoded once to count what is really there, and damage is a warning.
    Raises InputError: not a video, no video stream, nothing decodable, or less than the header promises.
    """
    with opened(path, lenient=allow_truncated) as (container, stream):
        scan = _scan(container, stream)
        promised = _promised(container, stream, scan, path.stat().st_size)
        if scan.first is None:
            codec = stream.codec_context.codec.canonical_name
            raise InputError(f"{path}: no frame can be decoded (codec {codec}); copy it again")
        is_short = promised is not None and promised > len(scan.times)
        is_indexed = not is_short and not allow_truncated and _is_countable(container, stream, scan)
        if not is_indexed:
            times, errors = count_by_decoding(path, lenient=allow_truncated or is_short)
            _judge(path, promised, len(times), errors, allow_truncated)
            scan.times = sorted(times)  # some containers give frames their packets' times in decoding order
        return _describe(container, stream, scan, path, is_indexed)


def _scan(container: av.container.InputContainer, stream: av.VideoStream) -> Scan:
    import av

    scan = Scan()
    for packet in container.demux():
        is_ours = packet.stream_index == stream.index
        if packet.dts is not None and packet.time_base:
            last = (packet.pts if packet.pts is not None else packet.dts) + (packet.duration or 0)
            scan.end = max(scan.end, float(last * packet.time_base))
        if is_ours and scan.first is None:
            with contextlib.suppress(av.FFmpegError):  # a cut may begin with packets that need an absent key frame
                scan.first = next(iter(packet.decode()), None)
        if is_ours and packet.size:
            _note(scan, packet)
        elif is_ours and packet.dts is not None:
            scan.empty += 1
    scan.times.sort()
    scan.keys.sort()
    return scan


def _note(scan: Scan, packet: av.Packet) -> None:
    scan.packets += 1
    if packet.is_keyframe and packet.pts is not None:
        scan.keys.append((packet.pts, packet.dts if packet.dts is not None else packet.pts))
    if packet.is_corrupt:
        scan.broken += 1
    elif packet.is_discard:
        scan.hidden += 1
    elif packet.pts is None:
        scan.untimed += 1
    else:
        scan.leading += bool(scan.keys) and packet.pts < scan.keys[-1][0]
        scan.times.append((packet.pts, packet.duration or 0))


def _promised(
    container: av.container.InputContainer, stream: av.VideoStream, scan: Scan, file_bytes: int
) -> int | None:
    """How many shown frames the header promises when the file holds fewer; None when it keeps its promise."""
    if "mp4" in container.format.name:
        entries = [entry for entry in stream.index_entries if entry.size > 0]
        is_cut = scan.packets - scan.broken < len(entries) or any(e.pos + e.size > file_bytes for e in entries)
        return sum(1 for entry in entries if not entry.is_discard) if is_cut else None
    if container.format.name == "avi" and stream.frames > scan.packets + scan.empty:
        return stream.frames
    if container.format.name == "mpegts" or not container.duration:
        return None  # such a file promises nothing
    seconds = container.duration / 1e6
    missing = seconds + max(container.start_time or 0, 0) / 1e6 - scan.end
    if missing > LATE or scan.broken:
        return max(round(seconds * float(stream.average_rate or 0)), len(scan.times) + max(scan.broken, 1))
    return None


def _is_countable(container: av.container.InputContainer, stream: av.VideoStream, scan: Scan) -> bool:
    """True when the packets to be shown are known to be the frames a full decode gives."""
    times = [pts for pts, _ in scan.times]
    return (
        any(name in container.format.name for name in INDEXED_FORMATS)
        and stream.codec_context.codec.canonical_name in COUNTABLE_CODECS
        and not (scan.broken or scan.empty or scan.untimed)
        and len(set(times)) == len(times) > 0
        and bool(scan.keys)
        # leading pictures before the first key frame are lost when a stream was cut there
        and (scan.hidden > 0 or scan.keys[0][0] <= times[0])
    )


def count_by_decoding(path: Path, *, lenient: bool) -> tuple[list[tuple[int, int]], int]:
    """((pts, duration) of every frame a full decode shows, number of frames with errors)."""
    times: list[tuple[int, int]] = []
    damaged = 0
    with opened(path, lenient=lenient) as (container, stream):
        for frame, has_error in decoded(container, stream, lenient=lenient):
            damaged += has_error
            if frame is not None:
                after_last = sum(times[-1]) if times else 0  # for streams that carry no times: start + duration
                times.append((after_last if frame.pts is None else frame.pts, frame.duration or 1))
    return times, damaged


def decoded(
    container: av.container.InputContainer, stream: av.VideoStream, *, lenient: bool
) -> Iterator[tuple[av.VideoFrame | None, bool]]:
    """Yield (frame, has_error) for every frame shown and (None, True) for every packet that gave only an error.

    Errors before the first good frame are passed over: a stream may have been cut between key frames.
    """
    import av

    started = False
    for packet in container.demux(stream):
        if packet.is_corrupt and lenient:
            continue  # read only in part: what it would give is mostly made up
        try:
            frames = packet.decode()
        except av.FFmpegError:
            if started:
                yield None, True
            continue
        for frame in frames:
            if frame.is_corrupt and not started and not lenient:
                continue
            started = True
            yield frame, bool(frame.is_corrupt)


def _judge(path: Path, promised: int | None, found: int, errors: int, allowed: bool) -> None:
    """Raise or warn about a file that is cut short or damaged."""
    if found == 0:
        raise InputError(f"{path}: no frame can be decoded; copy or download it again")
    if promised is not None:
        text = f"{path}: is cut short: its header promises {promised} frames, {found} can be decoded"
    elif errors:
        text = f"{path}: is damaged: {found} frames can be decoded, {errors} places cannot"
    else:
        return
    if not allowed:
        raise InputError(f"{text}; copy it again, or go on with what is there by --allow_truncated")
    logger.warning("%s; going on with these", text)


def orientation_of(frame: av.VideoFrame, path: Path) -> Orientation:
    """Read the display matrix: x' = a x + c y, y' = b x + d y in 16.16 fixed point."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    matrix = np.frombuffer(bytes(data), np.int32)
    a, b, c, d = (int(np.sign(v)) if abs(int(v)) > 32768 else 0 for v in matrix[[0, 1, 3, 4]])
    if (a and d) and not (b or c):
        return Orientation(False, a < 0, d < 0)
    if (b and c) and not (a or d):
        return Orientation(True, c < 0, b < 0)
    logger.warning("%s: asks to be shown at an angle that is no quarter turn; shown as stored", path)
    return Orientation()


def _describe(
    container: av.container.InputContainer, stream: av.VideoStream, scan: Scan, path: Path, is_indexed: bool
) -> VideoInfo:
    frame = scan.first
    orientation = orientation_of(frame, path)
    width, height = (frame.height, frame.width) if orientation.swap else (frame.width, frame.height)
    if int(frame.color_trc) in HDR_CURVES:
        logger.warning("%s: HDR (%s) is read without tone mapping", path, HDR_CURVES[int(frame.color_trc)])
    if (stream.sample_aspect_ratio or 1) != 1:
        logger.warning("%s: its pixels are not square (%s); read as stored", path, stream.sample_aspect_ratio)
    starts, ends = _intervals(scan.times, stream.time_base)
    return VideoInfo(
        width=width,
        height=height,
        fps=_frame_rate(stream, starts, ends),
        codec=stream.codec_context.codec.canonical_name,
        pix_fmt=frame.format.name,
        orientation=orientation,
        has_audio=bool(container.streams.audio),
        pts=np.array([pts for pts, _ in scan.times], np.int64),
        starts=starts,
        ends=ends,
        keys=scan.keys,
        is_edited=scan.hidden > 0,
        is_open=scan.leading > 0,
        is_indexed=is_indexed,
    )


def _intervals(times: list[tuple[int, int]], time_base: Fraction) -> tuple[np.ndarray, np.ndarray]:
    """Start and end seconds of every frame: each is shown until the next; the last for its own duration."""
    pts = np.array([pts for pts, _ in times], np.int64)
    last = times[-1][1] or (int(np.median(np.diff(pts))) if len(pts) > 1 else 0)
    edges = np.append(pts, pts[-1] + last) - pts[0]
    seconds = edges * time_base.numerator / time_base.denominator
    return seconds[:-1], seconds[1:]


def _frame_rate(stream: av.VideoStream, starts: np.ndarray, ends: np.ndarray) -> float:
    """The declared rate where the timestamps bear it out within 2 %, else frames over time."""
    declared = float(stream.average_rate or 0)
    measured = (len(starts) - 1) / starts[-1] if len(starts) > 1 and starts[-1] > 0 else 0.0
    if declared and (not measured or abs(measured - declared) <= 0.02 * declared):
        return declared
    return float(measured or (1.0 / ends[-1] if ends[-1] > 0 else 16.0))
