"""Grounding DINO's tensors as the original names and shapes them, as published and small, and a small vocabulary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

Shapes = dict[str, tuple[int, ...]]
DEFORMABLE = {"sampling_offsets": 2, "attention_weights": 1}  # numbers per head, level and point
PREFIX = "module."


@dataclass(frozen=True)
class Dims:
    """Widths, depths and heads. swin: width of the first stage; text: width of BERT."""

    swin: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    hidden: int = 256
    layers: int = 6
    feed: int = 2048
    levels: int = 4
    attention_heads: int = 8
    queries: int = 900
    text: int = 768
    text_layers: int = 12
    text_feed: int = 3072
    words: int = 30522
    places: int = 512


PUBLISHED = {
    "swint_ogc": Dims(),
    "swinb_cogcoor": Dims(swin=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), window=12),
}
TINY = Dims(
    swin=6, depths=(1, 1, 2, 1), heads=(1, 2, 3, 6), window=3, hidden=32, layers=2, feed=24, attention_heads=4,
    queries=20, text=12, text_layers=2, text_feed=20, words=1100, places=300,
)  # fmt: skip


def text_config(dims: Dims) -> dict:
    """BERT's config.json."""
    return {
        "model_type": "bert",
        "vocab_size": dims.words,
        "hidden_size": dims.text,
        "num_hidden_layers": dims.text_layers,
        "num_attention_heads": max(2, dims.text // 64),
        "intermediate_size": dims.text_feed,
        "max_position_embeddings": dims.places,
    }


def original_shapes(dims: Dims) -> Shapes:
    """Name (without "module.") -> shape of every tensor that IDEA-Research/GroundingDINO publishes."""
    shapes: Shapes = {}
    for part in (_swin, _bert, _encoder, _decoder, _rest):
        part(dims, shapes)
    return shapes


def _pair(shapes: Shapes, name: str, *shape: int) -> None:
    shapes[name + ".weight"], shapes[name + ".bias"] = shape, (shape[0],)


def _swin(dims: Dims, shapes: Shapes) -> None:
    start, cells = "backbone.0.", dims.window**2
    _pair(shapes, start + "patch_embed.proj", dims.swin, 3, 4, 4)
    _pair(shapes, start + "patch_embed.norm", dims.swin)
    for stage, (depth, heads) in enumerate(zip(dims.depths, dims.heads, strict=True)):
        width = dims.swin << stage
        for block in (f"{start}layers.{stage}.blocks.{i}." for i in range(depth)):
            for name, shape in (("norm1", (width,)), ("norm2", (width,)), ("attn.qkv", (3 * width, width)),
                                ("attn.proj", (width, width)), ("mlp.fc1", (4 * width, width)),
                                ("mlp.fc2", (width, 4 * width))):  # fmt: skip
                _pair(shapes, block + name, *shape)
            shapes[block + "attn.relative_position_bias_table"] = ((2 * dims.window - 1) ** 2, heads)
            shapes[block + "attn.relative_position_index"] = (cells, cells)
        if stage < len(dims.depths) - 1:
            shapes[f"{start}layers.{stage}.downsample.reduction.weight"] = (2 * width, 4 * width)
            _pair(shapes, f"{start}layers.{stage}.downsample.norm", 4 * width)
        if stage:
            _pair(shapes, f"{start}norm{stage}", width)


def _bert(dims: Dims, shapes: Shapes) -> None:
    width = dims.text
    shapes["bert.embeddings.position_ids"] = (1, dims.places)
    for name, count in (("word", dims.words), ("position", dims.places), ("token_type", 2)):
        shapes[f"bert.embeddings.{name}_embeddings.weight"] = (count, width)
    _pair(shapes, "bert.embeddings.LayerNorm", width)
    _pair(shapes, "bert.pooler.dense", width, width)
    for layer in (f"bert.encoder.layer.{i}." for i in range(dims.text_layers)):
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            _pair(shapes, f"{layer}attention.{name}", width, width)
        _pair(shapes, layer + "attention.output.LayerNorm", width)
        _pair(shapes, layer + "intermediate.dense", dims.text_feed, width)
        _pair(shapes, layer + "output.dense", width, dims.text_feed)
        _pair(shapes, layer + "output.LayerNorm", width)


def _sampling(dims: Dims, shapes: Shapes, name: str) -> None:
    for part, numbers in DEFORMABLE.items():
        _pair(shapes, f"{name}.{part}", dims.attention_heads * dims.levels * 4 * numbers, dims.hidden)
    for part in ("value_proj", "output_proj"):
        _pair(shapes, f"{name}.{part}", dims.hidden, dims.hidden)


def _attention(shapes: Shapes, name: str, width: int) -> None:
    shapes[name + ".in_proj_weight"], shapes[name + ".in_proj_bias"] = (3 * width, width), (3 * width,)
    _pair(shapes, name + ".out_proj", width, width)


def _feed(shapes: Shapes, layer: str, width: int, feed: int, norms: tuple[str, ...]) -> None:
    _pair(shapes, layer + "linear1", feed, width)
    _pair(shapes, layer + "linear2", width, feed)
    for norm in norms:
        _pair(shapes, layer + norm, width)


def _encoder(dims: Dims, shapes: Shapes) -> None:
    width, half = dims.hidden, dims.feed // 2
    for i in range(dims.layers):
        layer = f"transformer.encoder.layers.{i}."
        _sampling(dims, shapes, layer + "self_attn")
        _feed(shapes, layer, width, dims.feed, ("norm1", "norm2"))
        layer = f"transformer.encoder.text_layers.{i}."
        _attention(shapes, layer + "self_attn", width)
        _feed(shapes, layer, width, half, ("norm1", "norm2"))
        layer = f"transformer.encoder.fusion_layers.{i}."
        for name in ("v", "l"):
            shapes[f"{layer}gamma_{name}"] = (width,)
            _pair(shapes, f"{layer}layer_norm_{name}", width)
            _pair(shapes, f"{layer}attn.{name}_proj", half, width)
            _pair(shapes, f"{layer}attn.values_{name}_proj", half, width)
            _pair(shapes, f"{layer}attn.out_{name}_proj", width, half)


def _boxes(shapes: Shapes, name: str, width: int) -> None:
    for i, out in enumerate((width, width, 4)):
        _pair(shapes, f"{name}.layers.{i}", out, width)


def _decoder(dims: Dims, shapes: Shapes) -> None:
    width = dims.hidden
    for i in range(dims.layers):
        layer = f"transformer.decoder.layers.{i}."
        _sampling(dims, shapes, layer + "cross_attn")
        _attention(shapes, layer + "self_attn", width)
        _attention(shapes, layer + "ca_text", width)
        _feed(shapes, layer, width, dims.feed, ("norm1", "norm2", "norm3", "catext_norm"))
        _boxes(shapes, f"transformer.decoder.bbox_embed.{i}", width)
        _boxes(shapes, f"bbox_embed.{i}", width)
    _pair(shapes, "transformer.decoder.norm", width)
    _pair(shapes, "transformer.decoder.ref_point_head.layers.0", width, 2 * width)
    _pair(shapes, "transformer.decoder.ref_point_head.layers.1", width, width)


def _rest(dims: Dims, shapes: Shapes) -> None:
    width = dims.hidden
    shapes["transformer.level_embed"] = (dims.levels, width)
    shapes["transformer.tgt_embed.weight"] = (dims.queries, width)
    shapes["label_enc.weight"] = (2000, width)
    _pair(shapes, "transformer.enc_output", width, width)
    _pair(shapes, "transformer.enc_output_norm", width)
    _boxes(shapes, "transformer.enc_out_bbox_embed", width)
    _pair(shapes, "feat_map", width, dims.text)
    inputs = [dims.swin << stage for stage in range(1, len(dims.depths))]
    for level in range(dims.levels):
        source = inputs[min(level, len(inputs) - 1)]
        _pair(shapes, f"input_proj.{level}.0", width, source, *((1, 1) if level < len(inputs) else (3, 3)))
        _pair(shapes, f"input_proj.{level}.1", width)


def drawn_tensors(seed: int = 0, dims: Dims = TINY) -> dict[str, torch.Tensor]:
    """Random weights that keep signals at their size; the box heads are one, as the original shares them."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in original_shapes(dims).items():
        noise = torch.randn(shape, generator=generator)
        is_norm = "norm" in name.lower() or name.startswith("input_proj") and name.split(".")[2] == "1"
        if len(shape) == 1:
            tensors[name] = 0.2 * noise + (is_norm and name.endswith("weight")) + 0.2 * name.count("gamma")
        elif "embed" in name and "bbox" not in name and "patch" not in name:
            tensors[name] = noise
        else:
            tensors[name] = noise / noise[0].numel() ** 0.5
    for name in tensors:
        if "bbox_embed." in name and "enc_out" not in name:
            tensors[name] = tensors["bbox_embed.0." + name.partition("bbox_embed.")[2].partition(".")[2]]
    return tensors


def write_original(path: Path, tensors: dict[str, torch.Tensor], dims: Dims = TINY) -> Path:
    """A file as the original publishes it, with the text encoder's folder beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": {PREFIX + name: value for name, value in tensors.items()}}, path)
    write_text_folder(path.parent / "bert-base-uncased", dims)
    return path


def write_text_folder(folder: Path, dims: Dims = TINY) -> None:
    """BERT's config.json and vocab.txt; the signs that the network knows by number stand where BERT has them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(text_config(dims)))
    words = [f"[unused{i}]" for i in range(dims.words)]
    words[0], words[100], words[101], words[102], words[103] = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    words[1012], words[1029], words[1011] = ".", "?", "-"
    for i, word in enumerate(("a", "cat", "dog", "red", "shirt", "t", "##s", "golden", "retriever", "on", "the")):
        words[1040 + i] = word
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
