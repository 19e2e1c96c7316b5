"""A whole run's velocities: equal to the plain pass bit for bit, each thing worked out once, hints for as long as
asked."""

from __future__ import annotations

import pytest
import torch
from tiny_wan import blocks_run, context, latents, texts, tiny_wan

from vace.models.denoise import denoise, guided
from vace.models.samplers import make_sampler
from vace.models.wan import transformer
from vace.models.wan.predictor import Predictor


@pytest.fixture(scope="module")
def model():
    return tiny_wan()


def plain(model, job, count=2, scale=3.0):
    calls = [
        lambda x, t, text=text: transformer.predict_velocity(model, x, t, text, job) for text in texts(model)[:count]
    ]
    return guided(calls[0], calls[1] if count > 1 else None, scale)


@pytest.mark.parametrize(("count", "scale"), [(2, 3.0), (2, 1.0), (1, 3.0)])
def test_a_run_equals_the_plain_pass(model, count, scale):
    job = transformer.prepare(model, context(), [1.0, 0.4])
    predict = Predictor(model, job, texts(model)[:count], 4, guidance_scale=scale)
    found = denoise(latents(), make_sampler("unipc", 4, 3.0), predict)
    true = denoise(latents(), make_sampler("unipc", 4, 3.0), plain(model, job, count, scale))
    assert torch.equal(found, true)
    assert predict.forwards == (8 if count > 1 and scale != 1 else 4)
    assert predict.report() == []


def counts(model, call) -> dict[str, int]:
    names = ("patch_embedding", "vace_patch_embedding", "rope", "condition_embedder.time_proj",
             "condition_embedder.text_embedder")  # fmt: skip
    seen = dict.fromkeys(names, 0)

    def count(name):
        seen[name] += 1

    hooks = [model.get_submodule(n).register_forward_hook(lambda *_, n=n: count(n)) for n in names]
    call()
    for hook in hooks:
        hook.remove()
    return seen


def test_nothing_is_worked_out_twice(model):
    def run():
        job = transformer.prepare(model, context())
        denoise(latents(), make_sampler("unipc", 3, 3.0), Predictor(model, job, texts(model), 3, guidance_scale=3.0))

    assert counts(model, run) == {
        "patch_embedding": 3,  # once a step, for both branches
        "condition_embedder.time_proj": 3,
        "vace_patch_embedding": 1,  # once a run
        "rope": 1,
        "condition_embedder.text_embedder": 2,
    }


@pytest.mark.parametrize(("end", "hinted"), [(1.0, 5), (0.6, 3), (0.5, 3), (0.0, 0)])
def test_hints_end_where_asked_exactly_as_with_scales_of_zero(model, end, hinted):
    job, bare = transformer.prepare(model, context()), transformer.prepare(model, context(), 0.0)
    predict = Predictor(model, job, texts(model), 5, guidance_scale=3.0, context_end=end)
    for i in range(5):
        found = []
        ran = blocks_run(model, lambda found=found, i=i: found.append(predict(latents(i), 500.0)))
        assert ran.count("context0") == ran.count("context1") == (2 if i < hinted else 0)
        true = plain(model, job if i < hinted else bare)(latents(i), 500.0)
        assert torch.equal(found[0], true)


def test_scales_of_zero_in_any_form_run_no_context_block(model):
    step = transformer.begin_step(model, latents(), 500.0)
    for scale in (0.0, 0, [0.0, 0.0]):
        job = transformer.prepare(model, context(), scale)
        assert job.context_1ND is None and transformer.first_hint(model, step, texts(model)[0], job) is None
        assert not [
            name
            for name in blocks_run(model, lambda job=job: transformer.run_stack(model, step, texts(model)[0], job))
            if "context" in name
        ]


def test_the_gates_input_is_what_the_first_block_attends_over(model):
    step = transformer.begin_step(model, latents(), 500.0)
    seen = []
    hook = model.blocks[0].attn1.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    transformer.run_stack(model, step, texts(model)[0], transformer.prepare(model, context(), 0.0))
    hook.remove()
    assert (seen[0] - transformer.modulated_input(model, step)).abs().max() <= 1e-5


def test_a_first_hint_handed_on_is_not_run_again(model):
    job, text = transformer.prepare(model, context()), texts(model)[0]
    step = transformer.begin_step(model, latents(), 500.0)
    first = transformer.first_hint(model, step, text, job)
    found = []
    ran = blocks_run(model, lambda: found.append(transformer.run_stack(model, step, text, job, first)))
    assert "context0" not in ran and "context1" in ran
    assert torch.equal(found[0], transformer.run_stack(model, step, text, job))
