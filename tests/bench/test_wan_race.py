"""The race at toy size: everything that was asked for is measured, on cold caches, and refused flags say why."""

from __future__ import annotations

import os

import pytest
import torch

from vace.bench import wan_race
from vace.errors import DeviceError, InputError

TOY = dict(ckpt="tiny", size="64x48", frames=5, steps=2, text_steps=(2, 1), device="cpu")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result():
    return wan_race.run(**TOY, samples=3)


def test_everything_is_measured(result):
    assert result["model"] == "vace-tiny" and result["clock"] == "process"
    assert (result["size"], result["frames"], result["steps"], result["refs"]) == ([64, 48], 5, 2, 2)
    assert result["tokens"] == 4 * 12 and result["text_only_tokens"] == 2 * 12
    for side in ("ours", "diffusers"):
        run = result["run"][side]
        assert min(run[key] for key in ("text", "encode", "denoise", "decode", "step", "end_to_end")) > 0
        assert min(run["tflops"], run["step_tflops"], run["floor_percent"], run["step_floor_percent"]) > 0
        assert len(run["runs"]) == 3 and len(result["forward"]["pairs"][side]) == 3
    assert result["load"] > 0 and result["floor"]["step"] > 0
    assert result["forward_ratio"] > 0 and result["run_ratio"] > 0
    assert result["floor"]["source"].startswith("products of 1024x1024")


def test_the_shortest_runs_of_words_alone_go_as_often_as_the_others(result):
    assert list(result["text_only"]) == ["1", "2"] == list(result["text_only_speedup"])
    assert [len(both["ours"]["runs"]) for both in result["text_only"].values()] == [3, 1]


def test_both_sides_do_the_same(result):
    assert result["difference"]["latents"] < 1e-3
    assert result["difference"]["forward"] < 1e-4


def test_a_difference_is_told(caplog, monkeypatch):
    monkeypatch.setitem(wan_race.FAR, "float32", 0.0)
    with caplog.at_level("WARNING", logger="vace"):
        wan_race.run(**TOY | {"text_steps": (), "steps": 1}, samples=1)
    assert "do not do the same" in caplog.text


def test_ours_alone():
    result = wan_race.run(**TOY | {"text_steps": (1,), "steps": 1}, samples=1, peer=None)
    assert list(result["run"]) == ["ours"] and "run_ratio" not in result
    assert result["difference"] == {"latents": None, "forward": None}
    assert "| end to end, s |" in wan_race.render(result)


@pytest.mark.parametrize("before", [None, "off", "/somewhere"])
def test_the_users_cache_is_off_for_the_time_alone(monkeypatch, before):
    monkeypatch.delenv("VACE_CACHE", raising=False)
    if before is not None:
        monkeypatch.setenv("VACE_CACHE", before)
    with wan_race._no_kept_texts():
        assert os.environ["VACE_CACHE"] == "off"
    assert os.environ.get("VACE_CACHE") == before


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"samples": 0}, "--samples 0: give 1 or more"),
        ({"steps": 0}, "--steps 0: give 1 or more"),
        ({"frames": 0}, "--frames 0: give 1 or more"),
        ({"frames": 16}, r"--frames 16: Wan makes 4n\+1 frames; give 17"),
        ({"text_steps": (4, 0)}, "--text_steps 0: give numbers of 1 or more"),
        ({"seed": -1}, "--seed -1: give 0 or more"),
        ({"peer": "difusers"}, "--vs difusers: unknown; did you mean 'diffusers'"),
        ({"size": "65x48"}, "65"),
    ],
)
def test_flags_that_make_no_sense(given, told):
    with pytest.raises(InputError, match=told):
        wan_race.run(**{**TOY, **given})


def test_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="--model_name vace-1.3B: torch sees no CUDA device"):
        wan_race.run("vace-1.3B", has_random_weights=True)
    with pytest.raises(DeviceError, match="cuda:99"):
        wan_race.run(**TOY | {"device": "cuda:99"})
