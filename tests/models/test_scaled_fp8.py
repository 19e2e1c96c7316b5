"""Float8 files: scales of every spelling are applied, casts are taken as they are, what cannot be right is refused."""

from __future__ import annotations

import json

import pytest
import torch
from wan_single_files import embedded, is_linear, link_companions, tensors, write, write_settings

from vace.errors import CheckpointError
from vace.models.checkpoints import find_checkpoint
from vace.models.loading import build
from vace.models.parts import read_part
from vace.weight_files import open_weights, read_header

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
COMFY = {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}


def scaled(weights, suffix, *, rows=False, dtype=E4M3, shape=None):
    """Linear weights as float8 with scales that use its whole range, and what they stand for."""
    stored, meant = {}, {}
    for key, value in weights.items():
        stored[key] = meant[key] = value
        if not is_linear(key):
            continue
        largest = value.abs().amax(1, keepdim=True) if rows else value.abs().max()
        scale = (largest / torch.finfo(dtype).max).float()
        stored[key] = (value / scale).to(dtype)
        stored[key.removesuffix(".weight") + suffix] = scale.reshape(shape) if shape is not None else scale
        meant[key] = stored[key].float() * scale
    return stored, meant


FORMS = {
    "ComfyUI, older": (".scale_weight", {}, {"scaled_fp8": torch.zeros(2, dtype=E4M3)}, None),
    "Kijai": (".scale_weight", {"shape": (1,)}, {"scaled_fp8": torch.zeros(0, dtype=E4M3)}, None),
    "e5m2": (".scale_weight", {"dtype": E5M2}, {}, None),
    "one per row": (".weight_scale", {"rows": True}, {}, None),
    "one per row, flat": (".weight_scale", {"rows": True, "shape": (-1,)}, {}, None),
    "ComfyUI, newer": (".weight_scale", {}, {"blocks.0.ffn.0.comfy_quant": embedded(json.dumps(COMFY).encode())}, None),
    "ComfyUI, metadata": (
        ".weight_scale", {}, {},
        {"_quantization_metadata": json.dumps({"layers": {"blocks.0.ffn.0": {"format": "float8_e4m3fn"}}})},
    ),
    "scales of inputs too": (
        ".scale_weight", {}, {"blocks.1.ffn.0.scale_input": torch.ones(1), "blocks.1.ffn.2.input_scale": torch.ones(1)},
        None,
    ),
}  # fmt: skip


@pytest.fixture
def place(tmp_path, original_folder):
    write_settings(tmp_path / "toy.json")
    link_companions(tmp_path / "files", original_folder)
    return tmp_path / "files"


def transformer(place):
    checkpoint = find_checkpoint(str(place / "fp8.safetensors"), None, config=str(place.parent / "toy.json"))
    part = read_part(checkpoint, "transformer")
    return part, build(part, torch.float32).state_dict()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_scales_are_applied(place, form, prefix):
    """Bit by bit the product of weight and scale, which is within float8's rounding of what was stored."""
    suffix, how, extra, metadata = FORMS[form]
    original = tensors("transformer")
    stored, meant = scaled(original, suffix, **how)
    stored = {prefix + key: value.contiguous() for key, value in (stored | extra).items()}
    write(place / "fp8.safetensors", stored, metadata)
    part, state = transformer(place)
    assert not any("scale_weight" in key or "weight_scale" in key or "scaled_fp8" in key for key in part.weights.shapes)
    assert read_header(place / "fp8.safetensors").keys() == part.weights.shapes.keys()
    relative = 2**-3 if how.get("dtype") is E5M2 else 2**-4
    for new, old in part.names.items():
        key = old.removeprefix(prefix)
        assert torch.equal(state[new], meant[key]), key
        smallest = original[key].abs().max() * 2**-14  # below, float8's steps are of one size
        assert ((state[new] - original[key]).abs() <= relative * original[key].abs() + smallest).all(), key
    assert sum(state[new].ne(original[old.removeprefix(prefix)]).any() for new, old in part.names.items()) > 20


