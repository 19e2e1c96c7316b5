"""The VAE over whole clips is the class's own chunk by chunk: in values and in gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKLWan

from vace.training.whole_clips import WholeClips, decode, encode, still_start

CONFIG = {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 2, 2, 2], "temperal_downsample": [False, True, True]}


def small_vae(blocks: int = 1) -> AutoencoderKLWan:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**CONFIG, num_res_blocks=blocks)
    for weight in vae.parameters():
        weight.data += 0.05 * torch.randn(weight.shape)
    return vae


def video(frames: int, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, frames, 24, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("frames", "blocks"), [(1, 1), (5, 1), (17, 1), (9, 2)])
def test_values_are_those_of_the_class(frames, blocks):
    vae, clip = small_vae(blocks).double(), video(frames).double()  # either is 1e-5 off in float32
    with torch.no_grad():
        posterior = vae.encode(clip).latent_dist
        mean, logvar = encode(vae, clip)
        assert torch.allclose(mean, posterior.mean, atol=1e-6)
        assert torch.allclose(logvar, posterior.logvar, atol=1e-6)
        assert torch.allclose(decode(vae, mean).clamp(-1, 1), vae.decode(mean).sample, atol=1e-6)
        single = copy.deepcopy(vae).float()
        assert torch.allclose(encode(single, clip.float())[0], mean.float(), atol=2e-5)
        assert torch.allclose(decode(single, mean.float()), decode(vae, mean).float(), atol=2e-5)


def test_gradients_are_those_of_the_class():
    vae, clip = small_vae(), 0.1 * video(9)
    grads = []
    for whole in (False, True):
        vae.zero_grad()
        result = WholeClips(vae)(clip)[0].clamp(-1, 1) if whole else vae(clip).sample
        (result - clip).square().mean().backward()
        grads.append({name: weight.grad.clone() for name, weight in vae.named_parameters() if weight.grad is not None})
    assert len(grads[0]) > 50
    for name, grad in grads[0].items():
        assert torch.allclose(grad, grads[1][name], atol=1e-6, rtol=1e-3), name


def test_a_still_start_treats_every_frame_alone():
    vae = small_vae()
    still_start(vae)
    vae.double()  # quiet channels are blown up, and with them what float32 rounds away, to 3e-5
    still = video(1).double().expand(-1, -1, 9, -1, -1)
    with torch.no_grad():
        result = WholeClips(vae)(still)[0]
        alone = WholeClips(vae)(still[:, :, :1])[0]
    assert torch.allclose(result, alone.expand_as(result), atol=1e-6)


def test_colours_come_through_an_untrained_vae():
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**{**CONFIG, "base_dim": 8, "z_dim": 16}, num_res_blocks=1)
    still_start(vae)
    for colour in torch.tensor([[0.8, -0.6, -0.6], [-0.6, 0.6, -0.4], [-0.7, -0.5, 0.8]]):
        with torch.no_grad():
            result = WholeClips(vae)(colour.view(1, 3, 1, 1, 1).expand(1, 3, 5, 48, 48))[0]
        middle = result[0, :, :, 16:32, 16:32].mean(dim=(1, 2, 3))
        assert int(middle.argmax()) == int(colour.argmax())
        assert float(middle.max() - middle.min()) > 0.25
