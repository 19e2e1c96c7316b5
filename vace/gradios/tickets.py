"""A job of the web pages, and the ticket by which everyone sees how it is doing."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vace.bases import BASES
from vace.gradios.worker import CANCELLED, DONE, FAILED, program

WAITING, RUNNING, CANCELLING = "waiting", "running", "cancelling"
OVER = (DONE, FAILED, CANCELLED)
LOG_LINES = 30


@dataclass(frozen=True)
class Request:
    """A job. verb: preprocess, generate or pipeline; flags: its keywords, plain values. title: for people.

    folders: made by this job alone; half-written files in them are removed when its process is killed. hidden: texts
    left out of what is told, such as the server's own directories.
    """

    verb: str
    flags: Mapping
    title: str
    folders: tuple[Path, ...] = ()
    hidden: tuple[str, ...] = ()

    def bare(self, text: str) -> str:
        """`text` without what is hidden."""
        for part in self.hidden:
            text = text.replace(part, "")
        return text

    @property
    def program(self) -> str:
        """What the command line calls it: errors begin with that."""
        return program(self.verb, self.flags)


class Ticket:
    """How a job is doing. Read it from any thread; only `Workers` changes it.

    state: waiting, running, cancelling, done, failed or cancelled. stage: as told by `vace.watching.Watch`, "" before.
    done, total: steps or frames of the stage, 0 when unknown; seconds_per: for one of them. preview: JPEG. log: the
    last lines. plan: the plan line, "" until told. answer: the verb's. message: what the command line would say went
    wrong. submitted, started, ended: time.time(). ahead: jobs before it in the queue. version: another one after each
    change.
    """

    def __init__(self, request: Request) -> None:
        self.id, self.request = secrets.token_urlsafe(), request
        self.state, self.stage, self.done, self.total = WAITING, "", 0, 0
        self.seconds_per: float | None = None
        self.preview: bytes | None = None
        self.log: tuple[str, ...] = ()
        self.plan, self.message = "", ""
        self.answer: dict | None = None
        self.submitted = time.time()
        self.started: float | None = None
        self.ended: float | None = None
        self.ahead, self.version = 0, 0
        self._progressed = 0.0
        self._cancelled: float | None = None

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    @property
    def eta(self) -> float | None:
        """Seconds to the end of this stage, counting down; None when unknown."""
        if self.seconds_per is None or self.is_over:
            return None
        return max(0.0, (self.total - self.done) * self.seconds_per - (time.time() - self._progressed))

    def _on_stage(self, name: str) -> None:
        self.stage, self.done, self.total, self.seconds_per = name, 0, 0, None

    def _on_progress(self, done: int, total: int, seconds_per: float | None) -> None:
        self.done, self.total, self.seconds_per, self._progressed = done, total, seconds_per, time.time()

    def _on_preview(self, jpeg: bytes) -> None:
        self.preview = jpeg

    def _on_log(self, level: int, text: str) -> None:
        text = self.request.bare(text)
        line = f"warning: {text}" if level >= logging.WARNING else text
        self.log = (*self.log, line)[-LOG_LINES:]
        if not self.plan and text.startswith(tuple(f"{base} " for base in BASES)) and " tokens, " in text:
            self.plan = text

    def _on_over(self, state: str, answer: dict | None, message: str) -> None:
        self.state, self.answer, self.message = state, answer, self.request.bare(message)
        self.ended = time.time()
