"""From the task table to what a page asks for: fields, what shows when, and the keywords their values become.

No widgets here. A row added to the table, a mode or a parameter among them, shows up without a change in this file;
what is said below of single flags makes them easier to use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vace.annotators.composition import PROCESS_GROUPS
from vace.annotators.framerefext import MODES as KEPT_FRAMES
from vace.annotators.outpainting import DIRECTIONS
from vace.errors import InputError
from vace.flags import FLAGS
from vace.materials import missing
from vace.rows import Input
from vace.runs import split_list
from vace.tasks import GROUPS, LAYERED, NETWORK, TASKS, find_task, resolve_mode

FILE_KINDS = ("videos", "pictures", "masks")
# Flags that a widget of their own kind asks for; every other has the kind its flag has on the command line.
KINDS = {
    "video": "videos", "src_video": "videos", "image": "pictures", "mask": "masks", "ref_mask": "masks",
    "src_mask": "masks", "bbox": "boxes", "ref_bbox": "boxes", "label": "words", "ref_label": "words",
    "direction": "choices", "process_type": "pair", "ref_cfg": "choice", "frame_range": "ranges",
}  # fmt: skip
CHOICES = {"direction": DIRECTIONS, "ref_cfg": KEPT_FRAMES, "process_type": tuple(PROCESS_GROUPS)}
MOST_FRAMES = 10_000  # that a page asks for: more is a slip, or worse
MOST_SEED = 2**53  # what a browser keeps exact
LONGEST = 8000  # characters of a text
LIMITS = {
    "expand_ratio": (0, 1), "maskaug_ratio": (0, 1), "mask_blur": (0, 1000), "seed": (-1, MOST_SEED),
    "frame_num": (1, MOST_FRAMES), "expand_num": (1, MOST_FRAMES), "clip_frames": (1, MOST_FRAMES),
    "ref_num": (1, MOST_FRAMES),
}  # fmt: skip
PLAIN = {"int": "integer", "float": "number", "bool": "yes", "phrases": "lines", "list": "words", "text": "text"}
LABELS = {
    "image": "Pictures", "bbox": "Boxes", "ref_bbox": "Boxes in the reference picture", "ref_mask": "Reference mask",
    "src_video": "Prepared videos", "src_mask": "Prepared masks", "label": "Names of things",
    "ref_label": "Names of things in the reference pictures", "caption": "What the thing looks like",
    "ref_caption": "What the thing in the reference pictures looks like", "direction": "Sides",
    "expand_ratio": "How much each side grows", "expand_num": "Frames to make", "clip_frames": "Frames of a clip",
    "ref_num": "How many frames are kept", "ref_cfg": "Which frames are kept", "frame_num": "Frames of the result",
    "maskaug_mode": "Mask shape", "maskaug_ratio": "Mask growth", "process_type": "What the sources are",
    "backend": "Networks", "batch_size": "Frames a network takes at a time", "save_fps": "Frames a second",
    "allow_truncated": "Use what a damaged video still holds", "frame_range": "Frames to use",
    "intermediates": "Files written", "size": "Canvas",
}  # fmt: skip
# Where the command line's own help speaks of its commas, or of another task.
HELPS = {
    "label": "What things are called, with commas between them",
    "ref_label": "What they are called there, with commas between them",
    "caption": "In words; another line for a further picture",
    "ref_caption": "In words; another line for a further picture",
    "ref_cfg": "One of them is drawn if you choose none", "ref_num": "At the beginning, at the end, or anywhere (1)",
    "process_type": "The task that each comes from", "direction": "Any of them",
    "expand_ratio": "As part of the size, 0 to 1 (0.25)", "batch_size": "Fewer ask for less memory (as many as fit)",
    "maskaug_ratio": "How far a shape that ends in _expand grows, 0 to 1",
    "size": "The picture that boxes are drawn on: 480p, 720p, or WxH such as 832x480",
    "frame_num": "Wan 4n+1, LTX 8n+1 (81)", "seed": "Of what is left to chance; -1 draws one (2025)",
    "normalize": "Full scale in each frame, or one scale for the clip (frame)",
    "frame_range": "Counted from 0, the last one included",
}  # fmt: skip
# Shown folded; any other parameter is one that a task is chosen for.
FOLDED = ("mask_blur", "maskaug_mode", "maskaug_ratio", "normalize", "seed", *NETWORK, "save_fps", "intermediates",
          "allow_truncated")  # fmt: skip
# Flags of the verb that are of use with what a task takes or writes.
WITH_FOOTAGE, WITH_VIDEO = ("allow_truncated",), ("save_fps", "intermediates")
SHARED_VIDEO = Input("video", 0, 1, "a video for every joined task that takes one")
MODE_WORDS = {
    "plain": "the pictures as they are", "salient": "what stands out", "mask": "a mask", "bbox": "a box",
    "salientmasktrack": "what stands out, its shape followed", "salientbboxtrack": "what stands out, its box followed",
    "maskpointtrack": "dots in a mask, followed", "maskbboxtrack": "the box around dots in a mask, followed",
    "masktrack": "a mask, followed", "bboxtrack": "a box, followed", "label": "a thing named",
    "caption": "a thing described", "firstframe": "the first frame", "lastframe": "the last frame",
    "firstlastframe": "first and last frame", "firstclip": "the beginning", "lastclip": "the end",
    "firstlastclip": "beginning and end",
}  # fmt: skip
_DEFAULT = re.compile(r"\s*\(([^()]*)\)$")


@dataclass(frozen=True)
class Field:
    """What is asked for one flag.

    kind: "videos", "pictures", "masks" (paths), "boxes" (text), "words" (text with commas), "lines" (a phrase a line),
    "ranges" (FIRST:LAST of each clip), "choice", "choices", "pair" (one of the choices for each of two sources),
    "integer", "number", "yes" or "text". default: what is taken when nothing is given, in words.
    """

    flag: str
    kind: str
    label: str
    help: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    default: str = ""


def _field(flag: str) -> Field:
    row = next(known for known in FLAGS if known.name == flag)
    kind = KINDS.get(flag) or ("choice" if isinstance(row.kind, tuple) else PLAIN[row.kind])
    choices = CHOICES.get(flag, row.kind if isinstance(row.kind, tuple) else ())
    low, high = LIMITS.get(flag, (1 if kind == "integer" else None, None))
    text = HELPS.get(flag, row.help)
    default, text = _DEFAULT.search(text), _DEFAULT.sub("", text)
    label = LABELS.get(flag, flag.replace("_", " ").capitalize())
    return Field(flag, kind, label, text[0].upper() + text[1:] + ".", choices, low, high, default[1] if default else "")


_USED = [flag for task in TASKS.values() for flag in (*task.flags(), *task.params)]
FIELDS: Mapping[str, Field] = {flag: _field(flag) for flag in dict.fromkeys((*_USED, *WITH_FOOTAGE, *WITH_VIDEO))}


def task_groups(with_words_only: bool = False) -> list[tuple[str, str, list[str]]]:
    """(group, its help, its tasks) in the table's order. with_words_only: tasks too that take a prompt alone."""
    names = {group: [row.name for row in TASKS.values() if row.group == group] for group in GROUPS}
    shown = {group: [n for n in found if with_words_only or TASKS[n].annotator] for group, found in names.items()}
    return [(group, GROUPS[group], found) for group, found in shown.items() if found]


