"""A server of the pages as a process of its own, and a browser that opens them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from page_driver import chromium

PATIENCE = 120  # seconds for a server that starts beside other tests


@dataclass
class Served:
    """A running `vace demo`: its address, the folder it was given as --out, and the process."""

    url: str
    out: Path
    process: subprocess.Popen

    def stop(self) -> int:
        """Ctrl-C; gives the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def serve():
    """serve(OUT, *flags): `vace demo` with these flags, until the block ends; gives a `Served`."""
    return _serve


@contextmanager
def _serve(out: Path, *arguments: str, command: tuple[str, ...] = ("-m", "vace.cli", "demo")):
    """`vace demo ARGUMENTS` on a port of its own, until the block ends."""
    port = free_port()
    words = [sys.executable, *command, *arguments, "--port", str(port), "--out", str(out)]
    log = open(out / "server.log", "w+")
    process = subprocess.Popen(
        words, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _answers(url, process, out / "server.log")
        yield Served(url, out, process)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        log.close()


def _answers(url: str, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=10).read()
        except OSError:
            pass
        else:
            if f"open {url}" in log.read_text():  # the last thing it does before it waits
                return
        time.sleep(0.3)
    pytest.fail(f"no answer from {url}: {log.read_text()}")


@pytest.fixture(scope="session")
def browser():
    with chromium() as found:
        yield found
