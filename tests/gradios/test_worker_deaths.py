"""Child processes of the web pages that die, hang, or outlive their server: what becomes of their jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from worker_jobs import a_job, gray, is_alive, left_in, over, pid_of, until

from vace.errors import InputError
from vace.gradios.workers import Workers


class TestDeath:
    def test_a_child_that_dies_fails_its_job_and_the_next_gets_another(self, media, tmp_path, caplog):
        workers, folder = Workers(patience=0.5), tmp_path / "out"
        ticket = workers.submit(a_job(folder, 1000))
        until(workers, ticket, lambda ticket: ticket.stage == "denoise" and ticket.done)
        after = workers.submit(gray(media, tmp_path / "after"))
        (folder / "out_video.mp4").write_bytes(b"finished before")
        (folder / ".out_video.1234.partial.mp4").write_bytes(b"half of it")
        pid = pid_of(workers)
        os.kill(pid, signal.SIGKILL)
        until(workers, ticket, lambda ticket: ticket.is_over)
        assert ticket.state == "failed" and ticket.message == (
            "vace wan: the process at work ended by itself (signal SIGKILL), mostly for lack of memory; "
            "try a smaller size, fewer frames or another device"
        )
        assert ticket.message in caplog.text
        assert [path.name for path in left_in(folder)] == ["out_video.mp4"]
        until(workers, after, lambda ticket: ticket.is_over)
        assert after.state == "done" and pid_of(workers) != pid
        workers.close()

    def test_a_child_that_does_not_react_is_killed_and_what_it_left_half_written_goes(self, media, tmp_path):
        workers, folder = Workers(patience=0.5), tmp_path / "out"
        over(workers, gray(media, tmp_path / "before"))
        pid = pid_of(workers)
        os.kill(pid, signal.SIGSTOP)
        for name in (".src_video.1234.partial.mp4", ".layers-abc/1-gray/src_video.mp4", "prepared/.vace-write-test-9"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"half of it")
        stuck, after = workers.submit(gray(media, folder)), workers.submit(gray(media, tmp_path / "after"))
        until(workers, stuck, lambda ticket: ticket.state == "running")
        workers.cancel(stuck.id)
        until(workers, stuck, lambda ticket: ticket.is_over)
        assert stuck.state == "cancelled" and "its process was ended" in stuck.message
        assert not is_alive(pid) and not folder.exists()
        until(workers, after, lambda ticket: ticket.is_over)
        assert after.state == "done"
        # the end of it all, with a job at work and one that waits
        last, never = (workers.submit(gray(media, tmp_path / name)) for name in ("last", "never"))
        until(workers, last, lambda ticket: ticket.state == "running")
        pid, workers.patience = pid_of(workers), 20.0
        workers.close()
        assert never.state == "cancelled" and last.is_over and not is_alive(pid)
        assert left_in(tmp_path / "last") == [] or (tmp_path / "last" / "manifest.json").exists(), last.message
        assert not (tmp_path / "never").exists()
        with pytest.raises(InputError, match="about to end"):
            workers.submit(gray(media, tmp_path / "never"))
        workers.close()

    def test_nothing_to_close(self):
        Workers().close()


SERVER = """
import sys, time
from pathlib import Path
from vace.gradios.workers import Request, Workers

if __name__ == "__main__":
    workers, flags = Workers(), {flags!r}
    try:
        ticket = workers.submit(Request("generate", flags, "long", (Path(flags["save_dir"]),)))
        while ticket.stage != "denoise" or not ticket.done:
            time.sleep(0.05)
        print(workers._devices[0].child.process.pid, flush=True)
        while True:
            time.sleep(0.1)  # not long: an interrupt just before a sleep waits for its end
    except KeyboardInterrupt:
        workers.close()
        print(ticket.state, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_end_of_the_server_is_the_end_of_its_children(tmp_path, how):
    script = tmp_path / "server.py"
    script.write_text(SERVER.replace("{flags!r}", repr(dict(a_job(tmp_path / "out", 100000).flags))))
    server = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    try:
        pid = int(server.stdout.readline())
        if how == signal.SIGINT:
            os.killpg(server.pid, how)  # as the terminal does it: to the children too
        else:
            server.send_signal(how)
        out, err = server.communicate(timeout=60)
    finally:
        server.kill()
    deadline = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(pid) and not (tmp_path / "out").exists()
    assert "Traceback" not in err
    assert (out.strip(), server.returncode) == (("cancelled", 0) if how == signal.SIGINT else ("", -how))
