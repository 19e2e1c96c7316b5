"""The flow stages learn, read and write what the engine reads, and their pass is the engine's and the class's own."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from stand_in_rows import NoiseRows

from vace.errors import CheckpointError, InputError
from vace.models.checkpoints import open_checkpoint, tiny_folder
from vace.models.wan import transformer as engine_pass
from vace.models.wan.engine import load_engine
from vace.training import batched, flow, flow_model, flow_stage, tiny
from vace.training.flow_stage import FlowStage
from vace.training.trainer import Plan, train

SMALL = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "num_layers": 3, "vace_layers": [0, 2]}
SHIFT = 3.0
PLAN = Plan(workers=0, log_steps=1, sheet_steps=100, plain=flow_stage.PLAIN)


OWN_KINDS = dict(flow_stage.KINDS)  # as they are outside these tests


@pytest.fixture(autouse=True)
def small(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(flow_stage, "open_rows", lambda folder: NoiseRows())
    monkeypatch.setattr(flow_stage, "JUDGED_BATCHES", 4)
    monkeypatch.setattr(flow_stage, "JUDGED_ROWS", 4)
    spans = (flow_stage.Span(1.0, None, 4),)
    kinds = {name: dataclasses.replace(kind, steps=4, spans=spans) for name, kind in flow_stage.KINDS.items()}
    monkeypatch.setattr(flow_stage, "KINDS", kinds)
    yield
    torch.set_num_threads(before)


def stage_of(kind: str, seed: int = 0) -> FlowStage:
    return FlowStage(kind, "rows", "held_out", tiny_folder(), seed=seed, transformer=SMALL)


def shaken(model):
    """The model with all weights drawn, so that no part is hidden behind a zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def model():
    return shaken(flow_model.build(1, tiny.build_tokenizer(), with_context=True, transformer=SMALL)).eval()


# Arithmetic.


def test_levels_are_spread_over_the_batch_and_shifted_as_the_sampler_shifts():
    levels = flow.draw_levels(8, torch.Generator().manual_seed(0), SHIFT)
    unshifted = levels / (SHIFT - (SHIFT - 1) * levels)
    assert sorted((unshifted * 8).floor().int().tolist()) == list(range(8))
    assert not torch.equal(levels, levels.sort().values)
    assert torch.allclose(flow.shifted(torch.tensor([0.0, 0.5, 1.0]), SHIFT), torch.tensor([0.0, 0.75, 1.0]))


def test_the_true_velocity_has_no_error_and_leads_back_to_the_video():
    clean, noise = torch.randn(2, 3, 16, 2, 4, 4)
    levels = torch.tensor([0.2, 0.5, 0.9])
    noisy = flow.mixed(clean, noise, levels)
    assert torch.allclose(noisy - levels.view(-1, 1, 1, 1, 1) * (noise - clean), clean, atol=1e-5)
    assert torch.equal(flow.errors(noise - clean, clean, noise), torch.zeros(3))
    assert torch.all(flow.errors(clean - noise, clean, noise) > 1)


def test_errors_count_by_their_weights():
    clean, noise, weights = torch.zeros(2, 3, 1, 2, 2), torch.zeros(2, 3, 1, 2, 2), torch.ones(2, 1, 1, 2, 2)
    velocity = torch.zeros(2, 3, 1, 2, 2)
    velocity[:, :, 0, 0, 0] = 1  # wrong at one latent pixel of four
    weights[1, :, 0, 0, 0] = 5
    assert torch.allclose(flow.errors(velocity, clean, noise, weights), torch.tensor([1 / 4, 5 / 8]))
    assert torch.allclose(flow.errors(velocity, clean, noise), torch.full((2,), 1 / 4))


# The pass.


def inputs(count=3):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(count, 16, 2, 4, 8, generator=generator)
    context = torch.randn(count, 96, 2, 4, 8, generator=generator)
    return latents, torch.tensor([3.0, 512.25, 998.0])[:count], context


