"""Opening what the user brought for a task: files become clips, images, masks and boxes, as the task's row asks."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vace.annotators.base import Result
from vace.conditioning.frames import MODEL_FPS
from vace.conditioning.plan import FramePlan
from vace.errors import InputError
from vace.media.clip import Clip, SelectedClip
from vace.rows import Input, Task
from vace.runs import split_list
from vace.tasks import COMMON, NETWORK, TASKS
from vace.trimming import FLAG as FRAME_RANGE
from vace.trimming import trim

log = logging.getLogger("vace")


class Selector(Protocol):
    """Chooses the frames that will be used, so that only these are prepared; `vace.pipeline.ModelFrames` is one.

    fps: the model's frames a second.
    """

    fps: float

    def key(self) -> dict: ...

    def footage(self, clip: Clip, width: int, height: int) -> FramePlan: ...

    def clips(self, clips: list, clip_frames: int | None, expand_num: int) -> tuple[list[FramePlan], int | None]: ...

    def expand_num(self, result: Result, wanted: int) -> int: ...


@dataclass
class Materials:
    """arguments: keywords for the annotator. files: (flag, path) of every input. clip: the footage, if any."""

    arguments: dict = field(default_factory=dict)
    files: list[tuple[str, Path]] = field(default_factory=list)
    clip: Clip | None = None
    source: object | None = None
    selected: bool = False
    time: str | None = None  # of a composition: "footage" or "model"; fps and filler likewise
    fps: float | None = None
    model_fps: float = MODEL_FPS  # of what is made without footage
    filler: list[tuple[int, int]] | None = None
    sound: tuple[float, float] | None = None
    open: list = field(default_factory=list)

    def close(self) -> None:
        for item in self.open:
            if hasattr(item, "close"):
                item.close()


def open_materials(task: Task, mode: str | None, given: dict, *, allow_truncated: bool = False) -> Materials:
    """Open and check everything `task` takes in `mode`; given: flag name -> value as from the command line.

    Raises InputError for a missing or surplus input, for a file that cannot be read, and for a --frame_range it does
    not have.
    """
    materials = Materials()
    try:
        for item in task.inputs_for(mode):
            _open_one(item, task, mode, given, materials, allow_truncated)
        trim(materials, given.get(FRAME_RANGE))
    except BaseException:
        materials.close()
        raise
    return materials


MATERIAL_FLAGS = ("video", "image", "mask", "bbox", "label", "caption", "ref_mask", "ref_bbox", "ref_label",
                  "ref_caption", "src_video", "src_mask")  # fmt: skip
PARAMETER_FLAGS = tuple(dict.fromkeys(flag for task in TASKS.values() for flag in task.params))


def report_unused(task: Task, mode: str | None, given: dict, aside: tuple[str, ...] = ()) -> None:
    """Warn of every flag that was given and that `task` has no use for. aside: flags that serve something else."""
    inputs = task.inputs_for(mode)
    wanted = {item.instead if item.instead and not given.get(item.flag) else item.flag for item in inputs}
    takes = ", ".join(item.describe() for item in inputs) or "no materials"
    for flag in MATERIAL_FLAGS:
        if given.get(flag) and flag not in (*wanted, *task.params, *aside):
            log.warning("--%s is not used: task %s takes %s", flag, task.name, takes)
    for flag in PARAMETER_FLAGS:
        if flag in MATERIAL_FLAGS or flag in (*task.params, *COMMON, *aside):
            continue
        if given.get(flag) is not None:
            log.warning("--%s is not used: task %s has no such parameter", flag, task.name)


def missing(item: Input, task: Task, mode: str | None) -> InputError:
    """The error for an input that was not given."""
    with_mode = f" (mode {mode})" if mode else ""
    return InputError(
        f"--{item.flag}: task {task.name}{with_mode} needs {item.describe()}; see `vace tasks {task.name}`"
    )


def _open_one(item: Input, task: Task, mode: str | None, given: dict, into: Materials, allow_truncated: bool) -> None:
    flag = item.flag if given.get(item.flag) or not given.get(item.instead) else item.instead
    value = given.get(flag)
    if not value and item.low == 0:
        return
    if not value:
        raise missing(item, task, mode)
    kind = item.flag.removeprefix("ref_")
    if kind in ("bbox", "label", "caption"):
        into.arguments[item.flag] = _words(kind, value, item, task, flag)
        return
    paths = [Path(part) for part in split_list(value, files=True)]
    if not item.low <= len(paths) <= item.high:
        raise InputError(f"--{flag}: {len(paths)} given, task {task.name} takes {item.describe()}")
    into.files += [(flag, path) for path in paths]
    opened = [_open_file(item.flag, path, task, allow_truncated) for path in paths]
    into.open += opened
    _bind(item.flag, opened, task, into, given)


def _words(kind: str, value, item: Input, task: Task, flag: str):
    """Boxes, labels or captions, from the flag's text or list."""
    if kind == "bbox":
        from vace.annotators.boxes import parse_boxes

        return parse_boxes(value if isinstance(value, str) else " ".join(str(part) for part in value), f"--{flag}")
    words = split_list(value) if kind == "label" else [value] if isinstance(value, str) else list(value)
    if len(words) > item.high:
        raise InputError(f"--{flag}: {len(words)} given, task {task.name} takes {item.describe()}")
    return words[0] if kind == "caption" and item.high == 1 else words


