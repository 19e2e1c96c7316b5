"""One thing cut out of a picture, or followed through a clip, without a trained network.

Cutting is GrabCut. Following carries the first mask along by optical flow and by the thing's own look, corrects it by
colours and by the ground behind it, tells when the thing is hidden, and finds it again by path, shape, picture and
features. Files: track_state (following), track_pose, track_motion, track_label, track_search, appearance, track_cut.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vace.annotators.nets.prompts import Prompt
from vace.annotators.nets.track_cut import cut_box, cut_points, tightened
from vace.errors import InputError, MissingDependency, MissingWeights
from vace.media.clip import Clip

if TYPE_CHECKING:
    from vace.annotators.nets.matte import PersonMatte

log = logging.getLogger("vace")

SAME = 0.6  # overlap of a person's box with a given one, from which the person is what the box means


class FlowTracker:
    """The embedded network `segment`."""

    def mask(self, image: np.ndarray, prompt: Prompt) -> np.ndarray:
        """The thing `prompt` means in RGB uint8 [H,W,3]: uint8 [H,W], 0 or 255. A mask is taken as it was drawn.

        Raises InputError for a prompt that says nothing or does not fit the picture.
        """
        height, width = image.shape[:2]
        if prompt.mask is not None:
            return _drawn(prompt.mask, width, height)
        if prompt.box is not None:
            box = _checked_box(prompt.box, width, height)
            person = _person(image, lambda found: overlap(found.box, box) >= SAME)
            return cut_box(image, box) if person is None else person
        points = np.asarray([] if prompt.points is None else prompt.points, np.float64).reshape(-1, 2)
        if not len(points) or not np.isfinite(points).all():
            raise InputError("segment: nothing says where the thing is; give a box, points or a mask")
        inner = np.clip(np.rint(points).astype(int), 0, (width - 1, height - 1))
        person = _person(image, lambda found: (found.mask[inner[:, 1], inner[:, 0]] > 127).mean() > 0.5)
        return cut_points(image, points) if person is None else person

    def track(self, clip: Clip, prompt: Prompt) -> Iterator[np.ndarray]:
        """The thing's mask in every frame: chunks of uint8 [t,H,W], 0 or 255, all 0 where it is not seen.

        The first frame's mask is that of `mask`. Frames in which the thing was not seen are told in one warning. Raises
        InputError as `mask` does: at once for a drawn mask.
        """
        if prompt.mask is not None:
            _drawn(prompt.mask, clip.width, clip.height)
        return self._tracked(clip, prompt)

    def _tracked(self, clip: Clip, prompt: Prompt) -> Iterator[np.ndarray]:
        follow, unseen, at = None, [], 0
        for chunk in clip.chunks():
            masks = []
            for frame in chunk:
                if follow is None:
                    first = self.mask(frame, prompt)
                    masks.append(first)
                    follow = _follower(frame, first)
                else:
                    masks.append(follow(frame))
                    if not masks[-1].any():
                        unseen.append(at)
                at += 1
            if at >= clip.frame_count and unseen:  # before the last chunk goes out: nobody may ask for one after it
                log.warning("%s: the thing was not seen in %s", clip.name, _ranges(unseen))
                unseen = []
            yield np.stack(masks)


def _person(image: np.ndarray, is_meant: Callable[[PersonMatte], bool]) -> np.ndarray | None:
    """The person who is meant, if one is, uint8 [H,W], 0 or 255: MediaPipe's matte cuts far better than colours do.

    None too where these networks are not at hand: colours serve then.
    """
    from vace.annotators.nets.matte import find_persons

    try:
        found = [person for person in find_persons(image) if is_meant(person)]
    except (MissingWeights, MissingDependency) as error:
        log.debug("no person matte: %s", error)
        return None
    if not found:
        return None
    best = max(found, key=lambda person: person.score)
    return np.where(best.mask > 127, np.uint8(255), np.uint8(0))


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    inner = max(0.0, width) * max(0.0, height)
    return inner / max(1e-6, sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - inner)


def _follower(frame: np.ndarray, first: np.ndarray):
    """A function from each later frame to its mask."""
    if first.all():
        log.warning("the thing covers the whole first frame: so will its mask in all others; mark a part of it")
        return lambda frame: first
    from vace.annotators.nets.track_state import Follower

    tight, rim = tightened(frame, first)
    following = Follower(frame, tight)
    return (lambda frame: _grown(following.step(frame), rim)) if rim else following.step


def _grown(mask: np.ndarray, rim: int) -> np.ndarray:
    import cv2

    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim + 1,) * 2))


def _drawn(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    if mask.shape != (height, width):
        raise InputError(
            f"--mask: {mask.shape[1]}x{mask.shape[0]} for a picture of {width}x{height}; give a mask of the same size"
        )
    if not (mask > 0).any():
        raise InputError("--mask: black everywhere; draw the thing in white")
    return np.where(mask > 0, np.uint8(255), np.uint8(0))


def _checked_box(box, width: int, height: int):
    from vace.annotators.boxes import check_boxes

    return check_boxes([box], width, height, 1)[0]


def _ranges(frames: list[int]) -> str:
    """Frame numbers as words: 'frames 3-7, 12'."""
    parts, start = [], frames[0]
    for last, following in zip(frames, [*frames[1:], None], strict=True):
        if following != last + 1:
            parts.append(f"{start}-{last}" if last > start else f"{start}")
            start = following
    return f"frame{'s' if len(frames) > 1 else ''} " + ", ".join(parts)
