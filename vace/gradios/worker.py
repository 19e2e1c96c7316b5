"""The child's side of `vace.gradios.workers`: one verb after the other, what they load kept, all that happens told.

To the child: ("job", id, verb, flags), ("cancel", id), ("end",). From it: (id, event, values ...), the events being
stage (name), progress (done, total, seconds per unit), preview (JPEG), log (level, text) and, last of each job,
over (state, answer, message, traceback).
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import importlib
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

from vace.errors import explained, is_out_of_memory
from vace.verbs import call
from vace.warm import Warm
from vace.watching import Watch

if TYPE_CHECKING:
    import numpy as np

DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
AGAIN = 0.1  # seconds between tries to interrupt a job that imports something just then
GRACE = 8.0  # seconds that a job at work gets to tidy when the process shall end
PREVIEW_SIDE, PREVIEW_QUALITY = 512, 80


HEAVY = ("torch", "vace.pipeline", "vace.models.wan.engine", "vace.models.ltx.engine")  # what most jobs import first


def serve(connection: Connection, early: bool = False) -> None:
    """Do what comes along `connection` until its other end closes. The main function of a child process.

    early: import what is heavy at once, while nobody waits for it.
    """
    _hush()
    Child(connection).run(early)


def program(verb: str, flags: Mapping) -> str:
    """How the command line calls what runs `verb`: "vace wan", "vace pipeline" ..."""
    return f"vace {flags.get('base', 'wan') if verb == 'generate' else verb}"


class Child:
    """One job at a time in the main thread, while others listen and tell.

    An interrupt is raised only in the job it is meant for: it is the main thread's own signal handler that decides, so
    nothing can come between. A Ctrl-C at the terminal, which reaches this process too, is none.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection, self.warm = connection, Warm()
        # Whatever an interrupt breaks into, putting something into a SimpleQueue happens whole or not at all.
        self.jobs: SimpleQueue = SimpleQueue()
        self.events: SimpleQueue = SimpleQueue()
        self.cancelled: set[str] = set()
        self.current: str | None = None  # the job that is told of
        self.at_work: str | None = None  # the same, while it may be interrupted
        self.is_ending = False

    def run(self, early: bool = False) -> None:
        signal.signal(signal.SIGINT, self._interrupted)
        signal.signal(signal.SIGTERM, self._terminated)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held back while this process began
        logger = logging.getLogger("vace")
        logger.handlers, logger.propagate = [_ToServer(self)], False
        logger.setLevel(logging.INFO)
        teller = threading.Thread(target=self._tell_all, daemon=True)
        teller.start()
        threading.Thread(target=self._listen, daemon=True).start()
        for name in HEAVY if early else ():
            with contextlib.suppress(ImportError):  # the job that needs it says so
                importlib.import_module(name)
        while (job := self.jobs.get()) is not None:
            self._one(*job)
        self.events.put(None)
        teller.join(GRACE)

    def tell(self, event: str, *values: object) -> None:
        """Tell the server something of the job at work."""
        self.events.put((self.current, event, *values))

    def _one(self, job: str, verb: str, flags: Mapping) -> None:
        """Run a job, and tell what came of it."""
        self.current, prog = job, program(verb, flags)
        outcome: tuple = (CANCELLED, None, f"{prog}: cancelled; nothing half-written was left", "")
        is_full = False
        try:
            self.at_work = job
            try:
                self._stop_if_asked(job)
                answer = call(verb, flags, self.warm, watch=self._watch(job), progress=False)
            finally:
                self.at_work = None
            outcome = (DONE, answer, "", "")
        except KeyboardInterrupt:
            pass
        except BaseException as error:  # SystemExit too: a job never ends this process
            line, is_ours = explained(prog, error)
            is_full = is_out_of_memory(error)
            outcome = (FAILED, None, line, "".join(traceback.format_exception(error)) if is_ours else "")
        if outcome[0] != DONE:
            self._free(is_full)
        self.tell("over", *outcome)
        self.current = None

    def _free(self, is_full: bool) -> None:
        """Memory that a run which broke off held: all of it where it was too little."""
        if is_full:
            self.warm.release()
        gc.collect()
        if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _watch(self, job: str) -> Watch:
        """What the verb tells goes to the server; each time is also a chance to stop, should an interrupt get lost."""
        pace = Pace()

        def checked(told: Callable) -> Callable:
            def tell(*values) -> None:
                self._stop_if_asked(job)
                told(*values)

            return tell

        def stage(name: str) -> None:
            pace.begin()
            self.tell("stage", name)

        def frames(done: int, total: int) -> None:
            self.tell("progress", done, total, pace.after(done))

        def preview(step: int, picture: np.ndarray) -> None:
            self.tell("preview", as_jpeg(picture))

        return Watch(
            on_stage=checked(stage), on_frames=checked(frames), on_preview=checked(preview),
            on_step=checked(lambda i, steps, *_: frames(i + 1, steps)),
        )  # fmt: skip

    def _stop_if_asked(self, job: str) -> None:
        if self.is_ending or job in self.cancelled:
            self.at_work = None
            raise KeyboardInterrupt

    def _is_due(self) -> bool:
        """Whether the job at work shall be interrupted, and was not yet."""
        job = self.at_work
        return job is not None and (self.is_ending or job in self.cancelled)

    def _interrupted(self, signum: int, frame: FrameType | None) -> None:
        if self._is_due() and not _is_importing(frame):
            self.at_work = None  # once only: a second one would break into its tidying
            raise KeyboardInterrupt

    def _terminated(self, signum: int, frame: FrameType | None) -> None:
        if hasattr(signal, "alarm"):
            signal.alarm(int(GRACE))  # which ends a process that does not handle it
        self.is_ending = True
        self.jobs.put(None)
        self._interrupted(signum, frame)

    def _listen(self) -> None:
        """Take messages, and interrupt until it worked. Runs in a thread of its own, to the end of the process."""
        while True:
            try:
                if not self.connection.poll(AGAIN if self._is_due() else None):
                    self._interrupt()
                    continue
                kind, *values = self.connection.recv()
            except (EOFError, OSError):  # the server is gone
                kind = "end"
            if kind == "job":
                self.jobs.put(values)
                continue
            if kind == "end":
                self._end()
                return
            self.cancelled.add(*values)
            self._interrupt()

    def _end(self) -> None:
        """Have the process end: when its job has tidied, at the latest when its grace is over."""
        if self.is_ending:
            return
        self.is_ending = True
        self.jobs.put(None)
        threading.Thread(target=self._leave, daemon=True).start()

    def _leave(self) -> None:
        for _ in range(int(GRACE / AGAIN)):
            self._interrupt()
            time.sleep(AGAIN)
        os._exit(1)

    def _interrupt(self) -> None:
        """Have the main thread look at once whether its job shall stop, also out of a call that waits."""
        if not self._is_due():
            return
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        else:
            _thread.interrupt_main()

    def _tell_all(self) -> None:
        """Send what is told, in order: here, since an interrupt within sending would garble the line."""
        with contextlib.suppress(OSError):
            while (event := self.events.get()) is not None:
                self.connection.send(event)


