"""The Wan2.1-VACE transformer's forward pass over diffusers' WanVACETransformer3DModel.

The class holds the weights and the blocks; the pass is ours, for three reasons. A context block runs right before the
main block that takes its hint, so one hint is alive instead of one per context block. Context blocks whose scale is 0
are left out. And what does not change over the steps is prepared once.

Shape letters: C channels, T latent frames, H W latent height and width, N tokens = T (H/2) (W/2), D model width, L text
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange

from vace.errors import InputError

if TYPE_CHECKING:
    from diffusers import WanVACETransformer3DModel


@dataclass(frozen=True)
class Job:
    """What stays the same over the steps of one video, for both guidance branches.

    context_1ND: the embedded context; None when no hint is wanted. rope: cosines and sines [1, N, 1, head size].
    scales: strength of each context block's hint, cut after the last that is not 0.
    """

    context_1ND: torch.Tensor | None
    rope: tuple[torch.Tensor, torch.Tensor]
    scales: tuple[float, ...]
    grid: tuple[int, int, int]


@torch.no_grad()
def prepare(
    model: WanVACETransformer3DModel, context_CTHW: torch.Tensor, context_scale: float | Sequence[float] = 1.0
) -> Job:
    """The constants of a job: embedded context, rotary tables, hint strengths.

    context_CTHW: [96, T, H, W] (inactive latents, reactive latents, folded mask), references in front. context_scale:
    one strength for all context blocks, or one per block. A context block feeds the next, so one of strength 0 is left
    out only when none after it has any. Raises InputError for a grid the patches do not divide.
    """
    config = model.config
    sizes = list(zip(context_CTHW.shape[1:], config.patch_size, strict=True))
    if any(size % patch for size, patch in sizes):
        raise InputError(
            f"a latent of {list(context_CTHW.shape[1:])} does not divide into patches of {list(config.patch_size)}; "
            "choose a width and height divisible by 16"
        )
    grid = tuple(size // patch for size, patch in sizes)
    scales = _block_scales(context_scale, len(config.vace_layers))
    context_1CTHW = context_CTHW.unsqueeze(0).to(_compute_dtype(model))
    embedded = _tokens(model.vace_patch_embedding(context_1CTHW)) if scales else None
    return Job(embedded, model.rope(context_1CTHW), scales, grid)


@torch.no_grad()
def embed_text(model: WanVACETransformer3DModel, states_LD: torch.Tensor, text_len: int) -> torch.Tensor:
    """Text states [tokens, text width] -> [1, text_len, D]; zeros fill text_len and are attended to, as in training."""
    padded = states_LD.new_zeros(1, text_len, states_LD.shape[1])
    padded[0, : states_LD.shape[0]] = states_LD[:text_len]
    return model.condition_embedder.text_embedder(padded.to(_compute_dtype(model)))


@torch.no_grad()
def predict_velocity(
    model: WanVACETransformer3DModel,
    latents_CTHW: torch.Tensor,
    timestep: float,
    text_1LD: torch.Tensor,
    job: Job,
) -> torch.Tensor:
    """The model's velocity for noisy latents [16, T, H, W] at `timestep` (0 to 1000), float32 of the same shape."""
    hidden = _tokens(model.patch_embedding(latents_CTHW.unsqueeze(0).to(_compute_dtype(model))))
    time_1D, modulation_16D = _embed_time(model, timestep, hidden.device)
    context = job.context_1ND
    pending = {layer: i for i, layer in enumerate(model.config.vace_layers[: len(job.scales)])}
    for layer, block in enumerate(model.blocks):
        hint = None
        if layer in pending:
            i = pending[layer]
            # Only the first context block reads `hidden`, and layer 0 has it as the patches left it.
            hint, context = model.vace_blocks[i](hidden, text_1LD, context, modulation_16D, job.rope)
        hidden = block(hidden, text_1LD, modulation_16D, job.rope)
        if hint is not None and job.scales[i] != 0:
            hidden = hidden + hint * job.scales[i]
    return _to_latents(model, hidden, time_1D, job.grid)


def sinusoid(timestep: float, size: int, device: torch.device) -> torch.Tensor:
    """[1, size]: cosines then sines of timestep / 10000^(k / (size/2)), worked out in float64 as the original does."""
    half = size // 2
    powers = torch.arange(half, dtype=torch.float64, device=device) / half
    angles = timestep * torch.pow(10000.0, -powers)
    return torch.cat([angles.cos(), angles.sin()]).float().unsqueeze(0)


def _block_scales(context_scale: float | Sequence[float], blocks: int) -> tuple[float, ...]:
    scales = [float(context_scale)] * blocks if isinstance(context_scale, (int, float)) else list(context_scale)
    if len(scales) != blocks:
        raise InputError(f"{len(scales)} context scales given, the model has {blocks} context blocks")
    while scales and scales[-1] == 0:
        scales.pop()
    return tuple(float(scale) for scale in scales)


def _compute_dtype(model: WanVACETransformer3DModel) -> torch.dtype:
    """The type the bulk of the weights is in; parts kept in float32 (norms, time) do not count."""
    return model.patch_embedding.weight.dtype


def _tokens(patches_1DTHW: torch.Tensor) -> torch.Tensor:
    return patches_1DTHW.flatten(2).transpose(1, 2)


def _embed_time(
    model: WanVACETransformer3DModel, timestep: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Time embedding [1, D] and the six modulations [1, 6, D] of every block, in the time layers' own float32."""
    embedder = model.condition_embedder
    wave = sinusoid(timestep, model.config.freq_dim, device)
    time_1D = embedder.time_embedder(wave.to(embedder.time_proj.weight.dtype))
    return time_1D, embedder.time_proj(embedder.act_fn(time_1D)).unflatten(1, (6, -1))


def _to_latents(
    model: WanVACETransformer3DModel, hidden_1ND: torch.Tensor, time_1D: torch.Tensor, grid: tuple[int, int, int]
) -> torch.Tensor:
    """Output norm, projection and unpatching: [1, N, D] -> [16, T, H, W] in float32."""
    shift, scale = (model.scale_shift_table + time_1D.unsqueeze(1)).chunk(2, dim=1)
    normed = model.norm_out(hidden_1ND.float()) * (1 + scale) + shift
    patches = model.proj_out(normed.to(model.proj_out.weight.dtype))
    frames, rows, columns = grid
    p, q, r = model.config.patch_size
    return rearrange(
        patches[0], "(t h w) (p q r c) -> c (t p) (h q) (w r)", t=frames, h=rows, w=columns, p=p, q=q, r=r
    ).float()
