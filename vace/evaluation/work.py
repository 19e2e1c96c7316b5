"""The work of an evaluation: rows made, outputs made and measured, one after another, here or in several processes."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vace.evaluation import report, scores
from vace.evaluation.makers import INPUT, MODEL, NO_CONTEXT, TRUTH, UNTRAINED, Maker, as_given
from vace.evaluation.measures import CONTROL_TASKS, Asked, measured

if TYPE_CHECKING:
    from vace.evaluation.summary import Sample
    from vace.job import Job

FRAMES = 17
UNTRAINED_ROWS = 4  # of each task: noise is noise
GUIDED_ROWS, SCALED_ROWS = 12, 5  # of the sweeps, the latter of each task
SCALED_TASKS = ("gray", "depth", "scribble")
SCALES = (0.0, 0.5)  # of the context, besides the whole


@dataclass(frozen=True)
class Order:
    """One row to be done: its seed, which the noise is drawn from too; size (width, height); its number in the task."""

    task: str
    seed: int
    size: tuple[int, int]
    number: int


@dataclass(frozen=True)
class Done:
    """samples: by maker. vae: PSNR of the truth's round trip, dB. block: for the task's sheet, of the first rows."""

    samples: Mapping[str, Sample]
    vae: float
    block: np.ndarray | None


@dataclass(frozen=True)
class Plan:
    """What a process needs to work: flags of `prepare_job`; the device, by name; the folder of the untrained twin.

    is_fast: no scale is swept, and nothing is made without context where no score needs it.
    """

    flags: Mapping[str, Any]
    device: str
    untrained: Path | None
    is_fast: bool = False


def open_job(flags: Mapping[str, Any]) -> Job:
    from vace.job import prepare_job

    return prepare_job("a toy world", base="wan", frame_num=FRAMES, **flags)


class Worker:
    """The models, loaded once, and the annotators."""

    def __init__(self, plan: Plan) -> None:
        import torch

        from vace.annotators.networks import Networks

        device = torch.device(plan.device)
        self.job, self.plan = open_job(plan.flags), plan
        self.maker, self.untrained = Maker(self.job, device), None
        self.networks = Networks("embedded")
        if plan.untrained is not None:
            twin = open_job({**plan.flags, "ckpt_dir": str(plan.untrained), "model_name": None})
            self.untrained = Maker(replace(twin, settings=self.job.settings), device)

    def do(self, order: Order) -> Done:
        """Make and measure every output of a row."""
        from vace.training.rows import make_row

        objects = (1, 1) if order.task == "txt2vid" else (1, 2)
        size, split = order.size, "held_out"
        row = make_row(order.seed, split=split, task=order.task, size=size, frames=FRAMES, objects=objects)
        asked = Asked(row, self.networks)
        made = {name: make(row, order.seed) for name, make in self._makers(order).items()}
        found = {name: measured(asked, frames) for name, frames in made.items()}
        block = report.block(row, made) if order.number < report.SHOWN else None
        return Done(found, scores.psnr(made[TRUTH], row.target), block)

    def _makers(self, order: Order) -> Mapping[str, Callable[..., np.ndarray]]:
        chosen: dict[str, Callable[..., np.ndarray]] = {MODEL: self.maker.led, TRUTH: self.maker.round_trip}
        if order.task != "txt2vid":
            chosen[INPUT] = as_given
            if order.task in CONTROL_TASKS or not self.plan.is_fast:
                chosen[NO_CONTEXT] = self.maker.unled
        if self.untrained is not None and order.number < UNTRAINED_ROWS:
            chosen[UNTRAINED] = self.untrained.led
        if not self.plan.is_fast:
            settings = self.job.settings
            swept = {"guidance_scale": {}, "context_scale": {}}
            if order.task == "txt2vid" and order.number < GUIDED_ROWS:
                swept["guidance_scale"] = guidances(settings.guidance_scale)
            if order.task in SCALED_TASKS and order.number < SCALED_ROWS:
                swept["context_scale"] = contexts(settings.context_scale)
            for keyword, names in swept.items():
                for scale, name in names.items():
                    chosen.setdefault(name, self._scaled(keyword, scale))
        return chosen

    def _scaled(self, keyword: str, scale: float) -> Callable[..., np.ndarray]:
        return lambda row, noise: self.maker.led(row, noise, **{keyword: scale})


def guidances(own: float) -> dict[float, str]:
    """Names of makers by guidance, the checkpoint's own among them."""
    return {scale: f"guidance {scale:g}" for scale in (1.0, (1 + own) / 2, 2 * own)} | {own: MODEL}


def contexts(own: float) -> dict[float, str]:
    return {scale: f"context {scale:g}" for scale in SCALES} | {own: MODEL}


@contextlib.contextmanager
def crew(plan: Plan, count: int) -> Iterator[Callable[[Iterable[Order]], Iterator[Done]]]:
    """Gives what does orders, in their order: here, or in `count` processes. Interrupted, rows at work are finished."""
    if count == 1:
        worker = Worker(plan)
        yield lambda orders: map(worker.do, orders)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    spawn = multiprocessing.get_context("spawn")  # OpenCV's and torch's threads do not survive a fork
    pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_begin, initargs=(plan,))
    try:
        yield lambda orders: pool.map(_do, orders)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_WORKERS: list[Worker] = []  # of this process: one, in a process of a pool


def _begin(plan: Plan) -> None:
    import cv2
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the first process ends the others
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    _WORKERS.append(Worker(plan))


def _do(order: Order) -> Done:
    return _WORKERS[0].do(order)