def test_the_pass_is_the_classs_own_with_gradients(model):
    latents, timesteps, context = inputs()
    states = torch.randn(3, 7, 96, generator=torch.Generator().manual_seed(1))
    states[0, 4:] = 0
    padded = torch.nn.functional.pad(states, (0, 0, 0, tiny.TEXT_LEN - 7))
    theirs = model.transformer(latents, timesteps, padded, control_hidden_states=context, return_dict=False)[0]
    text = batched.embed_text(model.transformer, states, tiny.TEXT_LEN)
    ours = batched.predict_velocity(model.transformer, latents, timesteps, text, context)
    assert theirs.std() > 0.1
    assert torch.allclose(ours, theirs, atol=2e-5)
    full = batched.embed_text(model.transformer, padded, tiny.TEXT_LEN)
    assert full.bias is None
    assert torch.allclose(
        batched.predict_velocity(model.transformer, latents, timesteps, full, context), theirs, atol=2e-5
    )
    weights = list(model.transformer.parameters())
    for one, other in zip(
        torch.autograd.grad(theirs.square().mean(), weights), torch.autograd.grad(ours.square().mean(), weights),
        strict=True,
    ):  # fmt: skip
        assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max()) + 1e-7)


def test_without_a_context_the_context_blocks_are_left_out(model):
    latents, timesteps, context = inputs()
    text = batched.embed_text(model.transformer, torch.randn(3, 5, 96), tiny.TEXT_LEN)
    theirs = batched.predict_velocity(model.transformer, latents, timesteps, text, context)
    ours = batched.predict_velocity(model.transformer, latents, timesteps, text)
    job = engine_pass.prepare(model.transformer, context[0], 0.0)
    embedded = engine_pass.embed_text(model.transformer, torch.zeros(1, 96), tiny.TEXT_LEN)
    assert not torch.allclose(ours, theirs, atol=1e-3)
    alone = batched.predict_velocity(
        model.transformer, latents[:1], timesteps[:1],
        batched.embed_text(model.transformer, torch.zeros(1, 1, 96), tiny.TEXT_LEN),
    )  # fmt: skip
    engines = engine_pass.predict_velocity(model.transformer, latents[0], 3.0, embedded, job)
    assert torch.allclose(alone[0], engines, atol=2e-5)


def test_a_written_model_says_in_the_engine_what_it_says_in_training(tmp_path, model):
    """Prompts of several lengths in a batch; the engine takes each alone, from the written folder."""
    tokenizer = tiny.build_tokenizer()
    flow_model.write(model, tmp_path, tokenizer, tiny_folder())
    model = flow_model.build(0, tokenizer, with_context=True, transformer=SMALL)
    model.load_state_dict(flow_model.weights_of(tmp_path))
    engine = load_engine(open_checkpoint(tmp_path))
    latents, timesteps, context = inputs()
    prompts = ["a red  circle moves left &amp; spins", "", "Ünïcødé a small blue puppet dances, the camera zooms in"]
    with torch.no_grad():
        ours = model(torch.from_numpy(flow_stage.token_ids(prompts)), latents, timesteps, context)
    with engine._in_use("transformer") as transformer:
        for i, prompt in enumerate(prompts):
            states, _ = engine.encode_prompts(prompt, None)
            embedded = engine_pass.embed_text(transformer, states, engine.text_len)
            job = engine_pass.prepare(transformer, context[i])
            theirs = engine_pass.predict_velocity(transformer, latents[i], float(timesteps[i]), embedded, job)
            assert torch.allclose(ours[i], theirs, atol=5e-5)


# Stages.


@pytest.mark.parametrize("kind", ["base", "context", "joint"])
def test_a_few_steps_lower_the_loss_of_a_batch(kind):
    stage = stage_of(kind)
    model, batch = shaken(stage.model(0)), stage.batch(0)
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], 5e-3)
    losses = []
    for _ in range(12):
        loss, _ = stage.loss(model, batch, torch.Generator().manual_seed(0))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]


def test_base_has_no_context_blocks_and_sees_no_references():
    stage = stage_of("base")
    assert not any("vace" in name for name in stage.model(0).state_dict())
    for step in range(4):
        batch = stage.batch(step)
        assert set(batch) == {"target", "weights", "ids"} and batch["target"].shape == (4, 16, 2, 4, 4)


def test_context_trains_the_context_parts_alone_on_the_base_as_it_was(tmp_path):
    train(stage_of("base"), tmp_path / "base", PLAN)
    weights = flow_model.weights_of(tmp_path / "base" / "best")
    train(stage_of("context"), tmp_path / "context", PLAN, weights=weights)
    after = torch.load(tmp_path / "context" / "state.pt", weights_only=True)["weights"]
    changed = {name for name, value in after.items() if not torch.equal(value, weights[name])}
    assert changed and all(name.startswith("transformer.vace_") for name in changed)
    assert {"transformer.vace_blocks.0.proj_out.weight", "transformer.vace_patch_embedding.weight"} <= changed


