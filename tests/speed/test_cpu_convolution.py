"""oneDNN convolutions equal torch's own on every shape the VAE has, and step aside where they do not apply."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vace.speed.cpu_convolution import apply_onednn

SHAPES = [((1, 1, 1), 1, 0), ((3, 3, 3), 1, 0), ((3, 3, 3), 1, 1), ((3, 1, 1), (2, 1, 1), 0), ((1, 3, 3), (1, 2, 2), 0)]


@pytest.mark.parametrize(("kernel", "stride", "padding"), SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_equal_to_the_plain_path(kernel, stride, padding, bias):
    torch.manual_seed(0)
    plain = nn.Conv3d(6, 10, kernel, stride, padding, bias=bias)
    fast = copy.deepcopy(plain)
    apply_onednn(fast)
    x = torch.randn(1, 6, 5, 12, 9)
    with torch.no_grad():
        expected, found = plain(x), fast(x)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5


def test_gradients_still_flow():
    layer = nn.Conv3d(2, 2, 3)
    apply_onednn(layer)
    layer(torch.randn(1, 2, 4, 5, 5)).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


def test_other_float_types_take_the_plain_path():
    layer = nn.Conv3d(2, 2, 3).double()
    apply_onednn(layer)
    with torch.no_grad():
        assert layer(torch.randn(1, 2, 4, 5, 5).double()).dtype == torch.float64


def test_the_vae_decodes_the_same():
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1).eval()
    latents = torch.randn(1, 16, 2, 4, 4)
    with torch.no_grad():
        expected = vae.decode(latents).sample
        apply_onednn(vae)
        found = vae.decode(latents).sample
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
