"""The Wan-VACE transformer's forward pass over a batch of noisy videos, with gradients, over diffusers' class.

The class holds the weights; the pass gives its values with less work, which in a small model is a third of it. Queries,
keys and values are one product, patches are a product instead of a convolution, rotations are complex products. Text is
padded with zeros to text_len and the padding is attended to, so all of it is one token that counts as many. Context
blocks are left out when no context is given. `vace.models.wan.transformer` is the same pass for one video.

Shape letters: B batch, C channels, T latent frames, H W latent height and width, N tokens = T (H/2) (W/2), D model
width, L text tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange

from vace.training.products import Product, plain

if TYPE_CHECKING:
    from diffusers import WanVACETransformer3DModel
    from torch import nn


@dataclass(frozen=True)
class Text:
    """Embedded prompts [B, L, D], the last token the padding's. bias: [L], added to the scores of attention."""

    tokens: torch.Tensor
    bias: torch.Tensor | None


def embed_text(model: WanVACETransformer3DModel, states_BLD: torch.Tensor, text_len: int) -> Text:
    """What the blocks attend to, of text states [B, L, text width]: zeros after each prompt's end, L <= text_len."""
    missing = text_len - states_BLD.shape[1]
    if not missing:
        return Text(model.condition_embedder.text_embedder(states_BLD), None)
    padded = F.pad(states_BLD, (0, 0, 0, 1))
    bias = padded.new_zeros(padded.shape[1])
    bias[-1] = math.log(missing)
    return Text(model.condition_embedder.text_embedder(padded), bias)


