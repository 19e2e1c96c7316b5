"""Settings: what the user said, else the checkpoint's own, else the published defaults; every wrong one is named."""

from __future__ import annotations

import math

import pytest

from vace.bases import BASES, LTX, WAN, find_base
from vace.errors import InputError
from vace.settings import defaults_of, describe_preset, resolve_settings


def test_published_defaults():
    settings = resolve_settings("a cat", {}, {})
    assert (settings.steps, settings.shift, settings.guidance_scale, settings.seed) == (50, 16.0, 5.0, 2025)
    assert (settings.area.width, settings.area.height, settings.area.max_tokens) == (832, 480, 32760)
    assert settings.options["sampler"] == "unipc" and settings.negative_prompt is None
    assert settings.context_scale == settings.options["context_end"] == 1.0
    assert settings.options["step_cache"] == 0 and settings.options["guidance_interval"] == (0, 1)  # all exact
    assert settings.asked_frames is None and settings.frame_num == 81


def test_the_user_comes_first_then_the_checkpoint():
    own = {"steps": 6, "frames": 17, "guidance": 3.0, "size": "128x80", "negative_prompt": "fog", "unknown": 1}
    settings = resolve_settings("a cat", {"steps": 9, "negative_prompt": ""}, own)
    assert (settings.steps, settings.frame_num, settings.guidance_scale) == (9, 17, 3.0)
    assert settings.negative_prompt == ""  # really empty, not the checkpoint's
    assert settings.area.max_tokens == 8 * 5 * 5


