"""THE TABLE OF MEASURES: which scores are taken of each task's outputs, and which of them its control rests on.

A measure looks at one output, uint8 [T,H,W,3], and at what was asked (`Asked`), and gives a number, or None where it
says nothing of this row. The same measures are taken of the model's output and of every baseline.

Controls are judged by the project's own annotators, run on the output and compared with the condition. Pose is not:
the toy puppets are no people, MediaPipe does not see them, so the puppet is found by its colour and its silhouette
compared with the true one. Boxes of a layout are judged by the colour of what stands in them, likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from vace.evaluation import scores
from vace.training import judge
from vace.training.captions import facts
from vace.training.rendering import boxes_of
from vace.training.scene import KINDS, PUPPET

if TYPE_CHECKING:
    from vace.annotators.networks import Networks
    from vace.training.rows import Row

SIDE = 64  # pixels of the short side that lengths below are meant for; larger clips take larger ones
BLUR, LINE_REACH = 1.5, 1.5  # pixels
LEAST_SEEN = 8  # pixels a frame of a thing whose colour is judged
NEAR = 2  # frames beside a kept one that count as the next
COMPOSED = "composition"  # a control in the place of what is to be made
CONTROLS = ("gray", "depth", "scribble", "flow", "pose")  # whose condition is a picture of the whole clip


class Asked:
    """One row as measures see it: what was given, what was to come of it. Derived once, shared by all outputs."""

    def __init__(self, row: Row, networks: Networks) -> None:
        self.row, self.networks = row, networks
        self.target: np.ndarray = row.target
        self.scale = min(self.target.shape[1:3]) / SIDE
        self.said = facts(row.prompt).things

    @cached_property
    def condition(self) -> np.ndarray:
        """src_video as the model gets it, uint8 [T,H,W,3]."""
        from vace.conditioning.pixels import to_pixels

        return to_pixels(self.row.frames)

    @cached_property
    def kept(self) -> np.ndarray:
        """Pixels that are given and shall stay, bool [T,H,W]."""
        return self.row.mask[0].numpy() < 0.5

    @cached_property
    def kept_frames(self) -> np.ndarray:
        """Frames that are kept whole, bool [T]."""
        return self.kept.all(axis=(1, 2))

    @property
    def control(self) -> str | None:
        """Which control leads the clip, in a task that is one or is composed with one."""
        words = (self.row.task, *(self.row.mode or "").split(","))
        return next((name for name in CONTROLS if name in words), None)

    @cached_property
    def led(self) -> np.ndarray | None:
        """Where the control leads, bool [T,H,W]; None: everywhere."""
        return ~self.kept if self.row.task == COMPOSED else None

    @cached_property
    def wanted(self) -> np.ndarray:
        """What the control asks for: its picture's first channel, uint8 [T,H,W]; of flow the vectors it was drawn from.

        In a composition, where the condition holds other things too, it is drawn from the clip once more.
        """
        if self.control == "flow":
            return self.flow_of(self.row.clip.frames)
        return self.drawn(self.control, self.row.clip.frames) if self.row.task == COMPOSED else self.condition[..., 0]

    def flow_of(self, frames: np.ndarray) -> np.ndarray:
        return self.networks.get("flow").flows(frames[:-1], frames[1:])

    def drawn(self, annotator: str, frames: np.ndarray) -> np.ndarray:
        """What the annotator makes of a clip, its first channel: uint8 [T,H,W]."""
        from vace.annotators import get
        from vace.media.clip import ArrayClip

        networks = {} if annotator == "gray" else {"networks": self.networks}
        result = get(annotator)(frames=ArrayClip(frames), **networks)
        return np.concatenate([chunk.frames[..., 0] for chunk in result.chunks])

    def things(self, names: tuple[str, ...] | None = None):
        """(index, thing) of what the row is about, else of all that its world shows; names: only of these."""
        all_things = self.row.clip.world.things
        for n in self.row.things or range(len(all_things)):
            if names is None or all_things[n].name in names:
                yield n, all_things[n]


Take = Callable[[Asked, np.ndarray], "float | None"]


@dataclass(frozen=True)
class Measure:
    """take: (Asked, output) -> number. unit: dB, levels, px, or "" for shares and correlations. is_better_high: which
    way is up. is_control: whether the task's control is a share of this measure's way from no context to the truth."""

    name: str
    help: str
    take: Take
    unit: str = ""
    is_better_high: bool = True
    is_control: bool = False


def _mean(values) -> float | None:
    values = [float(value) for value in values if value is not None]
    return float(np.mean(values)) if values else None


# The controls.


def _gray(asked: Asked, made: np.ndarray) -> float | None:
    return scores.correlation(asked.drawn("gray", made), asked.wanted, asked.led)


def _relief(maps: np.ndarray) -> np.ndarray:
    """Depth without what every row of pixels has in common: any picture seems to rise to its head."""
    maps = maps.astype(np.float32)
    return maps - maps.mean(axis=2, keepdims=True)


def _depth(asked: Asked, made: np.ndarray) -> float | None:
    return scores.correlation(_relief(asked.drawn("depth", made)), _relief(asked.wanted), asked.led)


def _scribble(asked: Asked, made: np.ndarray) -> float | None:
    return scores.line_f1(asked.drawn("scribble", made), asked.wanted, LINE_REACH * asked.scale, asked.led)


def _flow(asked: Asked, made: np.ndarray) -> float | None:
    return scores.flow_agreement(asked.flow_of(made), asked.wanted, asked.led)


def _flow_error(asked: Asked, made: np.ndarray) -> float | None:
    return scores.flow_error(asked.flow_of(made), asked.wanted)


def _pose(asked: Asked, made: np.ndarray) -> float | None:
    return _mean(
        scores.mask_iou(judge.find(made, thing.colour), asked.row.clip.masks[:, n])
        for n, thing in asked.things((PUPPET,))
    )


def _layout(asked: Asked, made: np.ndarray) -> float | None:
    return _mean(
        scores.box_iou(boxes_of(_found(made, thing.colour)), asked.row.clip.boxes[:, n]) for n, thing in asked.things()
    )


def _found(made: np.ndarray, colour: str) -> np.ndarray:
    masks = judge.find(made, colour)
    return np.zeros(made.shape[:3], bool) if masks is None else masks


_TAKES: dict[str, Take] = {"gray": _gray, "depth": _depth, "scribble": _scribble, "flow": _flow, "pose": _pose}


def _any_control(asked: Asked, made: np.ndarray) -> float | None:
    return _TAKES[asked.control](asked, made) if asked.control else None


# What is kept, and what is made beside it.


def _kept(asked: Asked, made: np.ndarray) -> float | None:
    return scores.psnr(made, asked.target, asked.kept) if asked.kept.any() else None


def _made(asked: Asked, made: np.ndarray) -> float | None:
    return scores.blurred_error(made, asked.target, ~asked.kept, BLUR * asked.scale)


def _next(asked: Asked, made: np.ndarray) -> float | None:
    """The frames beside the kept ones against the truth."""
    kept = asked.kept_frames
    if kept.all() or not kept.any():
        return None
    near = np.convolve(kept, np.ones(2 * NEAR + 1), "same") > 0
    at = near & ~kept
    return scores.blurred_error(made[at], asked.target[at], None, BLUR * asked.scale)


def _seam(asked: Asked, made: np.ndarray) -> float | None:
    return scores.seam(made, asked.target, asked.kept)


def _jump(asked: Asked, made: np.ndarray) -> float | None:
    return scores.jump(made, asked.target, asked.kept_frames)


# What the prompt and the references name.


def _colours(asked: Asked, made: np.ndarray) -> float | None:
    """The share of the things named whose colour is among the clip's commonest, as many as it has things."""
    if not asked.said:
        return None
    seen = _commonest(made, len(asked.row.clip.world.things))
    return _mean(said.colour in seen for said in asked.said)


