"""MediaPipe's one-shot detectors: anchors, decoding, weighted merging, and the turned squares that networks look at.

Facts of the networks (grids, thresholds, scales) are those of MediaPipe's published graphs (Apache-2.0,
mediapipe/modules/*_detection); the method is that of BlazeFace (Bazarevsky et al., arXiv:1907.05047).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from vace.annotators import mediapipe

OVERLAP = 0.3  # intersection over union from which two detections are one


@dataclass(frozen=True)
class Detector:
    """One detection network of `mediapipe.FILES`.

    size: side of its square input. grids: (cells a side, anchors a cell), finest first. low: the input's value for
    black, white being 1. points: key points beside each box. score: from which a detection counts.
    """

    model: str
    size: int
    grids: tuple[tuple[int, int], ...]
    low: float
    points: int
    score: float


BODIES = Detector("pose_detection", 224, ((28, 2), (14, 2), (7, 6)), -1.0, 4, 0.5)
PALMS = Detector("palm_detection_full", 192, ((24, 2), (12, 6)), 0.0, 7, 0.5)
NEAR_FACES = Detector("face_detection_short_range", 128, ((16, 2), (8, 6)), -1.0, 6, 0.5)
FAR_FACES = Detector("face_detection_full_range_sparse", 192, ((48, 1),), -1.0, 6, 0.6)


@dataclass(frozen=True)
class Found:
    """One detection. box: (x1, y1, x2, y2); points: float32 [k,2], x and y; both in pixels of the picture."""

    score: float
    box: tuple[float, float, float, float]
    points: np.ndarray


@dataclass(frozen=True)
class Roi:
    """A square of the picture: its centre and side in pixels, turned by `angle` (radians, clockwise as seen)."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def matrix(self, size: int) -> np.ndarray:
        """The affine map, float64 [2,3], from pixels of a cut-out of `size` x `size` to pixels of the picture."""
        scale = self.side / size
        turn = scale * np.array([[math.cos(self.angle), -math.sin(self.angle)],
                                 [math.sin(self.angle), math.cos(self.angle)]])  # fmt: skip
        # Pixel centres: the cut-out's pixel (i, j) lies at (i + .5, j + .5), so does the picture's.
        shift = np.array([self.x, self.y]) - 0.5 - turn @ np.full(2, size / 2 - 0.5)
        return np.column_stack([turn, shift])

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Points [...,2] from 0..1 across the square to pixels of the picture, float32."""
        turn = self.side * np.array([[math.cos(self.angle), -math.sin(self.angle)],
                                     [math.sin(self.angle), math.cos(self.angle)]])  # fmt: skip
        return ((points - 0.5) @ turn.T + (self.x, self.y)).astype(np.float32)


def cut(image: np.ndarray, roi: Roi, size: int, low: float = 0.0) -> np.ndarray:
    """What lies under `roi`, black where it leaves the picture: float32 [1,size,size,3] in low..1 of RGB uint8."""
    import cv2

    height, width = image.shape[:2]
    matrix = roi.matrix(size)
    corners = matrix @ np.array([[0, size, 0, size], [0, 0, size, size], [1, 1, 1, 1]], np.float64)
    left, top = np.maximum(np.floor(corners.min(axis=1)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(corners.max(axis=1)).astype(int) + 2, (width, height))
    if right <= left or bottom <= top:
        return np.full((1, size, size, 3), low, np.float32)
    piece = image[top:bottom, left:right]
    times = int(math.log2(max(1.0, roi.side / size)))
    if times:  # halved by area first: picking single pixels out of many makes noise of fine texture
        small = max(1, piece.shape[1] >> times), max(1, piece.shape[0] >> times)
        piece = cv2.resize(piece, small, interpolation=cv2.INTER_AREA)
    scale = np.array([piece.shape[1] / (right - left), piece.shape[0] / (bottom - top)])
    matrix[:, 2] += 0.5 - np.array([left, top])
    matrix *= scale[:, None]
    matrix[:, 2] -= 0.5
    square = cv2.warpAffine(piece, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return (square.astype(np.float32) * ((1 - low) / 255) + low)[None]


def turned(start: np.ndarray, end: np.ndarray, upright: float) -> float:
    """The angle of a Roi in which the line from `start` to `end` (x, y) points to `upright` degrees (90 = up)."""
    angle = math.radians(upright) - math.atan2(-(end[1] - start[1]), end[0] - start[0])
    return angle - 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))


@functools.lru_cache
def anchors(grids: tuple[tuple[int, int], ...]) -> np.ndarray:
    """The centres of all anchors, float32 [n,2], x and y in 0..1: row by row, each cell's one after another."""
    parts = []
    for cells, per_cell in grids:
        centre = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(centre, centre, indexing="ij")
        parts.append(np.stack([x, y], axis=-1).reshape(-1, 2).repeat(per_cell, axis=0))
    return np.concatenate(parts)


