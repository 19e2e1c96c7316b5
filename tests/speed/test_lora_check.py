"""LoRAs that fit and that do not, told from shapes alone: size, family, kind, halves, strangers."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from safetensors.torch import save_file

from vace.errors import CheckpointError, InputError
from vace.models.parts import Part
from vace.speed import lora_files
from vace.speed.lora_check import check_loras
from vace.speed.lora_files import open_lora
from vace.speed.lora_sources import LoraSpec
from vace.weight_files import WeightFiles

HIDDEN = {1536: 8960, 5120: 13824, 3072: 14336}


def part_of(width, layers=3, context=1, base="wan"):
    """A transformer known by its shapes only: reading any weight of it would fail."""
    hidden, shapes = HIDDEN[width], {}
    for block in [f"blocks.{i}" for i in range(layers)] + [f"vace_blocks.{i}" for i in range(context)]:
        for layer in ("attn1.to_q", "attn1.to_out.0", "attn2.to_k"):
            shapes |= {f"{block}.{layer}.weight": (width, width), f"{block}.{layer}.bias": (width,)}
        shapes |= {f"{block}.ffn.net.0.proj.weight": (hidden, width), f"{block}.ffn.net.2.weight": (width, hidden)}
        shapes |= {f"{block}.attn1.norm_q.weight": (width,)}
    shapes |= {"patch_embedding.weight": (width, 16, 1, 2, 2), "patch_embedding.bias": (width,)}
    return Part("transformer", {}, WeightFiles((), shapes, {}), {name: name for name in shapes}, "a model", base)


@pytest.fixture
def written(tmp_path):
    """A file of zeros with these shapes, opened as the one LoRA of a check against `part`."""

    def write(shapes, part=None, metadata=None, name="x.safetensors"):
        tensors = {key: torch.zeros(shape, dtype=torch.bfloat16) for key, shape in shapes.items()}
        save_file(tensors, tmp_path / name, metadata=metadata)
        return check_loras([LoraSpec(str(tmp_path / name))], part or part_of(1536))[0]

    return write


def pair(module, rows=1536, columns=1536, rank=2):
    return {f"{module}.lora_down.weight": (rank, columns), f"{module}.lora_up.weight": (rows, rank)}


GOOD = pair("diffusion_model.blocks.0.self_attn.q")


def refused(written, shapes, part=None, **given):
    with pytest.raises(CheckpointError) as error:
        written(shapes, part, **given)
    assert "x.safetensors: " in str(error.value)
    return str(error.value)


def test_one_that_fits(written):
    lora = written(
        GOOD | pair("diffusion_model.vace_blocks.0.ffn.0", 8960) | {"diffusion_model.blocks.1.ffn.2.alpha": ()}
    )
    assert [change.target for change in lora.changes] == [
        "blocks.0.attn1.to_q.weight", "vace_blocks.0.ffn.net.0.proj.weight",
    ]  # fmt: skip
    assert lora.ranks == (2,) and lora.skipped == ()


@pytest.mark.parametrize(
    ("made_for", "model", "words"),
    [
        (5120, 1536, "width 5120 (14B), this one has width 1536 (1.3B); take the LoRA for 1.3B"),
        (1536, 5120, "width 1536 (1.3B), this one has width 5120 (14B); take the LoRA for 14B"),
        (3072, 5120, "width 3072 (Wan2.2 5B), this one has width 5120 (14B)"),
    ],
)
@pytest.mark.parametrize("kind", ["q", "ffn", "diff", "diff_b"])
def test_another_size_is_told_by_both_widths(made_for, model, words, kind, written):
    shapes = {
        "q": pair("blocks.0.self_attn.q", made_for, made_for),
        "ffn": pair("blocks.0.ffn.0", HIDDEN[made_for], made_for) | pair("blocks.0.ffn.2", made_for, HIDDEN[made_for]),
        "diff": {"blocks.0.self_attn.norm_q.diff": (made_for,)},
        "diff_b": {"blocks.0.self_attn.q.diff_b": (made_for,)},
    }[kind]
    # Deeper than the model, too: the size is what is told.
    told = refused(written, shapes | pair("blocks.39.self_attn.q", made_for, made_for), part_of(model))
    assert words in told


FAMILIES = {
    "FLUX": ["lora_unet_double_blocks_0_img_attn_proj", "transformer.single_transformer_blocks.3.attn.to_q",
             "diffusion_model.double_blocks.0.img_attn.qkv"],
    "HunyuanVideo": ["diffusion_model.double_blocks.0.img_attn_qkv", "lora_unet_double_blocks_0_img_mlp_fc1"],
    "SD 1.5 or SDXL": ["lora_unet_input_blocks_4_1_proj_in", "unet.down_blocks.1.attentions.0.proj_in",
                       "lora_unet_mid_block_attentions_0_proj_in"],
    "LTX-Video": ["transformer.transformer_blocks.0.attn1.to_q", "diffusion_model.transformer_blocks.27.attn2.to_k"],
    "Qwen-Image": ["transformer.transformer_blocks.0.img_mlp.net.2"],
    "another image or video model": ["transformer.transformer_blocks.0.attn.to_q"],
}  # fmt: skip


@pytest.mark.parametrize(("family", "module"), [(family, name) for family, names in FAMILIES.items() for name in names])
def test_another_family_is_named(family, module, written):
    told = refused(written, pair(module, 64, 64) | pair("lora_te1_text_model_encoder_layers_0_mlp_fc1", 8, 8))
    assert f"a LoRA for {family}" in told.replace("Stable Diffusion (", "") and "not for Wan" in told


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ({"diffusion_model.blocks.0.self_attn.q.weight": (4, 4)}, "no LoRA (its tensors are diffusion_model.blocks.0"),
        ({"transformer_blocks.0.attn1.to_q.weight": (4, 4)}, "no LoRA (a file for LTX-Video)"),
        ({"blocks.0.self_attn.q.alpha": ()}, "no LoRA"),
        (pair("text_encoder.layers.0.q"), "changes only a text encoder"),
        (pair("lora_te_layers_0_q"), "changes only a text encoder"),
        (pair("blocks.0.cross_attn.k_img") | pair("img_emb.proj.1"), "only layers of Wan's image-to-video models"),
        ({"patch_embedding.diff": (1536, 36, 1, 2, 2)}, "only layers of Wan's image-to-video models"),
        ({"blocks.0.self_attn.q.lora_up.weight": (1536, 2)}, "have only the second matrix (up, B)"),
        ({"blocks.0.self_attn.q.lora_A.weight": (2, 1536)}, "have only the first matrix (down, A)"),
        (GOOD | pair("blocks.0.self_attn.qq"), "2 of its tensors"),
        (GOOD | pair("blocks.3.self_attn.q"), "layers that this transformer does not have (diffusion_model"),
        (GOOD | {"blocks.0.self_attn.mystery": (3,)}, "names of no LoRA (blocks.0.self_attn.mystery)"),
        (GOOD | pair("transformer.blocks.0.self_attn.q"), "says two things of one module"),
        ({"blocks.0.self_attn.q.hada_w1_a": (2, 2)}, "a LoHa adapter"),
        ({"blocks.0.self_attn.q.lokr_w1": (2, 2)}, "a LoKr adapter"),
        (GOOD | {"blocks.0.self_attn.q.dora_scale": (2, 2)}, "a DoRA adapter"),
        (GOOD | {"blocks.0.self_attn.q.lora_mid.weight": (2, 2)}, "a LoRA in Tucker form"),
        ({"blocks.0.self_attn.q.lora_A.weight": (2, 1536), "blocks.0.self_attn.q.lora_B.weight": (1536, 3)},
         "has rank 3 and its other half rank 2"),
        (pair("blocks.0.ffn.0", 77, 1536), "do not fit the transformer (blocks.0.ffn.0.lora_up.weight: [77, 1536]"),
    ],
)  # fmt: skip
def test_files_that_are_refused(shapes, told, written):
    found = refused(written, shapes)
    if "2 of its tensors" in told or "does not have" in told:
        assert "layers that this transformer does not have (" in found
        assert ("blocks.0.self_attn.qq" in found) or ("blocks.3.self_attn.q" in found)
    else:
        assert told in found


def test_image_and_text_layers_are_left_out_with_a_warning(written, caplog):
    extra = pair("diffusion_model.blocks.0.cross_attn.k_img") | {"diffusion_model.img_emb.proj.0.diff": (8,)}
    extra |= {"diffusion_model.patch_embedding.diff": (1536, 36, 1, 2, 2)} | pair("text_encoder.layers.0.q", 8, 8)
    with caplog.at_level(logging.WARNING, logger="vace"):
        lora = written(GOOD | extra | {"diffusion_model.patch_embedding.diff_b": (1536,)})
    assert {change.target for change in lora.changes} == {"blocks.0.attn1.to_q.weight", "patch_embedding.bias"}
    assert set(lora.skipped) == set(extra)
    assert "6 of its tensors are left out" in caplog.text


def test_kernels_of_five_dimensions(written):
    kernel = {
        "patch_embedding.lora_down.weight": (2, 16, 1, 2, 2),
        "patch_embedding.lora_up.weight": (1536, 2, 1, 1, 1),
    }
    flat = {"patch_embedding.lora_down.weight": (2, 64), "patch_embedding.lora_up.weight": (1536, 2)}
    for shapes in (kernel, flat):
        assert [change.target for change in written(shapes).changes] == ["patch_embedding.weight"]


def test_another_base_takes_none(tmp_path):
    with pytest.raises(InputError, match="for --base wan, not for ltx"):
        check_loras([LoraSpec("x")], part_of(1536, base="ltx"))
    assert check_loras([], part_of(1536, base="ltx")) == ()


def scale_of(written, metadata=None, **given):
    return written(pair("blocks.0.attn1.to_q", rank=4), metadata=metadata, **given).changes[0].scale


def test_scales_that_are_stated(written, tmp_path):
    def stated(**settings):
        return {"lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in settings.items()})}

    assert scale_of(written) == 1.0
    assert scale_of(written, {"format": "pt"}) == 1.0
    assert scale_of(written, stated(r=4, lora_alpha=2)) == 0.5
    assert scale_of(written, stated(r=4, lora_alpha=2, use_rslora=True)) == 1.0
    assert scale_of(written, stated(lora_alpha=2, alpha_pattern={r"blocks.\d+.attn1.to_q": 12})) == 3.0
    assert scale_of(written, stated(lora_alpha=2, alpha_pattern={"attn2.to_q": 12})) == 0.5
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 16}))
    assert scale_of(written) == 1.0  # of another file
    assert scale_of(written, name="adapter_model.safetensors") == 4.0
    assert open_lora(tmp_path / "adapter_model.safetensors").files[1] == tmp_path / "adapter_config.json"
    for damaged in ({"lora_adapter_metadata": "["}, stated(lora_alpha="much"), stated(lora_alpha=float("inf"))):
        with pytest.raises(CheckpointError, match="x.safetensors: its"):
            scale_of(written, damaged)


@pytest.mark.parametrize(("content", "told"), [(b"", "cut off"), (b"version https://git-lfs", "git-lfs pointer")])
def test_damaged_files(content, told, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=told):
        open_lora(tmp_path / "x.safetensors")


def test_only_headers_are_read(written, monkeypatch):
    def fail(*_):
        raise AssertionError("a weight was read")

    monkeypatch.setattr(lora_files.WeightFiles, "read", fail)
    assert written(GOOD | {"diffusion_model.blocks.0.self_attn.q.alpha": ()}).changes[0].alpha