def _purity(asked: Asked, made: np.ndarray) -> float | None:
    """Of the pixels that have a colour, the share that has one of those named."""
    if not asked.said:
        return None
    shares = judge.colour_shares(made)
    total = sum(shares.values())
    return sum(shares[colour] for colour in {said.colour for said in asked.said}) / total if total else 0.0


def _commonest(made: np.ndarray, count: int) -> list[str]:
    shares = judge.colour_shares(made)
    return [name for name in sorted(shares, key=shares.get, reverse=True)[:count] if shares[name] > 0]


def _shape(asked: Asked, made: np.ndarray) -> float | None:
    """Whether the commonest thing in sight is the one shape that the prompt names."""
    if len(asked.said) != 1 or asked.said[0].name not in KINDS["shape"]:
        return None
    return float(judge.shape_of(made) == asked.said[0].name)


def _colour_there(asked: Asked, made: np.ndarray) -> float | None:
    """The share of the things whose colour is found where they truly are, in what is made."""
    found = []
    for n, thing in asked.things():
        where = asked.row.clip.masks[:, n] & ~asked.kept
        if where.sum() >= LEAST_SEEN * len(made) * asked.scale**2:
            found.append(judge.colour_of(made, where) == thing.colour)
    return _mean(found)


def _reference_colour(asked: Asked, made: np.ndarray) -> float | None:
    seen = _commonest(made, len(asked.row.clip.world.things))
    return _mean(thing.colour in seen for _, thing in asked.things())


