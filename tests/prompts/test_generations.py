"""--use_prompt_extend within generation and pipeline, for both bases: what is asked, used and written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from media_io import frames_of
from prompt_server import GOOD, said, served

from vace.errors import VaceError
from vace.generate import generate
from vace.job import prepare_job
from vace.media.manifest import read_json
from vace.pipeline import pipeline, resumed

TINY = {"ckpt_dir": "tiny", "size": "96x64", "steps": 1, "progress": False, "device": "cpu", "frame_num": 9}
BASES = ("wan", "ltx")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(monkeypatch):
    for name in ("VACE_PROMPT_API_KEY", "OPENAI_API_KEY", "DASH_API_KEY", "DASHSCOPE_API_KEY", "DASH_API_URL"):
        monkeypatch.delenv(name, raising=False)
    with served() as httpd:
        yield httpd


def by(server) -> dict:
    return {"use_prompt_extend": "auto", "prompt_api": server.url, "prompt_api_model": "tiny-chat"}


@pytest.mark.parametrize("base", BASES)
def test_the_model_gets_the_new_prompt_and_the_manifest_both(server, base):
    made = generate("a cat", base=base, **TINY, **by(server))
    record = made.manifest["prompt_extension"]
    assert (record["before"], record["after"], record["mode"]) == ("a cat", GOOD, f"{base}_en")
    assert made.manifest["parameters"]["prompt"] == GOOD
    plain = generate(GOOD, base=base, **TINY)  # the same words, written by hand
    assert (frames_of(made.out_videos[0]) == frames_of(plain.out_videos[0])).all()
    assert "prompt_extension" not in plain.manifest
    assert not (frames_of(generate("a cat", base=base, **TINY).out_videos[0]) == frames_of(plain.out_videos[0])).all()


@pytest.mark.parametrize("base", BASES)
def test_a_run_is_repeated_without_asking_again(server, base, vace):
    made = generate("a cat", base=base, out_format="exact", **TINY, **by(server))
    asked = len(server.asked)
    again = vace(base, "--from", made.folder / "manifest.json", "--quiet")
    assert again.code == 0, again.err
    assert len(server.asked) == asked
    assert read_json(Path(again.json["manifest"]))["prompt_extension"]["before"] == "a cat"
    assert (frames_of(again.json["out_video"]) == frames_of(made.out_videos[0])).all()


@pytest.mark.parametrize("base", BASES)
def test_a_pipeline_tells_the_writer_what_leads(server, base, media):
    made = pipeline(
        "swap_anything", "a cat", base=base, video=f"{media}/clip.mp4", image=f"{media}/image.png,{media}/image2.png",
        mask=f"{media}/mask.png", mode="masktrack,plain", **TINY, **by(server),
    )  # fmt: skip
    assert made.manifest["prompt_extension"]["after"] == made.manifest["parameters"]["prompt"] == GOOD
    system = server.asked[0][2]["messages"][0]["content"]
    assert "Reference pictures: 2" in system and len(server.asked) == 1
    assert "use_prompt_extend" not in json.dumps(read_json(made.folder / "manifest.json")["parameters"])


def test_without_the_flag_nobody_is_asked(server):
    generate("a cat", **TINY)
    generate("a cat", use_prompt_extend="plain", **TINY)
    assert server.asked == []


def test_a_failing_writer_ends_the_run_unless_told_otherwise(server, caplog, tmp_path):
    server.answers = [(401, {}, b"{}")]
    with pytest.raises(VaceError, match="401"):
        generate("a cat", **TINY, **by(server))
    assert not (tmp_path / "results").exists()  # nothing was made, nothing is left
    made = generate("a cat", prompt_fallback=True, **TINY, **by(server))
    assert made.manifest["parameters"]["prompt"] == "a cat" and "stays as it is" in caplog.text
    assert "401" in made.manifest["prompt_extension"]["fallback"]


def test_wrong_flags_are_told_before_a_model_is_looked_for():
    with pytest.raises(VaceError, match="--use_prompt_extend wan_en"):
        prepare_job("a cat", base="ltx", use_prompt_extend="wan_en", ckpt_dir="nowhere")
    with pytest.raises(VaceError, match="--prompt_model: the prompt is not extended"):
        prepare_job("a cat", prompt_model="folder", ckpt_dir="nowhere")


def test_the_command(server, vace):
    flags = ("--prompt_api", server.url, "--prompt_api_model", "tiny-chat")
    for words in (("prompt", "a cat", *flags), ("prompt", *flags, "--use_prompt_extend", "a cat")):
        outcome = vace(*words)
        assert outcome.code == 0, outcome.err
        assert outcome.json["prompt"] == GOOD and outcome.json["before"] == "a cat"
    server.answers = [(200, {}, said("Eine graue Katze."))]
    assert vace("prompt", "--base", "lxt", "a cat", *flags).json["mode"] == "ltx_en"
    assert vace("prompt", "a cat", "--use_prompt_extend", "plain").json["prompt"] == "a cat"


def test_going_on_with_a_pipeline_keeps_both_texts_and_asks_nobody(server, media):
    made = pipeline("gray", "a cat", video=f"{media}/clip.mp4", **TINY, **by(server))
    parameters = resumed(made.folder)
    again = pipeline(**parameters | {"steps": 2, "progress": False})
    assert len(server.asked) == 1
    assert again.manifest["prompt_extension"] == made.manifest["prompt_extension"]
    assert again.manifest["parameters"]["steps"] == 2


def test_nobody_is_asked_for_files_that_are_not_there(server):
    with pytest.raises(VaceError, match="--video nope.mp4: no such file"):
        pipeline("gray", "a cat", video="nope.mp4", **TINY, **by(server))
    with pytest.raises(VaceError, match="nope.png: no such file"):
        pipeline("firstframe(image=nope.png)+gray(video=clip.mp4)", "a cat", **TINY, **by(server))
    assert server.asked == []


@pytest.mark.parametrize("base", BASES)
def test_a_generation_tells_the_writer_what_is_there(server, base, media):
    from vace.preprocess import preprocess

    first = preprocess("inpainting_mask", video=f"{media}/clip.mp4", mask=f"{media}/mask.png", progress=False)
    generate("a cat", base=base, src_video=first.src_video, src_mask=first.src_mask,
             src_ref_images=f"{media}/image.png", **TINY, **by(server))  # fmt: skip
    system = server.asked[0][2]["messages"][0]["content"]
    for words in ("Task: inpainting_mask", "Reference pictures: 1", "A source video is given", "Only the masked part"):
        assert words in system
    assert f"about {9 / (16 if base == 'wan' else 25):.1f} seconds" in system


def test_a_prompt_that_ltx_cannot_read(vace, server):
    outcome = vace("ltx", "--prompt", "一只灰色的猫在奔跑", "--ckpt_dir", "tiny")
    assert outcome.code == 2 and "reads English" in outcome.err and "--use_prompt_extend" in outcome.err
    generate("一只灰色的猫在奔跑", base="ltx", **TINY, **by(server))  # written out in English it can
