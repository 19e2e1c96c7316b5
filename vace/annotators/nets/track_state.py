"""One thing followed from frame to frame: carried, corrected, given up, found again."""

from __future__ import annotations

import numpy as np

from vace.annotators.nets.appearance import Colours, Features, Look, Sight, patch_places, shape_places
from vace.annotators.nets.track_label import enlarged_shape, labelled, likeness, smoothed, tidied, warped
from vace.annotators.nets.track_motion import Flow, Ground, carried, fitted_motion
from vace.annotators.nets.track_pose import IDENTITY, angle_of, joined, size_of, undone

WORK = 416  # pixels of the longer side, at most, at which everything is worked out
FULL = 0.6  # share of the thing in sight, from which its turn and size are measured rather than carried on
CARRIED = 30  # frames at most that a turn is carried on for unseen
MEMORY = 8  # frames that a thing's motion is taken from


class Follower:
    """Follows one thing. frame: RGB uint8 [H,W,3], mask: uint8 [H,W], above 0 on the thing in that frame."""

    def __init__(self, frame: np.ndarray, mask: np.ndarray) -> None:
        self.height, self.width = mask.shape
        self.factor = max(1.0, max(mask.shape) / WORK)
        self.size = (round(self.width / self.factor), round(self.height / self.factor))
        self.colours, self.ground, self.flow = Colours(), Ground(), Flow(max(self.size))
        self.rng = np.random.default_rng(0)
        sight = self._seen(frame)
        small = self._shrunk((mask > 0).astype(np.float32))
        self._learn_colours(sight, small, 1.0)
        self.look = self.home = Look(sight, small, (mask > 0).astype(np.uint8) * 255)
        self.home_pose = IDENTITY  # from home to the look in use
        self.features: dict[int, Features] = {}
        self.pose, self.chance = IDENTITY, small
        self.stiffness, self.is_lost, self.share, self.visible = 0.7, False, 1.0, 1.0
        self.path: list[tuple[np.ndarray, float, float]] = [self._stand()]
        self.pace = (np.zeros(2), 0.0, 0.0)
        self.lost_for = 0
        self.flow.back(sight.gray)
        self.ground.learn(sight.soft, self._outside(small))

    def step(self, frame: np.ndarray) -> np.ndarray:
        """The thing's mask in the next frame: uint8 [H,W], 0 or 255, all 0 where it is not seen."""
        sight = self._seen(frame)
        back = self.flow.back(sight.gray)
        self.ground.follow(back, self._outside(self.chance))
        mask = None
        if not self.is_lost:
            mask = self._follow(sight, back)
        if mask is None:
            mask = self._seek(sight)
        if mask is None:
            self.is_lost, self.lost_for = True, self.lost_for + 1
            self.chance = np.zeros_like(self.chance)
            mask = np.zeros((self.height, self.width), np.uint8)
        else:
            self.is_lost, self.lost_for = False, 0
        if not self.is_lost:
            self.ground.learn(sight.soft, self._outside(self.chance))
        return mask

    # -- following

    def _follow(self, sight: Sight, back: np.ndarray) -> np.ndarray | None:
        says = carried(self.chance, back)
        starts = [self._predicted(), self.pose]
        motion = fitted_motion(back, says > 0.5, max(1, int(self.look.reach * size_of(self.pose) / 20)))
        if motion is not None and self.visible > 0.3:
            by_flow = joined(motion, self.pose)
            if self.visible < FULL:
                by_flow = self.look.pose(self.look.centre_at(by_flow), *self._turned(1))
            starts.append(by_flow)
        pose = self._best(sight, starts)
        return self._accepted(sight, pose, says, back)

    def _best(self, sight: Sight, starts: list[np.ndarray]) -> np.ndarray:
        """The best of the poses, each as it is and fitted."""
        start = max(starts, key=lambda pose: self._worth(sight, pose))
        is_rigid = self.visible < FULL
        fit = self.look.fit(sight, start, 2, is_rigid, is_rigid)
        tries = [fit, start]
        best = max(tries, key=lambda pose: self._worth(sight, pose))
        if self._worth(sight, best) < 0.8 * (1 + self.look.contrast):
            more = [self.look.fit(sight, pose, is_rigid=is_rigid, is_strict=is_rigid) for pose in starts]
            best = max([best, *more], key=lambda pose: self._worth(sight, pose))
        return best

    def _worth(self, sight: Sight, pose: np.ndarray) -> float:
        if not self._is_sane(pose):
            return -1.0
        match = self.look.matches(sight, pose)
        return match.close * min(1, 2 * match.inside) + self.look.contrast * self.look.outlined(sight, pose)

    def _strangeness(self, pose: np.ndarray) -> float:
        """How much `pose` differs in size and turn from what was last seen."""
        _, angle, size = self._stand()
        turn = abs(np.angle(np.exp(1j * (angle_of(pose) - angle))))
        return 1.2 * abs(np.log(size_of(pose)) - size) + 0.2 * turn

    def _is_sane(self, pose: np.ndarray) -> bool:
        size = size_of(joined(pose, self.home_pose))
        return bool(np.isfinite(pose).all() and 0.15 < size < 6 and self.look.reach * size_of(pose) > 1.5)

    def _accepted(self, sight: Sight, pose: np.ndarray, says: np.ndarray | None, back) -> np.ndarray | None:
        """The mask at `pose`, and everything learned from it; None where the thing is not there."""
        match = self.look.matches(sight, pose)
        same, inside = match.same, match.inside
        trust = None
        if says is not None:
            trust = likeness(carried(self.before.soft, back), sight.soft)
        picture = self.ground.picture
        known = self.ground.is_known if picture is not None else None
        labels = labelled(sight, self.look, pose, self.stiffness, says, trust, picture, known)
        chance = np.clip(smoothed(labels.chance, sight.gray), 0, 1)
        expected = max(4.0, self.look.area * size_of(pose) ** 2)
        mask = tidied(chance > 0.5, 0.03 * expected)
        self._trace = (same, inside, mask.sum() / expected, self.stiffness)
        if self._is_gone(sight, labels, mask, same, inside, expected, pose):
            return None
        chance = np.where(mask, np.maximum(chance, 0.51), np.minimum(chance, 0.49)).astype(np.float32)
        self._take(sight, pose, labels, chance, mask, says, trust, expected, inside)
        return self._whole(sight, labels, chance, mask, pose)

    def _is_gone(self, sight, labels, mask, same, inside, expected, pose) -> bool:
        if mask.sum() < max(0.03 * expected, 8) * min(1, 2 * inside) or inside < 0.03:
            return True
        ground = labels.like_ground[mask]
        if (ground > 0.5).mean() > 0.5 and ground.mean() > labels.same[mask].mean():
            return True
        if self.stiffness > 0.5:
            if same < 0.5 and same < 0.05 + self.look.chance_matches(sight, pose, self.rng):
                return True
            return False
        colour = sight.chances[mask].mean()
        return bool(self.look.contrast > 0.4 and colour < 0.3)

    def _take(self, sight, pose, labels, chance, mask, says, trust, expected, inside) -> None:
        """Learn from an accepted frame."""
        self.before = sight
        self.pose, self.chance = pose, chance
        seen = mask & (labels.shape > 0.5)
        self.share = float(seen.sum() / max(1, (labels.shape > 0.5).sum()))
        self.visible = self.share * inside
        missing = (labels.shape > 0.5) & ~mask
        self._reveal(missing, pose)
        if says is not None and self.share > 0.3:
            sure = (says > 0.6) & (trust > 0.5) & (sight.chances > 0.3) & mask
            if sure.sum() > 0.2 * expected:
                explained = ((labels.shape > 0.3) & (labels.same > 0.5) & sure).sum() / sure.sum()
                target = float(np.clip((explained - 0.7) / 0.2, 0, 1))
                self.stiffness += 0.2 * (target - self.stiffness)
        if self.visible < 0.8:
            self.path.clear()
        else:
            self.path.append(self._stand())
            del self.path[:-MEMORY]
            self.pace = self._measured_pace()
        if self.visible > 0.8:
            self._learn_colours(sight, chance, 0.05)

    def _reveal(self, missing: np.ndarray, pose: np.ndarray) -> None:
        """Leave out of the next fit what hides behind something now. missing: bool [H,W] of this frame."""
        import cv2

        if missing.mean() * missing.size < 0.03 * self.look.area * size_of(pose) ** 2:
            self.look.reveal(None)
            return
        side = int(2 * max(3, 1.5 * np.hypot(*self.pace[0])) + 1)
        missing = cv2.morphologyEx(missing.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        hidden = cv2.dilate(missing, np.ones((side, side), np.uint8))
        self.look.reveal(warped(1 - hidden.astype(np.float32), undone(pose), self.size, 1.0))

    def _measured_pace(self) -> tuple[np.ndarray, float, float]:
        steps = [
            (b[0] - a[0], np.angle(np.exp(1j * (b[1] - a[1]))), b[2] - a[2])
            for a, b in zip(self.path, self.path[1:], strict=False)
        ]
        if not steps:
            return self.pace
        return (
            np.mean([s[0] for s in steps], 0),
            float(np.mean([s[1] for s in steps])),
            float(np.mean([s[2] for s in steps])),
        )

    def _stand(self) -> tuple[np.ndarray, float, float]:
        return self.look.centre_at(self.pose), angle_of(self.pose), float(np.log(size_of(self.pose)))

    def _predicted(self, frames: int = 1) -> np.ndarray:
        return self.look.pose(self._stand()[0] + frames * self.pace[0], *self._turned(frames))

    def _turned(self, frames: int) -> tuple[float, float]:
        """Angle and factor of lengths that many frames on."""
        _, angle, size = self._stand()
        frames = min(frames, CARRIED)
        return angle + frames * self.pace[1], float(np.exp(size + frames * self.pace[2]))

    # -- finding again

    def _seek(self, sight: Sight) -> np.ndarray | None:
        self.look.reveal(None)
        centre, angle, size = self._stand()
        size = np.exp(size)
        ahead = self._predicted(min(self.lost_for + 1, 40))
        starts = [ahead, self.pose]
        if self.look.contrast > 0.35:
            starts += shape_places(self.look, sight, angle, size)
        starts += patch_places(self.look, sight, angle, size)
        if self.lost_for % 2:
            starts += self._features().places(sight)
        tries = [self.look.fit(sight, start, is_rigid=True) for start in starts if self._is_sane(start)]
        tries = sorted(tries, key=lambda pose: -self._worth(sight, pose))[:2]
        tries += [self.look.fit(sight, pose, 2) for pose in tries]
        tries = sorted(tries, key=lambda pose: self._strangeness(pose) - self._worth(sight, pose))[:2]
        near = max((ahead, self.look.fit(sight, ahead, 1, True, True)), key=lambda pose: self._worth(sight, pose))
        for pose in [*tries, near]:
            if self._is_found(sight, pose, self.look.centre_at(ahead)):
                held, self.pose = self.pose, pose
                self.path.clear()
                mask = self._accepted(sight, pose, None, None)
                if mask is not None:
                    return mask
                self.pose = held
        return None

    def _is_found(self, sight: Sight, pose: np.ndarray, ahead: np.ndarray) -> bool:
        """Whether the thing is at `pose`; little of it suffices where it was to come out again."""
        if not self._is_sane(pose):
            return False
        match, chance = self.look.matches(sight, pose), self.look.chance_matches(sight, pose, self.rng)
        if np.hypot(*(self.look.centre_at(pose) - ahead)) < 0.5 * self.look.reach * size_of(pose):
            return match.same * match.inside > 0.05 and match.same > max(0.07, chance + 0.06, self._strangeness(pose))
        if match.same * match.inside < 0.25 or match.same < max(0.35, chance + 0.1, self._strangeness(pose)):
            return False
        return self.look.contrast < 0.4 or self.look.outlined(sight, pose) > 0.4

    def _features(self) -> Features:
        key = id(self.look)
        if key not in self.features:
            self.features = {key: Features(self.look)}
        return self.features[key]

    # -- sizes and colours

    def _seen(self, frame: np.ndarray) -> Sight:
        import cv2

        small = frame if self.factor == 1 else cv2.resize(frame, self.size, interpolation=cv2.INTER_AREA)
        sight = Sight(np.ascontiguousarray(small), self.colours)
        if not hasattr(self, "before"):
            self.before = sight
        return sight

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

    def _whole(self, sight, labels, chance, mask, pose) -> np.ndarray:
        """The mask at the clip's own size."""
        import cv2

        size = (self.width, self.height)
        if self.stiffness > 0.6:
            shape = enlarged_shape(self.look, pose, self.factor, size) > 0.5
            kernel = np.ones((3, 3), np.uint8)
            missing = ((labels.shape > 0.5) & ~mask).astype(np.uint8)
            missing = cv2.morphologyEx(missing, cv2.MORPH_OPEN, kernel)
            extra = (mask & (labels.shape < 0.5)).astype(np.uint8)
            extra = cv2.morphologyEx(extra, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
            missing, extra = (
                cv2.resize(one.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
                for one in (missing, extra)
            )
            return np.where((shape & ~missing) | extra, np.uint8(255), np.uint8(0))
        if self.factor > 1:
            chance = cv2.resize(chance, size, interpolation=cv2.INTER_LINEAR)
        return np.where(chance > 0.5, np.uint8(255), np.uint8(0))