def decode(raw: np.ndarray, logits: np.ndarray, net: Detector) -> tuple[np.ndarray, np.ndarray]:
    """What a network says, as scores [m], best first, and coordinates [m,2+k,2] in 0..1 of its input.

    raw: [n,4+2k] centre, size and points relative to the anchors, in pixels of the input; logits: [n]. The coordinates
    are the box's upper left and lower right corner, then the points. Only scores of at least net.score are kept.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -100, 100)))
    kept = np.flatnonzero(scores >= net.score)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    values = raw[kept].reshape(len(kept), 2 + net.points, 2) / net.size
    centres = anchors(net.grids)[kept][:, None]
    middle, half = values[:, :1] + centres, values[:, 1:2] / 2
    points = values[:, 2 : 2 + net.points] + centres
    return scores[kept], np.concatenate([middle - half, middle + half, points], axis=1)


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union, [m], of one box [4] (x1, y1, x2, y2) with others [m,4]."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shared / np.maximum(area - shared, 1e-12)


def merge(scores: np.ndarray, coordinates: np.ndarray, overlap: float = OVERLAP) -> tuple[np.ndarray, np.ndarray]:
    """Detections [m], [m,2+k,2] (best first) with those of one thing averaged, weighed by their scores.

    The average keeps a box calm from frame to frame where picking the best one jumps; its score is the best one's.
    """
    best, merged = [], []
    while len(scores):
        boxes = coordinates[:, :2].reshape(-1, 4)
        same = overlaps(boxes[0], boxes) > overlap
        same[0] = True
        best.append(scores[0])
        merged.append(np.average(coordinates[same], axis=0, weights=scores[same]))
        scores, coordinates = scores[~same], coordinates[~same]
    return np.array(best), np.array(merged).reshape(len(best), *coordinates.shape[1:])


def detect(image: np.ndarray, net: Detector, rois: Iterable[Roi] | None = None) -> list[Found]:
    """What `net` finds in the squares `rois` (upright; None: one around the whole picture), best first.

    image: RGB uint8 [H,W,3]. What several squares show is merged into one.
    """
    run, scores, coordinates = mediapipe.model(net.model), [], []
    for roi in [whole(image)] if rois is None else rois:
        raw, logits = run(cut(image, roi, net.size, net.low))
        found, where = merge(*decode(raw[0], logits[0, :, 0], net))
        scores.append(found)
        coordinates.append(roi.to_picture(where))
    if not scores:
        return []
    every = np.concatenate(scores)
    order = np.argsort(-every, kind="stable")
    best, merged = merge(every[order], np.concatenate(coordinates)[order])
    return [Found(float(score), tuple(float(v) for v in item[:2].ravel()), item[2:].astype(np.float32))
            for score, item in zip(best, merged, strict=True)]  # fmt: skip


def whole(image: np.ndarray) -> Roi:
    """The smallest square around the whole picture."""
    height, width = image.shape[:2]
    return Roi(width / 2, height / 2, max(width, height))


def tiles(image: np.ndarray, side: float, step: float = 0.5) -> Iterator[Roi]:
    """Squares of `side` pixels that cover the picture evenly, neighbours at most `step` sides apart."""
    height, width = image.shape[:2]
    for y in _centres(height, side, step):
        for x in _centres(width, side, step):
            yield Roi(x, y, side)


def _centres(length: int, side: float, step: float) -> np.ndarray:
    if length <= side:
        return np.array([length / 2])
    count = 1 + math.ceil((length - side) / (side * step))
    return np.linspace(side / 2, length - side / 2, count)
