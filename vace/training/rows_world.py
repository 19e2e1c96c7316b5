"""The worlds behind training rows: which ones, which of their things, pictures of these, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vace.training.captions import CAMERA_WORDS, PLACES, one_of
from vace.training.rendering import Clip, boxes_of, render
from vace.training.scene import ACTIONS, COLOURS, DIAGONALS, GROUNDS, HELD_OUT, KINDS, PUPPET, Camera, Thing, World
from vace.training.worlds import sample_world

STRAIGHT = ("still", "left", "right", "up", "down", *DIAGONALS, "grows", "shrinks")
BENT = 0.09  # of the short side: how far a box may stray from the straight way between its first and last place
LEAST_SEEN = 0.006  # of the picture's pixels, on average: what less shows is no thing to edit
TRIES = 4  # worlds looked at for one that suits
# How much of the caption is said beside references. In training less, or a model learns to read and not to look.
REFERENCE_PROMPTS = {
    "train": {"whole": 0.34, "no colours": 0.50, "place": 0.16},
    "held_out": {"whole": 0.58, "no colours": 0.32, "place": 0.10},
}
PICTURE_SIDE = (96, 176)  # pixels of the pictures that references are cut from
PICTURE_RADIUS = (0.3, 0.4)  # of a thing in such a picture, share of its side
PLAIN_SHARE, SAME_CLIP_SHARE, HULL_SHARE = 0.1, 0.25, 0.08  # of reference pictures


@dataclass(frozen=True)
class Asked:
    """What a row is asked to be. rng: of the row. size: (width, height) of the model's pixels."""

    rng: np.random.Generator
    seed: int
    split: str
    size: tuple[int, int]
    frames: int
    objects: tuple[int, int]

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def one(self, choices: Sequence):
        return one_of(choices, self.rng)

    def weighted(self, table: dict):
        """A key of the table, drawn by its values."""
        weights = np.array(list(table.values()), float)
        return list(table)[int(self.rng.choice(len(weights), p=weights / weights.sum()))]

    def worlds(self, **limits):
        """Worlds without end, the one of the row's own seed first."""
        seed = self.seed
        while True:
            given = {"split": self.split, "objects": self.objects, **limits}
            yield sample_world(seed, size=self.size, frames=self.frames, **given)
            seed = int(self.rng.integers(2**31))

    def shown(self, world: World) -> Clip:
        return render(world, size=self.size, frames=self.frames)

    def clip(self) -> Clip:
        return self.shown(next(self.worlds()))

    @cached_property
    def is_enlarged(self) -> bool:
        """Whether the material is twice the model's size, as users' often is; what is judged never is."""
        return self.split == "train" and self.chance(0.2)

    def material(self, frames: np.ndarray) -> np.ndarray:
        """Frames, uint8 [T,H,W,3], or masks, [T,H,W], as the annotator gets them: enlarged or as they are."""
        return enlarged(frames, 2) if self.is_enlarged else frames


def enlarged(frames: np.ndarray, times: int) -> np.ndarray:
    """uint8 [T,H,W,3] or masks [T,H,W] of 0 and 255, `times` as wide and high."""
    import cv2

    size = (frames.shape[2] * times, frames.shape[1] * times)
    made = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames])
    return made if frames.ndim == 4 else np.where(made > 127, np.uint8(255), np.uint8(0))


def white(masks: np.ndarray) -> np.ndarray:
    """bool -> uint8, 255 where true."""
    return masks.astype(np.uint8) * np.uint8(255)


def seen_things(clip: Clip) -> list[int]:
    """The things that show enough to be edited, at least one."""
    shares = clip.masks.mean(axis=(0, 2, 3))
    return [n for n, share in enumerate(shares) if share >= LEAST_SEEN] or [int(shares.argmax())]


def subject(asked: Asked, clip: Clip) -> int:
    """The thing that an edit is about: in held-out worlds one whose pair was never seen, if it shows."""
    seen = seen_things(clip)
    fresh = [n for n in seen if (clip.world.things[n].colour, clip.world.things[n].name) in HELD_OUT]
    return asked.one(fresh or seen)


def subjects(asked: Asked, clip: Clip) -> tuple[int, ...]:
    """One thing or, of two, sometimes both, in either order."""
    seen = seen_things(clip)
    if len(seen) > 1 and asked.chance(0.5):
        return tuple(int(n) for n in asked.rng.permutation(seen)[:2])
    return (subject(asked, clip),)


def straight(asked: Asked) -> tuple[Clip, int, np.ndarray]:
    """A clip, a thing in it that goes a straight way, and its boxes [T,4] (hidden parts included)."""
    best = None
    for tried, world in enumerate(asked.worlds()):
        is_last = tried >= 4 * TRIES
        ways = [n for n, thing in enumerate(world.things) if thing.motion in STRAIGHT]
        moving = [n for n in ways if world.things[n].motion != "still"]
        if not (moving or (ways and asked.chance(0.15)) or is_last):
            continue
        clip = asked.shown(world)
        boxes = boxes_of(clip.full_masks)
        for n in moving or ways or range(len(world.things)):
            stray = strayed(boxes[:, n])
            if best is None or stray < best[0]:
                best = stray, clip, int(n), boxes[:, n]
        if best[0] <= BENT * min(asked.size) or is_last:
            return best[1:]


def strayed(boxes: np.ndarray) -> float:
    """How far boxes [T,4] are from the straight way between the first and the last, pixels; inf where one is empty."""
    if ((boxes[[0, -1], 2:] - boxes[[0, -1], :2]) < 3).any():
        return float("inf")
    way = np.linspace(boxes[0], boxes[-1], len(boxes))
    return float(abs(boxes - way).max())


