"""Frames and pictures for the browser, painted masks back from it."""

from __future__ import annotations

import base64
import io
import struct
from pathlib import Path

import av
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


def gif(width: int, height: int, frames: int) -> bytes:
    """One of few bytes: a pixel is drawn again and again."""
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    pixel = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + (b"\x21\xf9\x04\x04\x0a\0\0\0" + pixel) * frames + b";"


def decoding(*_, **__):
    raise AssertionError("it was decoded")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("one.gif", gif(13000, 13000, 1), "is 13000x13000, too large to show here"),
        ("three.gif", gif(13000, 13000, 3), "is 13000x13000, too large to show here"),
        ("huge.gif", gif(65535, 65535, 2), "too large to show here"),
        ("long.gif", gif(64, 48, 60000), "more than 5000 frames, too long to show here"),
        ("much.gif", gif(6000, 6000, 200), "200 frames, too long to show here"),
        ("clip.mp4", gif(13000, 13000, 3), "is 13000x13000, too large to show here"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_promises_of_any_size_are_not_decoded(tmp_path, monkeypatch, name, content, words):
    for place in ("vace.media.video.VideoReader", "vace.media.image.read_image"):
        monkeypatch.setattr(place, decoding)
    path = tmp_path / name
    path.write_bytes(content)
    for look in (stills.clip_facts, stills.frame_of, stills.picture_of):
        with pytest.raises(InputError, match=words):
            look(path)


def test_large_pictures_are_refused_by_their_header(tmp_path, monkeypatch):
    monkeypatch.setattr("vace.media.image.read_image", decoding)
    path = tmp_path / "large.png"
    Image.new("1", (13000, 13000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="large.png: is 13000x13000, too large to show here"):
        stills.picture_of(path)


def h264(path: Path, width: int, height: int, told: tuple[int, int] | None = None) -> Path:
    """A clip of one frame; told: the size that its container tells instead of the true one."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    if told:
        data = path.read_bytes()
        true, lie = struct.pack(">HH", width, height), struct.pack(">HH", *told)
        assert data.count(true)
        path.write_bytes(data.replace(true, lie))
    return path


def test_large_videos_are_refused_by_their_header(tmp_path, monkeypatch):
    small = h264(tmp_path / "small.mp4", 640, 480)
    assert stills.clip_facts(small).width == 640
    monkeypatch.setattr("vace.media.video.VideoReader", decoding)
    monkeypatch.setattr(stills, "MOST_PIXELS", 640 * 480 - 1)
    with pytest.raises(InputError, match="small.mp4: is 640x480, too large to show here"):
        stills.frame_of(small)
    lying = h264(tmp_path / "lying.mp4", 640, 480, (64, 48))
    with pytest.raises(InputError, match="lying.mp4: is .*too large to show here"):
        stills.frame_of(lying)
