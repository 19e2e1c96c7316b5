"""Estimates against counted bytes, on running models and on the published sizes without memory; plans and choices."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from memory_counter import counted
from tiny_wan import draw, tiny_wan

from vace.errors import DeviceError, InputError
from vace.models.wan import transformer, vae
from vace.models.wan.predictor import Predictor
from vace.speed import lean_blocks, memory
from vace.speed.attention import Processor, apply_attention
from vace.speed.lean_blocks import apply_lean
from vace.speed.memory import Blocks, Estimate, Weights
from vace.speed.memory_plans import (
    GB,
    PLANS,
    Request,
    available_host,
    choose,
    host_bytes,
    parse_memory,
    peak,
    published_parts,
    published_table,
    reserve,
    retry_plan,
    shown,
    stages,
)  # fmt: skip
from vace.speed.offload import apply_offload

NEAR = 0.15
WIDE = ("time_embedder", "time_proj", "scale_shift_table", ".norm1.", ".norm2.", ".norm3.")  # float32 in the loader
WIDTHS = dict(num_attention_heads=4, attention_head_dim=32, ffn_dim=512, text_dim=32)
TEXT_LEN = 8


def lean(model, dtype):
    for name, weight in model.requires_grad_(False).named_parameters():
        if not any(part in f".{name}" for part in WIDE) and not name.startswith("proj_out."):
            weight.data = weight.data.to(dtype)
    apply_lean(model)
    apply_attention(model)
    return model


def forward(model, grid, dtype, guided, text_len, device="cpu", **options):
    """Counted bytes of one step of a run, guidance included."""

    def call():
        latents, context = (draw(0, channels, *grid).to(device) for channels in (16, 96))
        job = transformer.prepare(model, context)
        states = torch.zeros(5, model.config.text_dim, dtype=dtype, device=device)
        texts = [transformer.embed_text(model, states, text_len) for _ in range(1 + guided)]
        scale = 5.0 if guided else 1.0
        predict = Predictor(model, job, texts, 2, guidance_scale=scale, **options)
        return [predict(latents, timestep) for timestep in ((500.0, 400.0) if options else (500.0,))][-1]

    return counted(call)[0]


@pytest.mark.parametrize(
    ("grid", "guided", "changes", "options"),
    [
        ((3, 16, 16), False, {}, {}),
        ((5, 24, 16), True, {}, {}),
        ((5 + 2, 24, 16), True, {}, {}),  # two references
        ((3, 24, 24), True, {"ffn_dim": 256, "num_attention_heads": 8}, {}),
        ((3, 24, 24), True, {}, {"step_cache": 0.1}),
    ],
)
def test_denoising_is_what_is_counted(grid, guided, changes, options):
    model = lean(tiny_wan(**{**WIDTHS, **changes}), torch.float32)
    found = forward(model, grid, torch.float32, guided, TEXT_LEN, **options)
    tokens = grid[0] * grid[1] * grid[2] // 4
    config = {**model.config, "text_len": TEXT_LEN}
    expected = memory.denoise_work(config, tokens, 4, guided, bool(options))
    print(f"{tokens} tokens: counted {shown(found)}, estimated {expected / found - 1:+.1%}")
    assert expected == pytest.approx(found, rel=NEAR)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["1.3B", "14B"])
def test_denoising_at_the_published_sizes(monkeypatch, name, dtype):
    """480p, 81 frames, guided; on the meta device, where nothing is computed. Attention by a kernel that keeps none."""
    from diffusers import WanVACETransformer3DModel

    monkeypatch.setattr(lean_blocks, "_takes_mixed", lambda device, kind: False)  # as on CUDA
    config = dict(published_parts(name)["transformer"].config)
    text_len = config.pop("text_len")
    with torch.device("meta"):
        model = lean(WanVACETransformer3DModel(**config | {"num_layers": 3, "vace_layers": [0, 1]}).eval(), dtype)
    model.rope.to("meta")
    for block in (*model.blocks, *model.vace_blocks):
        for attention in (block.attn1, block.attn2):
            attention.set_processor(Processor(lambda query, key, value: torch.empty_like(query)))
    found = forward(model, (21, 60, 104), dtype, True, text_len, "meta")
    expected = memory.denoise_work({**config, "text_len": text_len}, 32760, dtype.itemsize)
    print(f"{name} {dtype}: counted {shown(found)}, estimated {expected / found - 1:+.1%}")
    assert expected == pytest.approx(found, rel=NEAR)


@pytest.fixture(scope="module")
def published_vae():
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        return AutoencoderKLWan().requires_grad_(False)


@pytest.mark.parametrize(("height", "width", "latents"), [(480, 832, 3), (256, 256, 2), (480, 832, 1)])
def test_the_vae_is_what_is_counted(monkeypatch, published_vae, height, width, latents):
    """The published VAE on the meta device, whole pictures and a tile, clips and a single picture."""
    fixed = lambda model: (torch.zeros(16, 1, 1, 1, device="meta"), torch.ones(16, 1, 1, 1, device="meta"))  # noqa: E731
    monkeypatch.setattr(vae, "_statistics", fixed)
    config, frames = published_parts("14B")["vae"].config, 4 * latents - 3
    given = torch.empty(16, latents, height // 8, width // 8, device="meta")
    decoded = counted(lambda: [None for _ in vae.decode_chunks(published_vae, given)])[0]
    video = torch.empty(3, frames, height, width, device="meta")
    encoded = counted(lambda: vae.encode(published_vae, [video]))[0]
    expected = [work(config, n, height, width) for work, n in ((memory.decode_work, latents),
                                                               (memory.encode_work, frames))]  # fmt: skip
    print(" ".join(f"{a / b - 1:+.1%}" for a, b in zip(expected, (decoded, encoded), strict=True)))
    assert expected[0] == pytest.approx(decoded, rel=NEAR)
    assert expected[1] == pytest.approx(encoded, rel=NEAR)


def test_the_vae_in_bfloat16_takes_half(monkeypatch):
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        model = AutoencoderKLWan().requires_grad_(False).bfloat16()
    fixed = lambda model: (torch.zeros(16, 1, 1, 1, device="meta"), torch.ones(16, 1, 1, 1, device="meta"))  # noqa: E731
    monkeypatch.setattr(vae, "_statistics", fixed)
    parts = published_parts("14B")
    config, given = parts["vae"].config, torch.empty(16, 3, 60, 104, device="meta")
    decoded = counted(lambda: [None for _ in vae.decode_chunks(model, given)])[0]
    encoded = counted(lambda: vae.encode(model, [torch.empty(3, 9, 480, 832, device="meta")]))[0]
    assert memory.in_type(memory.decode_work(config, 3, 480, 832), torch.bfloat16) == pytest.approx(decoded, rel=NEAR)
    assert memory.in_type(memory.encode_work(config, 9, 480, 832), torch.bfloat16) == pytest.approx(encoded, rel=NEAR)
    whole, half = (
        memory.estimate(parts, 832, 480, 81, vae_dtype=kind) for kind in (torch.float32, torch.bfloat16)
    )  # fmt: skip
    assert half.vae * 2 == whole.vae and half.decode_tiled < 0.6 * whole.decode_tiled


def test_decoding_alone_is_the_decoding_of_a_run():
    parts = published_parts("1.3B")
    run, alone = memory.estimate(parts, 832, 480, 81), memory.of_decoding(parts["vae"], 21, 832, 480)
    assert (alone.vae, alone.decode_whole, alone.decode_tiled) == (run.vae, run.decode_whole, run.decode_tiled)
    found = stages(alone, PLANS["tiled"])
    assert peak(alone, PLANS["tiled"]) == found["decode"] == alone.vae + alone.decode_tiled
    assert choose(alone, 9 * GB).name == "device" and choose(alone, 2 * GB).name == "tiled"


def test_a_running_vae_is_what_is_counted():
    from diffusers import AutoencoderKLWan

    model = AutoencoderKLWan(base_dim=8).requires_grad_(False).eval()
    config = {**published_parts("14B")["vae"].config, "base_dim": 8}
    decoded = counted(lambda: [None for _ in vae.decode_chunks(model, draw(0, 16, 2, 8, 12))])[0]
    assert memory.decode_work(config, 2, 64, 96) == pytest.approx(decoded, rel=NEAR)


@pytest.mark.parametrize("group_blocks", [1, 3])
def test_offloaded_weights_are_what_is_held(group_blocks):
    model = tiny_wan(**WIDTHS).requires_grad_(False)
    part = replace(published_parts("14B")["transformer"], config={**model.config, "text_len": TEXT_LEN})
    found = memory.offloaded_bytes(part, torch.float32, group_blocks)
    assert found.plain == pytest.approx(apply_offload(model, "cpu", group_blocks).device_bytes, rel=0.05)


def test_the_published_models_fit_small_cards():
    """14B a card of 24 GB, 1.3B one of 8 GB, both at 480p, 81 frames, in bfloat16."""
    print("\n".join(published_table()))
    cases = (
        ("14B", 24, "offload", "evicted"), ("1.3B", 8, "tiled", "cpu"), ("14B", 48, "evict", "evicted"),
        ("14B", 80, "device", "kept"),
    )  # fmt: skip
    for name, card, plan, text in cases:
        found = memory.estimate(published_parts(name), 832, 480, 81)
        budget = card * GB - reserve(card * GB)
        chosen = choose(found, budget)
        assert (chosen.name, chosen.text) == (plan, text)
        assert peak(found, chosen) <= budget and found.tokens == 32760


ROUND = Estimate(100, Weights(40, 20), Weights(50, 25), 5, Blocks(10, 10, Weights(45, 22)), 1, 30, 6, 10, 20, 4)


@pytest.mark.parametrize(
    ("budget", "host", "name", "text"),
    [(130, None, "device", "kept"), (80, None, "evict", "evicted"), (66, None, "tiled", "evicted"),
     (45, None, "offload", "evicted"), (30, None, "offload", "cpu"), (45, 30, "int8", "evicted"),
     (26, 30, "int8+offload", "evicted")],
)  # fmt: skip
def test_the_cheapest_plan_that_fits_is_chosen(budget, host, name, text):
    chosen = choose(ROUND, budget, host)
    assert (chosen.name, chosen.text) == (name, text)
    assert peak(ROUND, chosen) <= budget and host_bytes(ROUND, chosen) <= (host or 1000)


def test_what_fits_nowhere_is_told():
    with pytest.raises(DeviceError, match="no plan fits 1 MB: even '.*' takes 1 MB to .*give a smaller --size"):
        choose(ROUND, 5)
    with pytest.raises(DeviceError, match="of the processor's memory"):
        choose(ROUND, 25, 1)


def test_stages_by_hand():
    assert stages(ROUND, PLANS["device"]) == {"text": 41, "encode": 75, "denoise": 105, "decode": 115}
    assert stages(ROUND, PLANS["tiled"]) == {"text": 41, "encode": 11, "denoise": 65, "decode": 59}
    assert stages(ROUND, PLANS["int8+offload"]) == {"text": 21, "encode": 11, "denoise": 20, "decode": 9}


def test_after_running_out_of_memory():
    tried = [PLANS["device"]]
    while following := retry_plan(tried[-1]):
        tried.append(following)
    assert [plan.name for plan in tried] == ["device", "evict", "tiled", "offload", "int8+offload"]
    assert [plan.text for plan in tried] == ["kept", "evicted", "cpu", "cpu", "cpu"]
    assert retry_plan(PLANS["offload"], approximate=False) is None
    assert [plan.name for plan in PLANS.values() if plan.is_exact] == ["device", "evict"]


@pytest.mark.parametrize(
    ("text", "request_"),
    [("auto", Request()), ("max", Request("device")), ("24 GB", Request(bytes=24 * GB)), (24, Request(bytes=24 * GB)),
     ("7.5gb", Request(bytes=7_500_000_000)), ("Tiled", Request("tiled")), ("int8+offload", Request("int8+offload"))],
)  # fmt: skip
def test_memory_is_read(text, request_):
    assert parse_memory(text) == request_


@pytest.mark.parametrize("text", ["lots", "-3", "0", "0 GB", "nan", "24 MB", ""])
def test_memory_that_cannot_be_read_is_told(text):
    with pytest.raises(InputError, match="--memory"):
        parse_memory(text)
    with pytest.raises(InputError, match="did you mean 'tiled'"):
        parse_memory("tile")


def test_free_memory_is_what_the_system_says(tmp_path):
    table = tmp_path / "meminfo"
    table.write_text("MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    2048 kB\n")
    assert available_host(table) == 2048 * 1024
    assert available_host(tmp_path / "none") > 10**8
    assert reserve(GB) == GB // 2 and reserve(80 * GB) == 4 * GB
    assert (shown(7_310_000_000), shown(1)) == ("7.4 GB", "1 MB")
