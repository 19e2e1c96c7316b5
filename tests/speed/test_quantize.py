"""Weights of 8 bits: which layers, how far the result moves, how much memory, and that no whole model is ever there."""

from __future__ import annotations

import sys
import weakref

import pytest
import torch
from torch import nn
from wan_folders import write_original

from vace.errors import DeviceError, InputError, MissingDependency
from vace.models.checkpoints import open_checkpoint
from vace.models.loading import build, device_bytes
from vace.models.parts import read_part
from vace.models.wan import transformer
from vace.speed import quantize as module
from vace.speed.quantize import KINDS, check_kind, layer_names, quantize, weight_bytes

torchao = pytest.importorskip("torchao")

VELOCITY_BARS = {"int8": 0.015, "fp8": 0.035}  # relative error of the random toy's velocity; measured: half of it
TEXT_BARS = {"int8": 0.02, "fp8": 0.08}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    checkpoint = open_checkpoint(write_original(tmp_path_factory.mktemp("wan") / "golden"))
    return {name: read_part(checkpoint, name) for name in ("transformer", "text_encoder")}


@torch.no_grad()
def velocity(model):
    draw = torch.Generator().manual_seed(0)
    latents, context = (torch.randn(channels, 3, 8, 8, generator=draw) for channels in (16, 96))
    dtype = model.patch_embedding.weight.dtype
    text = transformer.embed_text(model, torch.randn(12, 64, generator=draw).to(dtype), 32)
    return transformer.predict_velocity(model, latents, 500.0, text, transformer.prepare(model, context))


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_velocity_moves_little(parts, kind, dtype):
    plain = velocity(build(parts["transformer"], dtype))
    model = build(parts["transformer"], dtype, quantize=kind)
    error = relative(velocity(model), plain)
    print(f"velocity {kind} {dtype}: {error:.4f}")
    assert 1e-5 < error < VELOCITY_BARS[kind]
    assert {name.split(".")[0] + name.split(".")[1] for name in layer_names(model)} == {
        "blocks1", "blocks2", "vace_blocks0", "vace_blocks1",
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_encoder_moves_little(parts, kind):
    ids = torch.arange(3, 15)[None]
    models = [build(parts["text_encoder"], torch.float32, quantize=one) for one in (None, kind)]
    with torch.no_grad():
        plain, rounded = (model(input_ids=ids).last_hidden_state for model in models)
    error = relative(rounded, plain)
    print(f"text {kind}: {error:.4f}")
    assert error < TEXT_BARS[kind] and models[1].shared.weight.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_read_in_8_bits_is_rounded_after_reading(parts, kind):
    read = build(parts["transformer"], torch.bfloat16, quantize=kind)
    after = build(parts["transformer"], torch.bfloat16)
    assert set(quantize(after, kind)) == layer_names(read)
    assert torch.equal(velocity(read), velocity(after))
    assert not any(parameter.requires_grad for parameter in after.parameters())


def test_what_is_kept_is_bit_equal(parts):
    plain = dict(build(parts["transformer"], torch.bfloat16).named_parameters())
    model = build(parts["transformer"], torch.bfloat16, quantize="int8")
    rounded = {f"{name}.weight" for name in layer_names(model)}
    assert len(rounded) == 4 * 10  # two blocks and two context blocks of ten layers
    for name, tensor in model.named_parameters():
        if name not in rounded:
            assert type(tensor) is nn.Parameter and torch.equal(tensor, plain[name]), name
    kept = {
        "proj_out",
        "condition_embedder.time_proj",
        "blocks.0.attn1.to_q",
        "blocks.3.ffn.net.2",
        "vace_blocks.0.proj_in",
    }
    assert not kept & layer_names(model) and kept <= {name.removesuffix(".weight") for name in plain}


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_what_was_counted(parts, kind):
    """8 bits a weight and at most 5 bytes a row, where bfloat16 has 16 bits."""
    plain = build(parts["transformer"], torch.bfloat16)
    model = build(parts["transformer"], torch.bfloat16, quantize=kind)
    layers = dict(plain.named_modules())
    halved = sum(layers[name].weight.numel() for name in layer_names(plain))
    rows = sum(layers[name].weight.shape[0] for name in layer_names(plain))
    saved = weight_bytes(plain) - weight_bytes(model)
    assert 2 * halved - halved - 5 * rows <= saved <= halved
    assert device_bytes(parts["transformer"], torch.bfloat16) == weight_bytes(plain)
    assert device_bytes(parts["transformer"], torch.bfloat16, kind) == weight_bytes(model)
    texts = [build(parts["text_encoder"], torch.bfloat16, quantize=one) for one in (None, kind)]
    counted = [device_bytes(parts["text_encoder"], torch.bfloat16, one) for one in (None, kind)]
    assert counted == [weight_bytes(model) for model in texts] and counted[1] < counted[0]
    assert weight_bytes(nn.Linear(3, 5)) == 4 * (15 + 5)


def test_no_two_layers_are_ever_there_in_full(parts):
    """Each weight is gone before the next but one is read: the model is never whole in its float type."""
    alive, most = [], 0

    def watch(key, tensor):
        nonlocal most
        tensor = tensor.clone()
        if key in rounded:
            alive.append(weakref.ref(tensor))
        most = max(most, sum(one() is not None for one in alive))
        return tensor

    rounded = {f"{name}.weight" for name in layer_names(build(parts["transformer"], torch.bfloat16))}
    build(parts["transformer"], torch.bfloat16, quantize="int8", change=watch)
    assert len(alive) == len(rounded) == 40 and most <= 2


def test_a_change_comes_before_rounding(parts):
    key = "blocks.1.attn1.to_q.weight"
    doubled = build(parts["transformer"], torch.float32, quantize="int8", change=lambda k, t: t * 2 if k == key else t)
    plain = build(parts["transformer"], torch.float32, quantize="int8")
    names = [dict(model.named_parameters())[key].dequantize() for model in (doubled, plain)]
    assert torch.equal(names[0], 2 * names[1])


def test_unknown_kinds_and_devices_are_told(monkeypatch):
    with pytest.raises(InputError, match="--quantize int4: unknown; known: int8, fp8"):
        check_kind("int4", torch.device("cpu"))
    with pytest.raises(DeviceError, match="do not run on Apple's GPUs"):
        check_kind("int8", torch.device("mps"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "an older card")
    with pytest.raises(DeviceError, match="capability 8.9 .* an older card has 8.6; take --quantize int8"):
        check_kind("fp8", torch.device("cuda"))
    check_kind("int8", torch.device("cuda"))


def test_without_torchao_the_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(MissingDependency, match=r"needs the package torchao; pip install 'vace\[quant\]'"):
        check_kind("int8", torch.device("cpu"))


def test_small_layers_are_left(parts):
    small = nn.Sequential(nn.Linear(32, 96), nn.Linear(96, 96))
    assert quantize(small, "int8") == ["1"] and type(small[0].weight) is nn.Parameter
    assert quantize(nn.ReLU(), "int8") == []
    assert module.layer_names(nn.ModuleDict({"proj_out": nn.Linear(96, 96)})) == set()
