"""`vace train` learns, goes on exactly where it was, stops when told, and leaves a checkpoint that generation takes."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch
from conftest import moving_frames
from safetensors.torch import load_file
from wan_folders import write_original

from vace.cli import main
from vace.errors import CheckpointError, DeviceError, InputError
from vace.generate import generate
from vace.media.image import write_image
from vace.media.video import VideoReader, VideoWriter
from vace.preprocess import preprocess
from vace.train_flags import TRAIN_FLAGS
from vace.training import finetune as verb
from vace.training.finetune import finetune
from vace.training.finetune_stage import Batches, FinetuneStage

QUICK = {"size": "48x48", "progress": False, "no_checkpoint": True, "validation": 0.0, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """rows.jsonl: two clips of 5 frames, one prepared by `vace preprocess`, one repainted by hand with a reference."""
    folder = tmp_path_factory.mktemp("rows")
    for number in range(2):
        with VideoWriter(folder / f"{number}.mp4", 16, kind="exact") as writer:
            writer.write(moving_frames(5, 48, 48, number))
    preprocess("gray", video=str(folder / "0.mp4"), pre_save_dir=folder / "p0", progress=False)
    mask = np.zeros((48, 48), np.uint8)
    mask[:, 24:] = 255
    write_image(folder / "mask.png", mask)
    write_image(folder / "ref.png", moving_frames(1, 32, 48, 7)[0])
    values = [
        {"prompt": "a square moves", "target": "0.mp4", "prepared": "p0"},
        {"prompt": "a box moves", "target": "1.mp4", "src_video": "1.mp4", "src_mask": "mask.png",
         "src_ref_images": "ref.png"},
    ]  # fmt: skip
    (folder / "rows.jsonl").write_text("# two rows\n\n" + "".join(json.dumps(value) + "\n" for value in values))
    return folder / "rows.jsonl"


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Flags of a short run of the golden toy, in the original's layout; encoded rows are shared."""
    folder = write_original(tmp_path_factory.mktemp("wan") / "golden")
    return QUICK | {
        "ckpt_dir": str(folder), "cache_dir": str(tmp_path_factory.mktemp("cache")), "gradient_checkpointing": False,
    }  # fmt: skip


def state_of(folder):
    return torch.load(folder / "state.pt", weights_only=True)


def assert_same(first, second):
    for part in ("weights", "average"):
        assert first[part].keys() == second[part].keys()
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), name
    assert first["step"] == second["step"]


