"""What a toy world is: pure data, in shares of the picture, so that it can be rendered at any size and frame count."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

# Hues at least 25 degrees apart and all well saturated: grounds are not (vace/training/grounds.py).
COLOURS = MappingProxyType(
    {
        "red": (220, 28, 36),
        "orange": (248, 130, 16),
        "yellow": (248, 222, 30),
        "green": (34, 172, 52),
        "cyan": (30, 208, 214),
        "blue": (34, 76, 226),
        "purple": (132, 44, 206),
        "pink": (250, 96, 186),
    }
)
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "diamond")
SPRITES = ("fish", "car", "house", "tree", "boat", "bird")
LETTERS = ("E", "F", "H", "K", "M", "T")  # none that looks like a shape when it is turned
PUPPET = "puppet"
KINDS = MappingProxyType({"shape": SHAPES, "letter": LETTERS, "sprite": SPRITES, "puppet": (PUPPET,)})

GROUNDS = ("grass", "sand", "water", "bricks", "wood", "snow", "night", "stones")
TEXTURES = ("stripes", "dots", "checks", "noise")
SIZES = ("small", "medium", "large")
DIAGONALS = ("up left", "up right", "down left", "down right")
MOTIONS = ("still", "left", "right", "up", "down", *DIAGONALS, "circles", "bounces", "grows", "shrinks")
ACTIONS = ("still", "left", "right", "waves", "dances", "jumps")  # of puppets; left and right they walk
CAMERAS = ("still", "pan left", "pan right", "zoom in", "zoom out")

# Never seen in training: one pair in six, at most two of any shape or sprite and three of any colour.
HELD_OUT = frozenset(
    (colour, name)
    for name, colours in {
        "circle": ("red", "cyan"),
        "square": ("green",),
        "triangle": ("purple",),
        "star": ("orange", "blue"),
        "cross": ("cyan",),
        "ring": ("pink",),
        "heart": ("yellow", "purple"),
        "diamond": ("blue",),
        "fish": ("red",),
        "car": ("green", "pink"),
        "house": ("purple",),
        "tree": ("orange",),
        "boat": ("red", "yellow"),
        "bird": ("green",),
    }.items()
    for colour in colours
)


@dataclass(frozen=True)
class Texture:
    """A pattern on a thing's surface: repeats per radius, its direction in radians, its shift, how much it shows."""

    kind: str
    pitch: float
    angle: float
    shift: float
    strength: float


@dataclass(frozen=True)
class Thing:
    """One object. radius: share of the picture's short side. start: of its path, as shares (x, y) from the centre.

    reach: how far it goes in the clip, share of the picture. turns: in the clip, clockwise. rank: 0 is the farthest.
    """

    kind: str
    name: str
    colour: str
    size: str
    radius: float
    motion: str
    start: tuple[float, float]
    reach: float
    phase: float
    tilt: float
    turns: float
    rank: int
    is_mirrored: bool
    texture: Texture


@dataclass(frozen=True)
class Camera:
    """amount: share of the picture that a pan crosses, or what a zoom multiplies by, less one."""

    move: str
    amount: float


@dataclass(frozen=True)
class World:
    """A clip before it is rendered. light: direction it comes from, radians. size: (width, height) by default."""

    seed: int
    split: str
    things: tuple[Thing, ...]  # in the order that the caption names them
    ground: str
    ground_seed: int
    light: float
    camera: Camera
    caption: str
    size: tuple[int, int]
    frames: int
