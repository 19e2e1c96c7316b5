"""What all pages share: where files lie, which models are offered, and the jobs at work."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from vace.bases import find_base
from vace.errors import OutputError, VaceError
from vace.gradios import files
from vace.gradios.offers import Model
from vace.gradios.workers import Request, Ticket, Workers
from vace.media.manifest import read_json, sha256_file
from vace.runs import time_stamp
from vace.tasks import find_task

TAKEN = "taken"  # below uploads/: under names that verbs can take
KEEP_HOURS = 24  # of uploads; results stay


class Studio:
    """out: holds uploads/, processed/ and results/, the only folders the pages read. device: of jobs, as --device.

    Raises OutputError when a folder cannot be made.
    """

    def __init__(
        self, out: Path, workers: Workers, models: tuple[Model, ...], *, device: str = "auto", upload_mb: int = 512,
        no_download: bool = False,
    ) -> None:  # fmt: skip
        self.out, self.workers, self.models = out.resolve(), workers, models
        self.device, self.upload_mb, self.no_download = device, upload_mb, no_download
        self.uploads, self.processed, self.results = (self.out / name for name in ("uploads", "processed", "results"))
        for folder in self.roots:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                remedy = "give --out a folder you may write to"
                raise OutputError(f"--out {self.out}: cannot be written ({error.strerror}); {remedy}") from error
        files.sweep(self.uploads, KEEP_HOURS)
        self._hashes: dict[tuple, str] = {}

    @property
    def roots(self) -> tuple[Path, ...]:
        return self.uploads, self.processed, self.results

    def own(self, path: str | Path) -> Path:
        """`path`, which came from a browser, resolved; InputError unless it is a file of these pages."""
        return files.inside(path, self.roots)

    def take(self, path: str | Path, kinds: tuple[str, ...], flag: str) -> Path:
        """An upload, checked, under a name that verbs can take; a file we wrote ourselves as it is.

        Raises InputError for what is not a file of these pages, of another kind, empty or too large.
        """
        own = files.accepted(path, kinds, self.upload_mb, self.roots, flag)
        if own.is_relative_to(self.processed) or own.is_relative_to(self.results):
            return own
        self.check_room()
        return files.taken_in(own, self.uploads / TAKEN)

    def check_room(self, coming: int = 0) -> None:
        """Raise InputError where `coming` more bytes of uploads find no room."""
        files.check_room(self.uploads, self.upload_mb, coming)

    def sweep(self) -> None:
        """Remove uploads of yesterday, but for those of jobs that are waiting or running."""
        used = "\n".join(text for ticket in self.workers.active() for text in _texts(ticket.request.flags))
        files.sweep(self.uploads, KEEP_HOURS, used)

    def submit(self, verb: str, flags: Mapping[str, object], title: str) -> Ticket:
        """Hand a job in, with folders of its own. verb: preprocess, generate or pipeline.

        flags: keywords of the verb; places, device and downloads are said here.
        """
        stamp, task = f"{time_stamp()}-{secrets.token_hex(3)}", str(flags.get("task", ""))
        places = {}
        if verb != "preprocess":
            places["save_dir"] = self.results / self._model(flags) / stamp
        if verb != "generate" and find_task(task).annotator:
            places["pre_save_dir"] = self.processed / find_task(task).name / stamp
        given = {**flags, "device": self.device, "no_download": self.no_download}
        given |= {flag: str(folder) for flag, folder in places.items()}
        hidden = (f"{self.uploads / TAKEN}{os.sep}", f"{self.out}{os.sep}")
        return self.workers.submit(Request(verb, given, title, tuple(places.values()), hidden))

    def _model(self, flags: Mapping[str, object]) -> str:
        """The name of the model that the flags choose, as its folder of results has it."""
        base = find_base(str(flags.get("base", "wan"))).name
        chosen = (model.name for model in self.models if model.base == base and model.flags.items() <= flags.items())
        return next(chosen, base)

    def prepared_twin(self, path: Path) -> Path:
        """The file among those we wrote with the very bytes of `path`, beside its manifest; else `path`."""
        size = path.stat().st_size
        for record, file in self._written():
            if record.get("bytes") == size and file.is_file() and record["sha256"] == self._sha256(path):
                return file
        return path

    def _written(self) -> Iterator[tuple[dict, Path]]:
        for root in (self.processed, self.results):
            for place in sorted(root.glob("*/*/manifest.json"), reverse=True):
                try:
                    manifest = read_json(place)
                except VaceError:
                    continue  # half of a manifest, or none of ours
                outputs = manifest.get("outputs", []) if isinstance(manifest, dict) else []
                yield from ((record, place.parent / record["name"]) for record in outputs if "sha256" in record)

    def _sha256(self, path: Path) -> str:
        stat = path.stat()
        key = (str(path), stat.st_mtime_ns, stat.st_size)
        if key not in self._hashes:
            self._hashes[key] = sha256_file(path)
        return self._hashes[key]


def _texts(value: object) -> Iterator[str]:
    """Every text in the flags of a job, in whatever they are packed."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, (str, os.PathLike)):
        yield os.fspath(value)
