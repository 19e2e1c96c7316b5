"""A ticket as HTML."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vace.gradios import status


def ticket(**changed):
    plain = dict(state="running", stage="denoise", done=3, total=20, seconds_per=1.5, eta=26.0, preview=None, log=(),
                 plan="", message="", started=100.0, ended=106.0, ahead=0, is_over=False)  # fmt: skip
    one = SimpleNamespace(**plain | changed)
    one.is_over = one.state in ("done", "failed", "cancelled")
    return one


@pytest.mark.parametrize(("changed", "said"), [
    ({"state": "waiting", "ahead": 0}, "Waiting; yours is next"),
    ({"state": "waiting", "ahead": 1}, "Waiting; 1 job before yours"),
    ({"state": "waiting", "ahead": 4}, "Waiting; 4 jobs before yours"),
    ({"stage": ""}, "Starting"), ({"stage": "denoise"}, "Denoising"), ({"stage": "denoise 1"}, "Denoising, video 2"),
    ({"stage": "encode context"}, "Encoding the sources"), ({"stage": "something new"}, "Something new"),
    ({"state": "cancelling"}, "Stopping"), ({"state": "done"}, "Done"), ({"state": "failed"}, "It did not work"),
    ({"state": "cancelled"}, "Cancelled; nothing half-written was left"),
])  # fmt: skip
def test_words(changed, said):
    assert status.words(ticket(**changed)) == said


@pytest.mark.parametrize(("changed", "said"), [
    ({}, "step 3 of 20 · 1.5 s/step · 26 s left · 6 s so far"),
    ({"stage": "denoise 1", "seconds_per": 0.25}, "step 3 of 20 · 0.25 s/step · 26 s left · 6 s so far"),
    ({"stage": "prepare", "seconds_per": 0.05, "eta": None}, "frame 3 of 20 · 20 frames/s · 6 s so far"),
    ({"stage": "load", "total": 0, "done": 0, "seconds_per": None, "eta": None}, "6 s so far"),
    ({"state": "done"}, "6 s of work"), ({"state": "waiting"}, ""), ({"state": "cancelled", "started": None}, ""),
])  # fmt: skip
def test_numbers(changed, said):
    assert status.numbers(ticket(**changed)) == said


@pytest.mark.parametrize(("seconds", "said"), [
    (0.2, "0 s"), (-3, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (3900, "1 h 5 min"),
])  # fmt: skip
def test_span(seconds, said):
    assert status.span(seconds) == said


def test_the_bar_is_as_full_as_the_stage_is_done():
    assert 'style="width:15.0%"' in status.render(ticket())
    assert 'aria-valuenow="3"' in status.render(ticket())
    assert 'style="width:100.0%"' in status.render(ticket(done=25))
    assert "vace-bar-unknown" in status.render(ticket(total=0, done=0))
    for state in ("waiting", "done", "failed", "cancelled"):
        assert "vace-bar" not in status.render(ticket(state=state))


def test_all_text_is_escaped():
    bad = "<img src=x onerror=alert(1)>\"'&"
    shown = status.render(ticket(state="failed", message=bad, plan=bad, log=(bad, bad)))
    shown += status.render(ticket(stage=bad)) + status.note(bad) + status.table({bad: bad}) + status.error(bad)
    assert "<img" not in shown
    assert shown.count("&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;") == 9


def test_the_preview_is_there_while_it_is_at_work():
    assert 'src="data:image/jpeg;base64,/9j/"' in status.render(ticket(preview=b"\xff\xd8\xff"))
    assert "<img" not in status.render(ticket(preview=b"\xff\xd8\xff", state="done"))


def test_an_error_is_one_line():
    assert ">vace wan: --size 3: no size<" in status.error("vace wan: --size 3:\n  no size")
    assert "vace-error" in status.render(ticket(state="failed", message="vace wan: no"))
    assert "vace-error" not in status.render(ticket(state="done", message=""))
