"""Small moving pictures of an example: what was given, what was prepared, what came of it, side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from contact_sheets import tinted
from PIL import Image, ImageDraw, ImageFont

from vace.media.image import SUFFIXES, read_image
from vace.media.video import VideoReader
from vace.runs import outputs_by_role

TILE = (192, 128)  # of the preview: twice the toy's pictures; width first
GAP, LABEL = 4, 18  # pixels between tiles; height of the row of labels
PAPER, INK, PALE, BOX = (255, 255, 255), (30, 30, 30), (238, 238, 238), (255, 40, 40)
LETTERS = 12  # pixels
QUALITY, HOLD = 62, 500  # of WebP, 0..100; milliseconds that the last frame stays
MASKS = ("mask", "ref_mask", "src_mask")


def read_frames(path: Path) -> np.ndarray:
    """All frames of a video, or the one of a picture: RGB uint8 [T,H,W,3]."""
    if path.suffix.lower() in SUFFIXES:
        return read_image(path)[None]
    with VideoReader(path) as reader:
        return reader.get(list(range(reader.frame_count)))


def parse_boxes(text: str) -> list[tuple[float, ...]]:
    """The boxes of --bbox 'x1,y1,x2,y2 x1,y1,x2,y2'."""
    numbers = [float(number) for number in text.replace(",", " ").split()]
    return list(zip(*[iter(numbers)] * 4, strict=True))


def with_boxes(frames: np.ndarray, text: str, count: int) -> np.ndarray:
    """The frames with the boxes of `text` drawn on the first `count` of them, lines one pixel wide."""
    drawn = []
    for frame in frames[:count]:
        picture = Image.fromarray(frame)
        for x1, y1, x2, y2 in parse_boxes(text):
            ImageDraw.Draw(picture).rectangle((x1, y1, x2 - 1, y2 - 1), outline=BOX)
        drawn.append(np.asarray(picture))
    return np.concatenate([np.stack(drawn), frames[count:]])


def given_clips(materials: Sequence[dict], flags: dict[str, str], canvas: tuple[int, int]) -> list[np.ndarray]:
    """What the user gave, each as frames: clips and pictures first, with boxes drawn on the first, then masks.

    materials: records of the manifest. canvas: (width, height) of the paper on which boxes alone are drawn. The box of
    a thing that is followed shows for a moment only: it is that of the first frame.
    """
    ordered = sorted(materials, key=lambda record: record["flag"] in MASKS)
    clips = [read_frames(Path(path)) for path in dict.fromkeys(record["path"] for record in ordered)]
    if "bbox" in flags:
        first = clips[0] if clips else np.full((1, canvas[1], canvas[0], 3), PALE, np.uint8)
        clips[:1] = [with_boxes(first, flags["bbox"], 5 if "track" in flags["task"] else len(first))]
    return clips


def prepared_clips(folder: Path, manifest: dict) -> list[np.ndarray]:
    """What was prepared in `folder`, each as frames: src_video, the white of its mask tinted, then the references."""
    named = outputs_by_role(folder, manifest)
    clips = []
    if "src_video" in named:
        masks = read_frames(named["src_mask"][0]) if "src_mask" in named else None
        clips.append(np.stack(tinted(read_frames(named["src_video"][0]), masks)))
    return clips + [read_frames(path) for path in named.get("src_ref_images", [])]


def font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(LETTERS)


def words_tile(text: str) -> Image.Image:
    """A tile that says `text`."""
    tile = Image.new("RGB", TILE, PALE)
    lines = textwrap.wrap(text, (TILE[0] - 16) // 7)
    ImageDraw.Draw(tile).multiline_text((8, 8), "\n".join(lines), fill=INK, font=font(), spacing=4)
    return tile


def tile_of(pictures: Sequence[np.ndarray]) -> Image.Image:
    """Up to four pictures in one tile, each as large as it fits, all of it where there is one; none: pale paper."""
    tile = Image.new("RGB", TILE, PALE)
    columns, rows = (1, 1) if len(pictures) < 2 else (2, -(-len(pictures) // 2))
    width, height = TILE[0] // columns, TILE[1] // rows
    for number, picture in enumerate(pictures):
        room = (width, height) if columns == 1 else (width - 4, height - 4)
        share = min(room[0] / picture.shape[1], room[1] / picture.shape[0])
        size = max(1, round(picture.shape[1] * share)), max(1, round(picture.shape[0] * share))
        at = number % columns * width + (width - size[0]) // 2, number // columns * height + (height - size[1]) // 2
        tile.paste(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC), at)
    return tile


def beside(tiles: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Tiles in a row, their labels above."""
    sheet = Image.new("RGB", (len(tiles) * (TILE[0] + GAP) - GAP, TILE[1] + LABEL), PAPER)
    for number, (label, tile) in enumerate(tiles):
        left = number * (TILE[0] + GAP)
        ImageDraw.Draw(sheet).text((left + 2, 1), label, fill=INK, font=font())
        sheet.paste(tile, (left, LABEL))
    return sheet


def preview_frames(
    given: Sequence[np.ndarray], prepared: Sequence[np.ndarray], result: np.ndarray, prompt: str
) -> Iterator[Image.Image]:
    """The frames of a preview, as many as the result has; what is shorter stays at its last. prompt: shown where
    nothing else was given."""
    for index in range(len(result)):
        now = [[clip[min(index, len(clip) - 1)] for clip in clips] for clips in (given, prepared)]
        tiles = [("input", tile_of(now[0])), ("prepared", tile_of(now[1]))] if prepared else []
        if not given:
            tiles[:1] = [("prompt", words_tile(prompt))]
        yield beside([*tiles, ("result", tile_of([result[index]]))])


def write_preview(path: Path, frames: Iterator[Image.Image], fps: float) -> None:
    """An endless WebP."""
    first, *others = frames
    step = round(1000 / fps)
    times = [step] * len(others) + [HOLD]
    first.save(path, save_all=True, append_images=others, duration=times, loop=0, quality=QUALITY, method=4)


def write_strip(path: Path, before: Path, mask: Path, after: Path, columns: int = 5) -> None:
    """The picture strip of the main README: frames of a clip, of its mask, of the result, a row each with its caption.

    before, mask, after: videos, or pictures. All are shown twice as large as the first.
    """
    rows = [("before", read_frames(before)), ("mask", read_frames(mask)), ("after", read_frames(after))]
    height, width = (2 * side for side in rows[0][1].shape[1:3])
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, 3 * (height + LABEL)), PAPER)
    for number, (label, frames) in enumerate(rows):
        top = number * (height + LABEL)
        ImageDraw.Draw(sheet).text((2, top + 1), label, fill=INK, font=font())
        for column, index in enumerate(np.linspace(0, len(frames) - 1, columns).round().astype(int)):
            picture = Image.fromarray(frames[index]).resize((width, height), Image.Resampling.BICUBIC)
            sheet.paste(picture, (column * (width + GAP), top + LABEL))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
