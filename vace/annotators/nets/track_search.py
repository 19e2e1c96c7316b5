"""Where a lost thing may be again: its path carried on, its shape in colours, parts of its picture, its features."""

from __future__ import annotations

import numpy as np

from vace.annotators.nets.appearance import Features, Look, Sight, patch_places, shape_places
from vace.annotators.nets.track_pose import angle_of, size_of


class Search:
    """Looks for a thing that was lost, one frame at a time."""

    def __init__(self) -> None:
        self._features: tuple[Look, Features] | None = None

    def poses(self, thing, sight: Sight) -> list[np.ndarray]:
        """Poses at which `thing` (track_state.Follower) may well be in `sight`, best first."""
        look = thing.look
        look.reveal(None)
        _, angle, size = thing.stand()
        size = float(np.exp(size))
        ahead = thing.predicted(min(thing.lost_for + 1, 40))
        starts = [ahead, thing.pose]
        if look.contrast > 0.35:
            starts += shape_places(look, sight, angle, size)
        starts += patch_places(look, sight, angle, size)
        if thing.lost_for % 2:
            starts += self._feature_places(look, sight)
        tries = [look.fit(sight, start, is_rigid=True, finest=1) for start in _distinct(starts) if thing.is_sane(start)]
        tries = sorted(tries, key=lambda pose: -thing.worth(sight, pose))[:2]
        tries += [look.fit(sight, pose, 2) for pose in tries]
        tries = sorted(tries, key=lambda pose: _strangeness(thing, pose) - thing.worth(sight, pose))[:2]
        near = max((ahead, look.fit(sight, ahead, 1, True, True)), key=lambda pose: thing.worth(sight, pose))
        return [pose for pose in [*tries, near] if self._is_found(thing, sight, pose, look.centre_at(ahead))]

    def _is_found(self, thing, sight: Sight, pose: np.ndarray, ahead: np.ndarray) -> bool:
        """Whether the thing is at `pose`; little of it suffices where it was to come out again."""
        if not thing.is_sane(pose):
            return False
        look, strange = thing.look, _strangeness(thing, pose)
        match, chance = look.matches(sight, pose), look.chance_matches(sight, pose, thing.rng)
        if not thing.is_elsewhere and np.hypot(*(look.centre_at(pose) - ahead)) < 0.5 * look.reach * size_of(pose):
            return match.same * match.inside > 0.05 and match.same > max(0.07, chance + 0.06, strange)
        if match.same * match.inside < 0.25 or match.same < max(0.35, chance + 0.1, strange):
            return False
        return look.contrast < 0.4 or look.outlined(sight, pose) > 0.4

    def _feature_places(self, look: Look, sight: Sight) -> list[np.ndarray]:
        if self._features is None or self._features[0] is not look:
            self._features = (look, Features(look))
        return self._features[1].places(sight)


def _distinct(poses: list[np.ndarray]) -> list[np.ndarray]:
    """Without those that nearly repeat one before them."""
    kept: list[np.ndarray] = []
    for pose in poses:
        if all(np.abs(pose - other).max() > 1 for other in kept):
            kept.append(pose)
    return kept


def _strangeness(thing, pose: np.ndarray) -> float:
    """How much `pose` differs in size and turn from what was last seen."""
    _, angle, size = thing.stand()
    turn = abs(np.angle(np.exp(1j * (angle_of(pose) - angle))))
    return 1.2 * abs(np.log(size_of(pose)) - size) + 0.2 * turn
