"""Every kind of healthy input: the right frames, count, size, rate and times, from whichever decoder."""

from __future__ import annotations

import struct

import av
import numpy as np
import pytest
from PIL import Image

from vace.errors import InputError
from vace.media.clip import Clip, read_all
from vace.media.video import VideoReader


def set_matrix(path, a, b, c, d):
    """Write a display matrix into the track header of an mp4."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    one = 65536
    struct.pack_into(">9i", data, start, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("codec", "name", "pix_fmt"),
    [
        ("libx264", "a.mp4", "yuv420p"),
        ("libx264", "a.mkv", "yuv420p"),
        ("libx264", "a.avi", "yuv420p"),
        ("libx264", "a.ts", "yuv420p"),
        ("libx264", "a.mp4", "yuv444p"),
        ("libx265", "a.mp4", "yuv420p"),
        ("libx265", "a.mp4", "yuv420p10le"),
        ("libvpx-vp9", "a.webm", "yuv420p"),
        ("libvpx", "a.webm", "yuv420p"),
        ("libsvtav1", "a.mp4", "yuv420p"),
        ("mpeg4", "a.avi", "yuv420p"),
        ("mjpeg", "a.mov", "yuvj420p"),
        ("ffv1", "a.mkv", "bgr0"),
    ],
)
def test_codecs(make_video, make_scene, decode_plainly, codec, name, pix_fmt):
    source = make_scene(14, 96, 160)
    path = make_video(name, source, codec=codec, pix_fmt=pix_fmt)
    reader = VideoReader(path)
    frames = read_all(reader)
    assert isinstance(reader, Clip)
    assert (reader.width, reader.height, reader.frame_count) == (160, 96, 14)
    assert reader.fps == pytest.approx(25.0, rel=1e-3)
    assert np.array_equal(frames, decode_plainly(path))
    assert np.abs(frames.astype(int) - source).mean() < 12
    order = [13, 0, 5, 5, 2]
    assert np.array_equal(reader.get(order), frames[order])
    assert np.allclose(reader.timestamps[:, 0], np.arange(14) / 25, atol=2e-3)


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "options"),
    [("yuv420p", "libx264", {}), ("yuvj420p", "libx264", {}), ("rgb24", "libx264rgb", {"crf": "0"})],
)
@pytest.mark.parametrize("size", [(96, 160), (50, 98), (120, 214)])
def test_both_backends_give_the_same_bytes(make_video, make_scene, pix_fmt, codec, options, size):
    path = make_video(frames=make_scene(20, *size), codec=codec, pix_fmt=pix_fmt, options={**options, "g": "6"})
    by_decord, by_av = VideoReader(path, backend="decord"), VideoReader(path, backend="av")
    assert (by_decord.backend, by_av.backend) == ("decord", "av")
    whole = read_all(by_av)
    assert np.array_equal(read_all(by_decord), whole)
    picks = [19, 3, 3, 7, 12, 0]
    assert np.array_equal(by_decord.get(picks), whole[picks])
    assert np.array_equal(by_av.get(picks), whole[picks])
    assert np.array_equal(by_decord.timestamps, by_av.timestamps)


@pytest.mark.parametrize(
    ("codec", "options", "backend"),
    [
        ("libx264", {"g": "6", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}, "av"),
        ("libx264", {"g": "6", "bf": "3"}, "decord"),
        ("libx265", {"x265-params": "keyint=6:bframes=3:log-level=none"}, "av"),
        ("libx265", {"x265-params": "keyint=6:bframes=3:open-gop=0:log-level=none"}, "decord"),
    ],
)
def test_frames_picked_backwards_are_those_of_the_whole(make_video, make_scene, codec, options, backend):
    """decord gives other frames when it jumps into an open group; a closed one it may have."""
    with VideoReader(make_video(frames=make_scene(30, 48, 64), codec=codec, options=options)) as reader:
        whole = read_all(reader)
        assert all(np.array_equal(reader.get([index])[0], whole[index]) for index in range(29, -1, -1))
        assert reader.backend == backend


def test_chunks_start_over_and_keep_their_size(make_video):
    reader = VideoReader(make_video())
    assert [len(chunk) for chunk in reader.chunks(5)] == [5, 5, 2]
    first, again = list(reader.chunks(5)), list(reader.chunks(12))
    assert np.array_equal(np.concatenate(first), again[0])
    assert not np.shares_memory(first[0], first[1])


@pytest.mark.parametrize("fps", [24, 25, 50])
def test_timestamps_are_the_float32_the_samplers_expect(make_video, fps):
    reader = VideoReader(make_video(fps=fps))
    edges = np.arange(13) / fps
    assert reader.timestamps.dtype == np.float32
    assert np.array_equal(reader.timestamps, np.stack([edges[:-1], edges[1:]], 1).astype(np.float32))
    assert reader.fps == fps
    assert reader.duration == pytest.approx(12 / fps)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, -1, 1, 0), lambda frame: np.rot90(frame, 1)),
        ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
        ((0, 1, -1, 0), lambda frame: np.rot90(frame, 3)),
        ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),
        ((1, 0, 0, -1), lambda frame: frame[::-1]),
    ],
    ids=["90", "180", "270", "mirrored", "upside down"],
)
def test_rotation_and_mirroring_are_applied(make_video, decode_plainly, matrix, turn):
    path = make_video()
    stored = decode_plainly(path)
    set_matrix(path, *matrix)
    reader = VideoReader(path)
    expected = np.stack([turn(frame) for frame in stored])
    assert (reader.height, reader.width) == expected.shape[1:3]
    assert np.array_equal(read_all(reader), expected)
    assert np.array_equal(reader.get([7, 1]), expected[[7, 1]])


def test_rotation_agrees_with_decord(make_video):
    import decord

    path = make_video(frames=None)  # 160x96: decord itself fails on turned widths that are no multiple of 32
    set_matrix(path, 0, -1, 1, 0)
    assert np.array_equal(decord.VideoReader(str(path))[3].asnumpy(), VideoReader(path).get([3])[0])


def test_variable_frame_rate(make_video):
    pts = [0, 40, 80, 200, 220, 500, 540, 900, 940, 980, 1400, 1440]
    reader = VideoReader(make_video(pts=pts, options={"bf": "2"}))
    starts = np.array(pts) / 1000
    assert reader.frame_count == 12
    assert np.allclose(reader.timestamps[:, 0], starts, atol=1e-3)
    assert np.allclose(reader.timestamps[:-1, 1], starts[1:], atol=1e-3)
    assert reader.fps == pytest.approx(11 / 1.44, rel=0.02)
    assert np.array_equal(reader.get([10, 3]), read_all(reader)[[10, 3]])


def cut_by_copy(source, target, first_shown):
    """Copy the packets so that the frames before `first_shown` are hidden by an edit list."""
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        stream = container.streams.video[0]
        copied = output.add_stream_from_template(stream)
        shift = int(first_shown / 25 / stream.time_base)
        for packet in container.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copied
                output.mux(packet)


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3"}])
def test_edit_list_hides_frames(make_video, make_scene, tmp_path, decode_plainly, options):
    source = make_video(frames=make_scene(30), options=options)
    path = tmp_path / "cut.mp4"
    cut_by_copy(source, path, 9)
    reader = VideoReader(path)
    shown = decode_plainly(path)
    assert 20 <= len(shown) < 30
    assert reader.backend == "av"
    assert reader.frame_count == len(shown)
    assert np.array_equal(read_all(reader), shown)
    assert np.array_equal(shown, decode_plainly(source)[-len(shown) :])
    assert np.array_equal(reader.get([4, 18, 0]), shown[[4, 18, 0]])
    assert reader.timestamps[0, 0] == 0
    with pytest.raises(InputError, match="edit list"):
        VideoReader(path, backend="decord")


@pytest.mark.parametrize("size", [(97, 161), (19, 17), (2, 2), (1, 1)])
def test_odd_and_tiny_sizes(make_video, make_scene, size):
    source = make_scene(5, *size)
    path = make_video(frames=source, codec="libx264rgb", pix_fmt="rgb24", options={"crf": "0"})
    reader = VideoReader(path)
    assert np.array_equal(read_all(reader), source)
    assert np.array_equal(reader.get([3, 1]), source[[3, 1]])  # decord fails on some small widths: PyAV takes over


def test_several_streams(tmp_path, make_scene, make_tone):
    path = tmp_path / "many.mkv"
    wanted = make_scene(6, 96, 160)
    with av.open(str(path), "w") as container:
        sounds = [container.add_stream("aac", rate=44100, layout="mono") for _ in range(2)]
        large, small = (container.add_stream("libx264", rate=25, options={"crf": "10"}) for _ in range(2))
        small.width, small.height, large.width, large.height = 32, 32, 160, 96
        small.pix_fmt = large.pix_fmt = "yuv420p"
        for sound in sounds:
            container.mux(sound.encode(make_tone(0.24)))
            container.mux(sound.encode(None))
        for index, pixels in enumerate(wanted):
            for stream, picture in ((large, pixels), (small, pixels[:32, :32])):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts = index
                container.mux(stream.encode(frame))
        for stream in (small, large):
            container.mux(stream.encode(None))
    reader = VideoReader(path)
    assert (reader.width, reader.height, reader.frame_count, reader.has_audio) == (160, 96, 6, True)
    assert np.abs(read_all(reader).astype(int) - wanted).mean() < 8


def test_gif_is_composited(tmp_path):
    first = Image.new("RGBA", (40, 30), (200, 30, 30, 255))
    second = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    second.paste((20, 60, 220, 255), (10, 10, 20, 20))
    path = tmp_path / "moving.gif"
    first.save(path, save_all=True, append_images=[second], duration=[200, 50], disposal=1)
    reader = VideoReader(path)
    frames = read_all(reader)
    assert (reader.width, reader.height, reader.frame_count, reader.codec) == (40, 30, 2, "gif")
    assert reader.fps == pytest.approx(8.0)
    assert np.allclose(reader.timestamps, [[0, 0.2], [0.2, 0.25]])
    assert tuple(frames[1, 0, 0]) == (200, 30, 30), "what the second frame leaves out stays"
    assert tuple(frames[1, 15, 15]) == (20, 60, 220)
    assert np.array_equal(reader.get([1, 0, 1]), frames[[1, 0, 1]])


def test_animated_webp_over_white(tmp_path):
    pictures = [Image.new("RGBA", (20, 10), (10 * i, 0, 0, 255 if i else 0)) for i in range(3)]
    path = tmp_path / "moving.webp"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    frames = read_all(VideoReader(path))
    assert frames.shape == (3, 10, 20, 3)
    assert tuple(frames[0, 0, 0]) == (255, 255, 255)
    assert tuple(frames[2, 0, 0]) == (20, 0, 0)


def test_folder_of_images_in_natural_order(tmp_path, make_scene):
    source = make_scene(12, 20, 30)
    for index, picture in enumerate(source):
        Image.fromarray(picture).save(tmp_path / f"frame_{index}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    reader = VideoReader(tmp_path)
    assert (reader.frame_count, reader.fps, reader.width, reader.height) == (12, 16.0, 30, 20)
    assert np.array_equal(read_all(reader), source)
    assert np.array_equal(reader.get([11, 2]), source[[11, 2]])


def test_single_image_is_one_frame(tmp_path, make_scene):
    picture = make_scene(1, 20, 30)
    Image.fromarray(picture[0]).save(tmp_path / "one.png")
    reader = VideoReader(tmp_path / "one.png")
    assert (reader.frame_count, reader.duration) == (1, 1 / 16)
    assert np.array_equal(read_all(reader), picture)


def test_names_with_colons_spaces_and_capitals(make_video, tmp_path):
    path = make_video()
    for name in ("12:30 Uhr, ä.MP4", "%03d.mp4", "no suffix"):
        other = path.rename(tmp_path / name)
        assert VideoReader(other).frame_count == 12
        path = other


def test_indices_outside_are_refused(make_video):
    reader = VideoReader(make_video())
    for wrong in ([12], [-1], [0, 99]):
        with pytest.raises(IndexError, match="0 to 11"):
            reader.get(wrong)
    assert reader.get([]).shape == (0, 96, 160, 3)


def test_context_manager_and_backend_name(make_video):
    with VideoReader(make_video()) as reader:
        assert reader.backend == "decord"
    with pytest.raises(InputError, match="expected one of auto, decord, av"):
        VideoReader("x.mp4", backend="opencv")


def test_decord_absent(make_video, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "decord", None)
    path = make_video()
    assert VideoReader(path).backend == "av"
    with pytest.raises(InputError, match="not installed"):
        VideoReader(path, backend="decord")
