import subprocess
import sys

import pytest

from vace.conditioning.sizes import (
    LTX_STRIDE,
    Size,
    aspect_matches,
    fit_area,
    max_frames,
    parse_size,
    source_frames,
    token_count,
)
from vace.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("480p", Size(832, 480, 32760)),
        ("720P", Size(1280, 720, 75600)),
        ("832x480", Size(832, 480, 32760)),
        ("480*832", Size(480, 832, 32760)),
        (" 1024 X 576 ", Size(1024, 576, 64 * 36 * 21)),
        ("16x16", Size(16, 16, 21)),
    ],
)
def test_sizes_are_read_width_first(text, expected):
    assert parse_size(text) == expected


def test_the_budget_follows_stride_and_clip_length():
    size = parse_size("768x512", stride=LTX_STRIDE, frames=97)
    assert size == Size(768, 512, 24 * 16 * 13)
    assert size.area == 768 * 512
    assert str(size) == "768x512"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("481p", "did you mean '480p'"),
        ("abc", "480p, 720p"),
        ("0x480", "two positive whole numbers"),
        ("-832x480", "two positive whole numbers"),
        ("832x", "two positive whole numbers"),
        ("832.5x480", "two positive whole numbers"),
        ("", "two positive whole numbers"),
        ("850x480", "use 848x480 or 864x480"),
        ("832x484", "use 832x480 or 832x496"),
        ("10x10", "use 16x16"),
    ],
)
def test_a_size_that_cannot_be_used_names_what_can(text, said):
    with pytest.raises(InputError, match="--size") as caught:
        parse_size(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_stride_of_the_model_is_named():
    with pytest.raises(InputError, match="multiples of 32: use 832x480 or 832x512"):
        parse_size("832x484", stride=LTX_STRIDE)


@pytest.mark.parametrize(
    ("source", "area", "expected"),
    [
        ((1920, 1080), 832 * 480, (832, 480)),
        ((1080, 1920), 832 * 480, (464, 848)),
        ((1024, 1024), 832 * 480, (640, 624)),
        ((320, 240), 832 * 480, (320, 240)),  # never enlarged
        ((333, 241), 832 * 480, (320, 240)),
        ((100000, 16), 832 * 480, (24960, 16)),  # one row at least
    ],
)
def test_a_source_keeps_its_aspect_within_the_area(source, area, expected):
    assert fit_area(*source, area) == expected


def test_a_source_smaller_than_a_stride_is_refused():
    with pytest.raises(InputError, match="clip.mp4 is 40x15 pixels; the model needs at least 16x16"):
        fit_area(40, 15, 832 * 480, name="clip.mp4")
    with pytest.raises(InputError, match="at least 32x32"):
        source_frames(40, 31, Size(768, 512, 4992), LTX_STRIDE)


def test_tokens_count_references_as_latent_frames():
    assert token_count(832, 480, 81) == 32760
    assert token_count(832, 480, 81, refs=2) == 32760 + 2 * 1560
    assert token_count(48, 32, 1) == 6


def test_the_longest_clip_of_a_size():
    assert max_frames(832, 480, 32760) == 81
    assert max_frames(832, 480, 32759) == 77
    assert max_frames(1280, 720, 75600) == 81
    assert max_frames(416, 240, 32760) == 333
    assert max_frames(768, 512, 4992, LTX_STRIDE) == 97
    with pytest.raises(InputError, match="1560 tokens a frame, over the budget of 1000"):
        max_frames(832, 480, 1000)


def test_the_longest_clip_of_a_source():
    assert source_frames(1920, 1080, parse_size("480p")) == 81
    assert source_frames(1920, 1080, parse_size("720p")) == 81
    assert source_frames(416, 240, parse_size("480p")) == 333


def test_aspects_match_up_to_a_pixel_of_rounding():
    assert aspect_matches((1920, 1080), (853, 480))
    assert aspect_matches((853, 480), (1920, 1080))
    assert aspect_matches((1080, 1920), (270, 480))
    assert not aspect_matches((1920, 1080), (640, 480))
    assert not aspect_matches((1920, 1080), (1080, 1920))


def test_sizes_and_plans_need_no_torch():
    code = "import sys, vace.conditioning.plan, vace.conditioning.sizes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
