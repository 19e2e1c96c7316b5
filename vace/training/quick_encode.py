"""The Wan VAE's encoder over a whole clip, channels innermost: for encoding many clips on a CPU, without gradients.

What `whole_clips.encode` computes, to rounding, in about a fifth of its time: convolutions of few channels are memory
bound, and channels that lie together are read once. T frames as a batch, [T,C,H,W] in torch's channels_last layout.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


@torch.no_grad()
def encode(vae: nn.Module, clip_CTHW: torch.Tensor) -> torch.Tensor:
    """The mean [z, 1 + (T-1)/4, H/8, W/8] of a clip [3,T,H,W] of 4n+1 frames, as `vae.encode` gives it."""
    encoder = vae.encoder
    x = clip_CTHW.transpose(0, 1).contiguous(memory_format=torch.channels_last)
    x = _convolved(encoder.conv_in, x)
    for layer in encoder.down_blocks:
        x = _halved(layer, x) if hasattr(layer, "resample") else _residual(layer, x)
    middle = encoder.mid_block
    x = _residual(middle.resnets[0], x)
    for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
        x = _residual(resnet, attention(x.transpose(0, 1)[None])[0].transpose(0, 1))
    x = _convolved(encoder.conv_out, F.silu(_normed(encoder.norm_out, x), inplace=True))
    return _convolved(vae.quant_conv, x).transpose(0, 1).chunk(2)[0]


def _residual(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    is_same = isinstance(block.conv_shortcut, nn.Identity)
    shortcut = x if is_same else _convolved(block.conv_shortcut, x)
    x = _convolved(block.conv1, F.silu(_normed(block.norm1, x), inplace=True))
    return _convolved(block.conv2, F.silu(_normed(block.norm2, x), inplace=True)).add_(shortcut)


def _halved(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Half as wide and high; of "downsample3d" the first frame stands alone, the others become half as many."""
    x = layer.resample(x)
    if layer.mode == "downsample3d" and len(x) > 1:
        x = torch.cat([x[:1], _convolved(layer.time_conv, x, lead=0)])
    return x


def _normed(norm: nn.Module, x_TCHW: torch.Tensor) -> torch.Tensor:
    """WanRMS_norm over the channels."""
    scale = torch.rsqrt(x_TCHW.square().mean(dim=1, keepdim=True) + 1e-24)
    return x_TCHW * scale * norm.gamma.view(1, -1, 1, 1)


def _convolved(conv: nn.Conv3d, x_TCHW: torch.Tensor, lead: int | None = None) -> torch.Tensor:
    """A causal convolution; lead: zero frames before the first, by default what keeps their number."""
    taps, step, pad = conv.kernel_size[0], conv.stride[0], (conv.kernel_size[1] // 2, conv.kernel_size[2] // 2)
    lead = taps - 1 if lead is None else lead
    weight = conv.weight
    if len(x_TCHW) == 1 and lead == taps - 1:  # all that a single frame sees of earlier ones is zero
        seen, weight = x_TCHW, weight[:, :, -1]
    else:
        seen = _seen(x_TCHW, taps, step, lead) if taps > 1 else x_TCHW
        weight = weight.transpose(1, 2).flatten(1, 2)
    return F.conv2d(seen, weight.contiguous(memory_format=torch.channels_last), conv.bias, padding=pad)


def _seen(x_TCHW: torch.Tensor, taps: int, step: int, lead: int) -> torch.Tensor:
    """The frames that each step of a convolution sees, as channels, zeros before the first."""
    channels = x_TCHW.shape[1]
    count = (len(x_TCHW) + lead - taps) // step + 1
    shape = (count, taps * channels, *x_TCHW.shape[2:])
    seen = torch.empty(shape, dtype=x_TCHW.dtype, device=x_TCHW.device, memory_format=torch.channels_last)
    for k in range(taps):
        first = -(-max(0, lead - k) // step)  # the first step whose frame k is not before the clip
        start = first * step + k - lead
        part = slice(k * channels, (k + 1) * channels)
        seen[:first, part] = 0
        seen[first:, part] = x_TCHW[start : start + step * (count - 1 - first) + 1 : step]
    return seen
