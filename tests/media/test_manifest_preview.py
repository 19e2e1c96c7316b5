"""Records, hashes and previews; and the example media themselves."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from vace.errors import InputError, OutputError
from vace.media.clip import read_all
from vace.media.image import read_image, read_mask_image
from vace.media.manifest import file_record, read_comment, read_json, sha256_file, write_json
from vace.media.preview import TINT, preview_frames
from vace.media.video import VideoReader


def test_hashes(tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 8193)  # more than one block
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert sha256_file(path) == digest
    assert file_record(path) == {"name": "big.bin", "sha256": digest, "bytes": 256 * 8193}
    with pytest.raises(InputError, match="no such file"):
        sha256_file(tmp_path / "absent")


def test_json(tmp_path):
    value = {"prompt": "ein Häschen", "boxes": [[1, 2, 3, 4]], "none": None}
    write_json(tmp_path / "deep" / "manifest.json", value)
    assert read_json(tmp_path / "deep" / "manifest.json") == value
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["manifest.json"]
    with pytest.raises(TypeError):
        write_json(tmp_path / "bad.json", {"array": np.zeros(2)})
    with pytest.raises(OutputError, match="a folder has that name"):
        write_json(tmp_path / "deep", value)
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"{", "not valid JSON"), (b"\xff\xfe\x00", "not valid JSON"), (b"", "is empty")],
)
def test_bad_json(tmp_path, data, expected):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(InputError, match=expected):
        read_json(tmp_path / "a.json")


def test_comment_of_no_video(tmp_path):
    (tmp_path / "a.mp4").write_text("words")
    with pytest.raises(InputError, match="not a video"):
        read_comment(tmp_path / "a.mp4")


def test_preview_tints_only_the_mask(make_scene):
    frames = make_scene(3, 40, 60)
    masks = np.zeros((3, 40, 60), np.uint8)
    masks[:, 10:30, 20:50] = 255
    masks[:, 0, 0] = 127
    shown = preview_frames(frames, masks)
    inner = (slice(None), slice(12, 28), slice(22, 48))
    assert shown.dtype == np.uint8
    assert np.array_equal(shown[:, :8], frames[:, :8])
    expected = 0.6 * frames[inner] + 0.4 * np.array(TINT)
    assert np.abs(shown[inner] - expected).max() <= 1
    assert (shown[:, 10, 20:50] == TINT).all(), "the outline is opaque"
    assert preview_frames(frames, None) is frames


def test_example_clips(assets):
    expected = {"test.mp4": (640, 360, 25.0, 84), "test2.mp4": (480, 320, 30.0, 90)}
    for name, (width, height, fps, count) in expected.items():
        reader = VideoReader(assets / "videos" / name)
        assert (reader.width, reader.height, reader.fps, reader.frame_count) == (width, height, fps, count)
        assert reader.has_audio
        frames = read_all(reader)
        assert len(frames) == count
        assert np.abs(np.diff(frames[::20].astype(int), axis=0)).mean() > 1, "something moves"
        assert np.array_equal(VideoReader(assets / "videos" / name, backend="decord").get([0, 50]), frames[[0, 50]])


def test_example_images_and_masks(assets):
    clip = VideoReader(assets / "videos/test.mp4")
    photos = [read_image(assets / "images" / name) for name in ("test.jpg", "test2.jpg", "test3.jpg")]
    assert all(photo.std() > 20 for photo in photos)
    for name, shape in (("test.png", (clip.height, clip.width)), ("test2.png", photos[0].shape[:2])):
        mask = read_mask_image(assets / "masks" / name)
        assert mask.shape == shape
        assert set(np.unique(mask)) == {0, 255}
        assert 0.05 < (mask > 0).mean() < 0.7


def test_example_media_are_small_and_credited(assets):
    files = [file for folder in ("videos", "images", "masks") for file in (assets / folder).iterdir()]
    assert sum(file.stat().st_size for file in files) < 6_000_000
    notice = (assets / "NOTICE.md").read_text(encoding="utf-8")
    for file in files:
        assert f"{file.parent.name}/{file.name}" in notice
