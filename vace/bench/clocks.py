"""Seconds and memory of calls that are compared in one process, and the order they are made in.

On a CUDA device time is the wall's, after the device has done all it was given. On the CPU it is the process's own, so
that others on the machine count less; several threads add up.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # of what the kernel can be asked to forget: the highest resident size


class Clock:
    """Seconds of work on `device`. kind: 'wall' or 'process'."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.kind = "wall" if device.type == "cuda" else "process"

    def now(self) -> float:
        if self.kind == "process":
            return time.process_time()
        import torch

        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def seconds(self, call: Callable[[], Any]) -> float:
        """What `call` takes. Garbage of calls before is thrown away first, untimed."""
        gc.collect()
        started = self.now()
        call()
        return self.now() - started


class Watch:
    """Seconds of the stages of one run, in the order they end; they add up to the whole."""

    def __init__(self, clock: Clock) -> None:
        gc.collect()
        self.stages: dict[str, float] = {}
        self._clock = clock
        self._last = clock.now()

    def mark(self, stage: str) -> None:
        """What passed since the last mark was `stage`."""
        now = self._clock.now()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._last
        self._last = now

    @property
    def total(self) -> float:
        return sum(self.stages.values())


class PeakMemory:
    """Bytes at the fullest moment since it was made: the device's, or on the CPU the whole process's."""

    def __init__(self, device: Any) -> None:
        self._device = device
        if device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(device)
        else:
            self._is_fresh = _forget_peak()

    def read(self) -> int | None:
        """None where this system does not let the highest mark be set back: it would be another run's."""
        if self._device.type == "cuda":
            import torch

            return torch.cuda.max_memory_allocated(self._device)
        return _resident_peak() if self._is_fresh else None


def in_pairs(sides: Mapping[str, Callable[[], T]], count: int, order: random.Random) -> dict[str, list[T]]:
    """What every side gives, `count` times, one after the other in an order that `order` shuffles anew each time."""
    given: dict[str, list[T]] = {name: [] for name in sides}
    for _ in range(count):
        names = list(sides)
        order.shuffle(names)
        for name in names:
            given[name].append(sides[name]())
    return given


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of ours / theirs over the pairs: what slows a whole pair cancels out."""
    return statistics.median(own / other for own, other in zip(ours, theirs, strict=True))


def _forget_peak() -> bool:
    try:
        _RESET.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _resident_peak() -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kilobytes[0] * 1024 if kilobytes else None
