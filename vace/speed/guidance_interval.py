"""Guidance only in the middle of a run: outside the interval the model is asked with the prompt alone. Approximate.

Guidance does little at the highest noise levels and harm at the lowest ("Applying guidance in a limited interval",
arXiv 2404.07724); each step outside costs one forward instead of two. Needs nothing heavy.
"""

from __future__ import annotations

from vace.errors import InputError
from vace.speed.step_share import steps_before

WHOLE = (0.0, 1.0)


def parse_interval(value: object) -> tuple[float, float]:
    """'0.1,0.8', or two numbers -> (low, high), fractions of the steps. Raises InputError that names the flag."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not 0 <= low <= high <= 1:
        raise InputError(
            f"--guidance_interval {value}: give two fractions of the steps, LOW,HIGH with 0 <= LOW <= HIGH <= 1, "
            "such as 0,0.8"
        )
    return low, high


def is_guided(i: int, steps: int, interval: tuple[float, float]) -> bool:
    """Whether step i of `steps` (from 0) lies in the interval: it starts at or after LOW and before HIGH."""
    low, high = interval
    return steps_before(low, steps) <= i < steps_before(high, steps)


def guided_steps(steps: int, interval: tuple[float, float]) -> int:
    """How many steps ask twice; for estimates of cost."""
    return sum(is_guided(i, steps, interval) for i in range(steps))
