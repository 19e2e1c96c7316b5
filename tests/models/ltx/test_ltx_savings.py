"""Every saving of the LTX-VACE pass: nothing is computed twice, and the result is that of the plain pass."""

from __future__ import annotations

import pytest
import torch

from vace.bench import ltx_replay
from vace.bench.ltx import RANDOM_MODELS, random_model
from vace.errors import InputError
from vace.models.ltx import forward
from vace.models.ltx.cost import guided_rows
from vace.models.ltx.forward import Row

RELATIVE = 1e-6
LAYERS = 6
TOKENS = 24
TINY = {
    **RANDOM_MODELS["mid"]["config"],
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": LAYERS,
    "cross_attention_dim": 32,
    "caption_channels": 24,
}
CONTEXT_LAYERS = {"from 0": [0, 2, 5], "not from 0": [1, 4], "every": list(range(LAYERS))}
NEGATIVE, PROMPT = 0, 1


def perturbed(*skips, strategy="attention", text=PROMPT):
    return Row(text, frozenset(skips), strategy)


PLAIN = [Row(NEGATIVE), Row(PROMPT)]
ROWS = {
    "guidance and STG": [*PLAIN, perturbed(4)],
    "guidance alone": PLAIN,
    "STG alone": [Row(PROMPT), perturbed(3)],
    "neither": [Row(PROMPT)],
    "skip at 0": [*PLAIN, perturbed(0)],
    "skip at a layer without context": [*PLAIN, perturbed(3)],
    "skip at the last": [*PLAIN, perturbed(LAYERS - 1)],
    "several skips": [*PLAIN, perturbed(1, 2, 5)],
    "all skipped": [*PLAIN, perturbed(*range(LAYERS))],
    "no skip": [*PLAIN, perturbed()],
    "residual": [*PLAIN, perturbed(2, 4, strategy="residual")],
    "residual at 0": [*PLAIN, perturbed(0, strategy="residual")],
    "residual everywhere": [*PLAIN, perturbed(*range(LAYERS), strategy="residual")],
    "each its own": [
        perturbed(2, text=NEGATIVE),
        perturbed(2, strategy="residual"),
        Row(2),
        perturbed(2, 3),
        Row(NEGATIVE),
        perturbed(1, 3, strategy="residual", text=2),
        Row(2),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def models():
    return {
        kind: random_model({**TINY, "context_layers": layers}, "cpu", torch.float32)
        for kind, layers in CONTEXT_LAYERS.items()
    }


@pytest.fixture(scope="module")
def model(models):
    return models["from 0"]


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    positions = torch.rand((3, TOKENS), generator=generator) * torch.tensor([[2.0], [128.0], [192.0]])
    return {
        "latents": draw(TOKENS, TINY["in_channels"]),
        "context": draw(TOKENS, TINY["in_context_channels"]),
        "positions": positions,
        "texts": [draw(length, TINY["caption_channels"]) for length in (3, 9, 5)],
        "timestep": 0.7,
    }


def prepared(model, inputs, scale=1.0):
    return forward.prepare(model, inputs["context"], inputs["positions"], inputs["texts"], scale)


def predicted(model, inputs, rows, scale=1.0, **options):
    job = prepared(model, inputs, scale)
    return forward.predict(model, inputs["latents"], inputs["timestep"], job, rows, **options)


def replayed(model, inputs, rows, scale=1.0, **options):
    context = inputs["context"] if scale else None
    names = ("positions", "texts")
    return ltx_replay.predict(
        model, inputs["latents"], inputs["timestep"], context, *(inputs[n] for n in names), rows, scale, **options
    )


def apart(found, expected):
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("kind", CONTEXT_LAYERS)
@pytest.mark.parametrize("name", ROWS)
def test_shared_rows_equal_rows_alone_and_the_plain_pass(models, inputs, name, kind):
    shared = predicted(models[kind], inputs, ROWS[name])
    assert shared.dtype == torch.float32 and shared.shape == (len(ROWS[name]), TOKENS, TINY["out_channels"])
    assert apart(shared, predicted(models[kind], inputs, ROWS[name], share=False)) <= RELATIVE
    assert apart(shared, replayed(models[kind], inputs, ROWS[name])) <= RELATIVE


def test_different_rows_do_differ(model, inputs):
    out = predicted(model, inputs, ROWS["each its own"])
    assert torch.equal(out[2], out[6])
    for first in range(6):
        for second in range(first + 1, 6):
            assert apart(out[first], out[second]) > 1e-3


def test_a_time_per_token(model, inputs):
    times = torch.rand(TOKENS, generator=torch.Generator().manual_seed(6))
    varied = {**inputs, "timestep": times}
    rows = ROWS["guidance and STG"]
    shared = predicted(model, varied, rows)
    assert apart(shared, replayed(model, varied, rows)) <= RELATIVE
    assert apart(shared, predicted(model, inputs, rows)) > 1e-3
    same = predicted(model, {**inputs, "timestep": torch.full((TOKENS,), inputs["timestep"])}, rows)
    assert apart(same, predicted(model, inputs, rows)) <= RELATIVE


@pytest.mark.parametrize(("guidance", "stg", "texts"), [(3, 1, [0, 1, 1]), (3, 0, [0, 1]), (1, 1, [0, 0]), (1, 0, [0])])
def test_guidance_combinations(model, inputs, guidance, stg, texts):
    rows = [Row(*row) for row in guided_rows(guidance, stg, [4])]
    assert [row.text for row in rows] == texts
    assert [sorted(row.skips) for row in rows] == [[]] * (len(rows) - (stg > 0)) + [[4]] * (stg > 0)
    assert apart(predicted(model, inputs, rows), replayed(model, inputs, rows)) <= RELATIVE


def calls_of(model, work):
    """Names of the linear layers that ran, as often as they ran."""
    ran = []
    hooks = [
        module.register_forward_hook(lambda module, given, out, name=name: ran.append(name))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    work()
    for hook in hooks:
        hook.remove()
    return ran


def test_what_no_step_changes_is_prepared_once(model, inputs):
    fixed = ("caption_projection.", "patchify_context_proj", "before_proj", "attn2.to_k", "attn2.to_v")
    blocks = LAYERS + len(CONTEXT_LAYERS["from 0"])
    job = prepared(model, inputs)
    before = calls_of(model, lambda: prepared(model, inputs))
    during = calls_of(model, lambda: forward.predict(model, inputs["latents"], 0.3, job, ROWS["guidance and STG"]))
    assert sum(name.endswith("attn2.to_k") for name in before) == blocks * len(inputs["texts"])
    assert sum(name.endswith("before_proj") for name in before) == 1
    assert before and all(any(mark in name for mark in fixed) for name in before)
    assert during and not any(mark in name for name in during for mark in fixed)


def test_texts_need_no_padding(model, inputs):
    rows = ROWS["guidance and STG"]
    ours = predicted(model, inputs, rows)
    for tokens in (max(map(len, inputs["texts"])), 128):
        assert apart(ours, replayed(model, inputs, rows, text_tokens=tokens)) <= RELATIVE
    shortened = {**inputs, "texts": [states[:-1] for states in inputs["texts"]]}
    assert apart(ours, predicted(model, shortened, rows)) > 1e-3


def test_no_context_block_runs_at_scale_0(model, inputs):
    rows = ROWS["guidance and STG"]
    work = lambda: predicted(model, inputs, rows, 0.0)  # noqa: E731
    assert not any("context" in name for name in calls_of(model, work))
    assert apart(work(), replayed(model, inputs, rows, 0.0)) <= RELATIVE
    negligible = predicted(model, inputs, rows, 1e-30)  # every block runs, and adds nothing that float32 can hold
    assert apart(work(), negligible) <= RELATIVE
    other = {**inputs, "context": torch.randn_like(inputs["context"])}
    assert torch.equal(predicted(model, other, rows, 0.0), work())
    assert apart(predicted(model, other, rows), predicted(model, inputs, rows)) > 1e-3


@pytest.mark.parametrize("scale", [0.5, 2.0, -1.0])
def test_strength_of_the_hints(model, inputs, scale):
    rows = ROWS["guidance and STG"]
    assert apart(predicted(model, inputs, rows, scale), replayed(model, inputs, rows, scale)) <= RELATIVE


@pytest.mark.parametrize("kind", CONTEXT_LAYERS)
def test_a_hint_is_made_right_before_the_block_that_takes_it(models, inputs, monkeypatch, kind):
    run_block, ran = forward._run_block, []

    def noting(block, layer, *rest):
        ran.append(("context" if hasattr(block, "after_proj") else "main", layer))
        return run_block(block, layer, *rest)

    monkeypatch.setattr(forward, "_run_block", noting)
    predicted(models[kind], inputs, PLAIN)
    expected = []
    for layer in range(LAYERS):
        expected += [("context", layer)] * (layer in CONTEXT_LAYERS[kind]) + [("main", layer)]
    assert ran == expected


@pytest.mark.parametrize("name", ["residual everywhere", "residual at 0"])
def test_a_block_left_out_hands_its_input_on(model, inputs, name):
    row = ROWS[name][-1]
    ran = calls_of(model, lambda: predicted(model, inputs, [row]))
    still_run = {layer for layer in range(LAYERS) if any(f"blocks.{layer}.ff" in call for call in ran)}
    assert still_run == set(range(LAYERS)) - row.skips


def test_half_precision(inputs):
    config = {**TINY, "context_layers": [0, 2, 5]}
    exact = random_model(config, "cpu", torch.float32)
    halved = random_model(config, "cpu", torch.float32).to(torch.bfloat16)
    rows = ROWS["guidance and STG"]
    found = predicted(halved, inputs, rows)
    assert found.dtype == torch.float32
    assert apart(found, predicted(exact, inputs, rows)) < 0.05
    assert apart(found, predicted(halved, inputs, rows, share=False)) < 0.02


@pytest.mark.parametrize("layer", [-1, LAYERS])
def test_a_layer_that_is_not_there(model, inputs, layer):
    with pytest.raises(InputError, match=f"skipped layers {layer}: the model has layers 0 to {LAYERS - 1}"):
        predicted(model, inputs, [perturbed(layer, 2)])


def test_an_unknown_strategy(model, inputs):
    with pytest.raises(InputError, match="skip strategy residul: unknown; did you mean 'residual'"):
        predicted(model, inputs, [perturbed(1, strategy="residul")])


def test_a_text_without_tokens(model, inputs):
    with pytest.raises(InputError, match="text 1 has no tokens"):
        prepared(model, {**inputs, "texts": [inputs["texts"][0], inputs["texts"][1][:0]]})
