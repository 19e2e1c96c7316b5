"""Layers whose products are taken in bfloat16, for processors that do these at twice the rate of float32.

Weights, sums and everything between the products stay float32, as mixed precision is done (Micikevicius et al., 2018,
arXiv:1710.03740). torch's autocast takes attention in bfloat16 too, which on a CPU costs four times what it saves.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

Product = Callable[[torch.Tensor, torch.Tensor, "torch.Tensor | None"], torch.Tensor]


def plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [..., I] of a layer with weight [O, I] and bias [O]: [..., O]."""
    return F.linear(x, weight, bias)


def halved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`plain` with the product, and both products of its backward pass, in bfloat16; takes and gives x's own type."""
    return _Halved.apply(x, weight, bias)


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        halves = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(*halves)
        ctx.kinds = x.dtype, weight.dtype, None if bias is None else bias.dtype
        return F.linear(*halves, None if bias is None else bias.bfloat16()).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.kinds
        half = gradient.bfloat16()
        rows = half.flatten(0, -2)
        found = [None, None, None]
        if ctx.needs_input_grad[0]:
            found[0] = (half @ weight).to(of_x)
        if ctx.needs_input_grad[1]:
            found[1] = (rows.T @ x.flatten(0, -2)).to(of_weight)
        if ctx.needs_input_grad[2]:
            found[2] = gradient.flatten(0, -2).sum(dim=0).to(of_bias)
        return tuple(found)
