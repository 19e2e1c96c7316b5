"""DWPose end to end through onnxruntime, on networks written here: they find what is bright."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from onnx_io import node, onnx_model

from vace.annotators.nets import rtmpose, yolox
from vace.annotators.nets.dwpose import DwPose
from vace.annotators.nets.poses import FACE, RIGHT_HAND
from vace.annotators.networks import Weights
from vace.errors import CheckpointError, MissingDependency

CPU = torch.device("cpu")


def detector_model(boxes=((96, 160, 320, 480),), cells: int = yolox.CELLS) -> bytes:
    """Says that `boxes`, in pixels of its input, hold persons, as surely as its brightest input value / 255."""
    raw = np.zeros((1, cells, 85), np.float32)
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        # Cell `number` of stride 8 lies at (number, 0).
        raw[0, number, :4] = (x1 + x2) / 16 - number, (y1 + y2) / 16, *np.log([(x2 - x1) / 8, (y2 - y1) / 8])
        raw[0, number, 4:6] = 0.6, 1  # with nothing brighter than the gray border: 0.27 in all
    mask = np.zeros((1, 1, 85), np.float32)
    mask[..., 4] = 1 / 255
    nodes = [
        node("ReduceMax", "images", "brightest", axes=[1, 2, 3], keepdims=0),
        node("Mul", "brightest mask", "sureness"),
        node("Add", "sureness others", "factors"),
        node("Mul", "table factors", "output"),
    ]
    constants = {"table": raw, "mask": mask, "others": (mask == 0).astype(np.float32)}
    return onnx_model({"images": (1, 3, 640, 640)}, {"output": (1, cells, 85)}, nodes, constants)


def pose_model(batch="N", points: int = rtmpose.COCO_POINTS) -> bytes:
    """Puts every point where the brightest column meets the brightest row, shining by their height's share."""
    width, height = rtmpose.WIDTH, rtmpose.HEIGHT
    double = {f"double_{n}": np.kron(np.eye(n), [[1, 0]]) for n in (width, height)}
    nodes = [
        node("ReduceMax", "input", "columns", axes=[1, 2], keepdims=0),
        node("ReduceMax", "input", "rows", axes=[1, 3], keepdims=0),
    ]
    for name, n in (("columns", width), ("rows", height)):
        nodes += [
            node("MatMul", f"{name} double_{n}", f"{name}_bins"),
            node("Unsqueeze", f"{name}_bins", f"{name}_row", axes=[1]),
            node("Mul", f"{name}_row ones", f"simcc_{name}"),
        ]
    constants = {**double, "ones": np.full((1, points, 1), 0.3)}
    outputs = {"simcc_columns": (batch, points, 2 * width), "simcc_rows": (batch, points, 2 * height)}
    return onnx_model({"input": (batch, 3, height, width)}, outputs, nodes, constants)


@pytest.fixture
def weights(tmp_path):
    """Weights of the given two files: weights(detector bytes, pose bytes)."""

    def make(detector: bytes | None = None, pose: bytes | None = None) -> Weights:
        paths = tmp_path / "yolox_l.onnx", tmp_path / "dw-ll_ucoco_384.onnx"
        for path, data in zip(paths, (detector or detector_model(), pose or pose_model()), strict=True):
            path.write_bytes(data)
        return Weights("original", paths)

    return make


def dots(*places: tuple[int, int], size=(480, 640)) -> np.ndarray:
    """Frames, uint8 [t,H,W,3], each with a white dot around one place (x, y)."""
    frames = np.zeros((len(places), *size, 3), np.uint8)
    for frame, (x, y) in zip(frames, places, strict=True):
        frame[y - 2 : y + 3, x - 2 : x + 3] = 255
    return frames


def test_points_lie_where_the_network_sees_them(weights):
    net = DwPose(weights(), device=CPU)
    places = [(150, 250), (200, 300), (260, 380)]
    found = net.poses(dots(*places))
    assert len(found) == 3
    for people, place in zip(found, places, strict=True):
        assert people.points.shape == (1, 134, 2) and people.scores.shape == (1, 134)
        assert np.abs(people.points[0] - place).max() < 3
        assert (people.scores[0] > 0.3).all()


def test_every_person_found_gets_points_of_its_own_crop(weights):
    boxes = [(40, 40, 200, 300), (400, 100, 560, 400)]
    frame = dots((120, 170))
    frame[0, 248:253, 478:483] = 255
    (people,) = DwPose(weights(detector_model(boxes)), device=CPU).poses(frame)
    assert people.points.shape[0] == 2
    middles = sorted(people.points[:, 0].tolist())
    assert middles[0] == pytest.approx([120, 170], abs=3) and middles[1] == pytest.approx([480, 250], abs=3)


