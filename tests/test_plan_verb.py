"""`vace plan`: a line per stage, the plan, JSON at the end; nothing is run."""

from __future__ import annotations

import json

import pytest

from vace import plan_verb
from vace.errors import InputError


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
