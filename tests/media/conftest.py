"""Small real video files, encoded on the fly, for the media tests."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

QUIET = {"libx265": {"x265-params": "log-level=error"}, "libsvtav1": {"svtav1-params": "preset=12", "crf": "30"}}


def scene(count: int = 12, height: int = 96, width: int = 160, seed: int = 0) -> np.ndarray:
    """A soft coloured texture that drifts two pixels a frame: RGB uint8 [count,height,width,3]."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (height // 8 + 2, (width + 2 * count) // 8 + 2, 3), dtype=np.uint8)
    field = cv2.resize(cells, (width + 2 * count, height), interpolation=cv2.INTER_CUBIC)
    return np.stack([field[:, 2 * i : 2 * i + width] for i in range(count)])


def encode(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 25,
    pts: list[int] | None = None,
    options: dict[str, str] | None = None,
    movflags: str | None = "+faststart",
    with_sound: bool = False,
) -> Path:
    """Encode frames with bare PyAV; `pts` in units of 1/1000 s makes the frame rate variable."""
    options = {**QUIET.get(codec, {}), **(options or {})}
    container_options = {"movflags": movflags} if movflags and path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        base = Fraction(1, 1000) if pts else Fraction(1, fps)
        stream.codec_context.time_base = base
        sound = container.add_stream("aac", rate=44100, layout="mono") if with_sound else None
        if sound is not None:
            container.mux(sound.encode(tone(len(frames) / fps)))
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = pts[index] if pts else index, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


def tone(seconds: float, rate: int = 44100, hertz: float = 440.0) -> av.AudioFrame:
    """A sine of half amplitude as one audio frame."""
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    return frame


def decode(path: Path) -> np.ndarray:
    """Every frame by bare PyAV, RGB uint8 [N,H,W,3], as stored (no rotation)."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture
def make_scene() -> Callable[..., np.ndarray]:
    return scene


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """make_video(name, frames=scene(), **encode options) -> path."""

    def build(name: str = "clip.mp4", frames: np.ndarray | None = None, **options) -> Path:
        return encode(tmp_path / name, scene() if frames is None else frames, **options)

    return build


@pytest.fixture
def decode_plainly() -> Callable[[Path], np.ndarray]:
    return decode


@pytest.fixture
def make_tone() -> Callable[..., av.AudioFrame]:
    return tone


@pytest.fixture(scope="session")
def assets() -> Path:
    return Path(__file__).resolve().parents[2] / "assets"
