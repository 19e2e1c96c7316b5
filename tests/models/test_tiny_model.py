"""The embedded model: whole, small, good for a run of everything; and its twin of random weights, always the same."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from vace.conditioning.pixels import to_model_space
from vace.models.checkpoints import find_checkpoint, open_checkpoint, tiny_folder
from vace.models.parts import COMPONENTS, read_part
from vace.models.wan.engine import load_engine
from vace.training import tiny
from vace.training.worlds import render, sample_world

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_tiny.py"


def files_of(folder):
    made = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in made.items() if name.suffix != ".md"}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_tiny", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, script):
    folder = tmp_path_factory.mktemp("drawn")
    script.make(folder, script.SEED)
    return folder


def test_the_script_writes_the_same_bytes_again(tmp_path, script, monkeypatch, drawn):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--out", str(tmp_path)])
    script.main()
    assert files_of(tmp_path) == files_of(drawn)


def test_another_seed_writes_other_weights(tmp_path, script, drawn):
    script.make(tmp_path, script.SEED + 1)
    made, before = files_of(tmp_path), files_of(drawn)
    assert made.keys() == before.keys()
    assert {name.suffix for name in made if made[name] != before[name]} == {".safetensors"}


def test_what_the_script_writes_runs(drawn):
    """At the sizes that training uses, which the shipped weights have once they are trained."""
    checkpoint = open_checkpoint(drawn)
    assert checkpoint.is_toy and not checkpoint.defaults["trained"]
    engine = load_engine(checkpoint)
    assert dict(tiny.TRANSFORMER).items() <= read_part(checkpoint, "transformer").config.items()
    context = engine.encode_context(torch.zeros(3, 5, 48, 64), torch.ones(1, 5, 48, 64))
    cond, uncond = engine.encode_prompts("a red circle moves left", "")
    result = engine.decode(engine.denoise(context, cond, uncond, steps=3, shift=3.0, seed=0))
    assert result.shape == (3, 5, 48, 64)
    assert torch.isfinite(result).all()
    assert result.std() > 0.1  # a texture, not a flat gray


def test_it_is_small_and_says_what_it_is():
    assert sum(len(data) for data in files_of(tiny_folder()).values()) < 24e6
    checkpoint = find_checkpoint("tiny", None)
    assert checkpoint.is_toy
    assert {"size", "frames", "steps", "shift", "guidance_scale", "negative_prompt"} <= set(checkpoint.defaults)
    card = (tiny_folder() / "README.md").read_text()
    assert "untrained" in card if not checkpoint.defaults["trained"] else "trained" in card


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_classes_own_loaders_read_it(component):
    """Users may open any part of it with diffusers or transformers alone."""
    from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
    from transformers import UMT5EncoderModel

    from vace.models.loading import build

    kinds = {"transformer": WanVACETransformer3DModel, "vae": AutoencoderKLWan, "text_encoder": UMT5EncoderModel}
    theirs = kinds[component].from_pretrained(tiny_folder() / component, torch_dtype=torch.float32).state_dict()
    ours = build(read_part(find_checkpoint("tiny", None), component), torch.float32).state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)


@pytest.mark.parametrize(
    "prompt", ["a red ball bounces slowly", "Ünïcødé ☃ 日本語 \U0001f600", "", "x" * 500, "\x00\n\t  "]
)
def test_the_tokenizer_takes_any_text(tiny_engine, prompt):
    cond, _ = tiny_engine.encode_prompts(prompt, None)
    assert 1 <= cond.shape[0] <= tiny_engine.text_len
    assert torch.isfinite(cond).all()


def test_the_tokenizer_knows_words_and_spells_the_rest(tiny_engine):
    tokenizer = tiny_engine._tokenizer
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("A red ball bouncing, 猫")["input_ids"])
    assert tokens[:4] == ["▁a", "▁red", "▁ball", "▁bouncing"]
    assert tokens[-4:-1] == ["<0xE7>", "<0x8C>", "<0xAB>"]
    assert tokenizer.convert_tokens_to_ids(["<pad>", "</s>", "<unk>"]) == [0, 1, 2]
    assert tokens[-1] == "</s>"


def test_a_run_of_everything_gives_a_moving_picture(tiny_engine):
    defaults = find_checkpoint("tiny", None).defaults
    frames, width, height = 9, 64, 48
    clip = render(sample_world(2), size=(width, height), frames=frames)
    video = to_model_space(clip.frames)
    mask = torch.zeros(1, frames, height, width)
    mask[..., 16:48] = 1
    context = tiny_engine.encode_context(video, mask, [video[:, :1]])
    cond, uncond = tiny_engine.encode_prompts(clip.caption, defaults["negative_prompt"])
    settings = {key: defaults[key] for key in ("steps", "shift", "guidance_scale")}
    results = [
        tiny_engine.decode(tiny_engine.denoise(context, cond, uncond, seed=seed, **settings), 1) for seed in (1, 2)
    ]
    for result in results:
        assert result.shape == (3, frames, height, width)
        assert torch.isfinite(result).all()
        assert result.std() > 0.2  # a texture, not a flat gray
        assert (result.abs() == 1).float().mean() < 0.2
        assert (result[:, 1:] - result[:, :-1]).abs().mean() > 0.01
    apart = (results[0] - results[1]).abs()
    made, kept = apart[..., 16:48].mean(), apart[..., [*range(16), *range(48, width)]].mean()
    assert apart.mean() > 0.1 and made > 2 * kept  # another seed makes something else, and only where something is made
