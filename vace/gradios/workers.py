"""Jobs of the web pages: a queue, and for each device one child process that runs them, its models kept loaded.

The server itself computes nothing, so that pages answer while a job is at work, and a job can be stopped or die alone.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import resource_tracker
from pathlib import Path

from vace.errors import InputError, explained
from vace.gradios.tickets import CANCELLING, RUNNING, WAITING, Request, Ticket
from vace.gradios.worker import CANCELLED, DONE, FAILED, serve
from vace.verbs import clear_leftovers

log = logging.getLogger("vace")

REMEMBERED = 200  # tickets of jobs that are over
GLANCE = 0.1  # seconds between looks at whether the job at work shall stop
LAST_WORDS = 5.0  # seconds in which an ended process must be gone


class Workers:
    """The queue and the devices. devices: as of --device, one job at a time on each; "auto" leaves a job's own.

    patience: seconds that a cancelled job gets to stop by itself, before its process is killed. early: begin the
    processes, and import what is heavy in them, before the first job comes.
    """

    def __init__(self, devices: Sequence[str] = ("auto",), patience: float = 20.0, early: bool = False) -> None:
        self.patience, self.early = patience, early
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._running: list[Ticket] = []
        self._over: deque[Ticket] = deque(maxlen=REMEMBERED)
        self._is_closing = False
        self._devices = [_Device(self, name) for name in devices]
        self._is_started = False
        if early:
            self._start()

    def submit(self, request: Request) -> Ticket:
        """Put a job at the end of the queue. Raises InputError when the server is about to end."""
        with self._changed:
            if self._is_closing:
                raise InputError("the server is about to end and takes no more jobs; start it again")
            ticket = Ticket(request)
            self._waiting.append(ticket)
            self._start()
            self._moved()
        return ticket

    def _start(self) -> None:
        if not self._is_started:
            self._is_started = True
            for device in self._devices:
                device.start()

    def find(self, id: str | None) -> Ticket | None:
        """The job of that id: waiting, running, or one of the last that are over."""
        with self._changed:
            known = (*self._waiting, *self._running, *self._over)
            return next((ticket for ticket in known if ticket.id == id), None)

    def active(self) -> list[Ticket]:
        """What is running and waiting, in order."""
        with self._changed:
            return [*self._running, *self._waiting]

    def cancel(self, id: str | None) -> None:
        """Have a job leave the queue, or stop at once; one that is over, or unknown, is none the worse."""
        with self._changed:
            for ticket in [*self._waiting, *self._running]:
                if ticket.id == id:
                    self._cancel(ticket)

    def wait(self, ticket: Ticket, seen: int, timeout: float) -> int:
        """The ticket's version, once it is another than `seen`, or when `timeout` seconds are over."""
        with self._changed:
            self._changed.wait_for(lambda: ticket.version != seen, timeout)
            return ticket.version

    def close(self, timeout: float = 10.0) -> None:
        """Cancel everything and end the processes; those that are not gone in `timeout` seconds are killed."""
        with self._changed:
            self._is_closing = True
            self.patience = min(self.patience, timeout)
            for ticket in [*self._waiting, *self._running]:
                self._cancel(ticket)
            self._changed.notify_all()
        for device in self._devices:
            if device.ident is not None:
                device.join(timeout + 2 * LAST_WORDS)

    # What the devices call.

    def next(self) -> Ticket | None:
        """The job whose turn it is, once there is one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            if self._is_closing:
                return None
            ticket = self._waiting.popleft()
            ticket.state, ticket.started = RUNNING, time.time()
            self._running.append(ticket)
            self._moved()
            return ticket

    def tell(self, ticket: Ticket, event: str, *values: object) -> None:
        """Note what happened to a job; nothing does after its end."""
        with self._changed:
            if ticket.is_over:
                return
            getattr(ticket, f"_on_{event}")(*values)
            ticket.version += 1
            if ticket.is_over:
                if ticket in self._running:
                    self._running.remove(ticket)
                self._over.append(ticket)
            self._changed.notify_all()

    def overdue(self, ticket: Ticket) -> float | None:
        """Seconds since a job was cancelled, less the patience with it; None for one that was not."""
        with self._changed:
            return None if ticket._cancelled is None else time.monotonic() - ticket._cancelled - self.patience

    def _cancel(self, ticket: Ticket) -> None:
        if ticket.state == WAITING:
            self._waiting.remove(ticket)
            self.tell(ticket, "over", CANCELLED, None, f"{ticket.request.program}: cancelled before it began")
            self._moved()
        elif ticket.state == RUNNING:
            ticket.state, ticket._cancelled = CANCELLING, time.monotonic()
            ticket.version += 1
            self._changed.notify_all()

    def _moved(self) -> None:
        """The queue has changed: every place in it is another."""
        for place, ticket in enumerate(self._waiting):
            ticket.ahead = place
            ticket.version += 1
        self._changed.notify_all()


class _Child:
    """A process that runs jobs, and the line to it."""

    def __init__(self, early: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, early), daemon=True, name="vace worker")
        with _interrupts_held_back():
            self.process.start()
        theirs.close()

    def send(self, *message: object) -> None:
        with contextlib.suppress(OSError):  # it is dead: whoever reads from it sees that
            self.line.send(message)

    def events(self, timeout: float) -> Iterator[tuple]:
        """What it has told by now, or tells within `timeout` seconds. Raises EOFError when it is dead."""
        try:
            if self.line.poll(timeout):
                yield self.line.recv()
            while self.line.poll():
                yield self.line.recv()
        except OSError as error:  # died amid a sentence
            raise EOFError from error

    def end(self, timeout: float) -> str:
        """End it, gently within `timeout` seconds; says how it ended: "", "signal SIGKILL", "exit status 1" ..."""
        self.line.close()  # which it takes for the end
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        code = self.process.exitcode or 0
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(-code).name}"
        return f"exit status {code}" if code else ""


class _Device(threading.Thread):
    """Takes one job after the other for one device, each to its end."""

    def __init__(self, workers: Workers, device: str) -> None:
        super().__init__(daemon=True)
        self.workers, self.device = workers, device
        self.child: _Child | None = None

    def run(self) -> None:
        if self.workers.early:
            self.child = _Child(early=True)
        while (ticket := self.workers.next()) is not None:
            try:
                self._run(ticket)
            except Exception as error:
                log.debug("%s", ticket.request.title, exc_info=error)
                self._end(0)
                self._over(ticket, FAILED, explained(ticket.request.program, error)[0])
        self._end(LAST_WORDS)

    def _run(self, ticket: Ticket) -> None:
        if self.child is None or not self.child.process.is_alive():
            self._end(0)
            self.child = _Child()
        request, is_told = ticket.request, False
        flags = dict(request.flags) | ({} if self.device == "auto" else {"device": self.device})
        try:
            self.child.send("job", ticket.id, request.verb, flags)
        except Exception as error:  # flags that are no plain values: the child has not heard of them
            self._over(ticket, FAILED, explained(request.program, error)[0])
        while not ticket.is_over:
            overdue = self.workers.overdue(ticket)
            if overdue is not None and not is_told:
                self.child.send("cancel", ticket.id)
                is_told = True
            if overdue is not None and overdue > 0:
                self._lose(ticket, 0)
                return
            try:
                for id, event, *values in self.child.events(GLANCE):
                    self._take(ticket, id, event, values)
            except EOFError:
                self._lose(ticket, LAST_WORDS)

    def _take(self, ticket: Ticket, id: str | None, event: str, values: list) -> None:
        """Pass on what the child has told; the server's own log gets what is wrong."""
        if event == "over" and id == ticket.id:
            *values, trace = values
            if values[0] != DONE:  # an interrupt at an unlucky moment leaves what the verb knows nothing of
                _tidy(ticket.request.folders)
            if trace:
                log.error("%s: %s", ticket.request.title, values[-1])
                log.debug("%s", trace)
        elif event == "log" and values[0] >= logging.WARNING:
            log.log(values[0], "%s: %s", ticket.request.title, values[1])
        if id == ticket.id:
            self.workers.tell(ticket, event, *values)

    def _lose(self, ticket: Ticket, timeout: float) -> None:
        """The child is dead, or has to be killed; the next job gets another."""
        how = self._end(timeout)
        _tidy(ticket.request.folders)
        prog = ticket.request.program
        if ticket.state == CANCELLING:
            self._over(
                ticket, CANCELLED, f"{prog}: cancelled; its process was ended, the next job loads its model anew"
            )
            return
        advice = "mostly for lack of memory; try a smaller size, fewer frames or another device"
        self._over(
            ticket, FAILED, f"{prog}: the process at work ended by itself ({how or 'no reason given'}), {advice}"
        )

    def _over(self, ticket: Ticket, state: str, message: str) -> None:
        if state == FAILED:
            log.error("%s: %s", ticket.request.title, message)
        self.workers.tell(ticket, "over", state, None, message)

    def _end(self, timeout: float) -> str:
        child, self.child = self.child, None
        return child.end(timeout) if child else ""


def _tidy(folders: Iterable[Path]) -> None:
    """Remove what is half-written in them, and what is empty; what is finished stays, and what cannot be removed."""
    for folder in folders:
        with contextlib.suppress(OSError):
            clear_leftovers(folder)
        for place in sorted((path for path in [folder, *folder.rglob("*")] if path.is_dir()), reverse=True):
            with contextlib.suppress(OSError):  # there is something in it
                place.rmdir()


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """A process that begins here hears of no Ctrl-C before it can handle one; for threads other than the main one."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which would let them in again, once it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
