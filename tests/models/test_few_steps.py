"""The few-step samplers against their closed forms."""

from __future__ import annotations

import pytest
import torch

from vace.errors import InputError
from vace.models.denoise import denoise, draw_noise
from vace.models.few_steps import FEW_STEPS, generator_after, make_few_steps

SHAPE = (4, 2, 3, 5)


def sampler(name, **given):
    return make_few_steps(name, generator=torch.Generator().manual_seed(3), **given)


def test_the_published_levels():
    found = sampler("lcm")
    assert found.timesteps.tolist() == pytest.approx([1000.0, 937.5, 833.33333, 625.0], abs=1e-4)
    assert found.sigmas.tolist() == pytest.approx([1.0, 0.9375, 0.8333333, 0.625, 0.0], abs=1e-7)
    assert sampler("lcm", shift=1.0).timesteps.tolist() == [1000.0, 750.0, 500.0, 250.0]
    assert len(sampler("euler", steps=8)) == 8


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 8.0])
def test_levels_are_entries_of_the_shifted_table_of_1000(shift):
    table = torch.linspace(1, 0, 1001, dtype=torch.float64)[:-1]
    table = shift * table / (1 + (shift - 1) * table)
    expected = table[[1000 - step for step in (1000, 750, 500, 250)]]
    assert (sampler("lcm", shift=shift).sigmas[:-1] - expected).abs().max() < 1e-7


@pytest.mark.parametrize("name", FEW_STEPS)
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_model_that_knows_the_answer_reaches_it(name, steps):
    """v = (x - x0) / sigma leads to x0 from everywhere, whatever is drawn on the way."""
    clean, schedule = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)), sampler(name, steps=steps)
    seen = []

    def predict(latents, timestep):
        seen.append(timestep)
        return (latents - clean) / (timestep / 1000)

    found = denoise(draw_noise(SHAPE, 5), schedule, predict)
    assert (found - clean).abs().max() < 1e-5
    assert seen == schedule.timesteps.tolist()


def test_euler_steps():
    """Along a constant velocity the whole way is -v; along v = x each step multiplies by 1 + sigma' - sigma."""
    start = draw_noise(SHAPE, 0)
    velocity = draw_noise(SHAPE, 1)
    assert (denoise(start, sampler("euler"), lambda x, t: velocity) - (start - velocity)).abs().max() < 1e-5
    s = [1.0, 0.9375, 5 / 6, 0.625, 0.0]
    factor = 1.0
    for now, then in zip(s, s[1:], strict=False):
        factor *= 1 + then - now
    assert (denoise(start, sampler("euler"), lambda x, t: x) - factor * start).abs().max() < 1e-6


def test_lcm_steps():
    """Each step mixes what the model aims at with noise drawn in order; the last one adds none."""
    start, schedule = draw_noise(SHAPE, 0), sampler("lcm")
    drawn = torch.Generator().manual_seed(3)
    x, s = start, [1.0, 0.9375, 5 / 6, 0.625, 0.0]
    for i in range(4):
        velocity = torch.tanh(x) + i
        noise = torch.randn(SHAPE, generator=drawn) if i < 3 else torch.zeros(SHAPE)
        expected = (1 - s[i + 1]) * (x - s[i] * velocity) + s[i + 1] * noise
        x = schedule.step(velocity, i, x)
        assert (x - expected).abs().max() < 1e-5


def test_the_noise_goes_on_where_the_start_was_drawn():
    start, generator = draw_noise(SHAPE, 7), generator_after(SHAPE, 7)
    one = torch.Generator().manual_seed(7)
    assert torch.equal(torch.randn(SHAPE, generator=one), start)
    following = torch.randn(SHAPE, generator=one)
    assert torch.equal(torch.randn(SHAPE, generator=generator), following)
    assert not torch.equal(following, start)


def test_lcm_repeats_and_euler_draws_nothing():
    start = draw_noise(SHAPE, 0)
    runs = [denoise(start, sampler("lcm"), lambda x, t: torch.sin(x)) for _ in range(2)]
    assert torch.equal(*runs)
    other = make_few_steps("lcm", generator=torch.Generator().manual_seed(4))
    assert not torch.equal(denoise(start, other, lambda x, t: torch.sin(x)), runs[0])
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    denoise(start, make_few_steps("euler", generator=generator), lambda x, t: x)
    assert torch.equal(generator.get_state(), state)
    denoise(start, make_few_steps("euler"), lambda x, t: x)


def test_half_precision_is_computed_in_float32():
    schedule = sampler("euler")
    found = schedule.step(torch.ones(3, dtype=torch.bfloat16), 0, torch.ones(3, dtype=torch.float16))
    assert found.dtype == torch.float32 and found.tolist() == [0.9375] * 3


@pytest.mark.parametrize(
    ("given", "told"),
    [({"name": "lmc"}, "did you mean 'lcm'"), ({"steps": 0}, "give 1 to 1000"), ({"steps": 1001}, "give 1 to 1000"),
     ({"shift": 0.0}, "sample_shift"), ({"shift": float("nan")}, "sample_shift")],
)  # fmt: skip
def test_refused(given, told):
    with pytest.raises(InputError, match=told):
        sampler(**{"name": "lcm"} | given)


def test_misuse():
    with pytest.raises(ValueError, match="generator"):
        make_few_steps("lcm")
    with pytest.raises(ValueError, match="out of order"):
        sampler("euler").step(torch.zeros(2), 1, torch.zeros(2))
