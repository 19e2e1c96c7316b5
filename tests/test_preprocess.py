"""Verb 1 on real files: what is written, read back by the decoder, against what the task means."""

from __future__ import annotations

import json

import numpy as np
import pytest
from media_io import frames_of

from vace.errors import InputError
from vace.media.image import read_image
from vace.media.video import VideoReader
from vace.preprocess import preprocess
from vace.tasks import TASKS


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def materials(media, task, mode) -> dict:
    """Small materials for any row of the table."""
    values = {
        "video": f"{media}/clip.mp4", "image": f"{media}/image.png", "mask": f"{media}/mask.png", "bbox": "8,8,40,40",
        "src_video": f"{media}/clip.mp4,{media}/clip2.mp4", "src_mask": f"{media}/mask.mp4,{media}/mask.mp4",
    }  # fmt: skip
    given = {}
    for item in task.inputs_for(mode):
        value = values[item.flag]
        if item.flag == "bbox" and item.low == 2:
            value = "8,8,40,40 20,8,52,40"
        elif item.low == 2 and item.flag in ("video", "image"):
            value = f"{value},{values[item.flag].replace('clip', 'clip2').replace('image', 'image2')}"
        given[item.flag] = value
    if "process_type" in task.params:
        given["process_type"] = "inpainting,gray"
    if "expand_num" in task.params:
        given["expand_num"] = 12
    if "size" in task.params:
        given |= {"size": "96x64", "frame_num": 9}
    return given


# Rows that may ask a network are run on real media, line by line, in cli/test_preprocess_examples.py.
ROWS = [(task.name, mode) for task in TASKS.values() if task.annotator and "backend" not in task.params
        for mode in (task.modes or [None])]  # fmt: skip


@pytest.mark.parametrize(("name", "mode"), ROWS, ids=[f"{name}-{mode}" for name, mode in ROWS])
def test_every_row_writes_what_it_says(name, mode, media, tmp_path):
    task = TASKS[name]
    prepared = preprocess(name, mode=mode, progress=False, **materials(media, task, mode))
    kinds = {"src_video": prepared.src_video, "src_mask": prepared.src_mask, "src_ref_images": prepared.src_ref_images}
    assert {kind for kind, value in kinds.items() if value} == set(task.outputs)
    manifest = json.loads((prepared.folder / "manifest.json").read_text())
    assert prepared.folder.parent.name == name and manifest["command"] == "preprocess"
    assert manifest["time"] == task.time and manifest["under_mask"] == task.under_mask
    if prepared.src_video:
        video = frames_of(prepared.src_video)
        assert (prepared.folder / f"preview-{name}.mp4").stat().st_size > 0
        record = next(item for item in manifest["outputs"] if item["role"] == "src_video")
        assert video.shape == (record["frames"], record["height"], record["width"], 3)
    if prepared.src_mask:
        mask = frames_of(prepared.src_mask)
        assert mask.shape == video.shape and set(np.unique(mask)) <= {0, 255}
        if task.under_mask == "neutral":
            assert set(np.unique(video[mask > 0])) <= {task.filler}
    for path in prepared.src_ref_images:
        assert read_image(path).ndim == 3


def test_gray_keeps_frames_rate_and_the_shipped_weights(media):
    prepared = preprocess("gray", video=f"{media}/clip.mp4", progress=False)
    source, gray = frames_of(media / "clip.mp4"), frames_of(prepared.src_video)
    assert len(gray) == len(source)
    assert (gray[..., 0] == gray[..., 1]).all() and (gray[..., 1] == gray[..., 2]).all()
    weights = np.array([0.114, 0.587, 0.299])  # blue's weight on red, as the models saw it
    assert np.abs(gray[..., 0] - (source @ weights)).max() <= 1
    with VideoReader(prepared.src_video) as reader:
        assert reader.fps == pytest.approx(25)


