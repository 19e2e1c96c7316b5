"""The queue of the web pages and its child processes: real ones, on the embedded models."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from worker_jobs import SOON, WORDS, a_job, gray, left_in, over, pid_of, until

from vace.gradios.workers import Request, Ticket, Workers, _Child

MADE = ["load", "read sources", "encode prompt", "encode context", "write sources", "denoise", "decode"]


@pytest.fixture(scope="module")
def workers():
    found = Workers()
    yield found
    found.close()


class TestJobs:
    @pytest.mark.parametrize("base", ["wan", "ltx"])
    def test_a_generation_is_told_from_its_beginning_to_its_end(self, workers, tmp_path, base):
        ticket = workers.submit(a_job(tmp_path / "out", 8, base=base))
        assert workers.find(ticket.id) is ticket and workers.active() == [ticket]
        seen = until(workers, ticket, lambda ticket: ticket.is_over)
        assert ticket.state == "done" and ticket.message == "" and ticket.ahead == 0, ticket.message
        assert ticket.answer["out_video"] == str(tmp_path / "out" / "out_video.mp4") and ticket.answer["toy"] is True
        assert Path(ticket.answer["manifest"]).is_file()
        stages = list(dict.fromkeys(stage for _, stage, *_ in seen if stage))
        assert stages == [stage for stage in MADE if stage in stages] and stages[-1] == "decode"
        steps = [row for row in seen if row[1] == "denoise" and row[3]]
        assert len(steps) > 3 and all(total == 8 for *_, total, _, _ in steps)
        assert all(per > 0 and 0 <= eta <= 8 * per for *_, per, eta in steps)
        assert ticket.preview.startswith(b"\xff\xd8\xff")
        assert ticket.plan.startswith(f"{base} vace-tiny") and "8 steps" in ticket.plan and ticket.plan in ticket.log
        assert ticket.submitted <= ticket.started < ticket.ended and ticket.eta is None
        assert workers.active() == [] and workers.find(ticket.id) is ticket

    def test_preparing_and_both_in_one(self, workers, media, tmp_path):
        flags = {"base": "ltx", **WORDS, "steps": 2, "task": "gray", "video": f"{media}/clip.mp4"}
        flags |= {"save_dir": str(tmp_path / "out"), "pre_save_dir": str(tmp_path / "before")}
        one, both = (workers.submit(request) for request in (
            gray(media, tmp_path / "gray"), Request("pipeline", flags, "gray clip.mp4"),
        ))  # fmt: skip
        assert (30, 30) in [row[2:4] for row in until(workers, one, lambda ticket: ticket.is_over)]
        stages = [row[1] for row in until(workers, both, lambda ticket: ticket.is_over)]
        assert one.state == both.state == "done", one.message + both.message
        assert Path(one.answer["src_video"]).parent == tmp_path / "gray" and one.plan == ""
        assert "prepare" in stages and Path(both.answer["out_video"]).parent == tmp_path / "out"
        assert both.plan.startswith("ltx ") and one.log

    @pytest.mark.parametrize(("verb", "flags", "command"), [
        ("preprocess", {"task": "gray", "video": "none.mp4"}, ("preprocess", "--task", "gray", "--video", "none.mp4")),
        ("generate", {"base": "ltx", **WORDS, "src_video": "none.mp4"},
         ("ltx", "--ckpt_dir", "tiny", "--prompt", "a cat", "--src_video", "none.mp4")),
        ("pipeline", {"task": "depht", "prompt": "a cat"}, ("pipeline", "--task", "depht", "--prompt", "a cat")),
        ("generate", {"base": "wan", "prompt": "a cat", "model_name": "vace-14B", "no_download": True},
         ("wan", "--prompt", "a cat", "--model_name", "vace-14B", "--no_download")),
    ])  # fmt: skip
    def test_what_fails_says_the_line_of_the_command_line(self, workers, vace, verb, flags, command):
        (ticket,) = over(workers, Request(verb, flags, "a bad one"))
        assert ticket.state == "failed" and ticket.answer is None
        assert ticket.message == vace(*command).err.strip().splitlines()[-1]

    def test_a_fault_of_ours_is_one_line_too_and_its_trace_is_for_the_log(self, workers, caplog):
        with caplog.at_level("DEBUG", "vace"):
            (ticket,) = over(workers, Request("preprocess", {"task": "gray", "video": 3.5, "mode": ()}, "an odd one"))
        assert ticket.state == "failed" and "\n" not in ticket.message
        assert ticket.message.startswith("vace preprocess: a fault of ours, not of your input: ")
        assert any(ticket.message in record.message for record in caplog.records if record.levelname == "ERROR")
        assert any("Traceback" in record.message for record in caplog.records if record.levelname == "DEBUG")

    def test_flags_that_cannot_be_sent_fail_that_job_alone(self, workers, media, tmp_path):
        over(workers, gray(media, tmp_path / "before"))
        pid = pid_of(workers)
        odd, good = over(workers, Request("generate", {"prompt": threading.Lock()}, "odd"), gray(media, tmp_path / "g"))
        assert odd.state == "failed" and odd.message.startswith("vace wan: a fault of ours") and good.state == "done"
        assert pid_of(workers) == pid

    def test_warnings_reach_the_log_of_the_job_and_of_the_server(self, workers, media, tmp_path, caplog):
        (ticket,) = over(workers, gray(media, tmp_path / "out", label="cat"))
        line = "--label is not used"
        assert any(told.startswith(f"warning: {line}") for told in ticket.log)
        assert any(line in record.message and "gray clip.mp4" in record.message for record in caplog.records)


class TestQueue:
    def test_first_come_first_served_and_how_many_are_ahead(self, workers, media, tmp_path):
        tickets = [workers.submit(gray(media, tmp_path / str(number))) for number in range(5)]
        until(workers, tickets[0], lambda ticket: ticket.state != "waiting")
        assert [ticket.ahead for ticket in tickets] == [0, 0, 1, 2, 3] and workers.active() == tickets
        before = tickets[4].version
        workers.cancel(tickets[3].id)
        assert tickets[3].state == "cancelled" and tickets[3].message == "vace preprocess: cancelled before it began"
        assert workers.wait(tickets[4], before, SOON) != before and tickets[4].ahead <= 2
        tickets.pop(3)
        for ticket in tickets:
            until(workers, ticket, lambda ticket: ticket.is_over)
        assert [ticket.state for ticket in tickets] == ["done"] * 4
        assert all(one.ended <= next.started for one, next in zip(tickets, tickets[1:], strict=False))
        assert not (tmp_path / "3").exists()

    def test_ids_nobody_knows(self, workers):
        assert workers.find(None) is None and workers.find("x") is None
        workers.cancel("x")
        workers.cancel(None)

    def test_waiting_for_news_ends_with_its_time(self, workers, media, tmp_path):
        (ticket,) = over(workers, gray(media, tmp_path / "out"))
        start = time.monotonic()
        assert workers.wait(ticket, ticket.version, 0.2) == ticket.version and 0.1 < time.monotonic() - start < 2
        assert workers.wait(ticket, ticket.version - 1, 60) == ticket.version

    @pytest.mark.slow
    def test_an_own_device_for_each_child(self, media, tmp_path):
        two = Workers(("cpu", "cuda:99"))
        tickets = [two.submit(a_job(tmp_path / str(number), device="auto")) for number in range(2)]
        for ticket in tickets:
            until(two, ticket, lambda ticket: ticket.is_over)
        two.close()
        assert sorted(ticket.state for ticket in tickets) == ["done", "failed"]
        (failed,) = (ticket for ticket in tickets if ticket.state == "failed")
        assert failed.message.startswith("vace wan: --device cuda:99: not on this machine")


class TestCancel:
    def test_while_denoising_nothing_is_left_and_the_model_stays_loaded(self, workers, tmp_path):
        (first,) = over(workers, a_job(tmp_path / "first"))
        pid = pid_of(workers)
        ticket = workers.submit(a_job(tmp_path / "out", 1000, num_videos=2))
        until(workers, ticket, lambda ticket: ticket.stage == "denoise" and ticket.done > 1)
        start = time.monotonic()
        workers.cancel(ticket.id)
        assert ticket.state == "cancelling"
        workers.cancel(ticket.id)
        until(workers, ticket, lambda ticket: ticket.is_over)
        assert time.monotonic() - start < 5
        assert ticket.state == "cancelled" and ticket.message == "vace wan: cancelled; nothing half-written was left"
        assert not (tmp_path / "out").exists()
        (again,) = over(workers, a_job(tmp_path / "again"))
        assert again.state == "done" and pid_of(workers) == pid
        assert read(again) == read(first)
        manifest = json.loads(Path(again.answer["manifest"]).read_text())
        assert next(row["seconds"] for row in manifest["stages"] if row["name"] == "load") < 0.5

    def test_what_is_finished_of_it_stays(self, workers, tmp_path):
        ticket = workers.submit(a_job(tmp_path / "out", 30, num_videos=9))
        until(workers, ticket, lambda ticket: ticket.stage == "denoise 1" and ticket.done > 1)
        workers.cancel(ticket.id)
        until(workers, ticket, lambda ticket: ticket.is_over)
        assert ticket.state == "cancelled"
        assert [path.name for path in left_in(tmp_path / "out")] == ["manifest.json", "out_video.mp4"]

    def test_between_two_jobs_it_hits_neither_and_ahead_of_its_own_only_that(self, media, tmp_path):
        child = _Child()

        def come_of(job: str) -> str:
            while True:
                for id, event, *values in child.events(1.0):
                    if event == "over":
                        assert id == job
                        return values[0]

        def send(job: str) -> None:
            request = gray(media, tmp_path / job)
            child.send("job", job, request.verb, request.flags)

        send("a")
        assert come_of("a") == "done"
        child.send("cancel", "a")  # late
        send("b")
        os.kill(child.process.pid, signal.SIGINT)  # Ctrl-C at the terminal of the server
        child.send("cancel", "d")  # early
        child.send("cancel", "a")
        assert come_of("b") == "done"
        for job in "cde":
            send(job)
        assert [come_of(job) for job in "cde"] == ["done", "cancelled", "done"]
        assert child.end(10) == "" and not (tmp_path / "d").exists()


def read(ticket: Ticket) -> bytes:
    from media_io import frames_of

    return frames_of(ticket.answer["out_video"]).tobytes()
