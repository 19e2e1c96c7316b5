"""Reading checkpoints: every layout gives the same model, every kind of damage is named."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from goldens_io import wan_weights
from safetensors.torch import load_file, save_file
from wan_folders import transformer_settings, write_diffusers, write_original

from vace.errors import CheckpointError, VaceError
from vace.models.checkpoints import open_checkpoint
from vace.models.loading import build, check_parts
from vace.models.parts import COMPONENTS, read_part
from vace.models.wan.engine import load_engine

WEIGHTS = "diffusion_pytorch_model.safetensors"


def parts_of(folder, settings=None):
    checkpoint = open_checkpoint(folder, settings)
    return {name: read_part(checkpoint, name) for name in COMPONENTS}


def result(engine):
    """A short run through every component."""
    frames = torch.rand(3, 5, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    context = engine.encode_context(frames, torch.ones(1, 5, 32, 32))
    cond, uncond = engine.encode_prompts("a cat", "")
    latents = engine.denoise(context, cond, uncond, seed=1, steps=2, shift=3.0)
    return engine.decode(latents)


@pytest.fixture(scope="module")
def expected(golden_engine):
    return result(golden_engine)


LAYOUTS = {
    "sharded": lambda folder: write_original(folder, shards=3),
    "sharded-without-index": lambda folder: write_original(folder, shards=3, index=False),
    "safetensors": lambda folder: write_original(folder, pickled=False),
    "diffusers-without-some-configs": lambda folder: without_configs(write_diffusers(folder)),
}


def without_configs(folder):
    for name in ("vae", "text_encoder"):
        (folder / name / "config.json").unlink()
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_video(tmp_path, expected, layout):
    assert torch.equal(result(load_engine(open_checkpoint(LAYOUTS[layout](tmp_path / "model")))), expected)


def test_diffusers_layout_gives_the_same_video(diffusers_folder, expected):
    assert torch.equal(result(load_engine(open_checkpoint(diffusers_folder))), expected)


def test_configs_are_inferred_from_shapes(tmp_path, original_folder):
    """Without config.json all but heads, context layers and text length follows from the tensors."""
    folder = write_original(tmp_path / "model", config=False)
    with pytest.raises(CheckpointError, match="num_attention_heads cannot be told from the tensors.*--config"):
        parts_of(folder)
    stated = {key: transformer_settings()[key] for key in ("num_heads", "vace_layers", "text_len")}
    (tmp_path / "extra.json").write_text(json.dumps(stated))
    inferred = {name: part.config for name, part in parts_of(folder, tmp_path / "extra.json").items()}
    given = {name: part.config for name, part in parts_of(original_folder).items()}
    for name in COMPONENTS:
        for key, value in given[name].items():
            assert inferred[name].get(key, value) == value, (name, key)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_arrive_in_the_type_asked_for_and_equal_the_file(original_folder, component, dtype):
    part = parts_of(original_folder)[component]
    model = build(part, dtype)
    types = {tensor.dtype for tensor in model.state_dict().values()}
    assert dtype in types and types <= {dtype, torch.float32}
    assert not any(tensor.requires_grad or tensor.is_meta for tensor in model.parameters())
    assert not any(tensor.is_meta for tensor in model.buffers())
    for key, tensor in model.state_dict().items():
        name = part.names.get(key) or part.names["shared.weight"]
        assert torch.equal(tensor, part.weights.read(name).to(tensor.dtype))


def damaged(tmp_path, change):
    folder = write_original(tmp_path / "model")
    change(folder)
    with pytest.raises(VaceError) as error:
        load_engine(open_checkpoint(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


def edit(file, change, stem=None):
    """A change that rewrites one weight file after `change(tensors)`."""

    def apply(folder):
        tensors = wan_weights(stem) if stem else load_file(folder / file)
        change(tensors)
        torch.save(tensors, folder / file) if file.endswith(".pth") else save_file(tensors, folder / file)

    return apply


def cut(file, keep):
    def apply(folder):
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: int(len(data) * keep)])

    return apply


def put(file, data):
    return lambda folder: (folder / file).write_bytes(data)


T5, VAE = "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth"
DAMAGE = {
    "truncated weights": (cut(WEIGHTS, 0.9), [WEIGHTS, "truncated, it has", "download it again"]),
    "truncated header": (cut(WEIGHTS, 0.001), [WEIGHTS, "cut off within its header"]),
    "empty weights": (put(WEIGHTS, b""), [WEIGHTS, "not a safetensors file"]),
    "foreign weights": (put(WEIGHTS, b"PK\x03\x04" + b"\0" * 4000), [WEIGHTS, "not a safetensors file"]),
    "html instead": (put(WEIGHTS, b"<html>not found</html>" * 50), [WEIGHTS, "not a safetensors file"]),
    "git-lfs pointer": (put(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\n" * 3), [WEIGHTS, "git lfs pull"]),
    "truncated T5": (cut(T5, 0.5), [T5, "truncated, or not a table of tensors"]),
    "truncated VAE": (cut(VAE, 0.99), [VAE, "truncated, or not a table of tensors"]),
    "empty VAE": (put(VAE, b""), [VAE, "truncated, or not a table of tensors"]),
    "foreign VAE": (put(VAE, b"hello" * 100), [VAE, "truncated, or not a table of tensors"]),
    "damaged config": (put("config.json", b"{'dim': 3"), ["config.json", "not a readable JSON"]),
    "config of another size": (
        put("config.json", json.dumps({**transformer_settings(), "dim": 192, "num_heads": 6}).encode()),
        ["mis-shaped", "where [", "is expected"],
    ),
    "heads that do not divide": (
        put("config.json", json.dumps({**transformer_settings(), "num_heads": 7}).encode()),
        ["does not divide into 7 heads"],
    ),
    "context layers that do not fit": (
        put("config.json", json.dumps({**transformer_settings(), "vace_layers": [0, 1, 2]}).encode()),
        ["vace_layers [0, 1, 2] do not fit"],
    ),
    "nonsense in config": (
        put("config.json", json.dumps({**transformer_settings(), "eps": "small"}).encode()),
        ["its settings make no sense: eps = 'small'"],
    ),
    "settings the class refuses": (
        put("config.json", json.dumps({**transformer_settings(), "qk_norm": {}, "patch_size": [1, "x", 2]}).encode()),
        ["its settings make no sense"],
    ),
    "missing tensors": (
        edit(WEIGHTS, lambda tensors: [tensors.pop(f"blocks.{i}.ffn.0.bias") for i in range(4)]),
        [WEIGHTS, "4 missing (blocks.0.ffn.net.0.proj.bias; "],
    ),
    "unknown tensors": (
        edit(WEIGHTS, lambda tensors: tensors.update({f"extra.{i}": torch.zeros(1) for i in range(6)})),
        [WEIGHTS, "6 unknown (extra.0; extra.1; extra.2; extra.3 ...)"],
    ),
    "mis-shaped tensor": (
        edit(WEIGHTS, lambda tensors: tensors.update({"head.head.bias": torch.zeros(7)})),
        [WEIGHTS, "1 mis-shaped (head.head.bias [7] where ["],
    ),
    "another model": (
        lambda folder: save_file({"weight": torch.zeros(2)}, folder / WEIGHTS),
        [WEIGHTS, "not a Wan VACE transformer (no usable 'patch_embedding.weight')"],
    ),
    "T5 without a layer's bias table": (
        edit(T5, lambda tensors: tensors.pop("blocks.1.pos_embedding.embedding.weight"), "t5_tiny"),
        [T5, "1 missing"],
    ),
    "VAE of another family": (
        lambda folder: torch.save({"encoder.weight": torch.zeros(2)}, folder / VAE),
        [VAE, "not a Wan VAE"],
    ),
    "pickle with code": (
        lambda folder: torch.save({"weight": DAMAGE_CLASS()}, folder / VAE),
        [VAE, "not a table of tensors that loads safely"],
    ),
    "pickle of something else": (lambda folder: torch.save([1, 2], folder / VAE), [VAE, "something other than a flat"]),
    "damaged tokenizer": (put("google/umt5-xxl/tokenizer.json", b"{}"), ["umt5-xxl", "no usable tokenizer"]),
}


class DAMAGE_CLASS:
    """Something a pickle could run; weights_only refuses it."""


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(tmp_path, kind):
    change, said = DAMAGE[kind]
    message = damaged(tmp_path, change)
    for words in said:
        assert words in message


def test_absent_shards_are_named(tmp_path):
    folder = write_original(tmp_path / "model", shards=3)
    (folder / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names 3 weight files, 1 of them absent \(.*-00002-of-00003"):
        open_checkpoint(folder)
    (folder / "diffusion_pytorch_model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match=r"weight files \[2\] of 3 are absent"):
        open_checkpoint(folder)


def test_a_damaged_index_is_named(tmp_path):
    folder = write_original(tmp_path / "model", shards=2)
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="index.json: has no 'weight_map'"):
        open_checkpoint(folder)


def test_parts_of_two_models_are_told_apart(tmp_path):
    folder = write_original(tmp_path / "model")
    from transformers import UMT5Config, UMT5EncoderModel

    shutil.rmtree(folder / "google")
    from wan_folders import write_tokenizer

    write_tokenizer(folder / "google")
    other = UMT5EncoderModel(UMT5Config(vocab_size=300, d_model=48, d_kv=8, d_ff=64, num_layers=1, num_heads=6))
    (folder / T5).unlink()
    state = {key: tensor for key, tensor in other.state_dict().items() if key != "encoder.embed_tokens.weight"}
    save_file(state, folder / "models_t5_other.safetensors")
    with pytest.raises(CheckpointError, match="48 text width, the transformer takes 64; these files are of two models"):
        check_parts(parts_of(folder))


@pytest.mark.parametrize("name", ["shared.weight", "encoder.embed_tokens.weight"])
def test_the_token_table_under_either_name(tmp_path, diffusers_folder, expected, name):
    folder = shutil.copytree(diffusers_folder, tmp_path / "model")
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    table = tensors.pop("shared.weight", None)
    table = tensors.pop("encoder.embed_tokens.weight", table)
    save_file({**tensors, name: table}, file)
    part = parts_of(folder)["text_encoder"]
    model = build(part, torch.float32)
    assert torch.equal(model.shared.weight, table) and torch.equal(model.encoder.embed_tokens.weight, table)
