"""Three-dimensional convolutions on the CPU by oneDNN.

torch takes its own slow kernel for small float32 inputs of batch 1 (a threshold made for two dimensions); oneDNN is
4 to 11 times as fast there and equal to about 1e-6. It matters to the VAE of small models, whose chunks are all small.
"""

from __future__ import annotations

import torch
from torch import nn


def apply_onednn(module: nn.Module) -> None:
    """Make every Conv3d in `module` use oneDNN where it can: CPU, float32, no gradient. Elsewhere nothing changes."""
    if not torch.backends.mkldnn.is_available():
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            layer._conv_forward = _Fast(layer)


class _Fast:
    """Stands in for a layer's `_conv_forward`."""

    def __init__(self, layer: nn.Conv3d) -> None:
        # The layer itself is not kept: a module that refers to itself is never copied or freed cleanly.
        self.settings = (layer.padding, layer.stride, layer.dilation, layer.groups)

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        padding, stride, dilation, groups = self.settings
        needs_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
        if x.device.type != "cpu" or x.dtype != torch.float32 or needs_gradient:
            return nn.functional.conv3d(x, weight, bias, stride, padding, dilation, groups)
        return torch.ops.aten.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)
