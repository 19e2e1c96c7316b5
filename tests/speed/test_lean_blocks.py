"""Lean blocks equal diffusers' in float32, round like them in narrow types, and keep hooks, gradients and weights."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_wan import blocks_run, context, latents, relative, texts, tiny_wan

from vace.models.wan import transformer
from vace.speed import lean_blocks
from vace.speed.attention import apply_attention
from vace.speed.lean_blocks import apply_lean, remove_lean

WIDE = ("time_embedder", "time_proj", "scale_shift_table", ".norm1.", ".norm2.", ".norm3.")  # float32 in the loader
NARROW = {torch.bfloat16: 0.02, torch.float16: 0.003}  # relative error that rounding alone makes here


def velocity(model, dtype=torch.float32):
    job = transformer.prepare(model, context())
    return transformer.predict_velocity(model, latents(), 500.0, texts(model)[0].to(dtype), job)


def narrow(model, dtype):
    """As the loader has it."""
    for name, weight in model.named_parameters():
        if not any(part in name for part in WIDE):
            weight.data = weight.data.to(dtype)
    return model


@pytest.mark.parametrize("norms", [True, False])
def test_equal_in_float32_and_undone(norms):
    model = tiny_wan(cross_attn_norm=norms)
    true = velocity(model)
    names = list(model.state_dict())
    apply_lean(model)
    apply_attention(model)
    assert (velocity(model) - true).abs().max() <= 3e-6
    assert list(model.state_dict()) == names
    apply_lean(model)  # twice is once
    remove_lean(model)
    assert {type(block).__name__ for block in model.blocks} == {"WanTransformerBlock"}
    assert {type(block).__name__ for block in model.vace_blocks} == {"WanVACETransformerBlock"}


@pytest.mark.parametrize("dtype", list(NARROW))
@pytest.mark.parametrize("mixed", [True, False])
def test_narrow_types_are_rounded_as_before(monkeypatch, dtype, mixed):
    monkeypatch.setattr(lean_blocks, "_takes_mixed", lambda device, kind: mixed)
    true = velocity(tiny_wan())
    model = narrow(tiny_wan(), dtype)
    plain = velocity(model, dtype)
    apply_lean(model)
    found = velocity(model, dtype)
    assert relative(found, plain) <= NARROW[dtype]
    assert relative(found, true) <= 1.5 * relative(plain, true)  # no less exact than diffusers' own


def test_the_cpu_takes_norms_of_mixed_types_at_once():
    assert lean_blocks._takes_mixed(torch.device("cpu"), torch.bfloat16)


def test_hooks_fire():
    model = tiny_wan()
    apply_lean(model)
    assert blocks_run(model, lambda: velocity(model)) == ["context0", "main0", "main1", "context1", "main2", "main3"]


def test_with_gradients_it_is_diffusers_own():
    model = tiny_wan()
    lean = copy.deepcopy(model)
    apply_lean(lean)
    given = [torch.randn(1, 4, 48), torch.randn(1, 3, 48), torch.randn(1, 6, 48)]
    rope = (torch.ones(1, 4, 1, 24), torch.zeros(1, 4, 1, 24))
    grads = []
    for each in (model, lean):
        out = each.blocks[0](*given, rope)
        hint, state = each.vace_blocks[0](given[0], given[1], given[0], given[2], rope)
        (out.sum() + hint.sum() + state.sum()).backward()
        grads.append([each.blocks[0].ffn.net[2].weight.grad, each.vace_blocks[0].proj_out.weight.grad])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_other_blocks_are_left_alone():
    class Other(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks, self.vace_blocks = torch.nn.ModuleList([torch.nn.Linear(2, 2)]), torch.nn.ModuleList()

    model = Other()
    apply_lean(model)
    assert type(model.blocks[0]) is torch.nn.Linear
