"""The VAE: equal to the original, any length in chunks, no state kept."""

from __future__ import annotations

import re

import pytest
import torch
from goldens_io import equal_within, model_document, model_tensors

from vace.models.wan import vae

BAR = 1e-5
STEM = "vae_tiny"
LENGTHS = {case["name"]: case["frames_used"] for case in model_document("wan", STEM)["cases"]}
SHORT, LONG = (choose(LENGTHS, key=LENGTHS.get) for choose in (min, max))


@pytest.fixture(scope="module")
def model(golden_models):
    return golden_models["vae"]


@pytest.fixture(scope="module")
def tensors():
    return model_tensors("wan", STEM)


def cases(last: str) -> list[str]:
    return sorted(key.removesuffix(last) for key in model_document("wan", STEM)["tensors"] if key.endswith(last))


def head_gain(name: str) -> float:
    """By how much a case wants the decoder's last convolution multiplied; the JSON's note says so for some."""
    note = model_document("wan", STEM)["tensors_note"]
    found = re.search(rf"{name}\.\*: decoder\.head\.2\.weight AND \.bias multiplied by (\d+)", note)
    return float(found[1]) if found else 1.0


@pytest.mark.parity
@pytest.mark.parametrize("name", cases(".video"))
def test_encoding_equals_the_original(model, tensors, name):
    latents = vae.encode(model, [tensors[f"{name}.video"]])[0]
    assert latents.shape == tensors[f"{name}.latent"].shape
    assert equal_within("Wan VAE, encode", latents, tensors[f"{name}.latent"], BAR)


@pytest.mark.parity
@pytest.mark.parametrize("name", cases(".decoded"))
def test_decoding_equals_the_original(model, tensors, name):
    head = model.decoder.conv_out
    before = [head.weight.clone(), head.bias.clone()]
    gain = head_gain(name)
    head.weight *= gain
    head.bias *= gain
    try:
        video = vae.decode(model, tensors[f"{name}.latent"])
    finally:
        head.weight.copy_(before[0])
        head.bias.copy_(before[1])
    assert video.abs().max() <= 1
    assert equal_within("Wan VAE, decode", video, tensors[f"{name}.decoded"], BAR)


def test_encoding_equals_the_class_and_keeps_the_order_of_videos(model, tensors):
    videos = [tensors[f"{LONG}.video"], tensors[f"{SHORT}.video"], -tensors[f"{LONG}.video"]]
    latents = vae.encode(model, videos)
    mean, std = (torch.tensor(model.config[key]).view(-1, 1, 1, 1) for key in ("latents_mean", "latents_std"))
    for video, ours in zip(videos, latents, strict=True):
        with torch.no_grad():
            theirs = (model.encode(video[None]).latent_dist.mode()[0] - mean) / std
        assert (ours - theirs).abs().max() <= BAR


@pytest.mark.parametrize(("frames", "latent_frames"), [(1, 1), (2, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_frames_after_the_last_4n_plus_1_are_dropped(model, frames, latent_frames):
    video = torch.rand(3, frames, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = vae.encode(model, [video])[0]
    assert latents.shape == (16, latent_frames, 2, 2)
    assert torch.equal(latents, vae.encode(model, [video[:, : 4 * (latent_frames - 1) + 1]])[0])


def test_chunks_are_the_video(model, tensors):
    latents = tensors[f"{LONG}.latent"]
    chunks = list(vae.decode_chunks(model, latents))
    assert [chunk.shape[1] for chunk in chunks] == [1] + [4] * (latents.shape[1] - 1)
    assert torch.equal(torch.cat(chunks, dim=1), vae.decode(model, latents))


def test_an_interrupted_decoding_leaves_nothing_behind(model, tensors):
    whole = vae.decode(model, tensors[f"{SHORT}.latent"])
    chunks = vae.decode_chunks(model, tensors[f"{LONG}.latent"])
    next(chunks)
    next(chunks)
    chunks.close()
    assert torch.equal(vae.decode(model, tensors[f"{SHORT}.latent"]), whole)


@pytest.fixture(scope="module")
def toys():
    """The embedded VAE in float32 and in bfloat16, and a clip that it was trained for."""
    from vace.conditioning.pixels import to_model_space
    from vace.models.checkpoints import tiny_folder
    from vace.training.latents import load_vae
    from vace.training.worlds import render, sample_world

    clip = to_model_space(render(sample_world(2), frames=9).frames)
    return load_vae(tiny_folder()), load_vae(tiny_folder()).bfloat16(), clip


def test_the_error_of_bfloat16_is_what_is_stated(toys):
    exact, half, clip = toys
    (latents,), (near,) = vae.encode(exact, [clip]), vae.encode(half, [clip])
    assert near.dtype == torch.float32 and 0 < float((near - latents).norm() / latents.norm()) < 0.02  # 0.011 seen
    video, close = vae.decode(exact, latents), vae.decode(half, latents)
    psnr = 10 * torch.log10(4 / (close - video).square().mean())
    assert close.dtype == torch.float32 and 50 < float(psnr) < 75  # 55 to 60 dB seen


def test_tiles_in_bfloat16_are_near_those_in_float32(toys):
    from vace.models.wan import vae_tiles

    exact, half, clip = toys
    tiles = vae_tiles.Tiles(6, 4)
    (latents,), (near,) = (vae_tiles.encode(model, [clip], tiles) for model in (exact, half))
    assert near.dtype == torch.float32 and float((near - latents).norm() / latents.norm()) < 0.02
    video, close = (vae_tiles.decode(model, latents, tiles) for model in (exact, half))
    assert close.dtype == torch.float32 and float(10 * torch.log10(4 / (close - video).square().mean())) > 50
