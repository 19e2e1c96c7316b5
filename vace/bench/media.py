"""Deterministic tasks against bare decoding and encoding: time per task, and memory on a long clip.

The peer is a process that uses nothing but PyAV: it decodes the same source to RGB, and for every source frame it
encodes one frame into each file the task wrote, at that file's size and settings, in one plain loop. What it encodes
are frames taken beforehand from the middle of the task's own files (a stretch of 24, run forth and back), so it
computes nothing; fetching them is not timed. Both processes are measured from start to exit, imports included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vace.bench import measured

RATIO_BAR = 2.0  # time of a task over that of its peer
GROWTH_BAR, GROWTH_BAR_MB, PEAK_BAR_MB = 0.10, 100.0, 1500.0  # memory: either growth bar, and the peak
FPS = 25
STRETCH = 24  # frames of each written file that the peer encodes over and over
MEGA = 1e6

TASKS = {  # flags besides --video; {name} are pixels of the clip
    "gray": "",
    "outpainting": "--direction left,right --expand_ratio 0.25",
    "inpainting_bbox": "--bbox {left},{top},{right},{bottom}",
}


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds on the clock, seconds of processor, megabytes at its peak."""

    wall: float
    cpu: float
    peak_mb: float


def run(
    frames: int = 300,
    long_frames: int = 3000,
    tasks: tuple[str, ...] = tuple(TASKS),
    *,
    size: tuple[int, int] = (1280, 720),
    scratch: Path | None = None,
) -> dict[str, Any]:
    """Measure every task on a made clip of `frames`, and its memory on one of `long_frames` (0: not).

    size: (width, height) of the clip. scratch: an existing folder for the files made meanwhile (about 1 MB a frame at
    720p; they are deleted), default the system's. Returns plain numbers; `render` makes a table of them. Raises
    RuntimeError with the child's own words when one fails.
    """
    rows = []
    with tempfile.TemporaryDirectory(dir=scratch, prefix="vace-bench-") as folder:
        short = _make(Path(folder) / "short.mp4", frames, size)
        for task in tasks:
            rows.append(_time_task(task, short, frames, size, Path(folder)))
        if long_frames:
            long = _make(Path(folder) / "long.mp4", long_frames, size)
            for row in rows:
                row["long"] = asdict(_run_task(row["task"], long, size, Path(folder)))
    for row in rows:
        _judge(row)
    return {"size": list(size), "frames": frames, "long_frames": long_frames, "cores": os.cpu_count(), "tasks": rows}


def _judge(row: dict[str, Any]) -> None:
    row["ratio"] = row["short"]["wall"] / row["peer"]["wall"]
    row["cpu_ratio"] = row["short"]["cpu"] / row["peer"]["cpu"]
    row["is_fast"] = row["ratio"] <= RATIO_BAR
    if "long" in row:
        short, long = row["short"]["peak_mb"], row["long"]["peak_mb"]
        allowed = max(GROWTH_BAR * short, GROWTH_BAR_MB)
        row["is_flat"] = abs(long - short) <= allowed and max(short, long) < PEAK_BAR_MB


