"""Estimates: tokens and operations counted as torch counts them, memory of the right order."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vace.models.checkpoints import find_checkpoint
from vace.models.loading import build
from vace.models.parts import read_part
from vace.models.wan import cost, transformer, vae

SIZES = {
    "1.3B": dict(num_attention_heads=12, ffn_dim=8960, num_layers=30, vace_layers=range(0, 30, 2)),
    "14B": dict(num_attention_heads=40, ffn_dim=13824, num_layers=40, vace_layers=range(0, 40, 5)),
}
COMMON = dict(
    attention_head_dim=128, patch_size=(1, 2, 2), in_channels=16, out_channels=16, vace_in_channels=96,
    text_dim=4096, text_len=512,
)  # fmt: skip
VAE = dict(base_dim=96, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, temperal_downsample=[False, True, True])


def counted(call) -> int:
    """What torch counts; attention by its plain kernel, since the counter does not know the CPU's fused one."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def checkpoint():
    return find_checkpoint("tiny", None)


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_transformer_operations_are_those_torch_counts(checkpoint, scale):
    part = read_part(checkpoint, "transformer")
    model = build(part, torch.float32)

    def step():
        job = transformer.prepare(model, torch.zeros(96, 3, 4, 6), scale)
        text = transformer.embed_text(model, torch.zeros(3, part.config["text_dim"]), part.config["text_len"])
        transformer.predict_velocity(model, torch.zeros(16, 3, 4, 6), 500.0, text, job)

    tokens = cost.token_count(part.config, 48, 32, 9)
    blocks = len(part.config["vace_layers"]) if scale else 0
    time_layers = counted(lambda: transformer._embed_time(model, 500.0, torch.device("cpu")))  # not in the closed form
    assert counted(step) - time_layers == cost.transformer_flops(part.config, blocks, tokens)


@pytest.mark.parametrize("frames", [1, 9])
def test_vae_operations_are_those_torch_counts(checkpoint, frames):
    part = read_part(checkpoint, "vae")
    model = build(part, torch.float32)
    latent_frames = (frames - 1) // 4 + 1
    encoded = counted(lambda: vae.encode(model, [torch.zeros(3, frames, 32, 48)]))
    decoded = counted(lambda: vae.decode(model, torch.zeros(16, latent_frames, 4, 6)))
    assert encoded == cost.encode_flops(part.config, frames, 32, 48)
    assert decoded == cost.decode_flops(part.config, frames, 32, 48)


@pytest.mark.parametrize(
    ("size", "width", "height", "tokens", "tera"),
    [
        ("1.3B", 832, 480, 32760, 427.0),
        ("1.3B", 1280, 720, 75600, 1880.5),
        ("14B", 832, 480, 32760, 2029.6),
        ("14B", 1280, 720, 75600, 7864.1),
    ],
)
def test_published_sizes(size, width, height, tokens, tera):
    config = {**COMMON, **SIZES[size]}
    assert cost.token_count(config, width, height, 81) == tokens
    flops = cost.transformer_flops(config, len(config["vace_layers"]), tokens)
    assert flops / 1e12 == pytest.approx(tera, abs=0.06)


def test_published_vae():
    assert cost.encode_flops(VAE, 81, 480, 832) / 1e12 == pytest.approx(163.7, abs=0.06)
    assert cost.decode_flops(VAE, 81, 480, 832) / 1e12 == pytest.approx(275.4, abs=0.06)


def test_estimate_of_a_run(checkpoint):
    plain = cost.estimate(checkpoint, 160, 96, 17, steps=6, guidance=3.0)
    assert plain["tokens"] == 5 * 6 * 10
    assert plain["forwards"] == 12
    assert plain["flops"] == 12 * plain["flops_forward"] + plain["flops_vae"]
    more = cost.estimate(checkpoint, 160, 96, 17, refs=2, steps=6, guidance=1.0)
    assert more["tokens"] == 7 * 6 * 10
    assert more["forwards"] == 6
    assert more["flops_vae"] > plain["flops_vae"]
    numbers = sum(path.stat().st_size for path in tensors_of(checkpoint)) / 2  # stored as float16
    full = cost.estimate(checkpoint, 160, 96, 17, dtype_bytes=4)
    assert full["weight_bytes"] == pytest.approx(4 * numbers, rel=0.02)
    assert full["peak_bytes"] > full["weight_bytes"]
    assert cost.estimate(checkpoint, 160, 96, 17, dtype_bytes=4, offload=True)["peak_bytes"] < full["peak_bytes"]


def tensors_of(checkpoint):
    return [path for name in ("transformer", "text_encoder", "vae") for path in getattr(checkpoint, name).files]


def test_estimating_needs_no_torch():
    code = (
        "import sys; from vace.models.checkpoints import find_checkpoint; from vace.models.wan.cost import estimate;"
        "estimate(find_checkpoint('tiny', None), 160, 96, 17);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
