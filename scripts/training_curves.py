"""Draw the logs of the embedded model's training: benchmarks/vace-tiny/*.jsonl into curves.png beside them.

    python scripts/training_curves.py [--logs benchmarks/vace-tiny]

One panel a stage, over its minutes of training: what was logged on the way as a line, what was measured on held-out
clips as dots.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

STAGES = {  # log: title, what is drawn of it
    "vae": ("VAE: PSNR, dB", "psnr"),
    "base": ("text to video: loss", "loss"),
    "context": ("context blocks: loss", "loss"),
    "joint": ("all together, first state: loss", "loss"),
    "joint2": ("all together, second state: loss", "loss"),
    "joint3": ("all together, third state: loss", "loss"),
    "joint4": ("all together, fourth state: loss", "loss"),
}
WIDTH, HEIGHT, EDGE, TEXT = 420, 240, 34, 14  # of a panel, pixels
INK, LINE, DOT, GRID = (40, 40, 48), (66, 120, 200), (214, 84, 40), (226, 226, 232)
TICKS = 4


@dataclass(frozen=True)
class Log:
    """minutes and values float [n] of training; the same of held-out clips in `judged`."""

    trained: np.ndarray
    judged: np.ndarray


def read_log(path: Path, name: str) -> Log:
    """The figure `name` of a log, in the order of its lines; lines with a score are of held-out clips."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = {True: [], False: []}
    for row in rows:
        if name in row:
            pairs["score" in row or "rate" not in row].append((row["minutes"], row[name]))
    return Log(*(np.array(pairs[kind], float).reshape(-1, 2) for kind in (False, True)))


def panel(title: str, log: Log) -> Image.Image:
    """One stage's curve."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT)
    points = np.concatenate([log.trained, log.judged])
    low, high = points.min(axis=0), points.max(axis=0)
    low[0] = 0
    room = np.maximum(high - low, 1e-6)

    def place(point: np.ndarray) -> tuple[float, float]:
        share = (point - low) / room
        return EDGE + share[0] * (WIDTH - 2 * EDGE), HEIGHT - EDGE - share[1] * (HEIGHT - 2.4 * EDGE)

    for share in np.linspace(0, 1, TICKS):
        value = low + share * room
        y, x = place(np.array([0, value[1]]))[1], place(np.array([value[0], low[1]]))[0]
        draw.line([(EDGE, y), (WIDTH - EDGE, y)], fill=GRID)
        draw.text((2, y - TEXT / 2), f"{value[1]:.3g}", fill=INK, font=ImageFont.load_default(10))
        draw.text((x - 6, HEIGHT - EDGE + 4), f"{value[0]:.0f}", fill=INK, font=ImageFont.load_default(10))
    if len(log.trained) > 1:
        draw.line([place(point) for point in log.trained], fill=LINE, width=1)
    for point in log.judged:
        x, y = place(point)
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=DOT)
    draw.text((EDGE, 8), title, fill=INK, font=font)
    draw.text((WIDTH - EDGE - 60, HEIGHT - 15), "minutes", fill=INK, font=ImageFont.load_default(10))
    return picture


def sheet(folder: Path) -> Image.Image:
    """All stages whose logs are there, two in a row."""
    found = [(title, folder / f"{stage}.jsonl", name) for stage, (title, name) in STAGES.items()]
    panels = [panel(title, read_log(path, name)) for title, path, name in found if path.is_file()]
    whole = Image.new("RGB", (2 * WIDTH, HEIGHT * -(-len(panels) // 2)), "white")
    for k, one in enumerate(panels):
        whole.paste(one, (WIDTH * (k % 2), HEIGHT * (k // 2)))
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", type=Path, default=Path("benchmarks/vace-tiny"), help="folder of the logs")
    folder = parser.parse_args().logs
    sheet(folder).save(folder / "curves.png", optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
