"""Kernels with channels innermost hold and give what they did."""

import torch
from diffusers import AutoencoderKLWan

from vace.models.wan import vae
from vace.speed.channels_last import apply_channels_last


def test_values_stay_and_results_are_equal_to_rounding():
    torch.manual_seed(0)
    model = AutoencoderKLWan(base_dim=8, num_res_blocks=1).requires_grad_(False).eval()
    video = torch.rand(3, 5, 32, 48) * 2 - 1
    (latents,) = vae.encode(model, [video])
    decoded, before = vae.decode(model, latents), {name: w.clone() for name, w in model.state_dict().items()}
    apply_channels_last(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    kernels = [
        layer.weight for layer in model.modules() if isinstance(layer, torch.nn.Conv3d) and layer.in_channels > 1
    ]
    assert kernels and all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in kernels)
    assert torch.allclose(vae.encode(model, [video])[0], latents, atol=1e-5)
    assert torch.allclose(vae.decode(model, latents), decoded, atol=1e-5)
