"""On a CUDA device: bfloat16 there against float32 on the CPU, offloading, the same seed on both.

The tolerance is on the relative error of the latents, ||gpu - cpu|| / ||cpu||: 3 % after a few guided steps on the
embedded toy (on a CPU the same run in bfloat16 stays under the same bar: see the last test, which needs no GPU).
"""

from __future__ import annotations

import pytest
import torch

from vace.bases import LTX
from vace.models.checkpoints import find_checkpoint
from vace.models.ltx.engine import load_engine

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
LATENT_TOLERANCE, VIDEO_TOLERANCE = 0.03, 0.08
FLOAT32_TOLERANCE = 0.01  # torch lets cuDNN's convolutions, and so the VAE's, use TF32 (10 bits) by default


def engine_on(device, dtype, *offloading):
    return load_engine(find_checkpoint("tiny", None, base=LTX), device, dtype, *offloading)


def run(engine):
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(3, 9, 64, 96, generator=generator) * 2 - 1
    mask = (torch.rand(1, 9, 64, 96, generator=generator) > 0.5).float()
    context = engine.encode_context(video, mask, [torch.rand(3, 1, 64, 96, generator=generator)])
    cond, uncond = engine.encode_prompts("a cat", "")
    latents = engine.denoise(context, cond, uncond, seed=1, steps=3, fps=25.0, stg_skip_layers=(3,))
    return latents.cpu(), engine.decode(latents, 1, seed=1)


def relative(ours, reference):
    return float((ours - reference).norm() / reference.norm())


@pytest.fixture(scope="module")
def reference():
    return run(engine_on("cpu", "float32"))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(("offload_model", "t5_cpu"), [(False, False), (True, False), (True, True)])
def test_bfloat16_is_near_float32_on_the_cpu(reference, offload_model, t5_cpu):
    engine = engine_on("cuda", "auto", offload_model, t5_cpu)
    assert engine.dtype == torch.bfloat16
    latents, video = run(engine)
    assert relative(latents, reference[0]) < LATENT_TOLERANCE
    assert relative(video, reference[1]) < VIDEO_TOLERANCE


@pytest.mark.gpu
@needs_cuda
def test_float32_is_nearer_still(reference):
    latents, video = run(engine_on("cuda", "float32"))
    assert relative(latents, reference[0]) < FLOAT32_TOLERANCE
    assert relative(video, reference[1]) < FLOAT32_TOLERANCE


@pytest.mark.gpu
@needs_cuda
def test_offloading_empties_the_device():
    engine = engine_on("cuda", "bfloat16", True)
    run(engine)
    devices = {tensor.device.type for module in engine._modules.values() for tensor in module.parameters()}
    assert devices == {"cpu"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_on_the_cpu_stays_under_the_same_bar(reference, dtype):
    latents, video = run(engine_on("cpu", dtype))
    assert relative(latents, reference[0]) < LATENT_TOLERANCE
    assert relative(video, reference[1]) < VIDEO_TOLERANCE
