"""Contact sheets: what every task makes of the example media, one small picture per task under benchmarks/sheets.

    python scripts/contact_sheets.py [TASK ...] [--backend embedded] [--out benchmarks/sheets]

Each sheet shows, for the examples of the task table, frames of the source above those of src_video with the white of
src_mask tinted red, then the references.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vace.flags import FLAGS
from vace.media.image import read_image
from vace.media.video import VideoReader
from vace.preprocess import preprocess
from vace.runs import split_list
from vace.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, TILE_HEIGHT, QUALITY = 6, 96, 80
TINT, TINT_SHARE = np.float32((255, 40, 40)), 0.45
MOST_ROWS = 12  # examples on one sheet


def options(example: str) -> dict:
    """The flags of an example line as keywords of `preprocess`."""
    kinds = {flag.name: flag.kind for flag in FLAGS}
    words = shlex.split(example)
    pairs = {name.removeprefix("--"): value for name, value in zip(words[0::2], words[1::2], strict=True)}
    casts = {"int": int, "float": float}
    return {name: casts.get(kinds[name], str)(value) for name, value in pairs.items()}


def some_frames(path: Path, count: int = COLUMNS) -> np.ndarray:
    """`count` frames spread over a video, RGB uint8 [t,H,W,3]."""
    with VideoReader(path) as reader:
        ids = np.linspace(0, reader.frame_count - 1, min(count, reader.frame_count)).round().astype(int)
        return reader.get(ids.tolist())


def tinted(frames: np.ndarray, masks: np.ndarray | None) -> list[np.ndarray]:
    """The frames, white of their masks tinted."""
    if masks is None:
        return list(frames)
    white = (masks[..., :1] > 127) * np.float32(TINT_SHARE)
    return list((frames * (1 - white) + TINT * white).astype(np.uint8))


def strip(pictures: list[np.ndarray], label: str) -> Image.Image:
    """Pictures side by side at one height, with a label above."""
    tiles = [Image.fromarray(picture) for picture in pictures]
    tiles = [tile.resize((max(1, round(tile.width * TILE_HEIGHT / tile.height)), TILE_HEIGHT)) for tile in tiles]
    sheet = Image.new("RGB", (sum(tile.width + 4 for tile in tiles), TILE_HEIGHT + 14), "white")
    ImageDraw.Draw(sheet).text((2, 1), label, fill="black")
    at = 0
    for tile in tiles:
        sheet.paste(tile, (at, 14))
        at += tile.width + 4
    return sheet


def rows_of(flags: dict, folder: Path, backend: str) -> list[Image.Image]:
    """The strips of one example."""
    name = flags.pop("task")
    made = preprocess(name, **flags, backend=backend, pre_save_dir=folder, progress=False)
    label = ", ".join(f"{flag} {value}" for flag, value in flags.items() if flag not in ("video", "image", "mask"))
    rows = []
    sources = split_list(flags.get("video"), files=True)
    if sources:
        rows.append(strip(list(some_frames(Path(sources[0]))), Path(sources[0]).name))
    elif flags.get("image"):
        rows.append(strip([read_image(path) for path in split_list(flags["image"], files=True)], "images"))
    if made.src_video:
        masks = some_frames(made.src_mask) if made.src_mask else None
        rows.append(strip(tinted(some_frames(made.src_video), masks), label or name))
    if made.src_ref_images:
        rows.append(strip([read_image(path) for path in made.src_ref_images], f"references: {label}"))
    return rows


def sheet(task: str, backend: str) -> Image.Image:
    """Every example of `task` in one picture; a source shown once."""
    rows: list[Image.Image] = []
    shown: set[bytes] = set()
    with tempfile.TemporaryDirectory() as scratch:
        for number, example in enumerate(TASKS[task].examples[:MOST_ROWS]):
            for row in rows_of(options(example), Path(scratch) / str(number), backend):
                if row.tobytes() not in shown:
                    rows.append(row)
                    shown.add(row.tobytes())
    whole = Image.new("RGB", (max(row.width for row in rows), sum(row.height + 2 for row in rows)), "white")
    at = 0
    for row in rows:
        whole.paste(row, (0, at))
        at += row.height + 2
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", help="only these (all)")
    parser.add_argument("--backend", default="auto", choices=("auto", "neural", "embedded"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/sheets")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    names = args.tasks or [name for name, row in TASKS.items() if name not in ("txt2vid", "composition")]
    for name in names:
        sheet(name, args.backend).save(args.out / f"{name}.jpg", quality=QUALITY)
        print(args.out / f"{name}.jpg", flush=True)


if __name__ == "__main__":
    main()