def _open_file(flag: str, path: Path, task: Task, allow_truncated: bool):
    if flag in ("video", "src_video"):
        from vace.media.video import VideoReader

        return VideoReader(path, allow_truncated=allow_truncated)
    if flag == "image":
        from vace.media.image import read_image

        return read_image(path)
    if flag == "src_mask" or (flag == "mask" and "video" in task.flags()):
        from vace.media.mask import open_mask

        return open_mask(path, allow_truncated=allow_truncated)
    from vace.media.image import read_mask_image

    return read_mask_image(path)


def _bind(flag: str, opened: list, task: Task, into: Materials, given: dict) -> None:
    """Name the opened things as the task's annotator calls them."""
    arguments = into.arguments
    if flag == "video" and task.annotator == "frameref":
        arguments["clips"] = opened
    elif flag == "video":
        arguments["frames"], into.clip, into.source = opened[0], opened[0], opened[0]
    elif flag == "image":
        arguments["images"] = opened
    elif flag == "mask" and "video" in task.flags():
        arguments["mask"] = opened[0]
    elif flag in ("mask", "ref_mask"):
        arguments[f"{flag}s"] = opened
    elif flag == "src_video":
        arguments |= {f"frames_{count}": item for count, item in enumerate(opened, 1)}
    else:
        arguments |= _composed_masks(opened, given.get("process_type"))


def _composed_masks(masks: list, process_type) -> dict:
    """Masks in order to the sources that have one: two masks one each, one mask to the source that is no control."""
    if len(masks) == 2:
        return {"masks_1": masks[0], "masks_2": masks[1]}
    from vace.annotators.composition import CONTROL, process_group

    types = split_list(process_type)
    having = [count for count, name in enumerate(types, 1) if process_group(name) != CONTROL]
    if len(having) != 1:
        raise InputError(f"--src_mask: one given, {len(having)} of {', '.join(types)} have a mask; give two, in order")
    return {f"masks_{having[0]}": masks[0]}


def use_frames(materials: Materials, plan: FramePlan) -> None:
    """Keep only the plan's frames of the footage, and of a mask that runs along with it."""
    mask = materials.arguments.get("mask")
    if mask is not None and mask.frame_count == materials.clip.frame_count > 1:
        materials.arguments["mask"] = SelectedClip(mask, plan.ids, plan.fps)
    materials.clip = materials.arguments["frames"] = SelectedClip(materials.clip, plan.ids, plan.fps)
    materials.selected, materials.sound = True, plan.sound


def use_clips(materials: Materials, plans: list[FramePlan]) -> None:
    """Play the clips that are kept at the model's rate."""
    clips = materials.arguments["clips"]
    materials.arguments["clips"] = [
        SelectedClip(clip, plan.ids, plan.fps) for clip, plan in zip(clips, plans, strict=True)
    ]


def check_number(flag: str, value, low: float, high: float = math.inf, whole: bool = False) -> None:
    """Raise InputError unless `value` is a finite number in low..high (None passes)."""
    if value is None:
        return
    fits = isinstance(value, (int, float)) and math.isfinite(value) and low <= value <= high
    if fits and (not whole or float(value).is_integer()):
        return
    kind = "a whole number" if whole else "a number"
    span = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of {low:g} or more"
    raise InputError(f"--{flag} {value}: give {kind} {span}")


def annotator_parameters(task: Task, mode: str | None, given: dict) -> dict:
    """The parameters among `given` that the task takes, checked, with the row's fixed arguments and the mode."""
    check_number("expand_ratio", given.get("expand_ratio"), 0, 1)
    check_number("maskaug_ratio", given.get("maskaug_ratio"), 0, 1)
    check_number("expand_num", given.get("expand_num"), 1, whole=True)
    check_number("clip_frames", given.get("clip_frames"), 1, whole=True)
    check_number("ref_num", given.get("ref_num"), 1, whole=True)
    check_number("batch_size", given.get("batch_size"), 1, whole=True)
    check_number("mask_blur", given.get("mask_blur"), 0, whole=True)
    parameters = {name: given[name] for name in task.params if given.get(name) is not None}
    for name in ("direction", "label"):
        if name in parameters:
            parameters[name] = split_list(parameters[name])
    for name in (*NETWORK, FRAME_RANGE):  # for the networks and the footage, which the annotator is given
        parameters.pop(name, None)
    if "process_type" in task.params:
        parameters |= _process_types(parameters.pop("process_type", None))
    if mode:
        parameters["mode"] = mode
    return parameters | dict(task.fixed)


def _process_types(value) -> dict:
    names = split_list(value)
    if len(names) != 2:
        raise InputError("--process_type: task composition needs two task names, e.g. frameref,outpainting")
    from vace.annotators.composition import process_group

    for name in names:
        process_group(name)
    return {"process_type_1": names[0], "process_type_2": names[1]}
