"""The form is the task table: every row, mode, parameter and example of it can be asked for on a page."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vace.errors import InputError
from vace.gradios import form
from vace.gradios.joined import joined_tasks
from vace.layer_syntax import parse_layers
from vace.parsing import parse_flags
from vace.rows import Input, Task
from vace.runs import split_list
from vace.tasks import LAYERED, TASKS, find_task, resolve_mode

EXAMPLES = [(name, line) for name, row in TASKS.items() for line in row.examples]
NUMBERED = {"number": 0.5, "integer": 7}


def every_mode(row: Task) -> list[str | None]:
    leads = [f"{lead}," for lead in row.lead_modes] or [""]
    return [lead + mode for lead in leads for mode in row.modes] or [None]


@pytest.mark.parametrize("name", TASKS)
def test_every_input_and_parameter_has_a_field_that_shows(name):
    row = TASKS[name]
    for flag in (*row.flags(), *row.params):
        field = form.FIELDS[flag]
        assert field.flag == flag and field.label and field.help
        assert bool(field.choices) == (field.kind in ("choice", "choices", "pair"))
    for mode in every_mode(row):
        shown = form.visible(name, mode)
        assert {item.flag for item in row.inputs_for(mode)} | set(row.params) <= shown
        assert shown <= form.FIELDS.keys()


@pytest.mark.parametrize("name", TASKS)
def test_modes_to_begin_with_are_those_of_the_table(name):
    row = TASKS[name]
    leads, own, (lead, mode) = form.modes(name)
    assert leads == tuple(row.lead_modes) and own == tuple(row.modes)
    full = form.joined_mode(name, lead, mode)
    if row.name != LAYERED:
        assert resolve_mode(row, full) == full
    if row.default_mode:
        assert full == resolve_mode(row, None)
    assert form.parted_mode(name, full) == (lead, mode)


def test_groups_hold_every_task_once():
    told = [name for _, _, names in form.task_groups(with_words_only=True) for name in names]
    assert told == list(TASKS)
    assert [name for _, _, names in form.TASK_GROUPS for name in names] == told[1:]


def values_of(flags: dict) -> dict:
    """Options of a command as the widgets would hold them."""
    values = {}
    for flag, value in flags.items():
        kind = form.FIELDS[flag].kind
        listed = split_list(value, files=True) if kind in form.FILE_KINDS else None
        if kind in ("choices", "pair"):
            listed = split_list(value)
        values[flag] = listed or {"words": ", ", "lines": "\n", "boxes": " "}.get(kind, "").join(value) if isinstance(
            value, list) else value  # fmt: skip
    return values


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_every_example_can_be_asked_for(name, line):
    words = shlex.split(line)
    flags = parse_flags("preprocess", {w[2:]: v for w, v in zip(words[::2], words[1::2], strict=True)})
    task = flags.pop("task")
    row = find_task(task)
    mode = resolve_mode(row, flags.pop("mode", None))
    found = form.flags_from(name, mode, values_of(flags))
    form.check(name, mode, found)
    assert found.pop("mode", None) == mode
    assert found.keys() == flags.keys()
    for flag, value in flags.items():
        files = form.FIELDS[flag].kind in form.FILE_KINDS
        if isinstance(value, list) and form.FIELDS[flag].kind not in ("boxes", "lines"):
            assert found[flag] == split_list(value, files=files)
        else:
            assert found[flag] == (value[0] if form.FIELDS[flag].kind == "boxes" else value)
    if name == LAYERED:
        check_joined(task)


def check_joined(task: str) -> None:
    """With names instead of paths the text means the same."""
    layers = parse_layers(task)
    paths = {path.name: path for layer in layers for _, path in layer.files()}
    typed = task
    for bare, path in paths.items():
        typed = typed.replace(str(path), bare)
    assert [layer.flags | {} for layer in parse_layers(joined_tasks(typed, paths))] == [layer.flags for layer in layers]


def test_what_does_not_show_or_is_empty_stays_away():
    values = {"video": ["a.mp4", None], "mask": ["m.png"], "bbox": "1,2,3,4", "expand_num": 7, "maskaug_mode": "",
              "seed": None, "label": "  ", "allow_truncated": False, "frame_range": [":"]}  # fmt: skip
    assert form.flags_from("inpainting", "salient", values) == {"mode": "salient", "video": ["a.mp4"]}
    assert form.flags_from("inpainting", "bbox", values)["bbox"] == "1,2,3,4"
    assert form.flags_from("gray", None, values | {"frame_range": ["3:"]}) == {
        "video": ["a.mp4"],
        "frame_range": ["3:"],
    }


def test_values_of_widgets_become_those_of_the_verb():
    values = {"video": "a.mp4", "image": ["b.png"], "label": "cat, dog", "ref_caption": "a red cat\n\n a dog ",
              "seed": 3.0, "maskaug_ratio": "0.3", "batch_size": 2}  # fmt: skip
    found = form.flags_from("swap_anything", "label,caption", values)
    assert found == {"mode": "label,caption", "video": ["a.mp4"], "image": ["b.png"], "label": ["cat", "dog"],
                     "ref_caption": ["a red cat", "a dog"], "seed": 3, "maskaug_ratio": 0.3,
                     "batch_size": 2}  # fmt: skip
    assert isinstance(found["seed"], int)


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("seed", 1.5, "whole number"),
        ("seed", "x", "whole number"),
        ("maskaug_ratio", 2, "from 0 to 1"),
        ("batch_size", 0, "1 or more"),
        ("seed", float("nan"), "whole number"),
        ("batch_size", float("inf"), "whole number"),
    ],
)
def test_numbers_out_of_their_limits_are_told(flag, value, told):
    with pytest.raises(InputError, match=f"--{flag} .*{told}"):
        form.flags_from("inpainting", "salient", {flag: value})


def test_missing_and_surplus_materials_are_told_as_the_command_line_does():
    with pytest.raises(InputError, match="--video: task gray needs one video; see `vace tasks gray`"):
        form.check("gray", None, {})
    with pytest.raises(InputError, match="--video: 1 given, task firstlastclip takes two videos"):
        form.check("firstlastclip", None, {"video": ["a.mp4"]})
    with pytest.raises(InputError, match=r"--ref_mask: task swap_anything \(mode mask,mask\) needs"):
        form.check("swap_anything", "mask,mask", {"video": ["a"], "image": ["b"], "mask": ["c"]})
    form.check("swap_anything", "label,label", {"video": ["a"], "image": ["b"], "label": ["c"]})  # words serve both


def test_ranges_are_open_where_the_clip_ends():
    assert form.range_text(0, 29, 30) == form.range_text(None, None, 30) == ":"
    assert form.range_text(3, 29, 30) == "3:"
    assert form.range_text(0, 20, 30) == ":20"
    assert form.range_text(3.0, 20.0, 30) == "3:20"


def test_a_new_row_needs_no_change(monkeypatch):
    row = Task("sharpen", "control", "gray", "Clearer.", inputs=(Input("video"),), params=("seed", "label"),
               modes={"soft": (Input("mask"),)}, examples=())  # fmt: skip
    monkeypatch.setattr(form, "TASKS", TASKS | {"sharpen": row})
    assert "sharpen" in dict((group, names) for group, _, names in form.task_groups())["control"]
    assert form.modes("sharpen") == ((), ("soft",), ("", "soft"))
    assert form.visible("sharpen", "soft") >= {"video", "mask", "seed", "label"}
    assert form.mode_choices(["soft"]) == [("soft", "soft")]


def test_joined_tasks_open_no_other_paths():
    uploads = {"a.png": Path("/up/1.png"), "b,c.png": Path("/up/2.png")}
    text = "image_face(image=a.png,b,c.png)+gray(video=a.png)"
    found = parse_layers(joined_tasks(text, uploads))
    assert found[0].flags["image"] == "/up/1.png,/up/2.png"
    for path in ("/etc/passwd", "../a.png", "assets/images/test.jpg", "b"):
        with pytest.raises(InputError, match="not among the uploaded files"):
            joined_tasks(f"image_face(image={path})", uploads)
    with pytest.raises(InputError, match="upload the files"):
        joined_tasks("image_face(image=x.png)", {})
    with pytest.raises(InputError, match="write the tasks"):
        joined_tasks("  ", {})


def test_needs_no_gradio():
    code = "import sys, vace.gradios.form, vace.gradios.recall, vace.gradios.joined; print('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
