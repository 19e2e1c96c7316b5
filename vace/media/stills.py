"""Clips that are no video files: one image, a folder of images, an animated gif, webp or png."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vace.errors import InputError
from vace.media.files import natural_key
from vace.media.image import FORMATS, SUFFIXES, flatten, image_size, read_image

STILL_FPS = 16.0  # images carry no rate: the one Wan makes
SLOWEST_HURRY = 10  # ms: durations up to this are shown for 100 ms, as browsers do
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")


class FolderSource:
    """Images as frames, in the order of their names. All must be of one size."""

    codec, backend, has_audio, is_rgb, fps = "images", "images", False, True, STILL_FPS

    def __init__(self, files: Sequence[Path], name: Path) -> None:
        self.files, self.name = list(files), name
        self.width, self.height = image_size(self.files[0])
        for file in self.files[1:]:
            size = image_size(file)
            if size != (self.width, self.height):
                raise InputError(
                    f"{file}: is {size[0]}x{size[1]}, but {self.files[0].name} is {self.width}x{self.height}; "
                    "the images of a clip must be of one size"
                )
        edges = np.arange(len(self.files) + 1) / STILL_FPS
        self.starts, self.ends = edges[:-1], edges[1:]

    def chunks(self, size: int, first: int = 0) -> Iterator[np.ndarray]:
        for start in range(first, len(self.files), size):
            yield self.get(range(start, min(start + size, len(self.files))))

    def get(self, indices: Sequence[int]) -> np.ndarray:
        return np.stack([read_image(self.files[index]) for index in indices])

    def close(self) -> None:
        """Nothing is held open between reads."""


def folder_files(folder: Path) -> list[Path]:
    """The images of a folder, frame_2 before frame_10. Raises InputError when there are none."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
    if not files:
        raise InputError(f"{folder}: is a folder without images; expected a video file or a folder of png or jpg files")
    return sorted(files, key=natural_key)


class AnimationSource:
    """An animated gif, webp, png or avif, each frame composited over white."""

    backend, has_audio, is_rgb = "imageio", False, True

    def __init__(self, path: Path, codec: str, *, allow_truncated: bool) -> None:
        self.path, self.codec, self.lenient = path, codec, allow_truncated
        durations = [ms for _, ms in self._frames()]
        edges = np.cumsum([0.0, *durations]) / 1000.0
        self.starts, self.ends = edges[:-1], edges[1:]
        self.fps = len(durations) / edges[-1]

    def _frames(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield (RGB uint8 [H,W,3], duration in ms). Raises InputError, or stops there when lenient, at damage."""
        import imageio.v3 as iio

        done = 0
        try:
            with iio.imopen(self.path, "r", plugin="pillow") as file:
                for rgba in file.iter(mode="RGBA", rotate=False):
                    self.height, self.width = rgba.shape[:2]
                    ms = float(file.metadata(index=..., exclude_applied=False).get("duration") or 0)
                    yield flatten(rgba, 255), (ms if ms > SLOWEST_HURRY else 100.0)
                    done += 1
        except (OSError, ValueError, SyntaxError, EOFError, IndexError) as cause:
            if not (self.lenient and done):
                raise self._cut_short(done) from cause
            return
        if self.codec == "gif" and not self.lenient and not self._has_end_mark():
            raise self._cut_short(done)

    def _cut_short(self, done: int) -> InputError:
        return InputError(
            f"{self.path}: is cut short or damaged: it promises more than the {done} frames that can be decoded; "
            "copy it again, or go on with what is there by --allow_truncated"
        )

    def _has_end_mark(self) -> bool:
        with open(self.path, "rb") as file:
            file.seek(-min(64, self.path.stat().st_size), 2)
            return b"\x3b" in file.read()

    def chunks(self, size: int, first: int = 0) -> Iterator[np.ndarray]:
        picked: list[np.ndarray] = []
        for frame, _ in itertools.islice(self._frames(), first, None):  # each is laid over the one before
            picked.append(frame)
            if len(picked) == size:
                yield np.stack(picked)
                picked = []
        if picked:
            yield np.stack(picked)

    def get(self, indices: Sequence[int]) -> np.ndarray:
        wanted = set(indices)
        found = {index: frame for index, (frame, _) in enumerate(self._frames()) if index in wanted}
        return np.stack([found[index] for index in indices])

    def close(self) -> None:
        """Nothing is held open between reads."""


def animated_format(path: Path) -> str | None:
    """The format's name in lower case when the image file holds several pictures to be shown in turn, else None."""
    from PIL import Image

    with Image.open(path, formats=FORMATS) as picture:
        is_animated = picture.format in ANIMATED and getattr(picture, "n_frames", 1) > 1
        return picture.format.lower() if is_animated else None
