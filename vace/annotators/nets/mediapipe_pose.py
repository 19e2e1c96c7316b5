"""Bodies by MediaPipe's networks: where people are, 33 points of each, and a matte of each.

The way from a detection to a turned square, and from one frame's points to the next frame's square, is BlazePose's
(Bazarevsky et al., arXiv:2006.10204; the constants are those of MediaPipe's published graphs, Apache-2.0). Other than
there several people are followed, small ones looked for in parts of the picture, and new ones looked at repeatedly: on
a person the square comes to rest, on anything else it wanders off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from vace.annotators import mediapipe
from vace.annotators.nets.blaze import BODIES, Found, Roi, cut, detect, overlaps, tiles, turned, whole
from vace.annotators.nets.mediapipe_face import POINTS68, Face, find_face
from vace.annotators.nets.mediapipe_hands import Hand, find_hand
from vace.annotators.nets.poses import BODY, FACE, FEET, LEFT_HAND, NOBODY, POINTS, RIGHT_HAND, Memory, OneEuro, People

MOST = 8  # people in one picture
SIZE = 256  # side of the landmark network's input, and of its matte
PRESENCE, SURE = 0.5, 0.9  # from which somebody followed is still there, and somebody new is one
SEEN = 0.5  # visibility from which a point counts as seen
ROI_SCALE = 1.25  # the square about a person, against the circle through its outermost points
HEAT_SIDE, HEAT_SURE = 7, 0.5  # the window of a heat map that a point is refined in, and from which heat
LOOKS, CALM, WILD = 3, 0.02, 0.12  # looks at a new person; sides its points move between two: enough, and too much
SAME = 0.18  # of a person's side: the mean distance of points below which two finds are one person
PART_SCORE, PART_ROOM = 0.6, 1.6  # of a detection in a part: at least so sure, at most so many times the part's side
PROOF, PROOF_ROOMS = replace(BODIES, score=0.65), (1.0, 1.6)  # the detector's second opinion, in squares so much larger
LEAST_SHARE, AT_ONCE = 0.2, 0.05  # of a followed square's change that is taken; the change, in sides, taken wholly
FARTHER, NEARER = 1.5, 2.2  # the square searched for large people, against the picture; for small ones, against theirs
PARTS_FROM = 240  # pixels of the short side from which halves of it are searched


@dataclass(frozen=True)
class Person:
    """One person in a picture of H x W pixels.

    points33: float32 [33,2], x and y in pixels, MediaPipe's order. visibility: float32 [33], 0..1. score: of its
    presence, 0..1. box: (x1, y1, x2, y2) around what is seen of it, within the picture. mask: uint8 [H,W], 0..255, the
    matte of this person, None where not asked for. roi: the square to look for it in the next frame. follows: its
    place in the list of the frame before, None for a new one.
    """

    points33: np.ndarray
    visibility: np.ndarray
    score: float
    box: tuple[float, float, float, float]
    mask: np.ndarray | None
    roi: Roi
    follows: int | None = None


def find_people(
    image: np.ndarray,
    previous: Sequence[Person] | None = None,
    *,
    with_masks: bool = True,
    search: str = "auto",
) -> list[Person]:
    """The people in `image` (RGB uint8 [H,W,3]), at most `MOST`: those followed first, then the surest.

    previous: what was found in the frame before; they are followed, which is steadier and faster than finding them
    anew. None: a picture of its own, or the first after a cut. search: "lost" looks for people only when one of
    `previous` is lost, "whole" always, in the picture as a whole, "parts" also part by part, where small ones are;
    "auto" is "parts" without `previous`, else "whole".
    """
    people: list[Person] = []
    if search == "auto":
        search = "parts" if previous is None else "whole"
    previous = previous or []
    for index, one in enumerate(previous):
        _add(people, _look(image, one.roi, with_masks, index), previous)
    if search == "lost" and len(people) == len(previous):
        return people
    for find in (_near_ones, _large_ones, *([_small_ones] if search == "parts" else [])):
        if find is _large_ones and people:
            continue
        for roi in find(image):
            if len(people) < MOST and not any(_is_near(roi, one.roi) for one in people):
                _add(people, _settle(image, roi, with_masks), previous)
    return people


def _near_ones(image: np.ndarray) -> Iterator[Roi]:
    return (body_roi(found) for found in detect(image, BODIES))


def _large_ones(image: np.ndarray) -> Iterator[Roi]:
    """Who fills the picture or leaves it is found when it is seen from farther off."""
    square = whole(image)
    return (body_roi(found) for found in detect(image, BODIES, [replace(square, side=square.side * FARTHER)]))


def _small_ones(image: np.ndarray) -> Iterator[Roi]:
    """Who is small is found part by part, then seen from nearer for a better square."""
    for side in _part_sides(image):
        for found in detect(image, BODIES, tiles(image, side)):
            roi = body_roi(found)
            if found.score >= PART_SCORE and roi.side <= PART_ROOM * side:
                near = replace(roi, side=min(max(NEARER * roi.side, side / 2), side), angle=0.0)
                closer = detect(image, BODIES, [near])
                yield body_roi(closer[0]) if closer else roi


def _part_sides(image: np.ndarray) -> list[float]:
    """Sides of the parts to search: the picture's short side where it is longish, then half of it, if it has pixels."""
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    sides = [float(short)] if long > 1.2 * short else []
    return [*sides, short / 2] if short >= PARTS_FROM else sides


