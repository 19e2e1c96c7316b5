"""The LTX VAE: equal to the original, and for the kind of 0.9.1 to the class's own pass; every draw handed in."""

from __future__ import annotations

import copy
import json
import re

import pytest
import torch
from goldens_io import equal_within, goldens_dir, model_document, model_tensors

from vace.errors import InputError
from vace.models.ltx import vae
from vace.models.ltx.configs import vae_config
from vace.models.ltx.keymaps import class_names, file_names
from vace.models.ltx.metadata import stated_config
from vace.weight_files import open_weights

BAR = 1e-4
STEMS = sorted(path.stem for path in (goldens_dir() / "ltx").glob("vae_tiny_*.json"))
each_golden = pytest.mark.parametrize("stem", STEMS)
# The published kinds, narrow: that of 0.9, and that of 0.9.1 with other depths.
KINDS = {
    "0.9": {
        "block_out_channels": (4, 8, 16, 16),
        "decoder_block_out_channels": (4, 8, 16, 16),
        "layers_per_block": (2, 1, 1, 1, 2),
        "decoder_layers_per_block": (1, 1, 1, 1, 2),
    },
    "0.9.1": {
        "block_out_channels": (4, 8, 16, 16),
        "layers_per_block": (2, 1, 1, 1, 2),
        "decoder_block_out_channels": (8, 16, 32),
        "decoder_layers_per_block": (1, 2, 1, 2),
        "decoder_spatio_temporal_scaling": (True, True, True),
        "decoder_inject_noise": (True, True, True, False),
        "upsample_residual": (True, True, True),
        "upsample_factor": (2, 2, 2),
        "timestep_conditioning": True,
    },
}


def loaded(path):
    """The VAE in a single file, its sizes read from its tensors and metadata."""
    from diffusers import AutoencoderKLLTXVideo

    weights = open_weights((path,))
    names = class_names("vae", weights.shapes)
    shapes = {new: weights.shapes[old] for old, new in names.items()}
    model = AutoencoderKLLTXVideo(**vae_config(shapes, stated_config(path).get("vae", {}), str(path)))
    model.load_state_dict({new: weights.read(old).clone() for old, new in names.items()}, strict=True)
    return model.requires_grad_(False).eval()


def drawn(kind):
    """A VAE of the class with weights drawn from a seed, none of them zero."""
    from diffusers import AutoencoderKLLTXVideo

    generator = torch.Generator().manual_seed(1)
    model = AutoencoderKLLTXVideo(**KINDS[kind]).requires_grad_(False).eval()
    for name, tensor in model.state_dict().items():
        if name == "decoder.timestep_scale_multiplier":
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        size = tensor[0].numel() ** 0.5 if tensor.dim() > 3 or name.endswith("linear_1.weight") else 3.0
        tensor.copy_(1 + noise.abs() if name == "latents_std" else noise / size)
    return model


def planes(tensors, name):
    """The noise of one decoding in the order it was drawn."""
    keys = [key for key in tensors if re.fullmatch(rf"{name}_inject_noise_\d+", key)]
    return [tensors[key] for key in sorted(keys, key=lambda key: int(key.rpartition("_")[2]))]


def noise_at_will(shape, device, dtype):
    raise AssertionError("this VAE draws nothing")


def latent_clip(model, frames=2, seed=3):
    shape = (model.config.latent_channels, frames, 2, 3)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def class_decode(model, latents, timestep):
    """diffusers' own pass; it draws from global state."""
    mean, std = (values.view(-1, 1, 1, 1) for values in (model.latents_mean, model.latents_std))
    temb = None if timestep is None else torch.tensor([timestep])
    with torch.no_grad():
        return model.decode((latents * std + mean)[None], temb).sample[0]


@pytest.fixture(scope="module")
def golden_model():
    """stem -> the VAE whose weights its JSON names."""
    models = {}

    def get(stem):
        if stem not in models:
            checkpoint = re.search(r"\w+\.safetensors", model_document("ltx", stem)["what"])[0]
            models[stem] = loaded(goldens_dir() / "ltx" / checkpoint)
        return models[stem]

    return get


@pytest.fixture(scope="module")
def conditioned():
    return drawn("0.9.1")


@pytest.fixture(scope="module")
def plain():
    return drawn("0.9")


@pytest.mark.parity
@each_golden
def test_encoding_equals_the_original(golden_model, stem):
    tensors, model, compared = model_tensors("ltx", stem), golden_model(stem), 0
    for name in [key.removesuffix("_mean") for key in tensors if key.endswith("_mean")]:
        for number, video in enumerate(tensors.get(name, ())):
            found = vae.moments(model, video)
            ours = {f"{name}_mean": found.mean, f"{name}_logvar_ch0": found.logvar}
            ours[f"{name}_mode_normalized"] = vae.latents(vae.statistics_of(model), found, None)
            if f"{name}_posterior_noise" in tensors:
                noise = tensors[f"{name}_posterior_noise"][number]
                ours[f"{name}_sample_normalized"] = vae.latents(vae.statistics_of(model), found, noise)
            for key in ours.keys() & tensors.keys():
                assert equal_within("LTX VAE, encode", ours[key], tensors[key][number], BAR), key
                compared += 1
    assert compared


