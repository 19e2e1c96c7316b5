"""The weights of VACE-LTX-Video: LTX-Video's transformer with context blocks beside its main blocks.

The blocks are diffusers', and so are the names of what LTX-Video has too. diffusers knows no VACE for LTX-Video, hence
this class. It only holds the weights; the pass over them is `vace.models.ltx.forward`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.embeddings import PixArtAlphaTextProjection
from diffusers.models.normalization import AdaLayerNormSingle
from diffusers.models.transformers.transformer_ltx import LTXVideoTransformerBlock
from torch import nn


class LTXVACETransformer3DModel(nn.Module):
    """The transformer's parameters, made from its config.

    config: num_attention_heads, attention_head_dim, in_channels, out_channels, num_layers, cross_attention_dim,
    caption_channels, norm_eps, norm_elementwise_affine, qk_norm, activation_fn, attention_bias, rope_theta,
    rope_max_pos (seconds, pixels, pixels), timestep_scale_multiplier, context_layers (rising numbers of the main blocks
    that take a hint; gaps are allowed and 0 need not be among them) and in_context_channels.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        width = config["num_attention_heads"] * config["attention_head_dim"]
        self.proj_in = nn.Linear(config["in_channels"], width)
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.time_embed = AdaLayerNormSingle(width, use_additional_conditions=False)
        self.caption_projection = PixArtAlphaTextProjection(in_features=config["caption_channels"], hidden_size=width)
        self.transformer_blocks = nn.ModuleList([_block(config, width) for _ in range(config["num_layers"])])
        self.norm_out = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.proj_out = nn.Linear(width, config["out_channels"])
        self.patchify_context_proj = nn.Linear(config["in_context_channels"], width)
        # Keyed by layer, since the names in the files have the same gaps as the list.
        self.transformer_context_blocks = nn.ModuleDict(
            {str(layer): _context_block(config, width, layer) for layer in config["context_layers"]}
        )


def _block(config: Mapping[str, Any], width: int) -> LTXVideoTransformerBlock:
    return LTXVideoTransformerBlock(
        dim=width,
        num_attention_heads=config["num_attention_heads"],
        attention_head_dim=config["attention_head_dim"],
        cross_attention_dim=config["cross_attention_dim"],
        qk_norm=config["qk_norm"],
        activation_fn=config["activation_fn"],
        attention_bias=config["attention_bias"],
        eps=config["norm_eps"],
        elementwise_affine=config["norm_elementwise_affine"],
    )


def _context_block(config: Mapping[str, Any], width: int, layer: int) -> LTXVideoTransformerBlock:
    """A block with `after_proj`, which makes its hint; block 0 joins the context to the video by `before_proj`."""
    block = _block(config, width)
    block.after_proj = nn.Linear(width, width)
    if layer == 0:
        block.before_proj = nn.Linear(width, width)
    return block
