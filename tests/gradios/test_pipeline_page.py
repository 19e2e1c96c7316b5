"""The Create page: what is asked of the verb, and settings back from a recipe."""

from __future__ import annotations

import gradio as gr
import pytest

from vace.errors import InputError
from vace.gradios.offers import Model
from vace.gradios.pipeline_page import PipelinePage
from vace.gradios.studio import Studio
from vace.gradios.workers import Workers

TOY = Model("vace-tiny", "wan", {"ckpt_dir": "tiny"})


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    workers = Workers(("cpu",))
    with gr.Blocks():
        yield PipelinePage(Studio(tmp_path_factory.mktemp("out"), workers, (TOY,)))
    workers.close()


def values(page, **given):
    """Values of all inputs as they are, but for those given by the end of their elements' names."""
    inputs = [*page.given, *page.settings.inputs]
    return [given.get(str(one.elem_id or "").removeprefix("pipeline-"), getattr(one, "value", None)) for one in inputs]


def test_words_alone_make_a_video(page):
    verb, flags, title = page._request(*values(page, group="txt2vid", task="txt2vid", prompt="a boat", seed=5))
    assert (verb, flags["task"], flags["prompt"], flags["seed"], flags["ckpt_dir"]) == (
        "pipeline", "txt2vid", "a boat", 5, "tiny",
    )  # fmt: skip
    assert title == "txt2vid"


def test_an_empty_canvas_has_the_size_of_the_video(page):
    drawn = {"task": "layout_bbox", "bbox": "6,14,30,54 62,14,90,54", "prompt": "a cat"}
    _, flags, _ = page._request(*values(page, **drawn))
    assert (flags["size"], flags["bbox"]) == ("96x64", "6,14,30,54 62,14,90,54")


def test_what_is_missing_is_told_as_the_command_does(page):
    with pytest.raises(InputError, match="--video: task gray needs one video"):
        page._request(*values(page, task="gray", prompt="a boat"))
    with pytest.raises(InputError, match="--prompt: empty"):
        page._request(*values(page, task="txt2vid"))


def test_settings_of_a_recipe_are_loaded(page):
    recipe = {"base": "wan", "model": {"name": "vace-tiny"}, "prompt": "a fox", "seed": 9, "task": "outpainting",
              "direction": ["left"], "expand_ratio": 0.5}  # fmt: skip
    updates = page.load(recipe)
    assert len(updates) == len(page.load_outputs)
    shown = dict(zip([one.elem_id for one in page.load_outputs], updates, strict=True))
    assert shown["pipeline-task"]["value"] == "outpainting" and shown["pipeline-direction"] == ["left"]
    assert shown["pipeline-prompt"]["value"] == "a fox" and shown["pipeline-seed"]["value"] == 9
    assert "loaded" in updates[-1] and "vace-error" not in updates[-1]
    assert "vace-error" in page.load(recipe | {"task": "no_such_task"})[-1]
