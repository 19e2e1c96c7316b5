"""What is marked on: the frame of a clip or a picture, for the browser; and what was marked, back from it."""

from __future__ import annotations

import base64
import binascii
import io
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from vace.errors import InputError

SHOWN = 1280  # pixels of the longer side of what a browser gets
LARGEST = 8192  # pixels of a side of a mask that is taken
PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]{1,40000000})")


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
    """Raises InputError for what is no readable video."""
    from vace.media.video import VideoReader

    with VideoReader(path) as clip:
        return ClipFacts(clip.frame_count, clip.fps, clip.width, clip.height)


def frame_of(path: Path, index: int = 0) -> Still:
    """Frame `index` of a clip, or its last where it has fewer. Raises InputError for what is no readable video."""
    from vace.media.video import VideoReader

    with VideoReader(path) as clip:
        return _still(clip.get([max(0, min(index, clip.frame_count - 1))])[0])


def picture_of(path: Path) -> Still:
    """Raises InputError for what is no readable picture."""
    from vace.media.image import read_image

    return _still(read_image(path))


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
