"""The frame plan: which frames of a source enter the model, how many it sees, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vace.conditioning.frames import (
    MODEL_FPS,
    check_frame_num,
    nearest_counts,
    padded_count,
    resample_ids,
    thin_filler,
    uniform_ids,
)
from vace.errors import InputError, nearest

POLICIES = {
    "auto": "the source's speed at the model's frame rate, cut at the end to what fits",
    "uniform": "the whole clip spread over what fits",
    "exact": "frame by frame, for files prepared for the model",
}
NO_LIMIT = 2**40  # frames
SAME_PACE = 0.01  # of the speed: less is no change
LEAST_FILLER = 4  # frames: one latent frame for the model to invent


@dataclass(frozen=True)
class FramePlan:
    """What a source becomes.

    ids: source frames in order, repeats possible; the result has as many frames.
    model_count: frames the model sees, stride*n + 1; the last of `ids` and its mask are repeated up to it.
    fps: frames a second of the result. seconds: length of the source. trimmed: seconds of it left out at the end.
    dropped: filler frames left out. asked: an explicit --frame_num.
    sound: (start, length) in seconds of the source's sound that belongs to the result; None where speed changed.
    """

    ids: tuple[int, ...]
    model_count: int
    fps: float
    policy: str
    source_count: int
    seconds: float
    trimmed: float = 0.0
    dropped: int = 0
    asked: int | None = None
    sound: tuple[float, float] | None = None

    @property
    def count(self) -> int:
        """Frames of the result."""
        return len(self.ids)

    @property
    def padding(self) -> int:
        """Frames to cut from the end of what the model made."""
        return self.model_count - self.count

    @property
    def model_ids(self) -> tuple[int, ...]:
        """Source frames as the model sees them, the last one repeated: `model_count` of them."""
        return self.ids + self.ids[-1:] * self.padding

    @property
    def keeps_duration(self) -> bool:
        """Whether the result is an unbroken piece of the source at the source's speed."""
        return self.sound is not None

    @property
    def source_fps(self) -> float:
        """Frames a second of the source, on average."""
        return self.source_count / self.seconds if self.seconds else self.fps

    def describe(self) -> str:
        """One line for people: what goes in, what comes out, what was left out."""
        source = f"{_frames(self.source_count)} at {self.source_fps:.4g} fps ({self.seconds:.1f} s)"
        return "; ".join([f"{source} -> {self.count} at {self.fps:g} fps, {self._pace()}", *self._notes()])

    def _pace(self) -> str:
        if self.policy == "exact":
            speed = self.fps / self.source_fps
            changes = self.source_count > 1 and abs(speed - 1) > SAME_PACE
            return f"one to one, at {speed:.2f}x speed" if changes else "one to one"
        if self.keeps_duration:
            return "at the source's speed"
        if self.count == 1:
            return "the first frame only"
        return f"the whole clip at {self.seconds * self.fps / self.count:.2f}x speed"

    def _notes(self) -> list[str]:
        notes = []
        if self.trimmed:
            reason = f"for --frame_num {self.asked}" if self.asked else "to fit the budget"
            notes.append(f"trimmed {self.trimmed:.1f} s at the end {reason}")
        if self.dropped:
            notes.append(f"{self.dropped} filler {'frame' if self.dropped == 1 else 'frames'} left out")
        if self.asked and self.count < self.asked:
            notes.append(f"shorter than the {self.asked} frames asked for")
        if self.padding:
            notes.append(f"padded to {self.model_count} for the model and cut back")
        return notes


