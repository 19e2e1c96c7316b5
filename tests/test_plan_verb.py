"""`vace plan`: a line per stage, the plan, JSON at the end; nothing is run."""

from __future__ import annotations

import json

import pytest

from vace import plan_verb
from vace.errors import InputError, MissingWeights


@pytest.mark.parametrize(
    ("memory", "plan"), [("max", "device"), ("100 GB", "device"), ("int8+offload", "int8+offload"), ("auto", "device")]
)
def test_the_toy_is_planned(memory, plan):
    lines = plan_verb.plan(memory=memory, ckpt_dir="tiny", device="cpu").splitlines()
    answer = json.loads(lines[-1])
    assert [line.split()[0] for line in lines[:4]] == ["text", "encode", "denoise", "decode"]
    assert lines[4].startswith(f"plan '{plan}': ") and answer["plan"] == plan
    assert answer["peak"] == max(answer["stages"].values()) == answer["plans"][plan]
    assert sum("<- most" in line for line in lines) >= 1
    assert ("differs" in lines[4]) == (not answer["exact"])


def test_what_cannot_be_planned_is_told():
    with pytest.raises(InputError, match="--memory lots"):
        plan_verb.plan(memory="lots")
    with pytest.raises(InputError, match="wan alone"):
        plan_verb.plan(base="ltx", ckpt_dir="tiny", device="cpu")


def test_a_published_model_that_is_not_here_is_planned_by_its_sizes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    text = plan_verb.plan(model_name="vace-14B", memory="24 GB", device="cpu", dtype="bfloat16", size="480p")
    answer = json.loads(text.splitlines()[-1])
    assert answer["plan"] == "offload" and answer["peak"] < 24e9 < answer["plans"]["tiled"]
    with pytest.raises(MissingWeights):
        plan_verb.plan(ckpt_dir=str(tmp_path / "nowhere"))
