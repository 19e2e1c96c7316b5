"""Verb 4: many jobs from a file, one after the other, models kept loaded; what is finished is never made twice."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vace.errors import CheckpointError, InputError, OutputError, explained
from vace.jobs import BatchJob, in_order, read_jobs, share
from vace.media.manifest import read_json
from vace.results import Results
from vace.runs import is_intact
from vace.verbs import call, clear_leftovers
from vace.warm import Warm
from vace.watching import Watch

log = logging.getLogger("vace")

DONE, FAILED = "done", "failed"
OWN_FAULT = (InputError, CheckpointError)  # trying again would not help


def batch(
    file: str | Path,
    *,
    out: str | Path | None = None,
    shard: str | None = None,
    gpus: str | None = None,
    ray: str | None = None,
    retry: int = 0,
    dry_run: bool = False,
    progress: bool = True,
) -> dict:
    """Run the jobs in `file` (see vace.jobs); each gets the folder OUT/ID, and at its end a line in OUT/results.jsonl.

    out: by default results/NAME OF THE FILE. shard: 'I/N', only every Nth job. gpus: CUDA devices by number, a process
    for each. ray: the address of a Ray cluster, 'local' for one of this machine. retry: tries more for a job that fails
    by no fault of its own. dry_run: nothing is run. A job whose line says done, with the same inputs and flags and its
    outputs intact, is not run again and gets no second line. Returns jobs, done, failed, skipped and the path of
    results. Raises InputError for a file that cannot be used; KeyboardInterrupt after Ctrl-C, when the step at work is
    done.
    """
    file = Path(file)
    jobs = share(read_jobs(file), shard)
    folder = Path(out) if out else Path("results") / file.stem
    if dry_run:
        return _listed(jobs, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--out {folder}: cannot be made ({error.strerror}); choose another") from error
    if ray and gpus:
        raise InputError("--gpus: Ray shares the devices out itself; leave --gpus or --ray out")
    if ray:
        return _on_ray(in_order(jobs), folder, ray, retry)
    if gpus:
        return _on_devices(gpus, file, folder, shard, retry, progress)
    return _Batch(in_order(jobs), folder, retry, progress).run()


def _listed(jobs: list[BatchJob], folder: Path) -> dict:
    """What would be done, told and returned."""
    known = Results(folder).read()
    for job in in_order(jobs):
        state = job.problem or ("done already" if is_finished(job, folder, known.get(job.id)) else "to do")
        log.info("%s  %s  %s", job.id, job.title, state)
    problems = [job for job in jobs if job.problem]
    return {"jobs": len(jobs), DONE: 0, FAILED: len(problems), "skipped": 0, "results": None}


def is_finished(job: BatchJob, folder: Path, record: dict | None) -> bool:
    """Whether a job's line says done for this very job, and its outputs are still what they were."""
    if job.problem or record is None or record.get("status") != DONE:
        return False
    path = folder / job.id / "manifest.json"
    if not path.is_file() or not all(path.exists() for _, path in job.files()) or record.get("key") != job.key():
        return False
    manifest = read_json(path)
    return all(is_intact(path.parent, output) for output in manifest["outputs"])


