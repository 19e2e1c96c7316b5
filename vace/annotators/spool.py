"""Arrays kept in a nameless temporary file between two passes over a clip, so that memory stays flat."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np


class Spool:
    """Takes arrays one by one, then gives them back in order, as often as asked. The file goes with the object."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="vace-")  # noqa: SIM115 - lives as long as the spool
        self._count = 0

    def add(self, array: np.ndarray) -> None:
        self._file.seek(0, 2)
        np.save(self._file, array, allow_pickle=False)
        self._count += 1

    def replay(self) -> Iterator[np.ndarray]:
        at = 0
        for _ in range(self._count):
            self._file.seek(at)
            array = np.load(self._file, allow_pickle=False)
            at = self._file.tell()
            yield array
