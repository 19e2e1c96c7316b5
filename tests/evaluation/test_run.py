"""The evaluation from end to end: with a model that always gives the truth, with one that ignores all, with the toy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vace.cli import main
from vace.errors import InputError
from vace.evaluation import evaluate, makers, run, work
from vace.training.rows import make_row

QUICK = {"per_task": 2, "seeds": 1, "fast": True, "progress": False, "ckpt_dir": "tiny"}


def elsewhere(row, noise: int) -> np.ndarray:
    """A clip of another world at the row's size: what a model that is told nothing makes."""
    height, width = row.target.shape[1:3]
    return make_row(noise + 1, split="held_out", task="txt2vid", size=(width, height)).target


@pytest.fixture
def model(monkeypatch):
    """Another model in the place of the checkpoint, a function of row and noise; and baselines that cost little."""

    class Fake:
        made = staticmethod(lambda row, noise: row.target)

        def __init__(self, job, device):
            pass

        def led(self, row, noise, **scales):
            if scales.get("context_scale") == 0:
                return elsewhere(row, noise)
            return Fake.made(row, noise)

        def unled(self, row, noise):
            return elsewhere(row, noise)

        def round_trip(self, row, noise=0):
            return row.target

    monkeypatch.setattr(work, "Maker", Fake)
    return Fake


TASKS = "txt2vid,gray,inpainting,clipref,reference"


def test_a_model_that_gives_the_truth_has_the_best_scores(model, tmp_path):
    found = evaluate(tasks=TASKS, out=tmp_path, **QUICK)
    scores = found.scores
    assert scores["kept_psnr"] == scores["vae_psnr"] == 60
    assert scores["prompt_color"] >= 0.8 and scores["reference_color"] >= 0.7
    measured = {task: value for task, value in scores["control"].items() if value is not None}
    assert measured == dict.fromkeys(("gray", "inpainting", "clipref"), 1.0)
    assert scores["control"]["depth"] is None


def test_a_model_that_ignores_what_it_is_given_has_none(model, tmp_path):
    model.made = staticmethod(elsewhere)
    scores = evaluate(tasks="gray,inpainting,clipref", out=tmp_path, **QUICK).scores
    assert scores["kept_psnr"] < 20
    assert {scores["control"][task] for task in ("gray", "inpainting", "clipref")} == {0.0}


def test_a_model_that_swaps_the_mask_misses_what_is_kept(model, tmp_path):
    def swapped(row, noise):
        return np.where(row.mask[0].numpy()[..., None] < 0.5, elsewhere(row, noise), row.target)

    model.made = staticmethod(swapped)
    found = evaluate(tasks="clipref", out=tmp_path, **QUICK)
    assert found.scores["kept_psnr"] < 20
    assert not found.record["reached"]["kept_psnr"]


def test_the_context_scale_is_swept(model, tmp_path, monkeypatch):
    monkeypatch.setattr(makers, "untrained_twin", lambda checkpoint: pytest.fail("real checkpoints have no such twin"))
    monkeypatch.setattr(run, "open_job", lambda flags: as_real(work.open_job(flags)))
    monkeypatch.setattr(run, "REAL_SIZES", ((64, 64),))
    found = evaluate(tasks="gray", out=tmp_path, **QUICK | {"fast": False})
    effect = found.record["effects"]["context_scale"]
    assert effect["values"] == [0.0, 0.5, 1.0] and effect["error"][0] > 0.5 and effect["error"][2] == 0
    assert effect["falls"]
    assert found.record["effects"]["guidance_scale"] is None


def as_real(job):
    from dataclasses import replace

    return replace(job, checkpoint=replace(job.checkpoint, is_toy=False))


def test_the_seed_draws_the_worlds(model, tmp_path):
    def prompts(seed: int, tasks: str) -> list[str]:
        seen = []
        model.made = staticmethod(lambda row, noise: seen.append(row.prompt) or row.target)
        evaluate(tasks=tasks, out=tmp_path / "out", seed=seed, **QUICK)
        return seen

    first = prompts(0, "gray")
    assert prompts(0, "plain,gray")[1:] == first  # other tasks beside it change nothing
    assert not set(prompts(1, "gray")) & set(first)
    assert len(set(first)) == 2


def test_files_are_written(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = evaluate(tasks="reference", **QUICK)
    assert found.folder.parent.as_posix() == "results/eval"
    assert sorted(path.name for path in found.folder.iterdir()) == ["scores.json", "sheet-reference.png", "table.md"]
    kept = json.loads((found.folder / "scores.json").read_text())
    assert kept["finished"] and kept["scores"] == found.scores and kept["table"]
    answer = found.as_json()
    assert list(answer)[0] == "scores" and "table" not in answer
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert found.table == (found.folder / "table.md").read_text()


def test_ctrl_c_keeps_what_is_measured(model, tmp_path):
    calls = []

    def made(row, noise):
        calls.append(row.task)
        if calls.count("gray") == 2:
            raise KeyboardInterrupt
        return row.target

    model.made = staticmethod(made)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tasks="txt2vid,gray", out=tmp_path / "out", **QUICK)
    kept = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert not kept["finished"] and kept["rows"] == {"txt2vid": 8, "gray": 1}
    assert kept["scores"]["prompt_color"] is not None
    assert "Interrupted" in (tmp_path / "out" / "table.md").read_text()
    assert not [path for path in (tmp_path / "out").iterdir() if "partial" in path.name]