class _ToServer(logging.Handler):
    """The log goes to the server, to the job at work."""

    def __init__(self, child: Child) -> None:
        super().__init__()
        self.child = child

    def emit(self, record: logging.LogRecord) -> None:
        self.child.tell("log", record.levelno, " ".join(record.getMessage().split()))


class Pace:
    """Seconds that each unit of a stage takes, by the mean of all but the first ones, which warm things up.

    clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.begin()

    def begin(self) -> None:
        """A stage begins."""
        self._start, self._first = self.clock(), None

    def after(self, done: int) -> float | None:
        """Seconds for one, now that `done` are done; of the first ones alone as long as there are no others."""
        now = self.clock()
        if self._first is None:
            self._first = (done, now)
            return (now - self._start) / done if done > 0 else None
        units = done - self._first[0]
        return (now - self._first[1]) / units if units > 0 else None


def as_jpeg(picture: np.ndarray) -> bytes:
    """RGB uint8 [H,W,3] as a JPEG file, its longest side at most PREVIEW_SIDE."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=PREVIEW_QUALITY)
    return file.getvalue()


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported in `frame`: half of one would harm every later job."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _hush() -> None:
    """Progress bars and warnings of libraries stay off the server's terminal; the log has a way of its own."""
    with open(os.devnull, "w") as sink:
        for number in (1, 2):
            os.dup2(sink.fileno(), number)
