"""Both sides get equal inputs over the same tensors, do the same, and are as they were afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vace.bench import wan_sides
from vace.bench.clocks import Clock
from vace.bench.wan_models import find_model
from vace.bench.wan_sides import STAGES, Diffusers, Ours, RaceEngine, make_job, source
from vace.speed.attention import Processor

CPU, SIZE, FRAMES = torch.device("cpu"), (64, 48), 5


@pytest.fixture(scope="module")
def model():
    return find_model(None, "tiny", False, "cpu")


@pytest.fixture(scope="module")
def engine(model):
    engine = RaceEngine(dict(model.parts), model.tokenizer, CPU, torch.float32)
    engine.load()
    return engine


@pytest.fixture(scope="module")
def sides(engine, model):
    return Ours(engine, model), Diffusers(engine, model)


@pytest.mark.parametrize(("refs", "has_video"), [(2, True), (0, True), (0, False)])
def test_both_sides_make_the_same_video(sides, model, refs, has_video):
    job = make_job(model, SIZE, FRAMES, refs, has_video)
    ours, theirs = (side.run(job, 2, Clock(CPU)) for side in sides)
    assert ours.latents.shape == theirs.latents.shape == job.noise.shape
    assert (ours.latents - theirs.latents).norm() / theirs.latents.norm() < 1e-3
    assert ours.video.shape == theirs.video.shape == (FRAMES, 48, 64, 3)
    assert np.abs(ours.video / 255 - theirs.video).max() < 0.02
    for run in (ours, theirs):
        assert tuple(run.stages) == STAGES and run.seconds == pytest.approx(sum(run.stages.values()))


def test_forward_passes_agree(sides, engine, model):
    job = make_job(model, SIZE, FRAMES, 2)
    states, _ = engine.encode_prompts(job.prompt, None)
    context = engine.encode_context(*source(job))
    ours, theirs = (side.forward(job, context, states)().float() for side in sides)
    assert ours.shape == job.noise.shape
    assert (ours - theirs).norm() / theirs.norm() < 1e-4


def test_in_bfloat16_too(model):
    engine = RaceEngine(dict(model.parts), model.tokenizer, CPU, torch.bfloat16)
    engine.load()
    job = make_job(model, SIZE, FRAMES, 1)
    ours, theirs = (side(engine, model).run(job, 1, Clock(CPU)).latents for side in (Ours, Diffusers))
    assert ours.dtype == theirs.dtype == torch.float32
    assert (ours - theirs).norm() / theirs.norm() < 0.1


def test_each_side_computes_by_its_own_code(sides, engine):
    ours, theirs = engine.module("transformer"), sides[1].pipe.transformer
    assert isinstance(ours.blocks[0].attn1.processor, Processor)
    assert not isinstance(theirs.blocks[0].attn1.processor, Processor)
    assert type(theirs.blocks[0]).__name__ == "WanTransformerBlock"
    assert type(sides[1].pipe.vae.decoder.conv_in).__name__ == "WanCausalConv3d"
    assert ours.proj_out.weight.data_ptr() == theirs.proj_out.weight.data_ptr()


@pytest.mark.parametrize(("has_video", "ours", "theirs"), [(False, 2, 4), (True, 4, 4)])
def test_the_constant_video_is_encoded_once_by_ours_in_every_run(sides, engine, model, has_video, ours, theirs):
    """A clip of five frames goes through the encoder in two chunks."""
    job, encoded = make_job(model, SIZE, FRAMES, has_video=has_video), []
    for side, vae, wanted in zip(sides, (engine.module("vae"), sides[1].pipe.vae), (ours, theirs), strict=True):
        handle = vae.encoder.register_forward_hook(lambda *_: encoded.append(1))
        try:
            for _ in range(2):
                encoded.clear()
                side.run(job, 1, Clock(CPU))
                assert len(encoded) == wanted
        finally:
            handle.remove()


def test_texts_are_encoded_anew(engine):
    engine.encode_prompts("a boat", None)
    assert engine._texts
    engine.forget()
    assert not engine._texts and not engine._neutral
    assert engine.text_lengths(["a boat", ""])[1] == 1


def test_the_pipeline_is_as_it_was_even_after_a_run_that_failed(sides, model):
    pipe = sides[1].pipe

    def fail(*_):
        raise RuntimeError("as asked")

    hook = pipe.transformer.register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="as asked"):
            sides[1].run(make_job(model, SIZE, FRAMES), 1, Clock(CPU))
    finally:
        hook.remove()
    assert "encode_prompt" not in vars(pipe) and "prepare_latents" not in vars(pipe)


def test_noise_levels_are_our_samplers(model):
    from vace.models.samplers import make_sampler

    scheduler = wan_sides._scheduler(model.shift)
    ours = make_sampler("unipc", 20, model.shift)
    scheduler.set_timesteps(20, device=CPU)
    assert torch.equal(scheduler.timesteps, ours.timesteps)
    assert torch.allclose(scheduler.sigmas, ours.sigmas, atol=1e-7)


def test_jobs_are_of_their_seed(model):
    one, same, other = (make_job(model, SIZE, FRAMES, 1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.noise, same.noise) and np.array_equal(one.frames, same.frames)
    assert not torch.equal(one.noise, other.noise)
    assert one.mask.any() and not one.mask.all()
