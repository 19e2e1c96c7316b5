"""The judge of colours and shapes is right on held-out worlds, clean and spoilt."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from vace.conditioning.pixels import to_model_space, to_pixels
from vace.models.checkpoints import tiny_folder
from vace.training.judge import colour_of, colour_shares, find, shape_of, shape_scores
from vace.training.latents import load_vae
from vace.training.scene import COLOURS, LETTERS, SHAPES, SPRITES
from vace.training.shapes import silhouette
from vace.training.worlds import render, sample_world


def spoilt(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """About what a small decoder gives back: blurred by a pixel, with noise."""
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in frames])
    return (blurred + rng.normal(0, 8, blurred.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=["clean", "spoilt"])
def shown(request):
    """40 held-out worlds of one shape: (thing, frames, masks)."""
    rng = np.random.default_rng(0)
    worlds = [sample_world(seed, split="held_out", objects=(1, 1), kinds=("shape",)) for seed in range(40)]
    clips = [render(world, frames=5) for world in worlds]
    frames = [clip.frames if request.param == "clean" else spoilt(clip.frames, rng) for clip in clips]
    return [(clip.world.things[0], seen, clip.masks[:, 0]) for clip, seen in zip(clips, frames, strict=True)]


def test_with_the_true_mask(shown):
    assert np.mean([colour_of(frames, masks) == thing.colour for thing, frames, masks in shown]) >= 0.97
    assert np.mean([shape_of(frames, masks) == thing.name for thing, frames, masks in shown]) >= 0.95


def test_without_a_mask(shown):
    assert np.mean([colour_of(frames) == thing.colour for thing, frames, _ in shown]) >= 0.9
    assert np.mean([shape_of(frames) == thing.name for thing, frames, _ in shown]) >= 0.85
    assert np.mean([shape_of(frames, colour=thing.colour) == thing.name for thing, frames, _ in shown]) >= 0.85


def test_shapes_that_went_through_the_toys_vae():
    vae, right = load_vae(tiny_folder()), []
    for seed in range(24):
        clip = render(sample_world(seed, split="held_out", objects=(1, 1), kinds=("shape",)), frames=5)
        with torch.no_grad():
            seen = vae(to_model_space(clip.frames)[None]).sample[0].clamp(-1, 1)
        right.append(shape_of(to_pixels(seen)) == clip.world.things[0].name)
    assert np.mean(right) >= 0.75  # 0.62 by sharp silhouettes alone


def test_found_masks_cover_the_thing(shown):
    found = [(find(frames, thing.colour), masks) for thing, frames, masks in shown]
    assert np.mean([(mine & true).sum() / (mine | true).sum() for mine, true in found if mine is not None]) > 0.75


def test_every_silhouette_is_its_own():
    for names in (SHAPES, SPRITES, LETTERS):
        for name in names:
            mask = cv2.resize(silhouette(name), (18, 18), interpolation=cv2.INTER_AREA)[None] > 0.5
            scores = shape_scores(np.pad(mask, ((0, 0), (4, 4), (4, 4))), names)
            assert max(scores, key=scores.get) == name


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_in_light_and_shade(colour):
    shades = np.linspace(0.45, 1.0, 16)[:, None, None] * np.array(COLOURS[colour])
    frames = np.broadcast_to(shades, (16, 16, 3)).astype(np.uint8)[None]
    assert colour_of(frames) == colour_of(frames, np.ones((1, 16, 16), bool)) == colour


def test_nothing_is_seen_in_grey():
    grey = np.full((3, 32, 32, 3), 127, np.uint8)
    assert colour_of(grey) is None and shape_of(grey) is None and find(grey, "red") is None
    assert not any(colour_shares(grey).values())
    assert shape_of(grey, np.zeros((3, 32, 32), bool)) is None
