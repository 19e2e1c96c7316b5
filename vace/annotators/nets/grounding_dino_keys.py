"""Grounding DINO's own weight files (groundingdino_swint_ogc.pth ...) under transformers' names, and its sizes.

Names on both sides: IDEA-Research/GroundingDINO's modules, and the names under which transformers publishes
`GroundingDinoForObjectDetection` (IDEA-Research/grounding-dino-tiny).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vace.errors import CheckpointError
from vace.weight_files import Shape, open_weights

SAMPLED_POINTS = 4  # of the deformable attention, per head and level: no shape tells them from the heads
_PREFIX = "module."
_SWIN, _BERT = "backbone.0.", "bert."

# What the files carry and nothing reads: tables made anew, training's own, and a second copy of the shared box heads.
LEFT_OUT = (
    r"^label_enc\.",
    r"^bert\.embeddings\.position_ids$",
    r"^bert\.pooler\.",
    r"\.relative_position_index$",
    r"^transformer\.decoder\.bbox_embed\.",
)

_BACKBONE = "model.backbone.conv_encoder.model."
_SWIN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.relative_position_bias_table": "attention.self.relative_position_bias_table",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_DEFORMABLE = {
    "self_attn": "self_attn",
    "norm1": "self_attn_layer_norm",
    "linear1": "fc1",
    "linear2": "fc2",
    "norm2": "final_layer_norm",
}
_TEXT = {
    "self_attn.out_proj": "self_attn.out_proj",
    "linear1": "fc1",
    "linear2": "fc2",
    "norm1": "layer_norm_before",
    "norm2": "layer_norm_after",
}
_FUSION = {
    "gamma_v": "vision_param",
    "gamma_l": "text_param",
    "layer_norm_v": "layer_norm_vision",
    "layer_norm_l": "layer_norm_text",
    "attn.v_proj": "attn.vision_proj",
    "attn.l_proj": "attn.text_proj",
    "attn.values_v_proj": "attn.values_vision_proj",
    "attn.values_l_proj": "attn.values_text_proj",
    "attn.out_v_proj": "attn.out_vision_proj",
    "attn.out_l_proj": "attn.out_text_proj",
}
_DECODER = {
    "cross_attn": "encoder_attn",
    "norm1": "encoder_attn_layer_norm",
    "ca_text.out_proj": "encoder_attn_text.out_proj",
    "catext_norm": "encoder_attn_text_layer_norm",
    "self_attn.out_proj": "self_attn.out_proj",
    "norm2": "self_attn_layer_norm",
    "linear1": "fc1",
    "linear2": "fc2",
    "norm3": "final_layer_norm",
}
# A layer's name in the original, its name in transformers, and the names of its parts.
_LAYERS = tuple(
    (re.compile(pattern), target, parts)
    for pattern, target, parts in (
        (r"backbone\.0\.(layers\.\d+\.blocks\.\d+)\.", _BACKBONE + r"encoder.\1.", _SWIN_BLOCK),
        (r"transformer\.encoder\.layers\.(\d+)\.", r"model.encoder.layers.\1.deformable_layer.", _DEFORMABLE),
        (r"transformer\.encoder\.text_layers\.(\d+)\.", r"model.encoder.layers.\1.text_enhancer_layer.", _TEXT),
        (r"transformer\.encoder\.fusion_layers\.(\d+)\.", r"model.encoder.layers.\1.fusion_layer.", _FUSION),
        (r"transformer\.decoder\.layers\.(\d+)\.", r"model.decoder.layers.\1.", _DECODER),
    )
)
_WHOLE = tuple(
    (re.compile("^" + pattern), target)
    for pattern, target in (
        (r"backbone\.0\.patch_embed\.proj\.", _BACKBONE + "embeddings.patch_embeddings.projection."),
        (r"backbone\.0\.patch_embed\.norm\.", _BACKBONE + "embeddings.norm."),
        (r"backbone\.0\.(layers\.\d+\.downsample)\.", _BACKBONE + r"encoder.\1."),
        (r"bert\.", "model.text_backbone."),
        (r"input_proj\.", "model.input_proj_vision."),
        (r"feat_map\.", "model.text_projection."),
        (r"transformer\.decoder\.ref_point_head\.", "model.decoder.reference_points_head."),
        (r"transformer\.decoder\.norm\.", "model.decoder.layer_norm."),
        (r"transformer\.enc_out_bbox_embed\.", "model.encoder_output_bbox_embed."),
        (r"transformer\.enc_output", "model.enc_output"),
        (r"transformer\.level_embed$", "model.level_embed"),
        (r"transformer\.tgt_embed\.", "model.query_position_embeddings."),
    )
)
_STAGE_NORM = re.compile(r"^backbone\.0\.norm(\d+)\.")
# Queries, keys and values are one tensor in the original, three here: its thirds, in this order.
_THIRDS = (
    (re.compile(r"^backbone\.0\.(layers\.\d+\.blocks\.\d+)\.attn\.qkv\."), _BACKBONE + r"encoder.\1.attention.self.@."),
    (re.compile(r"^transformer\.encoder\.text_layers\.(\d+)\.self_attn\.in_proj_"),
     r"model.encoder.layers.\1.text_enhancer_layer.self_attn.@."),
    (re.compile(r"^transformer\.decoder\.layers\.(\d+)\.self_attn\.in_proj_"), r"model.decoder.layers.\1.self_attn.@."),
    (re.compile(r"^transformer\.decoder\.layers\.(\d+)\.ca_text\.in_proj_"),
     r"model.decoder.layers.\1.encoder_attn_text.@."),
)  # fmt: skip


def renamed(name: str) -> tuple[str, ...]:
    """transformers' names of the tensor that the original calls `name` (without "module."): one, three, or none.

    Three: the tensor's thirds along its first axis. None: nothing reads it.
    """
    if any(re.search(rule, name) for rule in LEFT_OUT):
        return ()
    for rule, target in _THIRDS:
        if rule.match(name):
            return tuple(rule.sub(target, name).replace("@", part) for part in ("query", "key", "value"))
    for rule, target, parts in _LAYERS:
        if found := rule.match(name):
            rest = name[found.end() :]
            return (found.expand(target) + _part(rest, parts),)
    if found := _STAGE_NORM.match(name):  # transformers counts the patches before the first stage as one
        return (f"{_BACKBONE}hidden_states_norms.stage{int(found[1]) + 1}.{name[found.end() :]}",)
    for rule, target in _WHOLE:
        if rule.match(name):
            return (rule.sub(target, name),)
    return (name,)


def _part(rest: str, parts: Mapping[str, str]) -> str:
    for old, new in parts.items():
        if rest == old or rest.startswith(old + "."):
            return new + rest[len(old) :]
    return rest


def config_of(shapes: Mapping[str, Shape], text_config: Any) -> Any:
    """The `GroundingDinoConfig` of the original's tensors (names without "module.") with the text encoder's config.

    Raises KeyError for a tensor that is absent.
    """
    from transformers import GroundingDinoConfig, SwinConfig

    depths = [
        _count(shapes, rf"backbone\.0\.layers\.{stage}\.blocks\.(\d+)\.")
        for stage in range(_count(shapes, r"backbone\.0\.layers\.(\d+)\."))
    ]
    patch = shapes[_SWIN + "patch_embed.proj.weight"]
    tables = [
        shapes[f"{_SWIN}layers.{stage}.blocks.0.attn.relative_position_bias_table"] for stage in range(len(depths))
    ]
    swin = SwinConfig(
        embed_dim=patch[0],
        patch_size=patch[2],
        depths=depths,
        num_heads=[heads for _, heads in tables],
        window_size=(round(tables[0][0] ** 0.5) + 1) // 2,
        mlp_ratio=shapes[_SWIN + "layers.0.blocks.0.mlp.fc1.weight"][0] / patch[0],
        out_indices=sorted({int(found[1]) + 1 for name in shapes if (found := _STAGE_NORM.match(name))}),
    )
    encoder, decoder = "transformer.encoder.layers.", "transformer.decoder.layers."
    levels, width = shapes["transformer.level_embed"]
    heads = shapes[encoder + "0.self_attn.attention_weights.weight"][0] // (levels * SAMPLED_POINTS)
    return GroundingDinoConfig(
        backbone_config=swin,
        text_config=text_config,
        num_queries=shapes["transformer.tgt_embed.weight"][0],
        d_model=width,
        num_feature_levels=levels,
        encoder_layers=_count(shapes, r"transformer\.encoder\.layers\.(\d+)\."),
        encoder_ffn_dim=shapes[encoder + "0.linear1.weight"][0],
        encoder_attention_heads=heads,
        encoder_n_points=SAMPLED_POINTS,
        decoder_layers=_count(shapes, r"transformer\.decoder\.layers\.(\d+)\."),
        decoder_ffn_dim=shapes[decoder + "0.linear1.weight"][0],
        decoder_attention_heads=heads,
        decoder_n_points=SAMPLED_POINTS,
    )


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    """How many there are of what `pattern` numbers in its first group."""
    return 1 + max((int(found[1]) for name in shapes if (found := re.match(pattern, name))), default=-1)


def read(path: Path, text_config: Any) -> tuple[Any, dict[str, Any]]:
    """The config and the tensors, as float32 under transformers' names, of the original's file at `path`.

    text_config: a `BertConfig`. Raises CheckpointError for a file that is damaged, or that is no Grounding DINO.
    """
    source = open_weights((path,))
    stored = {name.removeprefix(_PREFIX): name for name in source.shapes}
    shapes = {name: source.shapes[old] for name, old in stored.items()}
    try:
        config = config_of(shapes, text_config)
    except (KeyError, IndexError, ValueError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path}: not the weights of Grounding DINO ({reason}); download it again") from None
    tensors = {}
    for name, old in stored.items():
        targets = renamed(name)
        if targets:
            tensors |= zip(targets, source.read(old).float().chunk(len(targets)), strict=True)
    source.close()
    return config, tensors
