"""LTX with a VAE of the kind of 0.9.1: its decoder is told a timestep and draws, from the video's own seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ltx_folders import write_091
from media_io import frames_of

from vace.generate import generate
from vace.job import prepare_job
from vace.models.ltx import engine
from vace.watching import Watch

GIVEN = {
    "base": "ltx", "size": "64x64", "frame_num": 9, "steps": 1, "out_format": "exact", "progress": False,
    "device": "cpu", "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_091(tmp_path_factory.mktemp("ltx") / "toy-091")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def made(folder):
    """made(flag=value, ...) -> the frames of the first video, uint8 [9,64,64,3]."""

    def run(**changed) -> np.ndarray:
        return frames_of(generate("a cat", **{**GIVEN, "ckpt_dir": str(folder), **changed}).out_videos[0])

    return run


@pytest.fixture
def same_latents(monkeypatch):
    """Whatever the seed, the latents to decode are those of seed 3: what differs then comes from the decoding."""
    denoise = engine.LTXEngine.denoise
    monkeypatch.setattr(
        engine.LTXEngine, "denoise", lambda self, *args, **more: denoise(self, *args, **more | {"seed": 3})
    )


@pytest.fixture
def drawn_on(monkeypatch):
    """(seed, purpose, device) of every generator that is made, in order."""
    made, generator = [], engine.generator

    def watched(seed, purpose, device="cpu"):
        made.append((seed, purpose, str(device)))
        return generator(seed, purpose, device)

    monkeypatch.setattr(engine, "generator", watched)
    return made


def test_one_seed_one_video(folder):
    paths = [generate("a cat", **{**GIVEN, "ckpt_dir": str(folder)}).out_videos[0] for _ in range(2)]
    first, again = (frames_of(path) for path in paths)
    assert paths[0] != paths[1] and np.array_equal(first, again)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert first.shape == (9, 64, 64, 3) and first.std() > 1 and 0.5 > np.isin(first, (0, 255)).mean()


def test_what_was_drawn_before_does_not_matter(made):
    first = made()
    torch.manual_seed(99)
    torch.randn(7)
    assert np.array_equal(made(), first)


@pytest.mark.parametrize("change", [{"seed": 4}, {"decode_timestep": 0.4}, {"decode_noise_scale": 0.2}])
def test_every_setting_matters(made, change):
    assert not np.array_equal(made(), made(**change))


@pytest.mark.parametrize("change", [{"decode_timestep": 0.4}, {"decode_noise_scale": 0.2}])
def test_they_do_not_concern_the_kind_of_09(made, change):
    assert np.array_equal(made(ckpt_dir="tiny"), made(ckpt_dir="tiny", **change))


def test_the_decoding_draws_from_the_seed_of_the_video(made, same_latents):
    """Of the same latents two seeds make two videos; with no noise mixed in too, since the decoder adds its own."""
    for more in ({}, {"decode_noise_scale": 0.0}):
        videos = [made(seed=seed, **more) for seed in (3, 4, 0, 3)]
        assert np.array_equal(videos[0], videos[3])
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert not np.array_equal(videos[first], videos[second])


def test_several_videos_draw_from_their_own_seeds(folder, made, same_latents):
    both = generate("a cat", **{**GIVEN, "ckpt_dir": str(folder), "num_videos": 2}).out_videos
    for seed, path in zip((3, 4), both, strict=True):
        assert np.array_equal(frames_of(path), made(seed=seed))


def test_both_kinds_of_noise_are_drawn_from_the_seed(folder):
    """What is mixed into the latents, and what the decoder adds: each alone."""
    loaded = engine.load_engine(prepare_job("a cat", **{**GIVEN, "ckpt_dir": str(folder)}).checkpoint, "cpu")
    latents = torch.zeros(128, 2, 2, 2)

    def silent(shape, device, dtype):
        return torch.zeros(shape, device=device, dtype=dtype)

    for given in ({"inject": silent}, {"noise": torch.zeros_like(latents)}):
        first, again, other = (loaded.decode(latents, seed=seed, **given) for seed in (1, 1, 2))
        assert torch.equal(first, again) and (first - other).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["cpu", "auto", "CPU"])
def test_noise_is_drawn_where_it_is_asked_for(made, drawn_on, name, monkeypatch):
    """'auto' is the CPU where there is no other device, and so the same video."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert np.array_equal(made(noise_device=name), made())
    assert drawn_on == [(3, "posterior", "cpu"), (3, "decode", "cpu")] * 2


def test_a_device_for_the_noise_reaches_the_decoding(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    settings = prepare_job("a cat", **{**GIVEN, "ckpt_dir": str(folder), "noise_device": "cuda:1"}).settings
    loaded = engine.load_engine(prepare_job("a cat", **{**GIVEN, "ckpt_dir": str(folder)}).checkpoint, "cpu")
    told = loaded.decoding(settings, 5)
    assert told == {"decode_timestep": 0.05, "decode_noise_scale": 0.025, "seed": 5, "noise_device": "cuda:1"}
    asked = []

    def refusing(seed, purpose, device):
        asked.append((seed, purpose, str(device)))
        raise LookupError

    monkeypatch.setattr(engine, "generator", refusing)
    with pytest.raises(LookupError):
        loaded.decode(torch.zeros(128, 2, 2, 2), **told)
    assert asked == [(5, "decode", "cuda:1")]


def test_previews_draw_for_themselves(folder):
    """They are drawn alike whenever they are made, and neither the video nor the global state notices."""
    job, shown, states = {**GIVEN, "ckpt_dir": str(folder), "steps": 4}, [], []

    def look(step, picture):
        shown.append(picture)
        assert torch.equal(states[-1], torch.get_rng_state())

    watch = Watch(on_step=lambda *_: states.append(torch.get_rng_state()), on_preview=look)
    paths = [generate("a cat", watch=watch, **job).out_videos[0] for _ in range(2)]
    plain = generate("a cat", **job).out_videos[0]
    assert len({path.read_bytes() for path in (*paths, plain)}) == 1
    first, *_ = shown
    assert first.shape == (64, 64, 3) and first.std() > 1
    assert sum(np.array_equal(first, picture) for picture in shown) == 2  # the first of either run
