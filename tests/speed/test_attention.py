"""Attention kernels are proven before use, named ones are used or refused, and our attention equals diffusers'."""

from __future__ import annotations

import logging
import sys
import types

import pytest
import torch
from tiny_wan import context, latents, texts, tiny_wan

from vace.errors import DeviceError, InputError, MissingDependency
from vace.models.wan import transformer
from vace.speed import attention

CPU = torch.device("cpu")
HEAD = 24


def velocity(model, dtype=torch.float32):
    job = transformer.prepare(model, context())
    return transformer.predict_velocity(model, latents(), 500.0, texts(model)[0].to(dtype), job)


def free(*names):
    """An availability table where only these kernels may be tried."""
    absent = MissingDependency("not here; get it")
    return {name: None if name in names else absent for name in attention.KERNELS}


@pytest.mark.parametrize("name", ["auto", "sdpa"])
@pytest.mark.parametrize("dtype", list(attention.TOLERANCES))
def test_torchs_own_attention_passes_on_the_cpu(name, dtype):
    choice = attention.choose(name, CPU, dtype, HEAD)
    assert choice.name == "sdpa" and choice.attend is attention.sdpa
    assert choice.error <= attention.TOLERANCES[dtype]


def test_tolerances_tell_wrong_scaling_and_wrong_layout():
    def cold(q, k, v):
        return attention.sdpa(q * 0.9, k, v)

    def swapped(q, k, v):  # heads taken for tokens, as a kernel of the other layout would
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    assert attention.self_test(cold, CPU, torch.float32, HEAD) > attention.TOLERANCES[torch.bfloat16]
    with pytest.raises(RuntimeError):  # 131 queries do not go with 77 keys as heads
        attention.self_test(swapped, CPU, torch.float32, HEAD)
    assert attention.self_test(lambda q, k, v: attention.sdpa(q, k, v) * float("nan"), CPU, torch.float32, HEAD) != 0


@pytest.mark.parametrize("name", ["cudnn", "flash", "flash3", "sage"])
def test_a_named_kernel_that_needs_another_device(name):
    with pytest.raises(DeviceError, match=rf"--attention {name}: needs a CUDA device .* this is cpu; .*sdpa"):
        attention.choose(name, CPU, torch.bfloat16, HEAD)


@pytest.mark.parametrize(("name", "package"), [("flash", "flash_attn"), ("flash3", "flash_attn_interface"),
                                               ("sage", "sageattention")])  # fmt: skip
def test_a_named_kernel_whose_package_is_missing(monkeypatch, name, package):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.raises(MissingDependency, match=rf"--attention {name}: the package {package} is missing; \w+"):
        attention.choose(name, torch.device("cuda"), torch.bfloat16, HEAD)


@pytest.mark.parametrize(
    ("own", "name", "is_there"),
    [((9, 0), "cudnn", True), ((7, 5), "cudnn", False), ((10, 0), "cudnn", True), ((10, 0), "flash3", False)],
)
def test_what_a_device_can_run(monkeypatch, own, name, is_there):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: own)
    monkeypatch.setattr(attention.importlib.util, "find_spec", lambda package: object())
    assert (attention.availability(torch.device("cuda"))[name] is None) == is_there


def test_an_unknown_kernel():
    with pytest.raises(InputError, match="--attention cudn: unknown; did you mean 'cudnn'"):
        attention.choose("cudn", CPU, torch.float32, HEAD)


@pytest.mark.parametrize("name", ["cudnn", "flash", "sage"])
def test_a_named_kernel_that_fails_its_test_is_an_error(name):
    """Said to be there, it is really tried: on this machine it cannot be imported or does not run."""
    with pytest.raises(
        DeviceError, match=f"--attention {name}: does not run on cpu in torch.bfloat16 with heads of 24"
    ):
        attention.choose(name, CPU, torch.bfloat16, HEAD, table=free(name))


