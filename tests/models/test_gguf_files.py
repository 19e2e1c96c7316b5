"""GGUF transformers: names, shapes and values of every kind of block, every damage named."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from wan_single_files import halves, link_companions, tensors, write_settings

from vace.errors import CheckpointError, MissingDependency
from vace.models.checkpoints import find_checkpoint
from vace.models.loading import build
from vace.models.parts import read_part
from vace.weight_files import open_weights

gguf = pytest.importorskip("gguf")

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_0", "Q6_K", "Q5_K", "Q4_K")
# Largest error of a rounded weight, as part of the largest weight of its block.
BARS = {"F32": 0, "F16": 2**-11, "BF16": 2**-8, "Q8_0": 2**-7, "Q5_0": 2**-4, "Q4_0": 2**-3}
ROW = 256  # numbers in a block of the K kinds, to which converters reshape


def blocks_of(value: np.ndarray, kind: str) -> np.ndarray:
    """A weight in that kind of blocks; for the K kinds, which the package does not make, random blocks."""
    qtype = gguf.GGMLQuantizationType[kind]
    if not kind.endswith("_K"):
        return gguf.quants.quantize(value, qtype)
    count = value.size // ROW
    bytes_each = gguf.GGML_QUANT_SIZES[qtype][1]
    raw = np.random.default_rng(count).integers(0, 256, (count, bytes_each), dtype=np.uint8)
    scale = np.frombuffer(np.float16(0.001).tobytes(), np.uint8)
    at = slice(-2, None) if kind == "Q6_K" else slice(0, 2)  # where a block keeps its scale
    raw[:, at] = scale
    if kind != "Q6_K":
        raw[:, 2:4] = scale
    return raw


def write_gguf(path, weights, kind="F32", arch="wan", **fields):
    """A file as converters make it: matrices in blocks, the rest in F32, K blocks over reshaped rows."""
    writer = gguf.GGUFWriter(path, arch)
    for name, value in fields.items():
        writer.add_string(name, value)
    for key, tensor in weights.items():
        value = tensor.float().numpy()
        if value.ndim != 2 or value.size % ROW:
            writer.add_tensor(key, value)
            continue
        if kind.endswith("_K"):
            writer.add_array(f"comfy.gguf.orig_shape.{key}", [int(side) for side in value.shape])
        writer.add_tensor(key, blocks_of(value, kind), raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def place(tmp_path, original_folder):
    write_settings(tmp_path / "toy.json")
    link_companions(tmp_path / "files", original_folder)
    return tmp_path / "files"


def transformer(place, text):
    part = read_part(find_checkpoint(text, None, config=str(place.parent / "toy.json")), "transformer")
    return part, build(part, torch.float32).state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_every_kind_gives_the_transformer(place, kind):
    """Values as the package dequantises them, in the shapes of the class; near what was rounded."""
    original = tensors("transformer")
    part, state = transformer(place, str(write_gguf(place / "x.gguf", original, kind)))
    assert kind in part.weights.dtypes.values()
    for new, old in part.names.items():
        value = original[old].numpy()
        expected = value
        if part.weights.dtypes[old] == kind:
            expected = gguf.quants.dequantize(blocks_of(value, kind), gguf.GGMLQuantizationType[kind])
        assert torch.equal(state[new], torch.from_numpy(expected.reshape(value.shape))), old
        if kind in BARS:
            assert (state[new] - original[old]).abs().max() <= BARS[kind] * original[old].abs().max(), old
    assert state["patch_embedding.weight"].ndim == 5 and not any(value.isnan().any() for value in state.values())


def test_a_t2v_file_and_a_module(place, golden_models):
    """Two GGUF files, and one with a module in safetensors' format."""
    from safetensors.torch import save_file

    t2v, module = halves(tensors("transformer", "model.diffusion_model."))
    first = write_gguf(place / "t2v.gguf", t2v)
    second = write_gguf(place / "module.gguf", module)
    save_file(module, place / "module.safetensors")
    expected = golden_models["transformer"].state_dict()
    for other in (second, place / "module.safetensors"):
        _, state = transformer(place, f"{first}+{other}")
        assert all(torch.equal(state[key], expected[key]) for key in expected)


