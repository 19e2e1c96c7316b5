"""The LTX-VACE transformer's pass equals the original's, down to its hints, blocks and rotary tables."""

from __future__ import annotations

import re

import pytest
import torch
from goldens_io import equal_within, goldens_dir, model_document, model_tensors
from parity_fixes import FIXES

from vace.models.ltx import forward
from vace.models.ltx.configs import transformer_config
from vace.models.ltx.forward import Row
from vace.models.ltx.keymaps import class_names
from vace.models.ltx.metadata import stated_config
from vace.models.ltx.transformer import LTXVACETransformer3DModel

pytestmark = pytest.mark.parity

BAR = 1e-4
STEM = "transformer_tiny"
DOCUMENT = model_document("ltx", STEM)
CASES = DOCUMENT["cases"]


@pytest.fixture(scope="module")
def tensors():
    return model_tensors("ltx", STEM)


@pytest.fixture(scope="module")
def model():
    """The class with the tensors of the checkpoint that the document names."""
    stem = re.search(r"(\w+)\.safetensors", DOCUMENT["what"])[1]
    stored = model_tensors("ltx", stem)
    weights = {new: stored[old] for old, new in class_names("transformer", stored).items()}
    stated = stated_config(goldens_dir() / "ltx" / f"{stem}.safetensors")["transformer"]
    config = transformer_config({key: tuple(value.shape) for key, value in weights.items()}, stated, stem)
    made = LTXVACETransformer3DModel(config)
    made.load_state_dict(weights, strict=True)
    return made.requires_grad_(False).eval()


def texts_of(tensors):
    """The real tokens of every text of the document."""
    states, mask = tensors["encoder_hidden_states"], tensors["encoder_attention_mask"]
    return [row[present.bool()] for row, present in zip(states, mask, strict=True)]


def job_of(model, tensors, case):
    has_context = case["source_latents"] is not None
    context = torch.cat([tensors["source_latents"], tensors["source_mask_latents"]], dim=-1)[0]
    scale = (1.0 if case["context_scale"] is None else case["context_scale"]) if has_context else 0.0
    positions = tensors[case["indices_grid"].split()[0]][0]
    return forward.prepare(model, context, positions, texts_of(tensors), scale)


def rows_of(tensors, case, fixed=True):
    """One row per text of the batch, with the layers that the case's mask skips for it; `fixed` as the original's."""
    rows = []
    for i in range(len(tensors[case["hidden_states"]])):
        skips = frozenset()
        if case["skip_layer_mask"] is not None:
            skips = frozenset((tensors[case["skip_layer_mask"]][:, i] == 0).nonzero().flatten().tolist())
        row = Row(i, skips, (case["skip_layer_strategy"] or "attention").lower())
        rows.append(FIXES["ltx_residual_skip"][1](row) if fixed and row.strategy == "residual" else row)
    return rows


def run(model, tensors, case, index, row):
    times = tensors[case["timestep"].split()[0]].flatten()
    timestep = float(times) if len(times) == 1 else times
    latents = tensors[case["hidden_states"]][index]
    return forward.predict(model, latents, timestep, job_of(model, tensors, case), [row])[0]


@pytest.mark.parametrize("name", CASES)
def test_velocity_equals_the_original(model, tensors, name):
    for i, row in enumerate(rows_of(tensors, CASES[name])):
        velocity = run(model, tensors, CASES[name], i, row)
        assert equal_within("LTX transformer", velocity, tensors[f"{name}.out"][i], BAR)


def test_residual_skip_takes_effect(model, tensors):
    skipping = [
        (name, i, row)
        for name, case in CASES.items()
        for i, row in enumerate(rows_of(tensors, case, fixed=False))
        if row.skips and row.strategy == "residual"
    ]
    assert skipping
    for name, i, row in skipping:
        assert (run(model, tensors, CASES[name], i, row) - tensors[f"{name}.out"][i]).abs().max() > 0.01


def stored(tensors, part):
    """(case, layer, stored tensor) of every `<case>.<part>`, where # in the part stands for the layer."""
    pattern = re.compile(r"(\w+)\." + part.replace("#", r"(\d+)"))
    found = [(match[1], int(match[2]), tensors[key]) for key in tensors if (match := pattern.fullmatch(key))]
    if not found:
        raise LookupError(f"{STEM} holds no {part}")
    return found


@pytest.mark.parametrize(("part", "is_hint"), [("hint#", True), ("ctx#_out", False)])
def test_context_stream_equals_the_original(model, tensors, part, is_hint):
    for name, layer, expected in stored(tensors, part):
        seen = []
        hook = model.transformer_context_blocks[str(layer)].after_proj.register_forward_hook(
            lambda module, given, out, seen=seen: seen.append(out if is_hint else given[0])
        )
        for i, row in enumerate(rows_of(tensors, CASES[name])):
            run(model, tensors, CASES[name], i, row)
        hook.remove()
        assert equal_within("LTX transformer, hints", torch.cat(seen), expected, BAR)


def test_main_blocks_equal_the_original(model, tensors, monkeypatch):
    run_block, after = forward._run_block, {}

    def noting(block, layer, stream, *rest):
        if block is model.transformer_blocks[layer]:
            after.setdefault(layer - 1, []).append(stream.x_GND)  # what enters a block has the hint of the one before
        return run_block(block, layer, stream, *rest)

    monkeypatch.setattr(forward, "_run_block", noting)
    last = len(model.transformer_blocks) - 1
    hook = model.norm_out.register_forward_hook(lambda module, given, out: after.setdefault(last, []).append(given[0]))
    for name, layer, expected in stored(tensors, "block#_out"):
        after.clear()
        for i, row in enumerate(rows_of(tensors, CASES[name])):
            run(model, tensors, CASES[name], i, row)
        assert equal_within("LTX transformer, blocks", torch.cat(after[layer]), expected, BAR)
    hook.remove()


def test_rotary_table_equals_the_original(model, tensors):
    table = forward.rope_table(model.config, tensors["indices_grid_b1"][0])
    for part, key in ((table.real, "rope_cos"), (table.imag, "rope_sin")):
        assert equal_within("LTX rotary table", part.repeat_interleave(2, dim=-1), tensors[key][0], BAR)


def test_embeddings_equal_the_original(model, tensors):
    modulation, time = forward._embed_time(model, float(tensors["timestep_scalar"]))
    assert equal_within("LTX time embedding", modulation.flatten(1), tensors["adaln_single_out"], BAR)
    assert equal_within("LTX time embedding", time[:, 0], tensors["adaln_single_embedded"], BAR)
    captions = model.caption_projection(tensors["encoder_hidden_states"])
    assert equal_within("LTX caption projection", captions, tensors["caption_projection_out"], BAR)
