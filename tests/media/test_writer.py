"""Written files: exact where promised, playable where promised, whole or absent, with their sound and comment."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vace.errors import InputError, OutputError
from vace.media.clip import read_all
from vace.media.manifest import read_comment
from vace.media.video import VideoReader, VideoWriter, check_free_space, estimated_bytes
from vace.media.writer import KINDS

LIMITED = """
import resource, signal, sys
import numpy as np
from vace.errors import OutputError
from vace.media.video import VideoWriter

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # bytes a file may have
frames = np.random.default_rng(0).integers(0, 256, (40, 144, 256, 3), dtype=np.uint8)
try:
    with VideoWriter(sys.argv[1], 16, kind=sys.argv[2]) as writer:
        for _ in range(4):
            writer.write(frames)
except OutputError as error:
    print(error)
"""


def write(path, frames, fps=16, kind="exact", pieces=5, **options):
    with VideoWriter(path, fps, kind=kind, **options) as writer:
        for start in range(0, len(frames), pieces):
            writer.write(frames[start : start + pieces])
    return path


def noise(count, height, width, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(96, 160), (97, 161), (240, 416), (16, 16), (17, 19), (3, 5), (1, 1), (2, 64)])
def test_exact_files_come_back_bit_for_bit(tmp_path, size):
    frames = noise(7, *size)
    path = write(tmp_path / "a.mp4", frames)
    for backend in ("av", "auto"):
        reader = VideoReader(path, backend=backend)
        assert np.array_equal(read_all(reader), frames)
        assert np.array_equal(reader.get(range(len(frames))), frames)
    assert reader.fps == 16


@pytest.mark.parametrize("name", ["a.mov", "a.mkv", "A.MP4"])
def test_exact_in_other_containers(tmp_path, make_scene, name):
    frames = make_scene(6)
    assert np.array_equal(read_all(VideoReader(write(tmp_path / name, frames))), frames)


def test_exact_masks(tmp_path):
    masks = (noise(6, 97, 161)[..., 0] > 100).astype(np.uint8) * 255
    masks[3] = noise(1, 97, 161)[0, ..., 1]
    back = read_all(VideoReader(write(tmp_path / "mask.mp4", masks), backend="decord"))
    assert np.array_equal(back, np.repeat(masks[..., None], 3, axis=3))


@pytest.mark.parametrize("kind", ["small", "preview", "result"])
@pytest.mark.parametrize("size", [(96, 160), (97, 161), (96, 161), (23, 35)])
def test_playable_files(tmp_path, make_scene, kind, size):
    frames = make_scene(6, *size)
    path = write(tmp_path / "a.mp4", frames, fps=25, kind=kind)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.pix_fmt, stream.width % 2, stream.height % 2) == ("yuv420p", 0, 0)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index must come first for streaming"
    back = read_all(VideoReader(path))
    assert back.shape[1:3] == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    levels = (back[:, : size[0], : size[1]].mean(axis=3), frames.mean(axis=3))  # colour is stored at half the size
    assert np.abs(levels[0] - levels[1]).mean() < 8


def test_padding_repeats_the_edge(tmp_path):
    frames = np.full((4, 33, 45, 3), 30, np.uint8)
    frames[:, -1], frames[:, :, -1] = 220, 220
    back = read_all(VideoReader(write(tmp_path / "a.mp4", frames, kind="result")))
    assert back.shape == (4, 34, 46, 3)
    assert np.abs(back[:, -1].astype(int) - 220).max() < 12


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)])
def test_saturated_colours_survive(tmp_path, colour):
    frames = np.full((3, 64, 64, 3), colour, np.uint8)
    path = write(tmp_path / "a.mp4", frames, kind="result")
    for backend in ("av", "decord"):
        assert np.abs(read_all(VideoReader(path, backend=backend)).astype(int) - frames).max() <= 4
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (int(context.colorspace), int(context.color_range)) == (1, 1)


def test_black_and_white_stay(tmp_path):
    frames = np.zeros((3, 64, 64), np.uint8)
    frames[:, 32:] = 255
    back = read_all(VideoReader(write(tmp_path / "a.mp4", frames, kind="small")))
    assert back[:, :30].max() <= 2
    assert back[:, 34:].min() >= 253


def test_png_folder(tmp_path, make_scene):
    frames = make_scene(11, 21, 33)
    write(tmp_path / "frames", frames, kind="png")
    assert len(list((tmp_path / "frames").iterdir())) == 11
    assert np.array_equal(read_all(VideoReader(tmp_path / "frames")), frames)
    with pytest.raises(OutputError, match="already holds files"):
        VideoWriter(tmp_path / "frames", 16, kind="png")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", frames[:2, ..., 0], kind="png")
    assert VideoReader(tmp_path / "empty").frame_count == 2


@pytest.mark.parametrize("fps", [16, 25, 30000 / 1001, 23.976, 12.5, 10.89])
def test_rates(tmp_path, make_scene, fps):
    reader = VideoReader(write(tmp_path / "a.mp4", make_scene(8), fps=fps))
    assert reader.fps == pytest.approx(fps, rel=1e-4)
    assert reader.duration == pytest.approx(8 / fps, rel=1e-3)
    assert reader.frame_count == 8


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_comment(tmp_path, make_scene, name):
    text = '{"prompt": "ein Häschen 🐇", "long": "' + "x" * 20000 + '"}'
    assert read_comment(write(tmp_path / name, make_scene(2), comment=text)) == text
    assert read_comment(write(tmp_path / name, make_scene(2))) is None


def test_the_array_may_be_reused(tmp_path, make_scene):
    frames = make_scene(12)
    buffer = np.empty_like(frames[:1])
    with VideoWriter(tmp_path / "a.mp4", 16, kind="exact") as writer:
        for frame in frames:
            buffer[0] = frame
            writer.write(buffer)
        buffer[:] = 0
    assert writer.frame_count == 12
    assert np.array_equal(read_all(VideoReader(tmp_path / "a.mp4")), frames)


def test_an_older_file_is_replaced_only_at_the_end(tmp_path, make_scene):
    path = write(tmp_path / "a.mp4", make_scene(3))
    before = path.read_bytes()
    with VideoWriter(path, 16, kind="exact") as writer:
        writer.write(make_scene(9))
        assert path.read_bytes() == before
    assert VideoReader(path).frame_count == 9


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", ["exact", "png"])
def test_nothing_is_left_after_an_exception(tmp_path, make_scene, error, kind):
    with pytest.raises(error), VideoWriter(tmp_path / "a.mp4", 16, kind=kind) as writer:
        writer.write(make_scene(30))
        raise error
    assert list(tmp_path.iterdir()) == []


def test_no_frames_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="no frame was made"), VideoWriter(tmp_path / "a.mp4", 16, kind="exact"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_wrong_frames(tmp_path, make_scene):
    for wrong in (make_scene(2).astype(np.float32), make_scene(2)[..., :2], make_scene(2)[0, 0]):
        with pytest.raises(OutputError, match="expected uint8"), VideoWriter(tmp_path / "a.mp4", 1, kind="exact") as w:
            w.write(wrong)
    with pytest.raises(OutputError, match="160x90 after"), VideoWriter(tmp_path / "a.mp4", 1, kind="exact") as w:
        w.write(make_scene(2))
        w.write(make_scene(2)[:, :90])
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path, make_scene):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="a folder has that name"):
        VideoWriter(tmp_path / "folder.mp4", 16, kind="exact")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file, not a folder"):
        VideoWriter(tmp_path / "file" / "deeper" / "a.mp4", 16, kind="exact")
    with pytest.raises(OutputError, match="cannot be written"):
        VideoWriter("/proc/vace/a.mp4", 16, kind="exact")
    with pytest.raises(OutputError, match=r"unknown kind of video file '\.xyz'"):
        VideoWriter(tmp_path / "a.xyz", 16, kind="exact")
    with pytest.raises(OutputError, match="unknown kind of output"):
        VideoWriter(tmp_path / "a.mp4", 16, kind="huge")
    with pytest.raises(OutputError, match="positive rate"):
        VideoWriter(tmp_path / "a.mp4", 0, kind="exact")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.mp4"]


def test_a_folder_without_permission(tmp_path, monkeypatch):
    import vace.media.files as files

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.os, "open", refuse)
    with pytest.raises(OutputError, match="no permission to write"):
        VideoWriter(tmp_path / "a.mp4", 16, kind="exact")


@pytest.mark.parametrize("kind", ["exact", "result", "png"])
def test_disk_limit_reached(tmp_path, kind):
    """A real refusal of the kernel."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "a.mp4"), kind]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert "a.mp4: cannot be written; the file grew over the size" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_full_disk(tmp_path, make_scene, monkeypatch):
    from vace.media import writer as module

    def full(self, frame):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module._FileSink, "add", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write(tmp_path / "a.mp4", make_scene(40))
    assert list(tmp_path.iterdir()) == []


