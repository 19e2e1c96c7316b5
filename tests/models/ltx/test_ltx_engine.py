"""The LTX engine: whole pipeline calls of the original, step by step; seeds, fixes, what is computed once."""

from __future__ import annotations

import pytest
import torch
from goldens_io import equal_within, model_document, model_tensors
from ltx_folders import checkpoint_of, pipeline_cases, write_single

from vace.bases import LTX
from vace.conditioning.pixels import on_canvas
from vace.errors import InputError
from vace.models.checkpoints import find_checkpoint, open_checkpoint
from vace.models.ltx import vae
from vace.models.ltx.engine import PosteriorNoise, check_settings, load_engine
from vace.settings import resolve_settings

FAST = {"steps": 3, "fps": 25.0, "stg_skip_layers": (3,)}


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """The golden checkpoints as engines, by stem, loaded when first asked for."""
    loaded = {}

    def engine(stem):
        if stem not in loaded:
            loaded[stem] = load_engine(open_checkpoint(write_single(tmp_path_factory.mktemp("ltx") / "golden", stem)))
        return loaded[stem]

    return engine


@pytest.fixture(scope="module")
def tiny():
    return load_engine(find_checkpoint("tiny", None, base=LTX))


def given(document: dict, tensors: dict) -> tuple:
    """Frames, mask and references of a golden call, as the model sees them."""
    args = document["args"]
    size = (args["num_frames"], args["height"], args["width"])
    frames = tensors["src_video"] if document["src_video"] == "stored" else torch.zeros(3, *size)
    mask = tensors["src_mask"] if document["src_mask"] == "stored" else torch.ones(1, *size)
    refs = [tensors[f"src_ref_image_{number}"] for number in range(document["n_refs"])]
    return frames, mask, [on_canvas(ref, args["width"], args["height"]) for ref in refs]


def texts(document: dict, tensors: dict) -> list:
    """The stored text states of negative prompt and prompt, without their padding."""
    embeds, masks = tensors["prompt_embeds_batch"], tensors["prompt_attention_mask_batch"]
    return [states[mask > 0] for states, mask in zip(embeds[:2], masks[:2], strict=True)]


@pytest.mark.parity
@pytest.mark.parametrize("stem", pipeline_cases())
def test_whole_pipeline(engines, stem):
    document, tensors = model_document("ltx", stem), model_tensors("ltx", stem)
    engine, args = engines(checkpoint_of(stem)), document["args"]
    context = engine.encode_context(*given(document, tensors))
    negative, positive = texts(document, tensors)
    refs = tuple(tensors["posterior_noise_ref"]) if document["n_refs"] else ()
    posterior = PosteriorNoise(tensors["posterior_noise_unchanged"][0], tensors["posterior_noise_changed"][0], refs)
    source = context.tokens(engine._posterior(context, None, "sample", posterior, "cpu"))
    assert equal_within("LTX context latents", source[:, :256], tensors["source_latents"][0], 5e-5)
    assert equal_within("LTX context mask", source[:, 256:], tensors["source_mask_latents"][0], 1e-6)
    seen = []
    names = ("guidance_scale", "context_scale", "stg_scale", "stg_rescale", "stg_mode", "stg_skip_layers")
    latents = engine.denoise(
        context, positive, negative, steps=args["num_inference_steps"], fps=args["frame_rate"],
        noise=tensors["init_noise"][0], posterior_noise=posterior, on_step=lambda *step: seen.append(step[2]),
        **{name: args[name] for name in names},
    )  # fmt: skip
    for number, found in enumerate(seen):
        tokens = found.flatten(1).T
        assert equal_within("LTX whole pipeline, latents", tokens, tensors[f"step{number}.latents_out"][0], 5e-4)
    final = latents[:, document["n_refs"] :]
    assert equal_within("LTX whole pipeline, latents", final, tensors["final_latents_video"][0], 5e-4)
    planes = [tensors[key] for key in sorted((k for k in tensors if k.startswith("decode_inject")), key=_number)]
    video = engine.decode(
        latents, document["n_refs"], noise=tensors["decode_noise"][0] if "decode_noise" in tensors else None,
        inject=vae.stored(planes) if planes else None, decode_timestep=args["decode_timestep"],
        decode_noise_scale=args["decode_noise_scale"], seed=0,
    )  # fmt: skip
    assert equal_within("LTX whole pipeline, video", video, tensors["out_video"][0], 1e-3)


def _number(key: str) -> int:
    return int(key.rpartition("_")[2])


@pytest.mark.parity
@pytest.mark.parametrize("stem", pipeline_cases())
def test_prompts_of_whole_calls(engines, stem):
    document, tensors = model_document("ltx", stem), model_tensors("ltx", stem)
    found = engines(checkpoint_of(stem)).encode_prompts(document["prompt"], document["negative_prompt"])
    for states, expected in zip(found[::-1], texts(document, tensors), strict=True):
        assert equal_within("LTX T5", states, expected, 5e-5)


