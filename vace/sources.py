"""src_video, src_mask and src_ref_images from disk to the tensors the model is led by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vace.conditioning.plan import FramePlan, plan_frames
from vace.conditioning.sizes import fit_area, source_frames, token_count
from vace.errors import InputError
from vace.media.clip import SelectedClip
from vace.runs import SCHEMA, split_list
from vace.settings import Settings

log = logging.getLogger("vace")

HINTS = ("time", "under_mask", "filler", "networks")


@dataclass
class Sources:
    """What the user gave to be led by, opened. hints: what the manifest beside src_video says of it."""

    video: object | None = None
    mask: object | None = None
    refs: list[np.ndarray] = field(default_factory=list)
    files: list[tuple[str, Path]] = field(default_factory=list)
    hints: dict = field(default_factory=dict)

    def close(self) -> None:
        for item in (self.video, self.mask):
            if hasattr(item, "close"):
                item.close()


@dataclass(frozen=True)
class Shape:
    """What the model will see. count: frames of the result; model_count: frames made; frames: the plan, if footage."""

    width: int
    height: int
    count: int
    model_count: int
    tokens: int
    fps: float
    frames: FramePlan | None = None


def one_file(flag: str, value) -> Path | None:
    """The single file a flag names (as a string, a path or a list of one), or None."""
    names = [value] if isinstance(value, Path) else split_list(value, files=True)
    if len(names) > 1:
        raise InputError(f"--{flag}: {len(names)} files given, one is taken; two go with --task composition")
    return Path(names[0]) if names else None


def open_sources(src_video, src_mask, src_ref_images, allow_truncated: bool = False) -> Sources:
    """Open what is given. Raises InputError for a mask without a video and for files that cannot be read or belong
    together (aspect, length).
    """
    from vace.conditioning.context import check_pair
    from vace.media.image import read_image
    from vace.media.mask import open_mask
    from vace.media.video import VideoReader

    video, mask = one_file("src_video", src_video), one_file("src_mask", src_mask)
    if mask is not None and video is None:
        raise InputError(f"--src_mask {mask}: a mask without a video; give the video it belongs to with --src_video")
    sources = Sources()
    try:
        if video is not None:
            sources.video = VideoReader(video, allow_truncated=allow_truncated)
            sources.files.append(("src_video", video))
            sources.hints = read_hints(video)
        if mask is not None:
            sources.mask = open_mask(mask, allow_truncated=allow_truncated)
            sources.files.append(("src_mask", mask))
            clip = sources.video
            check_pair(
                (clip.width, clip.height), clip.frame_count,
                (sources.mask.width, sources.mask.height), sources.mask.frame_count, str(mask),
            )  # fmt: skip
        for path in split_list(src_ref_images, files=True):
            sources.refs.append(read_image(path))
            sources.files.append(("src_ref_images", Path(path)))
    except BaseException:
        sources.close()
        raise
    return sources


def read_hints(video: Path) -> dict:
    """What the manifest beside a prepared video says of it, if it is that very file: HINTS and its task; else {}."""
    from vace.media.manifest import read_json, sha256_file

    path = video.parent / "manifest.json"
    if not path.is_file():
        return {}
    try:
        manifest = read_json(path)
    except InputError:
        log.warning("%s is not readable as JSON: %s is taken as raw footage", path, video.name)
        return {}
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        return {}
    outputs = manifest.get("outputs")
    for record in outputs if isinstance(outputs, list) else []:
        if record.get("role") == "src_video" and record.get("name") == video.name:
            if record.get("sha256") != sha256_file(video):
                log.warning("%s is not the file its manifest describes any more: taken as raw footage", video)
                return {}
            hints = {key: manifest[key] for key in HINTS if key in manifest}
            return hints | {"task": (manifest.get("parameters") or {}).get("task")}
    return {}


def plan_shape(sources: Sources, settings: Settings) -> Shape:
    """Size and frames for these sources. Raises InputError where they cannot be (see plan_frames)."""
    base, area = settings.base, settings.area
    refs = len(sources.refs)
    if sources.video is None:
        tokens = token_count(area.width, area.height, settings.frame_num, refs, base.stride)
        return Shape(area.width, area.height, settings.frame_num, settings.frame_num, tokens, settings.fps)
    clip, hints = sources.video, sources.hints
    width, height = fit_area(clip.width, clip.height, area.area, base.stride, clip.name)
    exact = hints.get("time") == "model"  # --frame_policy is for raw footage
    plan = plan_footage(
        settings, clip, (clip.width, clip.height), "exact" if exact else settings.frame_policy,
        [tuple(span) for span in hints.get("filler", [])],
    )  # fmt: skip
    tokens = token_count(width, height, plan.model_count, refs, base.stride)
    return Shape(width, height, plan.count, plan.model_count, tokens, plan.fps, plan)


def plan_footage(settings: Settings, clip, size: tuple[int, int], policy: str, filler: Sequence = ()) -> FramePlan:
    """The frame plan of a clip whose frames enter at `size` (width, height), under the budget of `settings`."""
    base = settings.base
    return plan_frames(
        clip.timestamps,
        source_frames(*size, settings.area, base.stride, clip.name),
        policy=policy,
        fps=settings.fps,
        stride=base.frame_stride,
        frame_num=settings.asked_frames,
        filler=filler,
        keeps_pace=settings.keeps_pace,
        name=clip.name,
    )


def read_tensors(sources: Sources, shape: Shape, settings: Settings):
    """(frames [3,T,H,W] in -1..1, mask [1,T,H,W] in 0..1, references [[3,1,H,W]]) as the model sees them, float32."""
    from vace.conditioning import context, pixels

    crop = settings.base.crop_reference
    refs = [pixels.letterbox(crop(image), shape.width, shape.height) for image in sources.refs]
    if sources.video is None:
        return *context.empty_source(shape.model_count, shape.width, shape.height), refs
    frames = _read(pixels.video_from_chunks, sources.video, shape)
    if sources.mask is None:
        return frames, context.full_mask(shape.model_count, shape.width, shape.height), refs
    mask = _read(pixels.mask_from_chunks, sources.mask, shape)
    warnings = context.check_mask(mask)
    frames, more = context.neutral_fill(frames, mask, sources.hints.get("under_mask"), settings.fill_mask)
    for warning in warnings or more:  # of a mask that is all white the first says it all
        log.warning("%s", warning)
    return frames, mask, refs


def _read(reading, clip, shape: Shape):
    """The planned frames of a clip or mask as a tensor at the model's size; a still mask serves every frame."""
    chosen = clip if clip.frame_count == 1 else SelectedClip(clip, shape.frames.ids)
    return reading(chosen.chunks(), shape.width, shape.height, shape.model_count)
