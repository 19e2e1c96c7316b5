import subprocess
import sys

import pytest
import torch
from goldens_io import equal_within, model_document, model_tensors

from vace.errors import InputError
from vace.models.samplers import make_sampler


def golden_velocity(sample, timestep):
    """The velocity that stands in for the model in the scheduler goldens (their JSON: `fake_model`)."""
    return 0.3 * sample + torch.sin(3.0 * timestep.float() / 1000) - 0.2 * torch.tanh(2 * sample)


def run(sampler, sample, velocity=golden_velocity):
    for index, timestep in enumerate(sampler.timesteps):
        sample = sampler.step(velocity(sample, timestep), index, sample)
    return sample


def noise(shape=(16, 3, 4, 6), seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parity
def test_schedules_and_trajectories():
    tensors, compared = model_tensors("wan", "schedulers"), 0
    for case in model_document("wan", "schedulers")["cases"]:
        name = case["name"]
        sampler = make_sampler(case["solver"], case["steps"], case["shift"])
        assert equal_within("samplers, timesteps", sampler.timesteps, tensors[f"{name}.timesteps"]), name
        assert sampler.timesteps.dtype == torch.int64
        assert equal_within("samplers, sigmas", sampler.sigmas, tensors[f"{name}.sigmas"], 1e-6), name
        if f"{name}.traj" not in tensors:
            continue
        sample = tensors["x_init"]
        for index, timestep in enumerate(sampler.timesteps):
            sample = sampler.step(golden_velocity(sample, timestep), index, sample)
            assert equal_within("samplers, trajectories", sample[0], tensors[f"{name}.traj"][index], 1e-5), (
                name,
                index,
            )
        compared += 1
    assert compared > 0


@pytest.mark.parity
def test_the_steps_of_whole_pipelines():
    tensors, compared = model_tensors("wan", "pipeline_e2e"), 0
    for case in model_document("wan", "pipeline_e2e")["cases"]:
        name, guidance = case["name"], case["guide_scale"]
        if f"{name}.timesteps" not in tensors:
            continue
        sampler = make_sampler(case["solver"], case["steps"], case["shift"])
        assert torch.equal(sampler.timesteps, tensors[f"{name}.timesteps"]), name
        compared += 1
        if not all(f"{name}.{part}" in tensors for part in ("latents_in", "v_cond", "v_uncond", "latent_final")):
            continue
        latents = [*tensors[f"{name}.latents_in"], tensors[f"{name}.latent_final"]]
        velocities = tensors[f"{name}.v_uncond"] + guidance * (tensors[f"{name}.v_cond"] - tensors[f"{name}.v_uncond"])
        for index, velocity in enumerate(velocities):
            made = sampler.step(velocity, index, latents[index])
            assert (made - latents[index + 1]).abs().max() <= 1e-5, (name, index)
    assert compared > 0


@pytest.mark.parametrize("name", ["unipc", "dpm++"])
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
@pytest.mark.parametrize("shift", [1e-30, 1e-6, 0.3, 1.0, 16.0, 1e5, 1e7, 3e7, 1e9, 1e30])
def test_any_steps_and_shift_reach_a_known_end(name, steps, shift):
    """A velocity that always points from the noise to one clip brings the sampler to that clip exactly."""
    start, clip = noise(seed=0), noise(seed=1)
    sampler = make_sampler(name, steps, shift)
    assert len(sampler) == steps and sampler.timesteps.shape == (steps,) and sampler.sigmas.shape == (steps + 1,)
    assert sampler.sigmas[-1] == 0 and bool((sampler.sigmas.diff() <= 0).all()) and sampler.sigmas.max() <= 1
    first = float(sampler.sigmas[0])
    made = run(sampler, (1 - first) * clip + first * start, lambda sample, timestep: start - clip)
    assert torch.isfinite(made).all()
    assert (made - clip).abs().max() < 5e-5


@pytest.mark.parametrize("name", ["unipc", "dpm++"])
def test_more_steps_than_whole_timesteps(name):
    sampler = make_sampler(name, 1200, 1.0)
    assert len(sampler.timesteps.unique()) < 1200
    made = run(sampler, noise())
    assert (made - run(make_sampler(name, 400, 1.0), noise())).abs().max() < 1e-2


@pytest.mark.parametrize("name", ["unipc", "dpm++"])
def test_the_literal_schedule(name):
    sampler = make_sampler(name, 4, 16.0)
    expected = {"unipc": [999, 979, 941, 841], "dpm++": [1000, 979, 941, 842]}[name]
    assert sampler.timesteps.tolist() == expected


@pytest.mark.parametrize("name", ["unipc", "dpm++"])
def test_arithmetic_is_float32_and_shape_free(name):
    start = noise()
    halved = run(make_sampler(name, 5, 5.0), start, lambda sample, step: golden_velocity(sample, step).bfloat16())
    assert halved.dtype == torch.float32
    single = run(make_sampler(name, 5, 5.0), start)
    batched = run(make_sampler(name, 5, 5.0), start.unsqueeze(0))
    assert torch.allclose(single, batched[0], atol=1e-6)


@pytest.mark.parametrize("name", ["unipc", "dpm++"])
def test_runs_do_not_share_state_and_inputs_are_not_changed(name):
    start = noise()
    first = run(make_sampler(name, 6, 16.0), start)
    half_done = make_sampler(name, 6, 16.0)
    half_done.step(noise(seed=3), 0, start)
    assert torch.equal(run(make_sampler(name, 6, 16.0), start), first)
    assert torch.equal(start, noise())


def test_steps_come_in_order():
    sampler = make_sampler("unipc", 3, 5.0)
    sampler.step(noise(), 0, noise())
    for index in (0, 2):
        with pytest.raises(ValueError, match="out of order"):
            sampler.step(noise(), index, noise())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("unpic", 10, 5.0), "--sample_solver 'unpic' is unknown: did you mean 'unipc'"),
        (("euler", 10, 5.0), "known: dpm\\+\\+, unipc"),
        (("unipc", 0, 5.0), "--sample_steps 0 is not possible"),
        (("dpm++", -2, 5.0), "--sample_steps -2 is not possible"),
        (("unipc", 10, 0.0), "--sample_shift 0.0 is not possible"),
        (("unipc", 10, -1.0), "--sample_shift -1.0 is not possible"),
        (("dpm++", 10, float("nan")), "--sample_shift nan is not possible"),
        (("dpm++", 10, float("inf")), "--sample_shift inf is not possible"),
    ],
)
def test_samplers_that_cannot_be_made(arguments, said):
    with pytest.raises(InputError, match=said):
        make_sampler(*arguments)


def test_the_module_does_not_load_diffusers():
    code = "import sys, vace.models.samplers; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["unipc", "dpm++"])
def test_cuda_agrees_with_the_cpu(name):
    on_cpu = run(make_sampler(name, 10, 16.0), noise())
    on_cuda = run(make_sampler(name, 10, 16.0), noise().cuda())
    assert on_cuda.is_cuda
    assert torch.allclose(on_cuda.cpu(), on_cpu, atol=1e-4)
