"""SAM 2's own weight files (sam2.1_hiera_*.pt, sam2_hiera_*.pt) under transformers' names, and its sizes.

Names on both sides: facebookresearch/sam2's modules and transformers' `Sam2VideoModel`. Every width and depth is read
from the tensors' shapes; what shapes cannot tell stands in `SIZES`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from vace.annotators.nets.loading_hf import refuse_misfits
from vace.errors import CheckpointError
from vace.weight_files import Shape, open_weights

DECODER_HEADS = 8
POINT_KINDS = 4  # not on the thing, on it, a box's first corner, its second


@dataclass(frozen=True)
class Size:
    """What an encoder's shapes do not tell: attention heads and window per stage, blocks that see all, input pixels."""

    heads: tuple[int, ...]
    windows: tuple[int, ...]
    global_blocks: tuple[int, ...]
    image_size: int = 1024


# (width of the first stage, blocks of each stage) -> Size
SIZES: dict[tuple[int, tuple[int, ...]], Size] = {
    (96, (1, 2, 7, 2)): Size((1, 2, 4, 8), (8, 4, 14, 7), (5, 7, 9)),  # tiny
    (96, (1, 2, 11, 2)): Size((1, 2, 4, 8), (8, 4, 14, 7), (7, 10, 13)),  # small
    (112, (2, 3, 16, 3)): Size((2, 4, 8, 16), (8, 4, 14, 7), (12, 16, 20)),  # base plus
    (144, (2, 6, 36, 4)): Size((2, 4, 8, 16), (8, 4, 16, 8), (23, 33, 43)),  # large
}

_TRUNK, _DECODER, _MEMORY = "image_encoder.trunk.", "sam_mask_decoder.", "memory_encoder."
_POINT = re.compile(r"sam_prompt_encoder\.point_embeddings\.(\d+)\.weight")
_POINTS = "prompt_encoder.point_embed.weight"
_GRID = "prompt_encoder.shared_embedding.positional_embedding"
_GRID_AGAIN = "shared_image_embedding.positional_embedding"  # transformers keeps the same tensor twice

