"""Which frames of a source the model sees: time stamps in, frame ids out, as pure arithmetic.

Time stamps are float32 [N,2]: when each frame is first and last shown, in seconds, as the video reader gives them.
A model that covers `stride` frames with one latent frame takes stride*n + 1 frames (Wan 4n+1, LTX 8n+1).
`vace.conditioning.plan` decides between these rules.
"""

from __future__ import annotations

import math

import numpy as np

from vace.errors import InputError

MODEL_FPS = 16.0  # Wan; LTX plays at 25
CLOCK_TICK = 1e-3  # seconds: containers such as Matroska round a frame's time to a millisecond


def constant_timestamps(count: int, fps: float) -> np.ndarray:
    """Time stamps of `count` frames at a constant rate, float32 [count,2]."""
    edges = np.arange(count + 1) / fps
    return np.stack([edges[:-1], edges[1:]], axis=1).astype(np.float32)


def is_valid_count(count: int, stride: int = 4) -> bool:
    """Whether the model takes exactly `count` frames."""
    return count >= 1 and (count - 1) % stride == 0


def padded_count(count: int, stride: int = 4) -> int:
    """The least number of frames, at least `count`, that the model takes."""
    return math.ceil((count - 1) / stride) * stride + 1


def nearest_counts(count: int, stride: int = 4) -> tuple[int, int]:
    """The largest count the model takes that is <= `count` (1 at least), and the least that is >= `count`."""
    if count < 1:
        return 1, 1
    return (count - 1) // stride * stride + 1, padded_count(count, stride)


def check_frame_num(count: int, stride: int = 4) -> int:
    """Return an explicit --frame_num if the model takes it, else raise InputError naming the nearest ones."""
    if is_valid_count(count, stride):
        return count
    below, above = nearest_counts(count, stride)
    near = f"{below}" if below == above else f"{below} or {above}"
    raise InputError(f"--frame_num {count} is not of the form {stride}n+1 that this model takes: use {near}")


def uniform_ids(timestamps: np.ndarray, max_count: int, stride: int = 4) -> list[int]:
    """The original's rule: the whole clip, first and last frame included, spread over what fits.

    Takes min(N, max_count) cut to stride*n + 1 frames at equal times from 0 to the middle of the last frame, in float32
    (the original's arithmetic decides which frame a time on a boundary falls into). Where the original found no frame
    for a time (a gap between frames) and fell back to the first one, the frame shown before the gap is taken.
    """
    stamps = _from_zero(timestamps)
    count = min(nearest_counts(len(stamps), stride)[0], nearest_counts(max_count, stride)[0])
    times = np.zeros(count, dtype=np.float32)
    if count > 1:
        last = _middle_of_last(stamps)
        times = np.arange(count, dtype=np.float32) * (last / np.float32(count - 1))
        times[-1] = last
    # the first frame not yet over at that time, an end belonging to the frame it ends
    ids = np.searchsorted(np.maximum.accumulate(stamps[:, 1]), times, side="left")
    return _step_back_over_gaps(stamps, ids, times)


def uniform_fps(timestamps: np.ndarray, count: int) -> float:
    """The frame rate at which `count` frames of `uniform_ids` would play at the source's speed."""
    return float(count / _middle_of_last(_from_zero(timestamps)))


def opening_ids(timestamps: np.ndarray, fps: float, max_fps: float, max_count: int, stride: int = 4) -> list[int]:
    """The original's other rule (its `keep_last` off): the opening of the clip at min(fps, max_fps).

    Takes stride*n + 1 frames, as many as the clip lasts and `max_count` allows, spread over count / rate seconds. No
    published profile turns it on, and no policy of ours uses it: `resample_ids` is the one that keeps exact time.
    Raises InputError for a clip too short for one frame at that rate (the original: division by zero).
    """
    stamps = _from_zero(timestamps)
    rate = min(fps, max_fps)
    lasting = int(_middle_of_last(stamps) * rate)
    if lasting < 1:
        raise InputError(f"src_video lasts less than one frame at {rate:g} frames a second: give a longer video")
    count = min(nearest_counts(lasting, stride)[0], nearest_counts(max_count, stride)[0])
    times = np.linspace(0.0, count / rate, count)
    return (np.searchsorted(stamps[:, 0], times, side="right") - 1).tolist()


def resample_ids(
    timestamps: np.ndarray, target_fps: float, max_count: int | None = None, start: float = 0.0
) -> list[int]:
    """Frames that play at `target_fps` with the source's speed: for each time start + k/target_fps, the frame shown.

    The frame shown at a time is the last one that began by then, so variable frame rates come out right; a frame that
    begins within a clock tick counts as begun. The first frame is always taken at start 0; nothing is taken past the
    end. Ids repeat where the source is slower than `target_fps`. `start` is in seconds from the first frame.
    Raises InputError where the clip ends before `start`.
    """
    stamps = _from_zero(timestamps).astype(np.float64)
    length = stamps[-1, 1] - start
    if start > 0 and length <= 0:
        raise InputError(f"src_video ends at {stamps[-1, 1]:.2f} s, before the start at {start:g} s: start earlier")
    count = max(1, math.ceil((length - CLOCK_TICK) * target_fps))
    if max_count is not None:
        count = min(count, max_count)
    times = start + np.arange(count) / target_fps
    ids = np.searchsorted(stamps[:, 0], times + CLOCK_TICK, side="right") - 1
    if start == 0:
        ids[0] = 0  # also where the second frame begins within a tick
    return ids.tolist()


def thin_filler(is_filler: np.ndarray, limit: int) -> list[int]:
    """Ids of the `limit` frames that stay when only filler is left out, the frames farthest from given ones first.

    So filler goes from the end where content leads, from the start where it follows, and from the middle between two
    given clips; given frames keep their order and the filler beside them.
    is_filler: bool [N], at least N - limit of them true.
    """
    positions, given = np.arange(len(is_filler)), np.flatnonzero(~is_filler)
    distance = positions + 1  # nothing given: the end goes first
    if len(given):
        right = np.searchsorted(given, positions)
        after = given[np.minimum(right, len(given) - 1)]
        before = given[np.maximum(right - 1, 0)]
        distance = np.minimum(np.abs(positions - after), np.abs(positions - before))
    farthest_first = np.lexsort((-positions, -distance))
    kept = farthest_first[max(0, len(positions) - limit) :]
    return np.sort(kept).tolist()


def _from_zero(timestamps: np.ndarray) -> np.ndarray:
    """Time stamps counted from the first frame; unchanged where it starts at 0."""
    stamps = np.asarray(timestamps, dtype=np.float32)
    return stamps - stamps[0, 0]


def _middle_of_last(stamps: np.ndarray) -> np.float32:
    return stamps[-1].mean(dtype=np.float32)


def _step_back_over_gaps(stamps: np.ndarray, ids: np.ndarray, times: np.ndarray) -> list[int]:
    ids = np.minimum(ids, len(stamps) - 1)
    early = stamps[ids, 0] > times
    return np.maximum(ids - early, 0).tolist()
