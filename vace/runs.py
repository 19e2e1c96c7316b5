"""What every verb needs around its work.

An output folder that leaves nothing behind when it fails, stages with time and peak memory, the manifest, and the key
by which a finished stage is recognised.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import platform
import random
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from vace import __version__
from vace.errors import InputError, OutputError
from vace.media.manifest import file_record, read_json, sha256_file, write_json

SCHEMA = "vace-manifest/1"
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "opencv-python-headless", "av", "decord")
PLACES = ("save_dir", "pre_save_dir", "save_file")  # where outputs go: no part of what they are
KEPT = ("save_latents",)  # what stays beside the outputs: likewise
FILE_FLAGS = ("video", "image", "mask", "ref_mask", "src_video", "src_mask", "src_ref_images", "config")


def time_stamp() -> str:
    return time.strftime("%Y-%m-%d-%H-%M-%S")


class OutputFolder:
    """A folder for outputs. When the block fails, files announced with `file` and folders made here are removed again.

    path: the folder, or None for a new one, parent/TIME, that no other run gets. flag: names it in errors. `keep` turns
    the removal off, for runs that hold something worth keeping. Raises OutputError when it cannot be made or written.
    """

    def __init__(self, path: str | Path | None, flag: str, parent: Path) -> None:
        self._given, self._parent = path, parent
        self.path, self.flag, self.keep = Path(path or parent), flag, False
        self._made: list[Path] = []
        self._files: list[Path] = []
        self._inputs: set[Path] = set()

    def protect(self, inputs: Iterable[dict]) -> None:
        """Never write over these: records of input files, as `input_records` gives them."""
        self._inputs |= {Path(record["path"]).resolve() for record in inputs}

    def file(self, name: str | Path) -> Path:
        """`place`, for a file about to be written: it is removed if the run fails, unless it was there before."""
        return self.removed_on_failure(self.place(name))

    def removed_on_failure(self, path: Path) -> Path:
        """`path`, one of `place`, about to be written."""
        if not path.exists():
            self._files.append(path)
        return path

    def place(self, name: str | Path) -> Path:
        """The path of `name` in the folder (or `name` itself when it is absolute), its own folder made.

        Raises OutputError for an input's place, and where the folder cannot be made.
        """
        path = self.path / name
        if path.resolve() in self._inputs:
            raise OutputError(f"{path}: is an input of this run and would be overwritten; choose another {self.flag}")
        self._make(path.parent)
        return path

    def __enter__(self) -> OutputFolder:
        try:
            if self._given is None:
                self._claim()
            self._make(self.path)
            self.probe(self.path)
        except (OSError, OutputError) as error:
            self._clean()
            raise (error if isinstance(error, OutputError) else self._refused(self.path, error)) from error
        return self

    def probe(self, folder: Path) -> None:
        """Raise OutputError unless a file can be made in `folder`."""
        probe = folder / f".vace-write-test-{os.getpid()}"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise self._refused(folder, error) from error

    def _claim(self) -> None:
        """Make parent/TIME; a counter goes behind it when another run has taken that name."""
        self._make(self._parent)
        for count in itertools.count(1):
            self.path = self._parent / (time_stamp() + (f"-{count}" if count > 1 else ""))
            try:
                self.path.mkdir()
            except FileExistsError:
                continue
            self._made.insert(0, self.path)
            return

    def _make(self, folder: Path) -> None:
        missing = list(itertools.takewhile(lambda place: not place.exists(), (folder, *folder.parents)))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(folder, error) from error
        self._made = missing + self._made

    def _refused(self, folder: Path, error: OSError) -> OutputError:
        remedy = "give a folder you may write to, with free space"
        return OutputError(f"{self.flag} {folder}: cannot be written ({error.strerror}); {remedy}")

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None and not self.keep:
            self._clean()

    def _clean(self) -> None:
        for path in self._files:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for folder in self._made:
            with contextlib.suppress(OSError):  # something of the user's is in it: then it stays
                folder.rmdir()


class Stages:
    """Seconds and peak memory of each stage, as the manifest lists them."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    @contextmanager
    def stage(self, name: str, device: str = "cpu") -> Iterator[None]:
        start = time.perf_counter()
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(device)
        yield
        row = {"name": name, "seconds": round(time.perf_counter() - start, 3), "peak_memory_mb": peak_memory_mb()}
        if device.startswith("cuda"):
            row["peak_device_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6)
        self.rows.append(row)


def peak_memory_mb() -> int | None:
    """The largest resident size of this process so far, in MB; None where the system does not say."""
    try:  # Linux: its own mark. getrusage would begin with the one of the process that started this
        marks = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return round(int(marks.split("VmHWM:")[1].split()[0]) * 1024 / 1e6)
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if platform.system() == "Darwin" else peak / 1e3)


