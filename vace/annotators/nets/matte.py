"""The people of a picture as mattes, by MediaPipe's networks.

BlazePose finds bodies, with a rough matte each; the selfie segmenter draws finer ones around anything that stands out,
a cup as well as a person; the face networks tell people from what merely stands like one. Each is believed only where
another agrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vace.annotators import mediapipe
from vace.annotators.nets import grabcut

if TYPE_CHECKING:
    from vace.annotators.nets.blaze import Roi
    from vace.annotators.nets.mediapipe_face import Face
    from vace.annotators.nets.mediapipe_pose import Person

SQUARE, WIDE = "selfie_segmentation", "selfie_segmentation_landscape"  # 256 x 256, and 256 wide by 144 high
LEAST, LONGEST = 16, 8  # pixels of the short side that can show a person; times it, that are searched part by part
FACE_SCORE = 0.9  # of the face mesh, from which it lies on a human face
STEADY = 0.87  # from which a body without a face is taken for a person's: people measure 0.89, cartoon rabbits 0.85
TURN, STEP_BACK = 0.26, 1.25  # radians by which, and times as far from which, such a body is looked at again
WIDE_FROM = 1.5  # width by height from which the wide segmenter has a say on people
ROOM = 0.25  # of a person's size, seen around it
AGREEMENT = 0.5  # intersection over union from which the finer matte is of the same person
FINE = 0.6  # its weight then
DOUBT = (0.2, 0.55)  # of the weighed mean: what becomes black and white; thin limbs are faint in the finer matte
# MediaPipe's 33 points with left and right exchanged: nose, eyes, ears, mouth, then pairs down to the feet.
MIRRORED = (0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *(index for left in range(11, 33, 2) for index in (left + 1, left)))
HEADS = (2.5, 1.2, 7.0)  # of a face's height: room at each side, above and below in which its owner is looked for


@dataclass(frozen=True)
class PersonMatte:
    """One person: mask uint8 [H,W], 0..255; box (x1, y1, x2, y2) around it in pixels; score 0..1, that it is one."""

    mask: np.ndarray
    box: tuple[int, int, int, int]
    score: float


def person_matte(image: np.ndarray) -> np.ndarray:
    """Every person in `image` (RGB uint8 [H,W,3]) as one matte: uint8 [H,W], 0..255; all 0 where nobody is found."""
    found = find_person(image)
    return found[0] if found else np.zeros(image.shape[:2], np.uint8)


def find_person(image: np.ndarray) -> tuple[np.ndarray, float] | None:
    """The matte of all people (uint8 [H,W], 0..255) and how sure it is that there is one (0..1); None for nobody."""
    people = find_persons(image)
    if not people:
        return None
    return np.maximum.reduce([one.mask for one in people]), max(one.score for one in people)


def find_persons(image: np.ndarray, *, with_small: bool = True) -> list[PersonMatte]:
    """The people in `image` (RGB uint8 [H,W,3]), the most conspicuous first: sure, and large.

    with_small: also look part by part, for those who take little of the picture, which takes about twice as long.

    A body counts where a human face belongs to it, or where it stays the same body looked at in other ways: what only
    resembles a person changes then. A face without a body counts too.
    """
    from vace.annotators.nets.mediapipe_pose import find_people

    short, long = sorted(image.shape[:2])
    if short < LEAST:
        return []
    with_small = with_small and long <= LONGEST * short  # a strip has more parts than there is time for
    faces = _faces(image, with_small)
    people = []
    for body in find_people(image, search="parts" if with_small else "whole"):
        if body.mask is None or not (body.mask > 127).any():
            continue
        own = [index for index, face in enumerate(faces) if _covers(body.mask, face.box)]
        if own or _has_face(image, body) or _steadiness(image, body) >= STEADY:
            faces = [face for index, face in enumerate(faces) if index not in own]
            people.append(_with_edges(image, _finer(image, body.mask), body.score))
    for face in faces:
        mask = _owner(image, face.box)
        if mask is not None and not any(_covers(one.mask, face.box) for one in people):
            people.append(_with_edges(image, mask, face.score))
    found = [one for one in people if one is not None]
    return sorted(found, key=lambda one: -one.score * float((one.mask > 127).sum()) ** 0.5)


def foreground(image: np.ndarray, nets: Sequence[str] = (SQUARE, WIDE)) -> np.ndarray:
    """What stands out in `image` (RGB uint8 [H,W,3]) to the selfie segmenters, whatever it is: uint8 [H,W], 0..255.

    The mean of `nets`, each on the picture and its mirror image, the rest of their input filled by reflection: squeezed
    to their shape, wide pictures come out empty, and black bars are taken for things.
    """
    import cv2

    views = [np.ascontiguousarray(image), np.ascontiguousarray(image[:, ::-1])]
    maps = [_segmented(view, name)[:, ::step] for name in nets for view, step in zip(views, (1, -1), strict=True)]
    height, width = image.shape[:2]
    sized = [cv2.resize(np.ascontiguousarray(one), (width, height), interpolation=cv2.INTER_LINEAR) for one in maps]
    return np.rint(np.mean(sized, axis=0) * 255).astype(np.uint8)


def _segmented(image: np.ndarray, name: str) -> np.ndarray:
    """One segmenter's answer, float32 0..1, at the size that `image` has within its input."""
    import cv2

    run = mediapipe.model(name)
    _, height, width, _ = run.inputs[0]
    scale = min(height / image.shape[0], width / image.shape[1])
    rows, columns = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    flag = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, (columns, rows), interpolation=flag)
    top, left = (height - rows) // 2, (width - columns) // 2
    bars = (top, height - rows - top, left, width - columns - left)
    framed = cv2.copyMakeBorder(small, *bars, cv2.BORDER_REFLECT)
    (answer,) = run(framed[None].astype(np.float32) / 255)
    return np.clip(answer.reshape(height, width)[top : top + rows, left : left + columns], 0, 1)


