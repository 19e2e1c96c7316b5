"""Encoding and decoding with the Wan VAE (diffusers' AutoencoderKLWan), in the type its weights have.

Latents and frames are float32 whatever that is. In bfloat16 (`--vae_dtype`) weights and features take half the memory;
tests/models/wan/test_wan_vae.py states the error.

Time is causal and goes chunk by chunk: one frame, then four at a time, each chunk seeing the last through caches that
live in the call, not in the model. So a video of any length needs the memory of one chunk, and an interrupted call
leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan


@torch.no_grad()
def encode(vae: AutoencoderKLWan, videos: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Videos [3, T, H, W] in [-1, 1] -> normalised latents [16, 1 + (T-1)//4, H/8, W/8], float32, on the VAE's device.

    The mode of the posterior, no sampling. Frames after the last 4n+1 are dropped, as the original drops them.
    """
    return [_encode_one(vae, video) for video in videos]


@torch.no_grad()
def decode_chunks(vae: AutoencoderKLWan, latents_CTHW: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yields frames [3, t, H, W] in [-1, 1] as they are decoded: one frame first, then four per latent frame."""
    mean, inverse_std = _statistics(vae)
    latents = latents_CTHW.to(mean) / inverse_std + mean
    hidden = vae.post_quant_conv(latents.unsqueeze(0).to(vae.dtype))
    cache = [None] * _causal_convolutions(vae.decoder)
    for i in range(hidden.shape[2]):
        chunk = vae.decoder(hidden[:, :, i : i + 1], feat_cache=cache, feat_idx=[0], first_chunk=i == 0)
        yield chunk[0].float().clamp(-1.0, 1.0)


def decode(vae: AutoencoderKLWan, latents_CTHW: torch.Tensor) -> torch.Tensor:
    """Normalised latents [16, T, h, w] -> video [3, 4T-3, 8h, 8w] in [-1, 1], float32."""
    return torch.cat(list(decode_chunks(vae, latents_CTHW)), dim=1)


def _encode_one(vae: AutoencoderKLWan, video_CTHW: torch.Tensor) -> torch.Tensor:
    mean, inverse_std = _statistics(vae)
    cache = [None] * _causal_convolutions(vae.encoder)
    whole = 1 + (video_CTHW.shape[1] - 1) // 4 * 4
    chunks = []
    for start, end in pairwise([0, *range(1, whole, 4), whole]):
        piece = video_CTHW[:, start:end].unsqueeze(0).to(mean.device, vae.dtype)
        chunks.append(vae.encoder(piece, feat_cache=cache, feat_idx=[0]))
    moments = vae.quant_conv(torch.cat(chunks, dim=2))[0]
    mode = moments[: vae.config.z_dim].float()
    return (mode - mean) * inverse_std


def _statistics(vae: AutoencoderKLWan) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and inverse deviation of the latent channels [16, 1, 1, 1], on the VAE's device."""
    device = vae.post_quant_conv.weight.device
    mean = torch.tensor(vae.config.latents_mean, dtype=torch.float32, device=device)
    std = torch.tensor(vae.config.latents_std, dtype=torch.float32, device=device)
    return mean.view(-1, 1, 1, 1), (1.0 / std).view(-1, 1, 1, 1)


def _causal_convolutions(module: torch.nn.Module) -> int:
    """How many caches a pass through `module` uses: one per causal convolution."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

    return sum(isinstance(layer, WanCausalConv3d) for layer in module.modules())