def test_two_clips_are_learnt(rows, quick, tmp_path):
    answer = finetune(rows, tmp_path / "run", train="context", steps=20, **quick)
    assert answer["after"]["training_loss"] < 0.85 * answer["before"]["training_loss"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 0 and lines[0]["training_loss"] == answer["before"]["training_loss"]
    assert [line["step"] for line in lines if "loss" in line] == [10, 20]
    facts = json.loads((tmp_path / "run" / "facts.json").read_text())
    assert facts["train"] == "context" and facts["after"] == answer["after"]
    assert not list((tmp_path / "run").rglob(".*"))  # nothing half-written


@pytest.mark.parametrize("train", ["lora", "context"])
def test_a_resumed_run_is_the_uninterrupted_one(train, rows, quick, tmp_path):
    flags = {"train": train, "rank": 4, "accumulate": 2, **quick}
    finetune(rows, tmp_path / "whole", steps=3, **flags)
    finetune(rows, tmp_path / "parts", steps=1, **flags)
    finetune(rows, tmp_path / "parts", steps=3, resume=True, **flags)
    assert_same(state_of(tmp_path / "whole"), state_of(tmp_path / "parts"))
    whole, parts = (load_file(tmp_path / name / f"{train}.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)


def test_ctrl_c_saves_and_the_run_goes_on(rows, quick, tmp_path, monkeypatch, capsys):
    flags = {"steps": 3, "rank": 2, **quick}
    finetune(rows, tmp_path / "whole", **flags)
    batch = FinetuneStage.batch

    def stopped(stage, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return batch(stage, step)

    with monkeypatch.context() as patch:
        patch.setattr(FinetuneStage, "batch", stopped)
        arguments = ["--data", rows, "--out", tmp_path / "cut", "--size", "48x48", "--steps", 3, "--rank", 2, "--quiet",
                     "--no_checkpoint", "--validation", 0, "--learning_rate", 3e-3, "--cache_dir", quick["cache_dir"],
                     "--ckpt_dir", quick["ckpt_dir"], "--gradient_checkpointing", False]  # fmt: skip
        assert main(["train", *(str(argument) for argument in arguments)]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert state_of(tmp_path / "cut")["step"] == 2
    assert not (tmp_path / "cut" / "lora.safetensors").exists()
    finetune(rows, tmp_path / "cut", resume=True, **flags)
    assert_same(state_of(tmp_path / "whole"), state_of(tmp_path / "cut"))


def test_generation_takes_the_checkpoint(rows, tmp_path):
    answer = finetune(rows, tmp_path / "run", steps=2, train="context", **QUICK | {"no_checkpoint": False})
    shared = {"src_video": str(rows.parent / "0.mp4"), "size": "48x48", "steps": 2, "progress": False}
    trained = generate("a square", ckpt_dir=answer["checkpoint"], save_dir=tmp_path / "trained", **shared)
    plain = generate("a square", ckpt_dir="tiny", save_dir=tmp_path / "plain", **shared)
    assert trained.manifest["model"]["name"] == "vace-tiny-run" and trained.manifest["model"]["toy"]
    frames = [next(VideoReader(made.out_videos[0]).chunks()) for made in (trained, plain)]
    assert frames[0].shape == (5, 48, 48, 3) and not np.array_equal(*frames)


def test_the_originals_layout_in_shards(rows, tmp_path):
    """A LoRA of the context blocks: shards without a changed tensor, T5 and VAE are the very files."""
    folder = write_original(tmp_path / "wan", shards=3)
    answer = finetune(rows, tmp_path / "run", ckpt_dir=str(folder), steps=2, rank=2, **QUICK | {"no_checkpoint": False})
    made = tmp_path / "run" / "checkpoint"
    for name in ("models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "google/umt5-xxl/tokenizer.json"):
        assert (made / name).samefile(folder / name)
    shards = sorted(folder.glob("diffusion_pytorch_model-*"))
    assert any(not (made / path.name).samefile(path) for path in shards)
    assert [path.name for path in shards] == sorted(path.name for path in made.glob("diffusion_pytorch_model-*"))
    result = generate("a", ckpt_dir=answer["checkpoint"], size="48x48", frame_num=5, steps=1, progress=False,
                      save_dir=tmp_path / "made")  # fmt: skip
    assert result.out_videos[0].is_file() and result.manifest["model"]["name"] == "wan-run"


def test_samples_and_half_precision(rows, quick, tmp_path):
    answer = finetune(rows, tmp_path, steps=2, rank=2, sample_steps=2, dtype="bfloat16",
                      **quick | {"gradient_checkpointing": True})  # fmt: skip
    assert answer["steps"] == 2 and (tmp_path / "sheet-000002.png").is_file()
    assert {tensor.dtype for tensor in load_file(answer["weights"]).values()} == {torch.float32}


def test_nothing_is_encoded_twice(rows, quick, tmp_path, monkeypatch):
    from vace.models.wan.engine import WanEngine

    finetune(rows, tmp_path / "first", steps=1, rank=1, **quick)

    def fail(*_, **__):
        raise RuntimeError("encoded again")

    monkeypatch.setattr(WanEngine, "encode_context", fail)
    monkeypatch.setattr(WanEngine, "encode_prompts", fail)
    finetune(rows, tmp_path / "second", steps=1, rank=1, **quick)


def test_every_row_comes_once_in_a_round():
    from vace.training.finetune_cache import Item

    items = [Item(None, None, None, (2, 6, 6), refs) for refs in (0, 0, 0, 1, 1)]
    batches = Batches(items, 2, seed=3)
    assert batches.in_round == 3
    for turn in range(2):
        drawn = [batches[turn * 3 + place] for place in range(3)]
        assert all(len({item.refs for item in batch}) == 1 for batch in drawn)
        assert {id(item) for batch in drawn for item in batch} == {id(item) for item in items}
    assert [id(i) for i in batches[1]] == [id(i) for i in Batches(items, 2, seed=3)[1]]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"train": "both"}, "--train both"), ({"lora_blocks": "some"}, "--lora_blocks some"), ({"rank": 0}, "--rank 0"),
        ({"steps": 0}, "--steps 0"), ({"learning_rate": 0.0}, "--learning_rate 0"), ({"validation": 2}, "--validation"),
        ({"dtype": "float16"}, "--dtype float16"), ({"size": "50x50"}, "--size 50x50"),
        ({"frame_num": 6}, "--frame_num 6"),
        ({"colour": 1}, "--colour"), ({"shift": -1.0}, "--shift"), ({"resume": True}, "no state.pt"),
    ],
)  # fmt: skip
def test_wrong_flags_are_named(flags, told, rows, tmp_path):
    with pytest.raises(InputError, match=told):
        finetune(rows, tmp_path / "run", progress=False, **flags)
    assert not (tmp_path / "run").exists()


def test_a_training_is_neither_lost_nor_mixed(rows, quick, tmp_path):
    finetune(rows, tmp_path, steps=1, rank=2, **quick)
    with pytest.raises(InputError, match="go on with --resume"):
        finetune(rows, tmp_path, steps=2, rank=2, **quick)
    with pytest.raises(InputError, match="rank was 2, now it is 4"):
        finetune(rows, tmp_path, steps=2, rank=4, resume=True, **quick)
    (rows.parent / "one.jsonl").write_text(rows.read_text().splitlines()[2])
    with pytest.raises(InputError, match="rows is another now"):
        finetune(rows.parent / "one.jsonl", tmp_path, steps=2, rank=2, resume=True, **quick)


def test_what_cannot_go_on_is_told(rows, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(FinetuneStage, "_error", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    monkeypatch.setattr(FinetuneStage, "evaluate", lambda *_: {"decibels": 0.0, "training_loss": 1.0})
    with pytest.raises(CheckpointError, match="lower --learning_rate"):
        finetune(rows, tmp_path / "a", steps=1, rank=2, **quick)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried")

    monkeypatch.setattr(FinetuneStage, "_error", full)
    with pytest.raises(DeviceError, match="--gradient_checkpointing"):
        finetune(rows, tmp_path / "b", steps=1, rank=2, **quick)


def test_the_disk_is_looked_at_first(rows, tmp_path, monkeypatch):
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    from vace.errors import OutputError

    with pytest.raises(OutputError, match="free some space"):
        finetune(rows, tmp_path / "run", steps=1, progress=False, size="48x48")
    assert not (tmp_path / "run").exists()


def test_the_command_answers_in_one_line(rows, quick, tmp_path, capsys):
    arguments = ["--data", rows, "--out", tmp_path / "run", "--size", "48x48", "--steps", 1, "--rank", 1, "--quiet",
                 "--no_checkpoint", "--ckpt_dir", quick["ckpt_dir"], "--cache_dir", quick["cache_dir"]]  # fmt: skip
    assert main(["train", *(str(argument) for argument in arguments)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["checkpoint"] is None and not answer["toy"] and answer["steps"] == 1
    assert main(["train", "--out", str(tmp_path)]) == 2
    assert "--data: missing" in capsys.readouterr().err
    assert {flag.name for flag in TRAIN_FLAGS} >= set(verb.Options.__dataclass_fields__) | set(verb.OF_GENERATION)
