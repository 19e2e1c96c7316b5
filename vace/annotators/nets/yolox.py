"""YOLOX before and behind its network: a picture in, boxes of people out. Pure functions on arrays.

The network is trained on BGR in 0..255, in the upper left of a gray square (Ge et al., arXiv:2107.08430); thresholds
are those of DWPose (annotators/dwpose/onnxdet.py of the original).
"""

from __future__ import annotations

import functools

import numpy as np

SIZE = 640
STRIDES = (8, 16, 32)
CELLS = sum((SIZE // stride) ** 2 for stride in STRIDES)
GRAY = 114
PERSON = 0  # its class
SURE, OVERLAP = 0.3, 0.45


def net_input(image: np.ndarray) -> tuple[np.ndarray, float]:
    """BGR uint8 [H,W,3] -> float32 [1,3,640,640] in 0..255, and the scale it was brought to."""
    import cv2

    height, width = image.shape[:2]
    scale = min(SIZE / height, SIZE / width)
    inner = max(1, int(width * scale)), max(1, int(height * scale))
    square = np.full((SIZE, SIZE, 3), GRAY, np.uint8)
    square[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(square.transpose(2, 0, 1), np.float32)[None], scale


@functools.lru_cache
def _cells() -> tuple[np.ndarray, np.ndarray]:
    """Of each of the CELLS cells: its column and row [n,2], and its stride [n,1]."""
    places, strides = [], []
    for stride in STRIDES:
        count = SIZE // stride
        rows, columns = np.mgrid[:count, :count]
        places.append(np.stack([columns, rows], axis=-1).reshape(-1, 2))
        strides.append(np.full((count * count, 1), stride))
    return np.concatenate(places), np.concatenate(strides)


def person_boxes(raw: np.ndarray, scale: float) -> np.ndarray:
    """What the network says of one picture -> boxes of people (x1, y1, x2, y2) in its pixels, [n,4], best first.

    raw: [8400,5+classes]: centre and log size in strides, sureness of a thing, and of each class. The original
    suppresses within each class and then drops other classes: only persons need be looked at.
    """
    places, strides = _cells()
    scores = raw[:, 4] * raw[:, 5 + PERSON]
    sure = np.flatnonzero(scores > SURE)
    centre = (raw[sure, :2] + places[sure]) * strides[sure]
    half = np.exp(raw[sure, 2:4]) * strides[sure] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1) / scale
    return boxes[suppress(boxes, scores[sure], OVERLAP)]


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Indices of the boxes [n,4] (last pixels inclusive) that no better one overlaps too much, best first.

    overlap: the intersection over union that is still borne.
    """
    order = np.argsort(scores)[::-1]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        low, high = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.clip(high - low + 1, 0, None), axis=1)
        kept.append(best)
        order = rest[shared / (areas[best] + areas[rest] - shared) <= overlap]
    return np.array(kept, int)
