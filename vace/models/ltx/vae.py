"""Encoding and decoding with the LTX VAE (diffusers' AutoencoderKLLTXVideo), whole clips at a time.

One latent stands for 32 x 32 pixels and 8 frames, the first for one frame. The VAE of 0.9 decodes latents as they are.
That of 0.9.1 is told how noisy they are, and adds noise of its own within its residual blocks: one plane for all
frames and channels, before and after each block's middle. Every draw is handed in, none comes from global state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vace.errors import InputError

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo

# (rows, columns), device, type -> standard normal noise: called once for each injection, in the order they happen.
Draws = Callable[[tuple[int, int], torch.device, torch.dtype], torch.Tensor]
Statistics = tuple[torch.Tensor, torch.Tensor]  # mean and deviation, float32 [128, 1, 1, 1] each
_LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True)
class Moments:
    """What the encoder knows of a clip: mean [128, T', h, w] and one log-variance for all channels [1, T', h, w]."""

    mean: torch.Tensor
    logvar: torch.Tensor


def seeded(generator: torch.Generator) -> Draws:
    """Draws from `generator`, on its own device and in float32, so that they do not depend on where the VAE runs."""

    def draw(shape: tuple[int, int], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=generator.device).to(device, dtype)

    return draw


def stored(planes: Iterable[torch.Tensor]) -> Draws:
    """Draws that were kept, in their order. ValueError where one has another shape or there are too few."""
    left = iter(planes)

    def draw(shape: tuple[int, int], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        plane = next(left, None)
        if plane is None or tuple(plane.shape) != tuple(shape):
            found = "none is left" if plane is None else f"the next has {list(plane.shape)}"
            raise ValueError(f"noise of {list(shape)} is needed, {found}")
        return plane.to(device, dtype)

    return draw


def is_conditioned(vae: AutoencoderKLLTXVideo) -> bool:
    """Whether decoding takes a timestep (and mixed-in noise): True for the kind of 0.9.1, False for that of 0.9."""
    return vae.decoder.time_embedder is not None


@torch.no_grad()
def moments(vae: AutoencoderKLLTXVideo, video_CTHW: torch.Tensor) -> Moments:
    """A video [3, T, H, W] in [-1, 1] -> its moments, T' = 1 + (T-1)//8, h = H/32, w = W/32, on the VAE's device.

    float32 whatever the VAE runs in. The log-variance is within -30..20. T should be 8n+1, H and W multiples of 32.
    """
    weight = vae.encoder.conv_in.conv.weight
    channels = vae.config.latent_channels
    found = vae.encoder(video_CTHW.unsqueeze(0).to(weight))[0].float()
    # Copies, since the class repeats the one log-variance for every channel and views would keep all of them.
    return Moments(found[:channels].clone(), found[channels : channels + 1].clamp(*_LOGVAR_RANGE))


def latents(statistics: Statistics, found: Moments, noise: torch.Tensor | None) -> torch.Tensor:
    """Normalised latents [128, T', h, w], float32: a sample by `noise` of that shape, or the mode where it is None."""
    drawn = found.mean
    if noise is not None:
        drawn = drawn + torch.exp(0.5 * found.logvar) * noise.to(found.mean)
    mean, std = statistics
    return (drawn - mean) / std


def mix_decode_noise(latents_CTHW: torch.Tensor, noise: torch.Tensor, scale: float) -> torch.Tensor:
    """Normalised latents with the share `scale` (0..1) of them replaced by noise, as the kind of 0.9.1 expects them."""
    return latents_CTHW * (1 - scale) + noise.to(latents_CTHW) * scale


@torch.no_grad()
def decode(
    vae: AutoencoderKLLTXVideo, latents_CTHW: torch.Tensor, timestep: float | None = None, *, noise: Draws
) -> torch.Tensor:
    """Normalised latents [128, T', h, w] -> video [3, 8T'-7, 32h, 32w], about [-1, 1] but not clamped, float32.

    timestep: how noisy the latents are, 0..1; noise: where the decoder's own noise comes from. The VAE of 0.9 uses
    neither. Raises InputError where a timestep is needed and None is given.
    """
    if is_conditioned(vae) and timestep is None:
        raise InputError("the VAE of this checkpoint decodes by a timestep; give --decode_timestep, such as 0.05")
    weight = vae.decoder.conv_in.conv.weight
    given = latents_CTHW.to(weight.device, torch.float32)
    mean, std = statistics_of(vae)
    hidden = (given * std + mean).unsqueeze(0).to(weight.dtype)
    temb = torch.tensor([timestep], dtype=torch.float32, device=weight.device) if is_conditioned(vae) else None
    if not any(_has_noise(block) for block in vae.decoder.modules()):
        return vae.decoder(hidden, temb)[0].float()
    return _decode_with_noise(vae.decoder, hidden, temb, noise)[0].float()


def statistics_of(vae: AutoencoderKLLTXVideo) -> Statistics:
    """Mean and deviation of the latent channels, on the VAE's device: what normalises latents without the VAE."""
    return tuple(values.float().view(-1, 1, 1, 1) for values in (vae.latents_mean, vae.latents_std))


def _has_noise(block: torch.nn.Module) -> bool:
    return getattr(block, "per_channel_scale1", None) is not None


def _decode_with_noise(
    decoder: torch.nn.Module, hidden: torch.Tensor, temb: torch.Tensor | None, noise: Draws
) -> torch.Tensor:
    """The class's pass over its decoder, which draws from global state, with the draws handed in."""
    hidden = decoder.conv_in(hidden)
    if temb is not None:
        temb = temb * decoder.timestep_scale_multiplier
    for stage in (decoder.mid_block, *decoder.up_blocks):
        hidden = _stage(stage, hidden, temb, noise)
    hidden = _normed(decoder.norm_out, hidden)
    if temb is not None:
        shift, scale = _shifts(decoder.scale_shift_table, _embedded(decoder.time_embedder, temb, hidden))
        hidden.mul_(1 + scale).add_(shift)
    hidden = decoder.conv_out(decoder.conv_act(hidden))
    return _unpatched(hidden, decoder.patch_size)


def _stage(stage: torch.nn.Module, hidden: torch.Tensor, temb: torch.Tensor | None, noise: Draws) -> torch.Tensor:
    """A middle or up stage: one block that changes the width, an upsampling, residual blocks, each where it is there.

    temb: the timestep [1] as the stage's embedder takes it.
    """
    if getattr(stage, "conv_in", None) is not None:
        hidden = _residual(stage.conv_in, hidden, (), noise)
    for upsampler in getattr(stage, "upsamplers", None) or ():
        hidden = upsampler(hidden)
    embedding = None if stage.time_embedder is None else _embedded(stage.time_embedder, temb, hidden)
    for block in stage.resnets:
        shifts = () if embedding is None else _shifts(block.scale_shift_table, embedding)
        hidden = _residual(block, hidden, shifts, noise)
    return hidden


def _residual(
    block: torch.nn.Module, hidden: torch.Tensor, shifts: Sequence[torch.Tensor], noise: Draws
) -> torch.Tensor:
    """One residual block; shifts: a shift and a scale for each of its two halves, or nothing.

    What norms and convolutions give is fresh, so it is changed in place: a clip at full width is over a gigabyte.
    """
    inner = hidden
    steps = (
        (block.norm1, block.conv1, block.per_channel_scale1),
        (block.norm2, block.conv2, block.per_channel_scale2),
    )
    for number, (norm, convolution, strength) in enumerate(steps):
        inner = _normed(norm, inner)
        if shifts:
            shift, scale = shifts[2 * number : 2 * number + 2]
            inner.mul_(1 + scale).add_(shift)
        inner = convolution(block.nonlinearity(inner))
        if strength is not None:
            plane = noise(tuple(inner.shape[-2:]), inner.device, inner.dtype)
            inner += (plane[None] * strength)[None, :, None]
    if block.norm3 is not None:
        hidden = block.norm3(hidden.movedim(1, -1)).movedim(-1, 1)
    if block.conv_shortcut is not None:
        hidden = block.conv_shortcut(hidden)
    inner += hidden
    return inner


def _embedded(embedder: torch.nn.Module, temb: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The timestep [1] as a vector [1, n * C], in the type of `hidden`."""
    return embedder(
        timestep=temb, resolution=None, aspect_ratio=None, batch_size=hidden.shape[0], hidden_dtype=hidden.dtype
    )


def _shifts(table: torch.Tensor, embedding: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The rows of the table [n, C] moved by the timestep's embedding: shift, scale, shift ... each [1, C, 1, 1, 1]."""
    return (embedding.view(-1, *table.shape) + table)[..., None, None, None].unbind(1)


def _normed(norm: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    return norm(hidden.movedim(1, -1)).movedim(-1, 1)


def _unpatched(hidden: torch.Tensor, patch: int) -> torch.Tensor:
    """[B, C * patch * patch, T, h, w] -> [B, C, T, h * patch, w * patch]; the file's order is column before row."""
    batch, channels, frames, rows, columns = hidden.shape
    split = hidden.view(batch, channels // patch**2, patch, patch, frames, rows, columns)
    return split.permute(0, 1, 4, 5, 3, 6, 2).reshape(batch, -1, frames, rows * patch, columns * patch)