def versions() -> dict[str, str]:
    found = {"vace": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def draw_seed(seed: int) -> int:
    """`seed` itself, or one drawn from the system's entropy for -1."""
    if seed < -1 or seed >= 2**63:
        raise InputError(f"--seed {seed}: give a whole number from 0 to 2^63-1, or -1 to draw one")
    return random.SystemRandom().randrange(2**31) if seed == -1 else seed


def input_records(files: Iterable[tuple[str, Path]]) -> list[dict]:
    """One record per input: flag, path, name, size and sha256 (of a folder: of its files' names and hashes)."""
    records = []
    for flag, path in files:
        path = Path(path)
        if path.is_dir():
            lines = [f"{p.name} {sha256_file(p)}" for p in sorted(path.iterdir()) if p.is_file()]
            record = {"name": path.name, "bytes": sum(p.stat().st_size for p in path.iterdir() if p.is_file())}
            record["sha256"] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        else:
            record = file_record(path)
        records.append({"flag": flag, "path": str(path.resolve()), **record})
    return records


def full_paths(parameters: dict) -> dict:
    """The same parameters with files as full paths, so that they mean the same from any folder."""
    resolved = dict(parameters)
    for flag in FILE_FLAGS:
        if resolved.get(flag):
            paths = [str(Path(path).resolve()) for path in split_list(resolved[flag], files=True)]
            resolved[flag] = paths if len(paths) > 1 else paths[0]
    if resolved.get("ckpt_dir") and Path(resolved["ckpt_dir"]).exists():
        resolved["ckpt_dir"] = str(Path(resolved["ckpt_dir"]).resolve())
    return resolved


def split_list(value: str | Sequence[str] | None, files: bool = False) -> list[str]:
    """Comma lists and repeated flags as one list. Files whose names hold commas are taken whole when they exist."""
    if value is None:
        return []
    result = []
    for part in [value] if isinstance(value, (str, Path)) else value:
        pieces = str(part).split(",")
        items = _joined_files(pieces) if files else [piece.strip() for piece in pieces]
        result += [item for item in items if item]
    return result


def _joined_files(pieces: list[str]) -> list[str]:
    """Pieces between commas as file names: as many as together name something that exists are one name."""
    names, start = [], 0
    while start < len(pieces):
        spans = range(len(pieces), start + 1, -1)
        joined = ((end, ",".join(pieces[start:end])) for end in (*spans, start + 1))
        tries = ((end, name) for end, text in joined for name in (text, text.strip()))
        end, name = next(((e, n) for e, n in tries if n and Path(n).exists()), (start + 1, pieces[start].strip()))
        names.append(_located(name))
        start = end
    return names


def _located(name: str) -> str:
    """`name`, or the example file of that name inside the installed package, so that recipes work outside a clone."""
    if name.startswith("~") and not Path(name).exists():
        return str(Path(name).expanduser())
    if name.startswith("assets/") and not Path(name).exists():
        packaged = Path(__file__).parent / name
        if packaged.exists():
            return str(packaged)
    return name


def run_key(command: str, parameters: dict, inputs: list[dict]) -> str:
    """What a stage's outcome depends on, as one hash: the verb, its parameters and its inputs' contents."""
    settings = {k: v for k, v in parameters.items() if k not in (*FILE_FLAGS, *PLACES)}
    content = {"vace": __version__, "command": command, "parameters": settings}
    content["inputs"] = [[record["flag"], record["sha256"]] for record in inputs]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def write_manifest(path: Path, command: str, parameters: dict, inputs: list[dict], outputs: list[dict], **more) -> dict:
    """Write and return the manifest. `more`: seed, device, stages, frames ..."""
    manifest = {"schema": SCHEMA, "command": command, "parameters": parameters}
    manifest["key"] = run_key(command, parameters, inputs)
    manifest |= {"inputs": inputs, "outputs": outputs, "versions": versions()} | more
    write_json(path, manifest)
    return manifest


def read_manifest(path: str | Path, flag: str = "--from") -> dict:
    """A manifest of ours; raises InputError when the file is missing or something else."""
    path = Path(path)
    path = path / "manifest.json" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{flag} {path}: no such file; give the manifest.json of a finished run")
    try:
        manifest = read_json(path)
    except InputError as error:
        raise InputError(f"{flag} {path}: not JSON; give the manifest.json of a finished run") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise InputError(f"{flag} {path}: not a manifest of this version ({SCHEMA}); give the manifest.json of a run")
    return manifest


def finished(folder: Path, key: str) -> dict | None:
    """The manifest in `folder` when it was made by the same key and its outputs are still intact, else None."""
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("key") != key or manifest.get("interrupted"):
        return None
    return manifest if all(is_intact(folder, record) for record in manifest["outputs"]) else None


def is_intact(folder: Path, record: dict) -> bool:
    """Whether an output is still what its record says."""
    output = folder / record["name"]
    return output.exists() and input_records([("", output)])[0]["sha256"] == record["sha256"]


def outputs_by_role(folder: Path, manifest: dict) -> dict[str, list[Path]]:
    """The files a manifest in `folder` lists, by their role."""
    named: dict[str, list[Path]] = {}
    for record in manifest["outputs"]:
        named.setdefault(record["role"], []).append(folder / record["name"])
    return named


def paths_by_flag(inputs: list[dict]) -> dict[str, str | list[str]]:
    """The inputs' full paths by flag, so that the run can be repeated from any folder: one alone, several as a list."""
    paths: dict[str, list[str]] = {}
    for record in inputs:
        paths.setdefault(record["flag"], []).append(record["path"])
    return {flag: found if len(found) > 1 else found[0] for flag, found in paths.items()}


def remove_stale(folder: Path, manifest: dict | None, outputs: list[dict]) -> None:
    """Remove what an earlier run's manifest lists in `folder` and the new outputs do not replace."""
    names = {record["name"] for record in outputs}
    for record in (manifest or {}).get("outputs", []):
        path = folder / record["name"]
        if record["name"] not in names and path.is_file() and is_intact(folder, record):
            path.unlink()


def public_recipe(manifest: dict) -> str:
    """The manifest for inside a video file: names and hashes of files, no directory of the user's machine."""

    def bare(value):
        if isinstance(value, list):
            return [bare(item) for item in value]
        return Path(value).name if isinstance(value, str) else value

    parameters = {
        name: bare(value) if name in FILE_FLAGS or name.endswith("_dir") or name in ("ckpt_dir", "save_file") else value
        for name, value in manifest["parameters"].items()
    }
    if "(" in str(parameters.get("task")):  # joined tasks name files of their own
        from vace.layer_syntax import bare as bare_files
        from vace.layer_syntax import format_layers, parse_layers

        parameters["task"] = format_layers(parse_layers(parameters["task"]), bare_files)
    for place in (*PLACES, *KEPT):  # two runs of one command differ in nothing else
        parameters.pop(place, None)
    recipe = {
        key: manifest[key] for key in ("schema", "command", "seed", "versions", "model", "networks") if key in manifest
    }
    recipe["parameters"] = parameters
    recipe["inputs"] = [{k: v for k, v in record.items() if k != "path"} for record in manifest["inputs"]]
    text = json.dumps(recipe, ensure_ascii=False, sort_keys=True)
    return text.encode("utf-8", "replace").decode("utf-8")  # a file name may hold bytes that are no text
