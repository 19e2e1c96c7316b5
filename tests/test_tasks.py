"""The task table is whole: every row names an annotator, flags and examples that exist."""

from __future__ import annotations

import shlex

import pytest

from vace.errors import InputError
from vace.flags import FLAGS
from vace.tasks import GROUPS, LAYERED, TASKS, find_task, resolve_mode

FLAG_NAMES = {flag.name for flag in FLAGS}
# Every row of the user guide, and the image tasks beside them.
GUIDE = """txt2vid plain gray depth depthv2 flow pose pose_body scribble layout_bbox layout_track frameref clipref
firstframe lastframe firstlastframe firstclip lastclip firstlastclip framerefext outpainting outpainting_inner
inpainting inpainting_mask inpainting_bbox inpainting_masktrack inpainting_bboxtrack inpainting_label
inpainting_caption image_plain image_gray image_salient image_face image_inpainting image_reference
image_outpainting image_depth image_depthv2 image_pose image_scribble composition reference_anything
animate_anything swap_anything expand_anything move_anything more_anything""".split()


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
    if task.annotator and name != LAYERED:
        from vace import annotators

        assert callable(annotators.get(task.annotator))


@pytest.mark.parametrize("name", TASKS)
def test_every_mode_has_an_example(name):
    task = TASKS[name]
    shown = set()
    for example in task.examples:
        words = shlex.split(example)
        options = dict(zip(words[0::2], words[1::2], strict=True))
        assert find_task(options["--task"]).name == name
        assert {flag.removeprefix("--") for flag in options} <= {*FLAG_NAMES}
        shown.add(resolve_mode(task, options.get("--mode")))
    assert {mode.split(",")[-1] for mode in shown if mode} == set(task.modes)
    assert {mode.split(",")[0] for mode in shown if mode and "," in mode} == set(task.lead_modes)


def test_unknown_names_tell_the_nearest():
    with pytest.raises(InputError, match="'inpainting'"):
        find_task("inpaintin")
    with pytest.raises(InputError, match="'firstframe'"):
        resolve_mode(TASKS["frameref"], "firstfram")
    with pytest.raises(InputError, match="firstframe, lastframe, firstlastframe"):
        resolve_mode(TASKS["frameref"], None)


@pytest.mark.parametrize(
    ("task", "mode", "told"),
    [
        ("image_reference", "plain,mask", "takes one mode, 2 are given"),
        ("swap_anything", "plain,label", "no mode 'plain' for its video part"),
        ("swap_anything", "label,plane", "no mode 'plane' for its images"),
        ("swap_anything", "label,label,plain", "takes two modes.*3 are given"),
        ("swap_anything", "plain", "no mode 'plain' for its video part"),
        ("expand_anything", "plain,firstframe", "no mode 'plain' for its video part"),
        ("expand_anything", "firstlastframe,plain", "no mode 'firstlastframe' for its video part"),
        ("swap_anything", None, "several modes"),
        ("gray", "mask", "has no modes"),
    ],
)
def test_modes_in_wrong_number_or_order(task, mode, told):
    with pytest.raises(InputError, match=told):
        resolve_mode(TASKS[task], mode)


def test_default_and_lead_modes():
    assert resolve_mode(TASKS["inpainting_mask"], None) == "mask"
    assert resolve_mode(TASKS["gray"], None) is None
    assert resolve_mode(TASKS["expand_anything"], "lastframe,plain") == "lastframe,plain"
    assert resolve_mode(TASKS["expand_anything"], "salient") == "firstframe,salient"
    assert resolve_mode(TASKS["swap_anything"], "label") == "label,label"
    assert resolve_mode(TASKS["swap_anything"], "label, plain") == "label,plain"
