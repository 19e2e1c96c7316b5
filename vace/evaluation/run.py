"""The evaluation of a checkpoint: held-out toy worlds through every task, measured against baselines."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vace.errors import InputError, nearest
from vace.evaluation import makers, report, summary
from vace.evaluation.makers import MODEL
from vace.evaluation.measures import MEASURES
from vace.evaluation.summary import Samples
from vace.evaluation.work import SCALED_TASKS, Done, Order, Plan, contexts, crew, guidances, open_job

if TYPE_CHECKING:
    from vace.job import Job
    from vace.runs import OutputFolder
    from vace.settings import Settings

log = logging.getLogger("vace")

SEEDS, PER_TASK = 3, 5
FAST_SEEDS, FAST_PER_TASK = 1, 2
# As many rows as of other tasks: a share of right answers needs more than a mean of decibels does.
TIMES = {"txt2vid": 4, "reference": 2} | dict.fromkeys(
    ("plain", "swap", "move", "control_reference", "expand", "composition"), 0.6
)
TOY_SIZES = ((64, 64), (64, 64), (96, 64))  # width, height, by turns
REAL_SIZES = ((256, 256),)
MOST_WORKERS = 2  # on a CPU: a toy model's process takes 0.7 GB and one core


@dataclass(frozen=True)
class Evaluation:
    """What was measured. folder: where scores.json, table.md and the sheets are. record: the content of scores.json."""

    folder: Path
    record: dict[str, Any]

    @property
    def scores(self) -> dict[str, Any]:
        return self.record["scores"]

    @property
    def table(self) -> str:
        """The table for people, markdown."""
        return report.table(self.record)

    def as_json(self) -> dict[str, Any]:
        """The scores, and what they rest on; without the table's rows, which are in scores.json."""
        return {name: value for name, value in self.record.items() if name != "table"} | {"folder": str(self.folder)}


def evaluate(
    ckpt_dir: str | None = None,
    *,
    model_name: str | None = None,
    seed: int = 0,
    seeds: int | None = None,
    per_task: int | None = None,
    tasks: str | Sequence[str] | None = None,
    size: str | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    progress: bool = True,
    fast: bool = False,
    workers: int | None = 1,
    **given: Any,
) -> Evaluation:
    """Measure a checkpoint on worlds of pairs that its training never saw.

    ckpt_dir, model_name: as `vace wan` takes them. seed: which worlds and noises are drawn; seeds: of how many draws
    (3); per_task: rows of a task in each (5; words alone take 4 times, references twice, compositions 0.6 times as
    many). tasks: only these, a list or by commas. size: WxH instead of 64x64 and 96x64 (real checkpoints: 256x256).
    out: folder for the results (results/eval/TIME). fast: 1 seed, 2 rows a task, fewer baselines, no sweeps.
    workers: processes that share the rows; None: as many as pay off, for a main module that can be imported again.
    given: further settings of a generation: steps, shift, guidance_scale, sampler, dtype, offload_model, t5_cpu,
    no_download ...

    Interrupted, it writes what it has measured so far and raises KeyboardInterrupt. Raises InputError for an unknown
    task or a number out of range, and what loading a checkpoint raises.
    """
    from vace.devices import pick_device, toy_threads
    from vace.runs import OutputFolder, draw_seed

    chosen = _chosen(tasks)
    seeds = _count("seeds", seeds, FAST_SEEDS if fast else SEEDS)
    per_task = _count("per_task", per_task, FAST_PER_TASK if fast else PER_TASK)
    seed = draw_seed(seed)
    flags = {"ckpt_dir": ckpt_dir, "model_name": model_name, "device": device, **given}
    job = open_job(flags if size is None else {**flags, "size": size})
    where, is_toy = str(pick_device(device)), job.checkpoint.is_toy
    if workers is None:
        workers = min(MOST_WORKERS, os.cpu_count() or 1) if is_toy and where == "cpu" else 1
    has_twin = is_toy and not fast
    with OutputFolder(out, "--out", Path("results") / "eval") as place, toy_threads(is_toy):
        run = _Run(job, place, seed, seeds, per_task, _sizes(size, job))
        try:
            with contextlib.ExitStack() as stack:
                twin = stack.enter_context(makers.untrained_twin(job.checkpoint)) if has_twin else None
                do = stack.enter_context(crew(Plan(flags, where, twin, fast), _count("workers", workers, 1)))
                for number, task in enumerate(chosen, 1):
                    run.task(task, f"[{number}/{len(chosen)}] {task}", do, progress)
                    run.write(is_finished=number == len(chosen))
        except BaseException as stop:  # whatever happened, what is measured stays
            if run.samples.by_task:
                run.write(is_finished=False)
                why = "interrupted" if isinstance(stop, KeyboardInterrupt) else "stopped"
                log.warning("%s: what was measured so far is in %s", why, place.path)
            raise
        return Evaluation(place.path, run.last)


