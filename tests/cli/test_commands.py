"""The command line: streams, exit statuses, spellings, listings, and what it does not import."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from vace.tasks import LAYERED, TASKS

HEAVY = ("torch", "diffusers", "transformers", "gradio", "ray", "cv2", "av", "decord")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["tasks"], ["tasks", "--json"], ["pipeline", "--help"]]
)
def test_quick_answers_import_nothing_heavy(root, arguments):
    code = f"""
import sys
from vace.cli import main
code = main({arguments!r})
print([name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[] 0"
    assert done.stdout


def test_tasks_json(vace):
    rows = vace("tasks", "--json").json
    assert [row["name"] for row in rows] == list(TASKS)
    for row in rows:
        assert {"name", "group", "inputs", "modes", "params", "outputs"} <= set(row)


@pytest.mark.parametrize("name", TASKS)
def test_tasks_explains_one_with_commands(vace, name):
    outcome = vace("tasks", name)
    assert outcome.code == 0
    assert (f"--task {name}" in outcome.out or name == LAYERED) and "vace pipeline" in outcome.out
    for mode in TASKS[name].modes:
        assert mode in outcome.out


def test_models_and_doctor(vace):
    rows = vace("models", "--json").json
    assert {"vace-1.3B", "vace-14B", "tiny", "depth", "segment"} <= {row["name"] for row in rows}
    assert "Wan-AI/Wan2.1-VACE-14B" in vace("models").out
    findings = vace("doctor", "--json").json
    subjects = {finding["what"] for finding in findings}
    assert {"Python", "torch", "video codecs", "decord", "attention", "hub", "disk", "extra demo"} <= subjects
    for finding in findings:
        if finding["state"] == "missing":
            assert finding["cost"] and finding["remedy"], finding
    text = vace("doctor").out.strip().splitlines()
    assert len(text) == len(findings)


def test_missing_extra_is_told_with_its_command(vace, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "decord" else real(name, *rest)
    )
    line = next(line for line in vace("doctor").out.splitlines() if "decord" in line)
    assert line.startswith("missing") and "pip install decord" in line


def test_dashes_and_repeats_are_taken(vace, media):
    outcome = vace(
        "preprocess", "--task", "image-plain".replace("-", "_"), "--image", media / "image.png", "--image",
        media / "image2.png", "--pre-save-dir", "here", "--quiet",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.json["src_ref_images"] == [f"here/src_ref_image_{i}-image_plain.png" for i in (0, 1)]
    assert outcome.err == ""


def test_last_line_of_stdout_is_the_json(vace, media):
    outcome = vace("preprocess", "--task", "inpainting_bbox", "--video", media / "clip.mp4", "--bbox", "8, 8, 40, 40")
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.strip().splitlines()) == 1
    assert set(outcome.json) >= {"out_video", "src_video", "src_mask", "src_ref_images", "seed", "manifest", "toy"}
    assert json.load(open(outcome.json["manifest"]))["outputs"]


def test_values_that_look_like_flags_stay_as_they_are(vace):
    outcome = vace("wan", "--ckpt-dir", "tiny", "--prompt", "--dashes-in a-prompt", "--negative-prompt", "-x", "--size",
                   "96x64", "--steps", 1, "--frame-num", 1)  # fmt: skip
    assert outcome.code == 0, outcome.err
    parameters = json.load(open(outcome.json["manifest"]))["parameters"]
    assert parameters["prompt"] == "--dashes-in a-prompt" and parameters["negative_prompt"] == "-x"
    assert vace("preprocess", "--quiet", "-h").code == 0
    assert vace("tasks", "--json", "-h").code == 0


def test_a_python_without_the_packages_is_told_what_to_do(root, tmp_path):
    done = subprocess.run(
        [sys.executable, "-S", "-E", "vace/vace_pipeline.py", "--task", "gray", "--video", "x", "--prompt", "y"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "scripts/setup.sh" in done.stderr and "Traceback" not in done.stderr


def test_our_faults_are_status_1(vace, media, monkeypatch):
    def fall(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("vace.preprocess.write_prepared", fall)
    outcome = vace("preprocess", "--task", "gray", "--video", media / "clip.mp4")
    assert outcome.code == 1
    assert "a fault of ours" in outcome.err and "--verbose" in outcome.err and "Traceback" not in outcome.err
    outcome = vace("preprocess", "--task", "gray", "--video", media / "clip.mp4", "--verbose")
    assert outcome.code == 1 and "Traceback" in outcome.err


@pytest.mark.parametrize(
    "door", ["vace_preprocess.py", "vace_preproccess.py", "vace_wan_inference.py", "vace_pipeline.py"]
)
def test_script_doors_take_the_same_flags(root, door):
    done = subprocess.run(
        [sys.executable, f"vace/{door}", "--help"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "--seed" in done.stdout
    done = subprocess.run([sys.executable, f"vace/{door}", "--nonsense"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_half_written(root, tmp_path):
    """A generation stopped in the middle of its steps: status 130, one line, no folder."""
    command = [sys.executable, "-m", "vace", "wan", "--ckpt_dir", "tiny", "--prompt", "x", "--steps", "2000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)},
        # a test run started in the background has SIGINT ignored, which a child would inherit
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    seen = ""
    while "denoise" not in seen:
        seen += process.stderr.read(1)
        assert process.poll() is None, seen
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "interrupted" in rest.strip().splitlines()[-1] and "Traceback" not in rest
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not (tmp_path / "results" / "vace-tiny").exists()


def test_a_preset_is_told_and_its_values_are_what_repeats_the_run(vace):
    """Of the flags given with it the user's win; --from gives the values, and another preset takes their place."""
    small = ("--ckpt_dir", "tiny", "--size", "64x64", "--frame_num", "5")
    first = vace("wan", "--prompt", "a cat", *small, "--preset", "balanced", "--steps", "1", "--shift", "9")
    assert first.code == 0, first.err
    assert "preset balanced: steps 1 (given), shift 9 (given), guidance_scale 5, sampler unipc" in first.err
    assert first.err.count("preset balanced") == 1
    told = json.load(open(first.json["manifest"]))["parameters"]
    assert (told["steps"], told["shift"], told["guidance_scale"]) == (1, 9, 5) and "preset" not in told
    again = vace("wan", "--from", first.json["manifest"], "--preset", "quality", "--steps", "2")
    told = json.load(open(again.json["manifest"]))["parameters"]
    assert (told["steps"], told["shift"]) == (2, 16)
    both = vace("pipeline", "--task", "txt2vid", "--prompt", "a cat", *small, "--preset", "balanced", "--steps", "1")
    told = json.load(open(both.json["manifest"]))["parameters"]
    assert told["steps"] == 1 and told["shift"] == 16 and "preset" not in told
    unknown = vace("wan", "--prompt", "a cat", "--preset", "balance")
    assert unknown.code == 2 and "did you mean 'balanced'?" in unknown.err
    assert vace("wan", "--prompt", "a cat", "--preset", "").code == 2
