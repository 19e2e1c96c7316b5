"""What is said of a world, in a small grammar, and what such a sentence says: each the other's inverse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vace.training.scene import COLOURS, DIAGONALS, LETTERS, PUPPET, SHAPES, SPRITES, Camera, Thing

_STRAIGHT = ("moves {}", "goes {}", "slides {}")
_WAYS = ("left", "right", "up", "down")
VERBS = {
    "still": ("rests", "stays still", "lies still"),
    **{way: tuple(verb.format(way) for verb in _STRAIGHT) for way in _WAYS},
    **{way: tuple(verb.format(way.replace(" ", " and ")) for verb in _STRAIGHT) for way in DIAGONALS},
    "circles": ("moves in circles", "goes in circles", "circles around"),
    "bounces": ("bounces", "bounces up and down"),
    "grows": ("grows", "gets bigger"),
    "shrinks": ("shrinks", "gets smaller"),
}
ACTION_VERBS = {
    "still": ("stands still", "stays still"),
    "left": ("walks left", "walks to the left"),
    "right": ("walks right", "walks to the right"),
    "waves": ("waves", "waves one hand"),
    "dances": ("dances",),
    "jumps": ("jumps", "jumps up and down"),
}
SPINS = (" and spins", " while spinning", " and turns around")
PLACES = {
    "grass": ("over grass", "over green grass", "on the grass"),
    "sand": ("on sand", "over sand", "on a sandy beach"),
    "water": ("over water", "over blue water", "on the water"),
    "bricks": ("in front of bricks", "in front of a brick wall"),
    "wood": ("on wood", "on a wooden floor"),
    "snow": ("on snow", "over white snow", "in the snow"),
    "night": ("in the night sky", "under the stars at night"),
    "stones": ("on stones", "over grey stones"),
}
CAMERA_WORDS = {
    "still": ("", "", "", ", the camera does not move"),
    "pan left": (", the camera pans left", ", the camera moves to the left"),
    "pan right": (", the camera pans right", ", the camera moves to the right"),
    "zoom in": (", the camera zooms in", ", the camera comes closer"),
    "zoom out": (", the camera zooms out", ", the camera goes away"),
}
BRIEF = 0.2  # of the captions say no motion


@dataclass(frozen=True)
class Said:
    """What a caption says of one thing; None: nothing said of it. A letter's name is the letter."""

    colour: str
    name: str
    size: str | None = None
    motion: str | None = None
    spins: bool | None = None


@dataclass(frozen=True)
class Facts:
    """What a caption says. camera: None where it says nothing."""

    things: tuple[Said, ...]
    ground: str | None
    camera: str | None


def one_of(choices: Sequence[str], rng: np.random.Generator) -> str:
    """One drawn from several, ten times as fast as `rng.choice`."""
    return choices[int(rng.integers(len(choices)))]


def caption_of(things: tuple[Thing, ...], ground: str, camera: Camera, rng: np.random.Generator) -> str:
    """One sentence, lower case but for letters. Colours, names, sizes and the ground are always said, motion mostly."""
    is_brief = rng.random() < BRIEF
    parts = [_noun(thing) if is_brief else f"{_noun(thing)} {_verb(thing, rng)}" for thing in things]
    scene = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    place, filming = one_of(PLACES[ground], rng), one_of(CAMERA_WORDS[camera.move], rng)
    return (f"{scene} {place}" if rng.random() < 0.75 else f"{place}, {scene}") + filming


def _noun(thing: Thing) -> str:
    words = [thing.size] if thing.size != "medium" else []
    words += [thing.colour, f"letter {thing.name}" if thing.kind == "letter" else thing.name]
    return ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words)


def _verb(thing: Thing, rng: np.random.Generator) -> str:
    verb = one_of((ACTION_VERBS if thing.kind == "puppet" else VERBS)[thing.motion], rng)
    if not thing.turns:
        return verb
    return "spins" if thing.motion == "still" else verb + one_of(SPINS, rng)


_NOUN = re.compile(
    rf"\ban? (?:(small|large) )?({'|'.join(COLOURS)}) (?:({'|'.join((*SHAPES, *SPRITES, PUPPET))})"
    rf"|letter ({'|'.join(LETTERS)}))\b"
)


def _longest_first(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    phrases = [(phrase, key) for key, row in table.items() for phrase in row if phrase]
    return sorted(phrases, key=lambda pair: -len(pair[0]))


_PLACES, _CAMERAS = _longest_first(PLACES), _longest_first(CAMERA_WORDS)
_VERBS, _ACTIONS = _longest_first(VERBS), _longest_first(ACTION_VERBS)


def facts(caption: str) -> Facts:
    """What a caption of this grammar says. What it does not know it passes over."""
    caption, camera = _taken(caption, _CAMERAS)
    caption, ground = _taken(caption, _PLACES)
    nouns = list(_NOUN.finditer(caption))
    ends = [noun.start() for noun in nouns[1:]] + [len(caption)]
    said = (_said(noun, caption[noun.end() : end]) for noun, end in zip(nouns, ends, strict=False))
    return Facts(tuple(said), ground, camera)


def _taken(caption: str, phrases: list[tuple[str, str]]) -> tuple[str, str | None]:
    """The caption without the phrase found in it, and what that means."""
    for phrase, meaning in phrases:
        pattern = re.escape(phrase) + r"\b"
        if found := re.search(pattern if phrase[0] == "," else r"\b" + pattern, caption):
            return caption[: found.start()] + caption[found.end() :], meaning
    return caption, None


def _said(noun: re.Match, rest: str) -> Said:
    size, colour, name, letter = noun.groups()
    rest, motion = _taken(rest, _ACTIONS if name == PUPPET else _VERBS)
    spins = any(word in rest for word in ("spins", "spinning", "turns"))
    if spins and motion is None:
        motion = "still"
    return Said(colour, name or letter, size or "medium", motion, spins if motion else None)


def _words() -> tuple[str, ...]:
    tables = (VERBS, ACTION_VERBS, PLACES, CAMERA_WORDS)
    phrases = [phrase for table in tables for row in table.values() for phrase in row]
    phrases += [*SPINS, *COLOURS, *SHAPES, *SPRITES, *LETTERS, PUPPET, "a an and small large letter spins"]
    return tuple(sorted({word for phrase in phrases for word in re.findall(r"\w+", phrase)} | {","}))


WORDS = _words()  # all that captions are made of, for the tokenizer
