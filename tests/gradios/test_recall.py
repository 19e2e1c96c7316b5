"""Settings of an earlier run come back into the fields, and nothing of a recipe is trusted."""

from __future__ import annotations

import pytest

from vace.errors import InputError
from vace.gradios import form
from vace.gradios.recall import recalled
from vace.tasks import LAYERED


def test_parameters_come_back_without_files():
    given = {"task": "swap_anything", "mode": "bbox,label", "video": "/home/me/a.mp4", "image": ["b.png"],
             "bbox": ["1,2,3,4"], "ref_label": ["cat", "dog"], "maskaug_mode": "hull", "seed": 7, "steps": 20,
             "backend": "auto", "frame_range": ["3:9"]}  # fmt: skip
    task, modes, values = recalled(given)
    assert (task, modes) == ("swap_anything", ("bbox", "label"))
    assert values == {"bbox": "1,2,3,4", "ref_label": "cat, dog", "maskaug_mode": "hull", "seed": 7, "backend": "auto"}


def test_flags_that_serve_instead_come_back_where_they_are_asked_for():
    _, modes, values = recalled({"task": "animate_anything", "mode": "bbox", "bbox": "1,2,3,4"})
    assert modes == ("", "bbox") and values == {"ref_bbox": "1,2,3,4"}


def test_values_lead_to_the_same_keywords_again():
    given = {"task": "outpainting", "direction": ["left", "up"], "expand_ratio": 0.3, "mask_blur": 4, "seed": 1}
    task, _, values = recalled(given)
    assert form.flags_from(task, None, values) == {name: value for name, value in given.items() if name != "task"}


def test_joined_tasks_come_back_with_bare_names():
    task, _, values = recalled({"task": "scribble(video=/home/me/a.mp4)+image_face(image=C:\\x\\b.png,/c.png)"})
    assert task == LAYERED
    assert values["task"] == 'scribble(video=a.mp4)+image_face(image="b.png,c.png")'


@pytest.mark.parametrize(
    "given",
    [
        {"seed": "7"}, {"seed": True}, {"seed": 1e400}, {"maskaug_ratio": 5}, {"maskaug_mode": "<b>"},
        {"direction": {"a": 1}}, {"direction": [["left"]]}, {"allow_truncated": "yes"}, {"mask_blur": None},
        {"direction": "x" * 5000}, {"video": "/etc/passwd"},
    ],
)  # fmt: skip
def test_what_does_not_fit_its_field_is_passed_over(given):
    assert recalled({"task": "outpainting", **given})[2] == {}


@pytest.mark.parametrize(
    "given", [{}, {"task": 3}, {"task": "nothing"}, {"task": "gray", "mode": "x"}, {"task": "a(+b"}]
)
def test_unknown_tasks_and_modes_are_refused(given):
    with pytest.raises(InputError):
        recalled(given)
