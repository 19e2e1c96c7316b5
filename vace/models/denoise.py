"""The denoising loop: a pure function of tensors, a model seen as a function, and a sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Predict = Callable[[torch.Tensor, float], torch.Tensor]
OnStep = Callable[[int, int, torch.Tensor, torch.Tensor], None]


class Sampler(Protocol):
    """What the loop asks of a sampler; see vace/models/samplers.py and vace/models/ltx/schedule.py."""

    timesteps: torch.Tensor
    sigmas: torch.Tensor

    def step(self, velocity: torch.Tensor, i: int, sample: torch.Tensor) -> torch.Tensor: ...


def draw_noise(shape: tuple[int, ...], seed: int, device: str | torch.device = "cpu") -> torch.Tensor:
    """Float32 normal noise of `shape` from a generator of its own on `device`, seeded with `seed`."""
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device, dtype=torch.float32)


def guided(cond: Predict, uncond: Predict | None, scale: float) -> Predict:
    """Classifier-free guidance of two models seen as functions, float32; see `combine`.

    Without `uncond`, or at scale 1, one call per step.
    """

    def predict(latents: torch.Tensor, timestep: float) -> torch.Tensor:
        velocity = cond(latents, timestep).float()
        if uncond is None or scale == 1:
            return velocity
        return combine(velocity, uncond(latents, timestep).float(), scale)

    return predict


def combine(cond: torch.Tensor, uncond: torch.Tensor, scale: float) -> torch.Tensor:
    """The velocity with the prompt moved away from the one without, of any shape."""
    return uncond + scale * (cond - uncond)


@torch.no_grad()
def denoise(latents: torch.Tensor, sampler: Sampler, predict: Predict, on_step: OnStep | None = None) -> torch.Tensor:
    """Noise -> clean latents, float32, of any shape the model works in.

    predict: (latents, timestep) -> velocity, guidance included. on_step(i, steps, latents after step i, clean latents
    step i aimed at): for progress and previews; what it raises ends the loop.
    """
    latents = latents.float()
    steps = len(sampler.timesteps)
    for i, timestep in enumerate(sampler.timesteps.tolist()):
        velocity = predict(latents, timestep).float()
        estimate = latents - float(sampler.sigmas[i]) * velocity
        latents = sampler.step(velocity, i, latents)
        if on_step is not None:
            on_step(i, steps, latents, estimate)
    return latents