class _Batch:
    """The jobs of one process at work."""

    def __init__(self, jobs: list[BatchJob], folder: Path, retry: int, progress: bool) -> None:
        self.jobs, self.folder, self.retry, self.progress = jobs, folder, retry, progress
        self.results, self.warm = Results(folder), Warm()
        self.stop = threading.Event()

    def run(self) -> dict:
        known = self.results.read()
        count = {DONE: 0, FAILED: 0, "skipped": 0}
        with _stopping(self.stop):
            for number, job in enumerate(self.jobs, 1):
                if self.stop.is_set():
                    raise KeyboardInterrupt
                if is_finished(job, self.folder, known.get(job.id)):
                    log.info("[%d/%d] %s: done already", number, len(self.jobs), job.title)
                    count["skipped"] += 1
                    continue
                count[self.one(job, f"[{number}/{len(self.jobs)}] {job.title}")] += 1
        self.warm.release()
        return {"jobs": len(self.jobs), **count, "results": str(self.results.path)}

    def one(self, job: BatchJob, label: str) -> str:
        """Run a job, write its line, and give its status."""
        started = time.monotonic()
        status, outputs, message, key = FAILED, [], job.problem, None
        for attempt in range(self.retry + 1):
            if job.problem:
                break
            try:
                outcome = self._made(job, label)
                status, message = DONE, ""
                outputs = [str(path) for path in _paths(outcome)]
                key = job.key()
                break
            except KeyboardInterrupt:
                raise
            except Exception as error:
                line, is_ours = explained("job", error)
                message = line.removeprefix("job: ")
                if is_ours:
                    log.debug("%s", label, exc_info=error)
                if isinstance(error, OWN_FAULT) or attempt == self.retry:
                    break
                log.warning("%s: %s; trying again", label, message)
                self.warm.release()
        if status == FAILED:
            log.error("%s: %s", label, message)
        seconds = round(time.monotonic() - started, 1)
        self.results.append({"id": job.id, "status": status, "outputs": outputs, "message": message,
                             "seconds": seconds, "key": key})  # fmt: skip
        return status

    def _made(self, job: BatchJob, label: str) -> dict:
        """The verb's answer. What an earlier, killed run has finished of this job is taken as it is."""
        folder = self.folder / job.id
        clear_leftovers(folder)
        if job.command == "preprocess":
            log.info("%s", label)
            more = {"pre_save_dir": folder, "progress": self.progress}
            return call(job.command, job.flags, self.warm, resume=True, **more)
        more = {"save_dir": folder, "progress": label if self.progress else False}
        if job.command == "pipeline":
            more["pre_save_dir"] = folder / "prepared"
        watch = Watch(on_step=self._after_step)
        return call(job.command, job.flags, self.warm, resume=True, watch=watch, **more)

    def _after_step(self, *_) -> None:
        if self.stop.is_set():
            raise KeyboardInterrupt


def _paths(answer: dict) -> Iterator[str]:
    """Every file of a verb's answer, results first."""
    for name in ("out_videos", "out_video", "src_video", "src_mask", "src_ref_images", "manifest"):
        value = answer.get(name)
        for path in value if isinstance(value, list) else [value]:
            if path and not (name == "out_video" and answer.get("out_videos")):
                yield path


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C lets the step at work end; a second one does not wait."""

    def asked(signum, frame):
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        log.warning("stopping after this step; again to stop at once")

    try:
        before = [(number, signal.signal(number, asked)) for number in (signal.SIGINT, signal.SIGTERM)]
    except ValueError:  # not in the main thread: whoever runs us there handles its own signals
        before = []
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _on_ray(jobs: list[BatchJob], folder: Path, address: str, retry: int) -> dict:
    from vace.batch_ray import run_on_ray

    known = Results(folder).read()
    left = [job for job in jobs if not is_finished(job, folder, known.get(job.id))]
    statuses = run_on_ray(left, folder, address, retry) if left else []
    counts = {DONE: statuses.count(DONE), FAILED: statuses.count(FAILED), "skipped": len(jobs) - len(left)}
    return {"jobs": len(jobs), **counts, "results": str(Results(folder).path)}


def _on_devices(gpus: str, file: Path, folder: Path, shard: str | None, retry: int, progress: bool) -> dict:
    """One process for each device, each with its share of the jobs; the first failure to start ends all."""
    from vace.runs import split_list

    devices = split_list(gpus)
    if not all(device.isdecimal() for device in devices) or len(set(devices)) != len(devices):
        raise InputError(f"--gpus {gpus}: give the numbers of CUDA devices, such as 0,1")
    if shard is not None:
        raise InputError("--gpus shares the jobs out itself; leave --shard out")
    command = [sys.executable, "-m", "vace", "batch", str(file), "--out", str(folder), "--retry", str(retry)]
    command += [] if progress else ["--quiet"]
    before = Results(folder).read()
    workers = [
        subprocess.Popen(
            [*command, "--shard", f"{number}/{len(devices)}"], stdout=subprocess.DEVNULL,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": device},
        )
        for number, device in enumerate(devices)
    ]  # fmt: skip
    _wait_for(workers)
    jobs = read_jobs(file)
    after = Results(folder).read()
    done = [job for job in jobs if is_finished(job, folder, after.get(job.id))]
    skipped = [job for job in done if before.get(job.id) == after.get(job.id)]
    counts = {DONE: len(done) - len(skipped), FAILED: len(jobs) - len(done), "skipped": len(skipped)}
    return {"jobs": len(jobs), **counts, "results": str(Results(folder).path)}


def _wait_for(workers: list[subprocess.Popen]) -> None:
    """Until all have ended; an interrupt goes to all of them, and they end their steps."""
    try:
        for worker in workers:
            worker.wait()
    except KeyboardInterrupt:
        for worker in workers:
            worker.send_signal(signal.SIGINT)
        for worker in workers:
            worker.wait()
        raise
