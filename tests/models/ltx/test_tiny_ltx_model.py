"""The embedded model of LTX: written the same every time, whole, small, and good for a run of everything."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from vace.bases import LTX
from vace.models.checkpoints import find_checkpoint, tiny_folder
from vace.models.ltx.metadata import stated_config
from vace.models.parts import COMPONENTS, read_part

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
WEIGHTS = "ltx-video-tiny-v0.9.safetensors"


def files_of(folder: Path) -> dict[Path, bytes]:
    made = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in made.items() if name.suffix != ".md"}


@pytest.fixture(scope="module")
def script():
    """The script as a module; beside it lies the one it takes its tokenizer from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        spec = importlib.util.spec_from_file_location("make_tiny_ltx", SCRIPTS / "make_tiny_ltx.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def engine():
    from vace.models.ltx.engine import load_engine

    return load_engine(find_checkpoint("tiny", None, base=LTX))


def test_the_script_writes_what_is_shipped(tmp_path, script, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_tiny_ltx.py", "--out", str(tmp_path)])
    script.main()
    made, shipped = files_of(tmp_path), files_of(tiny_folder(LTX))
    assert made.keys() == shipped.keys()
    assert [name for name in made if made[name] != shipped[name]] == []


def test_another_seed_writes_other_weights(tmp_path, script):
    script.make(tmp_path, script.SEED + 1)
    made, shipped = files_of(tmp_path), files_of(tiny_folder(LTX))
    assert {name.suffix for name in made if made[name] != shipped[name]} == {".safetensors"}


def test_it_is_small_and_says_what_it_is():
    assert sum(len(data) for data in files_of(tiny_folder(LTX)).values()) < 3e6
    checkpoint = find_checkpoint("tiny", None, base=LTX)
    assert checkpoint.is_toy and checkpoint.name == "vace-tiny-ltx"
    card = (tiny_folder(LTX) / "README.md").read_text()
    assert "untrained" in card and not checkpoint.defaults["trained"]


def test_its_defaults_fit_it():
    checkpoint = find_checkpoint("tiny", None, base=LTX)
    defaults = checkpoint.defaults
    width, height = map(int, defaults["size"].split("x"))
    assert width % 32 == 0 and height % 32 == 0 and defaults["frames"] % 8 == 1
    assert defaults["stg_skip_layers"]
    assert max(defaults["stg_skip_layers"]) < read_part(checkpoint, "transformer").config["num_layers"]


def test_it_has_the_published_form(script):
    """Names, settings and kinds as in the original's single file; the loader checks settings against tensors."""
    from safetensors import safe_open

    path = tiny_folder(LTX) / WEIGHTS
    assert stated_config(path) == {
        "transformer": script.TRANSFORMER,
        "vae": script.VAE,
        "scheduler": script.SCHEDULER,
    }
    with safe_open(path, "np") as weights:
        names = list(weights.keys())
        assert {str(weights.get_slice(name).get_dtype()) for name in names} == {"F16"}
    assert {name.split(".")[0] for name in names} == {"model", "vae"}
    config = read_part(find_checkpoint("tiny", None, base=LTX), "transformer").config
    assert config["context_layers"] == script.TRANSFORMER["context_num_layers"] == [0, 2, 4]


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_tensor_is_used(component):
    from vace.models.loading import build

    model = build(read_part(find_checkpoint("tiny", None, base=LTX), component), torch.float32)
    values = [tensor for tensor in model.state_dict().values() if tensor.ndim > 1]
    assert all(torch.isfinite(tensor).all() and bool(tensor.any()) for tensor in values) and values


@pytest.mark.parametrize(
    "prompt", ["a red ball bounces slowly", "Ünïcødé ☃ 日本語 \U0001f600", "", "x" * 500, "\x00\n\t  "]
)
def test_the_tokenizer_takes_any_text(engine, prompt):
    states, _ = engine.encode_prompts(prompt, None)
    assert 1 <= len(states) <= 128 and torch.isfinite(states).all()


def test_a_run_of_everything_gives_a_moving_picture(engine):
    defaults = find_checkpoint("tiny", None, base=LTX).defaults
    frames, width, height = 17, 96, 64
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(3, frames, height, width, generator=generator) * 2 - 1
    mask = torch.zeros(1, frames, height, width)
    mask[..., 32:64] = 1
    ref = torch.rand(3, 1, height, width, generator=generator) * 2 - 1
    context = engine.encode_context(video, mask, [ref])
    states = engine.encode_prompts("a cat walks", defaults["negative_prompt"])
    names = ("steps", "guidance_scale", "stg_scale", "stg_rescale", "stg_skip_layers")
    settings = {name: defaults[name] for name in names}
    results = [engine.decode(engine.denoise(context, *states, fps=25, seed=seed, **settings), 1) for seed in (1, 2)]
    for result in results:
        assert result.shape == (3, frames, height, width) and torch.isfinite(result).all()
        assert 0.2 < result.std() < 0.7  # a texture, not a flat gray
        assert result.mean().abs() < 0.4 and (result.abs() > 1).float().mean() < 0.1
        assert (result[:, 1:] - result[:, :-1]).abs().mean() > 0.02
        across = (result[..., 1:] - result[..., :-1]).abs().mean()
        assert across < 0.5 * result.std()  # not grain: neighbours are alike
    assert (results[0] - results[1]).abs().mean() > 0.1