def test_context_blocks_begin_as_copies_that_do_not_show(tmp_path):
    train(stage_of("base"), tmp_path, PLAN, until=2)
    weights = flow_model.weights_of(tmp_path / "best")
    model = flow_model.build(3, tiny.build_tokenizer(), with_context=True, transformer=SMALL)
    model.load_state_dict(weights)
    for i, layer in enumerate(SMALL["vace_layers"]):
        copy, block = model.transformer.vace_blocks[i].state_dict(), model.transformer.blocks[layer].state_dict()
        assert all(torch.equal(copy[name], value) for name, value in block.items())
    latents, timesteps, context = inputs()
    ids = torch.from_numpy(flow_stage.token_ids(["a red star"] * 3))
    assert torch.equal(model(ids, latents, timesteps, context), model(ids, latents, timesteps))


def test_dropped_prompts_and_contexts_are_those_of_a_source_that_says_nothing(monkeypatch):
    stage = stage_of("joint")
    monkeypatch.setattr(flow_stage, "PROMPT_DROPOUT", 0.5)
    monkeypatch.setattr(flow_stage, "CONTEXT_DROPOUT", 0.5)
    batches = [stage.batch(step) for step in range(12)]
    prompts = [len(np.flatnonzero(ids)) == 1 for batch in batches for ids in batch["ids"]]  # no token but the end's
    contexts = [bool((context[:, -1] == 0.25).all()) for batch in batches for context in batch["context"]]
    masks = [bool((mask[:, -1] == 255).all()) for batch in batches for mask in batch["mask"]]
    assert masks == contexts
    assert 12 < sum(prompts) < 36 and 12 < sum(contexts) < 36
    assert any(one != other for one, other in zip(prompts, contexts, strict=True))


def test_spans_cut_clips_to_their_first_latents_and_keep_references(monkeypatch):
    spans = (flow_stage.Span(0.5, 1, 6), flow_stage.Span(1.0, None, 4))
    kinds = {name: dataclasses.replace(kind, spans=spans) for name, kind in flow_stage.KINDS.items()}
    monkeypatch.setattr(flow_stage, "KINDS", kinds)
    stage = stage_of("joint")
    for step in range(4):
        refs = NoiseRows().batch(np.random.default_rng([0, step]), 4)["refs"]
        batch = stage.batch(step)
        count, frames = (6, 1) if step < 2 else (4, 2)
        parts = ("target", "context", "mask", "weights")
        assert {name: batch[name].shape[::2][:2] for name in parts} == dict.fromkeys(parts, (count, refs + frames))
    assert [kinds["joint"].span(share).frames for share in (0.0, 0.49, 0.5, 1.0)] == [1, 1, None, None]


def test_some_steps_of_clips_are_of_first_frames_and_most_of_these_of_rows_of_one(monkeypatch):
    opened = []
    monkeypatch.setattr(flow_stage, "open_rows", lambda folder: opened.append(str(folder)) or NoiseRows())
    monkeypatch.setattr(flow_stage, "STILL", flow_stage.Span(1.0, 1, 6))
    spans = (flow_stage.Span(1.0, None, 4, stills=0.5),)
    kinds = {name: dataclasses.replace(kind, spans=spans) for name, kind in flow_stage.KINDS.items()}
    monkeypatch.setattr(flow_stage, "KINDS", kinds)
    stage = FlowStage("base", "rows", "held_out", tiny_folder(), stills="stills", transformer=SMALL)
    counts = [len(stage.batch(step)["ids"]) for step in range(60)]
    assert 20 < counts.count(6) < 40 and counts.count(4) == 60 - counts.count(6)
    assert {of for of, count in zip(opened, counts, strict=True) if count == 4} == {"rows"}
    assert 0.5 < opened.count("stills") / counts.count(6) < 1


def test_products_in_bfloat16_leave_the_loss_as_it_is(monkeypatch):
    plain, half = stage_of("joint"), FlowStage(
        "joint", "rows", "held_out", tiny_folder(), is_half=True, transformer=SMALL
    )  # fmt: skip
    losses = []
    for stage in (plain, half):
        made = stage.model(0)
        shaken(made)
        losses.append(stage.loss(made, stage.batch(0), torch.Generator().manual_seed(0))[0].item())
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.02)