TASK_GROUPS = task_groups()


def modes(task: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, str]]:
    """The modes of the video part, those of the task (of its pictures, where it has both), and one of each to begin
    with; "" where there are none."""
    row = TASKS[task]
    leads, own = tuple(row.lead_modes), tuple(row.modes)
    return leads, own, (row.default_lead or next(iter(leads), ""), row.default_mode or next(iter(own), ""))


def joined_mode(task: str, lead: str | None, mode: str | None) -> str | None:
    """Both choices as --mode has them; what the task does not have is left out."""
    leads, own, (first_lead, first) = modes(task)
    if not own:
        return None
    mode = mode if mode in own else first
    return f"{lead if lead in leads else first_lead},{mode}" if leads else mode


def parted_mode(task: str, mode: object) -> tuple[str, str]:
    """--mode as the two choices; InputError for a mode the task does not have."""
    full = resolve_mode(TASKS[task], str(mode) if mode else ",".join(filter(None, modes(task)[2]))) or ""
    lead, _, own = full.rpartition(",")
    return lead, own


def materials(task: str, mode: str | None) -> dict[str, Input]:
    """What the task takes in `mode`, as `resolve_mode` gives it, by flag."""
    if task == LAYERED:
        return {SHARED_VIDEO.flag: SHARED_VIDEO}
    return {item.flag: item for item in TASKS[task].inputs_for(mode)}


def parameters(task: str) -> tuple[Field, ...]:
    """The parameters of the task, and those of the verb that are of use with it."""
    row, taken = TASKS[task], TASKS[task].flags()
    footage = WITH_FOOTAGE if {"video", "src_video"} & {*taken} else ()
    footage = ("frame_range", *WITH_FOOTAGE) if task == LAYERED else footage
    written = WITH_VIDEO if "src_video" in row.outputs else ()
    return tuple(FIELDS[flag] for flag in dict.fromkeys((*row.params, *footage, *written)))


def visible(task: str, mode: str | None) -> frozenset[str]:
    """Every flag to show."""
    return frozenset(materials(task, mode)) | {field.flag for field in parameters(task)}


