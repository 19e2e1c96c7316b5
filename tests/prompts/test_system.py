"""What a language model is told: the rules of each mode, and what is known of the job."""

from __future__ import annotations

import re

import pytest

from vace.errors import InputError
from vace.prompts.extend import language_of
from vace.prompts.system import SYSTEM, complete, task_names
from vace.tasks import LAYERED, TASKS


def test_every_mode_asks_for_a_description_alone_in_its_language():
    assert list(SYSTEM) == ["wan_zh", "wan_en", "ltx_en"]
    for name, system in SYSTEM.items():
        assert language_of(system.text) == language_of(system.lead) == system.language == name[-2:]
        assert "{" not in system.text and "}" not in system.text
    for name in ("wan_en", "ltx_en"):
        text = SYSTEM[name].text
        for wanted in ("Describe, never instruct", "how many of each", "quotation marks stay exactly as they are",
                       "one paragraph", "no markdown", "description alone"):  # fmt: skip
            assert wanted in text
    for wanted in ("只描述，不下指令", "数量", "逐字照抄", "写成一段", "只输出这段描述"):
        assert wanted in SYSTEM["wan_zh"].text


def test_ltx_keeps_a_set_order_and_fits_its_text_encoder():
    text = SYSTEM["ltx_en"].text
    parts = ("main action, with which the first words begin", "further movements", "things look", "background",
             "camera angle", "light and colours", "kind of footage")  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert SYSTEM["ltx_en"].limit <= 128 / 1.4  # tokens per word
    asked = re.search(r"(\d+) to (\d+) words", text)
    assert int(asked[1]) < int(asked[2]) <= SYSTEM["ltx_en"].limit
    assert SYSTEM["wan_en"].limit > SYSTEM["ltx_en"].limit


def test_nothing_known_adds_nothing():
    assert all(complete(name) == SYSTEM[name].text for name in SYSTEM)


@pytest.mark.parametrize("mode", SYSTEM)
@pytest.mark.parametrize("task", [name for name in TASKS if name != LAYERED])
def test_every_task_is_told_with_its_meaning(mode, task):
    text = complete(mode, task=task)
    assert text.startswith(SYSTEM[mode].text)
    told = text.removeprefix(SYSTEM[mode].text)
    assert task in told
    assert (TASKS[task].help.rstrip(".") in told) == (mode != "wan_zh")  # it is English
    same = {complete(mode, task=name).splitlines()[-1] for name in TASKS
            if TASKS[name].group == TASKS[task].group and name != LAYERED}  # fmt: skip
    assert same == {text.splitlines()[-1]}  # what a group means is one sentence or two


def test_groups_differ_and_repainting_does_not_name_what_is_removed():
    names = {row.group: row.name for row in TASKS.values() if row.name != LAYERED}
    lines = {group: complete("wan_en", task=name).splitlines()[-1] for group, name in names.items()}
    assert len(set(lines.values())) == len(lines) == 6
    assert "do not name the removed thing at all" in lines["repainting"]
    assert "depth map" in lines["control"] and "is not seen in it" in lines["control"]
    assert "完全不要提到它" in complete("wan_zh", task="inpainting")
    assert "not named" in complete("ltx_en", has_video=True, has_mask=True)  # where the task is not known


def test_references_are_counted_and_told_for_what_they_are():
    assert "Reference pictures: 2, which you cannot see (a subject cut out on white)" in complete(
        "wan_en", task="reference_anything", refs=2
    )
    assert "(a face cut out)" in complete("ltx_en", task="image_face", refs=1)
    assert "(a picture)" in complete("ltx_en", refs=1)
    own = complete("wan_en", refs=["a red car", "my dog Bello"])
    assert "Reference pictures: 2" in own and "(1: a red car; 2: my dog Bello)" in own
    assert "give each its own clause" in own
    chinese = complete("wan_zh", task="animate_anything", refs=3)
    assert "共3张" in chinese and "从背景中抠出的主体" in chinese
    assert "Reference" not in complete("wan_en", task="depth", refs=0)


def test_the_chinese_rules_hold_no_english_but_names():
    for task in TASKS:
        if task != LAYERED:
            text = complete("wan_zh", task=task, refs=1, has_video=True, has_mask=True, seconds=5)
            assert re.findall(r"[A-Za-z]\w*", text.replace(f"任务：{task}", "任务：")) == []


def test_the_white_around_what_is_cut_out_is_no_part_of_the_scene():
    white = {"wan_en": "white is no part of the scene", "ltx_en": "mention no white ground", "wan_zh": "白底不属于场景"}
    for mode, told in white.items():
        for refs in (2, ["a red car"]):
            assert told in complete(mode, task="reference_anything", refs=refs)
            assert told in complete(mode, task="depth(video=a.mp4)+image_salient(image=b.png)", refs=refs)
            assert told not in complete(mode, task="image_depth", refs=refs)
            assert told not in complete(mode, refs=refs)
        assert told not in complete(mode, task="swap_anything", has_video=True)


def test_video_mask_and_length_are_told_when_they_are_there():
    text = complete("wan_en", task="inpainting", has_video=True, has_mask=True, seconds=81 / 16)
    assert "A source video is given" in text and "Only the masked part" in text and "about 5.1 seconds" in text
    text = complete("wan_en", task="frameref", seconds=4.0)
    assert "source video" not in text and "masked" not in text and "about 4 seconds" in text
    assert "约4秒" in complete("wan_zh", seconds=4)


def test_joined_tasks_are_all_told():
    joined = "frameref(mode=firstframe,image=a.png)+outpainting(direction=left)+image_face(image=b.png)"
    assert task_names(joined) == ["frameref", "outpainting", "image_face"]
    text = complete("wan_en", task=joined, refs=1)
    lines = text.removeprefix(SYSTEM["wan_en"].text).splitlines()
    assert [line for line in lines if line.startswith("- Task: ")] == [
        f"- Task: {name} ({TASKS[name].help.rstrip('.')})" for name in ("frameref", "outpainting", "image_face")
    ]
    assert "one continuous shot" in text and "removed thing" in text and "(a face cut out)" in text


def test_unknown_tasks_are_refused():
    with pytest.raises(InputError, match="no such task.*did you mean 'depth'"):
        complete("wan_en", task="dept")
    with pytest.raises(InputError, match="no task 'nonsense'"):
        complete("wan_en", task="depth+nonsense")
    assert task_names(None) == []