def _settle(image: np.ndarray, roi: Roi, with_masks: bool) -> Person | None:
    """The new person in `roi`, looked at again in the square it itself tells of, until that rests; None for nobody."""
    person = _look(image, roi, with_masks)
    for _ in range(LOOKS - 1):
        if person is None:
            return None
        again = _look(image, person.roi, with_masks)
        if again is None:
            return None
        moved, person = _apart(person, again) / again.roi.side, again
        if moved < CALM:
            break
    return person if person.score >= SURE and moved < WILD and _is_detected(image, person.roi) else None


def _is_detected(image: np.ndarray, roi: Roi) -> bool:
    """Whether the detector, shown the square alone, finds a person there too: things seldom fool both networks."""
    squares = (replace(roi, side=roi.side * room, angle=0.0) for room in PROOF_ROOMS)
    found = (found for square in squares for found in detect(image, PROOF, [square]))
    return any(_is_near(body_roi(one), roi) for one in found)


def _apart(one: Person, other: Person) -> float:
    """The mean distance, in pixels, of two finds' points that are seen in both, or of all where none is."""
    seen = (one.visibility >= SEEN) & (other.visibility >= SEEN)
    distances = np.linalg.norm(one.points33 - other.points33, axis=1)
    return float(distances[seen if seen.any() else slice(None)].mean())


def _is_near(one: Roi, other: Roi) -> bool:
    boxes = [np.array([roi.x, roi.y, roi.x, roi.y]) + np.array([-1, -1, 1, 1]) * roi.side / 2 for roi in (one, other)]
    return bool(overlaps(boxes[0], boxes[1][None])[0] > 0.5)


def _add(people: list[Person], person: Person | None, previous: Sequence[Person]) -> None:
    """Takes a find into `people` unless it is one of them; a new one that lies where a lost one was follows it."""
    if person is None or any(is_same(person, other) for other in people):
        return
    if person.follows is None:
        taken = {other.follows for other in people}
        lost = [index for index in range(len(previous)) if index not in taken and is_same(person, previous[index])]
        person = replace(person, follows=lost[0] if lost else None)
    people.append(person)


def is_same(one: Person, other: Person) -> bool:
    """Whether two finds are one person: their points lie close, against their size."""
    return _apart(one, other) < SAME * min(one.roi.side, other.roi.side)


def body_roi(found: Found) -> Roi:
    """The square about a detected body."""
    return circle_roi(found.points[0], found.points[1])


def circle_roi(centre: np.ndarray, outer: np.ndarray) -> Roi:
    """The square about a body, from the middle of its hips and a point of the circle about all of it, where up is."""
    side = 2 * float(np.linalg.norm(outer - centre)) * ROI_SCALE
    return Roi(float(centre[0]), float(centre[1]), max(side, 1.0), turned(centre, outer, 90))


def _look(image: np.ndarray, roi: Roi, with_masks: bool, follows: int | None = None) -> Person | None:
    """The person in `roi`; None where the network sees none."""
    values, flag, matte, heat, _ = mediapipe.model("pose_landmark_full")(cut(image, roi, SIZE))
    score = float(flag.ravel()[0])
    if score < PRESENCE:
        return None
    values = values.reshape(39, 5)
    points = roi.to_picture(refine(values[:, :2] / SIZE, heat[0]))
    height, width = image.shape[:2]
    is_inside = np.all((points[:33] >= 0) & (points[:33] < (width, height)), axis=1)
    visibility = (sigmoid(values[:33, 3:5].min(axis=1)) * is_inside).astype(np.float32)
    box = seen_box(points[:33], visibility, width, height)
    if box is None:
        return None
    mask = _matte(matte[0, :, :, 0], roi, width, height) if with_masks else None
    told = circle_roi(points[33], points[34])
    roi = told if follows is None else _calmed(roi, told)
    return Person(points[:33], visibility, score, box, mask, roi, follows)


