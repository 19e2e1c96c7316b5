"""Samplers of Wan: the original's noise schedules, driven through diffusers' solvers.

A sampler carries one run: `timesteps` go to the model, `step` takes its velocity. Solvers keep a history, so each run
makes its own. All arithmetic is float32, whatever the model ran in.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from vace.errors import InputError, nearest

TRAINING_STEPS = 1000
UNIPC_START = float(np.float32(0.999))  # the original keeps its first noise level as float32
UNIPC_MOST = 1.0 - 2.0**-24  # the last float32 below 1.0


def _unipc_levels(steps: int) -> np.ndarray:
    return np.linspace(UNIPC_START, 0.0, steps + 1)[:-1]


def _dpm_levels(steps: int) -> np.ndarray:
    return np.linspace(1.0, 0.0, steps + 1)[:-1]


LEVELS: dict[str, Callable[[int], np.ndarray]] = {"unipc": _unipc_levels, "dpm++": _dpm_levels}


class Sampler:
    """One run of a solver over a schedule.

    timesteps: int64 [n], what the model is told; sigmas: float32 [n+1], the noise levels, the last one 0.
    """

    def __init__(self, name: str, sigmas: np.ndarray) -> None:
        self.name = name
        self.timesteps = torch.from_numpy((sigmas * TRAINING_STEPS).astype(np.int64))
        self.sigmas = torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))
        self._levels = self.sigmas.clamp(max=UNIPC_MOST) if name == "unipc" else self.sigmas
        self._solver = _make_solver(name, torch.unique_consecutive(self._levels))
        self._next = 0

    def __len__(self) -> int:
        return len(self.timesteps)

    def step(self, velocity: torch.Tensor, index: int, sample: torch.Tensor) -> torch.Tensor:
        """The sample at noise level sigmas[index + 1], float32.

        velocity: the model's answer for `sample` at timesteps[index], after guidance; same shape, two dimensions or
        more. Steps come in order from 0: raises ValueError otherwise, since the solver's history would be wrong.
        """
        if index != self._next:
            raise ValueError(f"step {index} out of order: step {self._next} of {len(self)} is next")
        self._next += 1
        sample = sample.float()
        if self._levels[index] == self._levels[index + 1]:
            return sample  # a step of no length, which the solver was not told of
        return self._solver.step(velocity.float(), self.timesteps[index], sample, return_dict=False)[0]


def make_sampler(name: str, steps: int, shift: float) -> Sampler:
    """A new sampler: `unipc` or `dpm++`, steps >= 1, shift > 0 (larger: more steps at high noise).

    Raises InputError for an unknown name, fewer than one step, or a shift that is not a positive finite number.
    """
    if name not in LEVELS:
        raise InputError(f"--sample_solver '{name}' is unknown: {nearest(name, LEVELS)}")
    if steps < 1:
        raise InputError(f"--sample_steps {steps} is not possible: give 1 or more")
    if not math.isfinite(shift) or shift <= 0:
        raise InputError(f"--sample_shift {shift} is not possible: give a positive number such as 16")
    levels = LEVELS[name](steps)
    return Sampler(name, shift_levels(levels, shift))


def shift_levels(levels: np.ndarray, shift: float) -> np.ndarray:
    """Noise levels moved by a time shift, s*x / (1 + (s-1)*x), float64; 1 stays 1 however small the shift."""
    below = 1 + (shift - 1) * levels
    safe = np.where(below > 0, below, 1.0)
    return np.where(below > 0, np.minimum(shift * levels / safe, 1.0), 1.0)


def _make_solver(name: str, levels: torch.Tensor):
    """A diffusers solver that uses exactly these noise levels, strictly falling, and counts its steps itself.

    It works with log((1 - sigma) / sigma), so levels must fall at every step; in float32 a large shift brings several
    to 1.0. DPM++ can start at 1.0, as the original does; UniPC's corrector cannot.
    """
    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    kind = UniPCMultistepScheduler if name == "unipc" else DPMSolverMultistepScheduler
    solver = kind(prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2)
    solver.sigmas = levels
    solver.timesteps = (levels[:-1] * TRAINING_STEPS).to(torch.int64)
    solver.num_inference_steps = len(levels) - 1
    solver.set_begin_index(0)
    return solver