def test_things_weigh_more_than_grounds_and_references_less():
    found = NoiseRows().batch(indices=[2, 5])  # with a reference
    found["things"][:] = 0
    found["things"][0, :, 1] = 255
    weights = stage_of("joint").arrays(found, with_context=True)["weights"]
    assert np.unique(weights[:, :, 0]) == np.float32(flow_stage.REFERENCE_WEIGHT)
    assert (weights[0, :, 1] == flow_stage.THING_WEIGHT).all() and (weights[1, :, 1:] == 1).all()
    assert stage_of("joint").arrays(found, with_context=False)["weights"].shape[2] == weights.shape[2] - 1


def test_some_steps_are_of_words_alone_and_leave_the_context_blocks_as_they_are(monkeypatch):
    refs = NoiseRows().batch(indices=[2, 5])["refs"]
    monkeypatch.setattr(flow_stage, "open_rows", lambda folder: NoiseRows())
    kind = dataclasses.replace(flow_stage.KINDS["joint"], spans=(flow_stage.Span(1.0, None, 4, words=0.5),))
    monkeypatch.setattr(flow_stage, "KINDS", {"joint": kind})
    stage = stage_of("joint")
    batches = [stage.batch(step) for step in range(40)]
    alone = [batch for batch in batches if "context" not in batch]
    assert 10 < len(alone) < 30 and all("mask" not in batch for batch in alone)
    led = next(batch for batch in batches if "context" in batch)
    assert {batch["target"].shape[2] for batch in alone} <= {led["target"].shape[2], led["target"].shape[2] - refs}
    model = stage.model(0)
    stage.loss(model, alone[0], torch.Generator().manual_seed(0))[0].backward()
    moved = {name.split(".")[1] for name, weight in model.named_parameters() if weight.grad is not None}
    assert "blocks" in moved and not moved & {"vace_blocks", "vace_patch_embedding"}


def test_no_step_of_the_context_stage_is_of_words_alone():
    assert any(span.words for span in OWN_KINDS["joint"].spans)
    assert not any(span.words for span in OWN_KINDS["context"].spans)


def test_batches_depend_on_seed_and_step_alone():
    first, again, next_one = stage_of("joint").batch(3), stage_of("joint").batch(3), stage_of("joint").batch(4)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["target"], next_one["target"])
    assert not np.array_equal(first["target"], stage_of("joint", seed=1).batch(3)["target"])


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    train(stage_of("base"), tmp_path / "whole", PLAN)
    train(stage_of("base"), tmp_path / "parts", PLAN, until=2)
    train(stage_of("base"), tmp_path / "parts", PLAN, resume=True)
    whole, parts = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts"))
    for part in ("weights", "average"):
        assert all(torch.equal(value, parts[part][name]) for name, value in whole[part].items())


def test_evaluation_is_repeatable_and_tells_each_task():
    stage = stage_of("context")
    model = stage.model(0)
    figures = stage.evaluate(model)
    assert figures == stage.evaluate(model)
    assert {"score", "loss", "loss_reference", "loss_depth"} <= set(figures)
    assert figures["score"] == -figures["loss"]


def test_a_run_writes_a_checkpoint_its_facts_and_a_sheet(tmp_path):
    train(stage_of("joint"), tmp_path, dataclasses.replace(PLAN, sheet_steps=2), until=2)
    checkpoint = open_checkpoint(tmp_path / "best")
    assert checkpoint.is_toy and checkpoint.defaults["trained"] and checkpoint.defaults["text_len"] == tiny.TEXT_LEN
    assert json.loads((tmp_path / "best" / "facts.json").read_text())["step"] == 2
    assert (tmp_path / "sheet-000002.png").is_file()
    engine = load_engine(checkpoint)
    context = engine.encode_context(torch.zeros(3, 5, 32, 32), torch.ones(1, 5, 32, 32))
    cond, uncond = engine.encode_prompts("a red circle", "")
    latents = engine.denoise(context, cond, uncond, steps=2, shift=SHIFT, seed=0)
    assert engine.decode(latents).shape == (3, 5, 32, 32)


def test_what_cannot_be_trained_is_told(tmp_path):
    with pytest.raises(InputError, match="no flow stage"):
        stage_of("bases")
    with pytest.raises(CheckpointError, match="no transformer/"):
        flow_model.weights_of(tmp_path)