def plan_frames(
    timestamps: np.ndarray,
    max_count: int,
    *,
    policy: str = "auto",
    fps: float = MODEL_FPS,
    stride: int = 4,
    frame_num: int | None = None,
    filler: Sequence[tuple[int, int]] = (),
    keeps_pace: bool = False,
    name: str = "src_video",
) -> FramePlan:
    """Decide which source frames the model sees.

    timestamps: float32 [N,2], seconds. max_count: the budget, from `sizes.source_frames` or `sizes.max_frames`; an
    explicit `frame_num` (stride*n + 1) takes its place. filler: [start, stop) ranges of a prepared file that hold no
    given content: over budget they go first, and given frames never; a prepared file without any is cut at the end.
    keeps_pace: under `uniform` and `exact` the result has the rate at which it lasts as long as the source, not `fps`
    (for models that are told the rate).
    Raises InputError for an unknown policy, a source without frames, a wrong `frame_num`, or a prepared file whose
    given frames leave no room for filler.
    """
    if policy not in POLICIES:
        raise InputError(f"--frame_policy '{policy}' is unknown: {nearest(policy, POLICIES)}")
    if len(timestamps) == 0:
        raise InputError(f"{name} holds no frames: give a video with at least one")
    limit = nearest_counts(max_count, stride)[0] if frame_num is None else check_frame_num(frame_num, stride)
    total, seconds = len(timestamps), float(timestamps[-1][1] - timestamps[0][0])
    trimmed, dropped = 0.0, 0
    if policy == "auto":
        wanted = resample_ids(timestamps, fps)
        ids = wanted[:limit]
        trimmed = (len(wanted) - len(ids)) / fps
    elif policy == "uniform":
        ids = uniform_ids(timestamps, limit, stride)
        fps = _own_rate(len(ids), seconds) if keeps_pace and seconds else fps
    else:
        ids = _exact_ids(total, limit, filler, name)
        fps = _own_rate(total, seconds) if keeps_pace and seconds else fps
        left_out = total - len(ids)
        dropped = left_out if len(filler) else 0
        trimmed = 0.0 if len(filler) else left_out * seconds / total
    return FramePlan(
        ids=tuple(ids),
        model_count=padded_count(len(ids), stride),
        fps=fps,
        policy=policy,
        source_count=total,
        seconds=seconds,
        trimmed=trimmed,
        dropped=dropped,
        asked=frame_num,
        sound=_sound(policy, ids, fps, total, seconds),
    )


def plan_whole(timestamps: np.ndarray, fps: float, name: str = "src_video") -> FramePlan:
    """All of a clip at `fps` with its own speed, however many frames that makes. As `plan_frames` otherwise."""
    return plan_frames(timestamps, NO_LIMIT, fps=fps, name=name)


def _own_rate(count: int, seconds: float) -> float:
    """The rate of `count` frames spread over a source of that length.

    The original divides by the time to the middle of the last frame instead, which runs a little fast: 25.13 for 97
    frames of a 25 fps clip, and 50 for a single frame.
    """
    return round(count / seconds, 3)


def _exact_ids(total: int, limit: int, filler: Sequence[tuple[int, int]], name: str) -> list[int]:
    if total <= limit or not filler:
        return list(range(min(total, limit)))
    is_filler = np.zeros(total, dtype=bool)
    for start, stop in filler:
        is_filler[start:stop] = True
    fillers = int(is_filler.sum())
    least = min(LEAST_FILLER, fillers)
    if total - fillers + least > limit:
        room = max(1, limit - LEAST_FILLER)
        raise InputError(
            f"{name} holds {_frames(total - fillers)} of given clips, and at this size the model takes {limit} in all: "
            f"the clips may have {room} together; shorten them with --clip_frames, or use a smaller --size"
        )
    return thin_filler(is_filler, limit)


def _sound(policy: str, ids: Sequence[int], fps: float, total: int, seconds: float) -> tuple[float, float] | None:
    """(start, length) of the source's sound for the result, where an unbroken piece keeps its speed (see SAME_PACE)."""
    length = len(ids) / fps
    if policy == "auto":
        return 0.0, min(length, seconds)
    frame = seconds / total
    spanned = seconds if policy == "uniform" else frame * len(ids)
    unbroken = policy == "uniform" or ids[-1] - ids[0] == len(ids) - 1
    if unbroken and abs(length - spanned) <= SAME_PACE * spanned:
        return ids[0] * frame, min(length, spanned)
    return None


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
