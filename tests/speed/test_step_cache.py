"""The step cache never counts a hint twice, never serves what was asked under other conditions, and saves blocks."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_wan import blocks_run, context, latents, relative, texts, tiny_wan

from vace.models.denoise import denoise, guided
from vace.models.samplers import make_sampler
from vace.models.wan import transformer
from vace.models.wan.predictor import Predictor
from vace.speed.step_cache import StepCache, cache_bytes, relative_change

ALWAYS = 1e9  # a threshold that every change stays below
STEPS = 10  # of which the first and the last always run


@pytest.fixture(scope="module")
def model():
    return tiny_wan()


def make(model, threshold, steps=STEPS, scale=4.0, **more):
    job = transformer.prepare(model, context())
    return Predictor(model, job, texts(model), steps, guidance_scale=scale, step_cache=threshold, **more)


def plain(model, scale=4.0):
    job, branches = transformer.prepare(model, context()), texts(model)
    calls = [lambda x, t, text=text: transformer.predict_velocity(model, x, t, text, job) for text in branches]
    return guided(*calls, scale)


def test_repeated_input_is_answered_as_before_where_diffusers_cache_is_not(model):
    """The same input twice: a cache that hits must give the same answer. diffusers' adds the hints a second time."""
    from diffusers.hooks import FirstBlockCacheConfig

    true = plain(model)(latents(), 500.0)
    predict = make(model, ALWAYS)
    found = [predict(latents(), 500.0) for _ in range(3)]
    assert predict.cache.served == 4  # both branches of the second and the third call
    assert max(relative(velocity, true) for velocity in found) <= 1e-6

    given = dict(
        hidden_states=latents()[None], timestep=torch.tensor([500.0]), encoder_hidden_states=torch.randn(1, 8, 32),
        control_hidden_states=context()[None], return_dict=False,
    )  # fmt: skip
    theirs = tiny_wan()
    theirs.enable_cache(FirstBlockCacheConfig(threshold=ALWAYS))
    with torch.no_grad(), theirs.cache_context("cond"):
        first, second = theirs(**given)[0], theirs(**given)[0]
    assert relative(second, first) > 1e-2


def test_threshold_zero_is_the_plain_result(model):
    schedule, start = make_sampler("unipc", 4, 3.0), latents()
    found = denoise(start, schedule, make(model, 0.0, steps=4))
    assert torch.equal(found, denoise(start, make_sampler("unipc", 4, 3.0), plain(model)))
    cache = StepCache(0.0, 5)
    for i in range(5):
        assert not cache.is_served(i, {0: ((), [torch.ones(2)])})
        cache.keep(0, torch.ones(2), torch.ones(2))


def test_a_threshold_never_reached_from_below_changes_nothing(model):
    """The gate and its early hint are computed, every step is run: the same bits."""
    found = make(model, 1e-12)(latents(), 500.0)
    assert torch.equal(found, plain(model)(latents(), 500.0))


def test_a_served_step_runs_nothing_but_the_gates_context_block(model):
    predict = make(model, ALWAYS)
    whole = blocks_run(model, lambda: predict(latents(), 500.0))
    served = blocks_run(model, lambda: predict(latents(5), 490.0))
    assert len(whole) == 2 * (4 + 2)
    assert served == ["context0", "context0"]
    assert predict.forwards == 2


def test_without_hints_no_context_block_is_run_at_all(model):
    predict = make(model, ALWAYS, context_end=0.0)
    assert not [name for name in blocks_run(model, lambda: predict(latents(), 500.0)) if "context" in name]
    assert blocks_run(model, lambda: predict(latents(5), 490.0)) == []


def test_first_and_last_steps_always_run(model):
    for steps, first in ((4, 1), (10, 1), (20, 2), (50, 5)):
        predict = make(model, ALWAYS, steps=steps, scale=1.0)
        ran = []
        for _ in range(steps):
            ran.append("main0" in blocks_run(model, lambda predict=predict: predict(latents(), 500.0)))
        assert ran == [i < first or i == steps - 1 for i in range(steps)]
        assert predict.report() == [f"step cache 1e+09: {steps - first - 1} of {steps} forwards saved"]


def answers(model, changed):
    """A cache that would always serve, asked once plainly and then after `changed`; what it gives, and what is true."""
    predict = make(model, ALWAYS, scale=1.0)
    predict(latents(), 500.0)
    other = changed(predict)
    given = latents() if other is None else other
    found = predict(given, 500.0)
    return found, transformer.predict_velocity(predict.model, given, 500.0, predict.texts[0], predict._job), predict


def other_context(predict):
    predict._job = transformer.prepare(predict.model, context(9))


def other_scale(predict):
    predict._job = transformer.prepare(predict.model, context(), 0.5)


