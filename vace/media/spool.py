"""Arrays kept in a nameless temporary file between two passes over a clip, so that memory stays flat."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vace.errors import OutputError


class Spool:
    """Takes arrays one by one, then gives them back in order, as often as asked. The file goes with the object.

    Raises OutputError where the temporary folder cannot be written.
    """

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(prefix="vace-")  # noqa: SIM115 - lives as long as the spool
        except OSError as error:
            raise _refused(error) from error
        self._count = 0

    def add(self, array: np.ndarray) -> None:
        try:
            self._file.seek(0, 2)
            np.save(self._file, array, allow_pickle=False)
            self._file.flush()  # a full disk is told here, not when the array is asked for
        except OSError as error:
            raise _refused(error) from error
        self._count += 1

    def replay(self) -> Iterator[np.ndarray]:
        at = 0
        for _ in range(self._count):
            self._file.seek(at)
            array = np.load(self._file, allow_pickle=False)
            at = self._file.tell()
            yield array


def _refused(error: OSError) -> OutputError:
    folder = Path(tempfile.gettempdir())
    reason = error.strerror or error
    return OutputError(f"{folder}: cannot hold temporary files ({reason}); free some space, or set TMPDIR")
