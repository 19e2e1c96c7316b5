"""`vace bench wan --vs diffusers`: whole Wan-VACE runs, ours and diffusers', on the same tensors in one process.

Three things are raced in pairs, the order of each pair drawn: one forward pass, a run with context and references, and
runs of words alone, of which ours encodes the constant video once. Every run starts with cold caches. A first run of
one step warms both sides up, and tells how far apart their latents are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from vace.bench import floors
from vace.bench.clocks import Clock, PeakMemory, in_pairs
from vace.bench.wan_models import Model, check_device, find_model
from vace.bench.wan_report import render, report
from vace.errors import InputError, nearest

__all__ = ["run", "render"]

log = logging.getLogger("vace")

PEERS = ("diffusers",)
REFS = 2
TEXT_STEPS = (4, 20, 50)
FORWARD_PAIRS = 9
RUN_PAIRS = {"cpu": 9, "cuda": 3}  # by device; of words alone the shortest runs as often
LONG_SHARE = 3  # and the longer ones one time in so many
PRODUCTS, PRODUCT_SIDE = 5, {"cuda": 8192, "cpu": 1024}  # matrix products of which the fastest counts
# Relative difference of latents after one step, above which the two do not do the same; guidance spreads what is lost
# in 16 bits (0.05 on the embedded model).
FAR = {"float32": 0.01, "16 bits": 0.25}


def run(
    model_name: str | None = None,
    ckpt: str | None = None,
    *,
    has_random_weights: bool = False,
    peer: str | None = "diffusers",
    size: str | None = None,
    frames: int | None = None,
    steps: int | None = None,
    text_steps: Sequence[int] = TEXT_STEPS,
    samples: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> dict[str, Any]:
    """Races a model; `find_model` says which, and `vace.bench.wan_report.report` what comes back.

    peer: 'diffusers', or None for ours alone. size, frames, steps: the model's own where None. text_steps: of the runs
    of words alone. samples: pairs, FORWARD_PAIRS and RUN_PAIRS where None. Raises InputError, DeviceError,
    MissingWeights, CheckpointError.
    """
    from vace.devices import pick_device, pick_dtype, toy_threads

    _check(peer, samples, steps, frames, text_steps)
    if seed < 0:
        raise InputError(f"--seed {seed}: give 0 or more")
    area = _area(size)
    check_device(model_name, device)
    where = pick_device(device)
    model = find_model(model_name, ckpt, has_random_weights, str(where), seed)
    with toy_threads(model.is_toy), _no_kept_texts():
        race = Race(model, area or model.size, frames or model.frames, where, pick_dtype(dtype, where), peer, seed)
        pairs = samples or RUN_PAIRS[where.type]
        measured = race.measured(steps or model.steps, tuple(text_steps), pairs, samples or FORWARD_PAIRS)
        return report(model, measured, _rates(race.clock, race.engine.dtype))


class Race:
    """Both sides loaded, the jobs made: one with context and references, one of words alone."""

    def __init__(
        self, model: Model, size: tuple[int, int], count: int, device: Any, dtype: Any, peer: str | None, seed: int
    ) -> None:
        from vace.bench.wan_sides import SIDES, RaceEngine, make_job

        self.model, self.seed = model, seed
        self.clock, self.order = Clock(device), random.Random(seed)
        self.engine = RaceEngine(dict(model.parts), model.tokenizer, device, dtype)
        log.info("bench wan: loading %s (weights: %s) to %s", model.name, model.weights, device)
        started = time.perf_counter()
        self.engine.load()
        self.clock.now()  # waits for the device
        self.load_seconds = time.perf_counter() - started
        self.sides = {name: SIDES[name](self.engine, model) for name in ("ours", peer) if name}
        self.job = make_job(model, size, count, REFS, seed=seed)
        self.words = make_job(model, size, count, has_video=False, seed=seed)

    def measured(self, steps: int, text_steps: tuple[int, ...], pairs: int, forward_pairs: int) -> dict[str, Any]:
        """What `report` takes: the conditions, and of every race what each side took, pair by pair.

        `forward`: seconds; `run` and, by steps, `text_only`: seconds by stage, `end_to_end`, and `peak` in bytes.
        `difference`: relative, of one velocity and of the latents after one step.
        """
        difference = {"latents": self._warm_up()}
        log.info("bench wan: %d pairs of forward passes", forward_pairs)
        forward, difference["forward"] = self._forward(forward_pairs)
        few = max(1, pairs // LONG_SHARE)
        return self._conditions() | {
            "steps": steps,
            "load": self.load_seconds,
            "difference": difference,
            "forward": forward,
            "run": self._raced(self.job, steps, pairs),
            "text_only": {
                n: self._raced(self.words, n, pairs if n == min(text_steps) else few) for n in sorted(set(text_steps))
            },
        }

    def _warm_up(self) -> float | None:
        """How far our latents are from the peer's after one step, the farther of both jobs."""
        found = []
        for job in (self.job, self.words):
            latents = [side.run(job, 1, self.clock).latents for side in self.sides.values()]
            if len(latents) > 1:
                found.append(_distance(*latents))
        if found and not max(found) < FAR["float32" if self.engine.dtype.itemsize == 4 else "16 bits"]:
            log.warning("after one step the sides' latents differ by %.2g: they do not do the same", max(found))
        return max(found, default=None)

    def _forward(self, pairs: int) -> tuple[dict[str, list[float]], float | None]:
        from vace.bench.wan_sides import source

        states, _ = self.engine.encode_prompts(self.job.prompt, None)
        context = self.engine.encode_context(*source(self.job))
        passes = {name: side.forward(self.job, context, states) for name, side in self.sides.items()}
        velocities = [call() for call in passes.values()]  # warms up, too
        difference = _distance(*velocities) if len(velocities) > 1 else None
        del velocities
        timed = {name: lambda call=call: self.clock.seconds(call) for name, call in passes.items()}
        return in_pairs(timed, pairs, self.order), difference

    def _raced(self, job: Any, steps: int, pairs: int) -> dict[str, list[dict[str, Any]]]:
        what = "words alone" if job.frames is None else f"context and {len(job.refs)} references"
        log.info("bench wan: %d pairs of runs of %d steps, %s", pairs, steps, what)

        def timed(name: str) -> dict[str, Any]:
            memory = PeakMemory(self.clock.device)
            made = self.sides[name].run(job, steps, self.clock)
            log.info("%s: %.4g s", name, made.seconds)
            return {**made.stages, "end_to_end": made.seconds, "peak": memory.read()}

        return in_pairs({name: lambda name=name: timed(name) for name in self.sides}, pairs, self.order)

    def _conditions(self) -> dict[str, Any]:
        import torch

        from vace.bench.wan_sides import SAMPLER

        device = self.clock.device
        texts = [self.job.prompt, self.job.negative][: 2 if self.model.guidance != 1 else 1]
        return {
            "model": self.model.name,
            "weights": self.model.weights,
            "device_type": device.type,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "dtype": str(self.engine.dtype).removeprefix("torch."),
            "vae_dtype": "float32",
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "clock": self.clock.kind,
            "size": list(self.job.size),
            "frames": self.job.count,
            "refs": len(self.job.refs),
            "guidance": self.model.guidance,
            "shift": self.model.shift,
            "sampler": SAMPLER,
            "seed": self.seed,
            "text_tokens": self.engine.text_lengths(texts),
        }


