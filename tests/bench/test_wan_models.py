"""Models to race are found by name, drawn at the published sizes, and refused with a line that says what to do."""

from __future__ import annotations

import math

import pytest
import torch

from vace.bench.wan_models import MID, check_device, find_model
from vace.errors import DeviceError, InputError, MissingWeights
from vace.models.loading import check_parts
from vace.models.wan.cost import token_count


def numbers(part) -> int:
    return sum(math.prod(shape) for shape in part.weights.shapes.values())


@pytest.mark.parametrize("asked", [(None, None, False), (MID, None, False), (MID, None, True)])
def test_mid(asked):
    model = find_model(*asked, "cpu")
    config = model.parts["transformer"].config
    assert (model.name, model.weights) == (MID, "random")
    assert config["num_attention_heads"] * config["attention_head_dim"] == 512
    assert (config["num_layers"], len(config["vace_layers"])) == (8, 4)
    assert (model.frames, model.steps) == (17, 20)
    assert token_count(config, *model.size, model.frames) == 1500
    assert model.parts["vae"].config["base_dim"] == 32
    assert max(model.tokenizer.get_vocab().values()) < model.parts["text_encoder"].config["vocab_size"]
    check_parts(model.parts)


def test_published_sizes_are_drawn_without_reading_anything():
    model = find_model("vace-1.3B", None, True, "meta")
    assert (model.size, model.frames, model.steps, model.guidance) == ((832, 480), 81, 50, 5.0)
    assert numbers(model.parts["transformer"]) / 1e9 == pytest.approx(2.154, abs=1e-3)
    assert numbers(model.parts["text_encoder"]) / 1e9 == pytest.approx(5.68, abs=0.01)


def test_a_checkpoint_brings_its_own_job():
    model = find_model(None, "tiny", False, "cpu")
    assert (model.name, model.weights, model.is_toy) == ("vace-tiny", "checkpoint", True)
    assert (model.size, model.frames, model.steps, model.shift, model.guidance) == ((96, 64), 17, 20, 3.0, 2.0)
    assert model.negative == ""


@pytest.mark.parametrize(("name", "ends"), [("vace-1.3B", "--random_weights"), ("vace-1.3B-preview", "get it")])
def test_a_model_that_is_not_here(monkeypatch, name, ends):
    def absent(*_, **__):
        raise MissingWeights("not on this machine; get it")

    monkeypatch.setattr("vace.models.checkpoints.find_checkpoint", absent)
    with pytest.raises(MissingWeights, match="not on this machine") as found:
        find_model(name, None, False, "cpu")
    assert str(found.value).endswith(ends)


def test_names_that_cannot_be_drawn():
    with pytest.raises(InputError, match="vace-1.3B, vace-14B, mid"):
        find_model("vace-1.3B-preview", None, True, "cpu")
    with pytest.raises(InputError, match="unknown model"):
        find_model("vace-2B", None, False, "cpu")


@pytest.mark.parametrize(("name", "drawn", "other"), [("mid", False, "--model_name"), (None, True, "--random_weights")])
def test_a_checkpoint_and_another_model(name, drawn, other):
    with pytest.raises(InputError, match=f"--ckpt_dir tiny: with {other}"):
        find_model(name, "tiny", drawn, "cpu")


def test_full_sizes_want_a_gpu_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="--model_name vace-14B: torch sees no CUDA device.*--device cpu"):
        check_device("vace-14B", "auto")
    check_device("vace-14B", "cpu")
    check_device(MID, "auto")
    check_device(None, "auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_device("vace-14B", "auto")
