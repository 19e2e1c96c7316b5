"""The denoising loop: a pure function of tensors, a model seen as a function, and a sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Predict = Callable[[torch.Tensor, float], torch.Tensor]
OnStep = Callable[[int, int, torch.Tensor, torch.Tensor], None]


class Sampler(Protocol):
    """What the loop asks of a sampler; see vace/models/samplers.py."""

    timesteps: torch.Tensor
    sigmas: torch.Tensor

    def step(self, velocity: torch.Tensor, i: int, sample: torch.Tensor) -> torch.Tensor: ...


def draw_noise(shape: tuple[int, ...], seed: int, device: str | torch.device = "cpu") -> torch.Tensor:
    """Float32 normal noise of `shape` from a generator of its own on `device`, seeded with `seed`."""
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device, dtype=torch.float32)


@torch.no_grad()
def denoise(
    latents_CTHW: torch.Tensor,
    sampler: Sampler,
    cond: Predict,
    uncond: Predict | None,
    guidance_scale: float,
    on_step: OnStep | None = None,
) -> torch.Tensor:
    """Noise -> clean latents, float32.

    cond, uncond: (latents, timestep) -> velocity, with and without the prompt; without `uncond`, or at scale 1, one
    call per step. on_step(i, steps, latents after step i, clean latents step i aimed at): for progress and previews;
    what it raises ends the loop.
    """
    latents = latents_CTHW.float()
    steps = len(sampler.timesteps)
    for i, timestep in enumerate(sampler.timesteps.tolist()):
        velocity = cond(latents, timestep).float()
        if uncond is not None and guidance_scale != 1:
            base = uncond(latents, timestep).float()
            velocity = base + guidance_scale * (velocity - base)
        estimate = latents - float(sampler.sigmas[i]) * velocity
        latents = sampler.step(velocity, i, latents)
        if on_step is not None:
            on_step(i, steps, latents, estimate)
    return latents
