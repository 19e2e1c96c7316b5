"""Toy worlds: seeded clips of a few things that move over a ground, and everything that is true of them.

    world = sample_world(7)                     a description, pure data
    clip = render(world)                        frames, masks, depth, flow, boxes, points and a caption
    facts(clip.caption)                         what the caption says

The same seed gives the same bytes. Worlds of split "train" never show a pair of `HELD_OUT` (a colour with a name), each
world of "held_out" shows at least one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vace.errors import InputError, nearest
from vace.training.captions import WORDS, Facts, Said, caption_of, facts, one_of
from vace.training.motions import camera_track, on_screen, starts_in_view, times
from vace.training.puppets import KEYPOINTS
from vace.training.rendering import Clip, boxes_of, render
from vace.training.scene import (
    ACTIONS,
    CAMERAS,
    COLOURS,
    GROUNDS,
    HELD_OUT,
    KINDS,
    MOTIONS,
    SIZES,
    TEXTURES,
    Camera,
    Texture,
    Thing,
    World,
)  # fmt: skip

__all__ = [
    "ACTIONS", "CAMERAS", "COLOURS", "Camera", "Clip", "Facts", "GROUNDS", "HELD_OUT", "KEYPOINTS", "KINDS", "MOTIONS",
    "SIZES", "SPLITS", "Said", "Texture", "Thing", "WORDS", "World", "boxes_of", "facts", "render", "sample_world",
]  # fmt: skip

SPLITS = ("train", "held_out")
KIND_WEIGHTS = {"shape": 0.58, "sprite": 0.17, "letter": 0.10, "puppet": 0.15}
# Shares of the short side. What is smaller has no outline after a VAE of stride 8, and no small model learns one.
RADII = {"small": (0.185, 0.2), "medium": (0.25, 0.275), "large": (0.32, 0.35)}
PUPPET_SCALE, SPRITE_SCALE = 1.15, 1.05  # their radii against those of shapes
SPINNING = ("square", "triangle", "star", "cross", "heart", "diamond")  # a turned circle or ring shows nothing
TRIES = 40  # of placing the things so that they hide each other little
MARGIN = 0.85  # radii between a centre and the picture's edge, where there is room
LEAST_GAP, MEAN_GAP = 0.6, 1.1  # between two centres over the sum of their radii: at any time, on average


def sample_world(
    seed: int,
    *,
    split: str = "train",
    objects: tuple[int, int] = (1, 2),
    size: tuple[int, int] = (64, 64),
    frames: int = 17,
    kinds: Sequence[str] = tuple(KINDS),
    grounds: Sequence[str] = GROUNDS,
    cameras: Sequence[str] = CAMERAS,
) -> World:
    """A world drawn from a seed. objects: the fewest and the most things. size: (width, height).

    kinds, grounds, cameras: what it is drawn from; a held-out world needs "shape" or "sprite" among the kinds. Raises
    InputError for a split, a kind, a ground or a camera that is unknown.
    """
    for word, known in ((split, SPLITS), *((k, tuple(KINDS)) for k in kinds), *((g, GROUNDS) for g in grounds),
                        *((c, CAMERAS) for c in cameras)):  # fmt: skip
        if word not in known:
            raise InputError(f"{word}: unknown in a toy world; {nearest(word, known)}")
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    count = int(rng.integers(objects[0], objects[1] + 1))
    still_camera = rng.random() < 0.45 and "still" in cameras
    move = "still" if still_camera else one_of(cameras, rng)
    camera = Camera(move, float(rng.uniform(0.09, 0.17) if move.startswith("pan") else rng.uniform(0.1, 0.2)))
    names = _names(rng, split, count, tuple(kinds))
    things = [_thing(rng, kind, name, colour, count, camera) for kind, name, colour in names]
    things = _placed(rng, things, camera)
    ground = one_of(grounds, rng)
    light = float(-np.pi / 2 + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2))
    ground_seed = int(rng.integers(2**31))
    caption = caption_of(things, ground, camera, rng)
    return World(seed, split, things, ground, ground_seed, light, camera, caption, tuple(size), frames)


def _names(rng: np.random.Generator, split: str, count: int, kinds: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """(kind, name, colour) of each thing: no two with the same name or the same colour."""
    weights = np.array([KIND_WEIGHTS[kind] for kind in kinds])
    held_place = int(rng.integers(count)) if split == "held_out" else -1
    held = sorted(pair for pair in HELD_OUT if any(pair[1] in KINDS[kind] for kind in kinds))
    if held_place >= 0 and not held:
        raise InputError('kinds: no held-out pair is of these kinds; add "shape" or "sprite"')
    chosen: list[tuple[str, str, str]] = []
    if held_place >= 0:
        chosen.append(_with_kind(*held[rng.integers(len(held))]))
    while len(chosen) < count:
        kind = str(rng.choice(kinds, p=weights / weights.sum()))
        name, colour = one_of(KINDS[kind], rng), one_of(tuple(COLOURS), rng)
        is_new = all(name != other[1] and colour != other[2] for other in chosen)
        if is_new and (colour, name) not in HELD_OUT:
            chosen.append((kind, name, colour))
    if held_place > 0:
        chosen.insert(held_place, chosen.pop(0))
    return chosen


def _with_kind(colour: str, name: str) -> tuple[str, str, str]:
    return next(kind for kind, names in KINDS.items() if name in names), name, colour


def _thing(rng: np.random.Generator, kind: str, name: str, colour: str, count: int, camera: Camera) -> Thing:
    motion = one_of(ACTIONS if kind == "puppet" else MOTIONS, rng)
    size = "medium" if motion in ("grows", "shrinks") else one_of(SIZES if count == 1 else SIZES[:2], rng)
    radius = rng.uniform(*RADII[size]) * {"puppet": PUPPET_SCALE, "sprite": SPRITE_SCALE}.get(kind, 1)
    reach = rng.uniform(0.16, 0.26) if camera.move == "still" else rng.uniform(0.12, 0.18)
    reach = 0.12 if motion == "jumps" else reach
    turns = 0.0
    if name in SPINNING and rng.random() < 0.25:
        turns = float(rng.choice([-1, 1]) * rng.uniform(0.2, 0.35))
    tilt = 0.0 if kind in ("puppet", "sprite") else rng.uniform(-0.16, 0.16)
    is_mirrored = kind == "sprite" and ("left" in motion or ("right" not in motion and rng.random() < 0.5))
    texture = Texture(
        kind=one_of(TEXTURES, rng),
        pitch=float(rng.uniform(1.0, 1.7)),
        angle=float(rng.uniform(0, np.pi)),
        shift=float(rng.random()),
        strength=float(rng.uniform(0.15, 0.35)),
    )
    return Thing(
        kind=kind,
        name=name,
        colour=colour,
        size=size,
        radius=float(radius),
        motion=motion,
        start=(0.0, 0.0),
        reach=float(reach),
        phase=float(rng.random()),
        tilt=float(tilt),
        turns=turns,
        rank=0,
        is_mirrored=bool(is_mirrored),
        texture=texture,
    )


def _placed(rng: np.random.Generator, things: list[Thing], camera: Camera) -> tuple[Thing, ...]:
    """The things with starts that keep them in view and seldom hide them, in some order of depth."""
    time = times(9)
    tracks = [on_screen(thing, camera, time) for thing in things]
    zoom = camera_track(camera, time)[1][:, None]
    spans = [starts_in_view(thing, camera, time, MARGIN) for thing in things]
    starts = [rng.uniform(low, high, (TRIES, 2)) for low, high in spans]
    score = np.full(TRIES, np.inf)
    for n in range(len(things)):
        for m in range(n):
            apart = (tracks[n][0] - tracks[m][0]) + (starts[n] - starts[m])[:, None] * zoom
            gaps = np.linalg.norm(apart, axis=-1) / (tracks[n][1] + tracks[m][1])
            score = np.minimum(score, np.minimum(gaps.min(axis=1) / LEAST_GAP, gaps.mean(axis=1) / MEAN_GAP))
    best = int(np.argmax(np.minimum(score, 1)))  # the first that is good enough, else the best
    ranks = rng.permutation(len(things))
    return tuple(
        replace(thing, start=(float(start[best, 0]), float(start[best, 1])), rank=int(rank))
        for thing, start, rank in zip(things, starts, ranks, strict=True)
    )
