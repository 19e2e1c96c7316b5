"""What a caller is told while a verb is at work, and how it may end it; on the embedded models."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from vace.generate import generate
from vace.pipeline import pipeline
from vace.preprocess import preprocess
from vace.watching import Watch

TINY = {"ckpt_dir": "tiny", "size": "96x64", "progress": False, "device": "cpu"}
MADE = ["load", "read sources", "encode prompt", "encode context", "write sources", "denoise", "decode"]
SHORT = {"wan": 5, "ltx": 9}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Told:
    """Keeps all that a watch is told."""

    def __init__(self) -> None:
        self.stages, self.frames, self.steps, self.pictures = [], [], [], []
        self.watch = Watch(
            on_stage=self.stages.append, on_frames=lambda *frames: self.frames.append(frames),
            on_step=lambda *step: self.steps.append(step[:2]), on_preview=lambda *shown: self.pictures.append(shown),
        )  # fmt: skip


@pytest.mark.parametrize("base", ["wan", "ltx"])
def test_a_generation_tells_its_stages_steps_and_previews_and_is_the_same(base):
    told, job = Told(), {"base": base, "frame_num": SHORT[base], "steps": 4, "seed": 3, **TINY}
    watched = generate("a cat", watch=told.watch, num_videos=2, out_format="exact", **job)
    plain = generate("a cat", num_videos=2, out_format="exact", **job)
    assert told.stages == [*MADE, "denoise 1", "decode 1"]
    assert told.steps == [(step, 4) for step in range(4)] * 2
    assert [step for step, _ in told.pictures][:1] == [1]
    assert {step for step, _ in told.pictures} <= {1, 2}
    for _, picture in told.pictures:
        assert picture.shape == (64, 96, 3) and picture.dtype == np.uint8 and picture.std() > 1
    for one, other in zip(watched.out_videos, plain.out_videos, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_pipeline_tells_of_both_verbs(media):
    told = Told()
    pipeline("gray", "a cat", video=f"{media}/clip.mp4", frame_num=5, steps=3, watch=told.watch, **TINY)
    assert told.stages == ["prepare", *MADE]
    assert told.frames[-1] == (5, 5) and [done for done, _ in told.frames] == sorted(done for done, _ in told.frames)
    assert len(told.steps) == 3


def test_joined_tasks_tell_of_each(media):
    told = Told()
    task = f"frameref(mode=firstframe,image={media}/image.png)+outpainting(direction=left)+image_gray"
    preprocess(task, expand_num=4, image=f"{media}/image.png", watch=told.watch, progress=False)
    assert told.stages == ["prepare"] * told.stages.count("prepare") and told.stages.count("prepare") >= 3
    assert (5, 5) in told.frames


def test_what_is_there_already_tells_nothing(media, tmp_path):
    told, given = Told(), {"video": f"{media}/clip.mp4", "pre_save_dir": tmp_path / "out", "progress": False}
    preprocess("gray", **given)
    preprocess("gray", resume=True, watch=told.watch, **given)
    assert told.stages == told.frames == []


def stop(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("event", ["on_stage", "on_frames", "on_step", "on_preview"])
def test_whatever_one_raises_ends_the_run_and_nothing_is_left(event, media, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        if event in ("on_stage", "on_frames"):
            preprocess(
                "gray", video=f"{media}/clip.mp4", pre_save_dir=out, progress=False, watch=Watch(**{event: stop})
            )
        else:
            generate("a cat", frame_num=5, steps=3, save_dir=out, watch=Watch(**{event: stop}), **TINY)
    assert not out.exists()


def test_offloading_leaves_no_memory_for_previews(caplog):
    told = Told()
    with caplog.at_level(logging.INFO, "vace"):
        generate("a cat", frame_num=5, steps=4, offload_model=True, num_videos=2, watch=told.watch, **TINY)
    assert told.pictures == [] and len(told.steps) == 8
    assert sum("no previews" in record.message for record in caplog.records) == 1


def test_an_end_of_memory_ends_the_previews_not_the_run(caplog, monkeypatch):
    from vace.models.engine import Engine

    def full(*_, **__):
        raise torch.OutOfMemoryError("none left")

    monkeypatch.setattr(Engine, "preview", full)
    told = Told()
    made = generate("a cat", frame_num=5, steps=4, num_videos=2, watch=told.watch, **TINY)
    assert told.pictures == [] and len(made.out_videos) == 2
    assert sum("no more previews" in record.message for record in caplog.records) == 1
