"""Samplers for models distilled to a few steps: fixed noise levels, plain steps, no history.

The distilled Wan2.1 models (Self-Forcing, lightx2v) were trained on timesteps 1000, 750, 500, 250 of an unshifted
schedule; the shift then moves the levels, with 5 to 1000, 937.5, 833.3, 625. At each the model aims at clean latents,
x0 = x - sigma * v. From there:

`euler`  x' = x + (sigma' - sigma) * v        along the velocity, nothing is drawn
`lcm`    x' = (1 - sigma') * x0 + sigma' * n  with new noise n, as in training; the last step ends at x0
"""

from __future__ import annotations

import math

import numpy as np
import torch

from vace.errors import InputError, nearest
from vace.models.samplers import TRAINING_STEPS, shift_levels

FEW_STEPS = ("lcm", "euler")
STEPS = 4
MOST_STEPS = TRAINING_STEPS


class FewSteps:
    """One run over fixed noise levels.

    timesteps: float32 [n], what the model is told, not rounded; sigmas: float32 [n+1], the noise levels, the last 0.
    generator: where `lcm` draws its noise from, on the generator's own device.
    """

    def __init__(self, name: str, levels: np.ndarray, generator: torch.Generator | None = None) -> None:
        self.name = name
        self.timesteps = torch.from_numpy((levels * TRAINING_STEPS).astype(np.float32))
        self.sigmas = torch.from_numpy(np.append(levels, 0.0).astype(np.float32))
        self._generator = generator
        self._next = 0

    def __len__(self) -> int:
        return len(self.timesteps)

    def step(self, velocity: torch.Tensor, index: int, sample: torch.Tensor) -> torch.Tensor:
        """The sample at noise level sigmas[index + 1], float32, of the shape of `velocity` and `sample`.

        Steps come in order from 0: raises ValueError otherwise, since the noise would be that of another step.
        """
        if index != self._next:
            raise ValueError(f"step {index} out of order: step {self._next} of {len(self)} is next")
        self._next += 1
        sample, velocity = sample.float(), velocity.float()
        now, then = float(self.sigmas[index]), float(self.sigmas[index + 1])
        if self.name == "euler":
            return sample + (then - now) * velocity
        clean = sample - now * velocity
        return (1 - then) * clean + then * self._noise(sample) if then > 0 else clean

    def _noise(self, sample: torch.Tensor) -> torch.Tensor:
        device = self._generator.device
        return torch.randn(sample.shape, generator=self._generator, device=device).to(sample.device)


def make_few_steps(
    name: str, steps: int = STEPS, shift: float = 5.0, generator: torch.Generator | None = None
) -> FewSteps:
    """A new sampler, `lcm` or `euler`, over timesteps 1000 * (1 - i / steps) moved by `shift`.

    generator: needed by `lcm`; see `generator_after`. Raises InputError for an unknown name, a number of steps outside
    1 to 1000, or a shift that is not a positive finite number; ValueError for `lcm` without a generator.
    """
    if name not in FEW_STEPS:
        raise InputError(f"--sample_solver '{name}' is unknown: {nearest(name, FEW_STEPS)}")
    if not 1 <= steps <= MOST_STEPS:
        raise InputError(f"--sample_steps {steps} is not possible with {name}: give 1 to {MOST_STEPS}, usually {STEPS}")
    if not math.isfinite(shift) or shift <= 0:
        raise InputError(f"--sample_shift {shift} is not possible: give a positive number such as 5")
    if name == "lcm" and generator is None:
        raise ValueError("lcm draws noise at every step: a generator is needed")
    return FewSteps(name, shift_levels(1 - np.arange(steps) / steps, shift), generator)


def generator_after(shape: tuple[int, ...], seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """The generator of `draw_noise(shape, seed, device)` as it stands after that draw.

    One of the same seed that starts anew would draw the starting noise a second time.
    """
    generator = torch.Generator(device).manual_seed(seed)
    torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
    return generator
