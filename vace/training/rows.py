"""Rows to train and judge on: a world, and what a model is led by to make it, through the project's own annotators.

    row = make_row(7)                                   a task drawn by its weight
    row = make_row(7, split="held_out", task="depth")   a task of one's own

What a user's material goes through, a row's goes through too: the annotator of the task table, then `read_tensors`.
So a mask of the wrong polarity, a swapped half or a mis-trimmed reference would show in what a model learns. Nothing is
written to disk. A row is a function of the arguments alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from vace.conditioning.frames import is_valid_count
from vace.errors import InputError, nearest
from vace.training import rows_controls as controls
from vace.training import rows_edits as edits
from vace.training import rows_tasks as tasks
from vace.training.rendering import Clip
from vace.training.rows_draft import Draft, Recipe
from vace.training.rows_world import Asked
from vace.training.worlds import SPLITS

if TYPE_CHECKING:
    import torch

STEP = 16  # pixels that both sides are multiples of

TASKS: Mapping[str, Recipe] = MappingProxyType(
    {
        "txt2vid": Recipe(0.18, tasks.txt2vid),
        "plain": Recipe(0.01, controls.plain),
        "gray": Recipe(0.045, controls.gray),
        "depth": Recipe(0.065, controls.depth),
        "scribble": Recipe(0.07, controls.scribble),
        "flow": Recipe(0.075, controls.flow, needs_time=True),
        "pose": Recipe(0.075, controls.pose),
        "layout": Recipe(0.08, controls.layout),
        "inpainting": Recipe(0.11, edits.inpainting),
        "outpainting": Recipe(0.07, edits.outpainting),
        "frameref": Recipe(0.075, edits.frameref, needs_time=True),
        "clipref": Recipe(0.045, edits.clipref, needs_time=True),
        "reference": Recipe(0.12, tasks.reference),
        "swap": Recipe(0.06, tasks.swap),
        "move": Recipe(0.045, tasks.move, needs_time=True),
        "control_reference": Recipe(0.06, tasks.control_reference),
        "expand": Recipe(0.045, tasks.expand, needs_time=True),
        "composition": Recipe(0.04, tasks.composition, needs_time=True),
    }
)


@dataclass(frozen=True)
class Row:
    """One row. T frames of W x H model pixels.

    target: uint8 [T,H,W,3], the clip to be made; outside the mask it is `source`. frames: float32 [3,T,H,W] in -1..1,
    src_video as `read_tensors` gives it. mask: float32 [1,T,H,W], 0..1, 1 = generate. refs: float32 [3,1,H,W] each,
    letterboxed. source: uint8 [T,h,w,3], the footage that was given to the annotator (of outpainting the part that was
    there; in training at times twice the model's size); None where there is no footage: words, layout, references.
    clip: the truth of the world that is to be seen. things: which of its things are repainted, referenced, laid out or
    (pose) drawn; for references in their order.
    """

    task: str
    mode: str | None
    prompt: str
    target: np.ndarray
    frames: torch.Tensor
    mask: torch.Tensor
    refs: tuple[torch.Tensor, ...]
    source: np.ndarray | None
    clip: Clip
    things: tuple[int, ...]


def make_row(
    seed: int,
    *,
    split: str = "train",
    task: str | None = None,
    size: tuple[int, int] = (64, 64),
    frames: int = 17,
    objects: tuple[int, int] = (1, 2),
) -> Row:
    """The row of a seed (0 or more), of a key of TASKS or one drawn by their weights.

    size: (width, height), multiples of 16 from 48 on. frames: 4n+1, at least 9, or 1 for tasks that one frame says all
    of. objects: the fewest and the most things of the world; pose needs a puppet and takes its worlds by itself (see
    `rows_world.with_puppet`). Raises InputError for an unknown task or split and for a size or length that it cannot be
    made at.
    """
    _check(split, task, size, frames)
    if task is None:
        task = _drawn_task(seed, split, frames)
    rng = np.random.default_rng([seed, SPLITS.index(split), list(TASKS).index(task), 6])
    asked = Asked(rng, seed, split, (int(size[0]), int(size[1])), frames, objects)
    draft = TASKS[task].make(asked)
    video, mask, refs = _as_the_model_sees_it(draft, asked)
    target = draft.clip.frames if draft.target is None else draft.target
    prompt = draft.clip.caption if draft.prompt is None else draft.prompt
    return Row(task, draft.mode, prompt, target, video, mask, tuple(refs), draft.source, draft.clip, draft.things)


def _drawn_task(seed: int, split: str, frames: int) -> str:
    weights = np.array([recipe.weight * (frames > 1 or not recipe.needs_time) for recipe in TASKS.values()])
    rng = np.random.default_rng([seed, SPLITS.index(split), 5])
    return list(TASKS)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _check(split: str, task: str | None, size: tuple[int, int], frames: int) -> None:
    if split not in SPLITS:
        raise InputError(f"split '{split}' of training rows is unknown; {nearest(split, SPLITS)}")
    if task is not None and task not in TASKS:
        raise InputError(f"task '{task}' has no training rows; {nearest(task, TASKS)}")
    if len(size) != 2 or any(side < 3 * STEP or side % STEP for side in size):
        raise InputError(f"size {size} of training rows: give width and height as multiples of {STEP} from 48 on")
    if frames != 1 and (frames < 9 or not is_valid_count(frames)):
        raise InputError(f"{frames} frames of training rows: give 4n+1 of them, 9 at least, or one")
    if frames == 1 and task is not None and TASKS[task].needs_time:
        raise InputError(f"task '{task}' has no training rows of one frame: give it 9 frames or more")


def _as_the_model_sees_it(draft: Draft, asked: Asked) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """What `vace wan` makes of the files that `vace preprocess` would have written: (frames, mask, references)."""
    from vace import tasks as table
    from vace.bases import WAN
    from vace.media.clip import ArrayClip
    from vace.media.mask import ArrayMask
    from vace.sources import Shape, Sources, read_tensors

    (width, height), count = asked.size, asked.frames
    shape = Shape(width, height, count, count, 0, WAN.fps, SimpleNamespace(ids=range(count)))
    sources = Sources(refs=draft.images)
    if draft.row is not None:
        sources.hints = {"under_mask": table.TASKS[draft.row].under_mask}
    if draft.video is not None:
        sources.video = ArrayClip(draft.video)
        sources.mask = None if draft.masks is None else ArrayMask(draft.masks)
    return read_tensors(sources, shape, SimpleNamespace(base=WAN, fill_mask="auto"))
