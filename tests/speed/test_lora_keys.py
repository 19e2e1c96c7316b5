"""Names in LoRA files: every style gives the module and the role, and the class's names come from the key maps."""

from __future__ import annotations

import pytest

from vace.speed import lora_keys as keys
from vace.speed.lora_keys import ALPHA, BIAS_DIFFERENCE, DIFFERENCE, DOWN, UP, UP_BIAS

# The original's name of a module -> the class's.
MODULES = {
    "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
    "blocks.12.cross_attn.o": "blocks.12.attn2.to_out.0",
    "blocks.3.ffn.0": "blocks.3.ffn.net.0.proj",
    "blocks.3.ffn.2": "blocks.3.ffn.net.2",
    "blocks.3.norm3": "blocks.3.norm2",
    "blocks.3.self_attn.norm_q": "blocks.3.attn1.norm_q",
    "vace_blocks.1.cross_attn.v": "vace_blocks.1.attn2.to_v",
    "vace_blocks.0.before_proj": "vace_blocks.0.proj_in",
    "vace_blocks.7.after_proj": "vace_blocks.7.proj_out",
    "patch_embedding": "patch_embedding",
    "vace_patch_embedding": "vace_patch_embedding",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}
PREFIXES = ("", "transformer.", "diffusion_model.", "model.diffusion_model.", "base_model.model.", "pipe.dit.")
UNDERSCORED = ("lora_unet_", "lora_unet__", "lora_transformer_")
ROLES = {
    ".lora_A.weight": DOWN, ".lora_down.weight": DOWN, ".lora_A.default.weight": DOWN, ".lora.down.weight": DOWN,
    ".lora_B.weight": UP, ".lora_up.weight": UP, ".lora_B.mine.weight": UP, ".lora_B.bias": UP_BIAS,
    ".lora_B.default.bias": UP_BIAS, ".alpha": ALPHA, ".diff": DIFFERENCE, ".diff_b": BIAS_DIFFERENCE,
}  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("module", [*MODULES, *MODULES.values()])
def test_dotted_names(prefix, module):
    assert keys.split_name(f"{prefix}{module}.lora_A.weight") == (module, DOWN)


@pytest.mark.parametrize("prefix", UNDERSCORED)
@pytest.mark.parametrize("module", [*MODULES, *MODULES.values(), "blocks.0.cross_attn.k_img", "img_emb.proj.1"])
def test_underscored_names(prefix, module):
    assert keys.split_name(f"{prefix}{module.replace('.', '_')}.lora_up.weight") == (module, UP)


@pytest.mark.parametrize(("ending", "role"), ROLES.items())
def test_roles(ending, role):
    assert keys.split_name("diffusion_model.blocks.0.ffn.0" + ending) == ("blocks.0.ffn.0", role)


@pytest.mark.parametrize("name", ["blocks.0.ffn.0.weight", "blocks.0.alpha_x", "a.diff.weight", "lora_A.weightx"])
def test_names_without_a_role(name):
    assert keys.split_name(name) is None


@pytest.mark.parametrize(("original", "own"), MODULES.items())
def test_both_spellings_reach_the_class(original, own):
    known = {f"{name}.{kind}" for name in MODULES.values() for kind in ("weight", "bias")}
    for module in (original, own):
        assert keys.weight_name(module, dict.fromkeys(known)) == f"{own}.weight"
        assert keys.bias_name(module, dict.fromkeys(known)) == f"{own}.bias"


def test_bare_parameters_and_strangers():
    known = dict.fromkeys(["blocks.0.scale_shift_table", "vace_blocks.1.scale_shift_table", "scale_shift_table"])
    assert keys.weight_name("blocks.0.modulation", known) == "blocks.0.scale_shift_table"
    assert keys.weight_name("vace_blocks.1.modulation", known) == "vace_blocks.1.scale_shift_table"
    assert keys.weight_name("head.modulation", known) == "scale_shift_table"
    assert keys.weight_name("blocks.1.modulation", known) is None
    assert keys.bias_name("blocks.0.modulation", known) is None
    assert keys.weight_name("vae.conv", known) is keys.bias_name("vae.conv", known) is None


def test_grouping():
    names = ["a.lora_A.weight", "a.lora_B.weight", "x.weight", "transformer.a.lora_A.weight", "b.diff", "b.diff_b"]
    found = keys.grouped(names)
    assert found.modules == {
        "a": {DOWN: names[0], UP: names[1]},
        "b": {DIFFERENCE: "b.diff", BIAS_DIFFERENCE: "b.diff_b"},
    }
    assert found.others == ("x.weight",)
    assert found.doubled == ("transformer.a.lora_A.weight",)
