"""Depth Anything V2: the original file's tensors by their names in transformers, its settings by their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vace.annotators.nets.midas_keys import HEAD_WIDTH, Names, count, fusion_names, with_suffixes
from vace.weight_files import Shape

IDLE_ORIGINAL = ("pretrained.mask_token", "depth_head.scratch.refinenet4.resConfUnit1.")
IDLE = ("backbone.embeddings.mask_token", "neck.fusion_stage.layers.0.residual_layer1.")

# After which layers the features are taken, where that is not after every quarter of them.
TAKEN = {24: [5, 12, 18, 24]}
_VIT = "pretrained"
_HEAD = "depth_head"

# Attention as the published folders spell it -> as newer transformers do, which renames while loading.
_RESPELLED = (
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
)


def config_of(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Settings of transformers' DepthAnythingConfig for the original's tensors. Raises KeyError for an absent one.

    Small, base, large and any other width: heads are of 64 in all of them.
    """
    width, _, patch, _ = shapes[f"{_VIT}.patch_embed.proj.weight"]
    layers = count(shapes, f"{_VIT}.blocks.")
    quarters = [layers * n // 4 for n in (1, 2, 3, 4)]
    return {
        "backbone_config": {
            "model_type": "dinov2",
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": max(1, width // HEAD_WIDTH),
            "mlp_ratio": shapes[f"{_VIT}.blocks.0.mlp.fc1.weight"][0] // width,
            "patch_size": patch,
            "image_size": int((shapes[f"{_VIT}.pos_embed"][1] - 1) ** 0.5) * patch,
            "layer_norm_eps": 1e-6,
            "out_indices": TAKEN.get(layers, quarters),
            "apply_layernorm": True,
            "reshape_hidden_states": False,
        },
        "patch_size": patch,
        "reassemble_hidden_size": width,
        "neck_hidden_sizes": [shapes[f"{_HEAD}.projects.{n}.weight"][0] for n in range(4)],
        "fusion_hidden_size": shapes[f"{_HEAD}.scratch.layer1_rn.weight"][0],
        "head_hidden_size": shapes[f"{_HEAD}.scratch.output_conv2.0.weight"][0],
    }


_LAYER = (
    ("norm1", "norm1"),
    ("norm2", "norm2"),
    ("attn.proj", "attention.output.dense"),
    ("mlp.fc1", "mlp.fc1"),
    ("mlp.fc2", "mlp.fc2"),
)
_OUTSIDE = (  # old, new, whether it has a bias
    (f"{_VIT}.patch_embed.proj", "backbone.embeddings.patch_embeddings.projection", True),
    (f"{_VIT}.norm", "backbone.layernorm", True),
    *((f"{_HEAD}.projects.{n}", f"neck.reassemble_stage.layers.{n}.projection", True) for n in range(4)),
    *((f"{_HEAD}.resize_layers.{n}", f"neck.reassemble_stage.layers.{n}.resize", True) for n in (0, 1, 3)),
    (f"{_HEAD}.scratch.output_conv1", "head.conv1", True),
    (f"{_HEAD}.scratch.output_conv2.0", "head.conv2", True),
    (f"{_HEAD}.scratch.output_conv2.2", "head.conv3", True),
)


def original_names(shapes: Mapping[str, Shape]) -> Names:
    """Every tensor of an original with as many layers as `shapes`, and where it goes, as published folders spell it."""
    names = {
        f"{_VIT}.cls_token": ("backbone.embeddings.cls_token",),
        f"{_VIT}.mask_token": ("backbone.embeddings.mask_token",),
        f"{_VIT}.pos_embed": ("backbone.embeddings.position_embeddings",),
    }
    for layer in range(count(shapes, f"{_VIT}.blocks.")):
        old, new = f"{_VIT}.blocks.{layer}", f"backbone.encoder.layer.{layer}"
        names |= with_suffixes((f"{old}.{a}", f"{new}.{b}", True) for a, b in _LAYER)
        for suffix in ("weight", "bias"):
            parts = (f"{new}.attention.attention.{part}.{suffix}" for part in ("query", "key", "value"))
            names[f"{old}.attn.qkv.{suffix}"] = tuple(parts)
        for n in (1, 2):
            names[f"{old}.ls{n}.gamma"] = (f"{new}.layer_scale{n}.lambda1",)
    return names | with_suffixes(_OUTSIDE) | with_suffixes(fusion_names(f"{_HEAD}.scratch"))


def respelled(name: str, wanted: Iterable[str]) -> str:
    """A tensor's published name as the installed transformers has it in `wanted`; unchanged where both agree."""
    for old, new in _RESPELLED:
        if name not in wanted and old in name:
            return name.replace(old, new)
    return name


def published(name: str) -> str:
    """The other way round: a tensor of a model, as published folders spell it."""
    for old, new in _RESPELLED:
        name = name.replace(new, old)
    return name
