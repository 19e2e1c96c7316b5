"""What a run will cost, by arithmetic on the sizes of the model and the video. Needs no torch for safetensors files.

Multiplications and additions count one each. The transformer's and the VAE's closed forms count the same operations
as torch's FlopCounterMode on the classes; norms, activations and rotary embedding are left out (under 1 %).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vace.models.checkpoints import Checkpoint
from vace.models.cost import FLOAT32, conv_flops, part_bytes, residual_flops
from vace.models.parts import COMPONENTS, read_part
from vace.speed.guidance_interval import WHOLE, is_guided
from vace.speed.step_share import steps_before


def estimate(
    checkpoint: Checkpoint,
    width: int,
    height: int,
    frames: int,
    refs: int = 0,
    steps: int = 50,
    guidance: float = 5.0,
    *,
    dtype_bytes: int = 2,
    offload: bool = False,
    context_end: float = 1.0,
    guidance_interval: tuple[float, float] = WHOLE,
) -> dict[str, int]:
    """The cost of one video of `frames` frames of width x height, with `refs` reference images.

    dtype_bytes: bytes of the transformer's and text encoder's numbers. offload: parts leave the device after use.
    context_end, guidance_interval: see vace.models.wan.predictor.
    Keys: tokens, forwards (of the transformer), flops_forward, flops_vae (two encodings and one decoding), flops
    (everything after the text encoder), weight_bytes, peak_bytes (rough: weights on the device + largest working set).
    """
    parts = {name: read_part(checkpoint, name) for name in COMPONENTS}
    config, vae = parts["transformer"].config, parts["vae"].config
    tokens = token_count(config, width, height, frames, refs)
    asked = [2 if guidance != 1 and is_guided(i, steps, guidance_interval) else 1 for i in range(steps)]
    forwards, led = sum(asked), sum(asked[: steps_before(context_end, steps)])
    one = transformer_flops(config, len(config["vace_layers"]), tokens)
    bare = transformer_flops(config, 0, tokens) if led < forwards else 0
    coding = 2 * encode_flops(vae, frames, height, width) + decode_flops(vae, frames, height, width)
    coding += refs * encode_flops(vae, 1, height, width)
    sizes = {name: part_bytes(part, FLOAT32 if name == "vae" else dtype_bytes) for name, part in parts.items()}
    working = {
        "transformer": _transformer_working(config, tokens, dtype_bytes),
        "text_encoder": 0,
        "vae": _vae_working(vae, height, width),
    }
    together = {name: (sizes[name] if offload else sum(sizes.values())) + working[name] for name in sizes}
    return {
        "tokens": tokens,
        "forwards": forwards,
        "flops_forward": one,
        "flops_vae": coding,
        "flops": led * one + (forwards - led) * bare + coding,
        "weight_bytes": sum(sizes.values()),
        "peak_bytes": max(together.values()),
    }


def token_count(config: Mapping[str, Any], width: int, height: int, frames: int, refs: int = 0) -> int:
    """Tokens the transformer reads: one per patch of the latent, references included."""
    patch_time, patch_rows, patch_columns = config["patch_size"]
    latent_frames = ((frames - 1) // 4 + 1 + refs) // patch_time
    return latent_frames * (height // 8 // patch_rows) * (width // 8 // patch_columns)


def transformer_flops(config: Mapping[str, Any], context_blocks: int, tokens: int) -> int:
    """One forward pass over `tokens` tokens with that many context blocks run."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    text, text_width, patch = config["text_len"], config["text_dim"], math.prod(config["patch_size"])
    linear = 12 * tokens * width**2 + 4 * text * width**2 + 4 * tokens * width * config["ffn_dim"]
    attention = 4 * tokens * tokens * width + 4 * tokens * text * width
    projections = 2 * (context_blocks + min(context_blocks, 1)) * tokens * width**2
    embedding = 2 * tokens * patch * width * (config["in_channels"] + config["out_channels"])
    embedding += 2 * tokens * patch * width * config["vace_in_channels"] * min(context_blocks, 1)
    embedding += 2 * text * (text_width * width + width**2)
    return (config["num_layers"] + context_blocks) * (linear + attention) + projections + embedding


def encode_flops(vae: Mapping[str, Any], frames: int, height: int, width: int) -> int:
    """Encoding one video."""
    base, multiples, blocks = vae["base_dim"], vae["dim_mult"], vae["num_res_blocks"]
    widths = [base, *(base * multiple for multiple in multiples)]
    time, rows, columns = frames, height, width
    total = conv_flops(3, base, 27, time * rows * columns)
    for stage, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
        for _ in range(blocks):
            total += residual_flops(before, after, time * rows * columns)
            before = after
        if stage < len(multiples) - 1:
            rows, columns = rows // 2, columns // 2
            total += conv_flops(after, after, 9, time * rows * columns)
            if vae["temperal_downsample"][stage]:
                time = (time - 1) // 2 + 1
                total += conv_flops(after, after, 3, (time - 1) * rows * columns)
    volume, latent = time * rows * columns, 2 * vae["z_dim"]
    total += _middle(widths[-1], time, rows * columns)
    return total + conv_flops(widths[-1], latent, 27, volume) + conv_flops(latent, latent, 1, volume)


def decode_flops(vae: Mapping[str, Any], frames: int, height: int, width: int) -> int:
    """Decoding one video."""
    multiples, blocks, latent = vae["dim_mult"], vae["num_res_blocks"], vae["z_dim"]
    base = vae.get("decoder_base_dim") or vae["base_dim"]
    scale = 2 ** (len(multiples) - 1)
    time, rows, columns = (frames - 1) // 4 + 1, height // scale, width // scale
    widths = [base * multiple for multiple in (multiples[-1], *reversed(multiples))]
    total = conv_flops(latent, latent, 1, time * rows * columns) + conv_flops(
        latent, widths[0], 27, time * rows * columns
    )
    total += _middle(widths[0], time, rows * columns)
    for stage, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
        before = before // 2 if stage else before
        for _ in range(blocks + 1):
            total += residual_flops(before, after, time * rows * columns)
            before = after
        if stage < len(multiples) - 1:
            if vae["temperal_downsample"][::-1][stage]:
                total += conv_flops(after, 2 * after, 3, (time - 1) * rows * columns)
                time = (time - 1) * 2 + 1
            rows, columns = rows * 2, columns * 2
            total += conv_flops(after, after // 2, 9, time * rows * columns)
    return total + conv_flops(widths[-1], 3, 27, time * rows * columns)


def _middle(width: int, time: int, area: int) -> int:
    attention = conv_flops(width, 4 * width, 1, area) + 4 * area * area * width
    return 2 * residual_flops(width, width, time * area) + time * attention


def _transformer_working(config: Mapping[str, Any], tokens: int, per_number: int) -> int:
    """Residual streams, one block's queries, keys, values and float32 norms, and its feed-forward layer."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    return tokens * (width * (6 * FLOAT32 + 8 * per_number) + 2 * config["ffn_dim"] * per_number)


def _vae_working(vae: Mapping[str, Any], height: int, width: int) -> int:
    """Decoding a chunk of four frames at full size: a residual block's inputs, outputs and caches."""
    base = vae.get("decoder_base_dim") or vae["base_dim"]
    return 14 * 4 * height * width * base * FLOAT32  # 14 was measured at base width 96
