"""Jobs for tests of the web pages' workers, and what became of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from vace.gradios.workers import Request, Ticket, Workers

WORDS = {"prompt": "a cat", "ckpt_dir": "tiny", "size": "64x64", "frame_num": 9, "device": "cpu"}
SOON = 120.0  # seconds in which anything must have happened


def a_job(folder: Path, steps: int = 2, **flags) -> Request:
    flags = {"base": "wan", **WORDS, "steps": steps, "save_dir": str(folder), **flags}
    return Request("generate", flags, f"generate {folder.name}", (folder,))


def gray(media: Path, folder: Path, **flags) -> Request:
    flags = {"task": "gray", "video": f"{media}/clip.mp4", "pre_save_dir": str(folder), "device": "cpu", **flags}
    return Request("preprocess", flags, "gray clip.mp4", (folder,))


def until(workers: Workers, ticket: Ticket, is_so) -> list[tuple]:
    """Wait until `is_so(ticket)`; what was seen on the way."""
    seen, version, deadline = [], -1, time.monotonic() + SOON
    while not is_so(ticket):
        assert time.monotonic() < deadline and not (ticket.is_over and version == ticket.version), vars(ticket)
        version = workers.wait(ticket, version, 1.0)
        seen.append((ticket.state, ticket.stage, ticket.done, ticket.total, ticket.seconds_per, ticket.eta))
    return seen


def over(workers: Workers, *requests: Request) -> list[Ticket]:
    tickets = [workers.submit(request) for request in requests]
    for ticket in tickets:
        until(workers, ticket, lambda ticket: ticket.is_over)
    return tickets


def pid_of(workers: Workers) -> int:
    return workers._devices[0].child.process.pid


def left_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")
