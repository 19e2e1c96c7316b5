"""From the widgets of the settings to keywords of the verb, and from a recipe back to the widgets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

gr = pytest.importorskip("gradio", reason="the extra demo is not installed")

from vace.bases import BASES  # noqa: E402
from vace.errors import InputError  # noqa: E402
from vace.flags import FLAGS  # noqa: E402
from vace.gradios.offers import Model  # noqa: E402
from vace.gradios.settings_panel import SERVERS, SettingsPanel, belongs  # noqa: E402
from vace.settings import defaults_of  # noqa: E402

MODELS = (
    Model("vace-14B", "wan", {"model_name": "vace-14B"}),
    Model("vace-tiny", "wan", {"ckpt_dir": "tiny"}),
    Model("vace-tiny-ltx", "ltx", {"ckpt_dir": "tiny"}),
)
WAN, TINY, LTX = range(3)


@pytest.fixture(scope="module")
def panel():
    with gr.Blocks():
        return SettingsPanel(SimpleNamespace(models=MODELS), "generate")


def values(panel, **changed):
    """What the page would send: every widget as it is at first, some changed."""
    first = {name: widget.value for name, widget in panel._widgets.items()}
    assert changed.keys() <= first.keys()
    return list({**first, **changed}.values())


def shown(panel, parameters):
    return dict(zip(panel._widgets, panel.updates(parameters), strict=True))


def test_untouched_widgets_leave_everything_to_the_verb(panel):
    flags = panel.flags(values(panel, prompt=" a cat "))
    assert flags == {"base": "wan", "model_name": "vace-14B", "prompt": "a cat", "seed": -1, "num_videos": 1}


def test_every_setting_of_every_base_has_a_widget(panel):
    for base in BASES.values():
        missing = set(defaults_of(base)) - set(panel._widgets) - set(SERVERS)
        assert not missing
        assert all(belongs(name, base) for name in defaults_of(base))
    ids = [widget.elem_id for widget in panel.inputs]
    assert len(set(ids)) == len(ids)
    assert {"generate-prompt", "generate-model", "generate-seed", "generate-steps"} <= set(ids)


def test_what_is_said_is_told_in_the_flags_own_types(panel):
    said = {"prompt": "x", "model": LTX, "steps": "12", "guidance_scale": "2.5", "size": "512x320", "frame_num": "25",
            "stg_mode": "stg_r", "stg_skip_layers": "3,4", "offload_model": True, "negative_prompt": " ", "seed": 5,
            "preset": "balanced", "use_prompt_extend": "auto", "sampler": "unipc"}  # fmt: skip
    flags = panel.flags(values(panel, **said))
    assert flags == {
        "base": "ltx", "ckpt_dir": "tiny", "prompt": "x", "steps": 12, "guidance_scale": 2.5, "size": "512x320",
        "frame_num": 25, "stg_mode": "stg_r", "stg_skip_layers": ["3,4"], "offload_model": True, "negative_prompt": "",
        "seed": 5, "preset": "balanced", "use_prompt_extend": "auto", "num_videos": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("changed", "line"), [
    ({"prompt": "  "}, "--prompt: empty"), ({"steps": "many"}, "--steps"), ({"steps": "0"}, "--steps 0"),
    ({"frame_num": "80"}, "80"), ({"size": "10x10"}, "10x10"), ({"seed": -5}, "--seed -5"),
    ({"frame_num": "5 --ckpt_dir=/etc"}, "--frame_num"), ({"preset": "best"}, "--preset best"),
])  # fmt: skip
def test_what_the_command_line_refuses_is_refused(panel, changed, line):
    with pytest.raises(InputError, match=line):
        panel.flags(values(panel, **{"prompt": "x", **changed}))


@pytest.mark.parametrize("place", [None, -1, 99, "2", 1.5])
def test_a_model_that_is_not_offered_is_the_first(panel, place):
    assert panel.flags(values(panel, prompt="x", model=place))["model_name"] == "vace-14B"


def test_a_recipe_fills_the_widgets_and_comes_back_as_flags(panel):
    recipe = {"base": "ltx", "model": {"name": "vace-tiny-ltx"}, "prompt": "p", "steps": 3, "seed": 9,
              "stg_skip_layers": ["4"], "negative_prompt": "", "size": "128x96", "stg_rescale": 0.5}  # fmt: skip
    updates = shown(panel, recipe)
    assert updates["model"]["value"] == LTX
    assert updates["stg_scale"]["visible"] and not updates["sampler"]["visible"]
    changed = {name: update["value"] for name, update in updates.items() if "value" in update}
    flags = panel.flags(values(panel, **changed))
    assert flags == {"base": "ltx", "ckpt_dir": "tiny", "prompt": "p", "steps": 3, "seed": 9, "num_videos": 1,
                     "stg_skip_layers": ["4"], "negative_prompt": "", "size": "128x96", "stg_rescale": 0.5}  # fmt: skip


def test_what_the_recipe_does_not_say_is_emptied_and_the_machine_stays(panel):
    updates = shown(panel, {"base": "wan", "model": {"name": "vace-tiny"}, "prompt": "p"})
    assert (updates["model"]["value"], updates["steps"]["value"], updates["seed"]["value"]) == (TINY, "", -1)
    assert all("value" not in updates[name] for name in ("offload_model", "t5_cpu", "intermediates"))


def test_a_model_that_is_not_here_is_told(panel):
    updates = shown(panel, {"base": "ltx", "model": {"name": "vace-ltx-0.9"}, "prompt": "p"})
    assert updates["model"]["value"] == LTX
    assert "vace-ltx-0.9" in updates["model"]["info"]


def test_numbers_of_another_base_stay_out():
    with gr.Blocks():
        panel = SettingsPanel(SimpleNamespace(models=MODELS[:1]), "generate")
    updates = shown(
        panel, {"base": "ltx", "model": {"name": "vace-ltx-0.9"}, "prompt": "p", "steps": 40, "size": "512p"}
    )
    assert (updates["model"]["value"], updates["prompt"]["value"]) == (0, "p")
    assert (updates["steps"]["value"], updates["size"]["value"]) == ("", "")


def test_dangerous_keys_have_no_widget_to_go_to(panel):
    harmless = {flag.name for flag in FLAGS} & set(panel._widgets)
    for name in ("ckpt_dir", "config", "text_encoder_path", "device", "save_dir", "save_file", "prompt_api",
                 "prompt_api_model", "prompt_model", "src_video"):  # fmt: skip
        assert name not in harmless
    flags = panel.flags(values(panel, prompt="x"))
    assert not {"device", "save_dir", "ckpt_dir"} & flags.keys()


def test_the_seed_used_can_be_used_again(panel):
    seed, button = panel.seed_used({"seed": 77})
    assert (seed, button["value"], button["visible"]) == (77, "Use seed 77 again", True)
