"""results.jsonl: one line for each finished job, added whole or not at all, by as many processes as there are."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from vace.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: there one process writes, and a single write is whole
    fcntl = None


class Results:
    """The file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "results.jsonl"

    def read(self) -> dict[str, dict]:
        """id -> its last line. What a killed run left of a line is not one."""
        if not self.path.exists():
            return {}
        found = {}
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and "id" in record:
                    found[str(record["id"])] = record
        return found

    def append(self, record: dict) -> None:
        """Add a line, in one write, and have it on the disk. Raises OutputError where that cannot be done."""
        data = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        try:
            with self._locked() as handle:
                size = os.fstat(handle).st_size
                if size and os.pread(handle, 1, size - 1) != b"\n":
                    data = b"\n" + data  # after what a killed run left of a line
                os.write(handle, data)
                os.fsync(handle)
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}); make room, or choose --out"
            ) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)
