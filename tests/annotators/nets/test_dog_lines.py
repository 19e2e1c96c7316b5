"""Lines by difference of Gaussians: where they are, where there are none, and that they are steady."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vace.annotators.nets.dog_lines import DogLines
from vace.media.image import read_image

ASSETS = Path(__file__).parents[3] / "assets"
DARK = 128


def lines(frame: np.ndarray) -> np.ndarray:
    """Ink of one frame, 0..1 float [H,W]."""
    (drawn,) = DogLines().lines(frame[None])
    assert drawn.shape == frame.shape[:2] and drawn.dtype == np.uint8
    return 1 - drawn / 255


def disc(ground=(200, 200, 200), inside=(90, 90, 90), height=160, width=200, radius=50) -> np.ndarray:
    frame = np.full((height, width, 3), ground, np.uint8)
    return cv2.circle(frame, (width // 2, height // 2), radius, inside, -1, cv2.LINE_AA)


def distance_to_circle(height=160, width=200, radius=50) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.abs(np.hypot(y - height // 2, x - width // 2) - radius)


# inner colours that differ from (120, 120, 120) in brightness, and one (of the same gray) in colour alone
@pytest.mark.parametrize("inside", [(60, 60, 60), (220, 220, 220), (40, 140, 200), (250, 80, 40)])
def test_a_shape_is_outlined_once(inside):
    ink = lines(disc(ground=(120, 120, 120), inside=inside))
    away = distance_to_circle()
    assert ink[away > 9].max() == 0, "flat regions are white"
    y, x = np.nonzero(ink > 0.4)
    turns = np.histogram(np.arctan2(y - 80, x - 100), bins=72, range=(-np.pi, np.pi))[0]
    assert (turns > 0).mean() > 0.95, "the outline is closed"
    parts, _ = cv2.connectedComponents((ink > 0.2).astype(np.uint8))
    assert parts == 2, "one line and the ground"
    assert (ink > 0.4).sum() / (2 * np.pi * 50) < 4, "the line is thin"


@pytest.mark.parametrize("level", [20, 60, 128, 220])
def test_noise_is_no_line(level):
    grain = level + np.random.default_rng(level).normal(0, 5, (120, 160, 3))
    assert lines(np.clip(grain, 0, 255).astype(np.uint8)).mean() < 1e-3


def test_flat_and_shaded_frames_are_white():
    assert lines(np.full((90, 120, 3), 77, np.uint8)).max() == 0
    shade = np.repeat(np.linspace(30, 230, 160)[None, :, None], 100, axis=0).repeat(3, axis=2)
    assert lines(shade.astype(np.uint8)).max() == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_outline_stands_out_from_texture(seed):
    """A box on a plain ground is drawn whole, patches of the very same two colours hardly."""
    grain = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (240, 320)), (0, 0), 1.2)
    frame = np.full((240, 320), 150, np.uint8)
    frame[:, 160:][grain[:, 160:] > 0] = 110
    cv2.rectangle(frame, (40, 60), (110, 180), 110, -1)
    ink = lines(cv2.merge([frame] * 3))
    assert (ink[60:181, 34:48].max(axis=1) > 0.8).mean() > 0.95
    outer = (frame == 150) & (cv2.erode(frame, np.ones((3, 3), np.uint8)) == 110)
    near = cv2.dilate(ink, np.ones((5, 5), np.uint8)) > 0.5
    assert near[:, 10:150][outer[:, 10:150]].mean() > 0.95
    assert near[:, 180:310][outer[:, 180:310]].mean() < 0.2


def test_a_portrait_is_recognisable():
    """The astronaut: outlines where the person is, hardly a line on the wall behind her."""
    image = read_image(ASSETS / "images" / "test.jpg")
    ink = lines(image)
    scale = image.shape[0] / 512
    face, wall = (ink[int(a * scale) : int(b * scale), int(c * scale) : int(d * scale)]
                  for a, b, c, d in ((90, 190, 180, 270), (20, 150, 300, 340)))  # fmt: skip
    assert 0.02 < ink.mean() < 0.15
    assert face.mean() > 0.04 and wall.mean() < 0.005


def test_lines_are_steady_under_noise_and_changes_of_light():
    """Twice the same picture, grain and brightness apart: the lines are those of Canny's detector or steadier."""
    image = read_image(ASSETS / "images" / "test3.jpg").astype(np.float64)
    rng = np.random.default_rng(0)
    views = [np.clip(image * light + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8) for light in (1, 0.94)]

    def change(inks):
        one, other = (cv2.blur(ink, (3, 3)) for ink in inks)
        return np.abs(one - other).sum() / (one.sum() + other.sum())

    def canny(view):
        return cv2.Canny(cv2.GaussianBlur(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), (0, 0), 1.4), 60, 140) / 255

    ours = change([lines(view) for view in views])
    assert ours < 0.15 and ours < change([canny(view) for view in views])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (7, 8), (720, 1280), (1000, 300)])
def test_any_size(size, noise):
    drawn = DogLines().lines(noise(2, *size)[:1])
    assert drawn.shape == (1, *size) and drawn.dtype == np.uint8


def test_large_frames_keep_the_weight_of_their_lines():
    small, large = (lines(disc(height=160 * k, width=200 * k, radius=50 * k)) for k in (3, 6))
    assert abs(small.mean() / large.mean() - 1) < 0.2


def test_frames_do_not_depend_on_each_other(noise):
    frames = cv2.GaussianBlur(noise(1, 60, 80)[0], (0, 0), 3)[None], disc(height=60, width=80, radius=20)[None]
    together = DogLines().lines(np.concatenate(frames))
    assert np.array_equal(together, np.concatenate([DogLines().lines(frame) for frame in frames]))
    assert (together[1] < DARK).any()
