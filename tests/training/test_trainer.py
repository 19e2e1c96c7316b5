"""The trainer learns, goes on exactly where it was, saves when it is stopped, and writes what the engine loads."""

from __future__ import annotations

import functools
import json
import os
import signal

import numpy as np
import pytest
import torch

from vace.errors import CheckpointError, InputError
from vace.models.wan import vae as engine_vae
from vace.training import vae_stage
from vace.training.data import ahead, clips, held_out_clips
from vace.training.trainer import Plan, train
from vace.training.vae_stage import Span, VaeStage, weights_of

SMALL = {"base_dim": 4, "dim_mult": [1, 2, 2, 2]}
SCHEDULE = (Span(2, 1, 2, 2e-3), Span(4, 5, 1, 2e-3))
PLAN = Plan(workers=0, log_steps=1, sheet_steps=100)


class SmallStage(VaeStage):
    """Few and small clips; stop_at: the step whose batch comes with a Ctrl-C."""

    def __init__(self, stop_at: int = -1, schedule=SCHEDULE):
        super().__init__(schedule, SMALL)
        self.stop_at = stop_at

    def batch(self, step):
        if step == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        span = self.span(step)
        return clips(self.seed, step, span.batch, span.frames, (32, 32))


@pytest.fixture(autouse=True)
def few_clips(monkeypatch):
    monkeypatch.setattr(vae_stage, "_judged", lambda: held_out_clips(1, 9, (32, 32)))
    monkeypatch.setattr(vae_stage, "MEASURED", 1)


def state_of(folder):
    return torch.load(folder / "state.pt", weights_only=True)


def assert_same(first, second):
    for part in ("weights", "average"):
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), name
    assert first["step"] == second["step"]


def test_steps_lower_the_loss_of_a_fixed_batch():
    stage = VaeStage((Span(40, 5, 1, 4e-3),), SMALL)
    model, batch = stage.model(0), clips(0, 0, 2, 5, (32, 32))
    optimiser = torch.optim.AdamW(model.parameters(), 4e-3)
    losses = []
    for step in range(15):
        loss, figures = stage.loss(model, batch, torch.Generator().manual_seed(step))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.75 * losses[0]
    assert figures["psnr"] > 10


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    train(SmallStage(), tmp_path / "whole", PLAN)
    train(SmallStage(), tmp_path / "parts", PLAN, until=1)
    progress = train(SmallStage(), tmp_path / "parts", PLAN, resume=True)
    assert progress.step == 4
    assert_same(state_of(tmp_path / "whole"), state_of(tmp_path / "parts"))


def test_ctrl_c_saves_and_ends_and_the_run_goes_on(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    train(SmallStage(), tmp_path / "whole", PLAN)
    progress = train(SmallStage(stop_at=1), tmp_path / "cut", PLAN)
    assert progress.step == state_of(tmp_path / "cut")["step"] == 2
    assert signal.getsignal(signal.SIGINT) is before
    train(SmallStage(), tmp_path / "cut", PLAN, resume=True)
    assert_same(state_of(tmp_path / "whole"), state_of(tmp_path / "cut"))


@pytest.mark.slow
def test_batches_made_in_another_process_are_the_same():
    make = functools.partial(VaeStage((Span(9, 1, 1, 1e-3),)).batch)
    for step, batch in ahead(make, range(3, 5), workers=1):
        assert np.array_equal(batch, make(step))


def test_a_run_starts_from_written_weights_alone(tmp_path):
    train(SmallStage(), tmp_path / "first", PLAN, until=1)
    weights = weights_of(tmp_path / "first" / "best" / "vae")
    progress = train(SmallStage(), tmp_path / "second", PLAN, weights=weights, from_step=2)
    assert progress.step == 4
    lines = [json.loads(line) for line in (tmp_path / "second" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [3, 4]
    with pytest.raises(CheckpointError, match="of this model's sizes"):
        train(VaeStage(SCHEDULE, {"base_dim": 6}), tmp_path / "third", PLAN, weights=weights)


def test_an_existing_state_is_neither_lost_nor_invented(tmp_path):
    with pytest.raises(InputError, match="no state.pt"):
        train(SmallStage(), tmp_path, PLAN, resume=True)
    train(SmallStage(), tmp_path, PLAN, until=1)
    with pytest.raises(InputError, match="resume it"):
        train(SmallStage(), tmp_path, PLAN)


def test_the_written_folder_loads_in_the_engine(tmp_path, root):
    import shutil

    from vace.models.checkpoints import open_checkpoint
    from vace.models.loading import build
    from vace.models.parts import read_part

    train(SmallStage(), tmp_path / "run", PLAN, until=1)
    shutil.copytree(root / "assets" / "models" / "vace-tiny", tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "vae")
    shutil.copytree(tmp_path / "run" / "best" / "vae", tmp_path / "model" / "vae")
    vae = build(read_part(open_checkpoint(tmp_path / "model"), "vae"), torch.float32)
    frames = held_out_clips(1, 9, (32, 32))[0]
    latents = engine_vae.encode(vae, [vae_stage.to_video(frames[None], "cpu")[0]])[0]
    assert latents.shape == (16, 3, 4, 4)
    assert 0.2 < float(latents.std()) < 5  # normalised by the written statistics
    assert engine_vae.decode(vae, latents).shape == (3, 9, 32, 32)


def test_the_log_and_the_sheet_tell_how_it_goes(tmp_path):
    train(SmallStage(), tmp_path, Plan(workers=0, log_steps=1, sheet_steps=2), until=2)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"step", "minutes", "rate", "loss", "psnr", "kl"} <= set(lines[0])
    assert {"clip_psnr", "frame_psnr", "noisy_psnr", "std_least"} <= set(lines[-1])
    assert (tmp_path / "sheet-000002.png").is_file()


def test_clips_depend_on_seed_and_step_alone():
    first = clips(0, 3, 3, 5, (48, 32))
    assert first.shape == (3, 5, 32, 48, 3) and first.dtype == np.uint8
    assert np.array_equal(first, clips(0, 3, 3, 5, (48, 32)))
    assert not np.array_equal(first, clips(0, 4, 3, 5, (48, 32)))
    assert not np.array_equal(first, clips(1, 3, 3, 5, (48, 32)))
    assert clips(0, 0, 5, 1, (32, 32)).shape == (5, 1, 32, 32, 3)


def test_halves_give_the_gradients_of_the_whole():
    from torch import nn

    from vace.training.halves import Halves

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    batch = {"x": np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)}

    def loss(model, batch, noise):
        errors = model(torch.from_numpy(batch["x"])).square()
        return errors.mean(), {"most": float(errors.detach().max())}

    value, _ = loss(model, batch, None)
    value.backward()
    wanted = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    halves = Halves(model)
    for _ in range(2):  # the twin's gradients do not stay
        found, figures = halves.backward(loss, batch, 7)
        assert torch.allclose(found, value) and set(figures) == {"most"}
        assert all(torch.allclose(w.grad, g, atol=1e-6) for w, g in zip(model.parameters(), wanted, strict=True))
        model.zero_grad()
    with torch.no_grad():
        model[0].weight.add_(1)  # as an optimiser does
    assert torch.equal(halves.models[1][0].weight, model[0].weight)
