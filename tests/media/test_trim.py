"""Pieces of clips: the same frames as in the whole, read from where they begin, with their own time."""

from __future__ import annotations

import numpy as np
import pytest

from vace.errors import InputError
from vace.media.clip import SelectedClip, read_all
from vace.media.mask import ArrayMask, open_mask
from vace.media.trim import TrimmedClip, TrimmedMask
from vace.media.video import VideoReader

PIECES = [(0, 0), (0, 5), (7, 7), (13, 29), (29, 29), (5, 24)]
ENCODINGS = {
    "one key frame": ("clip.mp4", {"options": {"g": "250"}}),
    "many key frames": ("clip.mp4", {"options": {"g": "6", "bf": "2"}}),
    "open groups": ("clip.mp4", {"options": {"g": "6", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}}),
    "hevc": ("clip.mp4", {"codec": "libx265", "options": {"x265-params": "keyint=6:bframes=3:log-level=none"}}),
    "vp9": ("clip.webm", {"codec": "libvpx-vp9", "options": {"g": "6"}}),
    "mkv": ("clip.mkv", {"options": {"g": "6", "bf": "2"}}),
    "counted by decoding": ("clip.avi", {"codec": "mpeg4"}),
    "variable rate": ("clip.mkv", {"pts": [i * 40 if i < 15 else 600 + (i - 15) * 200 for i in range(30)]}),
}  # fmt: skip


@pytest.mark.parametrize("how", ENCODINGS)
@pytest.mark.parametrize("backend", ["auto", "av"])
def test_the_frames_of_the_whole(how, backend, make_video, make_scene):
    name, options = ENCODINGS[how]
    path = make_video(name, make_scene(30, 48, 64), **options)
    with VideoReader(path, backend=backend) as video:
        whole = read_all(video)
        for first, last in PIECES:
            piece = TrimmedClip(video, first, last)
            assert piece.frame_count == last - first + 1
            assert np.array_equal(read_all(piece), whole[first : last + 1])
            assert np.array_equal(np.concatenate(list(piece.chunks(3))), whole[first : last + 1])
            ids = [piece.frame_count - 1, 0]
            assert np.array_equal(piece.get(ids), whole[[first + i for i in ids]])


@pytest.mark.parametrize("name", ["clip.gif", "folder"])
def test_of_pictures(name, tmp_path, make_scene):
    from vace.media.image import write_image

    if name == "folder":
        path = tmp_path / "frames"
        path.mkdir()
        for number, frame in enumerate(make_scene(8, 24, 32)):
            write_image(path / f"{number}.png", frame)
    else:
        from PIL import Image

        pictures = [Image.fromarray(frame) for frame in make_scene(8, 24, 32)]
        path = tmp_path / name
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    video = VideoReader(path)
    piece = TrimmedClip(video, 3, 6)
    assert np.array_equal(read_all(piece), read_all(video)[3:7])


def test_what_lies_before_is_not_decoded(make_video, make_scene, monkeypatch):
    from vace.media import decode

    seen = []

    def counted(*given, **more):
        for frame, has_error in original(*given, **more):
            seen.append(frame)
            yield frame, has_error

    original = decode.decoded
    video = VideoReader(make_video(frames=make_scene(60, 48, 64), options={"g": "10", "bf": "0"}))
    monkeypatch.setattr(decode, "decoded", counted)
    assert len(read_all(TrimmedClip(video, 45, 49))) == 5
    assert 5 <= len(seen) <= 12  # from the key frame at 40


def test_selected_frames_of_a_piece(make_video, make_scene):
    video = VideoReader(make_video(frames=make_scene(60, 48, 64)))
    piece, whole = TrimmedClip(video, 20, 50), read_all(video)
    for ids in ([0, 1, 1, 4], [0, 30], list(range(31))):  # the second is jumped to
        assert np.array_equal(read_all(SelectedClip(piece, ids)), whole[[20 + i for i in ids]])


def test_its_time_is_its_own(make_video, make_scene):
    stamps = [i * 40 if i < 10 else 400 + (i - 10) * 200 for i in range(20)]
    video = VideoReader(make_video("clip.mkv", make_scene(20, 48, 64), pts=stamps))
    fast, slow, both = TrimmedClip(video, 2, 6), TrimmedClip(video, 12, 16), TrimmedClip(video, 8, 11)
    assert fast.fps == pytest.approx(25, rel=0.01) and slow.fps == pytest.approx(5, rel=0.01)
    assert slow.begins == pytest.approx(0.8, abs=1e-3) and slow.duration == pytest.approx(1.0, abs=1e-3)
    assert slow.timestamps[:, 0].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=1e-3)
    assert np.diff(both.timestamps[:, 0]).tolist() == pytest.approx([0.04, 0.04, 0.2], abs=1e-3)


@pytest.mark.parametrize("fps", [24, 25, 30, 60])
def test_a_constant_rate_stays_what_it_is(fps, make_video, make_scene):
    video = VideoReader(make_video("clip.mkv", make_scene(12, 48, 64), fps=fps))
    for first, last in ((0, 0), (5, 5), (3, 4), (2, 10)):
        assert TrimmedClip(video, first, last).fps == video.fps


def test_frames_outside_are_refused(make_video):
    piece = TrimmedClip(VideoReader(make_video()), 2, 5)
    for index in (-1, 4):
        with pytest.raises(IndexError, match="0 to 3"):
            piece.get([index])


def test_pieces_of_masks(make_video, tmp_path, make_scene):
    from vace.media.image import write_image

    array = np.random.default_rng(1).integers(0, 2, (9, 24, 32), np.uint8) * 255
    folder = tmp_path / "masks"
    folder.mkdir()
    for number, mask in enumerate(array):
        write_image(folder / f"{number}.png", mask)
    for mask in (ArrayMask(array), open_mask(folder), open_mask(make_video(frames=make_scene(9, 24, 32)))):
        whole, piece = np.concatenate(list(mask.chunks())), TrimmedMask(mask, 3, 7)
        assert piece.frame_count == 5 and not hasattr(piece, "get")
        assert np.array_equal(np.concatenate(list(piece.chunks(2))), whole[3:8])
        assert np.array_equal(np.concatenate(list(piece.chunks(2, 1))), whole[4:8])


def test_damage_in_the_piece_is_told(make_video, make_scene):
    path = make_video("clip.mp4", make_scene(60, 96, 160), options={"g": "10"})
    with VideoReader(path) as video:
        size = path.stat().st_size
        piece = TrimmedClip(video, 30, 59)
        data = bytearray(path.read_bytes())
        data[int(size * 0.7) : int(size * 0.75)] = bytes(int(size * 0.75) - int(size * 0.7))
        path.write_bytes(data)
        with pytest.raises(InputError, match="damaged inside: frame .* cannot be decoded"):
            read_all(piece)
