"""Offloaded blocks: the same result bit for bit, two slots and no more, one copy of each group per forward."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from tiny_wan import context, latents, texts, tiny_wan

from vace.errors import InputError
from vace.models.wan import transformer
from vace.models.wan.predictor import Predictor
from vace.speed.attention import apply_attention
from vace.speed.lean_blocks import apply_lean
from vace.speed.offload import BlockOffload, Copier, apply_offload, running_order
from vace.speed.quantize import weight_bytes


class Checking(Copier):
    """Copies that land late: a slot holds rubbish until its group is waited for, as with a stream of its own."""

    def __init__(self):
        super().__init__()
        self.late = {}

    def copy(self, slot, group):
        slot.bytes.fill_(255)
        self.late[id(slot)] = group
        self.copied.append((group.number, group.bytes.numel()))

    def wait(self, slot):
        group = self.late.pop(id(slot), None)
        if group is not None:
            slot.bytes[: group.bytes.numel()].copy_(group.bytes)


def run(model, scale=1.0, **options):
    job = transformer.prepare(model, context(), scale)
    predict = Predictor(model, job, texts(model), 4, guidance_scale=3.0, **options)
    x = latents()
    for timestep in (999.0, 700.0, 400.0, 100.0):
        x = x - 0.2 * predict(x, timestep)
    return x


def fast(**changes):
    model = tiny_wan(**changes).requires_grad_(False)
    apply_lean(model)
    apply_attention(model)
    return model


@pytest.mark.parametrize("group_blocks", [1, 2, 4, 6])
@pytest.mark.parametrize("copier", [Copier, Checking])
def test_bit_equal(group_blocks, copier):
    true = run(fast())
    model = fast()
    offload = apply_offload(model, "cpu", group_blocks, copier())
    assert torch.equal(run(model), true)
    offload.remove()
    assert torch.equal(run(model), true)


@pytest.mark.parametrize(
    "options", [dict(step_cache=0.5), dict(context_end=0.5), dict(scale=[1.0, 0.0]), dict(scale=0.0)]
)
def test_bit_equal_when_blocks_come_out_of_order(options):
    true = run(fast(), **options)
    model = fast()
    apply_offload(model, "cpu", 1, Checking())
    assert torch.equal(run(model, **options), true)


def test_bit_equal_in_8_bits():
    pytest.importorskip("torchao")
    from vace.speed.quantize import quantize

    models = [fast(num_attention_heads=2, attention_head_dim=48, ffn_dim=128) for _ in range(2)]
    assert all(quantize(model, "int8") for model in models)
    apply_offload(models[1], "cpu", 1, Checking())
    assert torch.equal(run(models[1]), run(models[0]))


def test_order_is_that_of_a_forward():
    model = fast()
    names = {block: f"main{i}" for i, block in enumerate(model.blocks)}
    names |= {block: f"context{i}" for i, block in enumerate(model.vace_blocks)}
    assert [names[block] for block in running_order(model)] == [
        "context0", "main0", "main1", "context1", "main2", "main3",
    ]  # fmt: skip


def test_each_group_is_copied_once_a_forward():
    model = fast()
    offload = apply_offload(model, "cpu")
    run(model)
    forwards = 8
    numbers = [number for number, _ in offload.copier.copied]
    assert numbers[: 2 * 6] == [*range(6), *range(6)]
    assert forwards * 6 <= len(numbers) <= forwards * 6 + 1  # and the first of a forward that never came


def test_the_next_group_is_asked_for_before_a_block_runs():
    model = fast()
    offload = apply_offload(model, "cpu")
    seen = []
    for group in offload.groups:
        for block in group.blocks:
            block.register_forward_hook(
                lambda *_, n=group.number: seen.append((n, {slot.group.number for slot in offload.slots}))
            )
    job = transformer.prepare(model, context())
    transformer.predict_velocity(model, latents(), 500.0, texts(model)[0], job)
    assert seen == [(n, {n, (n + 1) % 6}) for n in range(6)]


def test_what_the_device_holds():
    model = fast()
    plain = weight_bytes(model)
    blocks = sum(weight_bytes(block) for block in (*model.blocks, *model.vace_blocks))
    largest = max(weight_bytes(block) for block in model.vace_blocks)
    offload = apply_offload(model, "cpu")
    padding = 256 * 64
    assert len(offload.slots) == 2
    assert plain - blocks + 2 * largest <= offload.device_bytes <= plain - blocks + 2 * largest + 2 * padding


def test_names_stay_and_the_model_can_go():
    model = fast()
    names = {key: value.clone() for key, value in model.state_dict().items()}
    apply_offload(model, "cpu")
    run(model)
    found = model.state_dict()
    assert list(found) == list(names) and all(torch.equal(found[key], names[key]) for key in names)
    kept = weakref.ref(model.offload)
    assert isinstance(kept(), BlockOffload)
    del model, found
    gc.collect()
    assert kept() is None


def test_groups_of_none_are_told():
    with pytest.raises(InputError, match="give 1 or more"):
        apply_offload(fast(), "cpu", 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_is_equal():
    device = torch.device("cuda")
    true = run_on(fast().to(device), device)
    model = fast()
    apply_offload(model, device)
    assert torch.equal(run_on(model, device), true)


def run_on(model, device):
    job = transformer.prepare(model, context().to(device))
    text = transformer.embed_text(model, torch.zeros(5, 32, device=device), 8)
    return transformer.predict_velocity(model, latents().to(device), 500.0, text, job)
