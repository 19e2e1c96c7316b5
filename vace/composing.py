"""What a composition needs to know of its two prepared sources: a common clock, and where neither gives anything."""

from __future__ import annotations

import logging

from vace.annotators.composition import EXTENSION, process_group
from vace.conditioning.plan import plan_whole
from vace.errors import InputError
from vace.materials import Materials
from vace.media.clip import SelectedClip
from vace.sources import read_hints

log = logging.getLogger("vace")

SAME_RATE = 0.01  # rates closer than this part are one rate


def match_sources(materials: Materials, types: tuple[str, str]) -> None:
    """Bring both sources to one rate, and note the outcome's time, rate and filler in `materials`.

    Where one was made for the model frame by frame, footage beside it is played at the model's rate; two pieces of
    footage play at the first one's. Sources made for the model are paired frame by frame.
    """
    hints = [read_hints(path) for flag, path in materials.files if flag == "src_video"]
    is_made = [hint.get("time") == "model" for hint in hints]
    arguments = materials.arguments
    rate = materials.model_fps if any(is_made) else arguments["frames_1"].fps
    for number, made in enumerate(is_made, 1):
        clip = arguments[f"frames_{number}"]
        mask = arguments.get(f"masks_{number}")
        if mask is not None and mask.frame_count not in (1, clip.frame_count):
            counts = f"{mask.frame_count} frames for the {clip.frame_count} of {clip.name}"
            raise InputError(f"--src_mask {mask.name}: {counts}; give one mask frame per video frame, or one picture")
        if made or abs(clip.fps - rate) <= SAME_RATE * rate:
            continue
        plan = plan_whole(clip.timestamps, rate, clip.name)
        log.info("%s: %s", clip.name, plan.describe())
        arguments[f"frames_{number}"] = SelectedClip(clip, plan.ids, rate)
        if mask is not None and mask.frame_count == clip.frame_count > 1:
            arguments[f"masks_{number}"] = SelectedClip(mask, plan.ids, rate)
    counts = [arguments["frames_1"].frame_count, arguments["frames_2"].frame_count]
    for hint, name, clip in zip(hints, types, (arguments["frames_1"], arguments["frames_2"]), strict=True):
        kept = set(range(clip.frame_count)) - (_frames(hint, clip.frame_count) if "filler" in hint else set())
        if process_group(name) == EXTENSION and "filler" in hint and max(kept, default=-1) >= min(counts):
            raise InputError(
                f"--src_video: {counts[0]} and {counts[1]} frames; as long as the shorter, the composition would lose "
                f"frames that {clip.name} keeps; prepare both in one length (--expand_num)"
            )
    if counts[0] != counts[1]:
        log.info("sources of %d and %d frames: the composition has %d", *counts, min(counts))
    materials.time, materials.fps = ("model" if any(is_made) else "footage"), rate
    materials.filler = _filler(hints, types, min(counts))


def _filler(hints: list[dict], types: tuple[str, str], count: int) -> list[tuple[int, int]]:
    """Frame ranges of the outcome that the extension among the sources leaves to be made (all of both, for two)."""
    made = [
        _frames(hint, count) if process_group(name) == EXTENSION else None
        for hint, name in zip(hints, types, strict=True)
    ]
    parts = [frames for frames in made if frames is not None]
    if not parts:
        return []
    frames = sorted(set.intersection(*parts))
    starts = [frame for frame in frames if frame - 1 not in frames]
    stops = [frame + 1 for frame in frames if frame + 1 not in frames]
    return list(zip(starts, stops, strict=True))


def _frames(hint: dict, count: int) -> set[int]:
    return {frame for start, stop in hint.get("filler", []) for frame in range(start, min(stop, count))}
