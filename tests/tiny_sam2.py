"""SAM 2's tensors as the original names and shapes them, at the published sizes and at one small enough for tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

Shapes = dict[str, tuple[int, ...]]
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)
class Dims:
    """Widths and depths. blocks: of the encoder's stages; each stage is twice as wide as the one before."""

    width: int
    blocks: tuple[int, int, int, int]
    ground: int = 7  # side of the position table
    hidden: int = 256
    feed: int = 2048  # width inside the decoder's and the memory attention's layers
    attention: int = 4  # layers of the memory attention
    fused: int = 1024
    is_first_version: bool = False  # SAM 2.0


PUBLISHED = {
    "tiny": Dims(96, (1, 2, 7, 2)),
    "small": Dims(96, (1, 2, 11, 2)),
    "base_plus": Dims(112, (2, 3, 16, 3), ground=14),
    "large": Dims(144, (2, 6, 36, 4)),
    "large 2.0": Dims(144, (2, 6, 36, 4), is_first_version=True),
}
TINY = Dims(8, (1, 2, 2, 1), ground=4, hidden=128, feed=16, attention=2, fused=16)
TINY_SIZE = {"heads": (1, 1, 2, 2), "windows": (8, 4, 4, 4), "global_blocks": (4,), "image_size": 64}
SMALLER = replace(TINY, blocks=(1, 1, 1, 1))  # no size that is known


def original_shapes(dims: Dims) -> Shapes:
    """Name -> shape of every tensor of facebookresearch/sam2's `SAM2Base`."""
    shapes: Shapes = {}
    for part in (_encoder, _prompts, _decoder, _memory):
        part(dims, shapes)
    if dims.is_first_version:
        for name in [name for name in shapes if name.startswith(("obj_ptr_tpos_proj", "no_obj_embed_spatial"))]:
            del shapes[name]
    return shapes


def _pair(shapes: Shapes, name: str, *shape: int, bias: int | None = None) -> None:
    shapes[name + ".weight"] = shape
    shapes[name + ".bias"] = (shape[0] if bias is None else bias,)


def _encoder(dims: Dims, shapes: Shapes) -> None:
    trunk, widths = "image_encoder.trunk.", [dims.width << stage for stage in range(4)]
    shapes[trunk + "pos_embed"] = (1, dims.width, dims.ground, dims.ground)
    shapes[trunk + "pos_embed_window"] = (1, dims.width, 8, 8)
    _pair(shapes, trunk + "patch_embed.proj", dims.width, 3, 7, 7)
    before, index = dims.width, 0
    for width, count in zip(widths, dims.blocks, strict=True):
        for _ in range(count):
            block = f"{trunk}blocks.{index}."
            _pair(shapes, block + "norm1", before)
            _pair(shapes, block + "attn.qkv", 3 * width, before)
            _pair(shapes, block + "attn.proj", width, width)
            _pair(shapes, block + "norm2", width)
            _pair(shapes, block + "mlp.layers.0", 4 * width, width)
            _pair(shapes, block + "mlp.layers.1", width, 4 * width)
            if before != width:
                _pair(shapes, block + "proj", width, before)
            before, index = width, index + 1
    for i, width in enumerate(reversed(widths)):
        _pair(shapes, f"image_encoder.neck.convs.{i}.conv", dims.hidden, width, 1, 1)


