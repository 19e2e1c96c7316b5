"""The least time a Wan-VACE run can take on a device: operations and bytes by arithmetic, divided by what it reaches.

Operations are those of `vace.models.wan.cost`, a multiplication and an addition each counted. The transformer's are
split in matrix products of the linear layers and of attention, since devices reach different rates in the two. The
rates of an H100 are the ones that large kernels were measured to reach in bfloat16; other devices are taken to reach
the same share of their peak, which is their vendor's figure for dense bfloat16. The VAE's rate is one of bfloat16, too,
though it runs in float32: nobody need wait for that. Needs no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vace.models.wan.cost import decode_flops, encode_flops, transformer_flops

TERA = 1e12
H100_PEAK = 989 * TERA
H100_LINEAR, H100_ATTENTION, H100_VAE = 790 * TERA, 600 * TERA, 170 * TERA  # large GEMMs; FA3 or cuDNN; Wan's VAE
BFLOAT16 = 2  # bytes
# Part of the device's name -> its peak in operations a second, dense bfloat16, and bytes a second of its memory.
PEAKS: Mapping[str, tuple[float, float]] = {
    "H100 PCIe": (756 * TERA, 2.0 * TERA),
    "H100": (H100_PEAK, 3.35 * TERA),
    "H800": (989 * TERA, 3.35 * TERA),
    "H200": (989 * TERA, 4.8 * TERA),
    "H20": (148 * TERA, 4.0 * TERA),
    "A100": (312 * TERA, 2.0 * TERA),
    "A800": (312 * TERA, 2.0 * TERA),
    "L40S": (362 * TERA, 0.86 * TERA),
    "RTX 5090": (209 * TERA, 1.79 * TERA),
    "RTX 4090": (165 * TERA, 1.01 * TERA),
    "RTX 3090": (71 * TERA, 0.94 * TERA),
}


@dataclass(frozen=True)
class Work:
    """Operations of a forward pass: of its linear layers and embeddings, and of attention."""

    linear: int
    attention: int

    @property
    def total(self) -> int:
        return self.linear + self.attention


@dataclass(frozen=True)
class Rates:
    """What a device reaches: operations a second by kind of work; bytes a second of its memory, None where not known.

    source: where the numbers come from, in words.
    """

    linear: float
    attention: float
    vae: float
    memory: float | None
    source: str


def rates_of(device_name: str) -> Rates | None:
    """The rates in bfloat16 of the device that torch calls `device_name`; None for one that is not in PEAKS."""
    for name, (peak, memory) in PEAKS.items():
        if re.search(rf"\b{name}\b", device_name):
            share = peak / H100_PEAK
            how = "as measured" if name == "H100" else "in an H100's share of the peak"
            source = f"{name}, bfloat16, {peak / TERA:.0f} Tflop/s at its peak, {how}"
            return Rates(H100_LINEAR * share, H100_ATTENTION * share, H100_VAE * share, memory, source)
    return None


def even_rates(rate: float, source: str) -> Rates:
    """The same operations a second for all kinds of work, and memory that never holds them up."""
    return Rates(rate, rate, rate, None, source)


def forward_work(config: Mapping[str, Any], tokens: int, with_context: bool = True) -> Work:
    """One forward pass over `tokens` tokens (references included). config: the transformer's, with `text_len`."""
    blocks = len(config["vace_layers"]) if with_context else 0
    pairs = tokens * (tokens + config["text_len"])  # a query meets every token, and in cross-attention every text token
    attention = (config["num_layers"] + blocks) * 4 * pairs * _width(config)
    return Work(transformer_flops(config, blocks, tokens) - attention, attention)


def text_flops(config: Mapping[str, Any], tokens: int) -> int:
    """One text of `tokens` tokens through a UMT5 encoder of that config."""
    inner = config["num_heads"] * config["d_kv"]
    linear = 2 * tokens * config["d_model"] * (4 * inner + 3 * config["d_ff"])  # gated: two matrices in, one out
    return config["num_layers"] * (linear + 4 * tokens * tokens * inner)


def vae_flops(config: Mapping[str, Any], width: int, height: int, frames: int, encodes: int = 2, refs: int = 0) -> int:
    """`encodes` encodings of the clip, one of each reference picture, and one decoding."""
    encoding = encodes * encode_flops(config, frames, height, width) + refs * encode_flops(config, 1, height, width)
    return encoding + decode_flops(config, frames, height, width)


def parameters(config: Mapping[str, Any]) -> int:
    """Numbers that a Wan-VACE transformer of that config holds."""
    width, hidden, patch = _width(config), config["ffn_dim"], math.prod(config["patch_size"])
    square = width * width + width  # a linear layer with its bias
    attention = 4 * square + 2 * width  # and the gains of its norms of queries and keys
    feed = 2 * width * hidden + width + hidden
    block = 2 * attention + feed + 6 * width + 2 * width  # and modulation, and the norm before cross-attention
    blocks = config["num_layers"] + len(config["vace_layers"])
    projections = (len(config["vace_layers"]) + 1) * square
    patches = patch * width * (config["in_channels"] + config["vace_in_channels"]) + 2 * width
    text = config["text_dim"] * width + width + square
    time = config["freq_dim"] * width + width + square + 6 * square
    out = patch * config["out_channels"] * (width + 1) + 2 * width
    return blocks * block + projections + patches + text + time + out


def forward_bytes(config: Mapping[str, Any], tokens: int) -> int:
    """Bytes that one forward pass moves at least, all numbers two bytes: every weight once, and each block's tensors.

    In units of the hidden state a block reads and writes 27: three norms 6, queries, keys, values 6, what attention
    gives 2, three sums 9, cross-attention 4; and twice the wide layer of the feed-forward.
    """
    blocks = config["num_layers"] + len(config["vace_layers"])
    moved = blocks * tokens * (27 * _width(config) + 2 * config["ffn_dim"])
    return BFLOAT16 * (parameters(config) + moved)


def forward_seconds(work: Work, rates: Rates, moved: int = 0) -> float:
    """The least a forward pass takes. moved: of `forward_bytes`, which counts where the memory's rate is known."""
    computing = work.linear / rates.linear + work.attention / rates.attention
    return max(computing, moved / rates.memory) if rates.memory else computing


def run_seconds(forward: float, forwards: int, vae: int, text: int, rates: Rates) -> float:
    """The least a whole run takes: `forwards` passes of `forward` seconds, operations of the VAE and of the texts."""
    return forwards * forward + vae / rates.vae + text / rates.linear


def percent(floor: float, seconds: float) -> float:
    """How near `seconds` comes to the floor: 100 is at it."""
    return 100 * floor / seconds


def _width(config: Mapping[str, Any]) -> int:
    return config["num_attention_heads"] * config["attention_head_dim"]
