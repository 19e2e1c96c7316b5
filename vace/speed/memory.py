"""Device memory that each stage of a Wan run takes, by arithmetic on the sizes of model and video; no weights are read.

Weights are exact (`vace.models.loading.device_bytes`). What a stage works with is counted as torch's operations make
it, at the moment of the most: in a transformer block either the rotation of the keys or the feed-forward layer, in the
VAE the last (encoding: first) residual block with the caches of all convolutions. tests/speed/test_memory.py counts
the same on running models and holds these numbers to 15 %. Left out: the work space of library kernels, the driver's
context and the allocator's rounding; the reserve of `vace.speed.memory_plans` is for them.

All numbers are bytes unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from vace.models.loading import device_bytes
from vace.models.parts import Part
from vace.models.wan.cost import token_count
from vace.models.wan.vae_tiles import CELL, TILES, Tiles
from vace.speed.offload import SLOTS
from vace.speed.step_cache import cache_bytes

FLOAT32 = 4
ROUNDED = "int8"
_STREAMS = 5  # [N, D] tensors alive around a main block: entering, embedded context, hidden, hint, context's state
_CACHED = 2  # frames a causal convolution keeps


@dataclass(frozen=True)
class Weights:
    """One part in memory: as it is, and with its linear layers in 8 bits."""

    plain: int
    rounded: int


@dataclass(frozen=True)
class Blocks:
    """A transformer whose blocks are offloaded: what stays on the device, the slots included, and what the host holds.

    rounded: the same with weights of 8 bits; the slots stay as large, since first and last block are not rounded.
    """

    plain: int
    rounded: int
    host: Weights


@dataclass(frozen=True)
class Estimate:
    """What `vace.speed.memory_plans` chooses by.

    text, transformer, vae: weights. offloaded: the transformer's. *_work: what the stage needs beside weights; `whole`
    and `tiled` of the VAE. tokens: the transformer's.
    """

    tokens: int
    text: Weights
    transformer: Weights
    vae: int
    offloaded: Blocks
    text_work: int
    encode_whole: int
    encode_tiled: int
    denoise_work: int
    decode_whole: int
    decode_tiled: int


def estimate(
    parts: Mapping[str, Part],
    width: int,
    height: int,
    frames: int,
    refs: int = 0,
    *,
    dtype: torch.dtype = torch.bfloat16,
    text_dtype: torch.dtype | None = None,
    vae_dtype: torch.dtype = torch.float32,
    is_guided: bool = True,
    step_cache: bool = False,
    tiles: Tiles = TILES,
    group_blocks: int = 1,
) -> Estimate:
    """For one video of `frames` frames of width x height with `refs` reference images.

    parts: of `read_part`. is_guided: two branches; they run one after the other, and the first's result is kept.
    Raises CheckpointError for settings that make no model.
    """
    config, vae = parts["transformer"].config, parts["vae"].config
    text_type = text_dtype or (torch.bfloat16 if dtype == torch.float16 else dtype)
    tokens = token_count(config, width, height, frames, refs)
    latents = (frames - 1) // 4 + 1
    high, wide = (min(size, CELL * tiles.side) for size in (height, width))
    middle = latents * (height // CELL) * (width // CELL) * FLOAT32
    return Estimate(
        tokens=tokens,
        text=_weights(parts["text_encoder"], text_type),
        transformer=_weights(parts["transformer"], dtype),
        vae=device_bytes(parts["vae"], vae_dtype),
        offloaded=offloaded_bytes(parts["transformer"], dtype, group_blocks),
        text_work=text_work(parts["text_encoder"].config, config["text_len"], text_type.itemsize),
        encode_whole=in_type(encode_work(vae, frames, height, width), vae_dtype) + held_frames(frames, height, width),
        encode_tiled=in_type(encode_work(vae, frames, high, wide), vae_dtype),
        denoise_work=denoise_work(config, tokens, dtype.itemsize, is_guided, step_cache),
        decode_whole=in_type(decode_work(vae, latents, height, width), vae_dtype) + middle * vae["z_dim"] * 3,
        decode_tiled=in_type(decode_work(vae, latents, high, wide), vae_dtype) + middle * vae["z_dim"] * 3,
    )


def of_decoding(
    vae: Part, latents: int, width: int, height: int, tiles: Tiles = TILES, vae_dtype: torch.dtype = torch.float32
) -> Estimate:
    """For `latents` latent frames decoded to width x height with nothing but the VAE in memory."""
    nothing = Weights(0, 0)
    high, wide = (min(size, CELL * tiles.side) for size in (height, width))
    given = latents * (height // CELL) * (width // CELL) * FLOAT32 * vae.config["z_dim"] * 3
    return Estimate(
        tokens=0, text=nothing, transformer=nothing, vae=device_bytes(vae, vae_dtype),
        offloaded=Blocks(0, 0, nothing), text_work=0, encode_whole=0, encode_tiled=0, denoise_work=0,
        decode_whole=in_type(decode_work(vae.config, latents, height, width), vae_dtype) + given,
        decode_tiled=in_type(decode_work(vae.config, latents, high, wide), vae_dtype) + given,
    )  # fmt: skip


def _weights(part: Part, dtype: torch.dtype) -> Weights:
    return Weights(device_bytes(part, dtype), device_bytes(part, dtype, ROUNDED))


def offloaded_bytes(part: Part, dtype: torch.dtype, group_blocks: int = 1) -> Blocks:
    """A transformer under `vace.speed.offload.apply_offload`, from models of three to five layers without memory."""
    config, layers = part.config, part.config["num_layers"]
    contexts = len(config["vace_layers"])

    def sized(depth: int, led: int, kind: str | None = None) -> int:
        small = {**config, "num_layers": depth, "vace_layers": list(range(led))}
        return device_bytes(replace(part, config=small), dtype, kind)

    main = sized(4, 1) - sized(3, 1)
    context = sized(4, 2) - sized(4, 1)
    width = config["num_attention_heads"] * config["attention_head_dim"]
    first = context + (width + 1) * width * dtype.itemsize  # its input projection
    blocks = layers * main + (contexts - 1) * context + first
    sizes = _in_order(config["vace_layers"], layers, main, context, first)
    groups = [sum(sizes[i : i + group_blocks]) for i in range(0, len(sizes), group_blocks)]
    rest = device_bytes(part, dtype) - blocks
    resident = rest + min(SLOTS, len(groups)) * max(groups)
    host = Weights(blocks, device_bytes(part, dtype, ROUNDED) - rest)
    return Blocks(resident, resident, host)


def _in_order(led: list[int], layers: int, main: int, context: int, first: int) -> list[int]:
    sizes = []
    for layer in range(layers):
        if layer in led:
            sizes.append(first if layer == min(led) else context)
        sizes.append(main)
    return sizes


def denoise_work(
    config: Mapping[str, Any], tokens: int, type_bytes: int, is_guided: bool = True, step_cache: bool = False
) -> int:
    """The transformer's forward at its fullest, and what the step cache keeps. `type_bytes`: of the model's numbers."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    one = tokens * width
    is_narrow = type_bytes < FLOAT32
    # Rotating the keys: the block's input normed, queries before and after, keys, values; float32 copies beside.
    rotation = one * (_STREAMS + 5) * type_bytes + one * (2 * FLOAT32 + type_bytes if is_narrow else 2 * FLOAT32)
    # The feed-forward layer: after attention, what it gave, the normed input; the wide layer before and after GELU.
    forward = (one * (_STREAMS + 3) + 2 * tokens * config["ffn_dim"]) * type_bytes
    # Both branches share the first two of these; the last is the first branch's result.
    rope = tokens * config["attention_head_dim"] * FLOAT32
    given = 4 * tokens * (config["vace_in_channels"] + 3 * config["in_channels"]) * FLOAT32
    text = (1 + is_guided) * config["text_len"] * width * type_bytes
    total = max(rotation, forward) + rope + given + text + is_guided * one * type_bytes
    if step_cache:
        branches = 1 + is_guided
        # The fresh signals and the state of context block 0 of each branch, beside what is kept.
        total += cache_bytes(tokens, width, branches, type_bytes) + (2 * branches + 1) * one * type_bytes
    return total


