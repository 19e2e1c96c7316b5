"""What a recipe of training rows gives: the files of `vace preprocess`, in memory, and the truth."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vace.training.rendering import Clip
from vace.training.rows_world import Asked


@dataclass(frozen=True)
class Draft:
    """What `vace preprocess` would have written, and the truth.

    video: uint8 [T,h,w,3] at the material's size. masks: uint8 [T,h,w]; None: all is made. images: references, RGB
    uint8. row: of the task table, which says what lies under white. The others are as in `rows.Row`; target and prompt
    None: the clip's frames and caption.
    """

    clip: Clip
    video: np.ndarray | None = None
    masks: np.ndarray | None = None
    images: Sequence[np.ndarray] = ()
    row: str | None = None
    mode: str | None = None
    source: np.ndarray | None = None
    things: tuple[int, ...] = ()
    prompt: str | None = None
    target: np.ndarray | None = None


@dataclass(frozen=True)
class Recipe:
    """weight: how often it is drawn against the others. make: what makes its rows. needs_time: none of one frame."""

    weight: float
    make: Callable[[Asked], Draft]
    needs_time: bool = False


@functools.cache
def networks():
    """What set-up installs, once per process: nothing to download, the same on every machine."""
    from vace.annotators.networks import Networks

    return Networks("embedded")


def annotated(name: str, **given) -> tuple[np.ndarray, np.ndarray | None]:
    """(frames uint8 [T,h,w,3], masks uint8 [T,h,w] or None) of an annotator."""
    from vace import annotators

    result = annotators.get(name)(**given)
    chunks = list(result.chunks)
    masks = np.concatenate([chunk.masks for chunk in chunks]) if result.has_masks else None
    return np.concatenate([chunk.frames for chunk in chunks]), masks


def clip_of(frames: np.ndarray):
    from vace.media.clip import ArrayClip

    return ArrayClip(np.ascontiguousarray(frames))


def mask_of(masks: np.ndarray):
    from vace.media.mask import ArrayMask

    return ArrayMask(masks)
