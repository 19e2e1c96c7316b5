"""Composition: two prepared sources, each a src_video with its src_mask, made into one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vace.annotators.align import check_mask_size, fit_frames, fit_mask, same_aspect
from vace.annotators.base import Chunk, MaskClip, Result
from vace.annotators.streams import still_chunks, zip_chunks
from vace.errors import InputError, nearest
from vace.media.clip import Clip

REPAINT, EXTENSION, CONTROL = "repaint", "extension", "control"
KEPT = "kept"  # a control of which some frames are kept: what an extension and a control become
THRESHOLD = 127  # of masks read from files

_MEMBERS = {
    REPAINT: ("repaint", "inpainting", "inpainting_mask", "inpainting_bbox", "inpainting_masktrack",
              "inpainting_bboxtrack", "inpainting_label", "inpainting_caption", "outpainting", "outpainting_inner",
              "swap_anything"),
    EXTENSION: ("extension", "frameref", "clipref", "firstframe", "lastframe", "firstlastframe", "firstclip",
                "lastclip", "firstlastclip", "framerefext", "expand_anything"),
    CONTROL: ("control", "plain", "depth", "depthv2", "flow", "gray", "pose", "pose_body", "scribble", "layout",
              "layout_bbox", "layout_track", "animate_anything"),
    KEPT: ("kept", "move_anything"),
}  # fmt: skip
PROCESS_GROUPS = {name: group for group, names in _MEMBERS.items() for name in names}


def process_group(process_type: str) -> str:
    """The group (repaint, extension, control) of a process type: a group's own name or a task's.

    Raises InputError for a name of neither kind.
    """
    if process_type not in PROCESS_GROUPS:
        known = nearest(str(process_type), PROCESS_GROUPS)
        raise InputError(f"--process_type {process_type}: cannot be composed; {known}")
    return PROCESS_GROUPS[process_type]


def compose(
    v1: np.ndarray, m1: np.ndarray, v2: np.ndarray, m2: np.ndarray, type1: str, type2: str
) -> tuple[np.ndarray, np.ndarray]:
    """The rule: frames [t,H,W,3] and bool masks [t,H,W] (True = generate) of both sources -> frames and masks.

    An extension first: the second source where the first is to be made, its own frames elsewhere; generate where both
    do. A repainting with a control: the control where repainting happens. Any other pair: the second where it is to be
    made, the first elsewhere; generate where either does. Controls of which frames are kept, which only three layers
    and more have, are our own addition: these frames stay. Raises InputError for an unknown process type.
    """
    group1, group2 = process_group(type1), process_group(type2)
    if group1 == EXTENSION:
        return _pick(m1, v2, v1), m1 & m2
    if KEPT in (group1, group2) and REPAINT not in (group1, group2):
        return _compose_kept(v1, m1, v2, m2, group1, group2)
    if {group1, group2} in ({REPAINT, CONTROL}, {REPAINT, KEPT}):
        repaint, mask, control, kept = (v1, m1, v2, m2) if group1 == REPAINT else (v2, m2, v1, m1)
        return _pick(mask, control, repaint), mask & kept if KEPT in (group1, group2) else mask
    return _pick(m2, v2, v1), m1 | m2


def _compose_kept(v1, m1, v2, m2, group1: str, group2: str) -> tuple[np.ndarray, np.ndarray]:
    """Pairs without a repainting of which one is a control with kept frames: these stay, the first one's before any."""
    if group2 == EXTENSION:  # its frames are kept too, the control goes on between
        return _pick(m1, _pick(m2, v1, v2), v1), m1 & m2
    if group1 == CONTROL:
        return v2, m2
    return _pick(m1, v2, v1), m1 & m2


def _pick(masks: np.ndarray, white: np.ndarray, black: np.ndarray) -> np.ndarray:
    """The frames of `white` where `masks` (bool [t,H,W]) is True, of `black` elsewhere: [t,H,W,3]."""
    import cv2

    out = black.copy()
    for mask, source, target in zip(masks, white, out, strict=True):
        cv2.copyTo(source, np.ascontiguousarray(mask).view(np.uint8), target)
    return out


class Composition:
    """Two prepared sources in one, see `compose`; as long as the shorter.

    frames_1, frames_2: clips; the second is stretched to the first's size where the aspect agrees. masks_1, masks_2:
    their masks from files, above 127 = generate, one picture or one per frame; None only for a control, of which all is
    made. process_type_1, process_type_2: the task each was prepared by, or its group. Raises InputError for sizes of
    different aspect and masks that do not fit their clips.
    """

    def __call__(
        self,
        *,
        frames_1: Clip,
        frames_2: Clip,
        masks_1: MaskClip | None = None,
        masks_2: MaskClip | None = None,
        process_type_1: str,
        process_type_2: str,
    ) -> Result:
        size = (frames_1.width, frames_1.height)
        _check_sizes(frames_1, frames_2)
        first = _masks(frames_1, masks_1, process_type_1, size)
        second = _masks(frames_2, masks_2, process_type_2, size)
        chunks = _composed(frames_1, frames_2, first, second, process_type_1, process_type_2)
        return Result(chunks, min(frames_1.frame_count, frames_2.frame_count), *size, has_masks=True)


def _check_sizes(first: Clip, second: Clip) -> None:
    if not same_aspect((first.width, first.height), (second.width, second.height)):
        raise InputError(
            f"--src_video {second.name}: {second.width}x{second.height} is of another shape than "
            f"{first.name}, {first.width}x{first.height}; prepare both in one size"
        )


def _masks(clip: Clip, masks: MaskClip | None, process_type: str, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Chunks of bool masks [t,H,W] of `size` for `clip`."""
    group = process_group(process_type)
    if masks is None:
        if group != CONTROL:
            raise InputError(f"--src_mask: {clip.name} was made by {process_type}, which goes with a mask; give it too")
        return still_chunks(np.ones((size[1], size[0]), bool), clip.frame_count)
    check_mask_size((masks.width, masks.height), clip.width, clip.height, f"--src_mask {masks.name}")
    if masks.frame_count not in (1, clip.frame_count):
        raise InputError(
            f"--src_mask {masks.name}: {masks.frame_count} frames for the {clip.frame_count} of {clip.name}; "
            f"give {clip.frame_count} frames, or one picture for all"
        )
    if masks.frame_count == 1:
        return still_chunks(fit_mask(next(iter(masks.chunks()))[0], *size) > THRESHOLD, clip.frame_count)
    return (np.stack([fit_mask(mask, *size) for mask in chunk]) > THRESHOLD for chunk in masks.chunks())


def _composed(
    frames_1: Clip,
    frames_2: Clip,
    masks_1: Iterator[np.ndarray],
    masks_2: Iterator[np.ndarray],
    type1: str,
    type2: str,
) -> Iterator[Chunk]:
    second = (fit_frames(chunk, frames_1.width, frames_1.height) for chunk in frames_2.chunks())
    for v1, v2, m1, m2 in zip_chunks(frames_1.chunks(), second, masks_1, masks_2):
        frames, mask = compose(v1, m1, v2, m2, type1, type2)
        yield Chunk(frames, mask.astype(np.uint8) * np.uint8(255))
