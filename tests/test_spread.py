"""One video over several processes, from the command on: the same frames, one writer, an error that ends them all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media_io import frames_of

from vace.errors import InputError
from vace.spread import check_flags, is_spread, over_processes

ROOT = Path(__file__).resolve().parent.parent
GIVEN = ("--ckpt_dir", "tiny", "--size", "96x64", "--frame_num", "9", "--steps", "2", "--device", "cpu", "--prompt",
         "a large red star moves left over grass")  # fmt: skip


def torchrun(folder: Path, *words: str, processes: int = 2, door: str = "vace_wan_inference.py"):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", "0",
               "--standalone", str(ROOT / "vace" / door), *words]  # fmt: skip
    environ = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)


def test_one_process_is_the_plain_run():
    assert over_processes({"seed": 1, "ring_size": 1, "dit_fsdp": False}, lambda flags, warm: {**flags, "w": warm}) == {
        "seed": 1, "w": None}  # fmt: skip
    assert is_spread({"ulysses_size": 2}) and is_spread({"t5_fsdp": True}) and not is_spread({"ulysses_size": 1})


def test_without_torchrun_the_command_that_starts_it_is_told():
    with pytest.raises(InputError, match=r"--ulysses_size 2 .*torchrun --nproc_per_node 2"):
        over_processes({"ulysses_size": 2}, lambda flags, warm: {})


@pytest.mark.parametrize(
    ("given", "match"),
    [({"base": "ltx"}, "--base ltx"), ({"compile": True}, "--compile"), ({"memory": "evict"}, "--memory"),
     ({"attention": "sdpa"}, "--ring_size"), ({"quantize": "int8"}, "--quantize"), ({"t5_cpu": True}, "--t5_cpu")],
)  # fmt: skip
def test_what_one_process_alone_can_do_is_refused(given, match):
    from vace.speed.parallel_launch import Layout

    with pytest.raises(InputError, match=match):
        check_flags(given, Layout(1, 2, True, True))


@pytest.mark.slow
@pytest.mark.parametrize("spread", [("--ulysses_size", "2"), ("--ring_size", "2", "--dit_fsdp", "--t5_fsdp")])
def test_two_processes_make_the_video_of_one(spread, tmp_path):
    from vace.cli import main

    assert main(["wan", *GIVEN, "--out_format", "exact", "--save_dir", str(tmp_path / "one"), "--quiet"]) == 0
    ran = torchrun(tmp_path, *GIVEN, "--out_format", "exact", "--save_dir", "two", *spread)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.strip().splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["out_video"] == "two/out_video.mp4"
    one, two = (frames_of(tmp_path / name / "out_video.mp4").astype(int) for name in ("one", "two"))
    assert np.abs(one - two).max() <= 1
    assert not [path for path in tmp_path.rglob("*.mp4") if path.parent.name not in ("one", "two")]


@pytest.mark.slow
def test_an_error_of_the_leader_ends_them_all(tmp_path):
    ran = torchrun(tmp_path, *GIVEN, "--ulysses_size", "2", "--src_video", "nowhere.mp4")
    assert ran.returncode != 0 and "nowhere.mp4" in ran.stderr
    assert not list(tmp_path.rglob("*.mp4"))


@pytest.mark.slow
def test_numbers_that_do_not_fit_are_told(tmp_path):
    ran = torchrun(tmp_path, *GIVEN, "--ulysses_size", "4")
    assert ran.returncode != 0 and "makes 4, but torchrun started 2 processes" in ran.stderr