# Heads of three layers are counted 0, 1, 2 by the original, and called in, 0, out by transformers; of two: in, out.
_THREE = {"0": "proj_in", "1": "layers.0", "2": "proj_out"}
_TWO = {"0": "proj_in", "1": "proj_out"}
_RULES = tuple(
    (re.compile(pattern), target)
    for pattern, target in (
        (r"^image_encoder\.trunk\.patch_embed\.proj\.", "vision_encoder.backbone.patch_embed.projection."),
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", _GRID),
        (r"^sam_prompt_encoder\.", "prompt_encoder."),
        (r"^sam_mask_decoder\.", "mask_decoder."),
        (r"\.mask_downscaling\.(\d)\.", {"0": "mask_embed.conv1", "1": "mask_embed.layer_norm1",
                                         "3": "mask_embed.conv2", "4": "mask_embed.layer_norm2",
                                         "6": "mask_embed.conv3"}),
        (r"\.output_upscaling\.(\d)\.", {"0": "upscale_conv1", "1": "upscale_layer_norm", "3": "upscale_conv2"}),
        (r"(?<=\.mlp)\.layers\.(\d)\.", _TWO),
        (r"(?<=_head)\.layers\.(\d)\.", _THREE),
        (r"(?<=_mlps\.\d)\.layers\.(\d)\.", _THREE),
        (r"(?<=^obj_ptr_proj)\.layers\.(\d)\.", _THREE),
        (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
        (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
        (r"^memory_encoder\.fuser\.(.*)\.gamma$", r"memory_encoder.fuser.\1.scale"),
        (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
        (r"\.dwconv\.", ".depthwise_conv."),
        (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
        (r"\.out_proj\.", ".o_proj."),
        (r"\.norm", ".layer_norm"),
        (r"^obj_ptr_proj\.", "object_pointer_proj."),
        (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
        (r"^no_obj_ptr$", "no_object_pointer"),
        (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
        (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
        (r"^no_mem_embed$", "no_memory_embedding"),
        (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    )
)  # fmt: skip
_DOWNSAMPLER = re.compile(r"(?<=^memory_encoder\.mask_downsampler\.)encoder\.(\d+)\.")
# A downsampling layer is a convolution, a norm and an activation without tensors; one more convolution ends them.
_LAYER_PARTS = {0: "conv", 1: "layer_norm"}


def renamed(name: str) -> str:
    """transformers' name of the tensor that the original calls `name` (its four point embeddings share one name)."""
    if _POINT.fullmatch(name):
        return _POINTS
    for rule, target in _RULES:
        if isinstance(target, str):
            name = rule.sub(target, name)
        else:
            name = rule.sub(lambda found, parts=target: f".{parts.get(found[1], found[1])}.", name)
    return name


def _downsampler(shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The names of the memory encoder's downsampler, whose last index is its last convolution's."""
    found = {name: int(match[1]) for name in shapes if (match := _DOWNSAMPLER.search(name))}
    last = max(found.values(), default=0)
    return {
        name: _DOWNSAMPLER.sub(
            "final_conv." if at == last else f"layers.{at // 3}.{_LAYER_PARTS.get(at % 3, at)}.", name
        )
        for name, at in found.items()
    }


def names(shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The original's names in `shapes` -> transformers' names."""
    return {name: renamed(name) for name in shapes} | _downsampler(shapes)


def config_of(shapes: Mapping[str, Shape]) -> Any:
    """The `Sam2VideoConfig` of the original's tensors; 2.1 and 2.0 are told apart by what only 2.1 has.

    Raises KeyError for a tensor that is absent, LookupError for a size that is not in `SIZES`.
    """
    from transformers import Sam2VideoConfig

    vision, side = _vision_config(shapes)
    width = shapes["image_encoder.neck.convs.0.conv.weight"][0]
    fuser = _MEMORY + "fuser.layers.0."
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=_prompt_config(shapes, side),
        mask_decoder_config=_decoder_config(shapes),
        image_size=side,
        num_maskmem=shapes["maskmem_tpos_enc"][0],
        enable_occlusion_spatial_embedding="no_obj_embed_spatial" in shapes,
        enable_temporal_pos_encoding_for_object_pointers="obj_ptr_tpos_proj.weight" in shapes,
        memory_attention_hidden_size=width,
        memory_attention_num_layers=_count(shapes, r"memory_attention\.layers\.(\d+)\."),
        memory_attention_feed_forward_hidden_size=shapes["memory_attention.layers.0.linear1.weight"][0],
        memory_attention_rope_feat_sizes=[side // 16, side // 16],
        memory_encoder_hidden_size=shapes[_MEMORY + "pix_feat_proj.weight"][0],
        memory_encoder_output_channels=shapes[_MEMORY + "out_proj.weight"][0],
        mask_downsampler_embed_dim=shapes[_MEMORY + "pix_feat_proj.weight"][0],
        memory_fuser_num_layers=_count(shapes, r"memory_encoder\.fuser\.layers\.(\d+)\."),
        memory_fuser_embed_dim=shapes[fuser + "dwconv.weight"][0],
        memory_fuser_kernel_size=shapes[fuser + "dwconv.weight"][2],
        memory_fuser_padding=shapes[fuser + "dwconv.weight"][2] // 2,
        memory_fuser_intermediate_dim=shapes[fuser + "pwconv1.weight"][0],
    )


def _vision_config(shapes: Mapping[str, Shape]) -> tuple[Any, int]:
    """The image encoder's config, and the side of the pictures that it takes."""
    from transformers import Sam2HieraDetConfig, Sam2VisionConfig

    patch = shapes[_TRUNK + "patch_embed.proj.weight"]
    widths = [
        shapes[f"{_TRUNK}blocks.{i}.attn.proj.weight"][0]
        for i in range(_count(shapes, r"image_encoder\.trunk\.blocks\.(\d+)\."))
    ]
    stages = [(width, len(list(run))) for width, run in groupby(widths)]
    dims, blocks = [width for width, _ in stages], tuple(count for _, count in stages)
    size = SIZES.get((dims[0], blocks))
    if size is None:
        known = "; ".join(f"{width}, {counts}" for width, counts in SIZES)
        raise LookupError(f"an encoder of width {dims[0]} with {blocks} blocks per stage; known: {known}")
    side = size.image_size
    backbone = Sam2HieraDetConfig(
        hidden_size=dims[0],
        image_size=[side, side],
        patch_kernel_size=list(patch[2:]),
        blocks_per_stage=list(blocks),
        embed_dim_per_stage=dims,
        num_attention_heads_per_stage=list(size.heads),
        window_size_per_stage=list(size.windows),
        global_attention_blocks=list(size.global_blocks),
        window_positional_embedding_background_size=list(shapes[_TRUNK + "pos_embed"][2:]),
        mlp_ratio=shapes[_TRUNK + "blocks.0.mlp.layers.0.weight"][0] / dims[0],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=dims[::-1],
        backbone_feature_sizes=[[side // scale, side // scale] for scale in (4, 8, 16)],
        fpn_hidden_size=shapes["image_encoder.neck.convs.0.conv.weight"][0],
    )
    return vision, side


def _prompt_config(shapes: Mapping[str, Shape], side: int) -> Any:
    from transformers import Sam2VideoPromptEncoderConfig

    return Sam2VideoPromptEncoderConfig(
        hidden_size=shapes["sam_prompt_encoder.no_mask_embed.weight"][1],
        image_size=side,
        mask_input_channels=shapes["sam_prompt_encoder.mask_downscaling.3.weight"][0],
    )


def _decoder_config(shapes: Mapping[str, Shape]) -> Any:
    from transformers import Sam2VideoMaskDecoderConfig

    width = shapes[_DECODER + "mask_tokens.weight"][1]
    layer = _DECODER + "transformer.layers.0."
    return Sam2VideoMaskDecoderConfig(
        hidden_size=width,
        mlp_dim=shapes[layer + "mlp.layers.0.weight"][0],
        num_hidden_layers=_count(shapes, r"sam_mask_decoder\.transformer\.layers\.(\d+)\."),
        num_attention_heads=DECODER_HEADS,
        attention_downsample_rate=width // shapes[layer + "cross_attn_token_to_image.q_proj.weight"][0],
        num_multimask_outputs=shapes[_DECODER + "mask_tokens.weight"][0] - 1,
        iou_head_hidden_dim=shapes[_DECODER + "iou_prediction_head.layers.0.weight"][0],
    )


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    """How many there are of what `pattern` numbers in its first group."""
    return 1 + max((int(found[1]) for name in shapes if (found := re.match(pattern, name))), default=-1)


def read(path: Path) -> tuple[Any, dict[str, Any]]:
    """The config and the tensors, as float32 under transformers' names, of the original's file at `path`.

    Raises CheckpointError for a file that is damaged, or that is no SAM 2 of a known size.
    """
    source = open_weights((path,))
    try:
        config = config_of(source.shapes)
    except KeyError as error:
        raise CheckpointError(f"{path}: not the weights of SAM 2 ({error.args[0]} is missing); download it") from None
    except LookupError as error:
        raise CheckpointError(f"{path}: not a SAM 2 of a known size ({error}); give a published one") from None
    points = [name for name in source.shapes if _POINT.fullmatch(name)]
    wanted = {f"sam_prompt_encoder.point_embeddings.{i}.weight" for i in range(POINT_KINDS)}
    refuse_misfits(str(path), "SAM 2", missing=wanted - set(points), unknown=set(points) - wanted)
    tensors = {new: source.read(old).float() for old, new in names(source.shapes).items() if old not in points}
    tensors[_POINTS] = _stacked([source.read(name).float() for name in sorted(points)], str(path))
    if _GRID in tensors:
        tensors[_GRID_AGAIN] = tensors[_GRID].clone()
    source.close()
    return config, tensors


def _stacked(rows: list[Any], where: str) -> Any:
    import torch

    if len({tuple(row.shape) for row in rows}) > 1:
        raise CheckpointError(f"{where}: its point embeddings differ in shape; download it again")
    return torch.cat(rows)
