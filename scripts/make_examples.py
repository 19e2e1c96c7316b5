"""Write run_vace_preprocess.sh and run_vace_pipeline.sh from the task table: one line per task and mode.

    python scripts/make_examples.py [--check]

--check writes nothing and fails where a script is not what the table says.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path

from vace.tasks import GROUPS, LAYERED, TASKS, resolve_mode

ROOT = Path(__file__).resolve().parent.parent

HEAD = """#!/usr/bin/env bash
{title}
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
source scripts/examples.sh
"""
TITLES = {
    "preprocess": "# Preprocessing, one example per task and mode: ./run_vace_preprocess.sh [NAME ... | all | list]\n"
    "# Written by scripts/make_examples.py from the task table. Networks: --backend embedded or neural (auto).",
    "pipeline": "# From materials and a prompt to a video, one example per task and mode:"
    " ./run_vace_pipeline.sh [NAME ... | all | list]\n"
    "# Written by scripts/make_examples.py from the task table. Without --ckpt_dir or --model_name a model on this"
    " machine\n# serves, or the embedded toy. For real weights add\n"
    "#   --model_name vace-1.3B      or      --ckpt_dir models/Wan2.1-VACE-1.3B",
}
FIRST = {"preprocess": "depth", "pipeline": "inpainting_mask"}  # the task that comes first
MAIN = {  # what runs without an argument, where it is none of the table's lines: an edit that the embedded toy can do
    "pipeline": {
        "toy": "vace pipeline --base wan --task inpainting_masktrack --video assets/videos/toy.mp4"
        " --mask assets/masks/toy.png --maskaug_mode bbox_expand --maskaug_ratio 0.2"
        " --prompt 'a blue heart moves right and a small yellow star rests over grass'"
    }
}

PROMPTS = {
    "txt2vid": "A paper boat drifts down a rainy street, seen from above",
    "layout_bbox": "A cat walks from left to right",
    "move_anything": "The astronaut floats to the left",
    "expand_anything": "A cat looks around in a wide studio, an astronaut beside it",
    "swap_anything": "An astronaut stands in a green meadow and stretches",
    "animate_anything": "An astronaut turns to the camera and smiles",
    "reference_anything": "An astronaut plays with a cat",
    LAYERED: "An astronaut in a wide studio, a cat beside her",
}
GROUP_PROMPTS = {
    "control": "The same scene as an oil painting in bright colours",
    "extension": "The scene goes on, calm and bright",
    "repainting": "A red fox stands in the meadow, soft morning light",
    "reference": "An astronaut on the moon",
    "composition": "A green meadow under a wide blue sky",
}
SMALLER = {"layout_bbox": "--task layout_bbox --bbox '6,14,30,54 62,14,90,54' --label cat"}  # drawn at the model's size
# The first two lines prepare what the third puts together.
COMPOSED = {
    "preprocess": ("--clip_frames 9 --expand_num 32", ""),
    "pipeline": ("--clip_frames 5 --expand_num 12", "--prompt 'The meadow goes on to both sides'"),
}
GUIDE = {
    "preprocess": {"guide": "python vace/vace_preproccess.py --task depth --video assets/videos/test.mp4"},
    "pipeline": {
        f"guide{end}": f"python vace/vace_pipeline.py --base {base} --task depth --video assets/videos/test.mp4"
        " --prompt 'A rabbit stands in a meadow'"
        for end, base in (("", "wan"), ("_ltx", "lxt"))
    },
}


def example_name(task: str, example: str) -> str:
    """The name of a line: the task's, with the mode where it has several."""
    row, options = TASKS[task], dict(zip(*[iter(shlex.split(example))] * 2, strict=True))
    mode = resolve_mode(row, options.get("--mode"))
    shown = len(row.modes) > 1 or row.lead_modes
    prefix = "mode_" if f"{task}_{mode}" in TASKS else ""  # inpainting in mode bbox is not the task inpainting_bbox
    return f"{task}_{prefix}{mode.replace(',', '_')}" if mode and shown else task


def composed(command: str) -> list[str]:
    """The lines of task composition."""
    numbers, prompt = COMPOSED[command]
    first, second = "processed/examples/first", "processed/examples/second"
    start = "vace pipeline --base wan" if command == "pipeline" else "vace preprocess"
    videos = f"{first}/src_video-firstclip.mp4,{second}/src_video-outpainting_inner.mp4"
    masks = videos.replace("src_video", "src_mask")
    return [
        f"vace preprocess --task firstclip --video assets/videos/test.mp4 {numbers} --pre_save_dir {first}",
        "vace preprocess --task outpainting_inner --video assets/videos/test.mp4 --direction left,right"
        f" --expand_ratio 0.2 --pre_save_dir {second}",
        f"{start} --task composition --src_video {videos} --src_mask {masks}"
        f" --process_type firstclip,outpainting_inner {prompt}".rstrip(),
    ]


def lines_of(command: str, task: str) -> list[tuple[str, str]]:
    """(name, command line) of every example of `task`."""
    row = TASKS[task]
    if task == "composition":
        return [(task, line) for line in composed(command)]
    if command == "preprocess":
        return [(example_name(task, e) if task != LAYERED else task, f"vace preprocess {e}") for e in row.examples]
    prompt = shlex.quote(PROMPTS.get(task) or GROUP_PROMPTS[row.group])
    # How many frames of a clip are kept follows from what the model takes.
    examples = [SMALLER[task]] if task in SMALLER else [re.sub(r" --clip_frames \d+", "", e) for e in row.examples]
    start = "vace pipeline --base wan"
    return [(example_name(task, e) if task != LAYERED else task, f"{start} {e} --prompt {prompt}") for e in examples]


def script(command: str) -> str:
    """The whole of run_vace_<command>.sh."""
    names = [name for name in TASKS if TASKS[name].annotator or name == LAYERED or command == "pipeline"]
    names.sort(key=lambda name: name != FIRST[command])
    width = 2 + max(len(name) for task in names for name, _ in lines_of(command, task))
    parts, last = [HEAD.format(title=TITLES[command])], None
    parts += [f"example {name:<{width}} {line}" for name, line in MAIN.get(command, {}).items()]
    for task in names:
        group = TASKS[task].group
        if group != last and task != FIRST[command]:
            parts.append(f"\n# {group}: {GROUPS[group]}")
            last = group
        parts += [f"example {name:<{width}} {line}" for name, line in lines_of(command, task)]
    parts.append("\n# the guide's spelling of the same command")
    parts += [f"example {name:<{width}} {line}" for name, line in GUIDE[command].items()]
    return "\n".join([*parts, '\nrun_examples "$@"', ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a script differs")
    check = parser.parse_args().check
    for command in TITLES:
        path = ROOT / f"run_vace_{command}.sh"
        text = script(command)
        if check and path.read_text() != text:
            sys.exit(f"{path.name} is not what the task table says; run python scripts/make_examples.py")
        if not check:
            path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