def predict_velocity(
    model: WanVACETransformer3DModel,
    latents_BCTHW: torch.Tensor,
    timesteps_B: torch.Tensor,
    text: Text,
    context_BCTHW: torch.Tensor | None = None,
    product: Product = plain,
) -> torch.Tensor:
    """The velocity of noisy latents [B, 16, T, H, W] at timesteps [B] (0 to 1000), of the same shape.

    context_BCTHW: [B, 96, T, H, W], see `vace.conditioning.context`; None: the model without its context blocks.
    product: how the blocks' layers are taken, see `vace.training.products`.
    """
    patch = tuple(model.config.patch_size)
    grid = [size // side for size, side in zip(latents_BCTHW.shape[2:], patch, strict=True)]
    turns = rotations(model, latents_BCTHW)
    hidden = _patches(model.patch_embedding, latents_BCTHW, patch)
    time_BD, modulation_B6D = _embed_time(model, timesteps_B)
    context = None if context_BCTHW is None else _patches(model.vace_patch_embedding, context_BCTHW, patch)
    pending = {} if context is None else {layer: i for i, layer in enumerate(model.config.vace_layers)}
    for layer, block in enumerate(model.blocks):
        hint = None
        if layer in pending:
            branch = model.vace_blocks[pending[layer]]
            if branch.proj_in is not None:  # only the first has one, and reads what the patches left
                context = _layer(product, branch.proj_in, context) + hidden
            context = _block(product, branch, context, text, modulation_B6D, turns)
            hint = _layer(product, branch.proj_out, context)
        hidden = _block(product, block, hidden, text, modulation_B6D, turns)
        hidden = hidden if hint is None else hidden + hint
    shift, scale = (model.scale_shift_table + time_BD.unsqueeze(1)).chunk(2, dim=1)
    patches = model.proj_out(_normed(model.norm_out, hidden, shift, scale))
    return rearrange(
        patches, "b (t h w) (p q r c) -> b c (t p) (h q) (w r)",
        t=grid[0], h=grid[1], w=grid[2], p=patch[0], q=patch[1], r=patch[2],
    )  # fmt: skip


def rotations(model: WanVACETransformer3DModel, latents_BCTHW: torch.Tensor) -> torch.Tensor:
    """The rotary embedding as complex numbers [1, N, 1, head size / 2], as `_rotated` takes them."""
    cosines, sines = model.rope(latents_BCTHW)
    return torch.complex(cosines[..., 0::2].contiguous(), sines[..., 1::2].contiguous())


def _layer(product: Product, layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return product(x, layer.weight, layer.bias)


def _block(
    product: Product,
    block: nn.Module,
    hidden: torch.Tensor,
    text: Text,
    modulation_B6D: torch.Tensor,
    turns: torch.Tensor,
) -> torch.Tensor:
    """Self-attention, cross-attention, feed-forward: the same in main and context blocks."""
    shift, scale, gate, last_shift, last_scale, last_gate = (block.scale_shift_table + modulation_B6D).chunk(6, dim=1)
    attended = _self_attention(product, block.attn1, _normed(block.norm1, hidden, shift, scale), turns)
    hidden = torch.addcmul(hidden, attended, gate)
    hidden = hidden + _cross_attention(product, block.attn2, block.norm2(hidden), text)
    fed = _feed_forward(product, block.ffn.net, _normed(block.norm3, hidden, last_shift, last_scale))
    return torch.addcmul(hidden, fed, last_gate)


def _feed_forward(product: Product, layers: nn.ModuleList, x_BND: torch.Tensor) -> torch.Tensor:
    """Of layers GELU(Linear), Dropout(0), Linear."""
    inner = F.gelu(_layer(product, layers[0].proj, x_BND), approximate=layers[0].approximate)
    return _layer(product, layers[2], inner)


def _self_attention(product: Product, attention: nn.Module, x_BND: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    parts = attention.to_q, attention.to_k, attention.to_v
    weight, bias = (torch.cat([getattr(part, name) for part in parts]) for name in ("weight", "bias"))
    query, key, value = product(x_BND, weight, bias).chunk(3, dim=-1)
    query = _rotated(attention.norm_q(query).unflatten(-1, (attention.heads, -1)), turns)
    key = _rotated(attention.norm_k(key).unflatten(-1, (attention.heads, -1)), turns)
    return _attend(product, attention, query, key, value.unflatten(-1, (attention.heads, -1)), None)


def _cross_attention(product: Product, attention: nn.Module, x_BND: torch.Tensor, text: Text) -> torch.Tensor:
    query = attention.norm_q(_layer(product, attention.to_q, x_BND))
    key = attention.norm_k(_layer(product, attention.to_k, text.tokens))
    value = _layer(product, attention.to_v, text.tokens)
    query, key, value = (part.unflatten(-1, (attention.heads, -1)) for part in (query, key, value))
    return _attend(product, attention, query, key, value, text.bias)


def _attend(
    product: Product,
    attention: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Attention of queries [B, N, heads, d] to keys and values [B, L, heads, d], projected: [B, N, D]."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    mask = None if bias is None else bias.expand(1, 1, query.shape[2], -1)
    result = F.scaled_dot_product_attention(query, key, value, mask)
    return _layer(product, attention.to_out[0], result.transpose(1, 2).flatten(2))


def _rotated(x_BNHd: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x_BNHd.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2)


def _normed(norm: nn.Module, x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(shift, norm(x), 1 + scale)


def _patches(embedding: nn.Conv3d, x_BCTHW: torch.Tensor, patch: tuple[int, int, int]) -> torch.Tensor:
    """What the convolution makes of patches that do not overlap: [B, N, D]."""
    p, q, r = patch
    flat = rearrange(x_BCTHW, "b c (t p) (h q) (w r) -> b (t h w) (c p q r)", p=p, q=q, r=r)
    return F.linear(flat, embedding.weight.flatten(1), embedding.bias)


def _embed_time(model: WanVACETransformer3DModel, timesteps_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Time embeddings [B, D] and the six modulations [B, 6, D] of every block."""
    embedder = model.condition_embedder
    time_BD = embedder.time_embedder(embedder.timesteps_proj(timesteps_B))
    return time_BD, embedder.time_proj(embedder.act_fn(time_BD)).unflatten(1, (6, -1))
