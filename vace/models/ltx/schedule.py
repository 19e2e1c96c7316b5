"""LTX's noise schedule: even levels, shifted by the number of tokens, stretched to end at a tenth, taken by Euler.

It serves the denoising loop as a sampler of vace/models/samplers.py does. The shift is the resolution-dependent one of
Stable Diffusion 3 (https://arxiv.org/abs/2403.03206, 5.3.2), as in the original's ltx_video/schedulers/rf.py.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from vace.errors import CheckpointError, InputError
from vace.models.samplers import shift_levels

# The logarithm of the shift grows with the tokens along a line through these two points (tokens, logarithm), also
# beyond them.
FEW, MANY = (1024, 0.95), (4096, 2.05)
TERMINAL = 0.1  # the noise level at which the last step begins


class Schedule:
    """One run of Euler over noise levels.

    sigmas: float32 [n+1], falling, the last one 0; timesteps: float32 [n], what the model is told: the level itself,
    0..1. It keeps no history, so steps may come in any order and several videos may share one.
    """

    def __init__(self, levels: np.ndarray) -> None:
        self.sigmas = torch.from_numpy(np.append(levels, 0.0).astype(np.float32))
        self.timesteps = self.sigmas[:-1]

    def __len__(self) -> int:
        return len(self.timesteps)

    def step(self, velocity: torch.Tensor, index: int, sample: torch.Tensor) -> torch.Tensor:
        """The sample at noise level sigmas[index + 1], float32; velocity: the model's answer at sigmas[index]."""
        length = float(self.sigmas[index] - self.sigmas[index + 1])
        return sample.float() - length * velocity.float()


def make_schedule(
    steps: int, tokens: int, *, shift: float | None = None, terminal: float | None = TERMINAL
) -> Schedule:
    """The schedule of a clip of so many tokens, those of its reference images included.

    shift: takes the place of the one that follows from the tokens; larger means more steps at high noise, 1 none.
    terminal: the level of the last step, from the checkpoint's scheduler; None leaves the levels as shifted. A single
    step goes from 1 to 0; the original gives NaN. Raises InputError for fewer than one step or a shift that is not a
    positive finite number, CheckpointError for a terminal outside 0..1.
    """
    if steps < 1:
        raise InputError(f"--steps {steps} is not possible: give 1 or more")
    if shift is not None and not (math.isfinite(shift) and shift > 0):
        raise InputError(f"--shift {shift} is not possible: give a positive number such as 5, or leave it out")
    if terminal is not None and not 0 <= terminal < 1:
        raise CheckpointError(f"target_shift_terminal {terminal} of the checkpoint's scheduler does not lie in 0..1")
    levels = shift_levels(np.linspace(1.0, 1.0 / steps, steps), token_shift(tokens) if shift is None else shift)
    return Schedule(levels if terminal is None else _stretched(levels, terminal))


def token_shift(tokens: int) -> float:
    """The shift of a clip of so many tokens: 2.6 at 1024, 7.8 at 4096, 10.7 at the full 4992."""
    slope = (MANY[1] - FEW[1]) / (MANY[0] - FEW[0])
    return math.exp(FEW[1] + (tokens - FEW[0]) * slope)


def _stretched(levels: np.ndarray, terminal: float) -> np.ndarray:
    """Levels spread so that 1 stays 1 and the last becomes `terminal`; where all are 1 there is nothing to spread."""
    span = 1.0 - levels[-1]
    return 1.0 - (1.0 - levels) * ((1.0 - terminal) / span) if span > 0 else levels
