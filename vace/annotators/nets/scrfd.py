"""SCRFD: faces by insightface's detector (Guo et al., arXiv:2105.04714), an ONNX file run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vace.annotators.boxes import Box
from vace.annotators.nets.dwpose import open_session
from vace.annotators.nets.yolox import suppress
from vace.annotators.networks import Weights
from vace.errors import CheckpointError

SIZE = 640
STRIDES, PER_CELL = (8, 16, 32), 2
SURE, OVERLAP = 0.5, 0.4


def net_input(image: np.ndarray) -> tuple[np.ndarray, float]:
    """RGB uint8 [H,W,3] -> float32 [1,3,640,640], (v - 127.5) / 128, upper left on black; and the scale in y.

    The network is trained on RGB. insightface swaps the channels it is given, and the original gives it RGB, so that
    its network sees BGR: we give what it was trained on.
    """
    import cv2

    height, width = image.shape[:2]
    inner = (int(SIZE * width / height), SIZE) if height > width else (SIZE, int(SIZE * height / width))
    inner = max(1, inner[0]), max(1, inner[1])
    square = np.zeros((SIZE, SIZE, 3), np.uint8)
    square[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    tensor = (square.astype(np.float32) - 127.5) / 128
    return np.ascontiguousarray(tensor.transpose(2, 0, 1))[None], inner[1] / height


def face_boxes(outputs: Sequence[np.ndarray], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """What the network says of one picture -> boxes (x1, y1, x2, y2) in its pixels [n,4] and scores [n], best first.

    outputs: for strides 8, 16, 32 the scores [cells * 2, 1], then for each the distances from the anchor to the box's
    left, top, right and bottom, in strides [cells * 2, 4]; each may have a batch axis before.
    """
    scores, boxes = [], []
    for stride, sureness, distances in zip(STRIDES, outputs[:3], outputs[3:6], strict=True):
        sureness = sureness.ravel()
        sure = np.flatnonzero(sureness >= SURE)
        cells = SIZE // stride
        anchor = np.stack([sure // PER_CELL % cells, sure // PER_CELL // cells], axis=-1) * stride
        reach = distances.reshape(-1, 4)[sure] * stride
        boxes.append(np.concatenate([anchor - reach[:, :2], anchor + reach[:, 2:]], axis=1) / scale)
        scores.append(sureness[sure])
    boxes, scores = np.concatenate(boxes), np.concatenate(scores)
    kept = suppress(boxes, scores, OVERLAP)
    return boxes[kept], scores[kept]


class Scrfd:
    """Faces by the detector of insightface's antelopev2.

    weights: the file scrfd_10g_bnkps.onnx. device: a torch.device. batch_size: of no use, pictures come one by one.
    """

    def __init__(self, weights: Weights, *, device, batch_size: int | None = None) -> None:
        self._file = weights.files[0]
        self._session = open_session(self._file, device, (None, 3, None, None), 6)

    def faces(self, image: np.ndarray) -> list[Box]:
        """The faces in `image` (RGB uint8 [H,W,3]), best first; a box may reach out of the picture."""
        tensor, scale = net_input(image)
        outputs = self._session.run(None, {self._session.get_inputs()[0].name: tensor})
        for stride, sureness, distances in zip(STRIDES, outputs[:3], outputs[3:6], strict=True):
            count = PER_CELL * (SIZE // stride) ** 2
            if sureness.size != count or distances.size != 4 * count:
                raise CheckpointError(
                    f"{self._file}: gives {sureness.shape} and {distances.shape} for stride {stride}, {count} anchors "
                    "expected; this is another network's file"
                )
        boxes, _ = face_boxes(outputs, scale)
        return [tuple(float(value) for value in box) for box in boxes]
