"""LTX's noise levels and Euler steps, against the original's scheduler and by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from goldens_io import equal_within, goldens_dir, model_document, model_tensors
from parity_fixes import FIXES

from vace.errors import CheckpointError, InputError
from vace.models.denoise import denoise
from vace.models.ltx.schedule import make_schedule, token_shift

BAR = 1e-6


# Where we fix the original, its golden is read through one of these.
def golden(tensors: dict, name: str, part: str) -> torch.Tensor:
    values = tensors[f"{name}.{part}"]
    return FIXES["single_step"][1](values) if len(values) == 1 else values


@pytest.mark.parity
def test_levels_equal_the_original():
    """The SD3 cases: the product takes no other kind of shift, which the original's scheduler has too."""
    document, tensors, compared = model_document("ltx", "scheduler"), model_tensors("ltx", "scheduler"), 0
    for name, case in document["cases"].items():
        if case["shifting"] != "SD3":
            continue
        terminal = case["target_shift_terminal"]
        schedule = make_schedule(case["num_inference_steps"], case["tokens"], terminal=terminal)
        assert equal_within("LTX sigmas", schedule.timesteps, golden(tensors, name, "timesteps"), BAR), name
        lengths = schedule.sigmas[:-1] - schedule.sigmas[1:]
        assert equal_within("LTX sigmas, steps", lengths, golden(tensors, name, "delta"), BAR), name
        assert math.log(token_shift(case["tokens"])) == pytest.approx(case["shift_mu"], abs=1e-12)
        by_hand = make_schedule(
            case["num_inference_steps"], 1, shift=math.exp(case["shift_mu"]), terminal=case["target_shift_terminal"]
        )
        assert torch.allclose(by_hand.sigmas, schedule.sigmas, atol=1e-7), name
        compared += 1
    assert compared > 0


@pytest.mark.parity
def test_the_trajectory_equals_the_original():
    tensors = model_tensors("ltx", "scheduler")
    steps = len(tensors["traj.timesteps"])
    schedule = make_schedule(steps, tensors["traj.x0"].shape[1])
    assert equal_within("LTX sigmas", schedule.timesteps, tensors["traj.timesteps"], BAR)
    sample = tensors["traj.x0"]
    for index in range(steps):
        time = float(schedule.timesteps[index])
        velocity = torch.sin(3 * sample) * (0.3 + time) - 0.1 * sample
        assert equal_within("LTX steps", velocity, tensors[f"traj.v{index}"], 1e-5), index
        sample = schedule.step(velocity, index, sample)
        assert equal_within("LTX steps", sample, tensors[f"traj.x{index + 1}"], 1e-5), index


@pytest.mark.parity
@pytest.mark.parametrize("path", sorted((goldens_dir() / "ltx").glob("e2e_*.json")), ids=lambda path: path.stem)
def test_the_steps_of_whole_pipelines(path):
    """References are among the tokens that the shift is made from."""
    document, tensors = model_document("ltx", path.stem), model_tensors("ltx", path.stem)
    latents = tensors["init_noise"]
    schedule = make_schedule(document["args"]["num_inference_steps"], latents.shape[1])
    assert equal_within("LTX sigmas", schedule.timesteps, tensors["timesteps"], BAR)
    for index in range(len(schedule)):
        if f"step{index}.guided" in tensors:
            made = schedule.step(tensors[f"step{index}.guided"], index, latents)
            assert equal_within("LTX steps", made, tensors[f"step{index}.latents_out"], 2e-6), index
        latents = tensors[f"step{index}.latents_out"]


def test_a_schedule_by_hand():
    schedule = make_schedule(2, 1024, shift=1.0, terminal=None)
    assert schedule.sigmas.tolist() == [1.0, 0.5, 0.0] and schedule.sigmas.dtype == torch.float32
    assert make_schedule(2, 1024, shift=3.0, terminal=None).timesteps.tolist() == [1.0, 0.75]
    assert make_schedule(2, 1024, shift=3.0).timesteps.tolist() == pytest.approx([1.0, 0.1])
    assert make_schedule(3, 1024, shift=1.0, terminal=0.0).timesteps.tolist() == pytest.approx([1.0, 0.5, 0.0])


def test_the_shift_grows_beyond_both_ends():
    shifts = [token_shift(tokens) for tokens in (1, 1024, 4096, 4992, 40000)]
    assert shifts == sorted(shifts)
    assert shifts[1:4] == pytest.approx([math.exp(0.95), math.exp(2.05), math.exp(2.3708333)])


@pytest.mark.parametrize("steps", [1, 2, 7, 40, 300])
@pytest.mark.parametrize("shift", [None, 1e-30, 0.2, 1.0, 20.0, 1e7, 1e30])
@pytest.mark.parametrize("terminal", [0.1, None])
def test_any_schedule_reaches_a_known_end(steps, shift, terminal):
    """A velocity that always points from the noise to one clip brings the steps to that clip exactly."""
    generator = torch.Generator().manual_seed(0)
    start, clip = torch.randn(2, 30, 8, generator=generator)
    schedule = make_schedule(steps, 4992, shift=shift, terminal=terminal)
    assert len(schedule) == steps and schedule.sigmas.shape == (steps + 1,)
    assert schedule.sigmas[0] == 1 and schedule.sigmas[-1] == 0
    assert torch.isfinite(schedule.sigmas).all() and bool((schedule.sigmas.diff() <= 0).all())
    made = denoise(start, schedule, lambda latents, time: start - clip)
    assert (made - clip).abs().max() < 5e-5


def test_the_loop_tells_the_model_the_level_itself():
    told, schedule = [], make_schedule(3, 384)

    def predict(latents: torch.Tensor, timestep: float) -> torch.Tensor:
        told.append(timestep)
        return torch.zeros_like(latents)

    denoise(torch.zeros(4, 8), schedule, predict)
    assert told == schedule.timesteps.tolist() and told[0] == 1.0 and told[-1] == pytest.approx(0.1)


def test_steps_are_float32_and_leave_their_inputs_alone():
    schedule, sample = make_schedule(4, 384), torch.ones(4, 8)
    made = schedule.step(torch.ones(4, 8, dtype=torch.bfloat16), 1, sample.bfloat16())
    assert made.dtype == torch.float32
    assert torch.allclose(made, 1 - (schedule.sigmas[1] - schedule.sigmas[2]) * sample)
    assert torch.equal(sample, torch.ones(4, 8))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"steps": 0}, "--steps 0 is not possible: give 1 or more"),
        ({"steps": -3}, "--steps -3 is not possible"),
        ({"shift": 0.0}, "--shift 0.0 is not possible: give a positive number"),
        ({"shift": -1.0}, "--shift -1.0 is not possible"),
        ({"shift": float("nan")}, "--shift nan is not possible"),
        ({"shift": float("inf")}, "--shift inf is not possible"),
    ],
)
def test_schedules_that_cannot_be_made(arguments, said):
    with pytest.raises(InputError, match=said):
        make_schedule(**{"steps": 5, "tokens": 100, **arguments})


@pytest.mark.parametrize("terminal", [1.0, -0.1, float("nan")])
def test_a_terminal_that_makes_no_sense(terminal):
    with pytest.raises(CheckpointError, match=f"target_shift_terminal {terminal} .* does not lie in 0..1"):
        make_schedule(5, 100, terminal=terminal)


def test_the_module_does_not_load_diffusers():
    code = "import sys, vace.models.ltx.schedule; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
