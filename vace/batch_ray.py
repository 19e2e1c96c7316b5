"""A batch on Ray: a worker with a warm model for each GPU of the cluster; Ray starts again what dies.

Workers write the results themselves, so OUT must be a folder that all machines share. A worker that dies leaves what it
finished; its job is given to the next one, which takes up what is there.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from vace.errors import InputError, MissingDependency
from vace.jobs import BatchJob
from vace.results import Results

log = logging.getLogger("vace")

LOCAL = "local"
QUIET = {"RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def run_on_ray(jobs: list[BatchJob], folder: Path, address: str, retry: int) -> list[str]:
    """Run the jobs on the cluster at `address` ('local': one of this machine's own); the status of each.

    retry: tries more, also for a job whose worker died (one more at least). Raises MissingDependency without Ray,
    InputError for a cluster that cannot be reached; KeyboardInterrupt when the steps at work are done.
    """
    ray = _started(address)
    try:
        workers = _workers(ray, len(jobs), folder.resolve(), retry)
        return _shared_out(ray, workers, jobs, folder)
    finally:
        ray.shutdown()


class Worker:
    """What an actor of the cluster does."""

    def __init__(self, folder: str, retry: int) -> None:
        from vace.batch import _Batch

        logging.getLogger("vace").setLevel(logging.INFO)
        self.batch = _Batch([], Path(folder), retry, progress=False)

    def run(self, job: BatchJob, label: str) -> str:
        """The status of a job, run unless its line is there: from this worker, before it died and was started again."""
        from vace.batch import DONE, is_finished

        record = self.batch.results.read().get(job.id)
        if is_finished(job, self.batch.folder, record):
            return DONE
        return self.batch.one(job, label)

    def stop(self) -> None:
        """Let the step at work end, and no further one begin."""
        self.batch.stop.set()


def _started(address: str) -> Any:
    try:
        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
        import ray
    except ImportError as error:
        raise MissingDependency("--ray: Ray is not installed; run `bash scripts/setup.sh batch`") from error
    here = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address == LOCAL else {"address": address}
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **here)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"--ray {address}: no cluster there ({reason}); give its address, or --ray alone") from error
    return ray


def _workers(ray: Any, jobs: int, folder: Path, retry: int) -> list:
    """One actor for each GPU of the cluster, or for each processor where it has none; no more than there are jobs."""
    resources = ray.cluster_resources()
    kind = "GPU" if resources.get("GPU") else "CPU"
    count = max(1, min(jobs, int(resources.get(kind, 1))))
    log.info("ray: %d workers, one for each %s", count, kind)
    needs = {"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
    # Two threads: one works, the other hears of a stop.
    actor = ray.remote(Worker).options(
        max_restarts=-1, max_task_retries=max(1, retry), max_concurrency=2, **needs
    )  # fmt: skip
    return [actor.remote(str(folder), retry) for _ in range(count)]


def _shared_out(ray: Any, workers: list, jobs: list[BatchJob], folder: Path) -> list[str]:
    """Each worker gets a job, and the next one when it is done."""
    waiting = [(job, f"[{number}/{len(jobs)}] {job.title}") for number, job in enumerate(jobs, 1)][::-1]
    running: dict[Any, tuple] = {}
    statuses = []

    def give(worker: Any) -> None:
        if waiting:
            job, label = waiting.pop()
            running[worker.run.remote(job, label)] = (worker, job, label)

    for worker in workers:
        give(worker)
    try:
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            worker, job, label = running.pop(done)
            statuses.append(_status(ray, done, job, label, folder))
            give(worker)
    except KeyboardInterrupt:
        log.warning("stopping after the steps at work")
        for worker in workers:
            worker.stop.remote()
        ray.wait(list(running), num_returns=len(running), timeout=600)
        raise
    return statuses


def _status(ray: Any, reference: Any, job: BatchJob, label: str, folder: Path) -> str:
    """What came of a job; where its worker died once too often, a line that says so."""
    from vace.batch import FAILED

    try:
        status = ray.get(reference)
    except ray.exceptions.RayError as error:
        message = f"the worker died: {str(error).strip().splitlines()[0]}"
        Results(folder).append({"id": job.id, "status": FAILED, "outputs": [], "message": message, "seconds": None,
                                "key": None})  # fmt: skip
        status = FAILED
    log.info("%s: %s", label, status)
    return status