def test_float8_without_scales_is_cast(place):
    original = tensors("transformer")
    low = {key: value.to(E4M3) if is_linear(key) else value.half() for key, value in original.items()}
    write(place / "fp8.safetensors", low)
    part, state = transformer(place)
    assert {"F8_E4M3", "F16"} == set(part.weights.dtypes.values())
    for new, old in part.names.items():
        assert torch.equal(state[new], low[old].float())


def test_a_text_encoder_in_scaled_float8(tmp_path):
    stored, meant = scaled(tensors("text_encoder"), ".scale_weight")
    stored |= {"scaled_fp8": torch.zeros(2, dtype=E4M3), "spiece_model": embedded(b"bytes")}
    found = open_weights((write(tmp_path / "t5.safetensors", stored),))
    assert found.shapes.keys() == meant.keys()
    assert all(torch.equal(found.read(key).float(), meant[key].float()) for key in meant)
    assert found.scales and all(found.read(key).dtype == torch.float32 for key in found.scales)


def test_scales_in_another_shard(tmp_path):
    stored, meant = scaled({"a.ffn.weight": torch.randn(4, 6)}, ".weight_scale")
    files = [write(tmp_path / f"{i}.safetensors", {key: value}) for i, (key, value) in enumerate(stored.items())]
    assert torch.equal(open_weights(tuple(files)).read("a.ffn.weight"), meant["a.ffn.weight"])


def test_a_scale_of_a_plain_weight_is_applied_too(tmp_path):
    """As ComfyUI does for its older spelling; the newer one means other things elsewhere, and stays a tensor."""
    weight, scale = torch.randn(4, 6), torch.tensor(0.5)
    older = open_weights((write(tmp_path / "a.safetensors", {"x.weight": weight, "x.scale_weight": scale}),))
    newer = open_weights((write(tmp_path / "b.safetensors", {"x.weight": weight, "x.weight_scale": scale}),))
    assert torch.equal(older.read("x.weight"), weight * 0.5) and list(older.shapes) == ["x.weight"]
    assert torch.equal(newer.read("x.weight"), weight) and len(newer.shapes) == 2


def quant(**stated):
    return embedded(json.dumps(stated).encode())


W8, ROWS = torch.zeros(4, 6).to(E4M3), torch.ones(4, 1)
REFUSED = {
    "a lost scale": ({"x.weight": W8, "x.scale_weight": torch.ones(1), "y.weight": W8}, "1 float8 tensors have no sc"),
    "a marker and no scale": ({"x.weight": W8, "scaled_fp8": torch.zeros(2, dtype=E4M3)}, "have no scale .x.weight"),
    "a lost weight": ({"y.scale_weight": torch.ones(1)}, "1 scales without their weights .y.scale_weight"),
    "blocks": (
        {"x.weight": W8, "x.weight_scale": torch.ones(4, 2)},
        r"x.weight_scale has the shape \[4, 2\]",
    ),
    "columns": ({"x.weight": W8, "x.weight_scale": torch.ones(6)}, r"x.weight_scale has the shape \[6\]"),
    "two scales": ({"x.weight": W8, "x.weight_scale": ROWS, "x.scale_weight": ROWS}, "two scales for x.weight"),
    "another format": ({"x.weight": W8, "x.weight_scale": ROWS, "x.comfy_quant": quant(format="nvfp4")}, "nvfp4"),
    "a rotation": (
        {"x.weight": W8, "x.weight_scale": ROWS, "x.comfy_quant": quant(format="float8_e4m3fn", convrot=True)},
        "the layer x is stored as .*convrot",
    ),
    "no json": ({"x.weight": W8, "x.weight_scale": ROWS, "x.comfy_quant": embedded(b"{")}, "is no readable json"),
    "8-bit integers": ({"x.weight": torch.zeros(4, 6, dtype=torch.int8), "x.weight_scale": ROWS}, "I8: x.weight"),
    "scales of powers": ({"x.weight": torch.zeros(2).to(torch.float8_e8m0fnu)}, "of a known kind .F8_E8M0"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_could_be_read_wrong_is_refused(tmp_path, kind):
    stored, said = REFUSED[kind]
    with pytest.raises(CheckpointError, match=said) as error:
        open_weights((write(tmp_path / "bad.safetensors", stored),))
    assert "bad.safetensors" in str(error.value)
