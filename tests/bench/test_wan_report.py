"""Medians, ratios, floors and goals are worked out of the measurements as they say, and the table shows them."""

from __future__ import annotations

import json

import pytest

from vace.bench import floors, wan_report
from vace.bench.wan_models import find_model

RATES = floors.even_rates(1e12, "as given")


def taken(denoise: float, peak: int | None = 10**9) -> dict:
    return {"text": 1.0, "encode": 2.0, "denoise": denoise, "decode": 3.0, "end_to_end": denoise + 6.0, "peak": peak}


@pytest.fixture(scope="module")
def model():
    return find_model("mid", None, True, "meta")


@pytest.fixture
def measured():
    """Ours takes 40, 60, 50 s to denoise, diffusers 50, 60, 50; words alone 4 and 14 s."""
    return {
        "model": "mid", "weights": "random", "device_type": "cpu", "device": "cpu", "dtype": "float32",
        "vae_dtype": "float32", "threads": 1, "cores": 2, "clock": "process", "size": [320, 240], "frames": 17,
        "refs": 2, "guidance": 5.0, "shift": 16.0, "sampler": "unipc", "seed": 0, "text_tokens": [30, 300],
        "steps": 20, "load": 0.5, "difference": {"latents": 1e-6, "forward": 1e-6},
        "forward": {"ours": [1.0, 2.0, 3.0], "diffusers": [2.0, 2.0, 2.0]},
        "run": {"ours": [taken(40), taken(60), taken(50)], "diffusers": [taken(50), taken(60, 2 * 10**9), taken(50)]},
        "text_only": {4: {"ours": [taken(4)], "diffusers": [taken(14)]}},
    }  # fmt: skip


def test_numbers_asked_for_by_name(model, measured):
    result = wan_report.report(model, measured, RATES)
    assert result["forward_ratio"] == 1.0  # of 0.5, 1.0, 1.5
    assert result["run_ratio"] == 1.0  # of 46/56, 1, 1
    assert result["text_only_speedup"] == {"4": 2.0}
    assert result["forward"]["ours"] == 2.0 and result["forward"]["pairs"] == measured["forward"]
    assert (result["tokens"], result["text_only_tokens"]) == (2100, 1500)
    run = result["run"]["ours"]
    assert run["step"] == 2.5 and run["end_to_end"] == 56 and run["runs"] == [46, 66, 56]
    assert (run["peak_bytes"], result["run"]["diffusers"]["peak_bytes"]) == (10**9, 2 * 10**9)
    assert json.loads(json.dumps(result)) == result


def test_floor(model, measured):
    result = wan_report.report(model, measured, RATES)
    flops, floor, run = result["flops"], result["floor"], result["run"]["ours"]
    assert flops["run"] == 40 * flops["forward"] + flops["vae"] + flops["text"]
    assert floor["run"] == pytest.approx(flops["run"] / 1e12)
    assert floor["step"] == pytest.approx(2 * floor["forward"]) == pytest.approx(2 * flops["forward"] / 1e12)
    assert run["step_tflops"] == pytest.approx(2 * flops["forward"] / 1e12 / 2.5)
    assert run["tflops"] == pytest.approx(flops["run"] / 1e12 / 56)
    assert run["floor_percent"] == pytest.approx(100 * floor["run"] / 56)
    assert run["step_floor_percent"] == pytest.approx(100 * floor["step"] / 2.5)


def test_without_guidance_a_step_is_one_forward(model, measured):
    result = wan_report.report(model, measured | {"guidance": 1.0}, RATES)
    assert result["floor"]["step"] == result["floor"]["forward"]


def test_goals(model, measured):
    goals = {goal["what"]: goal["is_met"] for goal in wan_report.report(model, measured, RATES)["goals"]}
    assert goals == {"forward_ratio": True, "run_ratio": True, "text_only_speedup.4": True}
    slow = measured | {"forward": {"ours": [3.0], "diffusers": [2.0]}}
    first = wan_report.report(model, slow, RATES)["goals"][0]
    assert (first["value"], first["bar"], first["is_met"]) == (1.5, "<= 1.02", False)
    published = measured | {"model": "vace-1.3B", "device_type": "cuda"}
    (goal,) = wan_report.report(model, published, RATES)["goals"]
    assert (goal["what"], goal["bar"], goal["is_met"]) == ("run_speedup", ">= 1.4", False)
    assert wan_report.report(model, measured | {"model": "vace-tiny"}, RATES)["goals"] == []


def test_table(model, measured):
    text = wan_report.render(wan_report.report(model, measured, RATES))
    lines = text.splitlines()
    assert lines[0].startswith("Wan-VACE `mid` (weights: random), cpu float32 (VAE float32), 1 of 2 threads: 320x240")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "| end to end, s | 56 | 56 | 1.000 |" in lines
    assert "| a step, s | 2.5 | 2.5 | 1.000 |" in lines
    assert "| peak memory, GB | 1.00 | 2.00 |  |" in lines
    assert "| words alone, 4 steps, s | 10 | 20 | 0.500 |" in lines
    assert "2.00 at 4 steps" in text and "forward_ratio 1.000, wanted <= 1.02: met." in lines


def test_ours_alone(model, measured):
    alone = measured | {
        "forward": {"ours": [1.0]}, "run": {"ours": [taken(40, None)]}, "text_only": {},
        "difference": {"latents": None, "forward": None},
    }  # fmt: skip
    result = wan_report.report(model, alone, RATES)
    assert "forward_ratio" not in result and result["goals"] == []
    assert result["run"]["ours"]["peak_bytes"] is None
    lines = wan_report.render(result).splitlines()
    assert "| end to end, s | 46 |" in lines and "| peak memory, GB | - |" in lines
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
