"""`vace tasks` and `vace models` as text."""

from __future__ import annotations

import re
import textwrap

from vace.rows import Task
from vace.tasks import COMMON, GROUPS, LAYERED, TASKS

# The original layout's files: pattern within the folder, bytes as far as published pages tell (0: they do not).
_SHARED = (("models_t5_umt5-xxl-enc-bf16.pth", 11_400_000_000), ("Wan2.1_VAE.pth", 508_000_000),
           ("google/umt5-xxl", 21_500_000))  # fmt: skip
_WEIGHTS = "diffusion_pytorch_model*.safetensors"
MODEL_FILES = {
    "vace-1.3B": (("config.json", 0), (_WEIGHTS, 7_100_000_000), *_SHARED),
    "vace-14B": (("config.json", 0), (_WEIGHTS, 34_700_000_000), *_SHARED),
    "vace-1.3B-preview": (("config.json", 0), (_WEIGHTS, 0), *_SHARED),
    "vace-ltx-0.9": (("ltx-video-2b-v0.9.safetensors", 0), ("text_encoder", 0), ("tokenizer", 0)),
}
NAME_WIDTH = 20
LAYERS = (
    "the materials of each task, in its brackets, or outside as flags that serve every task which takes them",
    "in quotes: the whole text, and within it names with commas, brackets or plus signs",
    "composed in order: an extension first keeps its frames before any other, a repainting with a control shows the"
    " control in its region, else the later one is on top",
    "a repainting task without a video repaints what the tasks before it made, tasks on pictures add references",
)
# What each base model asks for, from arithmetic: bf16 weights of the transformer plus the text encoder on disk.
MODEL_NOTES = {
    "vace-1.3B": "19 GB on disk with its text encoder; 480p and 720p",
    "vace-14B": "about 47 GB on disk with its text encoder; 480p and 720p, the best quality",
    "vace-1.3B-preview": "the first public weights, 480p",
    "vace-ltx-0.9": "for --base ltx: fast, 97 frames of 768x512; asks for long prompts (--use_prompt_extend)",
}


def list_tasks() -> str:
    """Every task with its materials and modes, grouped."""
    lines = []
    for group, meaning in GROUPS.items():
        rows = [task for task in TASKS.values() if task.group == group]
        if not rows:
            continue
        lines += ["", f"{group}: {meaning}"]
        for task in rows:
            lines.append(f"  {task.name:<{NAME_WIDTH}} {task.help}")
            params = [name for name in task.params if name not in COMMON]
            detail = "; ".join(_inputs(task)) + (f"; params: {', '.join(params)}" if params else "")
            indent = " " * (NAME_WIDTH + 3)
            lines += textwrap.wrap(detail, 116, initial_indent=indent, subsequent_indent=indent + "  ")
    lines += ["", "`vace tasks NAME` explains one, with commands to copy; `vace tasks --json` is for programs."]
    return "\n".join(lines).lstrip("\n")


def _inputs(task: Task) -> list[str]:
    """What the task takes in words: always, and by mode, modes that take the same together."""
    if task.name == LAYERED:
        return list(LAYERS)
    parts = [_joined(task.inputs)] if task.inputs or not task.modes else []
    if task.lead_modes:
        parts += ["video mode " + text for text in _by_inputs(task.lead_modes, bool(task.inputs))]
    word = "image mode " if task.lead_modes else "mode "
    parts += [word + text for text in _by_inputs(task.modes, bool(task.inputs))]
    if task.default_mode and len(task.modes) > 1:
        parts.append(f"default {task.default_mode}")
    return parts


def _by_inputs(modes, more: bool) -> list[str]:
    """ "a, b: + one mask" for modes that take the same. more: whether what they take comes on top of something."""
    groups: dict[str, list[str]] = {}
    for mode, inputs in modes.items():
        groups.setdefault(_joined(inputs) if inputs else "", []).append(mode)
    sign = "+ " if more else ""
    return [f"{' | '.join(names)}" + (f": {sign}{takes}" if takes else "") for takes, names in groups.items()]


def _joined(inputs) -> str:
    return " + ".join(item.describe() for item in inputs) or "no materials"


