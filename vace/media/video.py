"""Video in and out: `VideoReader` for whatever shows moving pictures, `VideoWriter` for what we make."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from vace.errors import InputError
from vace.media.clip import CHUNK
from vace.media.decode import VideoSource
from vace.media.files import check_free_space, existing_file
from vace.media.image import is_image
from vace.media.probe import EXPECTED
from vace.media.stills import AnimationSource, FolderSource, animated_format, folder_files
from vace.media.writer import VideoWriter, estimated_bytes

__all__ = ["VideoReader", "VideoWriter", "check_free_space", "estimated_bytes"]

BACKENDS = ("auto", "decord", "av")


class VideoReader:
    """A `Clip` over a video file, an animation, a folder of images (by name) or one image.

    width, height: pixels as shown, after rotation. fps: frames a second (16 for images). frame_count: what a full
    decode shows. timestamps: float32 [N,2], start and end of every frame in seconds from the first. codec, backend: for
    messages. Frames are RGB uint8; more than 8 bits are reduced to 8, transparency is laid over white.

    backend: "auto" reads in order by PyAV and picks frames by decord where the two are known to agree; "av" and
    "decord" use one for both. Raises InputError for anything that cannot be read in full; with `allow_truncated` the
    frames that can be decoded are given, with a warning. Damage inside a file shows itself while its frames are read.
    """

    def __init__(self, path: str | os.PathLike, *, allow_truncated: bool = False, backend: str = "auto") -> None:
        if backend not in BACKENDS:
            raise InputError(f"backend '{backend}' is unknown; expected one of {', '.join(BACKENDS)}")
        self.path = Path(path)
        self.name = self.path.name or str(path)
        self._source = _open_source(self.path, allow_truncated, backend)
        self.width, self.height = self._source.width, self._source.height
        self.fps = float(self._source.fps)
        self.codec = self._source.codec
        self.has_audio = self._source.has_audio
        self.is_rgb = self._source.is_rgb  # stored as RGB, not as luma and chroma: animations, pictures, exact files
        self.frame_count = len(self._source.starts)
        self.timestamps = np.stack([self._source.starts, self._source.ends], axis=1).astype(np.float32)
        self.duration = float(self._source.ends[-1])  # seconds
        self.begins = 0.0  # seconds of the file before the first frame; a `TrimmedClip` has some

    @property
    def backend(self) -> str:
        """What picks frames: "decord" or "av" for video files, "imageio" for animations, "images" for pictures."""
        return self._source.backend

    def chunks(self, size: int = CHUNK, first: int = 0) -> Iterator[np.ndarray]:
        """Yield RGB uint8 [t,H,W,3], 1 <= t <= size, in order; every call starts over. Raises InputError at damage.

        first: the frame to begin with; what lies before it is passed over without decoding, where the file allows.
        """
        return self._source.chunks(size, first)

    def get(self, indices: Sequence[int]) -> np.ndarray:
        """The frames with these indices, any order, repeats allowed: RGB uint8 [n,H,W,3]. IndexError when outside."""
        wrong = [i for i in indices if not 0 <= i < self.frame_count]
        if wrong:
            raise IndexError(f"{self.name}: frame {wrong[0]} asked for, it has 0 to {self.frame_count - 1}")
        if len(indices) == 0:
            return np.empty((0, self.height, self.width, 3), np.uint8)
        return self._source.get(indices)

    def close(self) -> None:
        """Let go of the decoder."""
        self._source.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _open_source(path: Path, allow_truncated: bool, backend: str) -> VideoSource | FolderSource | AnimationSource:
    if path.is_dir():
        return FolderSource(folder_files(path), path)
    path = existing_file(path, EXPECTED)
    if not is_image(path):
        return VideoSource(path, allow_truncated=allow_truncated, backend=backend)
    animated = animated_format(path)
    if animated:
        return AnimationSource(path, animated, allow_truncated=allow_truncated)
    return FolderSource([path], path)
