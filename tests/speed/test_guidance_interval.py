"""Guidance in an interval: which steps ask twice, and that each step is exactly what its kind says."""

from __future__ import annotations

import pytest
import torch
from tiny_wan import blocks_run, context, latents, texts, tiny_wan

from vace.errors import InputError
from vace.models.denoise import combine
from vace.models.wan import transformer
from vace.models.wan.predictor import Predictor
from vace.speed.guidance_interval import WHOLE, guided_steps, is_guided, parse_interval
from vace.speed.step_share import steps_before


@pytest.mark.parametrize(
    ("text", "found"), [("0.1,0.8", (0.1, 0.8)), (" 0 , 1 ", WHOLE), ((0.5, 0.5), (0.5, 0.5)), (["0", 0.25], (0, 0.25))]
)
def test_intervals_are_read(text, found):
    assert parse_interval(text) == found


@pytest.mark.parametrize("text", ["0.5", "a,b", "0.8,0.1", "-0.1,1", "0,1.1", "0,nan", "0,0.5,1", None, 0.5])
def test_what_is_no_interval_is_told(text):
    with pytest.raises(InputError, match="--guidance_interval .*LOW,HIGH"):
        parse_interval(text)


@pytest.mark.parametrize(
    ("steps", "interval", "guided"),
    [
        (10, WHOLE, range(10)),
        (10, (0.2, 0.7), range(2, 7)),
        (4, (0.3, 0.6), range(2, 3)),  # step 1 starts at 0.25, step 2 at 0.5
        (3, (0.1, 1.0), range(1, 3)),
        (10, (0.5, 0.5), range(0)),
    ],
)
def test_which_steps_are_guided(steps, interval, guided):
    assert [i for i in range(steps) if is_guided(i, steps, interval)] == list(guided)
    assert guided_steps(steps, interval) == len(guided)


@pytest.mark.parametrize(
    ("share", "steps", "found"), [(1.0, 7, 7), (0.0, 7, 0), (0.1, 30, 3), (0.3, 10, 3), (0.31, 10, 4), (2.0, 5, 5)]
)
def test_steps_before_a_share(share, steps, found):
    assert steps_before(share, steps) == found


def test_each_step_is_what_its_kind_says():
    model = tiny_wan()
    job, branches = transformer.prepare(model, context()), texts(model)
    cond, uncond = (transformer.predict_velocity(model, latents(), 700.0, text, job) for text in branches)
    predict = Predictor(model, job, branches, 5, guidance_scale=4.0, guidance_interval=(0.2, 0.6))
    ran, found = [], []
    for _ in range(5):
        ran.append(blocks_run(model, lambda: found.append(predict(latents(), 700.0))).count("main0"))
    assert ran == [1, 2, 2, 1, 1] and predict.forwards == 7
    guided = combine(cond, uncond, 4.0)
    for velocity, passes in zip(found, ran, strict=True):
        assert torch.equal(velocity, guided if passes == 2 else cond)