def explain_task(task: Task) -> str:
    """One task: what it takes, what it writes, flags with their help, commands to copy."""
    from vace.bases import BASES
    from vace.flags import FLAGS

    helps = {flag.name: flag.help for flag in FLAGS}
    lines = [f"{task.name} ({task.group}): {task.help}", "", "takes:"]
    lines += [f"  {line}" for line in _inputs(task)]
    if task.lead_modes:
        one = f"one alone is the images', after {task.default_lead}" if task.default_lead else "one alone serves both"
        lines.append(
            f"  --mode VIDEO,IMAGES; {one}; --ref_mask --ref_bbox --ref_label --ref_caption are for the images"
        )
    lines += ["writes:", f"  {', '.join(task.outputs) or 'nothing: it is for `vace pipeline`'}"]
    if "src_mask" in task.outputs:
        lines.append(f"  under the white of the mask: {task.under_mask}")
    if task.params:
        lines += ["parameters:"] + [f"  --{name:<16} {helps[name]}" for name in task.params]
    lines.append("commands:")
    for example in task.examples:
        if task.annotator:
            lines.append(f"  vace preprocess {example}")
    line = re.sub(r" --clip_frames \d+", "", task.examples[0])  # the pipeline keeps as many as its model takes
    lines += [f"  vace pipeline --base {base} {line} --prompt 'what the video shows'" for base in BASES]
    return "\n".join(lines)


def model_rows() -> list[dict]:
    """One row per base model.

    name, hub: ids; path: where it lies on this machine, ready for use (None: it does not); problem: why a copy that is
    here cannot be used (None without one); note; licence; looked_in: folders that are searched; files: path (within the
    folder, a pattern), where and size in bytes (expected, where it is absent), also of a copy that cannot be used.
    """
    from vace import hub
    from vace.bases import BASES, MODELS, base_of_model
    from vace.errors import VaceError
    from vace.models.checkpoints import find_checkpoint, folders_of

    rows = []
    for name, repositories in MODELS.items():
        path = problem = None
        try:
            path = folder = find_checkpoint(None, name, base=base_of_model(name), no_download=True).path
        except VaceError as error:
            folder = next((place for place in folders_of(name) if place.is_dir()), None)
            problem = str(error) if folder else None
        looked_in = [*(str(place) for place in folders_of(name)), str(hub.cache())]
        row = {"name": name, "hub": list(repositories), "path": str(path) if path else None, "problem": problem}
        row |= {"note": MODEL_NOTES.get(name, ""), "licence": base_of_model(name).licence, "looked_in": looked_in}
        rows.append(row | {"files": [_model_file(folder, *file) for file in MODEL_FILES[name]]})
    return rows + [_toy_row(base) for base in BASES.values()]


def _toy_row(base) -> dict:
    from vace.models.checkpoints import TINY, tiny_folder

    note = f"the embedded toy of {base.name}: serves when no other model is found"
    return {
        "name": TINY, "hub": [], "path": str(tiny_folder(base)), "problem": None, "note": note, "licence": "Apache-2.0",
        "looked_in": [], "files": [],
    }  # fmt: skip


def _model_file(folder, pattern: str, size: int) -> dict:
    found = sorted(folder.glob(pattern)) if folder else []
    total = sum(file.stat().st_size for path in found for file in ([path] if path.is_file() else path.iterdir()))
    return {"path": pattern, "where": str(found[0]) if found else None, "size": total or size}


def list_models() -> str:
    from vace.hub import command, size_text

    lines = []
    for row in model_rows():
        lines.append(f"{row['name']:<18} {row['note']}")
        for file in row["files"]:
            amount = f" ({size_text(file['size'])})" if file["size"] else ""
            lines.append(f"{'':<18} file  {file['path']}{amount}: {file['where'] or 'absent'}")
        lines.append(f"{'':<18} licence {row['licence']}" + (f"; hub {', '.join(row['hub'])}" if row["hub"] else ""))
        if row["path"]:
            lines.append(f"{'':<18} here: {row['path']}")
        else:
            lines.append(f"{'':<18} looked in {', '.join(row['looked_in'])}")
            get = f"get it: vace models pull {row['name']}, or {command(row['hub'][0])}"
            lines.append(f"{'':<18} {'problem: ' + row['problem'] if row['problem'] else 'not here; ' + get}")
    lines.append("")
    lines.append("Use one with --model_name NAME, or any folder or hub id with --ckpt_dir.")
    return "\n".join(lines)