def text_work(config: Mapping[str, Any], length: int, type_bytes: int) -> int:
    """One text of `length` tokens through the encoder: attention's scores four times over, and the wide layer."""
    scores = config["num_heads"] * length * length * (2 * type_bytes + 2 * FLOAT32)
    return scores + length * type_bytes * (4 * config["d_model"] + 3 * config["d_ff"])


def held_frames(frames: int, height: int, width: int) -> int:
    """Video, mask, and both halves the mask splits it into, on the device while it is encoded."""
    return frames * height * width * (10 * FLOAT32 + 2)


def in_type(work: int, dtype: torch.dtype) -> int:
    """What the VAE needs in a type, of what it needs in float32. Norms stay float32 for a moment, at no peak."""
    return work * dtype.itemsize // FLOAT32


def decode_work(vae: Mapping[str, Any], latents: int, height: int, width: int) -> int:
    """Decoding `latents` latent frames to height x width pixels, chunk by chunk."""
    base = vae.get("decoder_base_dim") or vae["base_dim"]
    multiples, blocks = vae["dim_mult"], vae["num_res_blocks"]
    widths = [base * multiple for multiple in (multiples[-1], *reversed(multiples))]
    scale, time, is_first = 2 ** (len(multiples) - 1), 1, latents == 1
    rows, columns = height // scale, width // scale
    cached = _cache(vae["z_dim"], 1, rows, columns, is_first) + 4 * _cache(widths[0], 1, rows, columns, is_first)
    most = 0
    for stage, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
        entering = before // 2 if stage else before
        held = entering * time * rows * columns * FLOAT32  # the stage's input lives on in the caller
        most = max(most, held + _residual(after, time, rows, columns, is_first))
        cached += _cache(entering, time, rows, columns, is_first)
        cached += (2 * blocks + 1) * _cache(after, time, rows, columns, is_first)
        if stage < len(multiples) - 1:
            if vae["temperal_downsample"][::-1][stage] and not is_first:
                cached += _cache(after, time, rows, columns, is_first)
                time *= 2
            rows, columns = 2 * rows, 2 * columns
    cached += _cache(widths[-1], time, rows, columns, is_first)
    return cached + most + 2 * 3 * time * rows * columns * FLOAT32


