"""Models that are changed as they are read: LoRAs fused, weights rounded, few-step samplers; from the flags on."""

from __future__ import annotations

import importlib.util
import logging

import pytest
import torch
from media_io import frames_of
from safetensors.torch import save_file

from vace.errors import CheckpointError, InputError, MissingDependency
from vace.generate import generate
from vace.job import prepare_job

TINY = {"ckpt_dir": "tiny", "size": "64x64", "frame_num": 5, "steps": 2, "progress": False, "device": "cpu"}
LAYERS = ("blocks.0.attn1.to_q", "vace_blocks.1.ffn.net.2")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lora(tmp_path):
    """A LoRA of rank 2 for one main and one context layer of the embedded model."""
    shapes = prepare_job("a star", **TINY).checked[0]["transformer"].weights.shapes
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in LAYERS:
        rows, columns = shapes[f"{layer}.weight"]
        tensors[f"transformer.{layer}.lora_A.weight"] = torch.randn(2, columns, generator=generator) * 0.3
        tensors[f"transformer.{layer}.lora_B.weight"] = torch.randn(rows, 2, generator=generator) * 0.3
    save_file(tensors, tmp_path / "own.safetensors")
    return tmp_path / "own.safetensors"


def made(**given):
    return generate("a large red star moves left over grass", **{**TINY, **given})


def test_a_lora_changes_the_video_and_stands_in_the_manifest(lora, caplog):
    with caplog.at_level(logging.INFO, "vace"):
        plain, changed, off = made(), made(lora=f"{lora}=0.8"), made(lora=f"{lora}=0")
    assert "own.safetensors at 0.8: 2 weights" in caplog.text
    videos = [frames_of(one.out_videos[0]) for one in (plain, changed, off)]
    assert (videos[0] == videos[2]).all() and (videos[0] != videos[1]).any()
    prints = [one.manifest["model"]["fingerprint"] for one in (plain, changed, off)]
    assert prints[0] == prints[2] != prints[1]
    assert changed.manifest["parameters"]["lora"] == f"{lora}=0.8"
    again = generate(**{**changed.manifest["parameters"], "progress": False})
    assert (frames_of(again.out_videos[0]) == videos[1]).all()


def test_a_lora_that_fits_nothing_is_told_before_anything_is_made(tmp_path):
    halves = {"lora_A": torch.zeros(2, 5120), "lora_B": torch.zeros(5120, 2)}
    save_file({f"transformer.blocks.0.attn1.to_q.{half}.weight": value for half, value in halves.items()},
              tmp_path / "big.safetensors")  # fmt: skip
    with pytest.raises((InputError, CheckpointError), match="5120"):
        made(lora=str(tmp_path / "big.safetensors"))
    assert not (tmp_path / "results").exists()


def test_turbo_takes_four_steps_and_asks_for_its_lora(caplog, lora):
    given = {name: value for name, value in TINY.items() if name != "steps"}
    with caplog.at_level(logging.INFO, "vace"):
        one = generate("a star", preset="turbo", **given)
        assert "name its LoRA with --lora" in caplog.text
        caplog.clear()
        generate("a star", preset="turbo", lora=str(lora), **given)
        assert "name its LoRA" not in caplog.text
    used = one.manifest["used"]
    assert (used["steps"], used["shift"], used["guidance_scale"], used["sampler"]) == (4, 5.0, 1.0, "lcm")
    assert "preset turbo: steps 4, shift 5, guidance_scale 1, sampler lcm" in caplog.text


@pytest.mark.parametrize("sampler", ["lcm", "euler"])
def test_few_step_samplers_repeat_themselves(sampler):
    videos = [frames_of(made(sampler=sampler, seed=seed).out_videos[0]) for seed in (1, 1, 2)]
    assert (videos[0] == videos[1]).all() and (videos[0] != videos[2]).any()


@pytest.mark.skipif(importlib.util.find_spec("torchao") is not None, reason="torchao is installed")
def test_rounding_without_torchao_names_what_to_install():
    with pytest.raises(MissingDependency, match="quant"):
        made(quantize="int8")


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
def test_rounded_weights_change_the_video_a_little():
    plain, rounded = (frames_of(made(**given).out_videos[0]).astype(int) for given in ({}, {"quantize": "int8"}))
    assert 0 < abs(plain - rounded).mean() < 8


@pytest.mark.parametrize(
    ("given", "is_same"),
    [({"context_end": 0.5}, False), ({"guidance_interval": "0,0.5"}, False), ({"guidance_interval": "0,1"}, True),
     ({"step_cache": 0.0}, True), ({"step_cache": 1.0}, False), ({"attention": "sdpa"}, True)],
)  # fmt: skip
def test_what_speeds_a_run_up_is_off_unless_asked_for(given, is_same, caplog):
    shown = {"steps": 6, "guidance_scale": 3.0}
    with caplog.at_level(logging.INFO, "vace"):
        plain, other = made(**shown), made(**shown, **given)
    first, second = (frames_of(one.out_videos[0]) for one in (plain, other))
    assert (first == second).all() == is_same
    name, value = next(iter(given.items()))
    assert other.manifest["parameters"][name] == ([0.0, float(value[2:])] if name == "guidance_interval" else value)
    if value == 1.0:
        assert "step cache" in caplog.text


@pytest.mark.parametrize(
    ("flag", "value", "match"),
    [("context_end", 2, "0 to 1"), ("guidance_interval", "0.8,0.2", "LOW,HIGH"), ("step_cache", -1, "0 to 1"),
     ("attention", "fast", "unknown"), ("sampler", "fast", "unknown")],
)  # fmt: skip
def test_wrong_values_name_their_flag(flag, value, match):
    with pytest.raises(InputError, match=f"--{flag}.*{match}"):
        made(**{flag: value})
