"""RTMPose before and behind its network: a person's box in, 133 points out. Pure functions on arrays.

Points come as two rows of bins each, half a pixel wide (SimCC; Jiang et al., arXiv:2303.07399). The network got RGB
statistics on BGR pixels, and the original keeps that (annotators/dwpose/onnxpose.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vace.annotators.nets.poses import POINTS, People

WIDTH, HEIGHT = 288, 384  # of the network's input
ROOM = 1.25  # the crop against the person's box
COCO_POINTS = 133
BINS = 2  # for each pixel of the input
MEAN, DEVIATION = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
SHOULDERS, NECK_SURE = (5, 6), 0.3
# Which of the 133 points (COCO whole-body) the 18 of OpenPose's body are, the neck (None) made of the shoulders.
BODY_ORDER = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)


def crops(boxes: Sequence[Sequence[float]], width: int, height: int) -> np.ndarray:
    """Centre and size of the cut-out about each box, float64 [n,4] (x, y, w, h), in the network's aspect.

    boxes: (x1, y1, x2, y2); where there are none, the whole picture is one.
    """
    whole = np.array([[0, 0, width, height]], np.float64)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4) if len(boxes) else whole
    across, down = ((boxes[:, 2:] - boxes[:, :2]) * ROOM).T
    across, down = np.maximum(across, down * WIDTH / HEIGHT), np.maximum(down, across * HEIGHT / WIDTH)
    return np.column_stack([(boxes[:, :2] + boxes[:, 2:]) / 2, across, down])


def net_inputs(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """BGR uint8 [H,W,3] and the cut-outs `crops` found -> float32 [n,3,384,288]."""
    import cv2

    out = np.empty((len(places), 3, HEIGHT, WIDTH), np.float32)
    for target, (x, y, across, _) in zip(out, places, strict=True):
        # Three points through float32, as the original makes its matrix: its pixels depend on that.
        source = np.float32([[x, y], [x, y - across / 2], [x - across / 2, y - across / 2]])
        goal = np.float32([[WIDTH / 2, HEIGHT / 2], [WIDTH / 2, (HEIGHT - WIDTH) / 2], [0, (HEIGHT - WIDTH) / 2]])
        matrix = cv2.getAffineTransform(source, goal)
        cutout = cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        target[:] = ((cutout - MEAN) / DEVIATION).transpose(2, 0, 1)
    return out


def points_of(simcc_x: np.ndarray, simcc_y: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the network says, [n,k,576] and [n,k,768] -> points float64 [n,k,2] in pixels of the picture, scores [n,k].

    A score is the lesser of the two bins' heights; where it is not above 0, the point is before the first bin.
    """
    scores = np.minimum(simcc_x.max(axis=2), simcc_y.max(axis=2))
    found = np.stack([simcc_x.argmax(axis=2), simcc_y.argmax(axis=2)], axis=-1).astype(np.float64)
    found[scores <= 0] = -1
    size, centre = places[:, None, 2:], places[:, None, :2]
    return found / BINS / (WIDTH, HEIGHT) * size + centre - size / 2, scores


def with_neck(points: np.ndarray, scores: np.ndarray) -> People:
    """133 points [n,133,2] and scores [n,133] in COCO's order -> People: OpenPose's body first, the neck added.

    The neck is between the shoulders; its score is 1 where both are seen, else 0.
    """
    out = np.empty((len(points), POINTS, 2), points.dtype), np.empty((len(points), POINTS), scores.dtype)
    neck = points[:, SHOULDERS].mean(axis=1), np.all(scores[:, SHOULDERS] > NECK_SURE, axis=1)
    for target, values, between in zip(out, (points, scores), neck, strict=True):
        for index, source in enumerate(BODY_ORDER):
            target[:, index] = between if source is None else values[:, source]
        target[:, len(BODY_ORDER) :] = values[:, len(BODY_ORDER) - 1 :]
    return People(*out)