def _prompts(dims: Dims, shapes: Shapes) -> None:
    start, hidden = "sam_prompt_encoder.", dims.hidden
    shapes[start + "pe_layer.positional_encoding_gaussian_matrix"] = (2, hidden // 2)
    for name in (*(f"point_embeddings.{i}" for i in range(4)), "not_a_point_embed", "no_mask_embed"):
        shapes[f"{start}{name}.weight"] = (1, hidden)
    _pair(shapes, start + "mask_downscaling.0", 4, 1, 2, 2)
    _pair(shapes, start + "mask_downscaling.1", 4)
    _pair(shapes, start + "mask_downscaling.3", 16, 4, 2, 2)
    _pair(shapes, start + "mask_downscaling.4", 16)
    _pair(shapes, start + "mask_downscaling.6", hidden, 16, 1, 1)


def _attention(shapes: Shapes, name: str, hidden: int, inner: int, keys: int | None = None) -> None:
    for part in _PROJECTIONS:
        width = (hidden if keys is None else keys) if part in ("k_proj", "v_proj") else hidden
        _pair(shapes, f"{name}.{part}", *((hidden, inner) if part == "out_proj" else (inner, width)))


def _three(shapes: Shapes, name: str, hidden: int, out: int) -> None:
    for i, width in enumerate((hidden, hidden, out)):
        _pair(shapes, f"{name}.layers.{i}", width, hidden)


def _decoder(dims: Dims, shapes: Shapes) -> None:
    start, hidden = "sam_mask_decoder.", dims.hidden
    for layer in (f"{start}transformer.layers.{i}." for i in range(2)):
        _attention(shapes, layer + "self_attn", hidden, hidden)
        _attention(shapes, layer + "cross_attn_token_to_image", hidden, hidden // 2)
        _attention(shapes, layer + "cross_attn_image_to_token", hidden, hidden // 2)
        for i in range(1, 5):
            _pair(shapes, f"{layer}norm{i}", hidden)
        _pair(shapes, layer + "mlp.layers.0", dims.feed, hidden)
        _pair(shapes, layer + "mlp.layers.1", hidden, dims.feed)
    _attention(shapes, start + "transformer.final_attn_token_to_image", hidden, hidden // 2)
    _pair(shapes, start + "transformer.norm_final_attn", hidden)
    for name, count in (("iou_token", 1), ("mask_tokens", 4), ("obj_score_token", 1)):
        shapes[f"{start}{name}.weight"] = (count, hidden)
    _pair(shapes, start + "output_upscaling.0", hidden, hidden // 4, 2, 2, bias=hidden // 4)
    _pair(shapes, start + "output_upscaling.1", hidden // 4)
    _pair(shapes, start + "output_upscaling.3", hidden // 4, hidden // 8, 2, 2, bias=hidden // 8)
    _pair(shapes, start + "conv_s0", hidden // 8, hidden, 1, 1)
    _pair(shapes, start + "conv_s1", hidden // 4, hidden, 1, 1)
    for i in range(4):
        _three(shapes, f"{start}output_hypernetworks_mlps.{i}", hidden, hidden // 8)
    _three(shapes, start + "iou_prediction_head", hidden, 4)
    _three(shapes, start + "pred_obj_score_head", hidden, 1)


def _memory(dims: Dims, shapes: Shapes) -> None:
    hidden, kept = dims.hidden, 64
    for layer in (f"memory_attention.layers.{i}." for i in range(dims.attention)):
        _attention(shapes, layer + "self_attn", hidden, hidden)
        _attention(shapes, layer + "cross_attn_image", hidden, hidden, keys=kept)
        _pair(shapes, layer + "linear1", dims.feed, hidden)
        _pair(shapes, layer + "linear2", hidden, dims.feed)
        for i in range(1, 4):
            _pair(shapes, f"{layer}norm{i}", hidden)
    _pair(shapes, "memory_attention.norm", hidden)
    start = "memory_encoder."
    for i in range(4):
        _pair(shapes, f"{start}mask_downsampler.encoder.{3 * i}", 4 ** (i + 1), 4**i, 3, 3)
        _pair(shapes, f"{start}mask_downsampler.encoder.{3 * i + 1}", 4 ** (i + 1))
    _pair(shapes, start + "mask_downsampler.encoder.12", hidden, 256, 1, 1)
    _pair(shapes, start + "pix_feat_proj", hidden, hidden, 1, 1)
    _pair(shapes, start + "out_proj", kept, hidden, 1, 1)
    for layer in (f"{start}fuser.layers.{i}." for i in range(2)):
        shapes[layer + "gamma"] = (hidden,)
        _pair(shapes, layer + "dwconv", hidden, 1, 7, 7)
        _pair(shapes, layer + "norm", hidden)
        _pair(shapes, layer + "pwconv1", dims.fused, hidden)
        _pair(shapes, layer + "pwconv2", hidden, dims.fused)
    _pair(shapes, "mask_downsample", 1, 1, 4, 4)
    _three(shapes, "obj_ptr_proj", hidden, hidden)
    _pair(shapes, "obj_ptr_tpos_proj", kept, hidden)
    shapes["maskmem_tpos_enc"] = (7, 1, 1, kept)
    shapes["no_mem_embed"] = shapes["no_mem_pos_enc"] = (1, 1, hidden)
    shapes["no_obj_ptr"], shapes["no_obj_embed_spatial"] = (1, hidden), (1, kept)


def drawn_tensors(seed: int = 0, dims: Dims = TINY) -> dict[str, torch.Tensor]:
    """Random weights that keep signals at their size, the thing mostly in sight."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in original_shapes(dims).items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            tensors[name] = 0.2 * noise + ("norm" in name and name.endswith("weight"))
        elif not name.endswith(".weight") or any(word in name for word in ("_embed.weight", "embeddings", "token")):
            tensors[name] = noise  # tables
        else:
            tensors[name] = noise / noise[0].numel() ** 0.5
    tensors["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 3
    return tensors


def write_original(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """A file as the original publishes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": tensors}, path)
    return path