def encode_work(vae: Mapping[str, Any], frames: int, height: int, width: int) -> int:
    """Encoding a video chunk by chunk, the video itself not counted.

    The most is in the last block at full size, when the layers after it still keep frames of the chunk before.
    """
    base, multiples, blocks = vae["base_dim"], vae["dim_mult"], vae["num_res_blocks"]
    widths = [base, *(base * multiple for multiple in multiples)]
    is_first, older = frames < 5, min(_CACHED, (frames - 1) // 4)
    time, rows, columns = 1 if is_first else 4, height, width
    fresh = min(time, _CACHED)
    full = (3 + widths[0] + (2 * blocks - 2) * widths[1]) * fresh + widths[1] * older
    total = (3 * time + full) * rows * columns * FLOAT32 + _residual(widths[1], time, rows, columns, is_first)
    for stage, (before, after) in enumerate(zip(widths[1:], widths[2:], strict=False)):
        rows, columns = rows // 2, columns // 2
        channels = (before + (2 * blocks - 1) * after) * older
        channels += before * min(1, older) * vae["temperal_downsample"][stage]
        total += channels * rows * columns * FLOAT32
    return total + 5 * widths[-1] * older * rows * columns * FLOAT32


def _residual(channels: int, time: int, rows: int, columns: int, is_first: bool) -> int:
    """A residual block when it pads the input of a convolution.

    Alive: its input, the normed input, the frames kept of that, those with the cache in front, and these padded.
    """
    kept = min(time, _CACHED) if is_first else _CACHED
    joined = 0 if is_first else time + _CACHED
    frames = 2 * time + kept + joined
    return channels * FLOAT32 * (frames * rows * columns + (time + _CACHED) * (rows + 2) * (columns + 2))


def _cache(channels: int, time: int, rows: int, columns: int, is_first: bool) -> int:
    """What a causal convolution keeps of its input."""
    return channels * (min(time, _CACHED) if is_first else _CACHED) * rows * columns * FLOAT32