def test_auto_goes_on_past_what_does_not_run_with_one_line_each(monkeypatch, caplog):
    monkeypatch.setattr(attention, "_automatic", lambda device: ["flash3", "cudnn", "sdpa"])
    with caplog.at_level(logging.WARNING, "vace"):
        choice = attention.choose("auto", CPU, torch.bfloat16, HEAD, table=free("flash3", "cudnn", "sdpa"))
    assert choice.name == "sdpa"
    assert [record.message.split(":")[0] for record in caplog.records] == ["--attention flash3", "--attention cudnn"]
    assert all("going on without it" in record.message for record in caplog.records)


def test_auto_passes_over_what_is_not_there_without_a_word(monkeypatch, caplog):
    monkeypatch.setattr(attention, "_automatic", lambda device: ["flash3", "cudnn", "sdpa"])
    with caplog.at_level(logging.WARNING, "vace"):
        assert attention.choose("auto", CPU, torch.float32, HEAD, table=free("sdpa")).name == "sdpa"
    assert not caplog.records


def test_kernels_of_lower_precision_and_foreign_packages_are_never_chosen_by_auto(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert attention._automatic(torch.device("cuda")) == ["flash3", "cudnn", "sdpa"]
    assert attention._automatic(CPU) == ["sdpa"]
    assert all(kernel.auto is None for kernel in attention.KERNELS.values() if not kernel.is_exact)


@pytest.mark.parametrize("as_tuple", [False, True])
def test_flash_attention_3_of_either_kind_of_result(monkeypatch, as_tuple):
    """Releases differ in whether the log-sum-exp comes along; the numbers here are torch's own."""
    module = types.ModuleType("flash_attn_interface")
    module.flash_attn_func = lambda q, k, v: (attention.sdpa(q, k, v), None) if as_tuple else attention.sdpa(q, k, v)
    monkeypatch.setitem(sys.modules, "flash_attn_interface", module)
    assert attention.choose("flash3", CPU, torch.float32, HEAD, table=free("flash3")).error <= 1e-5


@pytest.mark.parametrize("compiling", [False, True])
def test_rotation_equals_diffusers(monkeypatch, compiling):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    model = tiny_wan()
    cos, sin = model.rope(latents()[None])
    x = torch.randn(1, 48, 2, 24)
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cos[..., 0::2], sin[..., 1::2]
    true = torch.stack([first * c - second * s, first * s + second * c], -1).flatten(-2)
    rotation = attention.rotation_of(cos, sin)
    assert (attention.rotated(x, rotation) - true).abs().max() <= 1e-6
    half = attention.rotated(x.bfloat16(), rotation)
    assert half.dtype == torch.bfloat16 and (half - true).abs().max() <= 0.05


@pytest.mark.parametrize("fused", [False, True])
def test_the_model_computes_the_same_with_our_attention(fused):
    model = tiny_wan()
    given = dict(
        hidden_states=latents()[None], timestep=torch.tensor([500.0]), encoder_hidden_states=torch.randn(1, 8, 32),
        control_hidden_states=context()[None], return_dict=False,
    )  # fmt: skip
    with torch.no_grad():
        ours, theirs = velocity(model), model(**given)[0]
        seen = []
        attention.apply_attention(model, lambda q, k, v: seen.append(q.shape[1]) or attention.sdpa(q, k, v))
        if fused:
            model.fuse_qkv_projections()
        assert (velocity(model) - ours).abs().max() <= 2e-6
        assert seen == [48] * 6  # self-attention of four main and two context blocks
        assert (model(**given)[0] - theirs).abs().max() <= 2e-6  # diffusers' own forward runs too
        if not fused:
            attention.remove_attention(model)
            assert torch.equal(velocity(model), ours)
            assert {type(block.attn1.processor).__name__ for block in model.blocks} == {"WanAttnProcessor"}


def test_what_it_cannot_do_is_refused():
    model = tiny_wan()
    attention.apply_attention(model)
    model.blocks[0].attn1.processor._parallel_config = object()
    with pytest.raises(ValueError, match="no mask and no parallel_config"):
        velocity(model)
