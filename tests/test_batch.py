"""Verb 4 on the embedded models: jobs of a file, their lines, what is skipped, what fails, what a stop leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from media_io import frames_of

from vace.batch import batch
from vace.errors import InputError
from vace.jobs import in_order, read_jobs, share
from vace.results import Results

WORDS = {"ckpt_dir": "tiny", "size": "64x64", "frame_num": 9, "steps": 2, "device": "cpu"}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path: Path, *jobs) -> Path:
    path.write_text("".join((job if isinstance(job, str) else json.dumps(job)) + "\n" for job in jobs))
    return path


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def a_job(name: str, command: str = "wan", **flags) -> dict:
    return {"command": command, "id": name, "prompt": f"a cat, {name}", **WORDS, **flags}


def run(path: Path, **given) -> dict:
    return batch(path, out=path.parent / "out", progress=False, **given)


class TestJobs:
    def test_flags_are_those_of_the_command_line(self, tmp_path):
        path = write(tmp_path / "jobs.jsonl", "# a note", "", {
            "command": "ltx", "prompt": "a cat", "--num-frames": 9, "steps": "2", "stg_skip_layers": [1, 2],
            "offload_to_cpu": True, "negative_prompt": None,
        })  # fmt: skip
        (job,) = read_jobs(path)
        assert job.problem == "" and job.line == 3
        assert job.flags == {
            "prompt": "a cat", "frame_num": 9, "steps": 2, "stg_skip_layers": ["1", "2"], "offload_model": True,
        }  # fmt: skip

    def test_paths_are_from_the_folder_of_the_file(self, tmp_path):
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "model").mkdir()
        path = write(
            tmp_path / "deep" / "jobs.jsonl",
            {"command": "pipeline", "task": "gray", "video": "clip.mp4", "ckpt_dir": "model", "prompt": "a"},
            {"command": "preprocess", "task": "firstframe(image=a.png)+gray(video=/b.mp4)"},
        )
        first, second = read_jobs(path)
        assert first.flags["video"] == [str(tmp_path / "deep" / "clip.mp4")]
        assert first.flags["ckpt_dir"] == str(tmp_path / "deep" / "model")
        assert [str(file) for _, file in second.files()] == [str(tmp_path / "deep" / "a.png"), "/b.mp4"]

    @pytest.mark.parametrize(("line", "said"), [
        ("no json", "not JSON"), ("[1]", "not a JSON object"), ({"prompt": "a"}, '"command" None: unknown'),
        ({"command": "wna"}, "did you mean 'wan'"), ({"command": "wan", "stpes": 1}, "'stpes' is no flag of wan"),
        ({"command": "wan", "steps": "many"}, "--steps"), ({"command": "wan", "steps": {"a": 1}}, "no value"),
        ({"command": "wan", "save_dir": "x"}, "save_dir: a batch decides that itself"),
    ])  # fmt: skip
    def test_lines_that_are_no_jobs_say_why(self, tmp_path, line, said):
        (job,) = read_jobs(write(tmp_path / "jobs.jsonl", line))
        assert said in job.problem and job.problem.startswith("line 1: ")

    def test_ids(self, tmp_path):
        path = write(
            tmp_path / "j", a_job("one"), {"command": "wan", "prompt": "a"}, a_job("my clip/../1"), a_job("one")
        )
        one, hashed, odd = read_jobs(path)
        assert one.id == "one" and len(hashed.id) == 12 and "/" not in odd.id and " " not in odd.id
        assert read_jobs(path)[1].id == hashed.id
        with pytest.raises(InputError, match="lines 1 and 2 are two jobs with the id one"):
            read_jobs(write(tmp_path / "k", a_job("one"), a_job("one", steps=9)))

    def test_a_seed_that_is_drawn_is_drawn_once(self, tmp_path):
        path = write(tmp_path / "j", a_job("one", seed=-1), a_job("two", seed=-1))
        seeds = [job.flags["seed"] for job in read_jobs(path)]
        assert len(set(seeds)) == 2 and min(seeds) >= 0
        assert seeds == [job.flags["seed"] for job in read_jobs(path)]

    def test_jobs_of_one_model_follow_each_other(self, tmp_path):
        jobs = [a_job("a"), a_job("b", "ltx"), a_job("c"), a_job("d", src_video="late.mp4"), a_job("e", "ltx")]
        assert [job.id for job in in_order(read_jobs(write(tmp_path / "j", *jobs)))] == ["a", "c", "b", "e", "d"]

    @pytest.mark.parametrize("parts", [("0/3", "1/3", "2/3"), ("1/3", "2/3", "3/3")])
    def test_shards_are_all_the_jobs_once(self, tmp_path, parts):
        jobs = read_jobs(write(tmp_path / "j", *[a_job(str(number)) for number in range(7)]))
        found = [job.id for part in parts for job in share(jobs, part)]
        assert sorted(found) == [str(number) for number in range(7)]
        for wrong in ("4/3", "x", "1/0"):
            with pytest.raises(InputError, match=f"--shard {wrong}"):
                share(jobs, wrong)

    def test_files_that_cannot_be_used(self, tmp_path):
        with pytest.raises(InputError, match="cannot be read as text"):
            read_jobs(tmp_path / "none.jsonl")
        with pytest.raises(InputError, match="holds no job"):
            read_jobs(write(tmp_path / "empty", "# nothing"))


class TestResults:
    def test_a_line_that_was_cut_off_is_none_and_harms_none(self, tmp_path):
        results = Results(tmp_path)
        results.append({"id": "a", "status": "done"})
        with results.path.open("a") as file:
            file.write('{"id": "b", "sta')
        assert set(results.read()) == {"a"}
        results.append({"id": "c", "status": "failed"})
        assert {name: record["status"] for name, record in results.read().items()} == {"a": "done", "c": "failed"}

    def test_the_last_line_of_an_id_counts(self, tmp_path):
        results = Results(tmp_path)
        for status in ("failed", "done"):
            results.append({"id": "ä", "status": status})
        assert results.read()["ä"]["status"] == "done"


def test_jobs_of_every_verb_and_a_second_time_none(media, tmp_path, monkeypatch):
    path = write(
        tmp_path / "jobs.jsonl",
        {"command": "preprocess", "id": "gray", "task": "gray", "video": f"{media}/clip.mp4"},
        a_job("wan"),
        a_job("ltx", "ltx"),
        a_job("pipe", "pipeline", base="ltx", task="gray", video=f"{media}/clip.mp4"),
    )
    assert run(path) == {
        "jobs": 4, "done": 4, "failed": 0, "skipped": 0, "results": str(tmp_path / "out" / "results.jsonl"),
    }  # fmt: skip
    lines = lines_of(tmp_path / "out")
    assert {line["id"] for line in lines} == {"gray", "wan", "ltx", "pipe"}
    for line in lines:
        assert line["status"] == "done" and line["message"] == "" and line["seconds"] >= 0
        assert line["outputs"] and all(Path(file).stat().st_size for file in line["outputs"])
        assert all(Path(file).is_relative_to(tmp_path / "out" / line["id"]) for file in line["outputs"])
    monkeypatch.setattr("vace.models.engine.build", None)  # nothing may be loaded again
    assert run(path)["skipped"] == 4
    assert lines_of(tmp_path / "out") == lines


def test_what_changed_or_was_lost_is_made_again(media, tmp_path):
    path = write(tmp_path / "jobs.jsonl", a_job("one"), a_job("two"), a_job("three"))
    run(path)
    (tmp_path / "out" / "two" / "out_video.mp4").unlink()
    write(path, a_job("one"), a_job("two"), a_job("three", steps=3))
    again = run(path)
    assert (again["done"], again["skipped"]) == (2, 1)
    assert [line["id"] for line in lines_of(tmp_path / "out")][3:] == ["two", "three"]


def test_what_a_killed_run_left_half_written_goes(tmp_path):
    from vace.media.files import reserve

    left = reserve(tmp_path / "out" / "one" / "out_video.mp4")
    (tmp_path / "out" / "one" / ".layers-x").mkdir()
    assert run(write(tmp_path / "j", a_job("one")))["done"] == 1
    assert not left.exists()
    assert sorted(path.name for path in (tmp_path / "out" / "one").iterdir()) == ["manifest.json", "out_video.mp4"]


def test_a_failing_job_is_told_and_the_rest_go_on(tmp_path, vace):
    jobs = [a_job("good"), a_job("lost", src_video="nope.mp4"), "{", a_job("also", "ltx")]
    path = write(tmp_path / "jobs.jsonl", *jobs)
    outcome = vace("batch", path, "--out", tmp_path / "out", "--quiet")
    assert outcome.code == 2 and outcome.json["done"] == 2 and outcome.json["failed"] == 2
    found = {line["id"]: line for line in lines_of(tmp_path / "out")}
    assert found["lost"]["status"] == "failed" and "nope.mp4: no such file" in found["lost"]["message"]
    assert found["good"]["status"] == found["also"]["status"] == "done" and len(found) == 4


def test_a_model_stays_loaded_for_the_jobs_that_share_it(tmp_path, monkeypatch):
    from vace.models import engine

    built, real = [], engine.build
    monkeypatch.setattr(
        engine, "build", lambda part, *rest: (built.append((part.base, part.component)), real(part, *rest))[1]
    )
    run(write(tmp_path / "j", a_job("a"), a_job("b", "ltx"), a_job("c"), a_job("d", "ltx"), a_job("e")))
    assert sorted(built) == sorted(
        (base, part) for base in ("wan", "ltx") for part in ("transformer", "text_encoder", "vae")
    )


def test_what_a_warm_model_makes_is_what_a_cold_one_makes(tmp_path):
    from vace.generate import generate

    jobs = [a_job("a", seed=3), a_job("b", seed=4), a_job("c", "ltx", seed=3)]
    run(write(tmp_path / "j", *[job | {"out_format": "exact"} for job in jobs]))
    for job in jobs:
        alone = generate(
            job["prompt"], base=job["command"], seed=job["seed"], out_format="exact", progress=False, **WORDS
        )
        made = frames_of(tmp_path / "out" / job["id"] / "out_video.mp4")
        assert (made == frames_of(alone.out_videos[0])).all()


def test_a_fault_of_ours_is_tried_again(tmp_path, monkeypatch):
    from vace.models.wan.engine import WanEngine

    real, calls = WanEngine.denoise, []

    def flaky(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("the card fell off the bus")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(WanEngine, "denoise", flaky)
    path = write(tmp_path / "j", a_job("a"))
    assert run(path)["failed"] == 1
    assert "a fault of ours" in lines_of(tmp_path / "out")[0]["message"]
    calls.clear()
    assert run(path, retry=2)["done"] == 1 and len(calls) == 2


@pytest.mark.parametrize("flag", ["--dry-run", "--dry_run"])
def test_dry_run_tells_and_makes_nothing(tmp_path, vace, flag):
    path = write(tmp_path / "jobs.jsonl", a_job("good"), a_job("bad", stpes=2))
    outcome = vace("batch", path, flag)
    assert outcome.code == 2 and "good  wan  to do" in outcome.err and "'stpes' is no flag" in outcome.err
    assert not (tmp_path / "results").exists()


def test_by_default_beside_the_other_results(tmp_path):
    batch(write(tmp_path / "night.jsonl", a_job("a")), progress=False)
    assert (tmp_path / "results" / "night" / "results.jsonl").is_file()


def test_wrong_devices(tmp_path):
    path = write(tmp_path / "j", a_job("a"))
    for wrong in ("x", "0,0"):
        with pytest.raises(InputError, match="--gpus"):
            batch(path, gpus=wrong)
    with pytest.raises(InputError, match="leave --shard out"):
        batch(path, gpus="0,1", shard="1/2")
    with pytest.raises(InputError, match="leave --gpus or --ray out"):
        batch(path, gpus="0,1", ray="local")


def test_stopping_lets_the_step_end_and_nothing_half_made_stays(tmp_path, monkeypatch):
    from vace.batch import _Batch

    stopped = []

    def after(self, i, *_):
        stopped.append(i)
        os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C
        time.sleep(0.05)
        assert self.stop.is_set()
        return original(self, i, *_)

    original = _Batch._after_step
    monkeypatch.setattr(_Batch, "_after_step", after)
    path = write(tmp_path / "j", a_job("a", steps=5), a_job("b"))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(path)
    assert stopped == [0]
    assert not list((tmp_path / "out").rglob("out_video*")) and not (tmp_path / "out" / "results.jsonl").exists()
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setattr(_Batch, "_after_step", original)
    assert run(path)["done"] == 2


def start(path: Path, *more) -> subprocess.Popen:
    command = [sys.executable, "-m", "vace", "batch", str(path), "--out", str(path.parent / "out"), "--quiet", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


@pytest.mark.slow
def test_killed_at_any_moment_it_loses_none_and_repeats_none(tmp_path):
    names = [f"job-{number}" for number in range(6)]
    path = write(tmp_path / "j", *[a_job(name, "ltx" if number % 2 else "wan") for number, name in enumerate(names)])
    kills, seen = 0, []
    for seconds in (6, 8, 9, 10, 11, 12, 60, 60):
        worker = start(path)
        try:
            worker.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            kills += 1
        results = tmp_path / "out" / "results.jsonl"
        lines = lines_of(tmp_path / "out") if results.exists() else []
        assert [line["id"] for line in lines[: len(seen)]] == seen  # nothing that was told is lost
        seen = [line["id"] for line in lines]
        if len(seen) == len(names) and worker.returncode == 0:
            break
    assert kills >= 1
    assert sorted(seen) == names  # each once
    for name in names:
        assert len(frames_of(tmp_path / "out" / name / "out_video.mp4")) == 9


@pytest.mark.slow
def test_two_shards_at_once_write_one_file(tmp_path):
    names = [f"job-{number}" for number in range(6)]
    path = write(tmp_path / "j", *map(a_job, names))
    workers = [start(path, "--shard", f"{part}/2") for part in (1, 2)]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    assert sorted(line["id"] for line in lines_of(tmp_path / "out")) == names


@pytest.mark.slow
def test_a_process_for_each_device(tmp_path, monkeypatch):
    """Without CUDA the processes run on the CPU: what is shown is that the jobs are shared out and counted."""
    path = write(tmp_path / "j", a_job("a"), a_job("b"), a_job("c", src_video="nope.mp4"))
    found = batch(path, out=tmp_path / "out", gpus="0,1", progress=False)
    assert (found["jobs"], found["done"], found["failed"]) == (3, 2, 1)


def ray_workers() -> list:
    """The processes of Ray's actors."""
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any("ray::Worker" in part for part in process.info["cmdline"] or []):
            found.append(process)
    return found