@pytest.mark.parity
@each_golden
def test_decoding_equals_the_original(golden_model, stem):
    tensors, model, compared = model_tensors("ltx", stem), golden_model(stem), 0
    for name in [key for key in tensors if key.startswith("latents") and key.replace("latents", "decoded") in tensors]:
        last = name.removeprefix("latents")
        steps = tensors.get(f"decode_timestep{last}")
        for number, latents in enumerate(tensors[name]):
            step = None if steps is None else float(steps[number])
            noise = vae.stored(planes(tensors, f"decode{last}"))
            video = vae.decode(model, latents, step, noise=noise)
            assert equal_within("LTX VAE, decode", video, tensors[f"decoded{last}"][number], BAR), name
            compared += 1
    assert compared


@pytest.mark.parity
@each_golden
def test_noise_of_no_strength_leaves_the_original_without_noise(golden_model, stem):
    """A VAE without injected noise has no such strengths, and then its decoding is the one without noise."""
    tensors, model = model_tensors("ltx", stem), copy.deepcopy(golden_model(stem))
    strengths = [value for name, value in model.named_parameters() if "per_channel_scale" in name]
    expected = tensors.get("decoded_zero_inject_scale", None if strengths else tensors["decoded"])
    step = float(tensors["decode_timestep"][0]) if "decode_timestep" in tensors else None
    for value in strengths:
        value.zero_()
    one, other = (
        vae.decode(model, tensors["latents"][0], step, noise=vae.seeded(torch.Generator().manual_seed(seed)))
        for seed in (1, 2)
    )
    assert torch.equal(one, other)
    assert expected is None or equal_within("LTX VAE, decode", one, expected[0], BAR)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vae_under_the_originals_names_is_recognised(tmp_path, kind):
    """Written as the published single files are, with what does not concern the VAE beside it."""
    from safetensors.torch import save_file

    model = drawn(kind)
    state = model.state_dict()
    in_file = {old: state[new].contiguous() for new, old in file_names("vae", state).items()}
    others = ("vae.per_channel_statistics.channel", "model.diffusion_model.proj_out.bias")
    path = tmp_path / "file.safetensors"
    save_file({**in_file, **{key: torch.ones(2) for key in others}}, path, metadata={"config": json.dumps({"vae": {}})})
    again = loaded(path)
    assert vae.is_conditioned(again) == (kind == "0.9.1")
    assert {key: again.config[key] for key in KINDS[kind]} == {
        key: list(value) if isinstance(value, tuple) else value for key, value in KINDS[kind].items()
    }
    step, clip = (0.05 if vae.is_conditioned(again) else None), latent_clip(model)
    ours, theirs = (
        vae.decode(each, clip, step, noise=vae.seeded(torch.Generator().manual_seed(5))) for each in (again, model)
    )
    assert torch.equal(ours, theirs)