def _covers(mask: np.ndarray, box: Sequence[float]) -> bool:
    """Whether most of `box` (x1, y1, x2, y2), as far as it lies in the picture, lies on `mask` (uint8 [H,W])."""
    x1, y1, x2, y2 = (max(0, int(value)) for value in box)
    part = mask[y1 : y2 + 1, x1 : x2 + 1]
    return bool(part.size) and float((part > 127).mean()) > 0.5


def _faces(image: np.ndarray, with_small: bool) -> list[Face]:
    """The human faces in `image`, by the mesh that lies on each."""
    from vace.annotators.nets.mediapipe_face import find_faces

    found = find_faces(image) if with_small else _meshes(image, None)
    return [face for face in found if face.score >= FACE_SCORE]


def _meshes(image: np.ndarray, squares: Sequence[Roi] | None) -> list[Face]:
    """What the two face detectors find in `squares` of `image`, None: in all of it, as far as a mesh lies on it."""
    from vace.annotators.nets.blaze import FAR_FACES, NEAR_FACES, detect
    from vace.annotators.nets.mediapipe_face import face_roi, mesh

    found = [mesh(image, face_roi(one)) for net in (NEAR_FACES, FAR_FACES) for one in detect(image, net, squares)]
    return [face for face in found if face is not None]


def _has_face(image: np.ndarray, body: Person) -> bool:
    """Whether the face networks see a human face where the body's head is, looking from near."""
    from vace.annotators.nets.blaze import Roi

    head = body.points33[:11]  # nose, eyes, ears, mouth
    side = 4 * max(1.0, float(np.linalg.norm(head - head.mean(axis=0), axis=1).max()))
    squares = [Roi(*head.mean(axis=0).tolist(), side * room) for room in (1.0, 1.8)]
    return any(face.score >= FACE_SCORE for face in _meshes(image, squares))