def other_text(predict):
    predict.texts = texts(predict.model, 7)


def written_text(predict):
    predict.texts[0].mul_(2)


def written_context(predict):
    predict._job.context_1ND.add_(1)


def other_shape(predict):
    predict._job = transformer.prepare(predict.model, context(2, (3, 4, 8)))
    return latents(1, (3, 4, 8))


@pytest.mark.parametrize(
    "changed", [other_context, other_scale, other_text, written_text, written_context, other_shape]
)
def test_other_conditions_are_never_served(model, changed):
    found, true, predict = answers(model, changed)
    assert predict.cache.served == 0
    assert torch.equal(found, true)


def test_the_end_of_the_context_is_not_served_with_hints(model):
    predict = make(model, ALWAYS, scale=1.0, context_end=0.2)
    for _ in range(2):
        predict(latents(), 500.0)
    assert predict.cache.served == 1
    bare = transformer.prepare(model, context(), 0.0)
    true = transformer.predict_velocity(model, latents(), 500.0, predict.texts[0], bare)
    assert torch.equal(predict(latents(), 500.0), true)


def test_a_branch_that_sat_out_starts_afresh(model):
    predict = make(model, ALWAYS, guidance_interval=(0.3, 1.0))
    ran = [blocks_run(model, lambda: predict(latents(), 500.0)).count("main0") for _ in range(5)]
    assert ran == [1, 0, 0, 2, 0]  # guidance enters at step 3: neither branch is served there


def ask(cache, i, *values, branches=1):
    """Whether step i is served, asked with signals that are single numbers; a step that is not served is run."""
    asked = {branch: ((), [torch.tensor([value]) for value in values]) for branch in range(branches)}
    served = cache.is_served(i, asked)
    for branch in range(branches):
        if not served:
            cache.keep(branch, torch.zeros(1), torch.ones(1))
    return served


def test_changes_add_up_to_the_threshold():
    cache = StepCache(0.1, 100)
    value, served = 1.0, []
    for i in range(10, 20):
        served.append(ask(cache, i, value))
        value *= 1.04
    assert served == [False, True, True, False, True, True, False, True, True, False]


@pytest.mark.parametrize("changing", [0, 1])
def test_either_signal_alone_makes_a_step_run(changing):
    cache = StepCache(0.1, 100)
    ask(cache, 20, 1.0, 1.0)
    assert ask(cache, 21, 1.0, 1.0)
    assert not ask(cache, 22, *(1.5 if number == changing else 1.0 for number in range(2)))


def test_all_branches_are_served_or_none():
    cache = StepCache(0.1, 100)
    ask(cache, 20, 1.0, branches=2)
    still, moved = ((), [torch.tensor([1.0])]), ((), [torch.tensor([1.2])])
    assert not cache.is_served(21, {0: still, 1: moved})


def test_branches_keep_residuals_of_their_own():
    cache = StepCache(0.1, 100)
    cache.is_served(20, {0: ((), [torch.ones(1)]), 1: ((), [torch.ones(1)])})
    cache.keep(0, torch.zeros(1), torch.ones(1))
    cache.keep(1, torch.zeros(1), torch.full((1,), 3.0))
    assert [cache.serve(branch, torch.ones(1)).item() for branch in (0, 1)] == [2.0, 4.0]


def test_numbers_that_are_none_are_never_served():
    cache = StepCache(ALWAYS, 100)
    ask(cache, 20, 1.0)
    assert not ask(cache, 21, math.nan)


def test_relative_change():
    assert relative_change(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 2.0])) == pytest.approx(0.75)
    assert relative_change(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_change(torch.ones(2), torch.zeros(2)) == math.inf
    half = torch.tensor([1.0, 1.0], dtype=torch.bfloat16)
    assert relative_change(half * 1.5, half) == pytest.approx(0.5)


def test_memory_it_takes(model):
    predict = make(model, ALWAYS)
    predict(latents(), 500.0)
    kept = {}
    for state in predict.cache._branches.values():
        for tensor in (*state.signals, state.residual):
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
    assert sum(kept.values()) == cache_bytes(3 * 4 * 4, 48, 2, 4)


def test_a_higher_threshold_saves_more_and_errs_more(model):
    """A whole guided run: served steps cost accuracy, and the error stays in proportion."""
    errors, saved = [], []
    start = latents()
    true = denoise(start, make_sampler("unipc", 20, 3.0), plain(model))
    for threshold in (0.0, 0.1, 0.3):
        predict = make(model, threshold, steps=20)
        errors.append(relative(denoise(start, make_sampler("unipc", 20, 3.0), predict), true))
        saved.append(predict.cache.served if predict.cache else 0)
    assert errors[0] == 0 and 0 < errors[1] < errors[2] < 0.5
    assert 0 == saved[0] < saved[1] < saved[2]