def test_moments_and_latents_equal_the_class(plain):
    video = torch.rand(3, 9, 64, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = vae.moments(plain, video)
    with torch.no_grad():
        theirs = plain.encode(video[None]).latent_dist
    assert found.mean.shape == (128, 2, 2, 1)
    assert found.logvar.shape == (1, 2, 2, 1)
    assert torch.equal(found.mean, theirs.mean[0])
    assert torch.equal(found.logvar.expand(128, -1, -1, -1), theirs.logvar[0])
    assert found.mean.untyped_storage().nbytes() == found.mean.nbytes  # no hold on the repeated channels
    mean, std = (values.view(-1, 1, 1, 1) for values in (plain.latents_mean, plain.latents_std))
    assert torch.equal(vae.latents(vae.statistics_of(plain), found, None), (theirs.mode()[0] - mean) / std)
    sample = theirs.sample(torch.Generator().manual_seed(4))[0]
    noise = torch.randn(found.mean.shape, generator=torch.Generator().manual_seed(4))
    assert torch.equal(vae.latents(vae.statistics_of(plain), found, noise), (sample - mean) / std)


def test_the_log_variance_is_bounded(plain):
    bias = plain.encoder.conv_out.conv.bias
    before = bias.clone()
    try:
        for shift, end in ((1e3, 20.0), (-1e3, -30.0)):
            bias[-1] = shift
            assert torch.all(vae.moments(plain, torch.zeros(3, 1, 32, 32)).logvar == end)
    finally:
        bias.copy_(before)


@pytest.mark.parametrize("step", [None, 0.05])
def test_the_plain_kind_decodes_as_the_class_and_draws_nothing(plain, step):
    """Neither timestep nor noise concern it, as in the original."""
    assert not vae.is_conditioned(plain)
    clip = latent_clip(plain)
    video = vae.decode(plain, clip, step, noise=noise_at_will)
    assert video.shape == (3, 9, 64, 96)
    assert torch.equal(video, class_decode(plain, clip, None))


@pytest.mark.parametrize("frames", [1, 3])
def test_the_conditioned_kind_decodes_as_the_class(conditioned, frames):
    """The class draws from global state what we draw from a generator of the same seed, in the same order."""
    clip = latent_clip(conditioned, frames)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        theirs = class_decode(conditioned, clip, 0.05)
    video = vae.decode(conditioned, clip, 0.05, noise=vae.seeded(torch.Generator().manual_seed(11)))
    assert video.shape == (3, 8 * frames - 7, 64, 96)
    assert torch.equal(video, theirs)


def test_the_conditioned_kind_without_its_own_noise(conditioned):
    """Another kind still: a timestep and no noise, or noise whose strengths are zero, are the class's decoding."""
    clip = latent_clip(conditioned)
    silent = drawn("0.9.1")
    for name, value in silent.named_parameters():
        if "per_channel_scale" in name:
            value.zero_()
    expected = class_decode(silent, clip, 0.3)
    assert torch.equal(vae.decode(silent, clip, 0.3, noise=vae.seeded(torch.Generator())), expected)
    for module in silent.modules():
        if hasattr(module, "per_channel_scale1"):
            module.per_channel_scale1 = module.per_channel_scale2 = None
    assert torch.equal(vae.decode(silent, clip, 0.3, noise=noise_at_will), expected)
    assert not torch.equal(vae.decode(silent, clip, 0.0, noise=noise_at_will), expected)


def test_one_seed_one_video_and_global_state_untouched(conditioned):
    clip, state = latent_clip(conditioned), torch.random.get_rng_state()
    videos = [
        vae.decode(conditioned, clip, 0.05, noise=vae.seeded(torch.Generator().manual_seed(n))) for n in (1, 1, 2)
    ]
    assert torch.equal(videos[0], videos[1])
    assert (videos[0] - videos[2]).abs().max() > 1e-3
    assert torch.equal(torch.random.get_rng_state(), state)


def test_stored_draws_stand_for_the_generator(conditioned):
    """Twice per residual block with noise, in the size of its place."""
    clip, kept, draw = latent_clip(conditioned), [], vae.seeded(torch.Generator().manual_seed(6))

    def keeping(shape, device, dtype):
        kept.append(draw(shape, device, dtype))
        return kept[-1]

    video = vae.decode(conditioned, clip, 0.05, noise=keeping)
    sizes = [tuple(plane.shape) for plane in kept]
    assert sizes == [(4, 6)] * 2 + [(8, 12)] * 4 + [(16, 24)] * 2
    assert torch.equal(vae.decode(conditioned, clip, 0.05, noise=vae.stored(kept)), video)
    with pytest.raises(ValueError, match="none is left"):
        vae.decode(conditioned, clip, 0.05, noise=vae.stored(kept[:-1]))
    with pytest.raises(ValueError, match=r"noise of \[4, 6\] is needed, the next has \[8, 12\]"):
        vae.decode(conditioned, clip, 0.05, noise=vae.stored(kept[::-1][2:]))


def test_a_timestep_is_asked_for_where_it_is_needed(conditioned):
    with pytest.raises(InputError, match="--decode_timestep"):
        vae.decode(conditioned, latent_clip(conditioned), noise=vae.seeded(torch.Generator()))


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_weights_give_float32_results(kind):
    model = drawn(kind).to(torch.bfloat16)
    model.latents_mean, model.latents_std = model.latents_mean.float(), model.latents_std.float()
    found = vae.moments(model, torch.zeros(3, 9, 32, 32))
    assert (found.mean.dtype, found.logvar.dtype) == (torch.float32, torch.float32)
    clip = vae.latents(vae.statistics_of(model), found, None)
    video = vae.decode(model, clip, 0.05, noise=vae.seeded(torch.Generator().manual_seed(2)))
    assert video.dtype == torch.float32
    exact = vae.decode(model.float(), clip, 0.05, noise=vae.seeded(torch.Generator().manual_seed(2)))
    assert 0 < (video - exact).abs().max() < 0.1 * exact.abs().max()


def test_mixed_noise_takes_its_share_of_normalised_latents():
    latents, noise = torch.full((2, 1, 1, 1), 4.0), torch.full((2, 1, 1, 1), -8.0)
    assert vae.mix_decode_noise(latents, noise, 0.25).unique().tolist() == [1.0]
    assert torch.equal(vae.mix_decode_noise(latents, noise, 0.0), latents)
