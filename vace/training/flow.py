"""Flow matching in straight lines, as Wan was trained: pure arithmetic on latents.

A clean video x0 and noise n meet at x = (1 - s) x0 + s n for a level s from 0 to 1; the model learns the velocity
n - x0 (Lipman et al., 2022, arXiv:2210.02747; Liu et al., 2022, arXiv:2209.03003). Levels are shifted towards noise by
s = shift u / (1 + (shift - 1) u), as the samplers shift theirs (Esser et al., 2024, arXiv:2403.03206).
"""

from __future__ import annotations

import torch

TRAINING_STEPS = 1000  # what the model is told is the level times this


def draw_levels(count: int, generator: torch.Generator, shift: float) -> torch.Tensor:
    """Levels float32 [count] in 0..1, one from each of `count` equal parts of the unshifted range, in any order."""
    parts = torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)
    return shifted(parts / count, shift)


def even_levels(count: int, shift: float) -> torch.Tensor:
    """Levels float32 [count], the middles of equal parts of the unshifted range, ascending."""
    return shifted((torch.arange(count) + 0.5) / count, shift)


def shifted(levels: torch.Tensor, shift: float) -> torch.Tensor:
    return shift * levels / (1 + (shift - 1) * levels)


def mixed(clean_BCTHW: torch.Tensor, noise_BCTHW: torch.Tensor, levels_B: torch.Tensor) -> torch.Tensor:
    """The noisy latents at these levels."""
    return torch.lerp(clean_BCTHW, noise_BCTHW, levels_B.view(-1, 1, 1, 1, 1))


def errors(
    velocity_BCTHW: torch.Tensor,
    clean_BCTHW: torch.Tensor,
    noise_BCTHW: torch.Tensor,
    weights_B1THW: torch.Tensor | None = None,
) -> torch.Tensor:
    """The squared error of each row's velocity, the mean, weighted or plain, over all it is made of: [B]."""
    squares_BTHW = (velocity_BCTHW - (noise_BCTHW - clean_BCTHW)).square().mean(dim=1)
    if weights_B1THW is None:
        return squares_BTHW.flatten(1).mean(dim=1)
    weights_BTHW = weights_B1THW.squeeze(1)
    return (squares_BTHW * weights_BTHW).flatten(1).sum(dim=1) / weights_BTHW.flatten(1).sum(dim=1)