def _distance(ours: Any, theirs: Any) -> float:
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


def _check(
    peer: str | None, samples: int | None, steps: int | None, frames: int | None, text_steps: Sequence[int]
) -> None:
    if peer is not None and peer not in PEERS:
        raise InputError(f"--vs {peer}: unknown; {nearest(peer, PEERS)}")
    for flag, value in (("samples", samples), ("steps", steps), ("frames", frames)):
        if value is not None and value < 1:
            raise InputError(f"--{flag} {value}: give 1 or more")
    if frames is not None and frames % 4 != 1:
        raise InputError(f"--frames {frames}: Wan makes 4n+1 frames; give {frames // 4 * 4 + 1} or another such count")
    wrong = [number for number in text_steps if number < 1]
    if wrong:
        raise InputError(f"--text_steps {wrong[0]}: give numbers of 1 or more, such as 4,20,50")


def _area(size: str | None) -> tuple[int, int] | None:
    from vace.conditioning.sizes import parse_size

    return parse_size(size).sides if size else None


@contextlib.contextmanager
def _no_kept_texts() -> Iterator[None]:
    """The disk cache of text states is off: caches are cold, and drawn encoders have no files to be known by."""
    before = os.environ.get("VACE_CACHE")
    os.environ["VACE_CACHE"] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ["VACE_CACHE"]
        else:
            os.environ["VACE_CACHE"] = before


def _rates(clock: Clock, dtype: Any) -> floors.Rates:
    """The device's from the table, where it is there and the type is bfloat16; else as matrix products reach here."""
    import torch

    device = clock.device
    if device.type == "cuda" and dtype == torch.bfloat16:
        found = floors.rates_of(torch.cuda.get_device_name(device))
        if found is not None:
            return found
    side = PRODUCT_SIDE[device.type]
    left, right = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    times = [clock.seconds(lambda: left @ right) for _ in range(PRODUCTS)]
    return floors.even_rates(2 * side**3 / min(times), f"products of {side}x{side} matrices as measured here")
