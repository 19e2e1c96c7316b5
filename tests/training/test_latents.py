"""Encoded rows: equal to what the engine encodes, resumed shard by shard, drawn in batches of one shape."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors import safe_open

from vace.conditioning.context import empty_source, encode_context
from vace.conditioning.pixels import to_model_space
from vace.errors import CheckpointError, InputError
from vace.models.wan import vae as engine_vae
from vace.training import quick_encode
from vace.training.latents import (
    SIZES,
    LatentRows,
    Shape,
    build,
    encode_row,
    encoder,
    load_vae,
    size_of,
    things_of,
)
from vace.training.rows import make_row

CONFIG = {"base_dim": 4, "z_dim": 16, "dim_mult": [1, 2, 2, 2], "temperal_downsample": [False, True, True]}


@pytest.fixture(scope="module")
def vae_folder(tmp_path_factory):
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**CONFIG, num_res_blocks=1, latents_mean=[0.1] * 16, latents_std=[0.5] * 16)
    folder = tmp_path_factory.mktemp("model") / "vae"
    vae.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(vae_folder, tmp_path_factory) -> LatentRows:
    return build(vae_folder.parent, tmp_path_factory.mktemp("rows"), rows=7, workers=0, shard=4, progress=False)


@pytest.mark.parametrize("frames", [1, 5, 17])
def test_the_quick_encoder_is_the_class(vae_folder, frames):
    vae = load_vae(vae_folder)
    clip = torch.rand(3, frames, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        expected = vae.encode(clip[None]).latent_dist.mean[0]
    assert torch.allclose(quick_encode.encode(vae, clip), expected, atol=1e-5)


@pytest.mark.parametrize("task", ["swap", "scribble"])
def test_a_row_is_encoded_as_the_engine_does_it(vae_folder, task):
    vae, row = load_vae(vae_folder), make_row(5, task=task, size=(48, 48), frames=9)
    encode = functools.partial(engine_vae.encode, vae)
    context = encode_context(encode, row.frames, row.mask, row.refs)
    target = torch.cat([*encode(list(row.refs)), *encode([to_model_space(row.target)])], dim=1)
    made = encode_row(encoder(vae), row)
    assert np.allclose(made["context"], context[:32], atol=5e-3)
    assert np.allclose(made["target"], target, atol=5e-3)
    assert np.allclose(made["mask"] / 255, context[32:], atol=3e-3)
    assert made["things"].shape == (1, *made["mask"].shape[1:]) and not made["things"][:, : len(row.refs)].any()


def test_things_are_told_by_their_share_of_each_latent_pixel():
    masks = np.zeros((5, 16, 24), bool)
    masks[0, :8, :8] = True  # all of a latent pixel of the first latent frame
    masks[1:3, 8:, 16:20] = True  # half of one, in half of the frames of the second
    things = things_of(masks, refs=1)
    assert things.shape == (1, 3, 2, 3) and things.dtype == np.uint8
    assert things[0, 1, 0, 0] == 255 and things[0, 2, 1, 2] == 64 and things.astype(int).sum() == 255 + 64


def test_a_folder_gives_back_its_rows(vae_folder, rows):
    assert len(rows) == 7 and sum(rows.shapes.values()) == 7
    k = 5
    row = make_row(k, size=size_of(k))
    made = encode_row(encoder(load_vae(vae_folder)), row)
    batch = rows.batch(indices=[k])
    assert batch["prompts"] == [row.prompt] and batch["tasks"] == [row.task] and batch["refs"] == len(row.refs)
    assert rows.shape(k) == (*size_of(k), len(row.refs))
    for part, value in made.items():
        assert batch[part].dtype == value.dtype and np.array_equal(batch[part][0], value), part


def test_batches_are_of_one_shape(rows):
    rng = np.random.default_rng(0)
    for _ in range(5):
        batch = rows.batch(rng, 3)
        shape = batch["shape"]
        cells = (5 + shape.refs, shape.height // 8, shape.width // 8)
        assert batch["target"].shape == (3, 16, *cells) and batch["mask"].shape == (3, 64, *cells)
        assert batch["context"].shape == (3, 32, *cells)
    first, other = list(rows.shapes)[:2]
    with pytest.raises(InputError, match="several shapes"):
        rows.batch(indices=[rows.rows_of(first)[0], rows.rows_of(other)[0]])
    assert all(rows.tasks[k] == rows.tasks[0] for k in rows.rows_of(task=rows.tasks[0]))


def test_nothing_is_what_words_alone_are_led_by(vae_folder, rows):
    width, height = next(iter(SIZES))
    context = encode_context(encoder(load_vae(vae_folder)), *empty_source(17, width, height))
    empty = rows.empty(Shape(width, height, 0))
    assert np.allclose(empty["context"], context[:32], atol=2e-3) and (empty["mask"] == 255).all()
    referenced = rows.empty(Shape(width, height, 2))
    assert referenced["context"].shape == (32, 7, height // 8, width // 8)
    assert not referenced["mask"][:, :2].any() and np.array_equal(referenced["context"][:, 2:], empty["context"])


def contents(path):
    """The arrays and what is said of them; the order in which safetensors writes that is not fixed."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()} | file.metadata()


def test_what_is_there_is_kept_and_the_rest_is_made(vae_folder, rows):
    whole, part = sorted(rows.folder.glob("rows-*.safetensors"))
    before, old = whole.stat().st_mtime_ns, contents(part)
    part.unlink()
    again = build(vae_folder, rows.folder, rows=7, workers=0, shard=4, progress=False)
    assert len(again) == 7 and whole.stat().st_mtime_ns == before and contents(part) == old
    with pytest.raises(InputError, match="made otherwise \\(seed\\)"):
        build(vae_folder, rows.folder, rows=7, seed=1, workers=0, shard=4, progress=False)


def test_rows_of_one_frame(vae_folder, tmp_path):
    made = build(vae_folder, tmp_path, rows=4, frames=1, workers=0, shard=4, progress=False)
    for k in range(4):
        one = made.batch(indices=[k])
        frames = one["refs"] + 1
        assert all(one[name].shape[2] == frames for name in ("target", "context", "mask", "things"))
        assert made.empty(made.shape(k))["context"].shape[1] == frames
    with pytest.raises(InputError, match="made otherwise \\(frames\\)"):
        build(vae_folder, tmp_path, rows=4, workers=0, shard=4, progress=False)


def test_folders_without_what_is_needed_are_told(tmp_path):
    with pytest.raises(InputError, match="no encoded rows"):
        LatentRows(tmp_path)
    with pytest.raises(CheckpointError, match="no VAE"):
        build(tmp_path, tmp_path / "out", rows=1, workers=0)


def test_sizes_are_drawn_by_their_shares():
    drawn = [size_of(seed) for seed in range(1500)]
    for size, share in SIZES.items():
        assert drawn.count(size) / 1500 == pytest.approx(share, abs=0.04)


@pytest.mark.slow
def test_workers_make_the_same_rows(vae_folder, rows, tmp_path):
    other = build(vae_folder, tmp_path, rows=7, workers=2, shard=4, progress=False)
    for k in range(7):
        one, two = (some.batch(indices=[k]) for some in (rows, other))
        assert one["prompts"] == two["prompts"] and np.allclose(one["context"], two["context"], atol=2e-3)
