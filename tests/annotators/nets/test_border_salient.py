"""The embedded salient network: things on real pictures, nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from vace.annotators.nets import border_salient
from vace.annotators.nets.border_salient import BorderSalient, border_distances, border_prior, trusted
from vace.annotators.nets.matte import PersonMatte
from vace.media.image import read_image


def overlap(one, other):
    return ((one > 127) & (other > 127)).sum() / ((one > 127) | (other > 127)).sum()


def one_map(image):
    (found,) = BorderSalient().maps(image[None])
    assert found.shape == image.shape[:2] and found.dtype == np.uint8
    return found


def test_the_person_of_a_picture(root):
    found = one_map(read_image(root / "assets" / "images" / "test.jpg"))
    mask = read_image(root / "assets" / "masks" / "test2.png")[..., 0]
    assert overlap(found, mask) > 0.9
    assert (found[:, :5][:200] <= 1).all()


def test_the_cup_on_its_saucer(root):
    image = read_image(root / "assets" / "images" / "test3.jpg")
    found = one_map(image)
    height, width = found.shape
    y, x = np.mgrid[:height, :width]
    saucer = ((x / width - 0.475) / 0.33) ** 2 + ((y / height - 0.56) / 0.44) ** 2 < 1
    assert overlap(found, saucer * np.uint8(255)) > 0.8
    assert found[int(0.3 * height), int(0.5 * width)] == 255  # in the cup
    assert not found[:20, :100].any() and not found[:60, -60:].any()  # the table


def test_the_cat(root):
    image = read_image(root / "assets" / "images" / "test2.jpg")
    found = one_map(image)
    assert (found[90:200, 100:300] > 127).mean() > 0.95  # the face
    assert not found[:120, -40:].any()  # the stones behind it


def disc_on(ground, colour=(200, 60, 40), radius=30):
    y, x = np.mgrid[: ground.shape[0], : ground.shape[1]]
    disc = np.hypot(y - 70, x - 110) < radius
    return np.where(disc[..., None], np.uint8(colour), ground), disc * np.uint8(255)


def test_a_thing_on_a_plain_or_speckled_ground(noise):
    ground = np.full((150, 220, 3), (90, 120, 100), np.uint8)
    for back in (ground, (ground + noise(1, 150, 220)[0] // 10).astype(np.uint8)):
        image, mask = disc_on(back)
        assert overlap(one_map(image), mask) > 0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (300, 2), (4, 6), (31, 17), (200, 300)])
def test_nothing_on_one_colour(size):
    for value in (0, 128, 255):
        assert not one_map(np.full((*size, 3), value, np.uint8)).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 40)])
def test_nothing_where_all_is_border(noise, size):
    """A single pixel ended in an IndexError: OpenCV takes the one row for three samples."""
    assert border_prior(noise(1, *size)[0]) is None
    assert not one_map(noise(1, *size)[0]).any()


def test_nothing_in_noise(noise):
    for seed in range(3):
        assert not one_map(noise(1, 120, 160, seed)[0]).any()


def test_small_people_and_a_crowd(monkeypatch):
    def persons(*areas):
        made = []
        for index, area in enumerate(areas):
            mask = np.zeros((100, 100), np.uint8)
            mask[: area // 10, 12 * index : 12 * index + 10] = 255
            made.append(PersonMatte(mask, (0, 0, 10, 10), 0.99))
        return lambda image, with_small: made

    image = disc_on(np.full((100, 100, 3), 90, np.uint8), radius=20)[0]
    monkeypatch.setattr(border_salient, "find_persons", persons(400, 100, 50))
    found = one_map(image)
    assert found[:40, :10].all() and found[:10, 12:22].all()
    assert (found > 0).sum() == 400 + 100  # who takes an eighth of the largest is left out
    monkeypatch.setattr(border_salient, "find_persons", persons(100))
    assert not one_map(image)[:10, :10].any()  # a hundredth of the picture is not what it is of


def test_colours_of_the_border_are_the_ground():
    image = np.full((60, 80, 3), (20, 200, 20), np.uint8)
    image[:, 40:] = (20, 20, 200)  # a ground of two colours
    image[20:40, 30:50] = (250, 250, 0)
    distances = border_distances(image)
    assert distances[5:, 5:35][:10].max() < 0.01 and distances[5:15, 45:75].max() < 0.01
    assert distances[22:38, 32:48].min() > 1
    prior = border_prior(image)
    assert prior[30, 40] == 255 and prior[5, 5] < 5
    assert border_prior(np.full((60, 80, 3), 77, np.uint8)) is None


def test_foreground_is_trusted_where_it_is_enough():
    matte = np.zeros((50, 50), np.uint8)
    matte[10:30, 10:30] = 200
    assert trusted(matte)[20, 20] == 255 and trusted(matte)[0, 0] == 0
    assert trusted(matte // 2) is None
    matte[12:] = 0
    matte[10:12, 12:] = 0
    assert trusted(matte) is None
