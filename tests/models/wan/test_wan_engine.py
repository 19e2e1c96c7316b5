"""The engine end to end: equal to the original, reproducible, interruptible, any number of references."""

from __future__ import annotations

import pytest
import torch
from goldens_io import equal_within, model_document, model_tensors

from vace.errors import InputError
from vace.models.denoise import draw_noise

LATENT_BAR, VIDEO_BAR, CONTEXT_BAR = 1e-4, 1e-4, 1e-5
STEM = "pipeline_e2e"


@pytest.fixture(scope="module")
def tensors():
    return model_tensors("wan", STEM)


def cases() -> list:
    return [pytest.param(case, id=case["name"]) for case in model_document("wan", STEM)["cases"]]


def inputs(tensors, name, video_shape):
    """Frames, mask and references of a case; what is not stored is neutral and white."""
    shape = tuple(video_shape)
    frames = tensors.get(f"{name}.frames", torch.zeros(shape))
    mask = tensors.get(f"{name}.mask", torch.ones(1, *shape[1:]))[:1]
    refs = [tensors[key] for key in sorted(tensors) if key.startswith(f"{name}.ref")]
    return frames, mask, refs


@pytest.mark.parity
@pytest.mark.parametrize("case", cases())
def test_pipeline_equals_the_original(golden_engine, tensors, case):
    """The context, the latents after every step where they are stored, the last ones, the video."""
    name, seen = case["name"], []
    frames, mask, refs = inputs(tensors, name, case["video"])
    context = golden_engine.encode_context(frames, mask, refs)
    if f"{name}.vace_context" in tensors:
        assert equal_within("Wan context latents + mask", context, tensors[f"{name}.vace_context"], CONTEXT_BAR)
    latents = golden_engine.denoise(
        context,
        tensors[f"text.{case['prompt']}.states"],
        tensors[f"text.{case['negative']}.states"],
        noise=tensors[f"{name}.noise"],
        steps=case["steps"],
        shift=case["shift"],
        guidance_scale=case["guide_scale"],
        sampler=case["solver"],
        context_scale=case["context_scale"],
        on_step=lambda i, steps, latents, estimate: seen.append(latents),
    )
    assert len(seen) == case["steps"]
    entering = tensors.get(f"{name}.latents_in", latents[None][:0])  # of step k: what step k - 1 left
    for ours, theirs in zip(seen, entering[1:], strict=False):
        assert equal_within("Wan pipeline, latents of every step", ours, theirs, LATENT_BAR)
    assert equal_within("Wan pipeline, final latents", latents, tensors[f"{name}.latent_final"], LATENT_BAR)
    if f"{name}.video" in tensors:
        video = golden_engine.decode(latents, len(refs))
        assert equal_within("Wan pipeline, video", video, tensors[f"{name}.video"], VIDEO_BAR)


@pytest.mark.parity
@pytest.mark.parametrize("case", cases())
def test_noise_of_a_seed_equals_the_original(tensors, case):
    noise = draw_noise(tuple(case["latent"]), case["seed"])
    assert equal_within("noise from the seed", noise, tensors[f"{case['name']}.noise"])


@pytest.mark.parity
def test_context_latents_equal_the_original(golden_engine):
    """The rest of the context's goldens (frame ids, folded masks) is in tests/conditioning."""
    stored = model_tensors("wan", "vace_context")
    for case in model_document("wan", "vace_context")["cases"]:
        name = case["name"]
        if f"{name}.dec_in" in stored:
            video = golden_engine.decode(stored[f"{name}.dec_in"], len(case["refs"] or []))
            assert equal_within("Wan decode, references trimmed", video, stored[f"{name}.dec_out"], VIDEO_BAR)
        if case["src_video"] and f"{name}.frames" not in stored:
            continue
        frames, mask, refs = inputs(stored, name, case["frames"])
        context = golden_engine.encode_context(frames, mask, refs)
        assert equal_within("Wan context latents + mask", context, stored[f"{name}.context96"], CONTEXT_BAR)


def small_job(engine, frames=5, refs=0, seed=3):
    generator = torch.Generator().manual_seed(seed)
    video = torch.rand(3, frames, 32, 32, generator=generator) * 2 - 1
    mask = (torch.rand(1, frames, 32, 32, generator=generator) > 0.5).float()
    images = [torch.rand(3, 1, 32, 32, generator=generator) * 2 - 1 for _ in range(refs)]
    return engine.encode_context(video, mask, images)


def test_more_references_than_latent_frames(golden_engine):
    context = small_job(golden_engine, frames=1, refs=3)
    assert context.shape == (96, 4, 4, 4)
    cond, _ = golden_engine.encode_prompts("a", None)
    latents = golden_engine.denoise(context, cond, seed=1, steps=2, shift=3.0, guidance_scale=1.0)
    assert latents.shape == (16, 4, 4, 4)
    assert golden_engine.decode(latents, 3).shape == (3, 1, 32, 32)