def test_inpainting_keeps_every_pixel_outside_the_mask(media):
    prepared = preprocess("inpainting_mask", video=f"{media}/clip.mp4", mask=f"{media}/mask.mp4", progress=False)
    source, video = frames_of(media / "clip.mp4"), frames_of(prepared.src_video)
    mask = frames_of(prepared.src_mask)
    assert (video[mask == 0] == source[mask == 0]).all() and (video[mask > 0] == 128).all()
    assert (mask == frames_of(media / "mask.mp4")).all()


@pytest.mark.parametrize("form", ["png", "folder"])
def test_masks_of_other_sizes_and_forms(form, media, tmp_path):
    """Half the size, same aspect; one picture or a folder with one picture a frame."""
    from vace.media.image import write_image

    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 12:36] = 255
    path = tmp_path / "mask.png"
    if form == "folder":
        path = tmp_path / "masks"
        path.mkdir()
        for index in range(30):
            write_image(path / f"{index:03d}.png", mask)
    else:
        write_image(path, mask)
    prepared = preprocess("inpainting_mask", video=f"{media}/clip.mp4", mask=str(path), progress=False)
    made = frames_of(prepared.src_mask)[..., 0]
    assert (made == np.kron(mask, np.ones((2, 2), np.uint8))).all()


@pytest.mark.parametrize("task", ["inpainting_mask", "outpainting_inner", "move_anything"])
@pytest.mark.parametrize("aug", ["original", "original_expand", "hull", "hull_expand", "bbox", "bbox_expand"])
def test_mask_augmentation_for_every_kind_of_mask(task, aug, media):
    """Steady over the clip, the same for the same seed, never smaller; neutral gray follows the mask."""
    row = TASKS[task]
    given = materials(media, row, "mask" if task == "inpainting_mask" else None)
    plain = preprocess(task, progress=False, **given)
    grown = preprocess(task, progress=False, maskaug_mode=aug, maskaug_ratio=0.5, seed=3, **given)
    again = preprocess(task, progress=False, maskaug_mode=aug, maskaug_ratio=0.5, seed=3, **given)
    before, after = frames_of(plain.src_mask)[..., 0], frames_of(grown.src_mask)[..., 0]
    other = preprocess(task, progress=False, maskaug_mode=aug, maskaug_ratio=0.5, seed=4, **given)
    if aug.endswith("expand") and task == "inpainting_mask":
        assert (after != frames_of(other.src_mask)[..., 0]).any()  # another seed, other draws
    assert (after >= before).all()
    assert (after == frames_of(again.src_mask)[..., 0]).all()
    if task != "move_anything":  # whose first frame is kept while all others are made
        assert (after == after[:1]).all()
        assert (frames_of(grown.src_video)[after > 0] == row.filler).all()


def test_small_intermediates_are_smaller_and_ordinary(media):
    exact = preprocess("gray", video=f"{media}/clip.mp4", progress=False)
    small = preprocess("gray", video=f"{media}/clip.mp4", intermediates="small", progress=False)
    assert small.src_video.stat().st_size < exact.src_video.stat().st_size
    error = np.abs(frames_of(small.src_video).astype(int) - frames_of(exact.src_video)).mean()
    assert 0 < error < 8


def test_sound_is_carried_through(root):
    clip = root / "assets/videos/test2.mp4"
    with VideoReader(clip) as source:
        assert source.has_audio
        seconds = source.duration
    prepared = preprocess("gray", video=str(clip), progress=False)
    with VideoReader(prepared.src_video) as reader:
        assert reader.has_audio and reader.duration == pytest.approx(seconds, abs=0.1)


def test_finished_work_is_recognised(media, tmp_path, caplog):
    folder = tmp_path / "out"
    first = preprocess("gray", video=f"{media}/clip.mp4", pre_save_dir=folder, progress=False)
    stamp = first.src_video.stat().st_mtime_ns
    again = preprocess("gray", video=f"{media}/clip.mp4", pre_save_dir=folder, progress=False, resume=True)
    assert again.src_video.stat().st_mtime_ns == stamp
    other = preprocess("gray", video=f"{media}/clip2.mp4", pre_save_dir=folder, progress=False, resume=True)
    assert other.src_video.stat().st_mtime_ns != stamp
    data = other.src_video.read_bytes()
    other.src_video.write_bytes(data[:-100])  # damaged since: made again
    third = preprocess("gray", video=f"{media}/clip2.mp4", pre_save_dir=folder, progress=False, resume=True)
    assert third.src_video.read_bytes() == data


