"""One thing followed from frame to frame: carried, corrected, given up, found again."""

from __future__ import annotations

import numpy as np

from vace.annotators.nets.appearance import Colours, Look, Sight
from vace.annotators.nets.track_label import (
    Evidence,
    carried,
    connected,
    evidence,
    loose_chance,
    loose_mask,
    rigid_chance,
    rigid_mask,
    softened,
    tidied,
    warped,
    whole_window,
    window_around,
)
from vace.annotators.nets.track_motion import Flow, Ground, fitted_motion, is_cut
from vace.annotators.nets.track_pose import IDENTITY, angle_of, joined, moved, size_of, undone
from vace.annotators.nets.track_search import Search

WORK = 416  # pixels of the longer side, at most, at which everything is worked out
MEMORY = 8  # frames that a thing's motion is taken from
FULL = 0.6  # share of the thing in sight, from which its turn and size are measured rather than carried on
CARRIED = 30  # frames at most that a turn is carried on for unseen
LEARN = 4  # frames from one lesson in colours to the next
MARGIN = 14  # pixels around the thing that are looked at


class Follower:
    """Follows one thing. frame: RGB uint8 [H,W,3], mask: uint8 [H,W], above 0 on the thing in that frame.

    Two opinions are kept: that the thing keeps its shape (then its first look, moved, is its mask), and that it does
    not (then its mask is carried by flow). `stiffness` says how far the first has held.
    """

    def __init__(self, frame: np.ndarray, mask: np.ndarray) -> None:
        self.height, self.width = mask.shape
        self.factor = max(1.0, max(mask.shape) / WORK)
        self.size = (max(1, round(self.width / self.factor)), max(1, round(self.height / self.factor)))
        self.colours, self.ground, self.flow = Colours(), Ground(), Flow(max(self.size))
        self.rng = np.random.default_rng(0)
        self.before = sight = self._seen(frame)
        small = self._shrunk((mask > 0).astype(np.float32))
        self._learn_colours(sight, small, 1.0)
        self.look = self.home = Look(sight, small, np.where(mask > 0, np.uint8(255), np.uint8(0)))
        self.home_pose = IDENTITY  # from home to the look in use
        self.search = Search()
        self.pose, self.chance, self.loose = IDENTITY, small, small
        self.stiffness, self.is_lost, self.visible, self.area = 0.6, False, 1.0, self.look.area
        self.was_loose = self.is_elsewhere = False  # is_elsewhere: lost at a cut, so that its path tells nothing
        self.path: list[tuple[np.ndarray, float, float]] = [self.stand()]
        self.pace = (np.zeros(2), 0.0, 0.0)
        self.lost_for = self.since_look = self.frames = 0
        self.flow.back(sight.gray)
        self.ground.learn(sight.soft, self._outside(small))

    def step(self, frame: np.ndarray) -> np.ndarray:
        """The thing's mask in the next frame: uint8 [H,W], 0 or 255, all 0 where it is not seen."""
        sight = self._seen(frame)
        self.frames += 1
        flow = self.flow.back(sight.gray)
        if is_cut(self.before, sight, flow):
            self.is_lost, self.is_elsewhere, self.ground, flow = True, True, Ground(), None
        else:
            self.ground.follow(flow, self._outside(self.chance))
        mask = None if self.is_lost else self._follow(sight, flow)
        mask = self._seek(sight) if mask is None else mask
        self.is_lost = mask is None
        self.lost_for = self.lost_for + 1 if self.is_lost else 0
        if mask is None:
            self.chance = self.loose = np.zeros_like(self.chance)
            mask = np.zeros((self.height, self.width), np.uint8)
        else:
            self.is_elsewhere = False
            self.ground.learn(sight.soft, self._outside(np.maximum(self.chance, self.loose)))
        self.before = sight
        return mask

    # -- following

    def _follow(self, sight: Sight, flow: np.ndarray) -> np.ndarray | None:
        starts = [self.predicted(), self.pose]
        inside = self.chance > 0.5
        motion = fitted_motion(flow, inside, max(1, int(self.look.reach * size_of(self.pose) / 20)))
        if motion is not None and self.visible > 0.3:
            by_flow = joined(motion, self.pose)
            if self.visible < FULL:
                by_flow = self.look.pose(self.look.centre_at(by_flow), *self.turned(1))
            starts.append(by_flow)
        return self._accepted(sight, self._best(sight, starts), flow)

    def _best(self, sight: Sight, starts: list[np.ndarray]) -> np.ndarray:
        """The best of the poses, each as it is and fitted."""
        is_part = self.visible < FULL
        start = max(starts, key=lambda pose: self.worth(sight, pose))
        fit = self.look.fit(sight, start, 2, is_part, is_part)
        best = max((fit, start), key=lambda pose: self.worth(sight, pose))
        if self.worth(sight, best) < 0.8 * (1 + self.look.contrast) and self.stiffness > 0.5:
            more = [self.look.fit(sight, pose, is_rigid=is_part, is_strict=is_part) for pose in starts]
            best = max([best, *more], key=lambda pose: self.worth(sight, pose))
        return best

    def worth(self, sight: Sight, pose: np.ndarray) -> float:
        """How well the look fits under `pose`."""
        if not self.is_sane(pose):
            return -1.0
        match = self.look.matches(sight, pose)
        return match.close * min(1, 2 * match.inside) + self.look.contrast * self.look.outlined(sight, pose)

    def is_sane(self, pose: np.ndarray) -> bool:
        """Whether the thing may be as large as that."""
        size = size_of(joined(pose, self.home_pose))
        return bool(np.isfinite(pose).all() and 0.15 < size < 6 and self.look.reach * size_of(pose) > 1.5)

    def _window(self, pose: np.ndarray) -> tuple[slice, slice]:
        import cv2

        x, y, width, height = self.look.box
        corners = moved(np.array([[x, y], [x + width, y], [x, y + height], [x + width, y + height]], float), pose)
        boxes = [(*corners.min(0), *corners.max(0))]
        x, y, width, height = cv2.boundingRect((np.maximum(self.chance, self.loose) > 0.1).astype(np.uint8))
        if width:
            boxes.append((x, y, x + width, y + height))
        margin = MARGIN + min(40.0, 2 * float(np.hypot(*self.pace[0])))
        return window_around(boxes, margin, self.size)

    def _accepted(self, sight: Sight, pose: np.ndarray, flow: np.ndarray | None) -> np.ndarray | None:
        """The mask at `pose`, and everything learned from it; None where the thing is not there."""
        window = self._window(pose)
        seen = evidence(sight, self.look, pose, self.before, flow, self.ground, window)
        chances = []
        for opinion, last in ((rigid_chance, self.chance), (loose_chance, self.loose)):
            says = None if flow is None else carried(last, flow, window)
            chances.append(opinion(seen, says, self.look.contrast))
        gray = sight.gray[window].astype(np.float32)
        expected = max(4.0, self.look.area * size_of(pose) ** 2)
        lines = [softened(chance, gray) for chance in chances]
        rigid, loose = (tidied(slope * gray + offset > 0.5, 0.03 * expected) for slope, offset in lines)
        if flow is not None:
            loose = connected(loose, carried(self.loose, flow, window) > 0.5)
        stiffness = self._stiffness(seen, rigid, loose, flow is not None)
        is_rigid = stiffness > 0.5
        mask = rigid if is_rigid else loose
        self._trace = (self.look.matches(sight, pose).same, rigid.sum() / expected, loose.sum() / expected, stiffness)
        if self._is_gone(sight, seen, mask, pose, expected, is_rigid, window):
            return None
        self.stiffness, self.was_loose = stiffness, self.was_loose or stiffness < 0.3
        own = [
            np.clip(np.where(one, np.maximum(chance, 0.51), np.minimum(chance, 0.49)), 0, 1)
            for one, chance in zip((rigid, loose), chances, strict=True)
        ]
        if stiffness > 0.9:
            own[1] = own[0]
        self.chance, self.loose = (_placed(one, window, self.size) for one in (own[0] if is_rigid else own[1], own[1]))
        self._take(sight, pose, seen, mask, is_rigid, expected, window)
        large = whole_window(window, self.factor, (self.width, self.height))
        if is_rigid:
            found = rigid_mask(self.look, pose, seen, mask, window, large, self.factor)
        else:
            found = loose_mask(*lines[1], mask, sight.whole_gray(large), window, large, self.factor)
        out = np.zeros((self.height, self.width), np.uint8)
        out[large] = np.where(found, np.uint8(255), np.uint8(0))
        self._renew(sight, pose, mask, is_rigid, seen, out, window)
        return out

    def _stiffness(self, seen: Evidence, rigid: np.ndarray, loose: np.ndarray, is_carried: bool) -> float:
        """How far the thing keeps its shape, by what flow carries but its look does not explain."""
        if not is_carried or not loose.any():
            return self.stiffness
        inside = seen.shape > 0.5
        agrees = seen.same > 0.5
        open_ = inside & (loose | (seen.ground > 0.5))
        if open_.sum() < 0.3 * inside.sum():
            return self.stiffness
        share = agrees[open_].mean()
        unexplained = (loose & (seen.trust > 0.5) & ~(inside & agrees)).sum() / loose.sum()
        doubt = unexplained * np.clip((0.98 - share) / 0.08, 0, 1)
        self._doubt = (share, unexplained)
        target = np.clip(1 - (doubt - 0.03) / 0.07, 0, 1)
        rate = 0.15 if target < self.stiffness or not self.was_loose else 0.03
        return float(self.stiffness + rate * (target - self.stiffness))

    def _is_gone(self, sight, seen: Evidence, mask, pose, expected, is_rigid, window) -> bool:
        match = self.look.matches(sight, pose)
        if match.inside < 0.03 or mask.sum() < max(0.03 * expected, 8) * min(1, 2 * match.inside):
            return True
        ground = seen.ground[mask]
        if (ground > 0.5).mean() > 0.5 and ground.mean() > seen.same[mask].mean():
            return True
        if is_rigid:
            return match.same < 0.5 and match.same < 0.05 + self.look.chance_matches(sight, pose, self.rng)
        if mask.sum() < 0.25 * self.area and (mask.sum() < 0.08 * self.area or (seen.same[mask] > 0.5).mean() < 0.3):
            return True
        return bool(self.look.contrast > 0.4 and sight.chances[window][mask].mean() < 0.3)

    def _take(self, sight, pose, seen: Evidence, mask, is_rigid, expected, window) -> None:
        """Learn from an accepted frame."""
        self.pose = pose
        inside = seen.shape > 0.5
        within = self.look.matches(sight, pose).inside
        share = (mask & inside).sum() / max(1, inside.sum()) if is_rigid else min(1.0, mask.sum() / self.area)
        self.visible = float(share * within)
        self._reveal(inside & ~mask, pose, window)
        if self.visible < 0.8:
            self.path.clear()
        else:
            self.path.append(self.stand())
            del self.path[:-MEMORY]
            self.pace = self._measured_pace()
            if self.frames % LEARN == 0:
                self._learn_colours(sight, self.chance, 0.05 * LEARN)
        now = expected if is_rigid else float(mask.sum())
        if 0.7 < now / self.area < 1.4:
            self.area += 0.1 * (now - self.area)

    def _reveal(self, missing: np.ndarray, pose: np.ndarray, window) -> None:
        """Leave out of the next fit what hides behind something now. missing: bool, of the window."""
        import cv2

        if missing.sum() < 0.03 * self.look.area * size_of(pose) ** 2:
            self.look.reveal(None)
            return
        side = int(2 * max(3, 1.5 * np.hypot(*self.pace[0])) + 1)
        missing = cv2.morphologyEx(missing.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        hidden = _placed(cv2.dilate(missing, np.ones((side, side), np.uint8)), window, self.size)
        everything = (slice(0, self.size[1]), slice(0, self.size[0]))
        self.look.reveal(warped(1 - hidden.astype(np.float32), undone(pose), everything, 1.0))

    def _renew(self, sight, pose, mask, is_rigid, seen: Evidence, out, window) -> None:
        """Take the thing's look anew where it has changed and is wholly in sight."""
        self.since_look += 1
        size, match = size_of(pose), self.look.matches(sight, pose)
        is_other_size = not 0.62 < size < 1.6
        is_changed = match.same < (0.8 if is_rigid else 0.6) and self.since_look > 8
        if self.visible < 0.93 or not (is_other_size or is_changed):
            return
        if is_rigid:
            mask = seen.shape > 0.5
            out = np.zeros_like(out)
            large = whole_window(window, self.factor, (self.width, self.height))
            shape = warped(self.look.whole.astype(np.float32), _grown(pose, self.factor), large)
            out[large] = np.where(shape > 127, np.uint8(255), np.uint8(0))
        small = _placed(mask.astype(np.float32), window, self.size)
        if mask.sum() < 12:
            return
        sight.judge(self.colours)
        self.look = Look(sight, small, out)
        self.home_pose, self.pose, self.since_look = joined(pose, self.home_pose), IDENTITY, 0
        self.path.clear()

    def _measured_pace(self) -> tuple[np.ndarray, float, float]:
        pairs = list(zip(self.path, self.path[1:], strict=False))
        if not pairs:
            return self.pace
        shift = np.mean([b[0] - a[0] for a, b in pairs], 0)
        turn = np.mean([np.angle(np.exp(1j * (b[1] - a[1]))) for a, b in pairs])
        return shift, float(turn), float(np.mean([b[2] - a[2] for a, b in pairs]))

    def stand(self) -> tuple[np.ndarray, float, float]:
        """Where the thing's middle is, its turn in radians and the logarithm of its size, against its look."""
        return self.look.centre_at(self.pose), angle_of(self.pose), float(np.log(size_of(self.pose)))

    def predicted(self, frames: int = 1) -> np.ndarray:
        """The pose that many frames on, at the thing's pace."""
        return self.look.pose(self.stand()[0] + frames * self.pace[0], *self.turned(frames))

    def turned(self, frames: int) -> tuple[float, float]:
        """Angle and factor of lengths that many frames on."""
        _, angle, size = self.stand()
        frames = min(frames, CARRIED)
        return angle + frames * self.pace[1], float(np.exp(size + frames * self.pace[2]))

    # -- finding again

    def _seek(self, sight: Sight) -> np.ndarray | None:
        for pose in self.search.poses(self, sight):
            held, self.pose = self.pose, pose
            mask = self._accepted(sight, pose, None)
            if mask is not None:
                return mask
            self.pose = held
        return None

    # -- sizes and colours

    def _seen(self, frame: np.ndarray) -> Sight:
        import cv2

        small = frame if self.factor == 1 else cv2.resize(frame, self.size, interpolation=cv2.INTER_AREA)
        return Sight(np.ascontiguousarray(small), self.colours, frame)

    def _shrunk(self, mask: np.ndarray) -> np.ndarray:
        import cv2

        return mask if self.factor == 1 else cv2.resize(mask, self.size, interpolation=cv2.INTER_AREA)

    def _outside(self, chance: np.ndarray) -> np.ndarray:
        import cv2

        return cv2.dilate((chance > 0.5).astype(np.uint8), np.ones((9, 9), np.uint8)) == 0

    def _learn_colours(self, sight: Sight, chance: np.ndarray, rate: float) -> None:
        import cv2

        inner = cv2.erode((chance > 0.5).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        self.colours.learn(sight.codes, inner if inner.any() else chance > 0.5, self._outside(chance), rate)
        if not sight.levels:
            sight.judge(self.colours)


def _grown(pose: np.ndarray, factor: float) -> np.ndarray:
    from vace.annotators.nets.track_pose import rescaled

    return rescaled(pose, factor)


def _placed(part: np.ndarray, window: tuple[slice, slice], size: tuple[int, int]) -> np.ndarray:
    """`part` of the window in a frame of zeros of (width, height)."""
    out = np.zeros(size[::-1], part.dtype)
    out[window] = part
    return out
