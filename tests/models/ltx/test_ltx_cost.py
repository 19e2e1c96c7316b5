"""Estimates for LTX: tokens and operations counted as torch counts them, published sizes, memory of the right order."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vace.bench import ltx_replay
from vace.bench.ltx import RANDOM_MODELS
from vace.models.ltx import cost, forward
from vace.models.ltx.forward import Row
from vace.models.ltx.transformer import LTXVACETransformer3DModel

PUBLISHED = RANDOM_MODELS["full"]["config"]
CONFIG = {
    **PUBLISHED,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 4,
    "cross_attention_dim": 32,
    "caption_channels": 24,
}
TOKENS, LENGTHS = 21, (3, 8)
PLAIN = [Row(0), Row(1)]
ROWS = {
    "one": [Row(1)],
    "two": PLAIN,
    "three": [*PLAIN, Row(1, frozenset({2}))],
    "skips at 0 and the last": [*PLAIN, Row(1, frozenset({0, 3}))],
    "no skip": [*PLAIN, Row(1)],
    "residual": [*PLAIN, Row(1, frozenset({0, 2}), "residual"), Row(0, frozenset({2, 3}))],
    "all left out": [Row(0, frozenset(range(4)), "residual")],
}
VAES = {
    "0.9": dict(
        block_out_channels=(4, 8, 16, 16),
        decoder_block_out_channels=(8, 16, 32, 32),
        layers_per_block=(2, 1, 3, 1, 2),
        decoder_layers_per_block=(2, 1, 3, 1, 2),
    ),
    "0.9.1": dict(
        block_out_channels=(4, 8, 16, 16),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(2, 1, 1, 1, 2),
        decoder_layers_per_block=(2, 2, 1, 3),
        decoder_spatio_temporal_scaling=(True, True, True),
        decoder_inject_noise=(False, True, False, True),
        upsample_residual=(True, True, True),
        upsample_factor=(2, 2, 2),
        timestep_conditioning=True,
    ),
}


def counted(call) -> int:
    """What torch counts; attention by its plain kernel, since the counter does not know the CPU's fused one."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()


def model_of(**changed):
    return LTXVACETransformer3DModel({**CONFIG, **changed}).requires_grad_(False)


def inputs():
    texts = [torch.zeros(length, CONFIG["caption_channels"]) for length in LENGTHS]
    return torch.zeros(TOKENS, 128), torch.zeros(TOKENS, 384), torch.zeros(3, TOKENS), texts


@pytest.mark.parametrize(
    ("name", "context_layers", "with_context", "share"),
    [
        *((name, [0, 2], True, True) for name in ROWS),
        *((name, [1, 3], True, True) for name in ("three", "residual")),
        ("three", [0, 2], False, True),
        ("residual", [0, 2], True, False),
    ],
)
def test_step_operations_are_those_torch_counts(name, context_layers, with_context, share):
    model = model_of(context_layers=context_layers)
    latents, context, positions, texts = inputs()
    job = forward.prepare(model, context, positions, texts, float(with_context))
    found = counted(lambda: forward.predict(model, latents, 0.5, job, ROWS[name], share=share))
    assert found == cost.transformer_flops(
        model.config, TOKENS, ROWS[name], LENGTHS, share=share, with_context=with_context
    )


@pytest.mark.parametrize(("context_layers", "with_context"), [([0, 2], True), ([1, 3], True), ([0, 2], False)])
def test_other_operations_are_those_torch_counts(context_layers, with_context):
    model = model_of(context_layers=context_layers)
    latents, context, positions, texts = inputs()
    prepared = counted(lambda: forward.prepare(model, context, positions, texts, float(with_context)))
    assert prepared == cost.prepare_flops(model.config, TOKENS, LENGTHS, with_context=with_context)
    given = context if with_context else None
    replayed = counted(lambda: ltx_replay.predict(model, latents, 0.5, given, positions, texts, PLAIN, text_tokens=12))
    assert replayed == cost.replay_flops(model.config, TOKENS, PLAIN, 12, with_context=with_context)


