"""The Wan VAE over whole clips at once: what the class does chunk by chunk, several times faster on a CPU.

The class (diffusers' AutoencoderKLWan) encodes and decodes one frame, then four at a time, its causal convolutions
seeing earlier chunks through caches. Those caches hold exactly what a convolution over the whole clip sees, so training
needs none of them; tests/training/test_whole_clips.py holds both to the same values and gradients. The layers are the
VAE's own, made fast: `encode` and `decode` apply vace.speed.cpu_convolution to the VAE they are given.

Letters of shapes: B clips, T frames, C channels. Only the Wan2.1 layout (no residual shortcuts, no patches).
"""

from __future__ import annotations

import torch
from torch import nn

from vace.speed.cpu_convolution import apply_onednn

CARRIED, CONSTANT, QUIET = 7, 2.0, 0.1  # see _carry_colours
RESIDUAL = 0.5  # of a residual block's own part, at the start


class WholeClips(nn.Module):
    """A VAE to be trained: clips in, clips and moments out, through `vae`'s own layers."""

    def __init__(self, vae: nn.Module):
        super().__init__()
        self.vae = vae

    def forward(self, clips_BCTHW: torch.Tensor, noise: torch.Tensor | None = None):
        """(clips, mean, log variance): noise, of the latents' shape, is added in the posterior's own deviations."""
        mean, logvar = encode(self.vae, clips_BCTHW)
        latents = mean if noise is None else mean + noise * torch.exp(0.5 * logvar)
        return decode(self.vae, latents), mean, logvar


def encode(vae: nn.Module, clips_BCTHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log variance [B, z, 1 + (T-1)/4, H/8, W/8] of clips of 4n+1 frames, as `vae.encode` gives them."""
    apply_onednn(vae)
    encoder = vae.encoder
    x = encoder.conv_in(clips_BCTHW)
    for layer in encoder.down_blocks:
        x = _block(layer, x)
    mean, logvar = vae.quant_conv(_head(encoder, encoder.mid_block(x))).chunk(2, dim=1)
    return mean, logvar.clamp(-30.0, 20.0)


def decode(vae: nn.Module, latents_BCTHW: torch.Tensor) -> torch.Tensor:
    """Clips [B, 3, T, H, W], as `vae.decode` gives them but not clamped to [-1, 1]."""
    apply_onednn(vae)
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents_BCTHW)))
    for block in decoder.up_blocks:
        for layer in (*block.resnets, *(block.upsamplers or ())):
            x = _block(layer, x)
    return _head(decoder, x)


def still_start(vae: nn.Module) -> None:
    """Draw weights (from the global generator) with which a VAE ignores earlier frames and keeps its signal's size.

    Convolutions see only the frame they are at, downsampling averages two frames, upsampling repeats one: what is
    learnt from single frames then serves clips at once. torch's own start would lose nine tenths of the signal.
    Where there is room, colours are carried through too (`_carry_colours`): without it, thousands of steps pass before
    anything but brightness gets through.
    """
    for name, module in vae.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.Conv3d)):
            continue
        weight = module.weight.data
        module.bias.data.zero_()
        if not name.endswith("time_conv"):
            now = weight[:, :, -1] if weight.ndim == 5 else weight
            scale = now[0].numel() ** -0.5 * (RESIDUAL if name.endswith("conv2") else 1.0)
            if weight.ndim == 5:
                weight[:, :, :-1] = 0
            now.normal_(0.0, scale)
            continue
        eye = torch.eye(module.in_channels)[..., None, None]
        weight.zero_()
        if module.out_channels == module.in_channels:
            weight[:, :, 1:] = 0.5 * eye[:, :, None]
        else:
            weight[:, :, 2] = torch.cat([eye, eye])
    if vae.encoder.conv_in.out_channels >= CARRIED:
        _carry_colours(vae)


def _carry_colours(vae: nn.Module) -> None:
    """Make the start a coder of blurred colours, with the random part beside it.

    Channels 0-2 carry the colours and 3-5 their negatives, as silu(x) - silu(-x) = x; channel 6 is constant and larger,
    so that dividing by the channels' root mean square changes little.
    """
    for name, module in vae.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.Conv3d)) or name.endswith("time_conv"):
            continue
        weight = module.weight.data[:, :, -1] if module.weight.ndim == 5 else module.weight.data
        high, wide = (size // 2 for size in weight.shape[2:])
        if name.endswith(("conv2", "proj")):
            weight[:CARRIED] *= QUIET
        elif name.endswith(("conv_shortcut", "resample.1")):
            weight[:CARRIED] = 0
            is_halving = module.stride[-1] == 2
            for k in range(CARRIED):
                if is_halving:
                    weight[k, k, :2, :2] = 0.25
                else:
                    weight[k, k, high, wide] = 1
        elif name.endswith("conv_in"):
            weight[:CARRIED] = 0
            module.bias.data[CARRIED - 1] = CONSTANT
            for k in range(3):
                weight[k, k, high, wide], weight[k + 3, k, high, wide] = 1, -1
        elif name.endswith("conv_out"):
            weight[:3] = 0
            gain = CONSTANT / module.in_channels**0.5 * 1.4
            for k in range(3):
                weight[k, k, high, wide], weight[k, k + 3, high, wide] = gain, -gain
        elif name in ("quant_conv", "post_quant_conv"):
            weight[:, :, 0, 0] = torch.eye(len(weight))


def _block(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return _resampled(layer, x) if hasattr(layer, "resample") else layer(x)


def _head(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return part.conv_out(part.nonlinearity(part.norm_out(x)))


def _resampled(layer: nn.Module, x_BCTHW: torch.Tensor) -> torch.Tensor:
    """The first frame stands alone; the others become half or twice as many."""
    x, first, others = x_BCTHW, x_BCTHW[:, :, :1], x_BCTHW[:, :, 1:]
    if layer.mode == "upsample3d" and others.shape[2]:
        pairs = layer.time_conv(others).unflatten(1, (2, -1))  # the two frames that each becomes
        x = torch.cat([first, torch.stack(tuple(pairs.unbind(1)), dim=3).flatten(2, 3)], dim=2)
    x = layer.resample(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, x.shape[2])).transpose(1, 2)
    if layer.mode == "downsample3d" and x.shape[2] > 1:
        x = torch.cat([x[:, :, :1], layer.time_conv(x)], dim=2)
    return x