def test_a_seed_decides_the_result(golden_engine):
    context = small_job(golden_engine)
    cond, uncond = golden_engine.encode_prompts("a", "")
    settings = {"steps": 2, "shift": 3.0, "sampler": "dpm++"}
    runs = [golden_engine.denoise(context, cond, uncond, seed=seed, **settings) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_guidance_one_runs_the_model_once_per_step(golden_engine):
    context = small_job(golden_engine)
    cond, uncond = golden_engine.encode_prompts("a", "e")
    calls = {}
    for scale in (1.0, 4.0):
        with golden_engine._in_use("transformer") as model:
            count = []
            hook = model.blocks[0].register_forward_hook(lambda *_, count=count: count.append(1))
            calls[scale] = golden_engine.denoise(
                context, cond, uncond, seed=1, steps=3, shift=3.0, guidance_scale=scale
            )
            hook.remove()
        assert len(count) == (3 if scale == 1 else 6)
    assert not torch.equal(calls[1.0], calls[4.0])


def test_guidance_follows_its_formula(golden_engine):
    """One step from the same noise: the estimate is linear in the guidance scale."""
    context = small_job(golden_engine)
    cond, uncond = golden_engine.encode_prompts("a", "e")

    def estimate(scale, states, negative):
        seen = []
        golden_engine.denoise(
            context,
            states,
            negative,
            seed=1,
            steps=1,
            shift=3.0,
            guidance_scale=scale,
            on_step=lambda i, steps, latents, guess: seen.append(guess),
        )
        return seen[0]

    with_prompt, without = estimate(1.0, cond, None), estimate(1.0, uncond, None)
    assert (estimate(5.0, cond, uncond) - (without + 5.0 * (with_prompt - without))).abs().max() <= 1e-4


def test_steps_are_reported_and_the_last_estimate_is_the_result(golden_engine):
    context = small_job(golden_engine)
    cond, _ = golden_engine.encode_prompts("a", None)
    seen = []
    latents = golden_engine.denoise(
        context, cond, seed=1, steps=4, shift=5.0, on_step=lambda *values: seen.append(values)
    )
    assert [(i, steps) for i, steps, _, _ in seen] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert torch.equal(seen[-1][2], latents)
    assert (seen[-1][3] - latents).abs().max() <= 1e-4


def test_an_interrupt_passes_through_and_leaves_the_engine_usable(golden_engine):
    context = small_job(golden_engine)
    cond, _ = golden_engine.encode_prompts("a", None)
    before = golden_engine.denoise(context, cond, seed=1, steps=2, shift=3.0)

    def stop(i, *_):
        if i == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        golden_engine.denoise(context, cond, seed=1, steps=2, shift=3.0, on_step=stop)
    assert torch.equal(golden_engine.denoise(context, cond, seed=1, steps=2, shift=3.0), before)


def test_noise_or_seed_is_needed(golden_engine):
    with pytest.raises(InputError, match="neither noise nor a seed"):
        golden_engine.denoise(torch.zeros(96, 1, 2, 2), torch.zeros(1, 64), steps=1, shift=1.0)


def test_negative_prompt_none_and_empty_differ(golden_engine):
    cond, nothing = golden_engine.encode_prompts("a", None)
    again, empty = golden_engine.encode_prompts("a", "")
    assert nothing is None
    assert empty.shape[0] == 1  # the end token alone
    assert (cond - again).abs().max() <= 1e-5


def test_an_all_neutral_video_is_encoded_once_per_shape(golden_engine):
    frames, mask = torch.zeros(3, 5, 32, 32), torch.ones(1, 5, 32, 32)
    golden_engine.release()
    first = golden_engine.encode_context(frames, mask)
    count = []
    with golden_engine._in_use("vae") as model:
        hook = model.encoder.register_forward_hook(lambda *_: count.append(1))
        second = golden_engine.encode_context(frames, mask)
        hook.remove()
    assert not count
    assert torch.equal(first, second)


def test_offloading_and_release_change_nothing(original_folder, golden_engine):
    from vace.models.checkpoints import open_checkpoint
    from vace.models.wan.engine import load_engine

    engine = load_engine(open_checkpoint(original_folder), offload_model=True, t5_cpu=True)
    results = []
    for each in (golden_engine, engine):
        context = small_job(each)
        cond, uncond = each.encode_prompts("a", "e")
        results.append(each.denoise(context, cond, uncond, seed=1, steps=2, shift=3.0))
    assert "text_encoder" not in engine._modules
    assert torch.equal(*results)
    engine.release()
    assert not engine._modules


def test_bfloat16_on_the_cpu_is_near_float32(original_folder, golden_engine):
    from vace.models.checkpoints import open_checkpoint
    from vace.models.wan.engine import load_engine

    half = load_engine(open_checkpoint(original_folder), dtype="bfloat16")
    results = []
    for each in (golden_engine, half):
        context = small_job(each)
        cond, uncond = each.encode_prompts("a", "e")
        results.append(each.denoise(context, cond, uncond, seed=1, steps=2, shift=3.0, guidance_scale=2.0))
    assert results[1].dtype == torch.float32
    assert half._modules["transformer"].blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert half._modules["transformer"].scale_shift_table.dtype == torch.float32
    assert half._modules["vae"].post_quant_conv.weight.dtype == torch.float32
    relative = (results[0] - results[1]).norm() / results[0].norm()
    assert 1e-5 < relative < 0.03
