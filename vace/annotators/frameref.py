"""Extension: given pictures or clips at the beginning and/or the end, the time between them to be made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vace.annotators.align import AlignedClip
from vace.annotators.base import Chunk, Result
from vace.annotators.streams import still
from vace.errors import InputError, nearest
from vace.media.clip import ArrayClip, Clip, SelectedClip

FILLER = 127  # what stands for frames to be made; the original computes 127.5 and writes 127
DEFAULT_EXPAND_NUM = 80

MODES = {  # mode -> has something at the beginning, at the end
    "firstframe": (True, False),
    "lastframe": (False, True),
    "firstlastframe": (True, True),
    "firstclip": (True, False),
    "lastclip": (False, True),
    "firstlastclip": (True, True),
}


@dataclass(frozen=True)
class Part:
    """A stretch of the outcome: a clip with one mask for all its frames (uint8 [H,W], 0 = keep)."""

    clip: Clip
    mask: np.ndarray


def extension(first: Part | None, expand_num: int, last: Part | None, filler: int = FILLER) -> Result:
    """`first`, then `expand_num` frames of `filler` with white masks, then `last`; all clips of one size."""
    size = (first or last).clip
    count = sum(part.clip.frame_count for part in (first, last) if part)
    start = first.clip.frame_count if first else 0
    blank = Part(_filler_clip(size.width, size.height, expand_num, filler), _mask(size, 255))
    parts = [part for part in (first, blank, last) if part]
    result = Result(_run(parts), count + expand_num, size.width, size.height, has_masks=True)
    result.filler = [(start, start + expand_num)] if expand_num else []
    return result


def _run(parts: Sequence[Part]) -> Iterator[Chunk]:
    for part in parts:
        for chunk in part.clip.chunks():
            yield Chunk(chunk, still(part.mask, len(chunk)))


def _filler_clip(width: int, height: int, count: int, value: int) -> Clip:
    return ArrayClip(still(np.full((height, width, 3), value, np.uint8), count), name="filler")


def _mask(size: Clip, value: int) -> np.ndarray:
    return np.full((size.height, size.width), value, np.uint8)


def kept(clip: Clip) -> Part:
    """The whole clip, kept."""
    return Part(clip, _mask(clip, 0))


def picture(image: np.ndarray, name: str = "picture") -> Clip:
    """RGB uint8 [H,W,3] as a clip of one frame."""
    return ArrayClip(image[None], name=name)


def check_expand_num(expand_num: int) -> int:
    if isinstance(expand_num, bool) or expand_num != int(expand_num) or expand_num < 1:
        raise InputError(f"--expand_num {expand_num}: give a whole number of frames to make, 1 or more")
    return int(expand_num)


class FrameRef:
    """Pictures (*frame modes) or clips (*clip modes) kept where they are, `expand_num` gray frames to be made.

    images: one or two RGB uint8 [H,W,3]; clips: one or two. The second is fitted to the first's size on white.
    Lengths are the original's: 80 more than what is given, which is 81 or 82 frames for pictures. clip_frames keeps
    only that many frames of a clip: the last ones of a first clip, the first ones of a last clip. Result.filler holds
    the gray range. Raises InputError for an unknown mode, for pictures where clips are meant or the other way round,
    and for a wrong number of them.
    """

    def __call__(
        self,
        *,
        images: Sequence[np.ndarray] | None = None,
        clips: Sequence[Clip] | None = None,
        mode: str,
        expand_num: int = DEFAULT_EXPAND_NUM,
        clip_frames: int | None = None,
    ) -> Result:
        expand_num = check_expand_num(expand_num)
        given = _materials(mode, images, clips)
        has_first, has_last = MODES[mode]
        first = _last_frames(given[0], clip_frames) if has_first else None
        last = _first_frames(given[-1], clip_frames) if has_last else None
        if first and last:
            last = AlignedClip(last, first.width, first.height)
        return extension(kept(first) if first else None, expand_num, kept(last) if last else None)


def _materials(mode: str, images: Sequence[np.ndarray] | None, clips: Sequence[Clip] | None) -> list[Clip]:
    if mode not in MODES:
        raise InputError(f"--mode {mode}: there is no such mode; {nearest(str(mode), MODES)}")
    wants_clips = mode.endswith("clip")
    flag, other = ("--video", "--image") if wants_clips else ("--image", "--video")
    given, surplus = (clips, images) if wants_clips else (images, clips)
    given = list(given or [])
    if surplus and not given:
        kinds = ("clips, not pictures", "*frame") if wants_clips else ("pictures, not clips", "*clip")
        raise InputError(f"{other}: mode {mode} takes {kinds[0]}; give {flag}, or use one of the {kinds[1]} modes")
    needed = sum(MODES[mode])
    if len(given) != needed:
        example = "two, separated by a comma" if needed == 2 else "one"
        raise InputError(f"{flag}: {len(given)} given, mode {mode} takes {example}")
    return given if wants_clips else [picture(image) for image in given]


def _check_clip_frames(clip_frames: int | None, clip: Clip) -> int:
    if clip_frames is None:
        return clip.frame_count
    if clip_frames < 1:
        raise InputError(f"--clip_frames {clip_frames}: give the number of frames to keep of a clip, 1 or more")
    return min(clip_frames, clip.frame_count)


def _last_frames(clip: Clip, clip_frames: int | None) -> Clip:
    count = _check_clip_frames(clip_frames, clip)
    if count == clip.frame_count:
        return clip
    return SelectedClip(clip, range(clip.frame_count - count, clip.frame_count))


def _first_frames(clip: Clip, clip_frames: int | None) -> Clip:
    count = _check_clip_frames(clip_frames, clip)
    return clip if count == clip.frame_count else SelectedClip(clip, range(count))


def filler_ranges(kept_indices: Sequence[int], frame_count: int) -> list[tuple[int, int]]:
    """The [start, stop) ranges of 0..frame_count that hold none of `kept_indices` (ascending)."""
    edges = [-1, *kept_indices, frame_count]
    return [(a + 1, b) for a, b in zip(edges, edges[1:], strict=False) if b > a + 1]
