"""Tickets of the web pages' jobs, and what a worker reckons and looks for: without any process."""

from __future__ import annotations

import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from vace.errors import is_out_of_memory
from vace.gradios.tickets import LOG_LINES, Request, Ticket
from vace.gradios.worker import Pace, _is_importing, as_jpeg, program
from vace.gradios.workers import Workers


class TestTicket:
    def ticket(self) -> Ticket:
        return Ticket(Request("generate", {"base": "ltx"}, "a cat"))

    def test_ids_cannot_be_guessed(self):
        assert len({self.ticket().id for _ in range(50)}) == 50 and len(self.ticket().id) > 40

    def test_a_new_stage_knows_nothing_of_the_last(self):
        ticket = self.ticket()
        ticket._on_progress(3, 8, 2.0)
        assert 9.5 < ticket.eta <= 10
        ticket._on_stage("decode")
        assert (ticket.stage, ticket.done, ticket.total, ticket.seconds_per, ticket.eta) == ("decode", 0, 0, None, None)

    def test_the_last_lines_and_the_plan(self):
        ticket = self.ticket()
        for number in range(40):
            ticket._on_log(20, f"line {number}")
        ticket._on_log(20, "ltx is a word")
        ticket._on_log(20, "ltx vace-tiny-ltx: 9 frames at 25 fps; 64x64, 8 tokens, 8 steps")
        ticket._on_log(20, "wan x: 2 tokens, 3 steps")
        assert len(ticket.log) == LOG_LINES and ticket.log[0] == "line 13"
        assert ticket.plan.startswith("ltx vace-tiny-ltx")

    def test_the_last_ones_are_remembered(self):
        workers = Workers(())
        workers._is_started = True
        tickets = [workers.submit(Request("generate", {}, "")) for _ in range(203)]
        for ticket in tickets:
            workers.cancel(ticket.id)
        assert [workers.find(ticket.id) is None for ticket in tickets] == [True] * 3 + [False] * 200


def test_pace_forgets_the_first():
    now = 10.0
    pace = Pace(lambda: now)
    for done, seconds, per in ((1, 5.0, 5.0), (2, 1.0, 1.0), (3, 2.0, 1.5), (3, 9.0, 6.0)):
        now += seconds
        assert pace.after(done) == per
    pace.begin()
    assert pace.after(0) is None


def test_previews_are_small():
    jpeg = as_jpeg(np.full((720, 1280, 3), (200, 30, 30), np.uint8))
    image = Image.open(BytesIO(jpeg))
    assert image.size == (512, 288) and image.format == "JPEG" and image.getpixel((9, 9))[0] > 180
    assert Image.open(BytesIO(as_jpeg(np.zeros((64, 96, 3), np.uint8)))).size == (96, 64)


def test_names_of_commands():
    assert program("generate", {"base": "ltx"}) == "vace ltx" and program("generate", {}) == "vace wan"
    assert program("preprocess", {"base": "wan"}) == "vace preprocess"


def test_an_import_at_work_is_seen(tmp_path, monkeypatch):
    (tmp_path / "looks_around.py").write_text("import sys\nframe = sys._getframe()\n")
    monkeypatch.syspath_prepend(tmp_path)
    import looks_around

    assert _is_importing(looks_around.frame) and not _is_importing(None)
    assert not _is_importing(sys._getframe())


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize(("error", "is_so"), [
    (MemoryError(), True), (OutOfMemoryError("CUDA out of memory"), True), (RuntimeError("no"), False),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
])  # fmt: skip
def test_an_end_of_memory_is_seen_also_behind_another_error(error, is_so):
    outer = ValueError("it did not work")
    outer.__cause__ = error
    assert is_out_of_memory(error) == is_out_of_memory(outer) == is_so


def test_an_end_of_memory_says_what_to_do():
    from vace.errors import explained

    line, is_ours = explained(
        "vace wan", OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has ...")
    )
    assert line.startswith("vace wan: out of memory (CUDA out of memory); try a smaller --size") and not is_ours
