"""Salient things as references: the original's cut, and what happens where nothing or everything stands out."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from goldens_io import comparable_cases, equal_within

from vace.annotators.nets.u2net import enlarged, levels
from vace.annotators.networks import Networks
from vace.annotators.salient import ImageSalient, salient_region
from vace.annotators.subject import cut_subject


class Answering:
    """Networks whose `salient` answers with given maps, one after another."""

    def __init__(self, *maps):
        self.answers, self.asked = list(maps), []

    def get(self, name):
        self.asked.append(name)
        return self

    def maps(self, frames):
        assert frames.shape[0] == 1
        return self.answers.pop(0)[None]


@pytest.mark.parity
def test_cut_of_the_salient_thing():
    compared = 0
    for case in comparable_cases("salient"):
        expected = case.get("output", {}).get("out")
        if not isinstance(expected, dict):
            continue
        image = case["inputs"]["image"]
        grid = torch.from_numpy(case["inputs"]["grid"])[None, None]
        answer = torch.nn.functional.interpolate(grid, (320, 320), mode="bilinear", align_corners=True)[:, 0].numpy()
        saliency = enlarged(levels(answer), *image.shape[:2])[0]
        crop = bool(case["params"]["cfg"].get("USE_CROP"))
        cut, mask = cut_subject(image, salient_region(saliency), crop=crop)
        assert equal_within("salient reference", cut, expected["image"]), case["id"]
        assert equal_within("salient reference", mask, expected["mask"]), case["id"]
        if crop:
            result = ImageSalient()(images=[image], networks=Answering(saliency))
            assert np.array_equal(result.images[0], cut) and np.array_equal(result.image_masks[0], mask)
            compared += 1
    assert compared


def test_white_around_and_cropped(noise):
    image, saliency = noise(1, 20, 30)[0], np.zeros((20, 30), np.uint8)
    saliency[5:12, 8:20] = 200
    saliency[5, 8] = 1  # too faint
    result = ImageSalient()(images=[image], networks=Answering(saliency))
    expected = image[5:12, 8:20].copy()
    expected[0, 0] = 255
    assert np.array_equal(result.images[0], expected)
    assert result.image_masks[0].shape == (7, 12) and result.image_masks[0][0, 0] == 0
    assert set(np.unique(result.image_masks[0])) == {0, 255}


@pytest.mark.parametrize("value", [0, 137, 255])
def test_where_nothing_stands_out_the_picture_stays_whole(noise, caplog, value):
    images, one = noise(2, 16, 24), np.zeros((16, 24), np.uint8)
    one[4:8, 4:8] = 255
    networks = Answering(np.full((16, 24), value, np.uint8), one)
    with caplog.at_level(logging.WARNING, logger="vace"):
        result = ImageSalient()(images=list(images), networks=networks)
    assert np.array_equal(result.images[0], images[0]) and result.image_masks[0].all()
    assert result.images[1].shape == (4, 4, 3)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["image 1 of 2"]
    assert "nothing stands out of the rest, so the whole picture is the reference" in caplog.text
    assert networks.asked == ["salient"]


def test_the_map_is_stretched_before_it_counts():
    saliency = np.full((8, 8), 100, np.uint8)
    saliency[0, :4] = (0, 1, 2, 200)
    assert [bool(value) for value in salient_region(saliency)[0, :5]] == [False, False, True, True, True]
    assert salient_region(saliency // 4 + 60)[0, :4].tolist() == [0, 0, 0, 255]


def test_a_picture_of_one_pixel(vace, tmp_path):
    """Nothing stands out: an error where the thing is asked for, the whole picture where it need not be there."""
    from vace.media.image import read_image, write_image

    image = np.full((1, 1, 3), (5, 6, 7), np.uint8)
    write_image(tmp_path / "one.png", image)
    asked = ("--image", tmp_path / "one.png", "--backend", "embedded")
    outcome = vace("preprocess", "--task", "image_reference", "--mode", "salient", *asked)
    assert outcome.code == 2 and "nothing stands out in this picture; mark it with --mask or --bbox" in outcome.err
    outcome = vace("preprocess", "--task", "image_salient", *asked)
    assert outcome.code == 0, outcome.err
    assert np.array_equal(read_image(outcome.json["src_ref_images"][0]), image)


def test_embedded_cuts_out_the_astronaut(root):
    from vace.media.image import read_image

    image = read_image(root / "assets" / "images" / "test.jpg")
    networks = Networks("embedded")
    result = ImageSalient()(images=[image], networks=networks)
    assert networks.chosen["salient"].backend == "embedded"
    cut, mask = result.images[0], result.image_masks[0]
    assert cut.shape[:2] == mask.shape and 400 < cut.shape[0] < 512
    assert (cut[mask == 0] == 255).all() and 0.4 < (mask > 0).mean() < 0.8
    assert (cut[:40, :40] == 255).all()  # the flag is gone
