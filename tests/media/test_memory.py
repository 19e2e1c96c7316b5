"""Long clips pass through in flat memory: measured in children of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPY = """
import sys
import numpy as np
from vace.media.video import VideoReader, VideoWriter
from vace.runs import peak_memory_mb

folder, count = sys.argv[1], int(sys.argv[2])
ramp = np.broadcast_to(np.arange(320, dtype=np.uint8)[:, None] // 2, (180, 320, 3))
moving = np.stack([np.roll(ramp, 4 * step, axis=1) for step in range(16)])
with VideoWriter(f"{folder}/{count}.mp4", 25, kind="exact") as writer:
    for start in range(0, count, 16):
        writer.write(moving[: count - start])
with VideoWriter(f"{folder}/copy{count}.mp4", 25, kind="preview") as copy:
    for frames in VideoReader(f"{folder}/{count}.mp4").chunks():
        copy.write(frames)
print(peak_memory_mb())
"""


def peak_megabytes(folder: Path, count: int) -> float:
    command = [sys.executable, "-c", COPY, str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(done.stdout)


@pytest.mark.slow
def test_reading_and_writing_a_long_clip(tmp_path):
    short, long = peak_megabytes(tmp_path, 64), peak_megabytes(tmp_path, 960)
    assert long - short < 40, f"{short:.0f} MB for 64 frames, {long:.0f} MB for 960, which are 166 MB of pixels"
