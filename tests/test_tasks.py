"""The task table is whole: every row names an annotator, flags and examples that exist."""

from __future__ import annotations

import shlex

import pytest

from vace.errors import InputError
from vace.flags import FLAGS
from vace.tasks import GROUPS, TASKS, find_task, resolve_mode

FLAG_NAMES = {flag.name for flag in FLAGS}
# The rows of the user guide's table that need no network.
GUIDE = """txt2vid plain gray frameref clipref firstframe lastframe firstlastframe firstclip lastclip firstlastclip
framerefext outpainting outpainting_inner inpainting inpainting_mask inpainting_bbox layout_bbox composition image_plain
image_gray image_outpainting image_reference move_anything expand_anything""".split()


def test_every_row_of_the_guide_is_there():
    assert set(GUIDE) <= set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_row_is_consistent(name):
    task = TASKS[name]
    assert task.name == name and task.group in GROUPS
    assert set(task.flags()) | set(task.params) <= FLAG_NAMES
    assert task.help.endswith(".") and task.examples
    assert task.time in ("footage", "model") and task.under_mask in ("neutral", "content")
    if task.default_mode:
        assert task.default_mode in task.modes
    if task.annotator:
        from vace import annotators

        assert callable(annotators.get(task.annotator))


@pytest.mark.parametrize("name", TASKS)
def test_every_mode_has_an_example(name):
    task = TASKS[name]
    shown = set()
    for example in task.examples:
        words = shlex.split(example)
        options = dict(zip(words[0::2], words[1::2], strict=True))
        assert options["--task"] == name
        assert {flag.removeprefix("--") for flag in options} <= {*FLAG_NAMES}
        shown.add(resolve_mode(task, options.get("--mode")))
    assert {mode.split(",")[-1] for mode in shown if mode} == set(task.modes)


def test_unknown_names_tell_the_nearest():
    with pytest.raises(InputError, match="'inpainting'"):
        find_task("inpaintin")
    with pytest.raises(InputError, match="'firstframe'"):
        resolve_mode(TASKS["frameref"], "firstfram")
    with pytest.raises(InputError, match="firstframe, lastframe, firstlastframe"):
        resolve_mode(TASKS["frameref"], None)
    with pytest.raises(InputError, match="video part"):
        resolve_mode(TASKS["image_reference"], "firstframe,mask")


def test_default_and_lead_modes():
    assert resolve_mode(TASKS["inpainting_mask"], None) == "mask"
    assert resolve_mode(TASKS["gray"], None) is None
    assert resolve_mode(TASKS["expand_anything"], "lastframe,plain") == "lastframe,plain"
