"""Muon for matrices and convolution kernels, AdamW for the rest, as one optimiser with one learning rate.

Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon) moves a matrix along its momentum with all
singular values made alike. Its steps are scaled by 0.2 sqrt(longer side) as in Liu et al., 2025 (arXiv:2502.16982), so
that the rates of AdamW serve it. torch's own takes matrices only; kernels are most of what is trained here, and they
are matrices of their output channels by all else. On these small networks it needs half of AdamW's steps or less.
"""

from __future__ import annotations

import torch
from torch import nn

QUINTIC = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration, from Jordan et al.
ROUNDS = 5
LEAST_SIDE = 8  # of a matrix: thinner ones have no spectrum worth evening out


class Muon(torch.optim.Optimizer):
    """Steps of Muon in groups with `is_even`, of AdamW in the others; see `groups_of`."""

    def __init__(
        self,
        groups: list[dict],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        momentum: float = 0.95,
        is_half: bool = False,
    ):
        """is_half: the rounds of evening in bfloat16, as Jordan et al. do them."""
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "momentum": momentum})
        self.is_half = is_half

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            if group["is_even"]:
                for alike in _by_shape(weights):
                    self._even_steps(alike, group)
            else:
                for weight in weights:
                    self._adam_step(weight, group)

    def _even_steps(self, weights: list[torch.Tensor], group: dict) -> None:
        """Steps of weights of one shape, evened as one batch: small products one by one leave cores idle."""
        means = [self.state[weight].setdefault("mean", torch.zeros_like(weight)) for weight in weights]
        gradients = [weight.grad for weight in weights]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, means, group["momentum"])  # Nesterov's
        steps = torch.stack(ahead).flatten(2)
        steps = evened(steps.bfloat16()).float() if self.is_half else evened(steps)
        length = group["lr"] * 0.2 * max(steps.shape[1:]) ** 0.5
        torch._foreach_add_(weights, list(steps.view(len(weights), *weights[0].shape)), alpha=-length)

    def _adam_step(self, weight: torch.Tensor, group: dict) -> None:
        state, (first, second) = self.state[weight], group["betas"]
        state["step"] = state.get("step", 0) + 1
        mean = state.setdefault("mean", torch.zeros_like(weight))
        square = state.setdefault("square", torch.zeros_like(weight))
        mean.lerp_(weight.grad, 1 - first)
        square.mul_(second).addcmul_(weight.grad, weight.grad, value=1 - second)
        deviation = (square / (1 - second ** state["step"])).sqrt_().add_(1e-8)
        weight.addcdiv_(mean, deviation, value=-group["lr"] / (1 - first ** state["step"]))


def groups_of(model: nn.Module, plain: tuple[str, ...] = ()) -> list[dict]:
    """The trained weights of a model in two groups: what Muon steps, and what AdamW does.

    plain: parts of names that are AdamW's whatever their shape; tables of embeddings, first and last layers fare better
    so.
    """
    even, rest = [], []
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        is_matrix = weight.ndim >= 2 and min(len(weight), weight[0].numel()) >= LEAST_SIDE
        (even if is_matrix and not any(part in name for part in plain) else rest).append(weight)
    return [{"params": weights, "is_even": kind} for weights, kind in ((even, True), (rest, False)) if weights]


def evened(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices [K, M, N] with about the same singular vectors, and singular values all between 0.7 and 1.2."""
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    first, second, third = QUINTIC
    for _ in range(ROUNDS):
        square = x @ x.mT
        square = torch.baddbmm(square, square, square, beta=second, alpha=third)
        x = torch.baddbmm(x, square, x, beta=first)
    return x.mT if is_tall else x


def _by_shape(weights: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    found: dict[torch.Size, list[torch.Tensor]] = {}
    for weight in weights:
        found.setdefault(weight.shape, []).append(weight)
    return list(found.values())
