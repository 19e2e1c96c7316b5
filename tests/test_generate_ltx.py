"""The verbs on the second base model: the same files, manifest, frames and words as for Wan, with LTX's own numbers."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from example_lines import lines_of
from media_io import frames_of

from vace.errors import InputError
from vace.generate import generate
from vace.media.video import VideoReader, VideoWriter
from vace.pipeline import pipeline, resumed
from vace.preprocess import preprocess
from vace.tasks import TASKS

TINY = {"base": "ltx", "ckpt_dir": "tiny", "size": "96x64", "steps": 2, "progress": False, "device": "cpu"}
GROUPS = ("control", "extension", "repainting", "composition")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def prepared(media, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    return preprocess("inpainting_mask", video=f"{media}/clip.mp4", mask=f"{media}/mask.png", pre_save_dir=folder,
                      progress=False)  # fmt: skip


def made_of(prompt="a cat", **given) -> np.ndarray:
    return frames_of(generate(prompt, frame_num=9, out_format="exact", **{**TINY, **given}).out_videos[0])


def test_text_alone():
    made = generate("a cat", frame_num=9, **TINY)
    assert made.folder.parent == Path("results/vace-tiny-ltx")
    assert sorted(made.folder.iterdir()) == [made.folder / "manifest.json", made.folder / "out_video.mp4"]
    video = frames_of(made.out_videos[0])
    assert video.shape == (9, 64, 96, 3) and video.std() > 1
    assert made.manifest["command"] == "ltx" and made.as_json()["toy"] is True
    with VideoReader(made.out_videos[0]) as reader:
        assert reader.fps == 25.0


def test_seeds_and_several_videos():
    """With several videos per prompt the original fails, or mixes their rows up and keeps the first."""
    both = generate("a cat", frame_num=9, seed=7, num_videos=2, out_format="exact", **TINY)
    first, second = (frames_of(path) for path in both.out_videos)
    assert np.array_equal(first, made_of(seed=7)) and np.array_equal(second, made_of(seed=8))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("change", [
    {"prompt": "a dog"}, {"negative_prompt": "a tree"}, {"guidance_scale": 1.0}, {"shift": 9.0, "steps": 3},
    {"stg_scale": 0.0}, {"stg_mode": "stg_r"}, {"stg_skip_layers": "1,2"}, {"stg_rescale": 0.2}, {"frame_rate": 10},
    {"steps": 1},
])  # fmt: skip
def test_every_setting_matters(change):
    plain = made_of(**({"steps": change["steps"]} if "shift" in change else {}))
    assert not np.array_equal(plain, made_of(**change))


def test_posterior_matters_where_something_is_given(prepared):
    given = {"src_video": prepared.src_video, "src_mask": prepared.src_mask}
    assert not np.array_equal(made_of(**given), made_of(**given, posterior="mode"))


def test_footage_is_played_at_25_frames_a_second(prepared, caplog):
    """30 frames at 25 fps are all taken: 30, padded to 33 for the model and cut back."""
    with caplog.at_level(logging.INFO, logger="vace"):
        made = generate("a cat", src_video=prepared.src_video, src_mask=prepared.src_mask, **{**TINY, "size": "512p"})
    assert made.manifest["frames"]["count"] == 30 and made.manifest["frames"]["made"] == 33
    plan = next(record.message for record in caplog.records if record.message.startswith("ltx "))
    for word in ("30 frames at 25 fps", "30 at 25 fps", "padded to 33", "96x64", "30 tokens", "2 steps", "toy"):
        assert word in plan, plan


@pytest.mark.parametrize(("policy", "rate", "count", "fps"), [
    ("auto", None, 17, 25.0), ("auto", 12.5, 15, 12.5), ("uniform", None, 17, 14.167), ("uniform", 20, 17, 20.0),
])  # fmt: skip
def test_frame_rates(prepared, policy, rate, count, fps):
    """The original ignores --frame_rate beside a video, and takes a rate that drifts (25.13 for 97 frames of 25)."""
    rates = {} if rate is None else {"frame_rate": rate}
    made = generate("a cat", src_video=prepared.src_video, frame_policy=policy, frame_num=17, **rates, **TINY)
    with VideoReader(made.out_videos[0]) as reader:
        assert (reader.frame_count, reader.fps) == (count, pytest.approx(fps, rel=1e-3))


def test_prepared_files_keep_the_rate_they_were_made_at(media, tmp_path):
    first = preprocess("firstframe", image=f"{media}/image.png", expand_num=8, pre_save_dir=tmp_path / "a",
                       progress=False)  # fmt: skip
    made = generate("a cat", src_video=first.src_video, src_mask=first.src_mask, **TINY)
    with VideoReader(made.out_videos[0]) as reader:
        assert (reader.frame_count, reader.fps) == (9, 16.0)


def test_sources_are_written_as_the_model_saw_them(prepared, media):
    from vace.media.image import read_image

    made = generate("a cat", src_video=prepared.src_video, src_mask=prepared.src_mask, frame_num=9,
                    src_ref_images=f"{media}/image.png", **TINY)  # fmt: skip
    video, mask = frames_of(made.src_video), frames_of(made.src_mask)
    assert set(np.unique(video[mask > 127])) <= {127, 128}
    # In the original half of a saved reference's range is black.
    assert np.abs(read_image(made.src_ref_images[0]).astype(int) - read_image(media / "image.png")).max() <= 1


def test_a_mask_without_a_video(prepared):
    with pytest.raises(InputError, match="--src_mask .*: a mask without a video"):
        generate("a cat", src_mask=prepared.src_mask, **TINY)


@pytest.mark.parametrize(("given", "said"), [
    ({"size": "72x96"}, "--size 72x96 is not divisible.*multiples of 32: use 64x96 or 96x96"),
    ({"frame_num": 16}, "--frame_num 16 is not of the form 8n.1.*use 9 or 17"),
    ({"stg_skip_layers": "19"}, "--stg_skip_layers 19: this model has layers 0 to 5"),
    ({"sampler": "unipc"}, "--sampler: a setting of --base wan"),
])  # fmt: skip
def test_what_cannot_be_is_told(given, said):
    with pytest.raises(InputError, match=said):
        generate("a cat", **{**TINY, **given})


@pytest.mark.parametrize("count", [1, 2, 8, 9, 14])
def test_clips_of_any_length(count, tmp_path):
    """F%8 == 0 crashes the original, other lengths come back shorter."""
    rng = np.random.default_rng(count)
    with VideoWriter(tmp_path / "clip.mp4", 25, kind="exact") as writer:
        writer.write(rng.integers(0, 255, (count, 64, 96, 3), dtype=np.uint8))
    made = generate("a cat", src_video=tmp_path / "clip.mp4", **TINY)
    assert len(frames_of(made.out_videos[0])) == count


def test_repeated_from_its_manifest(vace):
    made = generate("a cat", frame_num=9, seed=-1, out_format="exact", stg_skip_layers="1,2", **TINY)
    again = vace("ltx", "--from", made.folder / "manifest.json", "--quiet")
    assert again.code == 0, again.err
    assert np.array_equal(frames_of(again.json["out_video"]), frames_of(made.out_videos[0]))
    assert vace("wan", "--from", made.folder / "manifest.json").code == 2


def test_the_manifest_says_what_was_really_used():
    used = generate("a cat", frame_num=9, **TINY).manifest["used"]
    assert used["dtype"] == "float32" and used["negative_prompt"] == "" and used["fps"] == 25.0
    assert used["shift"] == pytest.approx(np.exp(0.95 + (2 * 2 * 3 - 1024) * 1.1 / 3072))
    assert used["stg_skip_layers"] == [4] and used["posterior"] == "sample"


def test_other_weights_of_the_same_name_are_another_job(media, tmp_path, root):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(root / "assets/models/vace-tiny-ltx", tmp_path / "model")
    given = {**TINY, "ckpt_dir": str(folder), "video": f"{media}/clip.mp4"}
    made = pipeline("gray", "a cat", **given)
    first = frames_of(made.out_videos[0])
    (file,) = folder.glob("*.safetensors")
    from vace.models.ltx.metadata import read_metadata

    metadata = read_metadata(file)
    save_file({key: value * 1.1 for key, value in load_file(file).items()}, file, metadata)
    again = pipeline(**resumed(made.folder) | {"progress": False})
    assert not np.array_equal(frames_of(again.out_videos[0]), first)
    assert again.manifest["model"]["fingerprint"] != made.manifest["model"]["fingerprint"]


def test_each_finished_video_is_in_the_manifest_before_the_next_begins(monkeypatch):
    """A run that is killed can go on after the last finished one."""
    from vace.models.ltx.engine import LTXEngine

    seen, real = [], LTXEngine.denoise

    def denoise(self, *args, **kwargs):
        manifests = list(Path("results").rglob("manifest.json"))
        seen.append(
            [r["seed"] for p in manifests for r in json.loads(p.read_text())["outputs"] if r["role"] == "out_video"]
        )
        return real(self, *args, **kwargs)

    monkeypatch.setattr(LTXEngine, "denoise", denoise)
    made = generate("a cat", frame_num=9, seed=3, num_videos=3, **TINY)
    assert seen == [[], [3], [3, 4]]
    assert "interrupted" not in made.manifest and len(made.out_videos) == 3


def test_repeated_by_other_words(vace):
    made = generate("a cat", frame_num=9, **TINY)
    path = made.folder / "manifest.json"
    smaller = vace("ltx", "--from", path, "--height", "32", "--quiet")
    assert smaller.code == 0 and frames_of(smaller.json["out_video"]).shape == (9, 32, 96, 3)
    rough = vace("ltx", "--from", path, "--precision", "bfloat16", "--quiet")
    assert json.loads(Path(rough.json["manifest"]).read_text())["used"]["dtype"] == "bfloat16"
    real = vace("ltx", "--from", path, "--model_name", "vace-ltx-0.9", "--no_download")
    assert real.code == 2 and "ali-vilab/VACE-LTX-Video-0.9" in real.err


def test_pipeline_of_ltx_and_going_on_with_it(media, caplog):
    made = pipeline("inpainting_mask", "a cat", video=f"{media}/clip.mp4", mask=f"{media}/mask.png", **TINY)
    manifest = made.manifest
    assert manifest["command"] == "pipeline" and manifest["parameters"]["base"] == "ltx"
    assert set(manifest["stage_parameters"]) == {"preprocess", "ltx"}
    with caplog.at_level(logging.INFO, logger="vace"):
        again = pipeline(progress=False, **{k: v for k, v in resumed(made.folder).items() if k != "progress"})
    assert again.out_videos == made.out_videos and "already made in" in caplog.text


def test_pipeline_prepares_at_the_rate_and_length_of_ltx(media):
    made = pipeline("firstclip", "a cat", video=f"{media}/clip.mp4", **TINY)
    with VideoReader(made.src_video) as reader:
        assert reader.fps == 25.0 and (reader.frame_count - 1) % 8 == 0
    made = pipeline("firstframe", "a cat", image=f"{media}/image.png", **TINY)
    with VideoReader(made.out_videos[0]) as reader:
        assert reader.fps == 25.0 and reader.frame_count == 17  # the toy's own length


def test_flags_of_wan_are_refused_in_a_pipeline_of_ltx(media):
    with pytest.raises(InputError, match="--sampler: a setting of --base wan"):
        pipeline("gray", "a cat", video=f"{media}/clip.mp4", sampler="unipc", **TINY)


def lines_of_groups() -> list:
    """The first pipeline line of every task that LTX is led by; one of each group with the quick tests."""
    found, quick = {}, set()
    for name, commands in lines_of("run_vace_pipeline.sh").items():
        options = dict(zip(commands[-1][1::2], commands[-1][2::2], strict=False))
        task = "more_anything" if "(" in options.get("--task", "") else options.get("--task")
        group = TASKS[task].group if task in TASKS else None
        if group in GROUPS and task not in found and name != "guide":
            marks = [] if group not in quick else [pytest.mark.slow]
            quick.add(group)
            found[task] = pytest.param(name, id=task, marks=marks)
    return list(found.values())


def test_every_such_task_has_a_line():
    wanted = {task.name for task in TASKS.values() if task.group in GROUPS}
    assert {param.id for param in lines_of_groups()} == wanted


@pytest.mark.parametrize("name", lines_of_groups())
def test_every_task_through_the_pipeline(name, vace, root, tmp_path):
    (tmp_path / "assets").symlink_to(root / "assets")
    for arguments in lines_of("run_vace_pipeline.sh")[name]:
        arguments = ["ltx" if word == "wan" else word for word in arguments]
        if arguments[0] == "pipeline":
            arguments += [] if "layout_bbox" in arguments else ["--size", "96x64"]
            arguments += ["--steps", "1"]
        outcome = vace(*arguments, "--quiet")
        assert outcome.code == 0, outcome.err
    answer = outcome.json
    manifest = json.loads(Path(answer["manifest"]).read_text())
    assert manifest["model"]["name"] == "vace-tiny-ltx"
    video = frames_of(answer["out_video"])
    assert len(video) == manifest["frames"]["count"] > 1
    assert all(side % 32 == 0 for side in video.shape[1:3])