def number_blocks(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """One block whose values are known without the package: small numbers at scale 1, in the format's own order."""
    rng = np.random.default_rng(0)
    nibbles = rng.integers(0, 16, ROW).astype(np.uint8)
    one = np.frombuffer(np.float16(1).tobytes(), np.uint8)
    if kind == "Q6_K":  # two halves of 128: four quarters of 32, of which the third shares bytes with the first
        quarters = nibbles.reshape(2, 4, 32)
        low = (quarters[:, :2] | (quarters[:, 2:] << 4)).reshape(-1)
        parts = (low, np.zeros(64, np.uint8), np.ones(16, np.uint8), one)
        return np.concatenate(parts), nibbles.astype(np.float32) - 32
    scales = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1], np.uint8)  # eight scales of 1, eight minima of 0
    pairs = nibbles.reshape(4, 2, 32)
    low = (pairs[:, 0] | (pairs[:, 1] << 4)).reshape(-1)
    high = np.zeros(32 if kind == "Q5_K" else 0, np.uint8)
    return np.concatenate((one, np.zeros(2, np.uint8), scales, high, low)), nibbles.astype(np.float32)


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K"])
def test_blocks_written_by_hand(tmp_path, kind):
    raw, values = number_blocks(kind)
    writer = gguf.GGUFWriter(tmp_path / "one.gguf", "wan")
    writer.add_tensor("x", np.stack([raw, raw]), raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()
    found = open_weights((tmp_path / "one.gguf",))
    assert found.shapes == {"x": (2, ROW)}
    assert np.array_equal(found.read("x").numpy(), np.stack([values, values]))


def cut(keep):
    def apply(path):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)] if keep < 1 else data[: int(keep)])

    return apply


def put(data):
    return lambda path: path.write_bytes(data)


def counted(path):
    data = bytearray(path.read_bytes())
    data[8:16] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(bytes(data))


DAMAGE = {
    "truncated in its tensors": (cut(0.9), "truncated or damaged GGUF file"),
    "truncated in its names": (cut(3000), "truncated or damaged GGUF file"),
    "truncated in its start": (cut(10), "not a GGUF file"),
    "empty": (put(b""), "not a GGUF file"),
    "html instead": (put(b"<html>not found</html>" * 50), "not a GGUF file"),
    "git-lfs pointer": (put(b"version https://git-lfs.github.com/spec/v1\n" * 3), "git lfs pull"),
    "wrong counts": (counted, "it counts 1099511627776 tensors"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(place, kind):
    change, said = DAMAGE[kind]
    path = write_gguf(place / "x.gguf", tensors("transformer"), "Q8_0")
    change(path)
    with pytest.raises(CheckpointError, match=said) as error:
        transformer(place, str(path))
    assert "x.gguf" in str(error.value) and "\n" not in str(error.value)


def test_other_models_are_named(place):
    flux = write_gguf(place / "flux.gguf", {"double_blocks.0.img_attn.qkv.weight": torch.zeros(32, 32)}, arch="flux")
    with pytest.raises(CheckpointError, match="of the architecture 'flux'; 'wan' is expected"):
        transformer(place, str(flux))
    other = write_gguf(place / "other.gguf", {"token_embd.weight": torch.zeros(32, 32)})
    with pytest.raises(CheckpointError, match="no model that is known here.*its tensors: token_embd.weight"):
        transformer(place, str(other))


def test_unreadable_kinds_and_shapes_are_named(place):
    writer = gguf.GGUFWriter(place / "i.gguf", "wan")
    writer.add_tensor("x", np.zeros((2, 3), np.int32))
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()
    with pytest.raises(CheckpointError, match="1 tensors are stored as I32 .x.; these kinds are read: F32, F16"):
        open_weights((place / "i.gguf",))
    writer = gguf.GGUFWriter(place / "s.gguf", "wan")
    writer.add_array("comfy.gguf.orig_shape.x", [4, 4])
    writer.add_tensor("x", np.zeros((2, 3), np.float32))
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()
    with pytest.raises(CheckpointError, match=r"x says it was \[4, 4\] and holds \[2, 3\]"):
        open_weights((place / "s.gguf",))


def test_without_the_package_the_command_is_told(place, monkeypatch):
    path = write_gguf(place / "x.gguf", tensors("transformer"))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingDependency, match=r"needs the package gguf; pip install 'vace\[quant\]'"):
        transformer(place, str(path))
