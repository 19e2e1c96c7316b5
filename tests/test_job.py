"""Runs that are repeated with changes: what of the earlier flags stays, and what gives way."""

from __future__ import annotations

import pytest

from vace.job import changed_by

LTX = {"base": "ltx", "prompt": "a cat", "ckpt_dir": "tiny", "size": "128x96", "dtype": "auto", "steps": 6,
       "stg_scale": 1.0, "video": "clip.mp4", "seed": 7}  # fmt: skip


def changed(**given):
    return changed_by(LTX, given)


def test_a_flag_takes_the_place_of_its_own():
    assert changed(steps=9) == LTX | {"steps": 9}
    assert changed() == LTX


def test_another_model_by_name_or_folder():
    found = changed(model_name="vace-ltx-0.9")
    assert "ckpt_dir" not in found and found["model_name"] == "vace-ltx-0.9"
    assert "model_name" not in changed_by({"model_name": "vace-ltx-0.9"}, {"ckpt_dir": "folder"})


def test_precision_stands_for_dtype():
    assert "dtype" not in changed(precision="bfloat16")


@pytest.mark.parametrize(("given", "sides"), [
    ({"height": 64}, (128, 64)), ({"width": 64}, (64, 96)), ({"width": 64, "height": 32}, (64, 32)),
])  # fmt: skip
def test_height_and_width_change_the_size(given, sides):
    found = changed(**given)
    assert "size" not in found and (found["width"], found["height"]) == sides


def test_another_base_brings_its_own_numbers(caplog):
    found = changed(base="wan")
    assert found == {"base": "wan", "prompt": "a cat", "video": "clip.mp4"}
    assert changed(base="lxt") == LTX | {"base": "lxt"}  # the same, in the guide's spelling


def test_an_extended_prompt_stays_unless_it_is_extended_anew():
    record = {"before": "a cat", "after": "A gray cat leaps.", "mode": "ltx_en"}
    kept = LTX | {"prompt": record["after"], "prompt_extension": record}
    assert changed_by(kept, {"steps": 2}) == kept | {"steps": 2}
    again = changed_by(kept, {"use_prompt_extend": "auto"})
    assert again["prompt"] == "a cat" and "prompt_extension" not in again
    assert changed_by(kept, {"use_prompt_extend": "plain"})["prompt"] == record["after"]
    assert changed_by(kept, {"prompt": "a dog", "use_prompt_extend": "auto"})["prompt"] == "a dog"


def test_a_preset_takes_the_place_of_what_it_sets():
    kept = LTX | {"guidance_scale": 4.5}
    found = changed_by(kept, {"preset": "balanced"})
    assert not {"steps", "guidance_scale", "stg_scale"} & set(found)
    assert found["preset"] == "balanced" and found["seed"] == 7 and found["size"] == "128x96"
    assert changed_by(kept, {"preset": "balanced", "steps": 9})["steps"] == 9
    wan = changed_by({"base": "wan", "steps": 6, "sampler": "dpm++", "seed": 7}, {"preset": "quality"})
    assert wan == {"base": "wan", "seed": 7, "preset": "quality"}
    assert changed_by(kept, {"preset": "nonsense"}) == kept | {"preset": "nonsense"}  # told by the settings
