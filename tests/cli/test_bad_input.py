"""Every kind of bad input: exit status 2, one clear line that names the input and what to do, nothing left behind."""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def broken(tmp_path_factory, media) -> Path:
    """Files that are not what they should be."""
    folder = tmp_path_factory.mktemp("broken")
    whole = (media / "clip.mp4").read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    (folder / "text.mp4").write_text("this is not a video\n" * 50)
    (folder / "text.png").write_text("this is not a picture\n")
    (folder / "folder.mp4").mkdir()
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    return folder


GRAY = ("preprocess", "--task", "gray", "--video")
INPAINT = ("preprocess", "--task", "inpainting", "--video", "{media}/clip.mp4")
WAN = ("wan", "--ckpt_dir", "tiny", "--prompt", "a cat")
LAYOUT = ("preprocess", "--task", "layout_bbox", "--size", "96x64", "--frame_num", "9", "--bbox")

# name -> (arguments, what the line must say)
CASES = {
    "missing file": ((*GRAY, "nowhere.mp4"), ["nowhere.mp4", "no such file"]),
    "empty file": ((*GRAY, "{broken}/empty.mp4"), ["empty.mp4", "empty"]),
    "truncated file": ((*GRAY, "{broken}/half.mp4"), ["half.mp4"]),
    "corrupt file": ((*GRAY, "{broken}/noise.mp4"), ["noise.mp4"]),
    "audio only": ((*GRAY, "{broken}/sound.wav"), ["sound.wav", "no video"]),
    "text file": ((*GRAY, "{broken}/text.mp4"), ["text.mp4"]),
    "directory for a file": ((*GRAY, "{broken}/folder.mp4"), ["folder.mp4"]),
    "text as picture": (("preprocess", "--task", "firstframe", "--image", "{broken}/text.png"), ["text.png"]),
    "directory for a picture": (("preprocess", "--task", "firstframe", "--image", "{broken}"), ["folder"]),
    "no task": (("preprocess", "--video", "{media}/clip.mp4"), ["--task"]),
    "unknown task": (("preprocess", "--task", "grey", "--video", "{media}/clip.mp4"), ["grey", "'gray'"]),
    "unknown mode": ((*INPAINT, "--mode", "masc"), ["masc", "'mask'"]),
    "mode for a task without": ((*GRAY, "{media}/clip.mp4", "--mode", "mask"), ["--mode", "no modes"]),
    "no mode": ((*INPAINT, "--mask", "{media}/mask.png"), ["--mode", "mask, bbox"]),
    "no video": (("preprocess", "--task", "gray"), ["--video", "needs"]),
    "no mask": ((*INPAINT, "--mode", "mask"), ["--mask", "needs"]),
    "one image of two": (
        ("preprocess", "--task", "firstlastframe", "--image", "{media}/image.png"), ["--image", "two images"],
    ),
    "one box of two": ((*LAYOUT, "1,2,30,40"), ["--bbox", "two boxes"]),
    "box of three numbers": ((*INPAINT, "--mode", "bbox", "--bbox", "1,2,3"), ["--bbox", "four"]),
    "box of words": ((*INPAINT, "--mode", "bbox", "--bbox", "left"), ["--bbox", "left"]),
    "box outside": ((*INPAINT, "--mode", "bbox", "--bbox", "10,10,400,40"), ["--bbox", "96x64"]),
    "box reversed": ((*INPAINT, "--mode", "bbox", "--bbox", "50,10,20,40"), ["--bbox", "50,10,20,40"]),
    "mask of other aspect": (
        (*INPAINT, "--mode", "mask", "--mask", "{media}/tall.png"), ["tall.png", "30x60", "96x64"],
    ),
    "mask of other length": (
        (*INPAINT, "--mode", "mask", "--mask", "{media}/short.mp4"), ["short.mp4", "7", "30"],
    ),
    "direction": (
        ("preprocess", "--task", "outpainting", "--video", "{media}/clip.mp4", "--direction", "north"),
        ["--direction", "north"],
    ),
    "ratio": (
        ("preprocess", "--task", "outpainting", "--video", "{media}/clip.mp4", "--expand_ratio", "1.5"),
        ["--expand_ratio", "1.5", "0 to 1"],
    ),
    "mask growth ratio": (
        (*INPAINT, "--mode", "mask", "--mask", "{media}/mask.png", "--maskaug_mode", "hull", "--maskaug_ratio", "-1"),
        ["--maskaug_ratio", "0 to 1"],
    ),
    "nothing to expand": (
        ("preprocess", "--task", "firstframe", "--image", "{media}/image.png", "--expand_num", "0"), ["--expand_num"],
    ),
    "number in words": (
        ("preprocess", "--task", "firstframe", "--image", "{media}/image.png", "--expand_num", "many"),
        ["--expand_num", "many"],
    ),
    "unknown flag": ((*GRAY, "{media}/clip.mp4", "--colour", "red"), ["--colour"]),
    "unknown command": (("paint",), ["paint"]),
    "nothing to prepare": (("preprocess", "--task", "txt2vid"), ["vace pipeline"]),
    "composition of unknown": (
        ("preprocess", "--task", "composition", "--src_video", "{media}/clip.mp4,{media}/clip2.mp4", "--src_mask",
         "{media}/mask.mp4,{media}/mask.mp4", "--process_type", "frameref,outpaint"), ["--process_type", "outpaint"],
    ),
    "mask without video": ((*WAN, "--src_mask", "{media}/mask.mp4"), ["--src_mask", "--src_video"]),
    "generation mask of other aspect": (
        (*WAN, "--src_video", "{media}/clip.mp4", "--src_mask", "{media}/tall.png"), ["30x60", "96x64"],
    ),
    "generation mask of other length": (
        (*WAN, "--src_video", "{media}/clip.mp4", "--src_mask", "{media}/short.mp4"), ["7", "30"],
    ),
    "no prompt": (("wan", "--ckpt_dir", "tiny"), ["--prompt"]),
    "empty prompt": (("wan", "--ckpt_dir", "tiny", "--prompt", "  "), ["--prompt", "empty"]),
    "frame count": ((*WAN, "--frame_num", "80"), ["--frame_num", "80", "77", "81"]),
    "size": ((*WAN, "--size", "100x64"), ["--size", "100x64", "16"]),
    "size in words": ((*WAN, "--size", "large"), ["--size", "large"]),
    "steps": ((*WAN, "--steps", "0"), ["--steps", "0"]),
    "shift": ((*WAN, "--shift", "0"), ["--shift", "0"]),
    "shift not finite": ((*WAN, "--shift", "inf"), ["--shift", "inf"]),
    "guidance": ((*WAN, "--guidance_scale", "-2"), ["--guidance_scale", "-2"]),
    "guidance not a number": ((*WAN, "--guidance_scale", "nan"), ["--guidance_scale", "nan"]),
    "context scale": ((*WAN, "--context_scale", "-0.5"), ["--context_scale"]),
    "sampler": ((*WAN, "--sampler", "heun"), ["--sampler", "heun", "unipc"]),
    "number of videos": ((*WAN, "--num_videos", "0"), ["--num_videos"]),
    "seed": ((*WAN, "--seed", "-5"), ["--seed", "-5"]),
    "device": ((*WAN, "--device", "cuda:99"), ["--device", "cuda:99"]),
    "device in words": ((*WAN, "--device", "gpu"), ["--device", "gpu"]),
    "checkpoint folder": (("wan", "--ckpt_dir", "no/where/at/all", "--prompt", "x"), ["--ckpt_dir", "no/where/at/all"]),
    "checkpoint of nothing": (("wan", "--ckpt_dir", "{media}", "--prompt", "x"), ["{media}"]),
    "checkpoint not fetched": (
        ("wan", "--model_name", "vace-14B", "--no_download", "--prompt", "x"), ["hf download Wan-AI/Wan2.1-VACE-14B"],
    ),
    "model name": (("wan", "--model_name", "vace-15B", "--prompt", "x"), ["--model_name", "vace-15B"]),
    "several devices": ((*WAN, "--ulysses_size", "8"), ["--ulysses_size"]),
    "base": (("pipeline", "--base", "sora", "--task", "txt2vid", "--prompt", "x"), ["--base", "sora"]),
    "pipeline prompt before work": (
        ("pipeline", "--task", "gray", "--video", "{media}/clip.mp4", "--prompt", ""), ["--prompt"],
    ),
    "not a manifest": (("wan", "--from", "{media}/image.png"), ["--from"]),
    "no manifest": (("wan", "--from", "nowhere.json"), ["--from", "nowhere.json"]),
    "layout length": ((*LAYOUT[:-3], "--frame_num", "10", "--bbox", "1,2,30,40 5,6,34,44"), ["--frame_num", "9", "13"]),
    "preprocessing device": ((*GRAY, "{media}/clip.mp4", "--device", "cuda:99"), ["cuda:99"]),
    "too narrow": (
        ("pipeline", "--task", "gray", "--video", "{media}/narrow.mp4", "--prompt", "x", "--ckpt_dir", "tiny",
         "--size", "96x64"),
        ["narrow.mp4", "32x1024"],
    ),
    "empty checkpoint": (("wan", "--ckpt_dir", "", "--prompt", "x"), ["--ckpt_dir", "empty"]),
    "empty video": (("pipeline", "--task", "gray", "--video", "", "--prompt", "x"), ["--video", "empty"]),
    "empty folder name": ((*WAN, "--save_dir", ""), ["--save_dir", "empty"]),
    "noise device": ((*WAN, "--noise_device", "moon"), ["--noise_device", "moon"]),
    "no run to resume": (("pipeline", "--resume", "nowhere"), ["--resume", "nowhere"]),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def unfitting(media):
    from vace.media.image import write_image
    from vace.media.video import VideoWriter

    with VideoWriter(media / "narrow.mp4", 25, kind="small") as writer:
        writer.write(np.zeros((5, 1024, 32, 3), np.uint8))
    write_image(media / "tall.png", np.full((60, 30), 255, np.uint8))
    with VideoWriter(media / "short.mp4", 25, kind="exact") as writer:
        writer.write(np.zeros((7, 64, 96), np.uint8))


def one_line(outcome) -> str:
    """The error line; everything else on stderr must be log lines."""
    lines = [line for line in outcome.err.strip().splitlines() if not line.startswith("[")]
    assert len(lines) == 1, outcome.err
    return lines[0]


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line(name, vace, media, broken, tmp_path):
    arguments, fragments = CASES[name]
    outcome = vace(*[part.format(media=media, broken=broken) for part in arguments])
    line = one_line(outcome)
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    for fragment in fragments:
        assert fragment.format(media=media).lower() in line.lower(), line
    assert outcome.out == ""
    assert list(tmp_path.iterdir()) == [], "something was left behind"


def test_truncated_file_tells_both_counts(vace, media, tmp_path):
    """A file with its index in front and half its frames missing promises more than it holds."""
    from vace.media.video import VideoWriter

    frames = np.random.default_rng(1).integers(0, 256, (40, 64, 96, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "whole.mp4", 25, kind="result") as writer:
        writer.write(frames)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) * 6 // 10])
    outcome = vace("preprocess", "--task", "gray", "--video", "half.mp4")
    line = one_line(outcome)
    assert outcome.code == 2
    assert "40" in line and "--allow_truncated" in line
    assert not (tmp_path / "processed").exists()
    outcome = vace("preprocess", "--task", "gray", "--video", "half.mp4", "--allow_truncated")
    assert outcome.code == 0, outcome.err


def test_folder_that_cannot_be_written(vace, media, tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    for flag in ("--pre_save_dir",):
        outcome = vace("preprocess", "--task", "gray", "--video", media / "clip.mp4", flag, tmp_path / "file" / "sub")
        assert outcome.code == 2
        assert flag in one_line(outcome)
    outcome = vace("wan", "--ckpt_dir", "tiny", "--prompt", "x", "--save_dir", tmp_path / "file" / "sub")
    assert outcome.code == 2
    assert "--save_dir" in one_line(outcome)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_full_disk_leaves_nothing(vace, media, tmp_path, monkeypatch):
    """The write that fails is the operating system's, when a frame is already encoded."""
    import errno

    from vace.media import writer

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer.os, "replace", full)
    outcome = vace("preprocess", "--task", "gray", "--video", media / "clip.mp4", "--pre_save_dir", tmp_path / "out")
    assert outcome.code == 2
    assert "space" in one_line(outcome)
    assert not (tmp_path / "out").exists()


def test_too_little_space_is_told_before_work(vace, media, tmp_path, monkeypatch):
    import shutil

    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1000))
    outcome = vace("preprocess", "--task", "gray", "--video", media / "clip.mp4")
    assert outcome.code == 2
    assert "free" in one_line(outcome)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a Linux tmpfs mount")
def test_really_full_disk(root, media, tmp_path):
    """A file system of 1 MB: the command runs in a mount namespace of its own."""
    script = f"""
        mkdir -p {tmp_path}/small && mount -t tmpfs -o size=200k tmpfs {tmp_path}/small || exit 77
        cd {tmp_path}
        {root}/.venv/bin/python -c "
import shutil, sys
from vace.cli import main
real = shutil.disk_usage
shutil.disk_usage = lambda path: real('/')  # the estimate passes, the writing fails
sys.exit(main(sys.argv[1:]))" preprocess --task gray --video {root}/assets/videos/test.mp4 --pre_save_dir small/out
        code=$?
        ls -A small > left.txt
        exit $code
    """
    done = subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert done.returncode == 2, done.stderr
    assert "space" in done.stderr.strip().splitlines()[-1]
    assert (tmp_path / "left.txt").read_text() == ""