@pytest.mark.slow
def test_the_example_script_and_again(root, tmp_path):
    """From a copy of the clone, so that what it writes stays out of the real one."""
    for item in ("assets", "scripts", "vace", ".venv", "pyproject.toml", "constraints.txt"):
        (tmp_path / item).symlink_to(root / item)
    for count in ("done", "skipped"):
        done = subprocess.run(
            ["bash", "-c", f"cd {tmp_path} && exec bash scripts/batch_example.sh"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.strip().splitlines()[-1])[count] == 6
    assert "[6/6] image_salient test.jpg: done already" in done.stderr


@pytest.mark.slow
def test_two_workers_of_ray_and_one_of_them_killed(tmp_path):
    """Nothing is lost, nothing is made twice."""
    pytest.importorskip("ray", reason="the extra batch is not installed")
    names = [f"job-{number}" for number in range(6)]
    path = write(tmp_path / "j", *[a_job(name, steps=40) for name in names])
    worker = start(path, "--ray")
    results, killed = tmp_path / "out" / "results.jsonl", False
    for _ in range(1200):
        if worker.poll() is not None:
            break
        if not killed and results.exists() and len(lines_of(tmp_path / "out")) >= 1:
            busy = ray_workers()
            if busy:
                busy[0].kill()
                killed = True
        time.sleep(0.1)
    assert worker.wait(10) == 0 and killed
    lines = lines_of(tmp_path / "out")
    assert sorted(line["id"] for line in lines) == names and {line["status"] for line in lines} == {"done"}
    for name in names:
        assert len(frames_of(tmp_path / "out" / name / "out_video.mp4")) == 9


def test_ray_that_is_not_installed(tmp_path, monkeypatch):
    from vace.errors import MissingDependency

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match="scripts/setup.sh batch"):
        run(write(tmp_path / "j", a_job("a")), ray="local")
