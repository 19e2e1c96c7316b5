"""What approximate speed costs on the toy's evaluation: each setting against the exact run, row by row.

The same rows, prompts and noise are made exactly and with every setting, in shuffled order, and each output is judged
as `vace eval` judges it. So a setting has three figures: its time over the exact run's (denoising, median of pairs),
how near its video is to the exact one (PSNR), and what became of each task's own measure.
"""

from __future__ import annotations

import functools
import random
import statistics
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

EXACT = "exact"
SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    EXACT: {},
    "step_cache 0.03": {"step_cache": 0.03},
    "step_cache 0.05": {"step_cache": 0.05},
    "step_cache 0.1": {"step_cache": 0.1},
    "step_cache 0.2": {"step_cache": 0.2},
    "guidance_interval 0,0.8": {"guidance_interval": (0.0, 0.8)},
    "guidance_interval 0,0.5": {"guidance_interval": (0.0, 0.5)},
    "context_end 0.8": {"context_end": 0.8},
    "context_end 0.5": {"context_end": 0.5},
    "steps 3/5": {"steps": 0.6},
})  # fmt: skip
JUDGED = MappingProxyType(
    {"txt2vid": "purity", "gray": "gray", "depth": "depth", "inpainting": "kept", "reference": "reference colour"}
)  # tasks, and which measure of theirs is told
ROWS = 8
SIZE = (64, 64)


def run(ckpt: str = "tiny", *, rows: int = ROWS, seed: int = 0, device: str = "auto") -> dict[str, Any]:
    """Every one of SETTINGS on `rows` held-out rows of each task of JUDGED.

    ckpt: what `--ckpt_dir` takes. Keys: checkpoint, rows, steps, guidance_scale, settings: of each its `time` (over the
    exact run's), `psnr` to the exact videos in dB (None for itself), and `measures`, the mean of each task's.
    """
    from vace.annotators.networks import Networks
    from vace.devices import pick_device, toy_threads
    from vace.evaluation.makers import Maker
    from vace.evaluation.work import FRAMES, open_job

    job = open_job({"ckpt_dir": ckpt, "device": device})
    found = {name: _Column() for name in SETTINGS}
    with toy_threads(job.checkpoint.is_toy):
        maker, networks = Maker(job, pick_device(device)), Networks("embedded")
        clock, order = _clock(maker), random.Random(seed)
        for n, (task, number) in enumerate((task, number) for task in JUDGED for number in range(rows)):
            _measure_row(maker, networks, clock, found, order, task, seed * 1000 + number, FRAMES, is_first=n == 0)
    return {
        "checkpoint": job.checkpoint.name,
        "rows": {task: rows for task in JUDGED},
        "steps": job.settings.steps,
        "guidance_scale": job.settings.guidance_scale,
        "clock": clock.kind,
        "settings": {name: column.figures(found[EXACT]) for name, column in found.items()},
    }


class _Column:
    """What was seen of one setting. seconds: a row each; measures: by task."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.psnr: list[float] = []
        self.measures: dict[str, list[float]] = {}

    def figures(self, exact: _Column) -> dict[str, Any]:
        ratios = [mine / its for mine, its in zip(self.seconds, exact.seconds, strict=True)]
        return {
            "time": statistics.median(ratios),
            "psnr": statistics.mean(self.psnr) if self.psnr else None,
            "measures": {task: statistics.mean(values) for task, values in self.measures.items() if values},
        }


def _clock(maker: Any) -> Any:
    from vace.bench.clocks import Clock

    return Clock(maker.engine.device)


def _measure_row(
    maker: Any, networks: Any, clock: Any, found: Mapping[str, _Column], order: random.Random, task: str, seed: int,
    frames: int, *, is_first: bool,
) -> None:  # fmt: skip
    """One row, exactly and with every setting, in an order of its own."""
    from vace.evaluation import scores
    from vace.evaluation.measures import Asked, measured
    from vace.training.rows import make_row

    objects = (1, 1) if task == "txt2vid" else (1, 2)
    row = make_row(seed, split="held_out", task=task, size=SIZE, frames=frames, objects=objects)
    asked, made = Asked(row, networks), {}
    if is_first:
        maker.led(row, seed)  # what the first run of a process takes is no setting's
    names = list(SETTINGS)
    order.shuffle(names)
    for name in names:
        make = functools.partial(maker.led, row, seed, **_changes(SETTINGS[name], maker.settings.steps))
        found[name].seconds.append(clock.seconds(lambda name=name, make=make: made.update({name: make()})))
    for name, video in made.items():
        if name != EXACT:
            found[name].psnr.append(scores.psnr(video, made[EXACT]))
        value = measured(asked, video)[JUDGED[task]]
        found[name].measures.setdefault(task, []).extend([] if value is None else [float(value)])


def _changes(setting: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """A setting as `Maker.led` takes it; its steps are a share of the run's own."""
    return {name: max(1, round(steps * value)) if name == "steps" else value for name, value in setting.items()}


def render(result: Mapping[str, Any]) -> str:
    """The result as markdown."""
    tasks = list(result["rows"])
    count = next(iter(result["rows"].values()))
    lines = [
        f"Approximate speed on `{result['checkpoint']}`: {count} held-out rows of each task, {result['steps']} steps, "
        f"guidance {result['guidance_scale']:g}. Time: of a whole generation ({result['clock']} time), over the exact "
        "one's. PSNR: to the exact video. Then each task's own measure.",
        "",
        f"| setting | time | PSNR, dB | {' | '.join(f'{task}: {JUDGED[task]}' for task in tasks)} |",
        f"|{'---|' * (3 + len(tasks))}",
    ]
    for name, row in result["settings"].items():
        psnr = "–" if row["psnr"] is None else f"{row['psnr']:.1f}"
        values = " | ".join(f"{row['measures'][task]:.2f}" if task in row["measures"] else "–" for task in tasks)
        lines.append(f"| {name} | {row['time']:.2f} | {psnr} | {values} |")
    return "\n".join(lines)