def test_failure_in_the_middle_leaves_other_files_alone(media, tmp_path, monkeypatch):
    import vace.media.preview

    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    calls = []

    def fall(frames, masks):
        calls.append(1)
        if len(calls) > 1:
            raise InputError("--video: it breaks in the middle")
        return frames

    monkeypatch.setattr(vace.media.preview, "preview_frames", fall)
    with pytest.raises(InputError):
        preprocess("gray", video=f"{media}/clip.mp4", pre_save_dir=folder, progress=False)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_comma_in_a_file_name(media, tmp_path):
    odd = tmp_path / "a, b.png"
    odd.write_bytes((media / "image.png").read_bytes())
    prepared = preprocess("image_plain", image=str(odd), progress=False)
    assert len(prepared.src_ref_images) == 1


def test_from_manifest_repeats(vace, media):
    first = vace("preprocess", "--task", "inpainting_bbox", "--video", media / "clip.mp4", "--bbox", "8,8,40,40",
                 "--maskaug_mode", "bbox_expand", "--seed", "-1")  # fmt: skip
    assert first.code == 0, first.err
    again = vace("preprocess", "--from", first.json["manifest"], "--pre_save_dir", "again")
    assert again.code == 0, again.err
    assert again.json["seed"] == first.json["seed"]
    assert (frames_of(first.json["src_mask"]) == frames_of(again.json["src_mask"])).all()
    assert open(first.json["src_mask"], "rb").read() == open(again.json["src_mask"], "rb").read()


class TestComposition:
    """Prepared files with other rates, lengths and kinds."""

    @pytest.fixture
    def made(self, media, tmp_path):
        """A clip that goes on (made for the model, 5 + 12 frames) and inpainted footage at 25 fps."""
        first = preprocess("firstclip", video=f"{media}/clip.mp4", clip_frames=5, expand_num=12, progress=False)
        second = preprocess("inpainting_bbox", video=f"{media}/clip2.mp4", bbox="8,8,40,40", progress=False)
        return first, second

    def test_footage_is_brought_to_the_models_rate(self, made):
        first, second = made
        masks = f"{first.src_mask},{second.src_mask}"
        both = preprocess("composition", src_video=f"{first.src_video},{second.src_video}", src_mask=masks,
                          process_type="firstclip,inpainting_bbox", progress=False)  # fmt: skip
        assert both.manifest["time"] == "model" and both.manifest["filler"] == [[5, 17]]
        video, kept, other = (frames_of(item.src_video) for item in (both, first, second))
        ids = [int(index / 16 * 25 + 1e-6) for index in range(17)]
        assert (video[:5] == kept[:5]).all() and (video[5:] == other[ids][5:]).all()

    def test_a_control_needs_no_mask(self, media, made):
        gray = preprocess("gray", video=f"{media}/clip.mp4", progress=False)
        second = made[1]
        both = preprocess("composition", src_video=f"{gray.src_video},{second.src_video}", src_mask=second.src_mask,
                          process_type="gray,inpainting_bbox", progress=False)  # fmt: skip
        mask, video = frames_of(both.src_mask), frames_of(both.src_video)
        assert (mask == frames_of(second.src_mask)).all()
        assert (video[mask > 0] == frames_of(gray.src_video)[mask > 0]).all()

    def test_two_controls_need_none(self, media):
        gray = preprocess("gray", video=f"{media}/clip.mp4", progress=False)
        plain = preprocess("plain", video=f"{media}/clip.mp4", progress=False)
        both = preprocess("composition", src_video=f"{gray.src_video},{plain.src_video}", process_type="gray,plain",
                          progress=False)  # fmt: skip
        assert both.src_video


