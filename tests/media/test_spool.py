"""Arrays that wait in a temporary file: they come back in order, as often as asked; a folder that refuses is told."""

from __future__ import annotations

import numpy as np
import pytest

from vace.errors import OutputError
from vace.media import spool
from vace.media.spool import Spool


def test_arrays_come_back_in_order_as_often_as_asked():
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 4), np.uint8), np.float32([7])]
    kept = Spool()
    for array in arrays:
        kept.add(array)
    for _ in range(2):
        for found, array in zip(kept.replay(), arrays, strict=True):
            assert np.array_equal(found, array) and found.dtype == array.dtype


def test_two_of_them_are_read_side_by_side():
    spools = [Spool(), Spool()]
    for i in range(6):
        spools[i % 2].add(np.float32([i]))
    assert [tuple(float(x[0]) for x in pair) for pair in zip(*(one.replay() for one in spools), strict=True)] == [
        (0, 1), (2, 3), (4, 5)]  # fmt: skip


def test_a_folder_that_refuses_is_told(monkeypatch):
    kept = Spool()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match=r"cannot hold temporary files \(No space left on device\).*TMPDIR"):
        kept.add(np.zeros(1))
    monkeypatch.setattr(spool.tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match="TMPDIR"):
        Spool()