def test_free_space_check(tmp_path):
    check_free_space(tmp_path / "not" / "yet" / "there", 1000)
    with pytest.raises(OutputError, match=r"GB free, about 1000000000\.0 GB needed"):
        check_free_space(tmp_path, 10**18)


def test_estimates_hold_on_detailed_footage(tmp_path, assets):
    frames = read_all(VideoReader(assets / "videos/test.mp4"))[:40]
    for kind in KINDS:
        name = "frames" if kind == "png" else f"{kind}.mp4"
        path = write(tmp_path / name, frames, fps=25, kind=kind)
        size = sum(f.stat().st_size for f in path.iterdir()) if path.is_dir() else path.stat().st_size
        estimate = estimated_bytes(kind, 640, 360, 40)
        assert size / 1.5 <= estimate <= 6 * size, kind
    with pytest.raises(OutputError, match="expected one of exact"):
        estimated_bytes("huge", 1, 1, 1)


def sound_of(path):
    """(float32 samples of the first channel, rate), as a player hears it."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=stream.rate)
        blocks = [p.to_ndarray()[0] for frame in container.decode(stream) for p in resampler.resample(frame)]
        return np.concatenate(blocks), stream.rate


@pytest.fixture
def sweep(tmp_path, make_scene):
    """A 4 s clip whose sound is silent but for a 1 kHz burst from 2.0 to 2.5 s."""
    path, rate = tmp_path / "source.mp4", 44100
    wave = np.zeros(4 * rate, np.float32)
    burst = np.arange(rate // 2) / rate
    wave[2 * rate : 2 * rate + len(burst)] = 0.7 * np.sin(2 * np.pi * 1000 * burst)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="stereo")
        block = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        block.sample_rate, block.pts = rate, 0
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))
        for index, pixels in enumerate(make_scene(100, 48, 64)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize(("kind", "name"), [("exact", "a.mp4"), ("result", "a.mp4"), ("result", "a.mkv")])
@pytest.mark.parametrize("start", [0.0, 0.5, 1.8])
def test_sound_is_cut_to_the_span(tmp_path, make_scene, sweep, kind, name, start):
    path = write(tmp_path / name, make_scene(75, 48, 64), fps=25, kind=kind, audio_from=(sweep, start, 3.0))
    wave, rate = sound_of(path)
    available = min(3.0, 4.0 - start)
    assert len(wave) / rate == pytest.approx(available, abs=0.06)
    loud = np.flatnonzero(np.abs(wave) > 0.2)
    assert loud[0] / rate == pytest.approx(2.0 - start, abs=0.05)
    assert loud[-1] / rate == pytest.approx(2.5 - start, abs=0.05)
    assert VideoReader(path).frame_count == 75


def test_sound_never_outlasts_the_picture(tmp_path, make_scene, sweep):
    path = write(tmp_path / "a.mp4", make_scene(20, 48, 64), fps=20, kind="result", audio_from=(sweep, 0.0, 4.0))
    wave, rate = sound_of(path)
    assert len(wave) / rate == pytest.approx(1.0, abs=0.06)
    assert VideoReader(path).has_audio


def test_sources_of_sound_that_have_none(tmp_path, make_scene, make_video):
    silent = make_video("silent.mp4")
    path = write(tmp_path / "a.mp4", make_scene(4), audio_from=(silent, 0.0, 1.0))
    assert not VideoReader(path).has_audio
    with pytest.raises(InputError, match="no such file"):
        write(tmp_path / "b.mp4", make_scene(4), audio_from=(tmp_path / "absent.mp4", 0.0, 1.0))
    (tmp_path / "words.mp4").write_text("words")
    with pytest.raises(InputError, match="sound cannot be read"):
        write(tmp_path / "b.mp4", make_scene(4), audio_from=(tmp_path / "words.mp4", 0.0, 1.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "silent.mp4", "words.mp4"]


REPEATED = """
import hashlib, sys
from pathlib import Path
from vace.media.video import VideoReader, VideoWriter

source, target = sys.argv[1:]
reader = VideoReader(source)
for kind in ("exact", "small", "preview", "result"):
    with VideoWriter(target, reader.fps, kind=kind, audio_from=(source, 0.2, 2.0), comment="same") as writer:
        for frames in reader.chunks():
            writer.write(frames[:, :176, :320])
    print(hashlib.sha256(Path(target).read_bytes()).hexdigest())
"""


def test_the_same_frames_give_the_same_bytes(tmp_path, assets):
    """Whatever the memory held before: the allocator fills it with two patterns."""
    root, printed = Path(__file__).resolve().parents[2], set()
    for pattern in ("0", "165"):
        command = [sys.executable, "-c", REPEATED, str(assets / "videos/test2.mp4"), str(tmp_path / "a.mp4")]
        environment = os.environ | {"MALLOC_PERTURB_": pattern}
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environment)
        printed.add(done.stdout)
    assert len(printed) == 1
    assert len(printed.pop().split()) == 4
