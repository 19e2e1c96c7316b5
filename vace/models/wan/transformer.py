"""The Wan2.1-VACE transformer's forward pass over diffusers' WanVACETransformer3DModel.

The class holds the weights and the blocks; the pass is ours, for three reasons. A context block runs right before the
main block that takes its hint, so one hint is alive instead of one per context block. Context blocks whose scale is 0
are left out. And nothing is worked out twice: `prepare` holds what no step changes, `begin_step` what the guidance
branches of one step share, `run_stack` is the rest. `vace.models.wan.predictor` strings these together for a whole run.

Shape letters: C channels, T latent frames, H W latent height and width, N tokens = T (H/2) (W/2), D model width, L text
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from einops import rearrange
from torch.nn import functional

from vace.errors import InputError
from vace.speed.attention import rope_for

if TYPE_CHECKING:
    from diffusers import WanVACETransformer3DModel


@dataclass(frozen=True)
class Job:
    """What stays the same over the steps of one video, for both guidance branches.

    context_1ND: the embedded context; None when no hint is wanted. rope: the rotary table in the form the model's
    attention takes. scales: strength of each context block's hint, cut after the last that is not 0.
    """

    context_1ND: torch.Tensor | None
    rope: torch.Tensor | tuple[torch.Tensor, torch.Tensor]
    scales: tuple[float, ...]
    grid: tuple[int, int, int]


class Step(NamedTuple):
    """What the guidance branches of one step share: embedded latents [1,N,D], time embedding [1,D], modulations."""

    hidden_1ND: torch.Tensor
    time_1D: torch.Tensor
    modulation_16D: torch.Tensor


class FirstHint(NamedTuple):
    """What context block 0 gives: the first hint, before its scale, and the state the next context block reads."""

    hint_1ND: torch.Tensor
    context_1ND: torch.Tensor


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
    return Job(embedded, rope_for(model, model.rope(context_1CTHW)), scales, grid)


def without_context(job: Job) -> Job:
    """The same job with every hint at strength 0: no context block is run."""
    return replace(job, context_1ND=None, scales=())


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
    step = begin_step(model, latents_CTHW, timestep)
    return end_step(model, step, run_stack(model, step, text_1LD, job), job)


@torch.no_grad()
def begin_step(model: WanVACETransformer3DModel, latents_CTHW: torch.Tensor, timestep: float) -> Step:
    """Embeds the noisy latents [16, T, H, W] and the timestep."""
    hidden = _tokens(model.patch_embedding(latents_CTHW.unsqueeze(0).to(_compute_dtype(model))))
    return Step(hidden, *_embed_time(model, timestep, hidden.device))


@torch.no_grad()
def first_hint(model: WanVACETransformer3DModel, step: Step, text_1LD: torch.Tensor, job: Job) -> FirstHint | None:
    """Context block 0 at this step, to be handed to `run_stack`; None for a job without hints."""
    if not job.scales:
        return None
    return FirstHint(*model.vace_blocks[0](step.hidden_1ND, text_1LD, job.context_1ND, step.modulation_16D, job.rope))


@torch.no_grad()
def run_stack(
    model: WanVACETransformer3DModel,
    step: Step,
    text_1LD: torch.Tensor,
    job: Job,
    first: FirstHint | None = None,
) -> torch.Tensor:
    """The main stack with its hints: [1, N, D]. first: what `first_hint` gave, so that it is not run again."""
    hidden, context = step.hidden_1ND, job.context_1ND
    pending = {layer: i for i, layer in enumerate(model.config.vace_layers[: len(job.scales)])}
    for layer, block in enumerate(model.blocks):
        hint, i = None, pending.get(layer)
        if i == 0:
            hint, context = first or first_hint(model, step, text_1LD, job)
        elif i is not None:
            # Only the first context block reads the latents; the others take what the one before left.
            hint, context = model.vace_blocks[i](hidden, text_1LD, context, step.modulation_16D, job.rope)
        hidden = block(hidden, text_1LD, step.modulation_16D, job.rope)
        if hint is not None and job.scales[i] != 0:
            hidden = torch.add(hidden, hint, alpha=job.scales[i])
    return hidden


@torch.no_grad()
def end_step(model: WanVACETransformer3DModel, step: Step, hidden_1ND: torch.Tensor, job: Job) -> torch.Tensor:
    """Output norm, projection and unpatching: [1, N, D] -> velocity [16, T, H, W] in float32."""
    shift, scale = (model.scale_shift_table + step.time_1D.unsqueeze(1)).float().unbind(1)
    width = hidden_1ND.shape[-1:]
    normed = functional.layer_norm(hidden_1ND.float(), width, 1 + scale[0], shift[0], model.norm_out.eps)
    patches = model.proj_out(normed.to(model.proj_out.weight.dtype))
    frames, rows, columns = job.grid
    p, q, r = model.config.patch_size
    return rearrange(
        patches[0], "(t h w) (p q r c) -> c (t p) (h q) (w r)", t=frames, h=rows, w=columns, p=p, q=q, r=r
    ).float()


@torch.no_grad()
def modulated_input(model: WanVACETransformer3DModel, step: Step) -> torch.Tensor:
    """What main block 0 attends over: its norm of the latents, scaled and shifted for the timestep, [1, N, D]."""
    block = model.blocks[0]
    shift, scale = (block.scale_shift_table + step.modulation_16D).float()[:, :2].unbind(1)
    hidden = step.hidden_1ND
    normed = functional.layer_norm(hidden.float(), hidden.shape[-1:], 1 + scale[0], shift[0], block.norm1.eps)
    return normed.to(hidden.dtype)


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
    return patches_1DTHW.flatten(2).transpose(1, 2).contiguous()


def _embed_time(
    model: WanVACETransformer3DModel, timestep: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Time embedding [1, D] and the six modulations [1, 6, D] of every block, in the time layers' own float32."""
    embedder = model.condition_embedder
    wave = sinusoid(timestep, model.config.freq_dim, device)
    time_1D = embedder.time_embedder(wave.to(embedder.time_proj.weight.dtype))
    return time_1D, embedder.time_proj(embedder.act_fn(time_1D)).unflatten(1, (6, -1))
