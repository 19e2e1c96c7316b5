"""On a CUDA device: bfloat16 there against float32 on the CPU, offloading, the same seed on both.

The tolerance is on the relative error of the latents, ||gpu - cpu|| / ||cpu||: 3 % after a few guided steps on the
golden toy weights (bfloat16 carries 8 bits; on a CPU the same run in bfloat16 stays under the same bar).
"""

from __future__ import annotations

import pytest
import torch

from vace.models.checkpoints import open_checkpoint
from vace.models.wan.engine import load_engine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]
LATENT_TOLERANCE, VIDEO_TOLERANCE = 0.03, 0.05
FLOAT32_TOLERANCE = 0.01  # torch lets cuDNN's convolutions, and so the VAE's, use TF32 (10 bits) by default


def run(engine):
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(3, 9, 32, 48, generator=generator) * 2 - 1
    mask = (torch.rand(1, 9, 32, 48, generator=generator) > 0.5).float()
    context = engine.encode_context(video, mask, [torch.rand(3, 1, 32, 48, generator=generator)])
    cond, uncond = engine.encode_prompts("a cat", "")
    latents = engine.denoise(context, cond, uncond, seed=1, steps=3, shift=5.0, guidance_scale=3.0)
    return latents.cpu(), engine.decode(latents, 1)


def relative(ours, reference):
    return float((ours - reference).norm() / reference.norm())


@pytest.fixture(scope="module")
def reference(golden_engine):
    return run(golden_engine)


@pytest.mark.parametrize(("offload_model", "t5_cpu"), [(False, False), (True, False), (True, True)])
def test_bfloat16_is_near_float32_on_the_cpu(original_folder, reference, offload_model, t5_cpu):
    engine = load_engine(open_checkpoint(original_folder), "cuda", "auto", offload_model, t5_cpu)
    assert engine.dtype == torch.bfloat16
    latents, video = run(engine)
    assert relative(latents, reference[0]) < LATENT_TOLERANCE
    assert relative(video, reference[1]) < VIDEO_TOLERANCE


def test_float32_is_nearer_still(original_folder, reference):
    latents, video = run(load_engine(open_checkpoint(original_folder), "cuda", "float32"))
    assert relative(latents, reference[0]) < FLOAT32_TOLERANCE
    assert relative(video, reference[1]) < FLOAT32_TOLERANCE


def test_offloading_empties_the_device(original_folder):
    engine = load_engine(open_checkpoint(original_folder), "cuda", "bfloat16", offload_model=True)
    run(engine)
    devices = {tensor.device.type for module in engine._modules.values() for tensor in module.parameters()}
    assert devices == {"cpu"}
