"""What many tests share: small real media, and the command line run in this process."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a network
os.environ["VACE_CACHE"] = "off"  # nor on what an earlier run kept
# The tensors of tests are small, and tests run side by side.
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or "1"

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Outcome:
    """What a command did: exit status, the two streams, the JSON of its last line of stdout."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out.strip().splitlines()[-1])


@pytest.fixture
def vace(capsys, monkeypatch, tmp_path):
    """Run a command in this process, in an empty folder: vace('preprocess', '--task', ...) -> Outcome."""
    from vace.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vace"])

    def run(*arguments) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def moving_frames(count: int, width: int, height: int, seed: int = 0) -> np.ndarray:
    """RGB uint8 [count,height,width,3]: a bright square that moves over a textured ground."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(40, 200, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    ground = ground.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    frames = np.repeat(ground[None], count, axis=0)
    side = max(4, height // 4)
    for index, frame in enumerate(frames):
        left = (index * 2) % max(1, width - side)
        frame[height // 3 : height // 3 + side, left : left + side] = (250, 220, 40)
    return frames


@pytest.fixture(scope="session")
def media(tmp_path_factory) -> Path:
    """clip.mp4 (96x64, 25 fps, 30 frames), clip2.mp4 (same size), image.png, image2.png, mask.png, mask.mp4."""
    from vace.media.image import write_image
    from vace.media.video import VideoWriter

    folder = tmp_path_factory.mktemp("media")
    for name, seed in (("clip", 0), ("clip2", 1)):
        with VideoWriter(folder / f"{name}.mp4", 25, kind="small") as writer:
            writer.write(moving_frames(30, 96, 64, seed))
    for name, seed in (("image", 2), ("image2", 3)):
        write_image(folder / f"{name}.png", moving_frames(1, 96, 64, seed)[0])
    mask = np.zeros((64, 96), np.uint8)
    mask[16:48, 24:72] = 255
    write_image(folder / "mask.png", mask)
    masks = np.zeros((30, 64, 96), np.uint8)
    for index, frame in enumerate(masks):
        frame[16:48, index : index + 30] = 255
    with VideoWriter(folder / "mask.mp4", 25, kind="exact") as writer:
        writer.write(masks)
    return folder


@pytest.fixture
def root() -> Path:
    return ROOT


def pytest_sessionfinish(session):
    """Write the table of parity where VACE_PARITY_TABLE names a file for it."""
    path = os.environ.get("VACE_PARITY_TABLE")
    if not path:
        return
    from goldens_io import MEASURED

    lines = ["| part | comparisons | largest difference | bar |", "|---|---|---|---|"]
    for part, pairs in sorted(MEASURED.items()):
        worst, bar = max(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
        lines.append(
            f"| {part} | {len(pairs)} | {f'{worst:.1e}' if worst else '0'} | {f'{bar:.0e}' if bar else 'exact'} |"
        )
    Path(path).write_text("\n".join(lines) + "\n")