def render(result: dict[str, Any]) -> str:
    """The result as a markdown table with its bars."""
    width, height = result["size"]
    long_clip = f"at {result['long_frames']} frames" if result["long_frames"] else "on a long clip (not run)"
    lines = [
        f"{result['frames']} frames of {width}x{height}, {result['cores']} cores; peer: bare PyAV, decoding the source "
        "and encoding every file written, at the same settings.",
        "",
        f"| task | files | s | peer s | ratio (<= {RATIO_BAR:g}) | ratio of CPU time | peak MB "
        f"| peak MB {long_clip} | flat, < {PEAK_BAR_MB:g} MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["tasks"]:
        long = f"{row['long']['peak_mb']:.0f} | {'yes' if row['is_flat'] else 'NO'}" if "long" in row else "- | -"
        lines.append(
            f"| {row['task']} | {len(row['files'])} | {row['short']['wall']:.1f} | {row['peer']['wall']:.1f} "
            f"| {row['ratio']:.2f}{'' if row['is_fast'] else ' OVER'} | {row['cpu_ratio']:.2f} "
            f"| {row['short']['peak_mb']:.0f} | {long} |"
        )
    return "\n".join(lines)


def _make(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """Make the clip in a child, so that nothing of it stays in this process."""
    _measure(["-c", "import sys; from vace.bench.media import make_clip as m; m(sys.argv[1], *map(int, sys.argv[2:]))",
              str(path), str(frames), *map(str, size)])  # fmt: skip
    return path


def _time_task(task: str, source: Path, frames: int, size: tuple[int, int], folder: Path) -> dict[str, Any]:
    output = folder / task
    short = _run_task(task, source, size, folder, keep=True)
    files = sorted(output.glob("*.mp4"))
    peer = _measure(["-m", "vace.bench.peer", str(source), *map(str, files)])
    row = {
        "task": task,
        "files": {file.name: file.stat().st_size for file in files},
        "short": asdict(short),
        "peer": asdict(peer),
    }
    shutil.rmtree(output)
    return row


def _run_task(task: str, source: Path, size: tuple[int, int], folder: Path, keep: bool = False) -> Cost:
    output = folder / task
    command = ["-m", "vace.cli", "preprocess", "--task", task, "--video", str(source), "--pre_save_dir", str(output)]
    width, height = size
    box = {"left": width // 4, "top": height // 4, "right": 3 * width // 4, "bottom": 3 * height // 4}
    cost = _measure([*command, "--quiet", *TASKS[task].format(**box).split()])
    if not keep:
        shutil.rmtree(output)
    return cost


def _measure(arguments: list[str]) -> Cost:
    """Run this Python with `arguments` to its end. The peer reports its own untimed seconds on its last line."""
    package_root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([package_root, os.environ.get("PYTHONPATH", "")])}
    launcher = [sys.executable, "-I", "-S", str(Path(measured.__file__))]
    with tempfile.NamedTemporaryFile("r") as report:
        command = [*launcher, report.name, sys.executable, *arguments]
        child = subprocess.run(command, capture_output=True, env=environment)
        if child.returncode:
            words = child.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise RuntimeError(f"{' '.join(arguments[:4])}: exit {child.returncode}: {words[-1]}")
        wall, cpu, peak = map(float, report.read().split())
    untimed = _untimed(child.stdout.decode(errors="replace"))
    unit = 1.0 if sys.platform == "darwin" else 1024.0  # bytes there, kibibytes on Linux
    return Cost(wall - untimed[0], cpu - untimed[1], peak * unit / MEGA)


def _untimed(output: str) -> tuple[float, float]:
    words = output.split()
    if words[-3:-2] != ["untimed"]:
        return 0.0, 0.0
    return float(words[-2]), float(words[-1])


def make_clip(path: str, frames: int, width: int, height: int) -> None:
    """Write an h264 clip of textured ground that drifts back and forth under a ball that circles."""
    import cv2
    import numpy as np

    from vace.media.video import VideoWriter

    rng = np.random.default_rng(0)
    margin = width // 4
    coarse = rng.random((height // 40 + 1, (width + margin) // 40 + 1, 3), np.float32)
    fine = rng.random((height // 4 + 1, (width + margin) // 4 + 1, 3), np.float32)
    shape = (width + margin, height)
    ground = 0.75 * cv2.resize(coarse, shape, interpolation=cv2.INTER_CUBIC) + 0.25 * cv2.resize(fine, shape)
    ground = np.clip(255 * ground, 0, 255).astype(np.uint8)
    radius = height // 6
    with VideoWriter(path, FPS, kind="result") as writer:
        for index in range(frames):
            offset = round(margin * (0.5 - 0.5 * np.cos(2 * np.pi * index / 240)))
            frame = np.ascontiguousarray(ground[:, offset : offset + width])
            angle = 2 * np.pi * index / 90
            centre = (round(width * (0.5 + 0.25 * np.cos(angle))), round(height * (0.5 + 0.25 * np.sin(angle))))
            cv2.circle(frame, centre, radius, (220, 90, 60), cv2.FILLED, cv2.LINE_AA)
            writer.write(frame[None])
