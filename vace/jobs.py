"""The jobs of a batch: one JSON object a line, its flags checked as the command line checks them.

A job: {"command": "pipeline", "task": "depth", "video": "clip.mp4", "prompt": "...", "id": "clip-1"}. Paths are taken
from the folder of the file. A line that is no job is one that fails when its turn comes, with the reason.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vace import __version__
from vace.errors import InputError, VaceError, nearest
from vace.flags import flags_for
from vace.layer_syntax import format_layers, parse_layers
from vace.parsing import parse_flags
from vace.runs import FILE_FLAGS, PLACES, input_records, split_list

COMMANDS = ("preprocess", "wan", "ltx", "pipeline")
# A batch says itself where things go, what goes on and how much it tells.
REFUSED = (*PLACES, "from", "resume", "decode", "quiet", "verbose")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
_SEEDS = 2**31  # a drawn seed is below this


@dataclass(frozen=True)
class BatchJob:
    """One line. problem: why it cannot be run, or "". flags: as the verb takes them, paths complete."""

    line: int
    id: str
    command: str
    flags: Mapping[str, object] = field(default_factory=dict)
    problem: str = ""

    @property
    def title(self) -> str:
        """What it does, for people: the task or the command, and the first of its materials."""
        files = [path for _, path in self.files()]
        return " ".join([str(self.flags.get("task") or self.command), *(path.name for path in files[:1])])

    def files(self) -> list[tuple[str, Path]]:
        """(flag, path) of every input."""
        found = [(flag, Path(path)) for flag in FILE_FLAGS for path in split_list(self.flags.get(flag), files=True)]
        return found + [(flag, Path(path)) for flag, path in _layer_files(self.flags.get("task"))]

    def key(self) -> str:
        """What the outcome depends on: command, flags, contents of the inputs, version."""
        settings = {name: value for name, value in self.flags.items() if name not in FILE_FLAGS}
        inputs = [[record["flag"], record["sha256"]] for record in input_records(self.files())]
        content = json.dumps([__version__, self.command, settings, inputs], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def model(self) -> tuple:
        """What must be loaded for it: jobs of one model are run after each other."""
        names = ("ckpt_dir", "model_name", "config", "device", "dtype", "offload_model", "t5_cpu", "backend")
        base = self.flags.get("base", "wan") if self.command == "pipeline" else self.command
        return (base, *(str(self.flags.get(name)) for name in names))


def read_jobs(file: Path) -> list[BatchJob]:
    """The jobs in `file`, in its order; empty lines and lines that begin with # are none.

    Raises InputError for a file that cannot be read or holds no job, and for one id with two jobs.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as text ({error}); give a file of one JSON object a line") from error
    found: dict[str, BatchJob] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        job = _read(number, line, file.resolve().parent)
        first = found.setdefault(job.id, job)
        if (first.command, first.flags, first.problem) != (job.command, job.flags, job.problem):
            raise InputError(f"{file}: lines {first.line} and {number} are two jobs with the id {job.id}; rename one")
    if not found:
        raise InputError(f'{file}: holds no job; give one JSON object a line, with a "command"')
    return list(found.values())


def in_order(jobs: Iterable[BatchJob]) -> list[BatchJob]:
    """Jobs of one model after each other, in the order in which models first appear.

    Jobs whose inputs are not there yet come last and keep their order: earlier ones may be about to make them.
    """
    ready, later = [], []
    for job in jobs:
        (ready if all(path.exists() for _, path in job.files()) else later).append(job)
    models = list(dict.fromkeys(job.model() for job in ready))
    return sorted(ready, key=lambda job: models.index(job.model())) + later


def share(jobs: list[BatchJob], shard: str | None) -> list[BatchJob]:
    """Every Nth of the jobs for --shard I/N; I counts from 0 or from 1, as the scheduler does. Raises InputError."""
    if shard is None:
        return jobs
    match = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
    if not match or int(match[2]) < 1 or int(match[1]) > int(match[2]):
        raise InputError(f"--shard {shard}: give I/N, part I of N, such as 1/4 to 4/4")
    part, parts = int(match[1]), int(match[2])
    return jobs[part % parts :: parts]


def _read(number: int, line: str, folder: Path) -> BatchJob:
    try:
        value = json.loads(line)
    except ValueError as error:
        return _broken(number, line, f"line {number}: not JSON ({error})")
    if not isinstance(value, dict):
        return _broken(number, line, f"line {number}: not a JSON object")
    given = {name: item for name, item in value.items() if item is not None}
    own, command = given.pop("id", None), given.pop("command", None)
    name = str(own) if own is not None else _hashed(command, given)
    if not _NAME.fullmatch(name):  # it becomes a folder's name
        name = f"{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')[:60] or 'job'}-{_hashed(name)}"
    if command not in COMMANDS:
        known = nearest(str(command), COMMANDS)
        return BatchJob(number, name, str(command), given, f'line {number}: "command" {command}: unknown; {known}')
    refused = [flag for flag in given if flag.lstrip("-").replace("-", "_") in REFUSED]
    if refused:
        return BatchJob(number, name, command, given, f"line {number}: {refused[0]}: a batch decides that itself")
    try:
        flags = _complete(parse_flags(command, given), folder)
    except VaceError as error:
        return BatchJob(number, name, command, given, f"line {number}: {error}")
    if flags.get("seed") == -1:  # drawn from the id, so that a batch that goes on does not draw another
        flags["seed"] = int(hashlib.sha256(name.encode()).hexdigest(), 16) % _SEEDS
    return BatchJob(number, name, command, flags)


def _complete(flags: dict, folder: Path) -> dict:
    """Paths from `folder`; a checkpoint or language model only where it is a folder or file there."""
    flags = dict(flags)
    for flag in FILE_FLAGS:
        if flag in flags:
            flags[flag] = [str(folder / path) for path in split_list(flags[flag], files=True)]
            if not any(item.name == flag and item.kind == "list" for item in flags_for("pipeline")):
                flags[flag] = flags[flag][0]
    for flag in ("ckpt_dir", "text_encoder_path", "vae_path", "prompt_model"):
        if flag in flags:
            parts = [str(folder / part) if (folder / part).exists() else part for part in str(flags[flag]).split("+")]
            flags[flag] = "+".join(parts)
    if _layer_files(flags.get("task")):
        layers = parse_layers(str(flags["task"]))
        moved = [_moved(layer, folder) for layer in layers]
        flags["task"] = format_layers(moved)
    return flags


def _moved(layer, folder: Path):
    flags = {
        name: [str(folder / path) for path in split_list(value, files=True)] if name in FILE_FLAGS else value
        for name, value in layer.flags.items()
    }
    return type(layer)(layer.task, flags, layer.outer)


def _layer_files(task: object) -> list[tuple[str, str]]:
    """(flag, path) of the materials within joined tasks, NAME(video=...)+NAME(...)."""
    if not isinstance(task, str) or "(" not in task:
        return []
    try:
        return [(flag, str(path)) for layer in parse_layers(task) for flag, path in layer.files()]
    except VaceError:
        return []  # the verb will say what is wrong


def _broken(number: int, line: str, problem: str) -> BatchJob:
    return BatchJob(number, f"line-{_hashed(line)}", "", {}, problem)


def _hashed(*content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]
