"""One trainer for every stage of `vace-tiny`: what differs between them is a `Stage`.

All that a step depends on is the step's number, the seed and the weights (batch, noise, rate), so a run that is resumed
from its state is the run that was never interrupted. A run's folder holds

    state.pt        weights, their moving average, optimiser, step: the newest, written whole or not at all
    log.jsonl       one line every few steps and one for each evaluation
    sheet-N.png     what the averaged weights make of a few fixed clips
    best/           the averaged weights that scored best so far, as the stage writes them
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vace.errors import CheckpointError, InputError
from vace.media.files import replacing
from vace.media.image import write_image
from vace.training.data import ahead

if TYPE_CHECKING:
    import numpy as np
    import torch
    from accelerate import Accelerator
    from torch import nn

    from vace.training.halves import Halves

log = logging.getLogger("vace")


class Stage(Protocol):
    """What is trained: how its model, batches and losses are made, and how it is judged and written.

    steps: of the whole training. score: the key of `evaluate` that says which weights are best (more is better).
    """

    name: str
    steps: int
    score: str

    def model(self, seed: int) -> nn.Module: ...

    def rate(self, step: int) -> float:
        """The learning rate of a step, warm-up and decay included."""

    def batch(self, step: int) -> Any:
        """What `loss` takes: arrays, made in another process, from nothing but the step."""

    def loss(self, model: nn.Module, batch: Any, noise: torch.Generator) -> tuple[torch.Tensor, dict[str, Any]]:
        """The loss and what to log of it. noise: a generator on the CPU, seeded for the step."""

    def evaluate(self, model: nn.Module) -> dict[str, float]: ...

    def sheet(self, model: nn.Module) -> np.ndarray:
        """A picture uint8 [H,W,3] to judge the model by eye."""

    def write(self, model: nn.Module, folder: Path, facts: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Plan:
    """How a stage is run. Minutes and counts of steps are between two of their kind; averaging: of the weights.

    optimiser: "adamw", or "muon" (vace/training/muon.py; plain: parts of names it leaves to AdamW). save_steps: if
    given, states are written after so many steps, not minutes. progress: whether a bar is shown. halves: a step's
    batch is shared by two threads (vace/training/halves.py), for small networks on two cores. is_half: Muon's rounds in
    bfloat16.
    """

    seed: int = 0
    averaging: float = 0.999
    optimiser: str = "adamw"
    plain: tuple[str, ...] = ()
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    longest_gradient: float = 1.0
    log_steps: int = 20
    sheet_steps: int = 1000
    state_minutes: float = 5.0
    save_steps: int | None = None
    progress: bool = True
    workers: int = 1
    halves: bool = False
    is_half: bool = False


@dataclass
class Progress:
    """Where a run stands; seconds: of training so far, over all its parts."""

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf


def train(
    stage: Stage,
    folder: Path,
    plan: Plan = Plan(),
    *,
    resume: bool = False,
    weights: dict[str, torch.Tensor] | None = None,
    from_step: int = 0,
    until: int | None = None,
    accelerator: Accelerator | None = None,
) -> Progress:
    """Train a stage to its end, to the step `until`, or to Ctrl-C, which saves. Returns how far it came.

    resume: go on from the folder's state. weights: start from these instead of random ones, at from_step of the
    schedule, with a fresh optimiser. Raises InputError when there is no state to resume from, CheckpointError when it
    is of another stage, InputError when the folder holds a state and neither is asked for.
    """
    from accelerate import Accelerator
    from tqdm import tqdm

    run = _Run(stage, Path(folder), plan, accelerator or Accelerator(), weights, from_step)
    if resume:
        run.load()
    elif run.state_path.exists():
        raise InputError(f"{folder}: holds a state already; resume it, or choose another folder")
    end = min(stage.steps, stage.steps if until is None else until)
    batches = ahead(stage.batch, range(run.progress.step, end), workers=plan.workers)
    bar = tqdm(total=stage.steps, initial=run.progress.step, desc=stage.name, disable=not run.is_shown, mininterval=2)
    with _stopping() as wants_stop, bar, contextlib.closing(batches):
        for step, batch in batches:
            bar.set_postfix(run.step(step, batch), refresh=False)
            bar.update()
            if run.agreed(wants_stop.is_set()):
                log.warning("stopping at step %d; the state is kept in %s", run.progress.step, run.state_path)
                break
    run.save()
    return run.progress


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(number: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Run:
    """The moving parts of one training: model, average, optimiser, log."""

    def __init__(
        self, stage: Stage, folder: Path, plan: Plan, accelerator: Accelerator, weights: dict | None, from_step: int
    ):
        self.stage, self.folder, self.plan, self.accelerator = stage, folder, plan, accelerator
        self.progress = Progress(step=from_step)
        model = stage.model(plan.seed)
        if weights is not None:
            _load_weights(model, weights, "the given weights")
        self.average = copy.deepcopy(model).requires_grad_(False).eval().to(accelerator.device)
        optimiser = _optimiser(model, plan)
        self.model, self.optimiser = accelerator.prepare(model, optimiser)
        self.model.train()
        self.halves = _halves(self.model) if plan.halves else None
        self.is_main = accelerator.is_main_process
        self.is_shown = self.is_main and plan.progress
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state_path = self.folder / "state.pt"
        self.last_save = time.monotonic()
        self.sums: dict[str, Any] = {}

    def step(self, step: int, batch: Any) -> dict[str, str]:
        """One step of training and what is due after it; returns figures to show."""
        import torch

        begin = time.monotonic()
        for group in self.optimiser.param_groups:
            group["lr"] = self.stage.rate(step)
        seed = _seed_of(self.plan.seed, step, self.accelerator.process_index)
        if self.halves:
            loss, figures = self.halves.backward(self.stage.loss, batch, seed)
        else:
            loss, figures = self.stage.loss(self.model, batch, torch.Generator().manual_seed(seed))
            self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.plan.longest_gradient)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._follow(step)
        self.progress.step = step + 1
        self.progress.seconds += time.monotonic() - begin
        for name, value in {"loss": loss.detach(), **figures}.items():
            self.sums.setdefault(name, []).append(float(value))
        if self.is_main:
            self._write_what_is_due()
        return {name: f"{values[-1]:.3g}" for name, values in self.sums.items() if values}

    def _follow(self, step: int) -> None:
        """Move the average towards the weights, faster in the beginning."""
        import torch

        share = 1 - min(self.plan.averaging, (1 + step) / (10 + step))
        with torch.no_grad():
            weights = self.accelerator.unwrap_model(self.model).state_dict()
            for name, value in self.average.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(weights[name], share)
                else:
                    value.copy_(weights[name])

    def _write_what_is_due(self) -> None:
        step = self.progress.step
        if step % self.plan.log_steps == 0:
            means = {name: round(sum(values) / len(values), 5) for name, values in self.sums.items()}
            self._log({"rate": self.stage.rate(step - 1), **means})
            self.sums = {}
        if step % self.plan.sheet_steps == 0:
            write_image(self.folder / f"sheet-{step:06d}.png", self.stage.sheet(self.average))
        by_time = time.monotonic() - self.last_save > 60 * self.plan.state_minutes
        is_due = step % self.plan.save_steps == 0 if self.plan.save_steps else by_time
        if is_due and step < self.stage.steps:
            self.save()

    def agreed(self, wish: bool) -> bool:
        """Whether any process has this wish: all stop at one step, or the others would wait for ever."""
        if self.accelerator.num_processes == 1:
            return wish
        import torch

        return bool(self.accelerator.reduce(torch.tensor(float(wish), device=self.accelerator.device), "sum") > 0)

    def save(self) -> None:
        """Write the state, evaluate the average, and keep it when it is the best so far."""
        if not self.is_main:
            return
        import torch

        with replacing(self.state_path) as temporary:
            torch.save(self._state(), temporary)
        figures = {name: round(value, 4) for name, value in self.stage.evaluate(self.average).items()}
        self._log(figures)
        log.info("step %d: %s", self.progress.step, figures)
        if figures[self.stage.score] > self.progress.best:
            self.progress.best = figures[self.stage.score]
            self.stage.write(self.average, self.folder / "best", {"step": self.progress.step, **figures})
        self.last_save = time.monotonic()

    def _state(self) -> dict[str, Any]:
        return {
            "stage": self.stage.name,
            "step": self.progress.step,
            "seconds": self.progress.seconds,
            "weights": self.accelerator.unwrap_model(self.model).state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load(self) -> None:
        import torch

        if not self.state_path.is_file():
            raise InputError(f"{self.folder}: no state.pt to resume from; leave --resume out to start anew")
        state = torch.load(self.state_path, map_location="cpu", weights_only=True)
        if state["stage"] != self.stage.name:
            raise CheckpointError(f"{self.state_path}: a state of the stage {state['stage']}, not of {self.stage.name}")
        _load_weights(self.accelerator.unwrap_model(self.model), state["weights"], str(self.state_path))
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        facts = self.folder / "best" / "facts.json"
        best = json.loads(facts.read_text(encoding="utf-8"))[self.stage.score] if facts.is_file() else -math.inf
        self.progress = Progress(state["step"], state["seconds"], best)

    def _log(self, figures: dict[str, Any]) -> None:
        line = {"step": self.progress.step, "minutes": round(self.progress.seconds / 60, 2), **figures}
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _halves(model: nn.Module) -> Halves:
    from vace.training.halves import Halves

    return Halves(model)


def _optimiser(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    import torch

    from vace.training.muon import Muon, groups_of

    if plan.optimiser == "muon":
        groups = groups_of(model, plan.plain)
        return Muon(groups, lr=0.0, betas=plan.betas, weight_decay=plan.weight_decay, is_half=plan.is_half)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.optim.AdamW(trained, lr=0.0, betas=plan.betas, weight_decay=plan.weight_decay)


def _load_weights(model: nn.Module, weights: dict[str, torch.Tensor], source: str) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{source}: not of this model's sizes; {str(error).splitlines()[-1].strip()}") from error


def _seed_of(*numbers: int) -> int:
    """One seed of several numbers, the same everywhere."""
    import numpy as np

    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