def _reference_shape(asked: Asked, made: np.ndarray) -> float | None:
    """The share of the things whose silhouette, found by their colour, is theirs; puppets have none of their own."""
    found = []
    for _, thing in asked.things():
        if thing.kind != PUPPET:
            found.append(judge.shape_of(made, colour=thing.colour, names=KINDS[thing.kind]) == thing.name)
    return _mean(found)


def _look(asked: Asked, made: np.ndarray) -> float | None:
    """How far the mean colour of what is found is from that of the thing itself, in levels: shade and texture."""
    found = []
    for n, thing in asked.things():
        truly = asked.row.clip.masks[:, n]
        if truly.any():
            masks = _found(made, thing.colour)
            mean = made[masks].mean(axis=0) if masks.any() else made.mean(axis=(0, 1, 2))
            found.append(np.abs(mean - asked.target[truly].mean(axis=0)).mean())
    return _mean(found)


COLOURS = Measure("colour", "things named in the prompt whose colour is found", _colours)
PURITY = Measure("purity", "of the coloured pixels, those in a colour named in the prompt", _purity)
COLOUR_THERE = Measure("colour in place", "things whose colour is found where they are", _colour_there)
SHAPE = Measure("shape", "the shape named in the prompt is found", _shape)
KEPT = Measure("kept", "kept pixels, straight from the model, against the given ones", _kept, "dB")
MADE = Measure("made", "made pixels against the truth, blurred", _made, "levels", is_better_high=False)
NEXT = Measure("next", "the frames beside the kept ones against the truth, blurred", _next, "levels", False)
SEAM = Measure("seam", "contrast across the border beyond the truth's", _seam, "levels", False)
JUMP = Measure("jump", "change from kept to made frames beyond the truth's", _jump, "levels", False)
REFERENCE_COLOUR = Measure("reference colour", "things of the references whose colour is found", _reference_colour)
REFERENCE_SHAPE = Measure("reference shape", "things of the references whose shape is found", _reference_shape)
LOOK = Measure("look", "mean colour of the thing found against the thing itself", _look, "levels", False)
BOXES = Measure("boxes", "boxes round the things, found by their colour, against those drawn: IoU", _layout)
COMPOSED_CONTROL = Measure("control", "the measure of the control that leads, where it does", _any_control)


def _control(measure: Measure) -> Measure:
    return replace(measure, is_control=True)


def _led(name: str, text: str) -> Measure:
    return Measure(name, text, _TAKES[name], is_control=True)


MEASURES: Mapping[str, tuple[Measure, ...]] = MappingProxyType({
    "txt2vid": (COLOURS, SHAPE, PURITY),
    "plain": (MADE, COLOUR_THERE),
    "gray": (_led("gray", "brightness against the condition: correlation"), COLOUR_THERE),
    "depth": (_led("depth", "depth of the output against the condition, each less its rows' means: correlation"),
              COLOUR_THERE),
    "scribble": (_led("scribble", "lines of the output against the condition, a pixel and a half of play: F1"),
                 COLOUR_THERE),
    "flow": (_led("flow", "motion of the output against the footage's: cosine, free of speed"),
             Measure("flow error", "the same in pixels a frame", _flow_error, "px", False), COLOURS),
    "pose": (_led("pose", "silhouette of the puppet, found by its colour, against the true one: IoU"), COLOUR_THERE),
    "layout": (_control(BOXES), COLOURS),
    "inpainting": (_control(MADE), KEPT, SEAM, COLOUR_THERE),
    "outpainting": (_control(KEPT), _control(MADE), SEAM),
    "frameref": (_control(KEPT), _control(NEXT), JUMP),
    "clipref": (_control(KEPT), _control(NEXT), JUMP),
    "reference": (REFERENCE_COLOUR, REFERENCE_SHAPE, LOOK),
    "swap": (KEPT, MADE, SEAM, REFERENCE_COLOUR, REFERENCE_SHAPE, LOOK),
    "move": (KEPT, NEXT, BOXES, COLOURS),
    "control_reference": (COMPOSED_CONTROL, REFERENCE_COLOUR, REFERENCE_SHAPE, LOOK),
    "expand": (KEPT, MADE, SEAM, REFERENCE_COLOUR, LOOK),
    COMPOSED: (KEPT, MADE, COMPOSED_CONTROL, COLOUR_THERE),
})  # fmt: skip
CONTROL_TASKS = tuple(task for task, row in MEASURES.items() if any(measure.is_control for measure in row))


def measured(asked: Asked, made: np.ndarray) -> dict[str, float | None]:
    """Every measure of the row's task on one output."""
    return {measure.name: measure.take(asked, made) for measure in MEASURES[asked.row.task]}
