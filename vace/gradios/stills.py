"""What is marked on: the frame of a clip or a picture, for the browser; and what was marked, back from it."""

from __future__ import annotations

import base64
import binascii
import io
import itertools
import re
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

from vace.errors import InputError

SHOWN = 1280  # pixels of the longer side of what a browser gets
LARGEST = 8192  # pixels of a side of a mask that is taken
MOST_PIXELS = 40_000_000  # of a frame that is decoded for being shown
MOST_FRAMES, MOST_DECODED = 5000, 4_000_000_000  # of an animated picture, which is decoded whole: frames, pixels
FIRST_PACKETS = 50  # in which a clip that was cut shows its first frame
PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]{1,40000000})")


# The server decodes these itself: however many ask at once, so many are held in memory.
_decoding = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class Still:
    """width, height: pixels of the source. picture: a data address of it, maybe smaller, or "" for an empty canvas."""

    width: int
    height: int
    picture: str = ""


@dataclass(frozen=True)
class ClipFacts:
    """What a page tells of a clip."""

    frames: int
    fps: float
    width: int
    height: int

    def describe(self, first: int, last: int) -> str:
        """In words, with the frames from `first` to `last` chosen."""
        count = last - first + 1
        used = "all" if count == self.frames else f"{count}"
        seconds = f"{count / self.fps:.1f} s at {self.fps:g} frames a second"
        return f"{self.width}x{self.height}, {used} of {self.frames} frames used: {seconds}"


def clip_facts(path: Path) -> ClipFacts:
    """Raises InputError for what is no readable video, or too large to be shown."""
    from vace.media.video import VideoReader

    with _decoding:
        check_showable(path)
        with VideoReader(path) as clip:
            return ClipFacts(clip.frame_count, clip.fps, clip.width, clip.height)


def frame_of(path: Path, index: int = 0) -> Still:
    """Frame `index` of a clip, or its last where it has fewer. Raises InputError as `clip_facts` does."""
    from vace.media.video import VideoReader

    with _decoding:
        check_showable(path)
        with VideoReader(path) as clip:
            return _still(clip.get([max(0, min(index, clip.frame_count - 1))])[0])


def picture_of(path: Path) -> Still:
    """Raises InputError for what is no readable picture, or too large to be shown."""
    from vace.media.image import read_image

    with _decoding:
        check_showable(path)
        return _still(read_image(path))


def check_showable(path: Path) -> None:
    """Raise InputError for pictures larger than can be decoded beside the pages; what is unreadable passes.

    A few bytes can promise any size, so that is asked of the headers, before anything is decoded.
    """
    from PIL import Image

    from vace.media.image import FORMATS
    from vace.media.stills import ANIMATED

    try:
        with Image.open(path, formats=FORMATS) as picture:
            (width, height), form = picture.size, picture.format
            _check_size(path, width, height)
            if form in ANIMATED:
                frames = _gif_frames(path) if form == "GIF" else getattr(picture, "n_frames", 1)
                _check_length(path, frames, width * height)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: is too large to show here; shrink it first") from error
    except (OSError, ValueError, SyntaxError):  # a video, or nothing at all
        _check_video(path)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise InputError(f"{path}: is {width}x{height}, too large to show here; shrink it first")


def _check_length(path: Path, frames: int, pixels: int) -> None:
    if frames > 1 and (frames > MOST_FRAMES or frames * pixels > MOST_DECODED):
        count = f"{frames} frames" if frames <= MOST_FRAMES else f"more than {MOST_FRAMES} frames"
        raise InputError(f"{path}: is an animated picture of {count}, too long to show here; make it a video first")


def _gif_frames(path: Path) -> int:
    """Counted by their packets, no further than to one too many; 0 when there is nothing to count."""
    import av

    try:
        with av.open(str(path.absolute()), options=_limits()) as container:
            packets = (packet for packet in container.demux(video=0) if packet.size)
            return sum(1 for _ in itertools.islice(packets, MOST_FRAMES + 1))
    except (av.FFmpegError, IndexError):
        return 0


def _check_video(path: Path) -> None:
    """The size in the container, and that of the first frame: the two need not agree."""
    import av

    try:
        with av.open(str(path.absolute()), options=_limits()) as container:
            for stream in container.streams.video:
                context = stream.codec_context
                if context is None:
                    continue
                _check_size(path, context.width, context.height)
                context.options = _limits()
            _check_first_frame(path, container)
    except (av.FFmpegError, ValueError, IndexError):  # what is wrong is told by whoever reads it
        return


def _check_first_frame(path: Path, container) -> None:
    import av

    for packet in itertools.islice(container.demux(video=0), FIRST_PACKETS):
        try:
            if packet.decode():
                return
        except av.FFmpegError:
            context = packet.stream.codec_context
            if not context.width * context.height:  # which FFmpeg forgets when it finds another that is too large
                raise InputError(f"{path}: is damaged, or too large to show here; convert it first") from None


def _limits() -> dict[str, str]:
    return {"max_pixels": str(MOST_PIXELS)}


def empty_canvas(size: str | None) -> Still:
    """Nothing, of the size that --size gives; one that is no size has no canvas."""
    from vace.conditioning.sizes import parse_size

    try:
        return Still(*parse_size(size or "720p").sides)
    except InputError:
        return Still(0, 0)


def _still(frame) -> Still:
    """frame: RGB uint8 [H,W,3]."""
    from PIL import Image

    height, width = frame.shape[:2]
    picture = Image.fromarray(frame)
    picture.thumbnail((SHOWN, SHOWN))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=88)
    return Still(width, height, "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii"))


def painted(address: object, folder: Path, flag: str = "--mask") -> Path | None:
    """A mask painted in the browser as a file in `folder`, white and black; None where nothing is painted.

    address: the data address of a PNG. Raises InputError for anything else that is not empty.
    """
    if not address:
        return None
    import numpy as np
    from PIL import Image

    found = PNG.fullmatch(address) if isinstance(address, str) else None
    try:
        data = base64.b64decode(found[1], validate=True) if found else b""
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if max(picture.size) > LARGEST:
                raise InputError(f"{flag}: a painted mask of {picture.size[0]}x{picture.size[1]} is too large")
            mask = np.asarray(picture.convert("L"))
    except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise InputError(f"{flag}: what was painted cannot be read; clear it and paint again") from error
    mask = np.where(mask >= 128, np.uint8(255), np.uint8(0))
    if not mask.any():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"painted-{secrets.token_hex(8)}.png"
    from vace.media.image import write_image

    write_image(path, mask)
    return path