def _chosen(tasks: str | Sequence[str] | None) -> list[str]:
    from vace.runs import split_list

    names = split_list(tasks) or list(MEASURES)
    for name in names:
        if name not in MEASURES:
            raise InputError(f"--tasks {name}: not a task of the evaluation; {nearest(name, MEASURES)}")
    return [name for name in MEASURES if name in names]


def _count(flag: str, value: int | None, default: int) -> int:
    from vace.materials import check_number

    check_number(flag, value, 1, whole=True)
    return default if value is None else int(value)


def _settings(settings: Settings) -> dict[str, Any]:
    """What the run was made with: always the first three, of its base's options those that are not as usual."""
    changed = {name: value for name, value in settings.options.items() if value != settings.base.options.get(name)}
    return {name: getattr(settings, name) for name in ("steps", "shift", "guidance_scale")} | changed


def _sizes(size: str | None, job: Job) -> tuple[tuple[int, int], ...]:
    if size is not None:
        return (tuple(job.settings.area.sides),)
    return TOY_SIZES if job.checkpoint.is_toy else REAL_SIZES


@dataclass
class _Run:
    """An evaluation at work. last: the record as it was last written."""

    job: Job
    place: OutputFolder
    seed: int
    seeds: int
    per_task: int
    sizes: tuple[tuple[int, int], ...]
    samples: Samples = field(default_factory=Samples)
    started: float = field(default_factory=time.perf_counter)
    last: dict[str, Any] = field(default_factory=dict)

    def task(self, task: str, label: str, do: Callable[[list[Order]], Iterator[Done]], progress: bool) -> None:
        """All rows of a task, and its sheet."""
        from tqdm import tqdm

        orders, blocks = list(self._orders(task)), []
        with tqdm(total=len(orders), desc=label, unit="row", disable=not progress) as bar:
            for done in do(orders):
                self.samples.add(task, done.samples)
                self.samples.vae.append(done.vae)
                blocks += [] if done.block is None else [done.block]
                bar.update()
            bar.set_postfix_str(report.headline(self.samples, task))
        report.write_sheet(self.place.path / f"sheet-{task}.png", blocks)
        self.place.keep = True

    def _orders(self, task: str) -> Iterator[Order]:
        """The rows of a task, each of a seed of its own, whichever other tasks are chosen."""
        place, number = list(MEASURES).index(task), 0
        for draw in range(self.seeds):
            for n in range(max(1, round(self.per_task * TIMES.get(task, 1)))):
                entropy = np.random.SeedSequence([self.seed, draw, place, n])
                size = self.sizes[n % len(self.sizes)]
                yield Order(task, int(entropy.generate_state(1)[0] >> 1), size, number)
                number += 1

    def write(self, is_finished: bool) -> None:
        self.place.keep = True
        self.last = self.record(is_finished)
        report.write(self.place.path, self.last)

    def record(self, is_finished: bool) -> dict[str, Any]:
        found, errors = summary.summary(self.samples)
        settings, checkpoint = self.job.settings, self.job.checkpoint
        guided, scaled = guidances(settings.guidance_scale), contexts(settings.context_scale)
        return {
            "scores": found,
            "errors": errors,
            "reached": summary.reached(found),
            "effects": {
                "guidance_scale": summary.effect_of_guidance(self.samples, guided, settings.guidance_scale),
                "context_scale": summary.effect_of_context(self.samples, SCALED_TASKS, scaled),
            },
            "model": {"name": checkpoint.name, "toy": checkpoint.is_toy, "fingerprint": self.job.fingerprint},
            "settings": _settings(settings),
            "seed": self.seed,
            "seeds": self.seeds,
            "per_task": self.per_task,
            "sizes": [f"{width}x{height}" for width, height in dict.fromkeys(self.sizes)],
            "rows": {task: len(columns[MODEL]) for task, columns in self.samples.by_task.items()},
            "seconds": round(time.perf_counter() - self.started, 1),
            "finished": is_finished,
            "table": summary.rows_of_table(self.samples),
        }
