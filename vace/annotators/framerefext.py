"""Some frames of a clip kept in their places, all others to be made."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vace.annotators.base import Chunk, Result
from vace.annotators.frameref import FILLER, filler_ranges
from vace.errors import InputError, nearest
from vace.media.clip import Clip

MODES = ("first", "last", "firstlast", "random")
Config = str | Mapping | Sequence[Mapping]


def choose_mode(ref_cfg: Config | None, rng: random.Random) -> str:
    """The mode to use: the given one, or one drawn from several ({"mode": name, "proba": weight}; None: all, evenly).

    One draw is made in any case, as in the original. Raises InputError for an unknown mode.
    """
    if ref_cfg is None:
        ref_cfg = [{"mode": mode} for mode in MODES]
    elif isinstance(ref_cfg, str):
        ref_cfg = [{"mode": ref_cfg}]
    elif isinstance(ref_cfg, Mapping):
        ref_cfg = [ref_cfg]
    mode = rng.choices(list(ref_cfg), weights=[entry.get("proba", 1) for entry in ref_cfg])[0].get("mode")
    if mode not in MODES:
        raise InputError(f"--ref_cfg {mode}: there is no such choice of frames; {nearest(str(mode), MODES)}")
    return mode


def kept_indices(mode: str, ref_num: int, frame_count: int, rng: random.Random) -> list[int]:
    """Which of `frame_count` frames stay: the first, the last, or either `ref_num` of them, or as many at random."""
    count = min(ref_num, frame_count)
    if mode == "random":
        return sorted(rng.sample(range(frame_count), count))
    first = range(count) if mode in ("first", "firstlast") else ()
    last = range(frame_count - count, frame_count) if mode in ("last", "firstlast") else ()
    return sorted({*first, *last})


class FrameRefExt:
    """The clip with only some of its frames left, gray (127) for the others, and masks that say which.

    ref_num: how many frames stay (on each side, for firstlast). ref_cfg: first, last, firstlast or random; None draws
    one of the four. All is drawn from seed, where the original draws differently on every run. Result.filler holds the
    gray ranges. Raises InputError for an unknown ref_cfg and ref_num < 1.
    """

    def __call__(self, *, frames: Clip, ref_num: int = 1, ref_cfg: Config | None = None, seed: int = 0) -> Result:
        if ref_num < 1:
            raise InputError(f"--ref_num {ref_num}: give the number of frames to keep, 1 or more")
        rng = random.Random(seed)
        indices = kept_indices(choose_mode(ref_cfg, rng), int(ref_num), frames.frame_count, rng)
        result = Result(_blanked(frames, indices), frames.frame_count, frames.width, frames.height, has_masks=True)
        result.filler = filler_ranges(indices, frames.frame_count)
        return result


def _blanked(frames: Clip, indices: Sequence[int]) -> Iterator[Chunk]:
    kept, start = set(indices), 0
    for chunk in frames.chunks():
        blank = np.array([start + i not in kept for i in range(len(chunk))])
        out, masks = chunk.copy(), np.zeros(chunk.shape[:3], np.uint8)
        out[blank], masks[blank] = FILLER, 255
        yield Chunk(out, masks)
        start += len(chunk)
