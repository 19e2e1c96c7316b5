"""SCRFD: decoding on made-up arrays, and the whole way through onnxruntime on a network written here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx_io import node, onnx_model

from vace.annotators.nets.scrfd import PER_CELL, SIZE, STRIDES, Scrfd, face_boxes, net_input
from vace.annotators.networks import Weights
from vace.errors import CheckpointError

CPU = torch.device("cpu")


def tables(*faces: tuple[int, int, float, tuple]) -> list[np.ndarray]:
    """What the network would say of faces, each (stride, anchor, sureness, (x1, y1, x2, y2) in pixels of its input)."""
    scores = [np.zeros((PER_CELL * (SIZE // stride) ** 2, 1), np.float32) for stride in STRIDES]
    boxes = [np.zeros((len(some), 4), np.float32) for some in scores]
    for stride, anchor, sure, (x1, y1, x2, y2) in faces:
        row, column = divmod(anchor // PER_CELL, SIZE // stride)
        x, y, level = column * stride, row * stride, STRIDES.index(stride)
        scores[level][anchor] = sure
        boxes[level][anchor] = np.array([x - x1, y - y1, x2 - x, y2 - y]) / stride
    return scores + boxes + [np.zeros((len(some), 10), np.float32) for some in scores]


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("second", [0, 1])
def test_an_anchor_tells_of_a_box_in_the_pictures_pixels(stride, second):
    cells = SIZE // stride
    anchor = PER_CELL * (3 * cells + 5) + second
    boxes, scores = face_boxes(tables((stride, anchor, 0.9, (10, 20, 70, 100))), scale=0.5)
    assert boxes.tolist() == pytest.approx(np.array([[20, 40, 140, 200]]), abs=1e-3) and scores == pytest.approx([0.9])


def test_best_first_each_once_and_only_sure_ones():
    said = tables(
        (8, 100, 0.6, (0, 0, 50, 50)), (16, 200, 0.8, (2, 0, 52, 50)), (32, 300, 0.7, (200, 200, 300, 300)),
        (32, 40, 0.49, (400, 400, 500, 500)),
    )  # fmt: skip
    boxes, scores = face_boxes(said, 1.0)
    assert scores == pytest.approx([0.8, 0.7])
    assert boxes.tolist() == pytest.approx(np.array([[2, 0, 52, 50], [200, 200, 300, 300]]), abs=1e-3)


def test_a_batch_axis_changes_nothing():
    said = tables((16, 77, 0.8, (30, 40, 80, 90)))
    assert np.array_equal(face_boxes([some[None] for some in said], 1.0)[0], face_boxes(said, 1.0)[0])


def test_nothing_said_is_no_face():
    boxes, scores = face_boxes(tables(), 1.0)
    assert boxes.shape == (0, 4) and scores.shape == (0,)


@pytest.mark.parametrize(
    ("width", "height", "inner"),
    [(320, 160, (640, 320)), (100, 400, (160, 640)), (640, 640, (640, 640)), (3, 900, (2, 640)), (2000, 2, (640, 1))],
)
def test_input_lies_in_the_upper_left_on_black(width, height, inner):
    tensor, scale = net_input(np.full((height, width, 3), 255, np.uint8))
    assert tensor.shape == (1, 3, SIZE, SIZE) and tensor.dtype == np.float32
    assert scale == inner[1] / height
    white, black = (255 - 127.5) / 128, -127.5 / 128
    across, down = inner
    assert np.allclose(tensor[..., :down, :across], white)
    assert np.allclose(tensor[..., down:, :], black) and np.allclose(tensor[..., across:], black)


@pytest.fixture
def weights(tmp_path):
    """Weights of a network that sees the given faces where the picture has red, its first channel."""

    def make(*faces, outputs: int = 9) -> Weights:
        said = tables(*faces)[:outputs]
        nodes = [
            node("ReduceMax", "input", "brightest", axes=[2, 3], keepdims=0),
            node("Gather", "brightest first", "red", axis=1),
        ]
        constants = {"first": np.array([0], np.int64)}
        for number, table in enumerate(said):
            constants[f"table{number}"] = table
            factor = node("Mul", f"table{number} red", f"out{number}")
            nodes.append(factor if number < 3 else node("Identity", f"table{number}", f"out{number}"))
        shapes = {f"out{number}": table.shape for number, table in enumerate(said)}
        path = tmp_path / "scrfd_10g_bnkps.onnx"
        path.write_bytes(onnx_model({"input": (1, 3, "h", "w")}, shapes, nodes, constants))
        return Weights("original", (path,))

    return make


def test_faces_of_a_picture(weights):
    net = Scrfd(weights((16, 500, 0.8, (30, 40, 80, 90)), (8, 40, 0.9, (-6, 100, 60, 200))), device=CPU)
    image = np.zeros((160, 320, 3), np.uint8)
    image[80, 100, 0] = 255
    faces = net.faces(np.kron(image, np.ones((4, 4, 1), np.uint8)))  # 1280x640
    assert [type(value) for value in faces[0]] == [float] * 4
    assert faces == [pytest.approx((-12, 200, 120, 400), abs=1e-3), pytest.approx((60, 80, 160, 180), abs=1e-3)]


def test_the_network_sees_red_first(weights):
    """insightface is given RGB by the original and swaps it, so that its network sees BGR; ours sees RGB."""
    net = Scrfd(weights((16, 500, 0.8, (30, 40, 80, 90))), device=CPU)
    for channel, count in ((0, 1), (2, 0)):
        image = np.zeros((640, 640, 3), np.uint8)
        image[..., channel] = 255
        assert len(net.faces(image)) == count


def test_another_networks_file_is_told(weights, tmp_path):
    with pytest.raises(CheckpointError, match=r"scrfd_10g_bnkps\.onnx: takes .* gives 3 tensors"):
        Scrfd(weights(outputs=3), device=CPU)
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x07broken")
    with pytest.raises(CheckpointError, match=r"broken\.onnx: not an ONNX network"):
        Scrfd(Weights("original", (path,)), device=CPU)


def test_outputs_in_another_order_are_told(weights, monkeypatch):
    net = Scrfd(weights((16, 500, 0.8, (30, 40, 80, 90))), device=CPU)
    run = net._session.run

    class Backwards:
        def get_inputs(self):
            return inputs

        def run(self, names, feed):
            return run(names, feed)[::-1]

    inputs = net._session.get_inputs()
    monkeypatch.setattr(net, "_session", Backwards())
    with pytest.raises(CheckpointError, match="for stride 8, 12800 anchors expected"):
        net.faces(np.full((64, 64, 3), 255, np.uint8))