def a_job(engine, frames: int = 9, refs: int = 1, size: int = 64):
    generator = torch.Generator().manual_seed(3)
    video = torch.rand(3, frames, size, size, generator=generator) * 2 - 1
    mask = torch.zeros(1, frames, size, size)
    mask[:, :, 16:48, 16:48] = 1
    pictures = [torch.rand(3, 1, size, size, generator=generator) * 2 - 1 for _ in range(refs)]
    return engine.encode_context(video, mask, pictures), *engine.encode_prompts("a fox runs", "blurry")


def test_a_seed_means_something_and_the_same_seed_the_same(tiny):
    """In the original only the command line seeds; equal calls in one process differ by up to 3.1."""
    context, cond, uncond = a_job(tiny)
    made = {seed: tiny.denoise(context, cond, uncond, seed=seed, **FAST) for seed in (5, 6)}
    torch.rand(7)  # whatever others draw from global state
    assert torch.equal(made[5], tiny.denoise(context, cond, uncond, seed=5, **FAST))
    assert not torch.allclose(made[5], made[6])


def test_the_source_is_drawn_with_the_seed_unless_its_mode_is_asked_for(tiny):
    context, *_ = a_job(tiny)
    one, two, again = (context.tokens(tiny._posterior(context, seed, "sample", None, "cpu")) for seed in (5, 6, 5))
    mode = context.tokens(tiny._posterior(context, None, "mode", None, "cpu"))
    assert torch.equal(one, again) and not torch.equal(one, two)
    assert torch.equal(mode, context.tokens(tiny._posterior(context, 6, "mode", None, "cpu")))
    assert torch.equal(one[:, 256:], mode[:, 256:])  # the mask is not drawn


def test_noise_of_video_and_of_source_are_independent(tiny):
    """Under the original's command line on CUDA the first posterior draw is the initial noise itself."""
    from vace.models.denoise import draw_noise
    from vace.models.ltx.engine import generator

    initial = draw_noise((500,), 42)
    for purpose in ("posterior", "decode"):
        other = torch.randn(500, generator=generator(42, purpose))
        assert abs(float(torch.corrcoef(torch.stack([initial, other]))[0, 1])) < 0.2


@pytest.mark.parametrize("changes", [
    {"guidance_scale": 1.0}, {"guidance_scale": 0.5}, {"stg_scale": 0.0}, {"guidance_scale": 1.0, "stg_scale": 0.0},
    {"stg_mode": "stg_r"}, {"stg_skip_layers": ()}, {"steps": 1}, {"stg_rescale": 1.0}, {"context_scale": 0.0},
    {"shift": 3.0}, {"fps": 30.0}, {"posterior": "mode"},
])  # fmt: skip
def test_every_setting_runs_and_counts(tiny, changes):
    """Guidance off with STG on, one step, and the residual mode crash or do nothing in the original."""
    context, cond, uncond = a_job(tiny)
    plain = tiny.denoise(context, cond, uncond, seed=5, **FAST)
    other = tiny.denoise(context, cond, uncond, seed=5, **{**FAST, **changes})
    assert torch.isfinite(other).all() and not torch.equal(plain, other)


def test_guidance_off_needs_no_negative_prompt(tiny):
    context, cond, uncond = a_job(tiny)
    alone = tiny.denoise(context, cond, None, seed=5, guidance_scale=1.0, **FAST)
    assert torch.equal(alone, tiny.denoise(context, cond, uncond, seed=5, guidance_scale=1.0, **FAST))


def test_neutral_halves_are_encoded_once(tiny, monkeypatch):
    counted = []
    real = vae.moments
    monkeypatch.setattr(vae, "moments", lambda model, video: (counted.append(bool(video.any())), real(model, video))[1])
    tiny.release()
    video, white = torch.rand(3, 9, 64, 64), torch.ones(1, 9, 64, 64)
    tiny.encode_context(torch.zeros_like(video), white)  # no video: both halves are neutral
    assert counted == [False]
    first = tiny.encode_context(video, white)  # a control: the unchanged half is
    assert counted == [False, True]
    plain = vae.moments(tiny._modules["vae"], torch.zeros_like(video))
    assert torch.equal(first.unchanged.mean, plain.mean) and torch.equal(first.unchanged.logvar, plain.logvar)


