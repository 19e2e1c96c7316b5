"""`vace bench`: each benchmark gets its flags and no other's; results go where they should."""

from __future__ import annotations

import json

import pytest
import torch

from vace.bench import verb
from vace.errors import InputError

RACE = ("--ckpt_dir", "tiny", "--vs", "diffusers", "--size", "64x48", "--frames", "5", "--steps", "1", "--samples", "1",
        "--text_steps", "1", "--device", "cpu")  # fmt: skip


class Stub:
    """Stands for a benchmark; notes how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def run(self, *given, **more):
        self.calls.append((given, more))
        return {"model": "mid", "value": 1}

    def render(self, result):
        return f"| {result['value']} |"


@pytest.fixture
def stub(monkeypatch):
    made = Stub()
    for name in ("wan", "wan_race", "ltx", "media", "annotators", "approximations"):
        module = __import__(f"vace.bench.{name}", fromlist=["run"])
        monkeypatch.setattr(module, "run", made.run)
        monkeypatch.setattr(module, "render", made.render)
    return made


@pytest.mark.slow
def test_whole_runs_from_the_command_line(vace, tmp_path):
    outcome = vace("bench", "wan", *RACE, "--json", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    result = outcome.json
    assert {"forward_ratio", "run_ratio", "text_only_speedup"} <= result.keys()
    assert json.loads((tmp_path / "out" / "wan-vace-tiny.json").read_text()) == result
    assert (tmp_path / "out" / "wan-vace-tiny.md").read_text().startswith("Wan-VACE `vace-tiny`")


def test_a_full_model_without_a_gpu_is_told_in_a_line(vace, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = vace(
        "bench", "wan", "--model_name", "vace-14B", "--size", "480p", "--random_weights", "--vs", "diffusers"
    )
    assert outcome.code == 2 and "no CUDA device" in outcome.err and "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("given", "name", "drawn"),
    [
        (("--model_name", "mid"), "mid", False),
        (("--model_name", "mid", "--random_weights", "--json"), "mid", True),
        (("--random_weights", "vace-1.3B", "--vs", "diffusers"), "vace-1.3B", True),
        (("--vs", "diffusers"), None, False),
    ],
)
def test_models_of_whole_runs(vace, stub, given, name, drawn):
    assert vace("bench", "wan", *given).code == 0
    (((found, ckpt), more),) = stub.calls
    assert (found, ckpt, more["has_random_weights"]) == (name, None, drawn)
    assert more["peer"] == ("diffusers" if "--vs" in given else None)
    assert (more["device"], more["seed"]) == ("auto", 0) and "size" not in more


def test_flags_of_whole_runs(vace, stub):
    given = ("--size", "480p", "--steps", "3", "--text-steps", "4,8", "--samples", "2", "--seed", "7", "--frames", "9")
    assert vace("bench", "wan", "--vs", "diffusers", *given).code == 0
    more = stub.calls[0][1]
    assert (more["size"], more["steps"], more["samples"], more["seed"], more["frames"]) == ("480p", 3, 2, 7, 9)
    assert more["text_steps"] == (4, 8)


def test_the_other_benchmarks_are_called_as_before(stub, tmp_path):
    flags = {"ckpt_dir": None, "random_weights": None, "device": "auto", "long_frames": 3000, "frames": None}
    assert verb.bench("wan", **flags) == "| 1 |"
    verb.bench("ltx", **flags)
    verb.bench("ltx", **flags | {"random_weights": "full", "frames": 9})
    verb.bench("media", **flags)
    verb.bench("annotators", **flags, out=str(tmp_path), json=True)
    assert stub.calls == [
        (("tiny",), {"frames": 17, "device": "cpu"}),
        ((None, "mid"), {"frames": None, "device": "auto"}),
        ((None, "full"), {"frames": 9, "device": "auto"}),
        ((), {"frames": 300, "long_frames": 3000}),
        ((), {"frames": None}),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotators.json", "annotators.md"]


@pytest.mark.parametrize(
    ("what", "given", "told"),
    [
        ("media", {"vs": "diffusers"}, "--vs: for whole runs of `vace bench wan`; leave it out"),
        ("wan", {"size": "480p"}, "--size: for whole runs of `vace bench wan`; add --vs"),
        ("wan", {"random_weights": True}, "--random_weights: for whole runs"),
        ("wan", {"vs": "diffusers", "text_steps": "4;20"}, "--text_steps 4;20: give whole numbers"),
        ("wan", {"model_name": "mid", "random_weights": "vace-14B"}, "--model_name says mid"),
    ],
)
def test_flags_that_make_no_sense_together(stub, what, given, told):
    with pytest.raises(InputError, match=told):
        verb.bench(what, **given)
    assert not stub.calls


def test_approximations_are_of_the_toy_unless_a_checkpoint_is_named(stub, vace, tmp_path):
    assert vace("bench", "approximations", "--out", tmp_path).code == 0
    assert vace("bench", "approximations", "--ckpt_dir", "mine", "--device", "cpu").code == 0
    assert stub.calls == [(("tiny",), {"device": "auto"}), (("mine",), {"device": "cpu"})]
    assert (tmp_path / "approximations.md").is_file()
