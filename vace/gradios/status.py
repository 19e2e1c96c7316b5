"""A job as HTML: what it is doing, how far it is, its picture so far, its log. Pure: tickets in, escaped text out."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vace.gradios.workers import Ticket

# Stage of vace.watching.Watch -> what people read, and what its count counts.
STAGES = {
    "": ("Starting", "step"),
    "prepare": ("Preparing the materials", "frame"),
    "load": ("Loading the model", "step"),
    "read sources": ("Reading the sources", "frame"),
    "encode prompt": ("Encoding the prompt", "step"),
    "encode context": ("Encoding the sources", "step"),
    "write sources": ("Writing the sources", "frame"),
    "denoise": ("Denoising", "step"),
    "decode": ("Decoding the video", "frame"),
}
ENDS = {
    "done": "Done",
    "failed": "It did not work",
    "cancelled": "Cancelled; nothing half-written was left",
}
LONGEST = 600  # characters of a line
UNITS = ((3600, "h", 60, "min"), (60, "min", 1, "s"))


def render(ticket: Ticket) -> str:
    """Everything there is to see of `ticket`, as one piece of HTML."""
    return progress(ticket) + preview(ticket) + log(ticket)


def progress(ticket: Ticket) -> str:
    """Where it stands: words, bar and numbers; its error once it has failed."""
    parts = [f'<p class="vace-words" role="status">{escape(words(ticket))}</p>']
    if not ticket.is_over and ticket.state != "waiting":
        parts.append(_bar(ticket.done, ticket.total))
    parts += [f'<p class="vace-numbers">{escape(text)}</p>' for text in [numbers(ticket)] if text]
    if ticket.plan:
        parts.append(f'<p class="vace-plan">{escape(ticket.plan)}</p>')
    if ticket.state == "failed":
        parts.append(error(ticket.message))
    return f'<div class="vace-status" data-state="{escape(ticket.state)}">{"".join(parts)}</div>'


def preview(ticket: Ticket) -> str:
    """The picture the model is coming to, while it is at work; "" when there is none."""
    if not ticket.preview or ticket.is_over:
        return ""
    data = base64.b64encode(ticket.preview).decode("ascii")
    return f'<img class="vace-preview" alt="The middle frame so far" src="data:image/jpeg;base64,{data}">'


def log(ticket: Ticket) -> str:
    """Its log, folded. Folded by a checkbox, since that stays as it is when the page gets the next lines."""
    if not ticket.log:
        return ""
    lines = escape("\n".join(short(line) for line in ticket.log))
    return f'<div class="vace-log"><label><input type="checkbox"> Show the log</label><pre>{lines}</pre></div>'


def error(message: str) -> str:
    """One line that says what is wrong and what to do."""
    return f'<p class="vace-error" role="alert">{escape(short(" ".join(message.split())))}</p>'


def short(text: str) -> str:
    """`text` cut where it is longer than anybody reads: what was typed or uploaded may be told back."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def note(text: str) -> str:
    """One line that only tells."""
    return f'<p class="vace-note">{escape(text)}</p>'


def table(rows: Mapping[str, str]) -> str:
    """Names and what they stand for, line by line."""
    cells = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items())
    return f'<dl class="vace-table">{cells}</dl>'


def words(ticket: Ticket) -> str:
    """In a few words what is happening."""
    if ticket.state == "waiting":
        before = {0: "Waiting; yours is next", 1: "Waiting; 1 job before yours"}
        return before.get(ticket.ahead, f"Waiting; {ticket.ahead} jobs before yours")
    if ticket.state == "cancelling":
        return "Stopping"
    if ticket.is_over:
        return ENDS[ticket.state]
    name, _, number = ticket.stage.rpartition(" ")
    if number.isdecimal():  # "denoise 1": of the second video
        return f"{_stage(name)[0]}, video {int(number) + 1}"
    return _stage(ticket.stage)[0]


def numbers(ticket: Ticket) -> str:
    """Count, pace, time left and time gone: 'step 3 of 20 · 1.5 s/step · 26 s left · 6 s so far'."""
    now = ticket.ended or time.time()
    gone = now - (ticket.started or now)
    if ticket.is_over:
        return f"{span(gone)} of work" if ticket.started else ""
    if ticket.state == "waiting":
        return ""
    parts, unit = [], _stage(ticket.stage.rstrip(" 0123456789"))[1]
    if ticket.total:
        parts.append(f"{unit} {ticket.done} of {ticket.total}")
    if ticket.seconds_per:
        parts.append(pace(ticket.seconds_per, unit))
    if ticket.eta is not None:
        parts.append(f"{span(ticket.eta)} left")
    return " · ".join([*parts, f"{span(gone)} so far"])


def pace(seconds: float, unit: str) -> str:
    """Seconds for each, or how many a second where that reads better: '2.1 s/step', '12 frames/s'."""
    if seconds >= 1:
        return f"{seconds:.1f} s/{unit}"
    return f"{seconds:.2f} s/{unit}" if unit == "step" else f"{1 / seconds:.0f} {unit}s/s"


def span(seconds: float) -> str:
    """A length of time in at most two units: '14 s', '3 min 20 s', '1 h 5 min'."""
    whole = max(0, round(seconds))
    for size, large, part, small in UNITS:
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {large}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def _stage(name: str) -> tuple[str, str]:
    return STAGES.get(name, (name.capitalize(), "step"))


def _bar(done: int, total: int) -> str:
    """A bar as full as the stage is done; one that only moves while nobody knows."""
    if not total:
        return '<div class="vace-bar vace-bar-unknown" role="progressbar" aria-label="at work"><i></i></div>'
    share = round(100 * min(1.0, max(0.0, done / total)), 1)
    values = f'aria-valuemin="0" aria-valuemax="{total}" aria-valuenow="{done}"'
    fill = f'<i style="width:{share}%"></i>'
    return f'<div class="vace-bar" role="progressbar" aria-label="progress" {values}>{fill}</div>'