def slots(task: str, mode: str | None, flag: str) -> int:
    """How many values the task takes for `flag` at most, 0 where it takes none."""
    item = materials(task, mode).get(flag)
    return item.high if item else 0


def flags_from(task: str, mode: str | None, values: Mapping[str, object]) -> dict[str, object]:
    """Values of fields, by flag, as keywords of the verb: only what shows and is set; the mode where there are modes.

    Raises InputError for a number that is none or out of its limits.
    """
    shown = visible(task, mode)
    found = {flag: keyword(FIELDS[flag], values.get(flag)) for flag in FIELDS if flag in shown}
    kept = {flag: value for flag, value in found.items() if value not in (None, "", [], False)}
    return ({"mode": mode} if mode else {}) | kept


def keyword(field: Field, value: object) -> object:
    """A widget's value as the verb takes it, None where it is not set. InputError for a number that is none."""
    if value is None or isinstance(value, str) and not value.strip():
        return None
    if isinstance(value, str) and len(value) > LONGEST:
        raise InputError(f"--{field.flag}: {len(value)} characters; give {LONGEST} at most")
    if field.kind in FILE_KINDS:
        return [str(path) for path in (value if isinstance(value, (list, tuple)) else [value]) if path]
    if field.kind in ("integer", "number"):
        return _number(field, value)
    if field.kind == "lines":
        lines = value if isinstance(value, (list, tuple)) else str(value).splitlines()
        return [line.strip() for line in lines if line.strip()]
    if field.kind in ("words", "choices"):
        return split_list(value)
    if field.kind == "pair":
        return [str(one) for one in value if one]
    if field.kind == "ranges":
        ranges = [str(one) for one in ([value] if isinstance(value, str) else value)]
        return ranges if any(one.strip(":") for one in ranges) else None
    return value if field.kind == "yes" else str(value).strip()


def _number(field: Field, value: object) -> float | int:
    kind, text = "a whole number" if field.kind == "integer" else "a number", str(value).strip()
    try:
        number = int(text) if re.fullmatch(r"[+-]?\d{1,30}", text) else float(text)  # a float would round large ones
    except ValueError:
        raise InputError(f"--{field.flag} {value}: give {kind}") from None
    low, high = field.low if field.low is not None else number, field.high if field.high is not None else number
    if not low <= number <= high or (field.kind == "integer" and not float(number).is_integer()):
        span = f" from {field.low:g} to {field.high:g}" if field.high is not None else ""
        span = span or (f" of {field.low:g} or more" if field.low is not None else "")
        raise InputError(f"--{field.flag} {value}: give {kind}{span}")
    return int(number) if field.kind == "integer" else number


def check(task: str, mode: str | None, given: Mapping[str, object]) -> None:
    """Raise InputError for materials that are missing, or too many, in the command line's words."""
    row = find_task(task) if task != LAYERED else TASKS[task]
    for item in materials(task, mode).values():
        value = given.get(item.flag) or given.get(item.instead)
        if not value and item.low:
            raise missing(item, row, mode)
        if value and FIELDS[item.flag].kind in FILE_KINDS and not item.low <= len(value) <= item.high:
            raise InputError(f"--{item.flag}: {len(value)} given, task {row.name} takes {item.describe()}")


def range_text(first: float | None, last: float | None, count: int) -> str:
    """FIRST:LAST of a clip of `count` frames as --frame_range has it, ":" for all of it."""
    first, last = max(0, int(first or 0)), count - 1 if last is None else int(last)
    return f"{first if first > 0 else ''}:{last if last < count - 1 else ''}"


def group_choices(names: Sequence[str]) -> list[tuple[str, str]]:
    """(what to show, group)."""
    return [("words alone" if not all(TASKS[task].annotator for task in found) else group, group)
            for group, _, found in task_groups(True) if group in names]  # fmt: skip


def task_choices(names: Sequence[str]) -> list[tuple[str, str]]:
    """(what to show, task)."""
    return [(f"{name}: {TASKS[name].help.rstrip('.')}", name) for name in names]


def mode_choices(names: Sequence[str]) -> list[tuple[str, str]]:
    """(what to show, mode)."""
    return [(f"{name}: {MODE_WORDS[name]}" if name in MODE_WORDS else name, name) for name in names]


def takes(task: str, mode: str | None) -> str:
    """In words what the task takes in that mode."""
    words = [item.describe() for item in materials(task, mode).values() if item.low or item.note]
    return re.sub(r" '[^']*'", "", ", ".join(words))  # without the forms of the command line


def first_reference(task: str) -> int:
    """Which picture is the first reference: the first, or the second where the first one is made into the video."""
    row = TASKS[task]
    return 1 if row.lead_modes and "video" not in row.flags() else 0
