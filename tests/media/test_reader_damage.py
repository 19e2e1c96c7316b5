"""What cannot be read in full is an InputError of one line; where allowed, reading goes on with what is there."""

from __future__ import annotations

import random

import av
import numpy as np
import pytest

from vace.errors import InputError
from vace.media.clip import read_all
from vace.media.video import VideoReader


def problem(path, **options) -> str:
    """The message of the InputError that reading all of `path` raises."""
    with pytest.raises(InputError) as caught:
        read_all(VideoReader(path, **options))
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def halve(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def packet_places(path) -> list[tuple[int, int]]:
    """(offset, size) in the file of every packet of the picture."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def test_missing_empty_text_and_garbage(tmp_path):
    assert "no such file" in problem(tmp_path / "absent.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "is empty" in problem(tmp_path / "empty.mp4")
    for name in ("words.mp4", "words.txt"):
        (tmp_path / name).write_text("just some words\n" * 100)
        assert "is not a" in problem(tmp_path / name)
    (tmp_path / "noise.mp4").write_bytes(random.Random(0).randbytes(5000))
    assert "is not a readable video" in problem(tmp_path / "noise.mp4")


def test_playlists_are_not_followed(make_video, tmp_path):
    make_video("part.ts")
    lists = {"list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\npart.ts\n#EXT-X-ENDLIST\n"}
    lists["list.txt"] = "ffconcat version 1.0\nfile part.ts\n"
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        assert "is not a" in problem(tmp_path / name)


def test_sound_without_picture(tmp_path, make_tone):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        container.mux(stream.encode(make_tone(0.5)))
        container.mux(stream.encode(None))
    assert "only sound" in problem(path)


def test_folders(tmp_path):
    assert "folder without images" in problem(tmp_path)
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png: is 6x4, but a\.png is 4x4"):
        VideoReader(tmp_path)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mp4", "libx264", {"bf": "3"}),
        ("a.mkv", "libx264", {}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.avi", "mpeg4", {}),
        ("a.mp4", "libsvtav1", {}),
    ],
)
def test_half_a_file(make_video, make_scene, decode_plainly, caplog, name, codec, options):
    path = make_video(name, make_scene(60), codec=codec, options={"g": "12", **options})
    whole = decode_plainly(path)
    halve(path, 0.6)
    message = problem(path)
    found = int(message.split(" can be decoded")[0].split()[-1])
    assert "promises 60 frames" in message
    assert 0 < found < 60
    assert "--allow_truncated" in message
    reader = VideoReader(path, allow_truncated=True)
    frames = read_all(reader)
    assert reader.frame_count == len(frames) == found
    assert np.array_equal(frames[: found - 4], whole[: found - 4])
    assert np.array_equal(reader.get([5, 1]), whole[[5, 1]])
    assert "cut short" in caplog.text


def test_half_an_mp4_with_its_index_at_the_end(make_video):
    path = halve(make_video(movflags=None))
    assert "without its index" in problem(path)
    assert "without its index" in problem(path, allow_truncated=True)


def test_half_a_gif(tmp_path, make_scene):
    from PIL import Image

    path = tmp_path / "moving.gif"
    pictures = [Image.fromarray(frame) for frame in make_scene(10, 40, 60)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=50)
    halve(path)
    assert "cut short" in problem(path)
    reader = VideoReader(path, allow_truncated=True)
    assert 2 <= reader.frame_count < 10
    assert len(read_all(reader)) == reader.frame_count


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mp4", "libx265"), ("a.webm", "libvpx-vp9"), ("a.mp4", "libsvtav1")],
)
def test_damage_inside(make_video, make_scene, caplog, name, codec):
    path = make_video(name, make_scene(40, 144, 256), codec=codec, options={"g": "10"})
    data, rng = bytearray(path.read_bytes()), random.Random(3)
    for place, size in rng.choices(packet_places(path)[15:35], k=40):
        data[place + rng.randrange(size)] ^= rng.randrange(1, 256)
    path.write_bytes(data)
    message = problem(path)
    assert "damaged" in message
    assert "decode" in message
    reader = VideoReader(path, allow_truncated=True)
    assert len(read_all(reader)) == reader.frame_count >= 15
    assert "going on" in caplog.text


def test_a_damaged_frame_is_not_handed_out(make_video, make_scene, decode_plainly):
    path = make_video(frames=make_scene(40, 144, 256), options={"g": "10", "bf": "0"})
    whole = decode_plainly(path)
    place, size = packet_places(path)[25]
    data = bytearray(path.read_bytes())
    for offset in range(size // 3, size, 7):
        data[place + offset] ^= 0x5A
    path.write_bytes(data)
    picker = VideoReader(path, backend="av")
    assert np.array_equal(picker.get([24, 31, 3]), whole[[24, 31, 3]])
    with pytest.raises(InputError, match="frame 27 of 40 cannot be decoded"):
        picker.get([3, 27])
    frames = []
    with pytest.raises(InputError, match="promises 40 frames"):
        for chunk in VideoReader(path).chunks(4):
            frames.extend(chunk)
    assert len(frames) == 24
    assert np.array_equal(np.stack(frames), whole[:24])


def test_a_stream_cut_between_key_frames_is_no_damage(make_video, make_scene, tmp_path, decode_plainly):
    source = make_video("whole.ts", make_scene(40), options={"g": "15", "bf": "0"})
    path = tmp_path / "cut.ts"
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = container.streams.video[0]
        copied = output.add_stream_from_template(stream)
        for number, packet in enumerate(container.demux(stream)):
            if packet.dts is not None and number >= 7:
                packet.stream = copied
                output.mux(packet)
    reader = VideoReader(path)
    frames = read_all(reader)
    assert reader.frame_count == len(frames) >= 25
    assert np.array_equal(frames[-25:], decode_plainly(source)[-25:])


def test_healthy_files_pass_with_allow_truncated(make_video, caplog):
    path = make_video()
    reader = VideoReader(path, allow_truncated=True)
    assert np.array_equal(read_all(reader), read_all(VideoReader(path)))
    assert caplog.text == ""
