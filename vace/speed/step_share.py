"""Fractions of a run's steps. Needs nothing heavy."""

from __future__ import annotations

import math

ROUNDING = 1e-9  # 0.1 * 3 is a little more than 0.3 in floating point, and must not count as one step more


def steps_before(share: float, steps: int) -> int:
    """How many of `steps` start before that fraction of the run: step i starts at i / steps."""
    return max(0, min(steps, math.ceil(share * steps - ROUNDING)))
