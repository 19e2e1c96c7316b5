"""`--memory` from the flag on: the plan is told, kept to, and gives the result of the plain run where it is exact."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from media_io import frames_of

from vace import generate as verb
from vace.cli import main
from vace.errors import DeviceError, InputError, MissingDependency
from vace.generate import generate
from vace.models.wan.engine import WanEngine
from vace.speed.memory_plans import PLANS

TINY = {"ckpt_dir": "tiny", "size": "96x64", "frame_num": 9, "steps": 2, "progress": False, "device": "cpu"}
PROMPT = "a large red star moves left over grass"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return frames_of(generate(PROMPT, **TINY, save_dir=tmp_path_factory.mktemp("plain")).out_videos[0])


@pytest.mark.parametrize("memory", ["max", "evict", "tiled", "offload", "100 GB"])
def test_every_plan_makes_the_video(memory, plain, caplog):
    with caplog.at_level(logging.INFO, "vace"):
        made = generate(PROMPT, **TINY, memory=memory, num_videos=2)
    frames = frames_of(made.out_videos[0])
    plan = PLANS.get(memory, PLANS["device"])
    assert (f"plan '{plan.name}'" in caplog.text) == (plan.name != "device")
    assert made.manifest["parameters"]["memory"] == memory
    if plan.is_exact:
        assert (frames == plain).all()
    assert np.abs(frames.astype(int) - plain).mean() < 1  # tiles: these frames fit one
    assert (frames != frames_of(made.out_videos[1])).any()


def test_rounded_plans_ask_for_what_rounds():
    try:
        import torchao  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependency, match="quant"):
            generate(PROMPT, **TINY, memory="int8")
    else:
        assert generate(PROMPT, **TINY, memory="int8+offload").out_videos


@pytest.mark.parametrize("stage", ["encode_context", "denoise", "decode_chunks"])
def test_out_of_memory_is_tried_once_more_with_the_next_plan(stage, plain, monkeypatch, caplog):
    whole, calls = getattr(WanEngine, stage), []

    def failing(self, *args, **given):
        calls.append(self._plan.name)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("no room")
        return whole(self, *args, **given)

    monkeypatch.setattr(WanEngine, stage, failing)
    made = generate(PROMPT, **TINY, memory="device")
    assert calls == ["device", "evict"]
    assert "out of memory under the plan 'device'" in caplog.text and "plan 'evict'" in caplog.text
    assert (frames_of(made.out_videos[0]) == plain).all()


def test_a_second_failure_is_told(monkeypatch):
    def failing(self, *args, **given):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(WanEngine, "denoise", failing)
    with pytest.raises(torch.OutOfMemoryError):
        generate(PROMPT, **TINY, memory="tiled")


@pytest.mark.parametrize(
    ("given", "kind", "match"),
    [({"memory": "lots"}, InputError, "--memory lots"), ({"memory": "0.001 GB"}, DeviceError, "no plan fits"),
     ({"memory": "evict", "t5_cpu": True}, InputError, "leave --t5_cpu out")],
)  # fmt: skip
def test_what_cannot_be_done_is_told_before_anything_is_made(given, kind, match, tmp_path):
    with pytest.raises(kind, match=match):
        generate(PROMPT, **TINY, **given)
    assert not list(tmp_path.rglob("*.mp4"))


def test_the_command_plans_and_runs_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "generate", None)
    assert main(["plan", "--ckpt_dir", "tiny", "--size", "96x64", "--memory", "evict", "--refs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["plan"] == "evict" and "plan 'evict'" in lines[-2]
    assert not list(tmp_path.iterdir())
