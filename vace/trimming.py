"""--frame_range: the footage cut to the frames that were asked for, before anything else sees it."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vace.errors import InputError
from vace.runs import split_list

if TYPE_CHECKING:
    from vace.materials import Materials

log = logging.getLogger("vace")

FLAG = "frame_range"
_FORM = re.compile(r"(\d*)\s*:\s*(\d*)")
Range = tuple[int | None, int | None]  # first and last frame, None for the clip's own


def parse_range(text: str, holds: str = "") -> Range:
    """'FIRST:LAST' as numbers. holds: what the clip has, for messages. Raises InputError for anything else."""
    match = _FORM.fullmatch(text.strip())
    if not match:
        raise InputError(
            f"--{FLAG} {text}: not FIRST:LAST{holds}; give frame numbers counted from 0, such as 10:90, 10: or :90"
        )
    first, last = (int(part) if part else None for part in match.groups())
    if first is not None and last is not None and first > last:
        raise InputError(f"--{FLAG} {text}: ends before it begins{holds}; the lower frame number comes first")
    return first, last


def resolve_range(text: str, count: int, name: str) -> tuple[int, int]:
    """The first and the last frame, both included, of a clip of `count` frames called `name`.

    Raises InputError for another form, and for frames that the clip does not have.
    """
    given = count_text(count)
    first, last = parse_range(text, f" ({name} holds {given})")
    first, last = first or 0, count - 1 if last is None else last
    if max(first, last) >= count:
        raise InputError(f"--{FLAG} {text}: beyond the end of {name}, which holds {given}; give frames it has")
    return first, last


def check_ranges(value: str | Sequence[str] | None) -> list[str]:
    """The ranges of the flag's value, each of the right form. Raises InputError."""
    texts = split_list(value)
    for text in texts:
        parse_range(text)
    return texts


def count_text(count: int) -> str:
    return f"{count} frames, 0 to {count - 1}" if count > 1 else "1 frame, 0"


def trim(materials: Materials, value: str | Sequence[str] | None) -> None:
    """Cut the footage in `materials`, and a mask that runs along with it, to the frames that `value` asks for.

    A mask with as many frames as the range stays as it is. Raises InputError where a range is none of its clip, and
    for more ranges than videos.
    """
    texts = split_list(value)
    clips = materials.arguments.get("clips") or ([materials.clip] if materials.clip is not None else [])
    if not texts or not clips:
        return
    if len(texts) not in (1, len(clips)):
        have = ", ".join(f"{clip.name} holds {count_text(clip.frame_count)}" for clip in clips)
        wanted = "one for all, or one each" if len(clips) > 1 else "one"
        raise InputError(f"--{FLAG} {','.join(texts)}: {len(texts)} given for {len(clips)} ({have}); give {wanted}")
    texts = texts * len(clips) if len(texts) == 1 else texts
    trimmed = [_trimmed(clip, text) for clip, text in zip(clips, texts, strict=True)]
    if "clips" in materials.arguments:
        materials.arguments["clips"] = trimmed
        return
    _trim_mask(materials, clips[0], trimmed[0])
    materials.arguments["frames"] = materials.clip = materials.source = trimmed[0]


def _trimmed(clip, text: str):
    from vace.media.trim import TrimmedClip

    first, last = resolve_range(text, clip.frame_count, clip.name)
    piece = TrimmedClip(clip, first, last)
    log.info("%s: frames %d to %d of %d, %.1f s from %.1f s", clip.name, first, last, clip.frame_count,
             piece.duration, piece.begins)  # fmt: skip
    return piece


def _trim_mask(materials: Materials, clip, piece) -> None:
    from vace.media.trim import TrimmedMask

    mask = materials.arguments.get("mask")
    if mask is not None and mask.frame_count == clip.frame_count != piece.frame_count:
        last = piece.first + piece.frame_count - 1
        materials.arguments["mask"] = TrimmedMask(mask, piece.first, last)
