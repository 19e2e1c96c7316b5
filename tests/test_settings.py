"""Settings: what the user said, else the checkpoint's own, else the published defaults; every wrong one is named."""

from __future__ import annotations

import math

import pytest

from vace.errors import InputError
from vace.settings import DEFAULTS, check_base, resolve_settings


def test_published_defaults():
    settings = resolve_settings("a cat", {}, {})
    assert (settings.steps, settings.shift, settings.guidance_scale, settings.seed) == (50, 16.0, 5.0, 2025)
    assert (settings.area.width, settings.area.height, settings.area.max_tokens) == (832, 480, 32760)
    assert settings.sampler == "unipc" and settings.context_scale == 1.0 and settings.negative_prompt is None
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
     ("sampler", "euler"), ("frame_policy", "all"), ("fill_mask", "black"), ("out_format", "avi"), ("ring_size", 2)],
)  # fmt: skip
def test_wrong_values_name_their_flag(flag, value):
    with pytest.raises(InputError, match=f"--{flag}"):
        resolve_settings("a cat", {flag: value}, {})


def test_off_values_of_multi_device_flags_are_taken():
    resolve_settings("a cat", {"ulysses_size": 1, "ring_size": 1, "dit_fsdp": False, "t5_fsdp": False}, {})


def test_parameters_repeat_the_settings():
    settings = resolve_settings("a cat", {"steps": 3, "frame_num": 9}, {})
    parameters = settings.parameters()
    prompt = parameters.pop("prompt")
    assert set(parameters) == set(DEFAULTS)
    assert resolve_settings(prompt, parameters, {"steps": 8}) == settings


def test_base():
    assert check_base("wan") == "wan"
    with pytest.raises(InputError, match="--base ltx"):
        check_base("lxt")
