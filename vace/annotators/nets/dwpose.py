"""DWPose: whole bodies by two networks, YOLOX for boxes and RTMPose for points, in ONNX files run by onnxruntime."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vace.annotators.batching import fitting_batch, in_batches
from vace.annotators.draw_pose import SIDE
from vace.annotators.nets import rtmpose, yolox
from vace.annotators.nets.poses import Memory, People
from vace.annotators.networks import Weights
from vace.errors import CheckpointError, MissingDependency

log = logging.getLogger("vace")

BYTES_PER_PIXEL = 4000  # of working memory for one crop of the larger network
LOST_CUDA = "onnxruntime has no CUDA here, %s runs on the CPU; for the GPU: pip install onnxruntime-gpu"


def open_session(path: Path, device, input_shape: Sequence[int | None], outputs: int):
    """An onnxruntime session for the file at `path`, on CUDA where `device` is and onnxruntime can, else on the CPU.

    device: a torch.device. input_shape: what its one input must be, None where any length will do; outputs: how many at
    least. Raises MissingDependency without onnxruntime, CheckpointError for a file that is damaged or another network.
    """
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as faults
    except ImportError as error:
        raise MissingDependency(f"{path.name} needs onnxruntime: pip install onnxruntime") from error
    providers: list = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
        else:
            log.warning(LOST_CUDA, path.name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # what is wrong comes as an exception; its warnings are about its own rewriting
    kinds = tuple(value for value in vars(faults).values() if isinstance(value, type) and issubclass(value, Exception))
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except kinds as error:
        raise CheckpointError(f"{path}: not an ONNX network that loads ({_first_line(error)}); get it again") from error
    _check(path, session, input_shape, outputs)
    return session


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _check(path: Path, session, input_shape: Sequence[int | None], outputs: int) -> None:
    found = [list(item.shape) for item in session.get_inputs()]
    fits = len(found) == 1 and len(found[0]) == len(input_shape) and len(session.get_outputs()) >= outputs
    pairs = zip(found[0] if found else [], input_shape, strict=False)
    if not fits or any(isinstance(got, int) and want is not None and got != want for got, want in pairs):
        raise CheckpointError(
            f"{path}: takes {found} and gives {len(session.get_outputs())} tensors, where the network expected takes "
            f"{list(input_shape)} and gives {outputs}; this is another network's file"
        )


class DwPose:
    """Bodies, faces and hands by DWPose (Yang et al., arXiv:2307.15880).

    weights: the files yolox_l.onnx and dw-ll_ucoco_384.onnx. device: a torch.device. batch_size: crops at a time where
    the file allows it, None for as many as fit. Where nobody is found the whole frame is taken for one person, as in
    the original: points of low score come of it that are not drawn. short_side: what frames are best brought to.
    """

    short_side: int | None = SIDE

    def __init__(self, weights: Weights, *, device, batch_size: int | None = None) -> None:
        detector, pose = weights.files
        self._detector = open_session(detector, device, (None, 3, yolox.SIZE, yolox.SIZE), 1)
        self._pose = open_session(pose, device, (None, 3, rtmpose.HEIGHT, rtmpose.WIDTH), 2)
        self._files = detector, pose
        is_open = not isinstance(self._pose.get_inputs()[0].shape[0], int)
        pixels = rtmpose.WIDTH * rtmpose.HEIGHT
        self._batch = fitting_batch(pixels, BYTES_PER_PIXEL, device, batch_size) if is_open else 1

    def poses(self, frames: np.ndarray, memory: Memory | None = None, *, hands: bool = True) -> list[People]:
        """The people in each of `frames` (RGB uint8 [t,H,W,3]).

        memory and hands are for networks that follow people or have parts to leave out: this one does neither.
        """
        places, inputs = [], []
        for frame in frames:
            frame = np.ascontiguousarray(frame[..., ::-1])
            places.append(rtmpose.crops(self._boxes(frame), frame.shape[1], frame.shape[0]))
            inputs.append(rtmpose.net_inputs(frame, places[-1]))
        points, scores = rtmpose.points_of(*self._bins(np.concatenate(inputs)), np.concatenate(places))
        ends = np.cumsum([len(some) for some in places])[:-1]
        split = zip(np.split(points, ends), np.split(scores, ends), strict=True)
        return [rtmpose.with_neck(*people) for people in split]

    def _boxes(self, frame: np.ndarray) -> np.ndarray:
        tensor, scale = yolox.net_input(frame)
        raw = self._detector.run(None, {self._detector.get_inputs()[0].name: tensor})[0]
        if raw.ndim != 3 or raw.shape[1] != yolox.CELLS or raw.shape[2] < 6:
            raise CheckpointError(f"{self._files[0]}: gives {raw.shape}, (1, {yolox.CELLS}, 85) expected")
        return yolox.person_boxes(raw[0], scale)

    def _bins(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        name, across = self._pose.get_inputs()[0].name, rtmpose.WIDTH * rtmpose.BINS

        def run(some: np.ndarray) -> np.ndarray:
            return np.concatenate(self._pose.run(None, {name: some})[:2], axis=2)

        bins = in_batches(run, self._batch, inputs)
        expected = len(inputs), rtmpose.COCO_POINTS, across + rtmpose.HEIGHT * rtmpose.BINS
        if bins.shape != expected:
            raise CheckpointError(f"{self._files[1]}: gives {bins.shape} values, {expected} expected")
        return bins[..., :across], bins[..., across:]
