"""Faces cut out, against the original and by themselves."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from goldens_io import comparable_cases, equal_within
from parity_fixes import FIXES

from vace import annotators
from vace.annotators.face import cut_face, face_mask
from vace.annotators.networks import Networks
from vace.errors import InputError

same = partial(equal_within, "drawn and copied annotator output")


class Boxes:
    """In the place of the network "face": finds the given boxes. It is all `Networks` that an annotator asks for."""

    def __init__(self, *boxes) -> None:
        self.boxes, self.asked = list(boxes), []

    def get(self, name):
        self.asked.append(name)
        return self

    def faces(self, image):
        return [tuple(float(value) for value in box) for box in self.boxes]


def sliced(image: np.ndarray, box) -> np.ndarray:
    x1, y1, x2, y2 = (int(value) for value in box)
    return image[y1 : y2 + 1, x1 : x2 + 1]


@pytest.mark.parity
def test_the_cut_is_the_originals():
    compared = 0
    for case in comparable_cases("face"):
        image, boxes, golden = case["inputs"]["image"], case["params"]["boxes"], case["output"]
        if golden is None:
            assert boxes == []
            continue
        expected = golden["image"] if isinstance(golden, dict) else golden
        expected = expected if isinstance(expected, list) else [expected]
        masks = golden["mask"] if isinstance(golden, dict) else []
        masks = masks if isinstance(masks, list) else [masks]
        for number, box in enumerate(boxes[: len(expected)]):
            if min(box[:2]) < 0:
                fixed = FIXES["negative_face_ends"][1](box)
                assert same(cut_face(image, box), sliced(image, fixed)), case["id"]
                continue
            assert same(cut_face(image, box), expected[number]), case["id"]
            if masks:
                assert same(face_mask(image, box), masks[number]), case["id"]
            compared += 1
        (first,) = annotators.get("image_face")(images=[image], networks=Boxes(*boxes)).images
        assert same(first, cut_face(image, boxes[0])), case["id"]
    assert compared


def test_the_first_face_of_each_picture_is_cut_out(noise, caplog):
    images = [noise(1, 60, 80, seed)[0] for seed in (1, 2)]
    network = Boxes((10.9, 20.2, 30.7, 40.1), (0, 0, 5, 5))
    result = annotators.get("image_face")(images=images, networks=network)
    assert network.asked == ["face"] and result.image_masks == [None, None]
    for image, found in zip(images, result.images, strict=True):
        assert np.array_equal(found, image[20:41, 10:31])
    assert "--image (1 of 2): 2 faces are found" in caplog.text


@pytest.mark.parametrize("box", [(-8, -3, 20, 30), (60, 40, 95, 90), (-5, -5, 500, 500)])
def test_what_reaches_out_of_the_picture_is_cut_off(noise, box):
    image = noise(1, 60, 80)[0]
    x1, y1, x2, y2 = box
    expected = image[max(0, y1) : y2 + 1, max(0, x1) : x2 + 1]
    assert np.array_equal(cut_face(image, box), expected)
    mask = face_mask(image, box)
    assert mask.sum() == 255 * expected[..., 0].size and mask[max(0, y1), max(0, x1)] == 255


def test_a_box_wholly_outside_is_passed_over(noise):
    image = noise(1, 60, 80)[0]
    (found,) = annotators.get("image_face")(images=[image], networks=Boxes((100, 10, 120, 30), (5, 5, 9, 9))).images
    assert found.shape == (5, 5, 3)


@pytest.mark.parametrize("boxes", [(), ((-30, -30, -10, -10),)])
def test_a_picture_without_a_face_is_named(noise, boxes):
    with pytest.raises(InputError, match=r"--image \(1 of 2\): no face is found in this picture of 80x60 pixels"):
        annotators.get("image_face")(images=list(noise(2, 60, 80)), networks=Boxes(*boxes))


def test_the_face_of_a_real_picture(root):
    from vace.media.image import read_image

    image = read_image(root / "assets" / "images" / "test.jpg")
    networks = Networks("embedded")
    (face,) = annotators.get("image_face")(images=[image], networks=networks).images
    assert networks.chosen["face"].backend == "embedded"
    ((x1, y1, x2, y2),) = networks.get("face").faces(image)
    assert (x1, y1, x2, y2) == pytest.approx((178, 70, 272, 177), abs=9)
    assert np.array_equal(face, image[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1])


def test_a_cat_is_refused(root):
    from vace.media.image import read_image

    with pytest.raises(InputError, match=r"--image \(1 of 1\): no face .*--mode bbox"):
        image = read_image(root / "assets" / "images" / "test2.jpg")
        annotators.get("image_face")(images=[image], networks=Networks("embedded"))