@pytest.mark.parametrize("frames", [1, 17])
@pytest.mark.parametrize("kind", VAES)
def test_vae_operations_are_those_torch_counts(kind, frames):
    from diffusers import AutoencoderKLLTXVideo

    vae = AutoencoderKLLTXVideo(**VAES[kind]).requires_grad_(False)
    latent, time = (1, 128, (frames - 1) // 8 + 1, 2, 3), 0.05 if kind == "0.9.1" else None
    encoded = counted(lambda: vae.encode(torch.zeros(1, 3, frames, 64, 96)))
    decoded = counted(lambda: vae.decode(torch.zeros(latent), None if time is None else torch.full((1,), time)))
    assert encoded == cost.encode_flops(vae.config, frames, 64, 96)
    assert decoded == cost.decode_flops(vae.config, frames, 64, 96)


def test_published_vae():
    from diffusers import AutoencoderKLLTXVideo

    with torch.device("meta"):
        vae = AutoencoderKLLTXVideo()
    numbers = {half: sum(p.numel() for p in getattr(vae, half).parameters()) for half in ("encoder", "decoder")}
    assert numbers["encoder"] / 1e6 == pytest.approx(180, abs=0.5)
    assert numbers["decoder"] / 1e6 == pytest.approx(239, abs=0.5)
    assert cost.encode_flops(vae.config, 97, 512, 768) / 1e12 == pytest.approx(31.24, abs=0.01)
    assert cost.decode_flops(vae.config, 97, 512, 768) / 1e12 == pytest.approx(33.34, abs=0.01)


def test_published_transformer():
    """At 97 frames of 768x512; the published figures take a text of 226 tokens."""
    assert cost.token_count(768, 512, 97) == 4992

    def tera(context_layers):
        return cost.replay_flops({**PUBLISHED, "context_layers": context_layers}, 4992, [Row(0)], 226) / 1e12

    assert tera([]) == pytest.approx(22.5, abs=0.05)
    assert tera(range(14)) == pytest.approx(34.4, abs=0.05)
    assert tera([1, 2]) - tera([1]) == pytest.approx(0.845, abs=0.001)


def test_published_parameters():
    def millions(context_layers):
        with torch.device("meta"):
            model = LTXVACETransformer3DModel({**PUBLISHED, "context_layers": context_layers})
        block = sum(value.numel() for value in model.transformer_blocks[0].parameters())
        return sum(value.numel() for value in model.parameters()) / 1e6, block / 1e6

    embedding = (384 * 2048 + 2048) / 1e6  # of the context
    base, block = millions([])
    assert base - embedding == pytest.approx(1923, abs=0.5)
    assert block == pytest.approx(67.2, abs=0.05)
    assert millions([0])[0] - base + embedding == pytest.approx(76.3, abs=0.05)
    assert millions([0, 5])[0] - millions([0])[0] == pytest.approx(71.35, abs=0.005)
    assert millions(range(14))[0] == pytest.approx(2927, abs=0.5)


def test_sharing_rows_saves_what_the_arithmetic_says():
    rows = cost.guided_rows(3.0, 1.0, [19])
    shared = cost.transformer_flops(PUBLISHED, 4992, rows, (20, 60))
    alone = cost.transformer_flops(PUBLISHED, 4992, rows, (20, 60), share=False)
    assert alone / shared == pytest.approx(1.37, abs=0.01)
    assert cost.replay_flops(PUBLISHED, 4992, rows) > alone
    late = cost.transformer_flops(PUBLISHED, 4992, cost.guided_rows(3.0, 1.0, [27]), (20, 60))
    assert late < shared < cost.transformer_flops(PUBLISHED, 4992, cost.guided_rows(3.0, 1.0, [0]), (20, 60))


def test_floor():
    assert cost.floor_seconds(790e12) == 1.0
    assert cost.floor_seconds(1e12, rate=5e11) == 2.0


@pytest.mark.parametrize(
    ("guidance", "stg", "expected"),
    [
        (3.0, 1.0, [(0, set()), (1, set()), (1, {19})]),
        (3.0, 0.0, [(0, set()), (1, set())]),
        (1.0, 1.0, [(0, set()), (0, {19})]),
        (1.0, 0.0, [(0, set())]),
    ],
)
def test_rows_of_a_step(guidance, stg, expected):
    assert [(text, set(skips)) for text, skips, _ in cost.guided_rows(guidance, stg, [19])] == expected
    assert {row[2] for row in cost.guided_rows(guidance, stg, [19], "residual")} == {"residual"}


SIZES = {"transformer": 6_000_000_000, "text_encoder": 9_500_000_000, "vae": 800_000_000}


def estimated(**changed):
    from diffusers import AutoencoderKLLTXVideo

    with torch.device("meta"):
        vae = AutoencoderKLLTXVideo().config
    given = dict(width=768, height=512, frames=97) | changed
    return cost.estimate(PUBLISHED, vae, SIZES, **given)


def test_estimate_of_a_run():
    plain = estimated()
    assert plain["tokens"] == 4992
    assert plain["forwards"] == 40
    assert plain["flops_forward"] == cost.transformer_flops(PUBLISHED, 4992, cost.guided_rows(3, 1, [19]), (128, 128))
    assert 0 < plain["flops"] - 40 * plain["flops_forward"] - plain["flops_vae"] < plain["flops_forward"] / 50
    assert plain["weight_bytes"] == sum(SIZES.values())
    assert plain["peak_bytes"] > plain["weight_bytes"]
    offloaded = estimated(offload=True)["peak_bytes"]
    assert max(SIZES.values()) <= offloaded < plain["peak_bytes"]
    assert estimated(dtype_bytes=4)["peak_bytes"] > plain["peak_bytes"]


def test_estimate_of_references_and_guidance():
    plain, more = estimated(), estimated(refs=2)
    assert more["tokens"] == 15 * 16 * 24
    assert more["flops_vae"] > plain["flops_vae"] and more["flops_forward"] > plain["flops_forward"]
    forwards = [estimated(guidance_scale=g, stg_scale=s)["flops_forward"] for g, s in ((1, 0), (1, 1), (3, 0), (3, 1))]
    assert forwards == sorted(set(forwards))
    assert estimated(steps=7)["forwards"] == 7


def test_estimate_of_what_is_skipped():
    plain, left_out = estimated(), estimated(stg_mode="stg_r")
    rows = cost.guided_rows(3, 1, [19], "residual")
    assert left_out["flops_forward"] == cost.transformer_flops(PUBLISHED, 4992, rows, (128, 128))
    assert left_out["flops_forward"] < plain["flops_forward"] and left_out["flops_vae"] == plain["flops_vae"]
    alone = estimated(context_scale=0.0)
    rows = cost.guided_rows(3, 1, [19])
    bare = cost.transformer_flops(PUBLISHED, 4992, rows, (128, 128), with_context=False)
    once = cost.prepare_flops(PUBLISHED, 4992, (128, 128), with_context=False)
    assert alone["flops_forward"] == bare < plain["flops_forward"]
    assert alone["flops"] == once + 40 * bare + alone["flops_vae"]
    assert estimated(context_scale=0.5) == plain


def test_estimate_counts_the_sources_whole():
    """Four float32 numbers a pixel as they are read, six in the two halves; more cannot be on the device as they come.

    For sources of any type of number, since only the VAE's own passes are halved with it.
    """
    tiny = {"patch_size": 4, "in_channels": 3, "out_channels": 3, "block_out_channels": [4], "upsample_factor": [1]}
    tiny |= {"decoder_block_out_channels": [4]}
    pixels = 97 * 512 * 768
    for per_number in (2, 4):
        found = cost._vae_working(tiny, 97, 512, 768, per_number)
        assert 40 * pixels + 9 * pixels * per_number < found < 40 * pixels + 12 * pixels * per_number
    wide_encoder = tiny | {"block_out_channels": [64]}
    assert cost._vae_working(wide_encoder, 97, 512, 768, 4) > found
    wide_decoder = tiny | {"decoder_block_out_channels": [256]}
    assert cost._vae_working(wide_decoder, 97, 512, 768, 4) > found


def test_tokens_are_those_of_the_plan():
    from vace.conditioning.sizes import LTX_STRIDE, token_count

    for size in ((768, 512, 97, 0), (64, 96, 1, 3), (832, 480, 9, 1)):
        assert cost.token_count(*size) == token_count(*size, LTX_STRIDE)


RUN = """
import sys, threading, time
import psutil
from vace.generate import generate
from vace.models.ltx import cost, engine

process, peak = psutil.Process(), [0]

def watch():
    while True:
        peak[0] = max(peak[0], process.memory_info().rss)
        time.sleep(0.002)

def run(size, frame_num):
    generate("a cat", base="ltx", ckpt_dir="tiny", size=size, frame_num=frame_num, steps=1, device="cpu",
             dtype="float32", out_format="exact", progress=False, save_dir="made")

estimates = []
given = engine.estimate
engine.estimate = lambda *args, **more: estimates.append(given(*args, **more)) or estimates[-1]
run("64x64", 9)  # libraries, their threads and the code they make
threading.Thread(target=watch, daemon=True).start()
before = process.memory_info().rss
peak[0] = before
run("512x320", 49)
print(peak[0] - before, estimates[-1]["peak_bytes"])
"""


@pytest.mark.slow
def test_a_run_takes_about_the_memory_that_was_estimated(tmp_path):
    """Watched from within, since what a process inherits counts in the peak that the system tells."""
    done = subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, check=True)
    taken, told = map(int, done.stdout.split()[-2:])
    assert told / 2 < taken < 1.5 * told, done.stdout


def test_estimating_needs_no_torch():
    code = (
        "import sys; from vace.models.ltx import cost; cost.guided_rows(3, 1, [1]); cost.token_count(64, 64, 9);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
