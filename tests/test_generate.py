"""Verb 2 and verb 3 on the embedded model: files, seeds, plans, manifests, resuming. The numbers are in models/wan."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from media_io import frames_of

from vace.generate import generate
from vace.media.manifest import read_comment
from vace.media.video import VideoReader
from vace.pipeline import pipeline
from vace.preprocess import preprocess

TINY = {"ckpt_dir": "tiny", "size": "96x64", "steps": 2, "progress": False, "device": "cpu"}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def prepared(media, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    return preprocess("inpainting_mask", video=f"{media}/clip.mp4", mask=f"{media}/mask.png", pre_save_dir=folder,
                      progress=False)  # fmt: skip


def test_text_alone(tmp_path):
    made = generate("a cat", frame_num=5, **TINY)
    assert made.folder.parent == Path("results/vace-tiny")  # relative to where the command runs
    assert sorted(made.folder.iterdir()) == [made.folder / "manifest.json", made.folder / "out_video.mp4"]
    assert made.out_videos == [made.folder / "out_video.mp4"]
    video = frames_of(made.out_videos[0])
    assert video.shape == (5, 64, 96, 3)
    assert video.std() > 1  # not a flat gray
    assert made.as_json()["toy"] is True and made.src_video is None


def test_same_seed_same_bytes_and_other_seed_other_video():
    first = generate("a cat", frame_num=5, seed=7, out_format="exact", **TINY)
    same = generate("a cat", frame_num=5, seed=7, out_format="exact", **TINY)
    other = generate("a cat", frame_num=5, seed=8, out_format="exact", **TINY)
    assert first.out_videos[0].read_bytes() == same.out_videos[0].read_bytes()
    assert not np.array_equal(frames_of(first.out_videos[0]), frames_of(other.out_videos[0]))


def test_num_videos_are_the_seeds_after_each_other():
    both = generate("a cat", frame_num=5, seed=7, num_videos=2, out_format="exact", **TINY)
    second = generate("a cat", frame_num=5, seed=8, out_format="exact", **TINY)
    assert [path.name for path in both.out_videos] == ["out_video.mp4", "out_video_1.mp4"]
    assert len(both.as_json()["out_videos"]) == 2
    assert np.array_equal(frames_of(both.out_videos[1]), frames_of(second.out_videos[0]))


def test_seed_minus_one_is_drawn_and_told():
    made = generate("a cat", frame_num=5, seed=-1, out_format="exact", **TINY)
    seed = made.as_json()["seed"]
    assert seed >= 0
    again = generate("a cat", frame_num=5, seed=seed, out_format="exact", **TINY)
    assert made.out_videos[0].read_bytes() != b"" and np.array_equal(
        frames_of(made.out_videos[0]), frames_of(again.out_videos[0])
    )


def test_prompt_negative_scales_and_sampler_all_matter():
    def made(prompt="a red circle", **given):
        return frames_of(generate(prompt, frame_num=5, out_format="exact", **{**TINY, **given}).out_videos[0])

    plain = made()
    for change in (
        {"prompt": "a blue star"}, {"negative_prompt": "a tree"}, {"guidance_scale": 1.0}, {"shift": 9.0},
        {"sampler": "dpm++"}, {"steps": 3},
    ):  # fmt: skip
        assert not np.array_equal(plain, made(**change)), change


def test_context_scale_zero_is_not_led(prepared):
    given = {"src_video": prepared.src_video, "src_mask": prepared.src_mask, "out_format": "exact", "frame_num": 5}
    led = frames_of(generate("a cat", **given, **TINY).out_videos[0])
    free = frames_of(generate("a cat", **given, context_scale=0.0, **TINY).out_videos[0])
    assert led.shape == free.shape and not np.array_equal(led, free)


def test_footage_is_played_at_the_models_rate(prepared, caplog):
    """30 frames at 25 fps are 1.2 s: 20 frames at 16 fps, padded to 21 for the model and cut back."""
    with caplog.at_level(logging.INFO, logger="vace"):
        made = generate("a cat", src_video=prepared.src_video, src_mask=prepared.src_mask, frame_policy="auto",
                        **{**TINY, "size": "480p"})  # fmt: skip
    assert made.manifest["frames"]["count"] == 20 and made.manifest["frames"]["made"] == 21
    assert len(frames_of(made.out_videos[0])) == 20
    plan = next(record.message for record in caplog.records if record.message.startswith("wan "))
    for word in ("30 frames at 25 fps", "20 at 16 fps", "96x64", "tokens", "2 steps", "GB", "toy"):
        assert word in plan, plan


def test_sources_are_written_as_the_model_saw_them(prepared):
    made = generate("a cat", src_video=prepared.src_video, src_mask=prepared.src_mask, frame_num=5, **TINY)
    video, mask = frames_of(made.src_video), frames_of(made.src_mask)
    assert video.shape == mask.shape == (5, 64, 96, 3)
    assert set(np.unique(video[mask > 127])) <= {127, 128}  # exactly 0.0 in model space


def test_fill_mask_decides_by_hand(media, caplog):
    """Raw footage with a mask and no manifest is left alone, with a warning; --fill_mask neutral grays it."""
    given = {"src_video": media / "clip.mp4", "src_mask": media / "mask.png", "frame_num": 5}
    kept = generate("a cat", **given, **TINY)
    assert "--fill_mask neutral" in caplog.text
    grayed = generate("a cat", **given, fill_mask="neutral", **TINY)
    mask = frames_of(kept.src_mask) > 127
    assert frames_of(kept.src_video)[mask].std() > 10
    assert set(np.unique(frames_of(grayed.src_video)[mask])) <= {127, 128}


def test_references_are_letterboxed_in_order(media):
    from vace.media.image import read_image

    made = generate("a cat", src_ref_images=f"{media}/image.png,{media}/image2.png", frame_num=1, **TINY)
    assert [path.name for path in made.src_ref_images] == ["src_ref_image_0.png", "src_ref_image_1.png"]
    for path, source in zip(made.src_ref_images, ("image.png", "image2.png"), strict=True):
        assert np.abs(read_image(path).astype(int) - read_image(media / source)).max() <= 1
    assert len(frames_of(made.out_videos[0])) == 1  # more references than latent frames


@pytest.mark.parametrize("form", ["mp4", "exact", "png"])
def test_out_formats(form):
    made = generate("a cat", frame_num=5, out_format=form, **TINY)
    assert frames_of(made.out_videos[0]).shape == (5, 64, 96, 3)
    assert made.out_videos[0].is_dir() == (form == "png")


def test_recipe_travels_in_the_file_without_folders(prepared, tmp_path):
    made = generate("a cat", src_video=prepared.src_video, frame_num=5, **TINY)
    recipe = json.loads(read_comment(made.out_videos[0]))
    assert recipe["parameters"]["prompt"] == "a cat" and recipe["seed"] == made.manifest["seed"]
    assert recipe["inputs"][0]["name"] == prepared.src_video.name
    assert str(prepared.folder) not in json.dumps(recipe) and str(tmp_path) not in json.dumps(recipe)
    bare = generate("a cat", frame_num=5, no_metadata=True, **TINY)
    assert not read_comment(bare.out_videos[0])


def test_interrupt_keeps_what_is_finished(monkeypatch, tmp_path):
    from vace.models.wan.engine import WanEngine

    real, calls = WanEngine.denoise, []

    def stopped(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(WanEngine, "denoise", stopped)
    with pytest.raises(KeyboardInterrupt):
        generate("a cat", frame_num=5, num_videos=3, save_dir=tmp_path / "out", **TINY)
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["manifest.json", "out_video.mp4"]
    assert json.loads((tmp_path / "out/manifest.json").read_text())["interrupted"] is True
    calls.append(1)
    calls[:] = [1]
    with pytest.raises(KeyboardInterrupt):
        generate("a cat", frame_num=5, save_dir=tmp_path / "none", **TINY)
    assert not (tmp_path / "none").exists()


def test_resume_makes_only_the_videos_that_are_missing(monkeypatch, tmp_path):
    from vace.models.wan.engine import WanEngine
    from vace.pipeline import resumed

    real, calls = WanEngine.denoise, []

    def counted(self, *args, **kwargs):
        calls.append(kwargs["seed"])
        if calls == [3, 4]:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(WanEngine, "denoise", counted)
    with pytest.raises(KeyboardInterrupt):
        pipeline("txt2vid", "a cat", frame_num=5, num_videos=3, seed=3, save_dir=tmp_path / "out", **TINY)
    made = pipeline(**resumed(tmp_path / "out"), progress=False)
    assert calls == [3, 4, 4, 5]
    assert [path.name for path in made.out_videos] == ["out_video.mp4", "out_video_1.mp4", "out_video_2.mp4"]
    assert not (tmp_path / "out/job.json").exists()


@pytest.mark.parametrize("through", ["generate", "pipeline"])
def test_a_finished_video_survives_a_failure_after_it(through, monkeypatch, tmp_path):
    """Whatever happens to the second video, the first one stays, with a manifest that says it is not all."""
    from vace.errors import OutputError
    from vace.models.wan.engine import WanEngine

    real, calls = WanEngine.denoise, []

    def failing(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise OutputError("the disk is full")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(WanEngine, "denoise", failing)
    given = {"frame_num": 5, "num_videos": 2, "save_dir": tmp_path / "out", **TINY}
    with pytest.raises(OutputError):
        generate("a cat", **given) if through == "generate" else pipeline("txt2vid", "a cat", **given)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "out_video.mp4"]
    assert len(frames_of(tmp_path / "out/out_video.mp4")) == 5


def test_prepared_frames_enter_one_to_one_under_any_policy(media):
    first = preprocess("firstclip", video=f"{media}/clip.mp4", clip_frames=3, expand_num=5, progress=False)
    made = generate("a cat", src_video=first.src_video, src_mask=first.src_mask, frame_policy="uniform", **TINY)
    assert (frames_of(made.src_mask)[:, 0, 0, 0] == [0] * 3 + [255] * 5).all()


def test_places_are_checked_before_the_work(tmp_path, monkeypatch, media):
    from vace.errors import VaceError
    from vace.models.wan import engine

    monkeypatch.setattr(engine, "load_engine", lambda *_, **__: pytest.fail("the work began"))
    (tmp_path / "png/out_video").mkdir(parents=True)
    (tmp_path / "png/out_video/mine.png").write_bytes(b"x")
    for given in (
        {"save_file": tmp_path / "out.avi"},
        {"save_file": tmp_path / "out.mp4", "out_format": "png"},
        {"save_file": "/proc/nowhere/out.mp4"},
        {"save_dir": tmp_path / "png", "out_format": "png"},
    ):
        with pytest.raises(VaceError):
            generate("a cat", frame_num=5, **given, **TINY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["png"]


def test_save_file(tmp_path):
    made = generate("a cat", frame_num=5, save_file=tmp_path / "sub/mine.mp4", save_dir=tmp_path / "out", **TINY)
    assert made.out_videos == [tmp_path / "sub/mine.mp4"] and made.out_videos[0].stat().st_size > 0


def test_inputs_are_never_overwritten(media, tmp_path):
    from vace.errors import OutputError

    own = tmp_path / "own.mp4"
    own.write_bytes((media / "clip.mp4").read_bytes())
    before = own.read_bytes()
    with pytest.raises(OutputError, match="own.mp4"):
        generate("a cat", src_video=own, save_file=own, frame_num=5, **TINY)
    with pytest.raises(OutputError, match="own.mp4"):
        pipeline("gray", "a cat", video=str(own), save_file=own, frame_num=5, **TINY)
    made = generate("a cat", src_video=own, frame_num=5, save_dir=tmp_path / "out", **TINY)
    with pytest.raises(OutputError, match="src_video.mp4"):
        generate("a cat", src_video=made.src_video, frame_num=5, save_dir=tmp_path / "out", **TINY)
    assert own.read_bytes() == before and not (tmp_path / "processed").exists()


def test_same_pipeline_same_bytes(media):
    given = {"video": f"{media}/clip.mp4", "frame_num": 5, **TINY}
    first, second = (pipeline("gray", "a cat", **given) for _ in range(2))
    assert first.folder != second.folder
    assert first.out_videos[0].read_bytes() == second.out_videos[0].read_bytes()


def test_weights_that_give_nonsense_make_no_video(tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    from vace.errors import CheckpointError
    from vace.models.checkpoints import tiny_folder

    folder = tmp_path / "model"
    shutil.copytree(tiny_folder(), folder)
    path = next((folder / "transformer").glob("*.safetensors"))
    tensors = load_file(path)
    name = next(key for key in tensors if key.startswith("blocks.0"))
    tensors[name][...] = float("nan")
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="not finite"):
        generate("a cat", frame_num=5, **{**TINY, "ckpt_dir": str(folder)})
    assert not (tmp_path / "results").exists()


def test_wrong_defaults_of_a_checkpoint_are_told_as_its_own(tmp_path):
    import shutil

    from vace.errors import CheckpointError
    from vace.models.checkpoints import tiny_folder

    folder = tmp_path / "model"
    shutil.copytree(tiny_folder(), folder)
    defaults = json.loads((folder / "vace.json").read_text())
    (folder / "vace.json").write_text(json.dumps(defaults | {"shift": -1}))
    with pytest.raises(CheckpointError, match="vace.json"):
        generate("a cat", ckpt_dir=str(folder), progress=False)


class TestPipeline:
    @pytest.mark.parametrize("given", [{"save_file": "out.txt"}, {"src_ref_images": "nowhere.png"}])
    def test_the_second_stage_is_checked_before_the_first(self, given, media, tmp_path):
        from vace.errors import VaceError

        with pytest.raises(VaceError):
            pipeline("gray", "a cat", video=f"{media}/clip.mp4", frame_num=5, **given, **TINY)
        assert not any(path.is_file() for path in tmp_path.rglob("*"))

    def test_things_that_move_arrive(self, media):
        """The box of move_anything is drawn for as many frames as the model takes, and reaches its end."""
        made = pipeline("move_anything", "a cat", image=f"{media}/image.png", bbox="4,4,24,24 60,30,90,60",
                        frame_num=9, **{**TINY, "size": "96x64"})  # fmt: skip
        last = frames_of(made.src_video)[-1].astype(int)
        assert made.manifest["frames"]["count"] == 9
        ys, xs = np.nonzero(last.min(axis=-1) < 128)
        assert abs(xs.max() - 90) <= 3 and abs(ys.max() - 60) <= 3

    def test_no_more_frames_are_made_than_the_model_takes(self, media):
        made = pipeline("firstframe", "a cat", image=f"{media}/image.png", expand_num=500, frame_num=9, **TINY)
        with VideoReader(made.manifest["stage_parameters"]["wan"]["src_video"]) as reader:
            assert reader.frame_count == 9

    def test_too_much_given_is_told_before_anything_is_written(self, vace, media, tmp_path):
        outcome = vace("pipeline", "--task", "firstclip", "--video", media / "clip.mp4", "--clip_frames", 17,
                       "--prompt", "x", "--ckpt_dir", "tiny", "--size", "96x64", "--frame_num", 9)  # fmt: skip
        assert outcome.code == 2 and "--clip_frames" in outcome.err
        assert not any(path.is_file() for path in tmp_path.rglob("*"))

    def test_materials_of_no_use_are_told(self, media, caplog):
        pipeline("txt2vid", "a cat", video=f"{media}/clip.mp4", frame_num=5, **TINY)
        assert "--video is not used" in caplog.text

    def test_prepares_only_the_frames_that_are_used(self, media):
        made = pipeline("gray", "a cat", video=f"{media}/clip.mp4", frame_num=9, **TINY)
        stage = made.manifest["stage_parameters"]["wan"]
        with VideoReader(stage["src_video"]) as reader:
            assert reader.frame_count == 9 and reader.fps == pytest.approx(16)
        assert len(frames_of(made.out_videos[0])) == 9

    def test_a_clip_goes_on(self, media):
        """firstclip: frames of the clip first, at the model's rate, the rest made, nothing over the budget."""
        made = pipeline("firstclip", "a cat", video=f"{media}/clip.mp4", clip_frames=5, frame_num=13, **TINY)
        mask = frames_of(made.src_mask)[..., 0]
        assert len(mask) == 13
        assert (mask[:5] == 0).all() and (mask[5:] == 255).all()

    def test_clip_frames_are_chosen_where_not_given(self, media):
        made = pipeline("firstclip", "a cat", video=f"{media}/clip.mp4", frame_num=17, **TINY)
        kept = int((frames_of(made.src_mask)[:, 0, 0, 0] == 0).sum())
        assert kept == 5  # a fifth of 17, rounded up to 4n+1

    def test_text_alone_needs_no_materials(self):
        made = pipeline("txt2vid", "a cat", frame_num=5, **TINY)
        assert made.src_video is None and len(frames_of(made.out_videos[0])) == 5

    def test_sound_stays_where_the_speed_does(self, root):
        made = pipeline("gray", "a cat", video=str(root / "assets/videos/test2.mp4"), frame_num=9, **TINY)
        with VideoReader(made.out_videos[0]) as reader:
            assert reader.has_audio and reader.duration == pytest.approx(9 / 16, abs=0.1)

    def test_resume_runs_only_what_is_missing(self, media, tmp_path, monkeypatch):
        from vace.models.wan.engine import WanEngine
        from vace.pipeline import resumed

        def stopped(*_, **__):
            raise KeyboardInterrupt

        given = {"video": f"{media}/clip.mp4", "frame_num": 5, "save_dir": tmp_path / "out", **TINY}
        with monkeypatch.context() as patch:
            patch.setattr(WanEngine, "decode_chunks", stopped)
            with pytest.raises(KeyboardInterrupt):
                pipeline("gray", "a cat", **given)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "job.json",
            "latents.safetensors",
            "manifest.json",
            "src_video.mp4",
        ]
        first = next((tmp_path / "processed/gray").iterdir()) / "src_video-gray.mp4"
        stamp = first.stat().st_mtime_ns
        with monkeypatch.context() as patch:
            patch.setattr(WanEngine, "denoise", lambda *_, **__: pytest.fail("was denoised already"))
            made = pipeline(**resumed(tmp_path / "out"), progress=False)
        assert first.stat().st_mtime_ns == stamp and len(list((tmp_path / "processed/gray").iterdir())) == 1
        assert sorted(path.name for path in made.folder.iterdir()) == [
            "manifest.json",
            "out_video.mp4",
            "src_video.mp4",
        ]
        stamp = made.out_videos[0].stat().st_mtime_ns
        again = pipeline(**resumed(tmp_path / "out"), progress=False)
        assert again.out_videos[0].stat().st_mtime_ns == stamp

    def test_from_manifest_makes_the_same_and_changes(self, vace, media):
        first = vace("pipeline", "--task", "gray", "--video", media / "clip.mp4", "--prompt", "a cat", "--frame_num", 5,
                     "--ckpt_dir", "tiny", "--size", "96x64", "--steps", 2, "--out_format", "exact")  # fmt: skip
        assert first.code == 0, first.err
        again = vace("pipeline", "--from", first.json["manifest"])
        assert again.json["out_video"] != first.json["out_video"]  # a folder of its own
        assert again.code == 0, again.err
        assert np.array_equal(frames_of(first.json["out_video"]), frames_of(again.json["out_video"]))
        other = vace("pipeline", "--from", first.json["manifest"], "--save_dir", "other", "--pre_save_dir", "pre2",
                     "--seed", 1)  # fmt: skip
        assert not np.array_equal(frames_of(first.json["out_video"]), frames_of(other.json["out_video"]))
        stage = vace("wan", "--from", first.json["manifest"], "--save_dir", "stage")
        assert stage.code == 0, stage.err
        assert np.array_equal(frames_of(first.json["out_video"]), frames_of(stage.json["out_video"]))


def test_the_label_of_a_job_stands_in_the_line_of_progress(capsys):
    """Whatever a file is called: braces are what the bar fills in."""
    generate("a cat", frame_num=5, **TINY | {"progress": "[1/2] gray {odd} name.mp4"})
    shown = capsys.readouterr().err
    assert "[1/2] gray {odd} name.mp4 · 2/2 steps · " in shown and "ETA" in shown