@pytest.mark.parametrize("flag", ["shift", "guidance_scale"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_scales_are_positive_and_finite(flag, value):
    with pytest.raises(InputError, match=f"--{flag}"):
        resolve_settings("a cat", {flag: value}, {})


@pytest.mark.parametrize(
    ("flag", "value"),
    [("steps", 0), ("steps", 1.5), ("num_videos", 0), ("context_scale", -1), ("frame_num", 6), ("size", "10x10"),
     ("sampler", "heun"), ("frame_policy", "all"), ("fill_mask", "black"), ("out_format", "avi"), ("ring_size", 2)],
)  # fmt: skip
def test_wrong_values_name_their_flag(flag, value):
    with pytest.raises(InputError, match=f"--{flag}"):
        resolve_settings("a cat", {flag: value}, {})


def test_off_values_of_multi_device_flags_are_taken():
    resolve_settings("a cat", {"ulysses_size": 1, "ring_size": 1, "dit_fsdp": False, "t5_fsdp": False}, {})


@pytest.mark.parametrize("base", BASES.values(), ids=list(BASES))
def test_parameters_repeat_the_settings(base):
    settings = resolve_settings("a cat", {"steps": 3, "frame_num": 9}, {}, base)
    parameters = settings.parameters()
    assert parameters.pop("base") == base.name
    prompt = parameters.pop("prompt")
    assert set(parameters) == set(defaults_of(base))
    assert resolve_settings(prompt, parameters, {"steps": 8}, base) == settings


def test_find_base():
    assert find_base("wan") is WAN
    assert find_base("ltx") is find_base("lxt") is LTX  # the guide's spelling
    with pytest.raises(InputError, match="--base sora.*wan, ltx"):
        find_base("sora")


def test_published_defaults_of_ltx():
    settings = resolve_settings("a cat", {}, {}, LTX)
    assert (settings.steps, settings.shift, settings.guidance_scale, settings.seed) == (40, None, 3.0, 42)
    assert (settings.area.sides, settings.area.max_tokens, settings.frame_num) == ((768, 512), 4992, 97)
    assert settings.fps == 25.0 and settings.keeps_pace
    options = {"stg_scale": 1.0, "stg_rescale": 0.7, "stg_mode": "stg_a", "stg_skip_layers": (19,)}
    assert options.items() <= settings.options.items()


def test_height_and_width_and_precision_of_the_original():
    settings = resolve_settings("a cat", {"height": 96, "width": 128, "precision": "mixed_precision"}, {}, LTX)
    assert settings.area.sides == (128, 96) and settings.dtype == "float32"
    assert resolve_settings("a cat", {"height": 96}, {}, LTX).area.sides == (768, 96)
    assert resolve_settings("a cat", {"height": 96}, {"size": "128x64"}, LTX).area.sides == (128, 96)  # the model's own
    with pytest.raises(InputError, match="--size '0x0'"):
        resolve_settings("a cat", {"height": 0, "width": 0}, {}, LTX)
    with pytest.raises(InputError, match="--size.*--width"):
        resolve_settings("a cat", {"height": 96, "size": "64x64"}, {}, LTX)


def test_guidance_of_nought_is_off_for_ltx():
    assert resolve_settings("a cat", {"guidance_scale": 0}, {}, LTX).guidance_scale == 0
    assert [LTX.is_guided(scale) for scale in (0, 0.5, 1, 1.1)] == [False, False, False, True]
    assert [WAN.is_guided(scale) for scale in (0.5, 1, 1.1)] == [True, False, True]


def test_a_frame_rate_that_was_asked_for_counts():
    settings = resolve_settings("a cat", {"frame_rate": 30}, {}, LTX)
    assert settings.fps == 30.0 and not settings.keeps_pace
    assert not resolve_settings("a cat", {}, {}, WAN).keeps_pace


@pytest.mark.parametrize("value", ["14,19", ["14", "19"], ["19,14"], [19, 14, 19], (14, 19)])
def test_lists_of_layers(value):
    assert resolve_settings("a", {"stg_skip_layers": value}, {}, LTX).options["stg_skip_layers"] == (14, 19)


@pytest.mark.parametrize(
    ("flag", "value"),
    [("frame_num", 85), ("size", "832x496"), ("stg_scale", -1), ("stg_rescale", 1.5), ("stg_mode", "stg_x"),
     ("stg_skip_layers", "last"), ("stg_skip_layers", "-1"), ("posterior", "mean"), ("frame_rate", 0),
     ("frame_rate", 1e9), ("guidance_scale", -1),
     ("decode_timestep", 2), ("decode_noise_scale", -0.1), ("shift", 0)],
)  # fmt: skip
def test_wrong_values_of_ltx_name_their_flag(flag, value):
    with pytest.raises(InputError, match=f"--{flag}"):
        resolve_settings("a cat", {flag: value}, {}, LTX)


@pytest.mark.parametrize(
    ("base", "flag", "value"), [(WAN, "stg_scale", 1.0), (WAN, "height", 64), (LTX, "sampler", "unipc")]
)
def test_flags_of_the_other_base_are_refused(base, flag, value):
    with pytest.raises(InputError, match=f"--{flag}: a setting of --base"):
        resolve_settings("a cat", {flag: value}, {}, base)


def test_a_dead_flag_of_the_original_is_taken_and_told(caplog):
    resolve_settings("a cat", {"image_cond_noise_scale": 0.15}, {}, LTX)
    assert "--image_cond_noise_scale has no effect" in caplog.text


@pytest.mark.parametrize(
    ("base", "name", "values"),
    [
        (WAN, "quality", {"steps": 50, "shift": 16.0, "guidance_scale": 5.0, "sampler": "unipc"}),
        (WAN, "balanced", {"steps": 30, "shift": 16.0, "guidance_scale": 5.0, "sampler": "unipc"}),
        (LTX, "quality", {"steps": 40, "guidance_scale": 3.0, "stg_scale": 1.0}),
        (LTX, "balanced", {"steps": 25, "guidance_scale": 3.0, "stg_scale": 1.0}),
    ],
)
def test_presets(base, name, values):
    found = resolve_settings("a cat", {"preset": name}, {}, base).parameters()
    assert {key: found[key] for key in values} == values
    assert "preset" not in found


@pytest.mark.parametrize("base", BASES.values(), ids=str)
def test_presets_are_made_of_settings_and_quality_is_what_was_published(base):
    for values in base.presets.values():
        assert set(values) <= set(defaults_of(base))
    assert resolve_settings("a cat", {"preset": "quality"}, {}, base) == resolve_settings("a cat", {}, {}, base)


def test_flags_come_before_the_preset_and_the_preset_before_the_checkpoint():
    own = {"steps": 8, "guidance": 2.0, "size": "96x64"}
    found = resolve_settings("a cat", {"preset": "balanced", "guidance_scale": 4.0}, own)
    assert (found.steps, found.guidance_scale, found.shift, found.size) == (30, 4.0, 16.0, "96x64")
    assert resolve_settings("a cat", {"steps": 3, "preset": "balanced"}, own).steps == 3


@pytest.mark.parametrize(
    ("name", "told"), [("balance", "did you mean 'balanced'"), ("fast", "known: balanced, quality")]
)
@pytest.mark.parametrize("base", BASES.values(), ids=str)
def test_an_unknown_preset_tells_the_known_ones(base, name, told):
    with pytest.raises(InputError, match=f"--preset {name}: not a preset of {base.name}; {told}"):
        resolve_settings("a cat", {"preset": name}, {}, base)


@pytest.mark.parametrize(
    ("base", "given", "line"),
    [
        (WAN, {}, "preset balanced: steps 30, shift 16, guidance_scale 5, sampler unipc"),
        (WAN, {"steps": 12}, "preset balanced: steps 12 (given), shift 16, guidance_scale 5, sampler unipc"),
        (LTX, {}, "preset balanced: steps 25, guidance_scale 3, stg_scale 1"),
    ],
)
def test_a_preset_is_told_in_full(base, given, line):
    assert describe_preset({"preset": "balanced", **given}, base) == line
