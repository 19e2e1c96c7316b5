"""What a video says of how it was made: what is taken from it, and what never is."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from vace.errors import InputError
from vace.media.manifest import write_json
from vace.media.video import VideoWriter
from vace.models.checkpoints import find_checkpoint
from vace.recipes import materials_of, read_recipe, results_in, settings_of
from vace.runs import SCHEMA, input_records


def video(path, comment=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 16.0, kind="result", comment=comment) as writer:
        writer.write(np.full((3, 32, 32, 3), 90, np.uint8))
    return path


def recipe_of(command="wan", **parameters):
    recipe = {"schema": SCHEMA, "command": command, "parameters": {"prompt": "a cat", **parameters}, "inputs": []}
    return recipe | {"model": {"name": "vace-14B", "fingerprint": "ab", "toy": False}, "seed": 7, "versions": {}}


def result(folder, seeds=(7,), **parameters):
    """A folder as `generate` leaves it, with a video for each seed."""
    records = []
    for count, seed in enumerate(seeds):
        path = video(folder / f"out_video_{count}.mp4")
        record = input_records([("", path)])[0]
        records.append({"role": "out_video", "name": path.name, "sha256": record["sha256"], "seed": seed})
    manifest = recipe_of(**parameters) | {"outputs": records, "stages": [{"name": "denoise", "seconds": 2.5}]}
    write_json(folder / "manifest.json", manifest)
    return manifest


def test_a_real_result_gives_its_settings_back(vace, tmp_path):
    made = vace("wan", "--prompt", "a red ball", "--ckpt_dir", "tiny", "--steps", "2", "--seed", "11",
                "--frame_num", "5", "--negative_prompt", "", "--num_videos", "2", "--quiet",
                "--save_dir", tmp_path / "out")  # fmt: skip
    settings = settings_of(read_recipe(made.json["out_videos"][1]))
    expected = {"base": "wan", "prompt": "a red ball", "steps": 2, "seed": 12, "frame_num": 5, "negative_prompt": "",
                "sampler": "unipc", "size": find_checkpoint("tiny", None).defaults["size"]}  # fmt: skip
    assert expected.items() <= settings.items()
    assert settings["model"]["name"] == "vace-tiny"
    assert [one.recipe["seed"] for one in results_in(tmp_path)] == [11, 12]


def test_what_is_not_ours_is_refused_by_name_without_its_folder(tmp_path):
    cases = {
        "plain.mp4": None, "other.mp4": "made by hand", "number.mp4": "3", "foreign.mp4": '{"schema": "x"}',
        "deep.mp4": "[" * 5000, "prepared.mp4": json.dumps(recipe_of("preprocess")),
        "odd.mp4": json.dumps(recipe_of() | {"parameters": []}),
    }  # fmt: skip
    for name, comment in cases.items():
        with pytest.raises(InputError, match=f"^{name}: ") as refused:
            read_recipe(video(tmp_path / name, comment))
        assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("flag", [
    "ckpt_dir", "ckpt_path", "model_name", "text_encoder_path", "config", "device", "noise_device", "save_dir",
    "save_file", "pre_save_dir", "src_video", "src_mask", "src_ref_images", "video", "mask", "prompt_api",
    "prompt_api_model", "prompt_model", "use_prompt_extend", "no_download", "resume", "from", "verbose", "unheard_of",
])  # fmt: skip
def test_paths_addresses_and_the_machine_are_never_taken(flag):
    for command in ("wan", "pipeline"):
        recipe = recipe_of(command, task="depth", **{flag: "/etc/passwd"})
        assert flag not in settings_of(recipe)
        assert flag not in materials_of(recipe)


def test_values_a_flag_cannot_have_are_passed_over():
    wrong = {"steps": "many", "seed": None, "size": {"a": 1}, "guidance_scale": [[1]], "fill_mask": "paint",
             "negative_prompt": "x" * 30_000}  # fmt: skip
    settings = settings_of(recipe_of(**wrong) | {"seed": {"no": 1}, "model": ["x"]})
    assert settings == {"base": "wan", "model": {}, "prompt": "a cat"}


def test_another_base_has_its_own_settings():
    settings = settings_of(recipe_of("ltx", base="ltx", stg_scale=0.5, sampler="unipc", stg_skip_layers=[14, 19]))
    assert settings["stg_scale"] == 0.5
    assert settings["stg_skip_layers"] == ["14", "19"]
    assert "sampler" not in settings
    with pytest.raises(InputError, match="--base other"):
        settings_of(recipe_of("pipeline", base="other"))


def test_materials_come_from_a_pipeline_only_and_hold_no_files():
    told = {"task": "inpainting", "mode": "bboxtrack", "bbox": ["1,2,3,4"], "video": "cat.mp4", "maskaug_ratio": 0.5}
    found = materials_of(recipe_of("pipeline", **told))
    assert found == {"task": "inpainting", "mode": "bboxtrack", "bbox": ["1,2,3,4"], "maskaug_ratio": 0.5}
    assert materials_of(recipe_of("wan", **told)) == {}
    assert materials_of(recipe_of("pipeline", task="no_such_task")) == {}


def test_results_come_newest_first_and_broken_ones_are_passed_over(tmp_path):
    for age, name in enumerate(("new", "older", "oldest")):
        result(tmp_path / "model" / name, seeds=(1, 2) if name == "older" else (3,))
        when = 1_700_000_000 - age * 60
        os.utime(tmp_path / "model" / name / "manifest.json", (when, when))
    for name, text in {"cut": '{"schema"', "list": "[]", "none": "", "odd": '{"schema": "vace-manifest/1"}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
    found = list(results_in(tmp_path))
    assert [(one.manifest.parent.name, one.recipe["seed"]) for one in found] == [
        ("new", 3), ("older", 1), ("older", 2), ("oldest", 3),
    ]  # fmt: skip
    assert (found[0].prompt, found[0].model) == ("a cat", "vace-14B")


def test_results_tell_no_directory_and_reach_no_file_outside(tmp_path):
    outside = video(tmp_path / "outside.mp4")
    manifest = result(tmp_path / "all" / "model" / "a", ckpt_dir=str(tmp_path / "weights"))
    manifest["inputs"] = [{"flag": "src_video", "path": str(tmp_path / "x.mp4"), "name": "x.mp4", "sha256": "0"}]
    good = manifest["outputs"][0]
    manifest["outputs"] = [good] + [
        good | {"name": name} for name in (str(outside), "../../../outside.mp4", "gone.mp4")
    ]
    (tmp_path / "all" / "model" / "a" / "link.mp4").symlink_to(outside)
    manifest["outputs"].append(good | {"name": "link.mp4"})
    write_json(tmp_path / "all" / "model" / "a" / "manifest.json", manifest)
    found = list(results_in(tmp_path / "all"))
    assert [one.video.name for one in found] == ["out_video_0.mp4"]
    assert str(tmp_path) not in json.dumps([found[0].recipe, found[0].details | {"outputs": []}])
