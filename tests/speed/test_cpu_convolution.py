"""oneDNN convolutions equal torch's own on every shape the VAE has, and step aside where they do not apply."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vace.models.wan import vae
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


def small_vae(base: int = 8):
    """A plain VAE with weights at random, norms too, and the same one made fast."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    plain = AutoencoderKLWan(base_dim=base, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1).eval()
    for weight in plain.parameters():
        weight.data += 0.02 * torch.randn(weight.shape)
    fast = copy.deepcopy(plain)
    apply_onednn(fast)
    return plain, fast


@pytest.mark.parametrize(("base", "size"), [(8, (48, 32)), (32, (16, 24))])
@pytest.mark.parametrize("frames", [1, 5, 13])
def test_the_vae_streams_the_same(base, size, frames):
    plain, fast = small_vae(base)
    video = torch.rand(3, frames, *size) * 2 - 1
    expected = vae.encode(plain, [video])[0]
    assert (vae.encode(fast, [video])[0] - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())
    expected = list(vae.decode_chunks(plain, 0.2 * expected))
    found = list(vae.decode_chunks(fast, 0.2 * vae.encode(plain, [video])[0]))
    assert [chunk.shape for chunk in found] == [chunk.shape for chunk in expected]
    assert (torch.cat(found, 1) - torch.cat(expected, 1)).abs().max() <= 2e-5


def test_the_vae_keeps_its_class_names_and_gradients():
    plain, fast = small_vae()
    apply_onednn(fast)  # twice is once
    assert type(fast) is type(plain) and list(fast.state_dict()) == list(plain.state_dict())
    kinds = {type(layer) for layer in fast.modules()}
    assert all(isinstance(a, type(b)) for a, b in zip(fast.modules(), plain.modules(), strict=True))
    assert {type(layer) for layer in copy.deepcopy(fast).modules()} == kinds
    video = torch.rand(1, 3, 5, 16, 16)
    for model in (plain, fast):
        model(video).sample.square().mean().backward()
    for (name, weight), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
        if weight.grad is not None:
            assert torch.allclose(weight.grad, other.grad, atol=1e-5, rtol=1e-3), name


def test_a_norm_of_nothing_is_nothing():
    _, fast = small_vae()
    norm = fast.decoder.norm_out
    x = torch.zeros(1, 8, 1, 2, 2, requires_grad=True)
    norm(x).sum().backward()
    assert norm(x).abs().max() == 0 and torch.isfinite(x.grad).all()
