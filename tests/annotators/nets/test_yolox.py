"""YOLOX before and behind its network, against the original and by itself."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from goldens_io import comparable_cases, equal_within

from vace.annotators.nets import yolox

close = partial(equal_within, "networks' pre- and post-processing", bar=1e-4)


@pytest.mark.parity
def test_input_and_boxes_are_the_originals():
    compared = 0
    for case in comparable_cases("pose_onnx"):
        if "raw" not in case["inputs"]:
            continue
        golden = case["output"]
        tensor, scale = yolox.net_input(case["inputs"]["image"])
        assert tensor.dtype.name == golden["net_dtype"]
        step = yolox.SIZE // golden["net_input_u8_s8"].shape[-1]
        assert close(tensor[0, :, ::step, ::step], golden["net_input_u8_s8"]), case["id"]
        boxes = yolox.person_boxes(case["inputs"]["raw"].reshape(yolox.CELLS, -1), scale)
        assert close(boxes, golden["boxes"].reshape(-1, 4)), case["id"]
        compared += 1
    assert compared


def raw_with(*things: tuple[int, float, float]) -> np.ndarray:
    """What a network would say of things, each (class, sureness, x of its centre), 64 pixels wide, in the third row."""
    raw = np.zeros((yolox.CELLS, 85), np.float32)
    for name, sure, x in things:
        cell = 2 * (yolox.SIZE // 8) + int(x // 8)
        raw[cell, :4] = x / 8 - int(x // 8), 0, np.log(8), np.log(8)
        raw[cell, 4], raw[cell, 5 + name] = 1, sure
    return raw


def test_only_sure_persons_count_best_first_and_once():
    raw = raw_with((0, 0.5, 100), (0, 0.9, 108), (0, 0.8, 300), (0, 0.2, 500), (3, 0.95, 400))
    boxes = yolox.person_boxes(raw, 0.5)
    assert boxes.tolist() == pytest.approx(np.array([[76, -16, 140, 48], [268, -16, 332, 48]]) * 2, abs=1e-3)


def test_nobody_is_no_box():
    assert yolox.person_boxes(raw_with(), 1.0).shape == (0, 4)


@pytest.mark.parametrize("size", [(1, 900), (900, 1), (640, 640), (33, 47)])
def test_any_picture_fits_into_the_square(size):
    image = np.full((*size, 3), 7, np.uint8)
    tensor, scale = yolox.net_input(image)
    assert tensor.shape == (1, 3, 640, 640) and scale == 640 / max(size)
    inner = tuple(max(1, int(side * scale)) for side in size)
    assert (tensor[0, :, : inner[0], : inner[1]] == 7).all()
    assert (tensor[0, :, inner[0] :] == 114).all() and (tensor[0, :, :, inner[1] :] == 114).all()


def test_suppression_keeps_what_overlaps_little():
    boxes = np.array([[0, 0, 99, 99], [0, 0, 99, 49], [0, 0, 99, 39]], float)
    scores = np.array([0.9, 0.8, 0.7])
    assert yolox.suppress(boxes, scores, 0.45).tolist() == [0, 2]
    assert yolox.suppress(boxes, scores, 0.3).tolist() == [0]
    assert yolox.suppress(boxes, scores[::-1], 0.45).tolist() == [2, 0]
