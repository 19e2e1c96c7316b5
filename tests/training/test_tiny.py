"""The sizes and words of vace-tiny, and what its script takes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from vace.training import flow_model, tiny
from vace.training.worlds import WORDS, sample_world


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.build_tokenizer()


def test_every_word_of_a_caption_is_one_token(tokenizer):
    for seed in range(20):
        caption = sample_world(seed).caption
        assert len(tokenizer.encode(caption).ids) == len(caption.replace(",", " ,").split()) + 1, caption


def test_caption_tokens_are_those_of_captions_alone(tokenizer):
    known = set(tiny.caption_tokens(tokenizer))
    for seed in range(20):
        assert set(tokenizer.encode(sample_world(seed, split="held_out").caption).ids) <= known
    assert set(tokenizer.encode("").ids) <= known
    assert tokenizer.token_to_id("\u2581elephant") not in known
    assert len(known) <= len(WORDS) + 2


def test_words_that_no_caption_uses_say_nothing_at_first(tokenizer):
    table = flow_model.build(0, tokenizer, with_context=False).text.embed_tokens.weight
    used = tiny.caption_tokens(tokenizer)
    assert (table[used].abs().sum(dim=1) > 0).all()
    assert int((table.abs().sum(dim=1) > 0).sum()) == len(used)


def test_a_model_is_drawn_from_its_seed_alone(tokenizer):
    import torch

    first, again, other = (flow_model.build(seed, tokenizer, with_context=True).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    name = "transformer.blocks.0.ffn.net.2.weight"
    assert not torch.equal(first[name], other[name])
    assert sum(value.numel() for value in first.values()) * 2 < 10e6  # bytes in float16


@pytest.fixture
def script(root):
    spec = importlib.util.spec_from_file_location("train_tiny", root / "scripts" / "train_tiny.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GIVEN = ["--rows", "r", "--held_out", "h", "--vae", "v", "--out"]


def test_a_later_stage_asks_for_an_earlier_ones_weights(script, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train_tiny.py", "context", *GIVEN, str(tmp_path)])
    assert script.main() == 2
    assert "--weights" in capsys.readouterr().err


def test_rows_that_are_not_there_are_told_before_training(script, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train_tiny.py", "base", *GIVEN, str(tmp_path / "out")])
    assert script.main() == 2
    assert "holds no encoded rows" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_rows_are_made_and_a_step_of_each_stage_is_trained(root, tmp_path):
    def run(*args):
        done = subprocess.run(
            [sys.executable, str(root / "scripts" / "train_tiny.py"), *map(str, args)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    vae = root / "assets" / "models" / "vace-tiny"
    for split in ("train", "held_out"):
        run("rows", "--vae", vae, "--out", tmp_path / split, "--count", 6, "--split", split, "--workers", 0)
    before = []
    for kind in ("base", "context", "joint"):
        given = ["--rows", tmp_path / "train", "--held_out", tmp_path / "held_out", "--vae", vae]
        run(kind, *given, "--out", tmp_path / kind, "--threads", 1, "--until", 1, *before)
        before = ["--weights", tmp_path / kind / "best"]
