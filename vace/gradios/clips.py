"""A video of the user's: the file, and which of its frames are used."""

from __future__ import annotations

from html import escape
from pathlib import Path

import gradio as gr

from vace.errors import VaceError
from vace.gradios.form import range_text
from vace.gradios.stills import ClipFacts, clip_facts
from vace.gradios.studio import Studio

LABELS = ("Video", "Second video")


class ClipField:
    """One slot of videos, counted from 0. Elements #PREFIX-video, #PREFIX-first, #PREFIX-last; -2 for the second.

    inputs: the video, the first frame, the last frame, and what is known of the clip ({"path", "frames"}).
    """

    def __init__(self, studio: Studio, prefix: str, number: int) -> None:
        self.studio = studio
        end = f"-{number + 1}" if number else ""
        self.names = [f"video{end}", f"first{end}", f"last{end}", f"known{end}"]
        with gr.Column(visible=False, min_width=280) as self.group:
            self.video = gr.Video(
                label=LABELS[number], sources=["upload"], height=300, elem_classes="vace-clip",
                elem_id=f"{prefix}-video{end}",
            )  # fmt: skip
            self.note = gr.HTML("", js_on_load=None, elem_id=f"{prefix}-video-note{end}", elem_classes="vace-note")
            with gr.Row():
                ends = (("first", "First frame"), ("last", "Last frame"))
                self.first, self.last = (
                    gr.Slider(0, 1, value=0, step=1, label=label, visible=False, min_width=200,
                              elem_id=f"{prefix}-{name}{end}", buttons=[])
                    for name, label in ends
                )  # fmt: skip
        self.known = gr.State(None)
        self.inputs = [self.video, self.first, self.last, self.known]
        self.facts = [self.note, self.first, self.last, self.known]

    def loaded(self, path: str | None) -> list:
        """Updates of `facts` for another video."""
        hidden = gr.update(visible=False)
        if not path:
            return ["", hidden, hidden, None]
        try:
            facts = clip_facts(self.studio.own(path))
        except VaceError as error:
            return [_refused(path, error), hidden, hidden, None]
        last = facts.frames - 1
        slider = {"minimum": 0, "maximum": max(1, last), "visible": last > 0}
        known = {"path": path, "frames": facts.frames, "fps": facts.fps, "size": (facts.width, facts.height)}
        return [escape(facts.describe(0, last)), gr.update(value=0, **slider), gr.update(value=last, **slider), known]

    def moved(self, first: float, last: float, known: dict | None) -> str:
        """The note for another range."""
        if not known:
            return ""
        facts = ClipFacts(known["frames"], known["fps"], *known["size"])
        if not all(isinstance(end, (int, float)) and abs(end) < 1e9 for end in (first, last)):
            return ""  # from no slider of ours
        if first > last:
            return '<p class="vace-error">The first frame comes after the last</p>'
        return escape(facts.describe(int(first), int(last)))

    @staticmethod
    def range(path: str | None, first: float, last: float, known: dict | None) -> str:
        """FIRST:LAST of the video as --frame_range has it, ":" for all of it."""
        if not path or not known or known["path"] != path:
            return ":"
        return range_text(first, last, known["frames"])


def _refused(path: str, error: VaceError) -> str:
    """One line on a file that cannot be used; the server's folders are nobody's business."""
    line = str(error).replace(str(Path(path).resolve()), Path(path).name).replace(path, Path(path).name)
    return f'<p class="vace-error" role="alert">--video {escape(line)}</p>'