def test_what_no_step_and_no_seed_changes_is_computed_once(tiny, monkeypatch):
    """Captions, keys and values, rotary table and grid once for all seeds; the context, which is drawn, once each."""
    from vace.conditioning import ltx_context
    from vace.models.ltx import forward

    counted = dict.fromkeys(("constants", "with_context", "rope_table", "positions"), 0)

    def count(module, name):
        real = getattr(module, name)

        def call(*args, **kwargs):
            counted[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    for name in ("constants", "with_context", "rope_table"):
        count(forward, name)
    count(ltx_context, "positions")
    tiny.release()  # what an earlier test has left
    context, cond, uncond = a_job(tiny)
    made = [tiny.denoise(context, cond, uncond, seed=seed, **FAST) for seed in (5, 6, 7)]
    assert counted == {"constants": 1, "with_context": 3, "rope_table": 1, "positions": 1}
    tiny.denoise(context, cond, uncond, seed=5, **{**FAST, "fps": 30.0})  # another grid
    assert counted["constants"] == 2
    tiny.release()
    assert torch.equal(made[1], tiny.denoise(context, cond, uncond, seed=6, **FAST))


def test_sampling_needs_no_vae(tiny):
    context, cond, uncond = a_job(tiny)
    tiny._modules.pop("vae")
    tiny.denoise(context, cond, uncond, seed=5, **FAST)
    assert "vae" not in tiny._modules


def test_references_lie_in_front_and_go_after_sampling(tiny):
    context, cond, uncond = a_job(tiny, refs=3)
    latents = tiny.denoise(context, cond, uncond, seed=5, **FAST)
    assert latents.shape == (128, 2 + 3, 2, 2)
    assert tiny.decode(latents, 3, seed=5).shape == (3, 9, 64, 64)


def test_steps_report_latents_and_estimates_in_space(tiny):
    context, cond, uncond = a_job(tiny, refs=0)
    seen = []
    final = tiny.denoise(context, cond, uncond, seed=5, on_step=lambda *step: seen.append(step), **FAST)
    assert [step[:2] for step in seen] == [(0, 3), (1, 3), (2, 3)]
    assert torch.equal(seen[-1][2], final) and seen[0][3].shape == final.shape
    assert torch.allclose(seen[-1][3], final, atol=1e-5)  # the last step goes all the way


def test_offloading_gives_the_same(tiny):
    lean = load_engine(find_checkpoint("tiny", None, base=LTX), offload_model=True, t5_cpu=True)
    made = []
    for engine in (tiny, lean):
        context, cond, uncond = a_job(engine)
        latents = engine.denoise(context, cond, uncond, seed=5, **FAST)
        made.append(engine.decode(latents, 1, seed=5))
    assert torch.equal(*made)
    assert "text_encoder" not in lean._modules  # on a CPU it is dropped


def test_nothing_to_draw_from_is_an_error(tiny):
    context, cond, uncond = a_job(tiny)
    with pytest.raises(InputError, match="neither noise nor a seed"):
        tiny.denoise(context, cond, uncond, **FAST)
    with pytest.raises(InputError, match="neither posterior noise nor a seed"):
        tiny.denoise(context, cond, uncond, noise=torch.zeros(12, 128), **FAST)


def test_what_does_not_fit_or_is_not_known_is_an_error(tiny):
    video, mask = torch.zeros(3, 9, 64, 64), torch.ones(1, 9, 64, 64)
    with pytest.raises(InputError, match="reference image 0 is 1 frame of 32x32"):
        tiny.encode_context(video, mask, [torch.zeros(3, 1, 32, 32)])
    context, cond, uncond = a_job(tiny)
    for wrong in ({"stg_mode": "stg_x"}, {"posterior": "mean"}):
        with pytest.raises(InputError, match="stg_a, stg_r, sample, mode"):
            tiny.denoise(context, cond, uncond, seed=1, **{**FAST, **wrong})


def test_prompts_that_the_model_cannot_read_are_told(tiny, caplog):
    from vace.models.ltx.engine import check_prompt

    with pytest.raises(InputError, match="nothing of it is left for LTX, which reads English"):
        check_prompt("一只灰色的猫在奔跑")
    check_prompt("a cat 猫")
    tiny.encode_prompts("word " * 200, None)
    assert "tokens, and the model reads 128: its end is left out" in caplog.text


def test_layers_the_model_does_not_have(tiny):
    wrong = resolve_settings("a", {"stg_skip_layers": "4,19"}, {}, LTX)
    with pytest.raises(InputError, match="--stg_skip_layers 19: this model has layers 0 to"):
        check_settings(wrong, tiny._parts)
    check_settings(resolve_settings("a", {"stg_scale": 0.0}, {}, LTX), tiny._parts)


def test_bfloat16_comes_near(tiny):
    rough = load_engine(find_checkpoint("tiny", None, base=LTX), dtype="bfloat16")
    made = []
    for engine in (tiny, rough):
        context, cond, uncond = a_job(engine)
        made.append(engine.denoise(context, cond, uncond, seed=5, **FAST))
    assert made[1].dtype == torch.float32
    assert float((made[0] - made[1]).std()) < 0.1 * float(made[0].std())