def test_ctrl_c_before_anything_leaves_nothing(model, tmp_path):
    def made(row, noise):
        raise KeyboardInterrupt

    model.made = staticmethod(made)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tasks="gray", out=tmp_path / "out", **QUICK)
    assert not (tmp_path / "out").exists()


WRONG = [({"tasks": "grey"}, "gray"), ({"per_task": 0}, "--per_task"), ({"seeds": 0}, "--seeds")]


@pytest.mark.parametrize("wrong,word", [*WRONG, ({"size": "x"}, "--size")])
def test_wrong_flags_are_named(wrong, word, tmp_path):
    with pytest.raises(InputError, match=word):
        evaluate(out=tmp_path / "out", **QUICK | wrong)
    assert not (tmp_path / "out").exists()


def test_the_maker_of_the_toy_model(tmp_path):
    """What each output is: led by context or not, from the same noise, of the row's size; the same again each time."""
    import torch

    job = work.open_job({"ckpt_dir": "tiny", "steps": 1})
    maker = makers.Maker(job, torch.device("cpu"))
    row = make_row(3, split="held_out", task="swap", size=(48, 48), frames=9)
    led, again, unled = maker.led(row, 7), maker.led(row, 7), maker.unled(row, 7)
    assert led.dtype == np.uint8 and led.shape == unled.shape == row.target.shape == maker.round_trip(row).shape
    assert np.array_equal(led, again)
    assert not np.array_equal(led, unled)
    assert not np.array_equal(led, maker.led(row, 8))
    assert not np.array_equal(led, maker.led(row, 7, guidance_scale=9.0))


def test_the_round_trip_is_that_of_the_vae():
    import torch

    from vace.conditioning.pixels import to_model_space, to_pixels
    from vace.models.wan import vae

    maker = makers.Maker(work.open_job({"ckpt_dir": "tiny"}), torch.device("cpu"))
    row = make_row(3, split="held_out", task="gray", size=(48, 48), frames=9)
    with maker.engine._in_use("vae") as model:
        expected = to_pixels(vae.decode(model, vae.encode(model, [to_model_space(row.target)])[0]))
    assert np.abs(maker.round_trip(row).astype(int) - expected).max() <= 1


def test_what_was_given_as_an_output():
    row = make_row(3, split="held_out", task="reference", size=(48, 48), frames=9)
    shown = makers.as_given(row)
    assert shown.shape == row.target.shape and (shown == shown[0]).all()
    gray = make_row(3, split="held_out", task="gray", size=(48, 48), frames=9)
    assert np.ptp(makers.as_given(gray), axis=-1).max() == 0


def test_the_untrained_twin_is_of_the_same_sizes_and_another_model(tmp_path):
    job = work.open_job({"ckpt_dir": "tiny", "steps": 1})
    with makers.untrained_twin(job.checkpoint) as folder:
        plan = work.Plan({"ckpt_dir": "tiny", "steps": 1}, "cpu", folder)
        worker = work.Worker(plan)
        row = make_row(3, split="held_out", task="gray", size=(48, 48), frames=9)
        ours, twins = worker.maker.led(row, 7), worker.untrained.led(row, 7)
    assert ours.shape == twins.shape and not np.array_equal(ours, twins)
    assert worker.untrained.job.settings.steps == 1
    assert not folder.exists()


def test_the_command(tmp_path, capsys):
    arguments = ["--tasks", "frameref", "--fast", "--per_task", "1", "--steps", "1", "--ckpt_dir", "tiny"]
    assert main(["eval", *arguments, "--json", "--workers", "1", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    last = json.loads(printed.out)
    assert set(last["scores"]["control"]) >= {"gray", "clipref"} and last["model"]["toy"]
    assert "[1/1] frameref" in printed.err  # its line of progress
    assert main(["eval", "--tasks", "nothing"]) == 2


@pytest.mark.slow
def test_processes_share_the_rows(tmp_path):
    """Two give what one gives."""
    found = [
        evaluate(tasks="gray,frameref", out=tmp_path / str(count), steps=1, workers=count, **QUICK).record
        for count in (1, 2)
    ]
    assert found[0]["table"] == found[1]["table"] and found[0]["scores"] == found[1]["scores"]
    sheets = [(tmp_path / str(count) / "sheet-gray.png").read_bytes() for count in (1, 2)]
    assert sheets[0] == sheets[1]


def test_approximate_settings_are_taken_and_recorded(model, tmp_path):
    given = {"step_cache": 0.05, "guidance_interval": "0,0.8"}
    record = evaluate(tasks="gray", out=tmp_path, **QUICK, **given).record
    assert record["settings"]["step_cache"] == 0.05 and record["settings"]["guidance_interval"] == (0.0, 0.8)
    assert "context_end" not in record["settings"]
    with pytest.raises(InputError, match="step_cache"):
        evaluate(tasks="gray", out=tmp_path / "other", **QUICK, step_cache=7)