def _steadiness(image: np.ndarray, body: Person) -> float:
    """How much a body stays the same when it is mirrored, turned and seen from farther off: 1 is wholly.

    The mean overlap of its matte with the first one, less the mean distance of its points in sides of its square.
    """
    from vace.annotators.nets.mediapipe_pose import find_people

    height, width = image.shape[:2]
    roi, mirrored = body.roi, np.ascontiguousarray(image[:, ::-1])
    views = [(image, replace(roi, angle=roi.angle + turn)) for turn in (TURN, -TURN)]
    views += [
        (image, replace(roi, side=roi.side * STEP_BACK)),
        (mirrored, replace(roi, x=width - roi.x, angle=-roi.angle)),
    ]
    steady = []
    for view, square in views:
        again = next(iter(find_people(view, [replace(body, roi=square)], search="lost")), None)
        if again is None or again.follows != 0:
            return 0.0
        points, mask = again.points33, again.mask
        if view is mirrored:
            mask, points = mask[:, ::-1], points[list(MIRRORED)] * (-1, 1) + (width, 0)
        apart = np.linalg.norm(points - body.points33, axis=1).mean() / roi.side
        steady.append(_overlap(mask, body.mask) - float(apart))
    return float(np.mean(steady))


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one > 127, other > 127
    return float((one & other).sum()) / max(1, int((one | other).sum()))


def _finer(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A body's matte made finer by the segmenter's, looked at from near, where that is of the same person."""
    x1, y1, x2, y2 = _around(mask, ROOM)
    part, rough = image[y1:y2, x1:x2], mask[y1:y2, x1:x2]
    is_wide = part.shape[1] > WIDE_FROM * part.shape[0]
    fine = _belonging(foreground(part, (SQUARE, WIDE) if is_wide else (SQUARE,)), rough)
    if _overlap(fine, rough) < AGREEMENT:
        return mask
    mixed = mask.copy()
    mean = (FINE * fine.astype(np.float32) + (1 - FINE) * rough) / 255
    mixed[y1:y2, x1:x2] = np.clip((mean - DOUBT[0]) / (DOUBT[1] - DOUBT[0]), 0, 1) * 255
    return mixed


def _owner(image: np.ndarray, box: Sequence[float]) -> np.ndarray | None:
    """The matte of whom a face belongs to, uint8 [H,W]; None where the segmenter sees nobody there."""
    x1, y1, x2, y2 = box
    side, above, below = (room * (y2 - y1) for room in HEADS)
    height, width = image.shape[:2]
    left, right = max(0, int(x1 - side)), min(width, int(x2 + side) + 1)
    top, bottom = max(0, int(y1 - above)), min(height, int(y2 + below) + 1)
    face = np.zeros((height, width), np.uint8)
    face[max(0, int(y1)) : int(y2) + 1, max(0, int(x1)) : int(x2) + 1] = 255
    face, part = face[top:bottom, left:right], image[top:bottom, left:right]
    if not face.any():
        return None
    found = _belonging(foreground(part), face)
    if float((found[face > 0] > 127).mean()) < 0.5:
        return None
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = found
    return mask


def _belonging(matte: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Those parts of `matte` (uint8 [h,w]) that touch `seed` (uint8 [h,w], 255 on it), the others black."""
    import cv2

    _, parts = cv2.connectedComponents((matte > 64).view(np.uint8), connectivity=4)
    kept = np.unique(parts[(seed > 127) & (matte > 127)])
    return np.where(np.isin(parts, kept[kept > 0]), matte, np.uint8(0))


def _with_edges(image: np.ndarray, matte: np.ndarray, score: float) -> PersonMatte | None:
    """The person with its edge moved onto the picture's, looked at from near."""
    box = _around(matte, ROOM)
    if box is None:
        return None
    x1, y1, x2, y2 = box
    mask = np.zeros_like(matte)
    mask[y1:y2, x1:x2] = grabcut.guided(image[y1:y2, x1:x2], matte[y1:y2, x1:x2])
    tight = _around(mask, 0.0)
    return PersonMatte(mask, tight, score) if tight else None


def _around(mask: np.ndarray, room: float) -> tuple[int, int, int, int] | None:
    """The box (x1, y1, x2, y2) around `mask` (uint8 [H,W], above 127), larger by `room` of its longer side."""
    import cv2

    x, y, width, height = cv2.boundingRect((mask > 127).view(np.uint8))
    if not width:
        return None
    more = round(room * max(width, height))
    limits = mask.shape
    return max(0, x - more), max(0, y - more), min(limits[1], x + width + more), min(limits[0], y + height + more)
