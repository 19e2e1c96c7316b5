"""Convolutional networks on the CPU by oneDNN, channels last.

torch takes its own slow kernel for small float32 volumes of batch 1 (a threshold made for two dimensions), and norms
over channels by a slow walk through memory. oneDNN on tensors whose channels lie last, and the norm of diffusers' Wan
VAE as a sum of squares, are equal to about 1e-6 for each layer. CPU seconds of one thread, before and after (medians
of 5): a toy VAE decodes 17 frames of 128x80 in 0.92 and 0.45, encodes them in 0.30 and 0.18; one of the real width, 5
frames of 64x48, 2.5 and 1.8, 1.6 and 1.1.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import nn

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
LEAST = (
    4  # positions per channel: below, channels last loses, since wide weights cost more to bring in order (measured)
)


def apply_onednn(module: nn.Module) -> None:
    """Make every Conv2d and Conv3d in `module`, and the Wan VAE's norms, fast on the CPU in float32.

    The layers keep their weights and names and become subclasses of what they were. On other devices and in other
    types they compute as before.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for layer in module.modules():
        faster = _faster(type(layer))
        pads_zeros = getattr(layer, "padding_mode", "zeros") == "zeros"
        if faster is not None and pads_zeros and not isinstance(getattr(layer, "padding", None), str):
            layer.__class__ = faster


class _Fast:
    """In front of a convolution's class: the convolution itself."""

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if x.ndim not in LAYOUTS or not _is_suited(x) or _needs_gradient(x, weight):
            return super()._conv_forward(x, weight, bias)
        return _convolved(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class _FastCausal:
    """In front of WanCausalConv3d: pads only in time, and a frame that stands alone meets only the last tap."""

    def forward(self, x_BCTHW: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        if not _is_suited(x_BCTHW) or self.groups != 1 or self.dilation != (1, 1, 1):
            return super().forward(x_BCTHW, cache_x)
        x, weight, lead = x_BCTHW, self.weight, self._padding[4]
        padding = self._padding[2], self._padding[0]
        if cache_x is not None and lead > 0:
            x = torch.cat([cache_x, x], dim=2)
            lead -= cache_x.shape[2]
        if x.shape[2] == 1 and lead == weight.shape[2] - 1:
            weight, lead = weight[:, :, -1:], 0
        if lead > 0:
            x = F.pad(x, (0, 0, 0, 0, lead, 0))
        if _needs_gradient(x, weight):
            return _stacked(x, weight, self.bias, self.stride, padding)
        return _convolved(x, weight, self.bias, self.stride, (0, *padding), self.dilation, self.groups)


class _FastNorm:
    """In front of WanRMS_norm: over the channels, whose mean square becomes 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not _is_suited(x) or not self.channel_first or isinstance(self.bias, nn.Parameter):
            return super().forward(x)
        squared = torch.linalg.vecdot(x, x, dim=1).unsqueeze(1)
        return x * torch.rsqrt(squared / x.shape[1] + 1e-24) * self.gamma


@functools.cache
def _faster(kind: type[nn.Module]) -> type[nn.Module] | None:
    """The faster class for layers of a class; None where there is none or it is one already."""
    if issubclass(kind, (_Fast, _FastCausal, _FastNorm)):
        return None
    by_name = {"WanCausalConv3d": _FastCausal, "WanRMS_norm": _FastNorm}  # by name: diffusers is slow to import
    plain = _Fast if issubclass(kind, (nn.Conv2d, nn.Conv3d)) else None
    front = by_name.get(kind.__name__, plain)
    return front and type(f"Fast{kind.__name__}", (front, kind), {})


def _is_suited(x: torch.Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


def _needs_gradient(*tensors: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _convolved(x, weight, bias, stride, padding, dilation, groups) -> torch.Tensor:
    positions = x.numel() / x.shape[1] / weight.shape[2:-2].numel()
    is_large = positions >= LEAST * x.shape[1]
    x = x.contiguous(memory_format=LAYOUTS[x.ndim] if is_large else torch.contiguous_format)
    return torch.ops.aten.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)


def _stacked(x_BCTHW, weight, bias, stride, padding) -> torch.Tensor:
    """A 3D convolution as a 2D one over the frames it sees, stacked as channels.

    For training: torch would take its slow kernel for the gradient of a single clip.
    """
    taps, step = weight.shape[2], stride[0]
    frames = x_BCTHW.transpose(1, 2)
    count = (frames.shape[1] - taps) // step + 1
    if taps > 1:
        seen = [frames[:, k : k + step * (count - 1) + 1 : step] for k in range(taps)]
        frames = torch.cat(seen, dim=2)
    weight = weight.transpose(1, 2).flatten(1, 2)
    result = F.conv2d(frames.flatten(0, 1), weight, bias, stride=stride[1:], padding=padding)
    return result.unflatten(0, (-1, count)).transpose(1, 2)
