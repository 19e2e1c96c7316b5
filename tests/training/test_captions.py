"""Captions say only what is so, and can be read back."""

from __future__ import annotations

import re

import pytest

from vace.training.captions import WORDS, Facts, Said, facts
from vace.training.worlds import sample_world


def test_what_a_caption_says_is_so():
    said_motion = 0
    for seed in range(1500):
        world = sample_world(seed, objects=(1, 3), split="train" if seed % 2 else "held_out")
        read = facts(world.caption)
        assert read.ground == world.ground, world.caption
        assert read.camera in (world.camera.move, None)
        assert read.camera or world.camera.move == "still", world.caption  # a camera that moves is always told of
        assert len(read.things) == len(world.things), world.caption
        for said, thing in zip(read.things, world.things, strict=True):
            assert (said.colour, said.name, said.size) == (thing.colour, thing.name, thing.size), world.caption
            assert said.motion in (thing.motion, None) and said.spins in (bool(thing.turns), None), world.caption
            said_motion += said.motion is not None
    assert said_motion > 1500


def test_captions_use_only_the_known_words():
    used = set()
    for seed in range(1500):
        used |= set(re.findall(r"\w+|,", sample_world(seed, objects=(1, 3)).caption))
    assert used <= set(WORDS) and len(WORDS) <= 150
    assert len(used) > 0.95 * len(WORDS)


@pytest.mark.parametrize(
    "caption, expected",
    [
        (
            "a large red star moves left over green grass",
            Facts((Said("red", "star", "large", "left", False),), "grass", None),
        ),
        (
            "a small blue ring and a yellow heart on sand, the camera pans right",
            Facts((Said("blue", "ring", "small"), Said("yellow", "heart", "medium")), "sand", "pan right"),
        ),
        (
            "in front of bricks, an orange letter K goes up and left, a pink square spins and a cyan puppet waves",
            Facts(
                (
                    Said("orange", "K", "medium", "up left", False),
                    Said("pink", "square", "medium", "still", True),
                    Said("cyan", "puppet", "medium", "waves", False),
                ),
                "bricks",
                None,
            ),
        ),
        ("nothing that it knows", Facts((), None, None)),
    ],
)
def test_reading(caption, expected):
    assert facts(caption) == expected
