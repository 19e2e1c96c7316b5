"""Run, cancel, and how it goes: the part of a page that hands a job in and follows it, also after a reload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence

import gradio as gr
from gradio.context import Context

from vace.errors import VaceError
from vace.gradios import status
from vace.gradios.studio import Studio
from vace.gradios.workers import Ticket

log = logging.getLogger("vace")

VERBS = {"prepare": "preprocess"}  # prefix of a page -> its verb, where that is called otherwise
LOOK = 0.25  # seconds between two looks at a job
CLOCK = 4  # looks after which the time gone is told anew although nothing else changed
# Followers wait for most of their time: they must not stand in each other's queue, nor grey out what they update.
QUIET = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


class RunPanel:
    """The buttons and the status of one page, built in the current Blocks context.

    prefix: of the elements' names: #PREFIX-run, #PREFIX-cancel, #PREFIX-status.
    """

    def __init__(self, studio: Studio, prefix: str, label: str = "Run") -> None:
        self.studio, self.command = studio, f"vace {VERBS.get(prefix, prefix)}"
        with gr.Row(elem_classes="vace-run"):
            self.run = gr.Button(label, variant="primary", elem_id=f"{prefix}-run")
            self.cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id=f"{prefix}-cancel")
        with gr.Column(elem_id=f"{prefix}-status", elem_classes="vace-job"):
            # Three, so that a new second does not send the picture and the log again.
            self.status = [gr.HTML(js_on_load=None) for _ in range(3)]
        self.job = gr.BrowserState(None, storage_key=f"vace-{prefix}-job")

    def wire(
        self,
        inputs: Sequence[gr.components.Component],
        request: Callable[..., tuple[str, dict, str]],
        outputs: Sequence[gr.components.Component],
        show: Callable[[dict], Sequence],
        cleared: Sequence = (),
    ) -> None:
        """Connect it. request(*values of inputs) -> verb, its flags, the job's title; may raise VaceError.
        show(answer of the verb) -> a value or update for each of `outputs`. cleared: likewise, when a run begins, so
        that nothing of the one before stands beside it."""
        mine = [self.run, self.cancel, *self.status]
        count = len(outputs)
        cleared = list(cleared) or [gr.skip()] * count

        def start(*values):
            try:
                ticket = self.studio.submit(*request(*values))
            except Exception as error:
                return [None, *_idle([self._line(error), "", ""]), *cleared]
            return [ticket.id, *_now(ticket), *cleared]

        async def follow(job) -> AsyncIterator[list]:
            ticket = self._find(job)
            if ticket is None:  # nothing at work: the page stays as it is
                yield [gr.skip()] * (len(mine) + count)
                return
            async for updates in _looks(ticket):
                yield [*updates, *[gr.skip()] * count]
            if ticket.state == "done":
                try:
                    shown = list(await asyncio.to_thread(show, ticket.answer))
                except Exception as error:
                    yield [*_idle([self._line(error), gr.skip(), gr.skip()]), *[gr.skip()] * count]
                else:
                    yield [*[gr.skip()] * len(mine), *shown]

        def cancel(job):
            ticket = self._find(job)
            if ticket is not None:
                self.studio.workers.cancel(ticket.id)
            return _now(ticket) if ticket is not None else _idle([gr.skip()] * 3)

        followed = {"fn": follow, "inputs": self.job, "outputs": [*mine, *outputs], **QUIET}
        self.run.click(start, list(inputs), [self.job, *mine, *outputs], trigger_mode="once", **QUIET).then(**followed)
        self.cancel.click(cancel, self.job, mine, **QUIET)
        Context.root_block.load(**followed)

    def _find(self, job: object) -> Ticket | None:
        """The job that the browser remembers, if this server knows it."""
        return self.studio.workers.find(job) if isinstance(job, str) else None

    def _line(self, error: Exception) -> str:
        """What the command line would say."""
        if isinstance(error, VaceError):
            return status.error(f"{self.command}: {error}")
        log.error("%s: a fault of ours", self.command, exc_info=error)
        return status.error(f"{self.command}: a fault of ours, not of your input: {type(error).__name__}: {error}")


async def _looks(ticket: Ticket) -> AsyncIterator[list]:
    """What to show of a job, again each time it has changed, until it is over."""
    while True:
        version, is_over = ticket.version, ticket.is_over
        yield _now(ticket)
        if is_over:
            return
        for _ in range(CLOCK):
            await asyncio.sleep(LOOK)
            if ticket.version != version:
                break


def _now(ticket: Ticket) -> list:
    """Updates of run, cancel and the status."""
    parts = [status.progress(ticket), status.preview(ticket), status.log(ticket)]
    if ticket.is_over:
        return _idle(parts)
    cancel = gr.update(visible=True, interactive=ticket.state != "cancelling")
    return [gr.update(interactive=False), cancel, *parts]


def _idle(parts: list) -> list:
    return [gr.update(interactive=True), gr.update(visible=False), *parts]