def write_variable(source) -> list[int]:
    """15 flat frames, 10 of 40 ms, then 5 of 200 ms; their values."""
    from fractions import Fraction

    import av

    values = [10 * index + 20 for index in range(15)]
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, value in enumerate(values):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24").reformat(
                format="bgr0"
            )
            frame.pts, frame.time_base = index * 40 if index < 10 else 400 + (index - 10) * 200, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return values


def test_variable_frame_rate_keeps_its_timing(tmp_path):
    """Written at 25 fps, each slow frame five times."""
    source = tmp_path / "vfr.mkv"
    values = write_variable(source)
    prepared = preprocess("plain", video=str(source), progress=False)
    seen = frames_of(prepared.src_video)[:, 0, 0, 0].tolist()
    assert seen[:10] == values[:10] and seen[10:30:5] == values[10:14]
    assert prepared.manifest["fps"] == pytest.approx(25, abs=0.5)


def test_lossy_masks_do_not_grow(media, tmp_path):
    """What JPEG leaves around a white shape is not part of it."""
    import cv2

    disc = np.zeros((64, 96), np.uint8)
    cv2.circle(disc, (48, 32), 20, 255, -1)
    cv2.imwrite(str(tmp_path / "mask.jpg"), disc, [cv2.IMWRITE_JPEG_QUALITY, 80])
    prepared = preprocess("inpainting_mask", video=f"{media}/clip.mp4", mask=str(tmp_path / "mask.jpg"), progress=False)
    area = (frames_of(prepared.src_mask)[0, ..., 0] > 0).sum()
    assert abs(area / (disc > 0).sum() - 1) < 0.1


def test_one_folder_holds_one_task(media, tmp_path):
    preprocess("gray", video=f"{media}/clip.mp4", pre_save_dir=tmp_path / "out", progress=False)
    with pytest.raises(InputError, match="holds the files of task gray"):
        preprocess("plain", video=f"{media}/clip.mp4", pre_save_dir=tmp_path / "out", progress=False)


def test_what_is_not_used_is_told(media, caplog):
    preprocess(
        "gray", video=f"{media}/clip.mp4", mask=f"{media}/mask.png", direction="left", caption="a cat", progress=False
    )
    assert "--mask is not used" in caplog.text and "--direction is not used" in caplog.text
    assert "--caption is not used" in caplog.text


def test_a_mask_without_white_is_told(media, caplog):
    preprocess("outpainting", video=f"{media}/clip.mp4", expand_ratio=0, progress=False)
    assert "black everywhere" in caplog.text


def test_clips_of_unlike_rates_keep_their_speed(media, root):
    """clip.mp4 has 25 fps, test2.mp4 30: the second is played at the first one's rate."""
    other = str(root / "assets/videos/test2.mp4")
    prepared = preprocess("firstlastclip", video=f"{media}/clip.mp4,{other}", expand_num=4, progress=False)
    with VideoReader(other) as reader:
        seconds = reader.duration
    with VideoReader(prepared.src_video) as reader:
        assert reader.frame_count == 30 + 4 + round(seconds * 25)


def test_used_defaults_are_in_the_manifest(media):
    prepared = preprocess("outpainting", video=f"{media}/clip.mp4", progress=False)
    assert prepared.manifest["parameters"]["direction"] == ["left", "right"]
    assert prepared.manifest["parameters"]["expand_ratio"] == 0.25


def test_new_folders_are_never_shared(tmp_path):
    from vace.runs import OutputFolder

    with (
        OutputFolder(None, "--save_dir", tmp_path / "x") as one,
        OutputFolder(None, "--save_dir", tmp_path / "x") as two,
    ):
        assert one.path != two.path
    with pytest.raises(ZeroDivisionError), OutputFolder(None, "--save_dir", tmp_path / "y") as gone:
        raise ZeroDivisionError
    assert not gone.path.exists() and not (tmp_path / "y").exists()
