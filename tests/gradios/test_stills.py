"""Frames and pictures for the browser, painted masks back from it."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from vace.errors import InputError
from vace.gradios import stills
from vace.media.image import read_mask_image


def address(picture: Image.Image, form: str = "PNG") -> str:
    stream = io.BytesIO()
    picture.save(stream, form)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def opened(still: stills.Still) -> np.ndarray:
    kind, data = still.picture.split(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_facts_and_frames_of_a_clip(media):
    facts = stills.clip_facts(media / "clip.mp4")
    assert (facts.frames, facts.fps, facts.width, facts.height) == (30, 25, 96, 64)
    assert facts.describe(0, 29) == "96x64, all of 30 frames used: 1.2 s at 25 frames a second"
    assert facts.describe(5, 9) == "96x64, 5 of 30 frames used: 0.2 s at 25 frames a second"
    first, later = stills.frame_of(media / "clip.mp4"), stills.frame_of(media / "clip.mp4", 20)
    assert (first.width, first.height) == (96, 64) and opened(first).shape == (64, 96, 3)
    assert np.abs(opened(first).astype(int) - opened(later)).max() > 60  # the square has moved
    assert stills.frame_of(media / "clip.mp4", 400) == stills.frame_of(media / "clip.mp4", 29)


def test_large_pictures_are_shown_smaller_but_keep_their_size(tmp_path):
    Image.new("RGB", (4000, 1000), "red").save(tmp_path / "large.png")
    still = stills.picture_of(tmp_path / "large.png")
    assert (still.width, still.height) == (4000, 1000)
    assert opened(still).shape == (320, 1280, 3)


def test_an_empty_canvas_has_the_size_that_was_asked_for():
    assert stills.empty_canvas("640x352") == stills.Still(640, 352)
    assert stills.empty_canvas("480p") == stills.Still(832, 480)
    assert stills.empty_canvas("large") == stills.Still(0, 0)


def test_what_is_painted_becomes_a_mask_of_white_and_black(tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 30:50] = 255
    mask[20, 30:50] = 90  # the soft edge of a brush
    path = stills.painted(address(Image.fromarray(mask).convert("RGBA")), tmp_path / "new")
    assert path.parent == tmp_path / "new"
    assert (read_mask_image(path) == np.where(mask == 255, 255, 0)).all()


@pytest.mark.parametrize("value", [None, "", address(Image.new("RGB", (8, 8)))])
def test_nothing_painted_is_no_mask(value, tmp_path):
    assert stills.painted(value, tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value",
    [
        "/etc/passwd", 7, ["a"], "data:image/png;base64,aaaa", "data:image/png;base64,a", "data:text/html;base64,aaaa",
        address(Image.new("RGB", (8, 8), "white"), "JPEG"), address(Image.new("L", (9000, 1), 255)),
    ],
)  # fmt: skip
def test_anything_else_is_refused(value, tmp_path):
    with pytest.raises(InputError, match="--ref_mask: .*painted"):
        stills.painted(value, tmp_path, "--ref_mask")
    assert not list(tmp_path.iterdir())
