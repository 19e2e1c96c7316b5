"""--frame_range: which frames it means, what is refused, and that everything after sees the trimmed clip alone."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
from conftest import moving_frames
from media_io import frames_of

from vace.errors import InputError
from vace.media.video import VideoReader, VideoWriter
from vace.pipeline import pipeline
from vace.preprocess import preprocess
from vace.tasks import TASKS
from vace.trimming import check_ranges, parse_range, resolve_range

QUIET = {"progress": False}
TINY = {"ckpt_dir": "tiny", "size": "96x64", "steps": 1, "device": "cpu", **QUIET}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("3:9", (3, 9)), ("3:", (3, 29)), (":9", (0, 9)), (":", (0, 29)), ("7:7", (7, 7)), (" 3 : 9 ", (3, 9))],
)
def test_ranges(text, meant):
    assert resolve_range(text, 30, "clip.mp4") == meant


@pytest.mark.parametrize("text", ["5", "5-9", "a:b", "-5:9", "1:2:3", "1.5:9", "", "5:-1"])
def test_other_forms_are_refused(text):
    with pytest.raises(InputError, match=r"--frame_range.*not FIRST:LAST \(clip.mp4 holds 30 frames, 0 to 29\).*10:90"):
        resolve_range(text, 30, "clip.mp4")
    with pytest.raises(InputError, match="not FIRST:LAST; give"):
        parse_range(text)


def test_backwards_and_beyond():
    with pytest.raises(
        InputError, match=r"--frame_range 9:5: ends before it begins \(clip.mp4 holds 30 frames, 0 to 29"
    ):
        resolve_range("9:5", 30, "clip.mp4")
    for text in ("5:30", "30:", ":99"):
        with pytest.raises(
            InputError, match=f"--frame_range {text}: beyond the end of clip.mp4, which holds 30 frames"
        ):
            resolve_range(text, 30, "clip.mp4")
    with pytest.raises(InputError, match="which holds 1 frame, 0; give"):
        resolve_range("1:", 1, "image.png")
    with pytest.raises(InputError, match="ends before"):
        check_ranges(["1:3,9:5"])


@pytest.mark.parametrize("name", TASKS)
def test_every_task_of_footage_takes_it(name):
    assert ("frame_range" in TASKS[name].params) == ("video" in TASKS[name].flags())


@pytest.mark.parametrize(
    ("task", "given"),
    [
        ("plain", {}), ("gray", {}), ("depth", {}), ("flow", {}), ("inpainting_mask", {"mask": "mask.png"}),
        ("inpainting_bboxtrack", {"bbox": "8,8,40,40"}), ("outpainting", {"direction": "left"}),
        ("framerefext", {"ref_num": 3}),
        ("swap_anything", {"mode": "bbox,plain", "bbox": "8,8,40,40", "image": "image.png"}),
    ],
)  # fmt: skip
def test_a_task_sees_the_range_alone(task, given, media, tmp_path):
    """What is made of a range of a clip is what is made of a clip that holds these frames alone."""
    given = {name: f"{media}/{value}" if str(value).endswith("png") else value for name, value in given.items()}
    with VideoReader(media / "clip.mp4") as video, VideoWriter(tmp_path / "piece.mp4", 25, kind="exact") as writer:
        writer.write(video.get(range(7, 21)))
    made = preprocess(task, video=f"{media}/clip.mp4", frame_range="7:20", **given, **QUIET)
    same = preprocess(task, video=str(tmp_path / "piece.mp4"), **given, **QUIET)
    assert np.array_equal(frames_of(made.src_video), frames_of(same.src_video))
    assert len(frames_of(made.src_video)) == 14 and made.manifest["fps"] == 25
    if made.src_mask:
        assert np.array_equal(frames_of(made.src_mask), frames_of(same.src_mask))


@pytest.mark.parametrize("form", ["whole", "piece", "still"])
def test_masks_run_along_or_are_taken_as_they_are(form, media, tmp_path):
    mask = media / ("mask.png" if form == "still" else "mask.mp4")
    whole = frames_of(media / "mask.mp4")
    if form == "piece":
        mask = tmp_path / "mask.mp4"
        with VideoWriter(mask, 25, kind="exact") as writer:
            writer.write(whole[10:20])
    made = preprocess(
        "inpainting", mode="mask", video=f"{media}/clip.mp4", mask=str(mask), frame_range="10:19", **QUIET
    )
    masks = frames_of(made.src_mask)
    assert len(masks) == 10
    if form != "still":
        assert np.array_equal(masks > 127, whole[10:20] > 127)


def test_a_mask_of_another_length_is_refused(media, tmp_path):
    with VideoWriter(tmp_path / "mask.mp4", 25, kind="exact") as writer:
        writer.write(frames_of(media / "mask.mp4")[:12])
    with pytest.raises(InputError, match="12 frames for a clip of 10"):
        preprocess("inpainting", mode="mask", video=f"{media}/clip.mp4", mask=str(tmp_path / "mask.mp4"),
                   frame_range="10:19", **QUIET)  # fmt: skip


@pytest.mark.parametrize(("ranges", "counts"), [("5:9", (5, 5)), ("5:9,:3", (5, 4)), (["5:9", "28:"], (5, 2))])
def test_two_clips_one_range_or_one_each(ranges, counts, media):
    two = f"{media}/clip.mp4,{media}/clip2.mp4"
    made = preprocess("firstlastclip", video=two, frame_range=ranges, expand_num=4, **QUIET)
    frames, first = frames_of(made.src_video), frames_of(media / "clip.mp4")
    assert len(frames) == sum(counts) + 4
    assert np.array_equal(frames[:5], first[5:10])
    start = {"5:9": 5, "5:9,:3": 0}.get(str(ranges), 28)
    assert np.array_equal(frames[-counts[1] :], frames_of(media / "clip2.mp4")[start : start + counts[1]])


@pytest.mark.parametrize(
    ("task", "videos", "ranges", "told"),
    [
        ("gray", 1, "1:2,3:4", r"2 given for 1 \(clip.mp4 holds 30 frames, 0 to 29\); give one"),
        ("firstlastclip", 2, "1:2,3:4,5:6", "3 given for 2 .*one for all, or one each"),
        ("gray", 1, "20:40", "beyond the end of clip.mp4, which holds 30 frames, 0 to 29"),
        ("firstlastclip", 2, "1:2,3:40", "beyond the end of clip2.mp4"),
        ("gray", 1, "9", r"not FIRST:LAST \(clip.mp4 holds 30 frames"),
        ("gray", 1, "9:3", r"ends before it begins \(clip.mp4 holds 30 frames"),
    ],
)
def test_what_cannot_be_is_told(task, videos, ranges, told, media, tmp_path):
    video = ",".join(f"{media}/{name}.mp4" for name in ("clip", "clip2")[:videos])
    with pytest.raises(InputError, match=f"--frame_range .*{told}"):
        preprocess(task, video=video, frame_range=ranges, pre_save_dir=tmp_path / "out", **QUIET)
    assert not (tmp_path / "out").exists()


def test_where_there_is_no_footage_it_is_not_used(media, caplog, vace):
    preprocess("image_gray", image=f"{media}/image.png", frame_range="1:2", **QUIET)
    assert "--frame_range is not used: task image_gray" in caplog.text
    assert vace("preprocess", "--task", "gray", "--video", media / "clip.mp4", "--frame_range", "").code == 2


def beeping(path, fps: int = 25) -> None:
    """50 frames with sound that is silent in the first second and a tone in the second."""
    rate = 44100
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate).astype(np.float32)
    wave[:rate] = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        container.mux(sound.encode(frame))
        for pixels in moving_frames(50, 96, 64):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))


def loudness(path) -> tuple[float, float, float]:
    """(seconds of sound, loudness of its first and of its last quarter)."""
    with av.open(str(path)) as container:
        blocks = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    wave = np.concatenate(blocks)
    part = len(wave) // 4
    return len(wave) / rate, float(np.abs(wave[:part]).mean()), float(np.abs(wave[-part:]).mean())


@pytest.mark.parametrize(
    ("ranges", "seconds", "begins_loud", "ends_loud"), [("26:45", 0.8, True, True), ("2:21", 0.8, False, False),
                                                       ("15:40", 1.04, False, True)],
)  # fmt: skip
def test_the_sound_begins_where_the_range_begins(ranges, seconds, begins_loud, ends_loud, tmp_path):
    beeping(tmp_path / "beep.mp4")
    prepared = preprocess("gray", video=str(tmp_path / "beep.mp4"), frame_range=ranges, **QUIET)
    made = pipeline("gray", "a cat", video=str(tmp_path / "beep.mp4"), frame_range=ranges, **TINY)
    for path, slack in ((prepared.src_video, 0.05), (made.out_videos[0], 0.15)):
        found, begin, end = loudness(path)
        assert found == pytest.approx(seconds, abs=slack)
        assert (begin > 0.1) == begins_loud and (end > 0.1) == ends_loud, path


@pytest.mark.parametrize(("ranges", "fps", "length"), [("2:8", 25, 7), ("11:14", 5, 4), ("8:12", 25, 2 + 3 * 5)])
def test_variable_rates_keep_their_timing(ranges, fps, length, tmp_path):
    """10 frames of 40 ms, then 5 of 200 ms."""
    from test_preprocess import write_variable

    values = write_variable(tmp_path / "vfr.mkv")
    prepared = preprocess("plain", video=str(tmp_path / "vfr.mkv"), frame_range=ranges, **QUIET)
    seen = frames_of(prepared.src_video)[:, 0, 0, 0].tolist()
    assert prepared.manifest["fps"] == pytest.approx(fps, rel=0.02)
    assert len(seen) == length and seen[0] == values[int(ranges.split(":")[0])]


def test_the_pipeline_plans_on_the_trimmed_clip(media):
    made = pipeline("gray", "a cat", video=f"{media}/clip.mp4", frame_range="5:21", **TINY)
    parameters = made.manifest["parameters"]
    assert parameters["frame_range"] == "5:21"
    assert len(frames_of(made.src_video)) == 11  # 17 frames at 25 a second, at 16
    assert made.manifest["stage_parameters"]["preprocess"]["frame_range"] == "5:21"


def test_it_is_recorded_repeated_and_noticed(media, vace, tmp_path):
    line = ("preprocess", "--task", "gray", "--video", media / "clip.mp4", "--frame_range")
    first = vace(*line, "5:9", "--pre_save_dir", "one")
    assert first.code == 0, first.err
    assert "clip.mp4: frames 5 to 9 of 30" in first.err
    assert json.load(open(first.json["manifest"]))["parameters"]["frame_range"] == ["5:9"]
    again = vace("preprocess", "--from", first.json["manifest"], "--pre_save_dir", "two")
    assert np.array_equal(frames_of(first.json["src_video"]), frames_of(again.json["src_video"]))
    given = {"video": f"{media}/clip.mp4", "pre_save_dir": tmp_path / "three", "resume": True, **QUIET}
    stamps = []
    for ranges in ("5:9", "5:9", "5:10"):
        stamps.append(preprocess("gray", frame_range=ranges, **given).src_video.stat().st_mtime_ns)
    assert stamps[0] == stamps[1] != stamps[2]


class TestLayers:
    def made(self, task, **given):
        return frames_of(preprocess(task, **given, **QUIET).src_video)

    def test_within_the_brackets(self, media):
        task = (
            f"clipref(mode=firstclip,video={media}/clip.mp4,frame_range=5:9,expand_num=4)+outpainting(direction=left)"
        )
        frames = self.made(task)
        assert len(frames) == 9
        width = frames.shape[2] - 96
        assert np.array_equal(frames[:5, :, width:], frames_of(media / "clip.mp4")[5:10])

    def test_one_each_within_the_brackets(self, media):
        video = f"video={media}/clip.mp4,{media}/clip2.mp4"
        frames = self.made(f"clipref(mode=firstlastclip,{video},frame_range=5:9,2:3,expand_num=4)+image_gray",
                           image=f"{media}/image.png")  # fmt: skip
        assert len(frames) == 5 + 4 + 2
        assert np.array_equal(frames[-2:], frames_of(media / "clip2.mp4")[2:4])

    def test_for_the_whole_command(self, media):
        """Two repaintings of one clip: it is trimmed once."""
        task = f"inpainting(mode=mask,mask={media}/mask.mp4)+outpainting(direction=left)"
        frames = self.made(task, video=f"{media}/clip.mp4", frame_range="5:9")
        assert len(frames) == 5

    @pytest.mark.parametrize(
        ("task", "told"),
        [
            ("gray(video={0}/clip.mp4,frame_range=5)+image_gray(image={0}/image.png)", "not FIRST:LAST"),
            ("outpainting(direction=left,video={0}/clip.mp4)+inpainting(mode=bbox,bbox=1 1 9 9,frame_range=1:2)",
             "frame_range=1:2 in inpainting: it repaints what the tasks before it made"),
            ("image_gray(image={0}/image.png,frame_range=1:2)", "takes no 'frame_range'"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_told(self, task, told, media, tmp_path):
        with pytest.raises(InputError, match=told):
            preprocess(task.format(media), pre_save_dir=tmp_path / "out", **QUIET)
        assert not (tmp_path / "out").exists()
