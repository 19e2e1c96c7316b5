"""The transformer's forward pass: equal to the original, hints just in time, nothing run that does not count."""

from __future__ import annotations

import pytest
import torch
from goldens_io import equal_within, model_document, model_tensors

from vace.errors import InputError
from vace.models.wan import transformer

BAR = 5e-5
STEM = "transformer_tiny"
DOCUMENT = model_document("wan", STEM)
CONFIG = DOCUMENT["config"]
NAME = next(case["name"] for case in DOCUMENT["cases"] if case["batch"] == 1)  # any plain case, where one is enough


def samples():
    """(prefix of a sample's tensors, suffix, timestep index, context scale), one per sample of every case."""
    for case in DOCUMENT["cases"]:
        suffixes = [f".{i}" for i in range(case["batch"])] if case["batch"] > 1 else [""]
        for i, suffix in enumerate(suffixes):
            yield pytest.param(case["name"], suffix, i, case["vace_context_scale"], id=case["name"] + suffix)


def run(model, tensors, name, suffix, index, scale):
    job = transformer.prepare(model, tensors[f"{name}.vace_context{suffix}"], scale)
    text = transformer.embed_text(model, tensors[f"{name}.context{suffix}"], CONFIG["text_len"])
    timestep = float(tensors[f"{name}.t"][index])
    return transformer.predict_velocity(model, tensors[f"{name}.x{suffix}"], timestep, text, job)


@pytest.fixture(scope="module")
def model(golden_models):
    return golden_models["transformer"]


@pytest.fixture(scope="module")
def tensors():
    return model_tensors("wan", STEM)


@pytest.mark.parity
@pytest.mark.parametrize(("name", "suffix", "index", "scale"), list(samples()))
def test_velocity_equals_the_original(model, tensors, name, suffix, index, scale):
    velocity = run(model, tensors, name, suffix, index, scale)
    assert equal_within("Wan transformer", velocity, tensors[f"{name}.out{suffix}"], BAR)


@pytest.mark.parity
def test_without_hints_equals_the_original(model, tensors):
    for key in [key for key in tensors if key.endswith(".out_scale0")]:
        name = key.removesuffix(".out_scale0")
        assert equal_within(
            "Wan transformer, context scale 0", run(model, tensors, name, "", 0, 0.0), tensors[key], BAR
        )


@pytest.mark.parity
def test_hints_equal_the_original(model, tensors):
    names = [key.removesuffix(".mid.hint0") for key in tensors if key.endswith(".mid.hint0")]
    assert names
    for name in names:
        hints: list[torch.Tensor] = []
        hooks = [
            block.register_forward_hook(lambda module, given, out, hints=hints: hints.append(out[0]))
            for block in model.vace_blocks
        ]
        run(model, tensors, name, "", 0, 1.0)
        for hook in hooks:
            hook.remove()
        for i, hint in enumerate(hints):
            assert equal_within("Wan transformer, hints", hint, tensors[f"{name}.mid.hint{i}"], BAR)


@pytest.mark.parity
def test_sinusoid_equals_the_original(tensors):
    for name in [key.removesuffix(".t") for key in tensors if key.startswith("sinus") and key.endswith(".t")]:
        for timestep, expected in zip(tensors[f"{name}.t"].tolist(), tensors[f"{name}.out"], strict=True):
            wave = transformer.sinusoid(timestep, expected.shape[0], torch.device("cpu"))[0]
            assert (wave - expected).abs().max() <= 1e-6


def test_equals_diffusers_forward(model, tensors):
    states = tensors[f"{NAME}.context"]
    padded = torch.cat([states, states.new_zeros(CONFIG["text_len"] - len(states), states.shape[1])])
    scales = [0.3 + 0.5 * i for i in range(len(CONFIG["vace_layers"]))]
    with torch.no_grad():
        theirs = model(
            hidden_states=tensors[f"{NAME}.x"][None],
            timestep=tensors[f"{NAME}.t"],
            encoder_hidden_states=padded[None],
            control_hidden_states=tensors[f"{NAME}.vace_context"][None],
            control_hidden_states_scale=torch.tensor(scales),
            return_dict=False,
        )[0][0]
    assert (run(model, tensors, NAME, "", 0, scales) - theirs).abs().max() <= BAR


def blocks_run(model, tensors, scale):
    ran = []
    hooks = [
        block.register_forward_hook(lambda module, given, out, name=f"{kind}{i}": ran.append(name))
        for kind, blocks in (("main", model.blocks), ("context", model.vace_blocks))
        for i, block in enumerate(blocks)
    ]
    out = run(model, tensors, NAME, "", 0, scale)
    for hook in hooks:
        hook.remove()
    return ran, out


def test_context_blocks_run_right_before_the_block_that_takes_the_hint(model, tensors):
    ran, _ = blocks_run(model, tensors, 1.0)
    expected = []
    for layer in range(CONFIG["num_layers"]):
        if layer in CONFIG["vace_layers"]:
            expected.append(f"context{CONFIG['vace_layers'].index(layer)}")
        expected.append(f"main{layer}")
    assert ran == expected


@pytest.mark.parametrize("kind", ["all", "last", "first"])
def test_context_blocks_that_change_nothing_are_not_run(model, tensors, kind):
    """A context block of scale 0 feeds the next one, so it is left out only with all that follow."""
    count = len(CONFIG["vace_layers"])
    zeros = {"all": set(range(count)), "last": {count - 1}, "first": {0}}[kind]
    scales = [0.0 if i in zeros else 1.0 for i in range(count)]
    ran, out = blocks_run(model, tensors, scales)
    assert sum(name.startswith("context") for name in ran) == {"all": 0, "last": count - 1, "first": count}[kind]
    negligible = [scale or 1e-30 for scale in scales]  # every block runs, and adds nothing that float32 can hold
    assert (run(model, tensors, NAME, "", 0, negligible) - out).abs().max() <= 1e-6


def test_scale_zero_ignores_the_context(model, tensors):
    other = {**tensors, f"{NAME}.vace_context": torch.randn_like(tensors[f"{NAME}.vace_context"])}
    assert torch.equal(run(model, tensors, NAME, "", 0, 0.0), run(model, other, NAME, "", 0, 0.0))


def test_padding_of_the_text_is_attended_to(model, tensors):
    job = transformer.prepare(model, tensors[f"{NAME}.vace_context"])
    outs = [
        transformer.predict_velocity(
            model, tensors[f"{NAME}.x"], 500.0, transformer.embed_text(model, tensors[f"{NAME}.context"], length), job
        )
        for length in (CONFIG["text_len"] // 2, CONFIG["text_len"])
    ]
    assert (outs[0] - outs[1]).abs().max() > 0.01


def test_wrong_number_of_scales(model, tensors):
    with pytest.raises(InputError, match="9 context scales given, the model has"):
        transformer.prepare(model, tensors[f"{NAME}.vace_context"], [1.0] * 9)


def test_indivisible_latent(model, tensors):
    with pytest.raises(InputError, match="divisible by 16"):
        transformer.prepare(model, tensors[f"{NAME}.vace_context"][:, :, :, :7])