def _calmed(before: Roi, told: Roi) -> Roi:
    """The square to look at next: what is `told`, less of it the less it differs, since points tremble with it."""
    turn = math.remainder(told.angle - before.angle, 2 * math.pi)
    apart = (math.hypot(told.x - before.x, told.y - before.y) + abs(told.side - before.side)) / before.side + abs(turn)
    share = min(1.0, max(LEAST_SHARE, apart / AT_ONCE))
    x, y, side = (old + share * (new - old) for old, new in
                  ((before.x, told.x), (before.y, told.y), (before.side, told.side)))  # fmt: skip
    return Roi(x, y, side, before.angle + share * turn)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values.astype(np.float64), -100, 100)))


def refine(points: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Points [n,2] in 0..1 moved to the weighed middle of the heat about them, where it is hot enough.

    heat: logits [h,w,n], one map for each point.
    """
    height, width, _ = heat.shape
    refined, reach = points.astype(np.float64), HEAT_SIDE // 2
    for index, (x, y) in enumerate((points * (width, height)).astype(int).tolist()):
        if not (0 <= x < width and 0 <= y < height):
            continue
        left, top = max(0, x - reach), max(0, y - reach)
        window = sigmoid(heat[top : y + reach + 1, left : x + reach + 1, index])
        if window.max() >= HEAT_SURE:
            across, down = window.sum(axis=0), window.sum(axis=1)
            column = (across @ np.arange(len(across))) / across.sum() + left
            row = (down @ np.arange(len(down))) / down.sum() + top
            refined[index] = column / width, row / height
    return refined


def seen_box(points: np.ndarray, visibility: np.ndarray, width: int, height: int):
    """The box around the points seen, with room for skull and clothes, within the picture; None for less than three."""
    seen = points[visibility >= SEEN]
    if len(seen) < 3:
        return None
    low, high = seen.min(axis=0), seen.max(axis=0)
    room = 0.06 * float((high - low).max())
    x1, y1 = np.maximum(low - (room, 2 * room), 0).tolist()
    x2, y2 = np.minimum(high + room, (width, height)).tolist()
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _matte(logits: np.ndarray, roi: Roi, width: int, height: int) -> np.ndarray:
    import cv2

    matte = np.rint(sigmoid(logits) * 255).astype(np.uint8)
    return cv2.warpAffine(matte, roi.matrix(SIZE), (width, height), flags=cv2.INTER_LINEAR)


# Which of the 33 points OpenPose's 18 of a body are, the neck (None) made of the shoulders; then the feet's three each.
BODY_ORDER = (0, None, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7)
FEET_ORDER = (31, 31, 29, 32, 32, 30)  # one point stands for the great and the small toe
SHOULDERS, NECK_SURE = (11, 12), 0.3
ARMS = ((13, 15, 17, 19), (14, 16, 18, 20))  # elbow, wrist, little finger, index of the left and the right one
CUT = 28.0  # levels of mean change between two frames' thumbnails that make a cut
SEARCH_WHOLE, SEARCH_PARTS = 4, 24  # frames between two searches for people who came
SHOWN, HELD = 2, 6  # frames that somebody lost is still drawn, and still looked for in the same place
CALMING = 0.3  # the share of a new visibility


@dataclass
class _Track:
    """What is kept of one person from frame to frame."""

    person: Person
    missed: int = 0  # frames since it was seen last
    shown: tuple[np.ndarray, np.ndarray] | None = None  # points and scores
    visibility: np.ndarray | None = None
    body: OneEuro = field(default_factory=lambda: OneEuro(haste=40.0))  # MediaPipe's 80 lets large bodies tremble
    parts: dict[int, tuple[Face | Hand, OneEuro]] = field(default_factory=dict)  # by the part's first point


@dataclass
class _State:
    """What is kept of a clip: how many frames since the last cut, the last one's thumbnail, and people."""

    count: int = 0
    thumbnail: np.ndarray | None = None
    tracks: list[_Track] = field(default_factory=list)


class MediapipePose:
    """Bodies, faces and hands by MediaPipe's networks, followed and smoothed through a clip.

    short_side: None, frames of any size are looked at as they are.
    """

    short_side: int | None = None

    def poses(self, frames: np.ndarray, memory: Memory | None = None, *, hands: bool = True) -> list[People]:
        """The people in each of `frames` (RGB uint8 [t,H,W,3]), which follow one another.

        memory: of the clip that the frames belong to, where it comes in several chunks; None: these are all of it.
        hands: False leaves them out, which is faster.
        """
        memory = Memory() if memory is None else memory
        return [self._frame(frame, memory, hands) for frame in frames]

    def _frame(self, frame: np.ndarray, memory: Memory, hands: bool) -> People:
        old = memory.state or _State()
        thumbnail = _thumbnail(frame)
        if old.thumbnail is not None and np.abs(thumbnail - old.thumbnail).mean() > CUT:
            old = _State()
        search = "lost" if old.count % SEARCH_WHOLE else "parts" if not old.count % SEARCH_PARTS else "whole"
        before = [track.person for track in old.tracks] if old.count else None
        people = find_people(frame, before, with_masks=False, search=search)
        tracks = _continued(old.tracks, people)
        memory.state = _State(old.count + 1, thumbnail, tracks)
        for track in tracks:
            if not track.missed:
                track.shown = _whole_body(frame, track, memory.fps, hands)
        found = [track.shown for track in tracks if track.missed <= SHOWN]
        return People(*(np.stack(values) for values in zip(*found, strict=True))) if found else NOBODY


def _continued(tracks: list[_Track], people: list[Person]) -> list[_Track]:
    """The tracks of `people`, then those of who is missed, but not for long."""
    out = []
    for one in people:
        track = _Track(one) if one.follows is None else tracks[one.follows]
        track.person, track.missed = one, 0
        out.append(track)
    followed = {one.follows for one in people}
    for index, track in enumerate(tracks):
        if index not in followed and track.missed < HELD:
            track.missed += 1
            out.append(track)
    return out


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA).mean(axis=2)


