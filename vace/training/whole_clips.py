"""The Wan VAE over whole clips at once: what the class does chunk by chunk, several times faster on a CPU.

The class (diffusers' AutoencoderKLWan) encodes and decodes one frame, then four at a time, its causal convolutions
seeing earlier chunks through caches. Those caches hold exactly what a convolution over the whole clip sees, so training
needs none of them; tests/training/test_whole_clips.py holds both to the same values and gradients. A 3D convolution is
computed as a 2D one over the frames it sees, stacked as channels, which is seven times as fast on a CPU at small width.

Letters of shapes: B clips, T frames, C channels. Only the Wan2.1 layout (no residual shortcuts, no patches).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

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
    encoder = vae.encoder
    x = _convolved(encoder.conv_in, clips_BCTHW.transpose(1, 2))
    for layer in encoder.down_blocks:
        x = _block(layer, x)
    x = _head(encoder, _middle(encoder.mid_block, x))
    mean, logvar = _convolved(vae.quant_conv, x).transpose(1, 2).chunk(2, dim=1)
    return mean, logvar.clamp(-30.0, 20.0)


def decode(vae: nn.Module, latents_BCTHW: torch.Tensor) -> torch.Tensor:
    """Clips [B, 3, T, H, W], as `vae.decode` gives them but not clamped to [-1, 1]."""
    decoder = vae.decoder
    x = _convolved(vae.post_quant_conv, latents_BCTHW.transpose(1, 2))
    x = _middle(decoder.mid_block, _convolved(decoder.conv_in, x))
    for block in decoder.up_blocks:
        for layer in (*block.resnets, *(block.upsamplers or ())):
            x = _block(layer, x)
    return _head(decoder, x).transpose(1, 2)


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
    if hasattr(layer, "resample"):
        return _resampled(layer, x)
    return _residual(layer, x)


def _middle(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = _residual(block.resnets[0], x)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = _residual(resnet, attention(x.transpose(1, 2)).transpose(1, 2))
    return x


def _head(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return _convolved(part.conv_out, F.silu(_normed(part.norm_out, x)))


def _residual(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    is_same = isinstance(block.conv_shortcut, nn.Identity)
    shortcut = x if is_same else _convolved(block.conv_shortcut, x)
    x = _convolved(block.conv1, F.silu(_normed(block.norm1, x)))
    return _convolved(block.conv2, F.silu(_normed(block.norm2, x))) + shortcut


def _resampled(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The first frame stands alone; the others become half or twice as many."""
    first, others = x[:, :1], x[:, 1:]
    if layer.mode == "upsample3d" and others.shape[1]:
        pairs = _convolved(layer.time_conv, others)  # the two frames that each becomes, as channels
        x = torch.cat([first, pairs.reshape(len(x), -1, *x.shape[2:])], dim=1)
    x = layer.resample(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    if layer.mode == "downsample3d" and x.shape[1] > 1:
        x = torch.cat([x[:, :1], _convolved(layer.time_conv, x, lead=0)], dim=1)
    return x


def _normed(norm: nn.Module, x_BTCHW: torch.Tensor) -> torch.Tensor:
    """WanRMS_norm over the channels, third here."""
    scale = torch.rsqrt(x_BTCHW.square().mean(dim=2, keepdim=True) + 1e-24)
    return x_BTCHW * scale * norm.gamma.view(-1, 1, 1)


def _convolved(conv: nn.Conv3d, x_BTCHW: torch.Tensor, lead: int | None = None) -> torch.Tensor:
    """A causal convolution; lead: zero frames before the first, by default what keeps their number."""
    batch, count = x_BTCHW.shape[:2]
    taps, step, pad = conv.kernel_size[0], conv.stride[0], (conv.kernel_size[1] // 2, conv.kernel_size[2] // 2)
    lead = taps - 1 if lead is None else lead
    weight = conv.weight
    if count == 1 and lead == taps - 1:  # all that a single frame sees of earlier ones is zero
        stacked, weight = x_BTCHW, weight[:, :, -1]
    else:
        padded = F.pad(x_BTCHW, (0, 0, 0, 0, 0, 0, lead, 0))
        count = (padded.shape[1] - taps) // step + 1
        seen = [padded[:, k : k + step * (count - 1) + 1 : step] for k in range(taps)]
        stacked = torch.cat(seen, dim=2) if taps > 1 else padded
        weight = weight.transpose(1, 2).flatten(1, 2)
    result = F.conv2d(stacked.flatten(0, 1), weight, conv.bias, padding=pad)
    return result.unflatten(0, (batch, count))