def with_puppet(asked: Asked) -> tuple[Clip, tuple[int, ...]]:
    """A clip with a puppet, alone or beside another thing, and which it is.

    No held-out pair is a puppet's, so the held-out world is one with a puppet beside the thing of such a pair; where
    only one thing is asked for, a world of training's kind that training never draws.
    """
    beside = asked.one(("shape", "sprite"))
    if asked.objects[1] == 1 or (asked.split == "train" and asked.chance(0.5)):
        seed = asked.seed if asked.split == "train" else 2**40 + asked.seed
        world = sample_world(seed, objects=(1, 1), kinds=(PUPPET,), size=asked.size, frames=asked.frames)
    else:
        pairs = asked.worlds(objects=(2, 2), kinds=(PUPPET, beside))
        world = next(world for world in pairs if any(thing.kind == PUPPET for thing in world.things))
    puppets = tuple(n for n, thing in enumerate(world.things) if thing.kind == PUPPET)
    return asked.shown(world), puppets


def other_thing(asked: Asked, world: World, n: int) -> Thing:
    """What may have been in the place of thing n before an edit: of the same kind, with another name or colour."""
    thing, others = world.things[n], [other for other in world.things if other is not world.things[n]]
    names = [name for name in KINDS[thing.kind] if all(name != other.name for other in others)]
    colours = [colour for colour in COLOURS if all(colour != other.colour for other in others)]
    while True:
        name = asked.one(names)
        colour = thing.colour if asked.chance(0.25) else asked.one(colours)
        if (name, colour) != (thing.name, thing.colour) and (colour, name) not in HELD_OUT:
            return replace(thing, name=name, colour=colour)


def with_thing(world: World, n: int, thing: Thing) -> World:
    return replace(world, things=(*world.things[:n], thing, *world.things[n + 1 :]))


# What is said.


def noun(thing: Thing) -> str:
    """A thing by its colour and name, as captions say it."""
    name = f"letter {thing.name}" if thing.kind == "letter" else thing.name
    return ("an " if thing.colour[0] in "aeiou" else "a ") + f"{thing.colour} {name}"


def without_colour(caption: str, things: Sequence[Thing]) -> str:
    """The caption with no colour said of these things."""
    for thing in things:
        caption = re.sub(rf"\ban? ((?:small |large )?){thing.colour} ", r"a \1", caption)
    return caption


def edit_prompt(asked: Asked, clip: Clip, things: Sequence[int]) -> str:
    """The caption; one time in five, as people do, only what shall be in the region."""
    if things and asked.chance(0.2):
        return " and ".join(noun(clip.world.things[n]) for n in things)
    return clip.caption


def reference_prompt(asked: Asked, clip: Clip, things: Sequence[int]) -> str:
    """The caption, whole or leaving to the pictures what colours are; sometimes things and all are left to them."""
    way = asked.weighted(REFERENCE_PROMPTS[asked.split])
    if way == "whole":
        return clip.caption
    chosen = [clip.world.things[n] for n in things]
    if way == "no colours" or len(chosen) < len(clip.world.things):
        return without_colour(clip.caption, chosen)
    return asked.one(PLACES[clip.world.ground]) + asked.one(CAMERA_WORDS[clip.world.camera.move])


# Pictures of things.


def picture_of(thing: Thing, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture of a thing elsewhere, larger and in another pose: RGB uint8 [S,S,3], and its mask, uint8 [S,S]."""
    side = int(rng.integers(*PICTURE_SIDE))
    is_puppet = thing.kind == PUPPET
    posed = replace(
        thing,
        radius=float(rng.uniform(*PICTURE_RADIUS)) * (1.15 if is_puppet else 1),
        motion=one_of(ACTIONS, rng) if is_puppet else "still",
        start=(float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.06, 0.06))),
        reach=0.02,
        phase=float(rng.random()),
        tilt=thing.tilt + float(rng.uniform(-0.2, 0.2)) * (thing.kind in ("shape", "letter")),
    )
    light, ground_seed = float(rng.uniform(-np.pi, np.pi)), int(rng.integers(2**31))
    ground, camera = one_of(GROUNDS, rng), Camera("still", 0.2)
    clip = render(World(0, "train", (posed,), ground, ground_seed, light, camera, "", (side, side), 1))
    return clip.frames[0], white(clip.masks[0, 0])


def pictures(asked: Asked, clip: Clip, things: Sequence[int]) -> list[np.ndarray]:
    """References to things of a clip, as `image_reference` cuts them out: RGB uint8 [h,w,3] of any sizes."""
    return [_reference(asked, clip, n) for n in things]


def reference_material(asked: Asked, clip: Clip, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture that shows thing n, RGB uint8 [H,W,3], and its mask there: from the clip itself, or from elsewhere."""
    if asked.chance(SAME_CLIP_SHARE):
        t = int(clip.masks[:, n].sum(axis=(1, 2)).argmax()) if asked.chance(0.5) else asked.whole(0, asked.frames - 1)
        if clip.masks[t, n].mean() >= LEAST_SEEN:
            return clip.frames[t], white(clip.masks[t, n])
    return picture_of(clip.world.things[n], asked.rng)


def _reference(asked: Asked, clip: Clip, n: int) -> np.ndarray:
    from vace import annotators

    image, mask = reference_material(asked, clip, n)
    draw: Callable = annotators.get("image_reference")
    if asked.chance(PLAIN_SHARE):
        return draw(images=[image], mode="plain").images[0]
    loose = "hull" if asked.chance(HULL_SHARE) else None
    return draw(images=[image], mode="mask", masks=[mask], maskaug_mode=loose).images[0]
