"""Faces by MediaPipe's networks: boxes, and a mesh of 468 points that 68 are taken from.

Squares and gates are those of MediaPipe's published graphs (Apache-2.0, mediapipe/modules/face_landmark).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vace.annotators import mediapipe
from vace.annotators.boxes import Box
from vace.annotators.nets.blaze import FAR_FACES, NEAR_FACES, Found, Roi, cut, detect, overlaps, tiles, turned

SIZE = 192  # side of the mesh network's input
FLAG = 0.5  # from which the mesh lies on a face; the back of a head has 0.00
ROI_SCALE = 1.5  # the square about a face, against its box
MOST, OVERLAP = 16, 0.4
LEAST_TILE = 96  # pixels: smaller parts hold no face that a mesh could lie on
LEAST_HEAD, HEAD_ROOM, FAR = 4.0, 5.0, 1.5  # pixels of a head's reach; the square searched, and how far off, in reaches
RIGHT_EYE, LEFT_EYE = 33, 263  # outer corners in the mesh, of the person's own sides

# The mesh points nearest to the 68 of iBUG's scheme: jaw, brows, nose, eyes, lips, from the picture's left.
POINTS68 = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip


@dataclass(frozen=True)
class Face:
    """points: float32 [468,2], x and y in pixels. score: that it is one, 0..1. roi: where to look in the next frame."""

    points: np.ndarray
    score: float
    roi: Roi

    @property
    def box(self) -> Box:
        """(x1, y1, x2, y2) from the hairline to the chin, from ear to ear."""
        return (*(float(v) for v in self.points.min(axis=0)), *(float(v) for v in self.points.max(axis=0)))


def mesh(image: np.ndarray, roi: Roi) -> Face | None:
    """The face in `roi` of `image` (RGB uint8 [H,W,3]); None where the network sees none."""
    values, logit = mediapipe.model("face_landmark")(cut(image, roi, SIZE))
    score = 1 / (1 + float(np.exp(-np.clip(logit.ravel()[0], -100, 100))))
    if score < FLAG:
        return None
    points = roi.to_picture(values.reshape(468, 3)[:, :2] / SIZE)
    low, high = points.min(axis=0), points.max(axis=0)
    side = max(float((high - low).max()) * ROI_SCALE, 1.0)
    middle = (low + high) / 2
    return Face(points, score, Roi(*middle.tolist(), side, turned(points[RIGHT_EYE], points[LEFT_EYE], 0)))


def face_roi(found: Found) -> Roi:
    """The square about a detected face, turned so that its eyes lie level."""
    x1, y1, x2, y2 = found.box
    side = max(max(x2 - x1, y2 - y1) * ROI_SCALE, 1.0)
    return Roi((x1 + x2) / 2, (y1 + y2) / 2, side, turned(found.points[0], found.points[1], 0))


def find_face(image: np.ndarray, head: np.ndarray, before: Roi | None = None) -> Face | None:
    """The face of one head in `image` (RGB uint8 [H,W,3]); None where it is turned away or too small.

    head: points [n,2] of eyes, ears, nose and mouth in pixels. before: the square that the face of the frame before
    told of, which is tried first.
    """
    centre = head.mean(axis=0)
    reach = float(np.linalg.norm(head - centre, axis=1).max())
    if reach < LEAST_HEAD:
        return None
    face = None if before is None else mesh(image, before)
    if face is not None and _is_on(face, centre, reach):
        return face
    square = Roi(*centre.tolist(), HEAD_ROOM * reach)
    faces = (_settled(image, found) for found in detect(image, NEAR_FACES, [square]))
    return next((face for face in faces if face is not None and _is_on(face, centre, reach)), None)


def _settled(image: np.ndarray, found: Found) -> Face | None:
    """The mesh of a detected face, looked at again in its own square, which fits better than the detection's."""
    face = mesh(image, face_roi(found))
    return face and mesh(image, face.roi)


def _is_on(face: Face, centre: np.ndarray, reach: float) -> bool:
    return float(np.linalg.norm(face.points.mean(axis=0) - centre)) < FAR * reach


class MediapipeFace:
    """Faces by MediaPipe's two detectors, each checked and measured by the mesh that must lie on it."""

    def faces(self, image: np.ndarray) -> list[Box]:
        """The faces in `image` (RGB uint8 [H,W,3]), best first: from the hairline to the chin, as insightface's boxes.

        The picture as a whole is searched first, then in parts that overlap, then in parts of half that size. A box may
        reach out of the picture.
        """
        return [face.box for face in find_faces(image)]


def find_faces(image: np.ndarray) -> list[Face]:
    """The faces in `image` (RGB uint8 [H,W,3]), at most `MOST`, best first."""
    height, width = image.shape[:2]
    short = min(height, width)
    searches = [(NEAR_FACES, None), (FAR_FACES, None)]
    searches += [(FAR_FACES, list(tiles(image, side))) for side in (short, short / 2) if side >= LEAST_TILE]
    faces: list[tuple[float, Face]] = []
    for net, rois in searches:
        for found in detect(image, net, rois):
            face = _settled(image, found)
            if face is not None and not any(_is_same(face, other) for _, other in faces):
                faces.append((found.score * face.score, face))
    faces.sort(key=lambda pair: -pair[0])
    return [face for _, face in faces[:MOST]]


def _is_same(one: Face, other: Face) -> bool:
    return bool(overlaps(np.array(one.box), np.array([other.box]))[0] > OVERLAP)