def _whole_body(frame: np.ndarray, track: _Track, fps: float, hands: bool) -> tuple[np.ndarray, np.ndarray]:
    """Points float32 [134,2] and scores float32 [134] of one person, smoothed."""
    person = track.person
    points, scores = np.zeros((POINTS, 2), np.float32), np.zeros(POINTS, np.float32)
    body = track.body(person.points33, person.roi.side, fps)
    before = person.visibility if track.visibility is None else track.visibility
    track.visibility = seen = before + CALMING * (person.visibility - before)
    for part, order in ((BODY, BODY_ORDER), (FEET, FEET_ORDER)):
        for index, source in enumerate(order, part.start):
            points[index] = body[list(SHOULDERS)].mean(axis=0) if source is None else body[source]
            scores[index] = float(seen[list(SHOULDERS)].min() > NECK_SURE) if source is None else seen[source]
    finds = [(FACE, partial(_face, frame, person))]
    if hands:
        parts = zip((LEFT_HAND, RIGHT_HAND), ARMS, strict=True)
        finds += [(part, partial(_hand, frame, person, arm)) for part, arm in parts]
    for part, find in finds:
        old, smooth = track.parts.pop(part.start, (None, OneEuro()))
        new = find(old)
        if new is not None:
            track.parts[part.start] = new, smooth
            shown = new.points[list(POINTS68)] if part is FACE else new.points
            points[part], scores[part] = smooth(shown, new.roi.side, fps), new.score
    return points, scores


def _face(frame: np.ndarray, person: Person, old: Face | None) -> Face | None:
    head = person.points33[:11]
    return find_face(frame, head, old and old.roi) if person.visibility[0] >= SEEN else None


def _hand(frame: np.ndarray, person: Person, arm: tuple[int, int, int, int], old: Hand | None) -> Hand | None:
    if person.visibility[arm[1]] < SEEN:
        return None
    elbow, wrist, little, index = person.points33[list(arm)]
    knuckles = (little + index) / 2
    side = max(1.6 * float(np.linalg.norm(elbow - wrist)), 5 * float(np.linalg.norm(knuckles - wrist)))
    return find_hand(frame, wrist, Roi(*(wrist + 1.2 * (knuckles - wrist)).tolist(), side), old and old.roi)