def test_where_nobody_is_found_the_whole_frame_is_one(weights):
    (people,) = DwPose(weights(detector_model(boxes=())), device=CPU).poses(dots((600, 30)))
    assert people.points.shape[0] == 1
    assert people.points[0, RIGHT_HAND.start] == pytest.approx([600, 30], abs=4)


def test_who_is_not_sure_does_not_count(weights):
    """The box is half the frame. In a dark frame it does not count: the crop is the whole frame, and shows no dot."""
    net = DwPose(weights(detector_model([(0, 0, 320, 640)])), device=CPU)
    dark = net.poses(dots((200, 300)) // 255)[0].points[0]
    bright = net.poses(dots((200, 300)))[0].points[0]
    assert np.abs(bright - (200, 300)).max() < 3 and np.abs(dark - (200, 300)).min() > 30


def test_the_networks_see_bgr(weights):
    """The detector is unsure of what is bright in no channel, whichever it is; the pose network weighs blue as red."""
    net = DwPose(weights(), device=CPU)
    frame = dots((200, 300))
    frame[..., :2] = 0  # blue
    seen = []
    run = net._pose.run

    class Spy:
        def get_inputs(self):
            return net_inputs

        def run(self, names, feed):
            seen.append(next(iter(feed.values())))
            return run(names, feed)

    net_inputs = net._pose.get_inputs()
    net._pose = Spy()
    net.poses(frame)
    brightest = seen[0].max(axis=(0, 2, 3))
    assert brightest == pytest.approx([(255 - 123.675) / 58.395, -116.28 / 57.12, -103.53 / 57.375], abs=1e-4)


@pytest.mark.parametrize("batch", ["N", 1])
def test_batches_change_nothing(weights, batch):
    boxes = [(40, 40, 200, 300), (400, 100, 560, 400), (200, 200, 360, 500)]
    frames = dots((120, 170), (480, 250), (300, 300))
    found = [
        DwPose(weights(detector_model(boxes), pose_model(batch)), device=CPU, batch_size=size).poses(frames)
        for size in (1, 2, 16)
    ]
    for some in found[1:]:
        for one, other in zip(found[0], some, strict=True):
            assert np.array_equal(one.points, other.points) and np.array_equal(one.scores, other.scores)
    assert found[0][0].points[:, FACE].shape == (3, 68, 2)


@pytest.mark.parametrize("data", [b"", b"no network", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_damaged_file_is_named(weights, data):
    broken = weights()
    broken.files[0].write_bytes(data)
    with pytest.raises(CheckpointError, match=r"yolox_l\.onnx: not an ONNX network.*get it again"):
        DwPose(broken, device=CPU)


def test_a_truncated_file_is_named(weights):
    whole = pose_model()
    with pytest.raises(CheckpointError, match=r"dw-ll_ucoco_384\.onnx"):
        DwPose(weights(pose=whole[: len(whole) // 2]), device=CPU)


def test_exchanged_files_are_told(weights):
    with pytest.raises(CheckpointError, match=r"yolox_l\.onnx: takes .*384.*another network's file"):
        DwPose(weights(pose_model(), detector_model()), device=CPU)


def test_outputs_of_another_network_are_told(weights):
    with pytest.raises(CheckpointError, match=r"yolox_l\.onnx: gives \(1, 100, 85\)"):
        DwPose(weights(detector_model(cells=100)), device=CPU).poses(dots((300, 300)))
    with pytest.raises(CheckpointError, match=r"dw-ll_ucoco_384\.onnx: gives \(1, 17, 1344\)"):
        DwPose(weights(pose=pose_model(points=17)), device=CPU).poses(dots((300, 300)))


def test_without_onnxruntime_the_command_is_told(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match="pip install onnxruntime"):
        DwPose(weights(), device=CPU)


def test_without_cuda_in_onnxruntime_the_cpu_serves_and_says_so(weights, monkeypatch, caplog):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("vace.annotators.nets.dwpose.fitting_batch", lambda *given: 4)
    net = DwPose(weights(), device=torch.device("cuda"))
    assert np.abs(net.poses(dots((200, 300)))[0].points[0] - (200, 300)).max() < 3
    assert "yolox_l.onnx runs on the CPU" in caplog.text and "onnxruntime-gpu" in caplog.text


def test_cuda_is_asked_for_where_it_is(weights, monkeypatch):
    import onnxruntime

    asked = []

    def session(path, options, providers):
        asked.append(providers)
        raise onnxruntime.capi.onnxruntime_pybind11_state.Fail("far enough")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(CheckpointError, match="far enough"):
        DwPose(weights(), device=torch.device("cuda", 1))
    assert asked == [[("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]]
