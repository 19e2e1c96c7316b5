"""What is marked on: the frame or the picture that belongs to each field of marks, kept in step with the files."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

import gradio as gr

from vace.errors import VaceError
from vace.gradios import form
from vace.gradios.marks import BoxField, MaskField
from vace.gradios.stills import Still, empty_canvas, frame_of, picture_of
from vace.gradios.studio import Studio
from vace.tasks import TASKS

log = logging.getLogger("vace")

WATCHED = ("task", "lead", "mode", "video", "first", "image", "size")
NOTHING = Still(0, 0)
TURNS = {"concurrency_id": "stills", "concurrency_limit": 2}  # pictures are decoded in the server


class Marking:
    """Shows the fields of `marks`, by flag, what they are marked on.

    canvas: the size of boxes without a picture. known: flag -> what it shows now; emptied by whoever puts in marks of
    another picture than the one that shows.
    """

    def __init__(self, studio: Studio, marks: Mapping[str, MaskField | BoxField], canvas: str, known: gr.State) -> None:
        self.studio, self.marks, self.canvas, self.known = studio, marks, canvas, known
        self.outputs = [self.known, *(part for mark in marks.values() for part in mark.outputs)]

    def after(self, event: Callable, widgets: Mapping[str, gr.components.Component]) -> None:
        """Look again after `event`: a listener such as `.change`, or what one has given."""
        inputs = [self.known, *(widgets[name] for name in WATCHED)]
        listener = event.then if hasattr(event, "then") else event
        quiet = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "always_last", **TURNS}
        listener(self.look, inputs, self.outputs, **quiet)

    def look(self, known: dict | None, *values) -> list:
        """Updates of `outputs`. What shows the same as before is left alone, so that marks stay."""
        given, known = dict(zip(WATCHED, values, strict=True)), dict(known or {})
        updates, stills = [], {}
        for flag, mark in self.marks.items():
            source = self._source(flag, given)
            most = self._most(flag, given)
            if source is None or known.get(flag) == (source, most):
                updates += [gr.skip()] * len(mark.outputs)
                continue
            before = known.get(flag, (("", ""), 0))[0]
            is_new = bool(before[1]) and before[:2] != source[:2]  # marks belong to what they were made on
            known[flag] = (source, most)
            if source not in stills:
                stills[source] = self._still(source)
            still = stills[source]
            updates += mark.shown(still, is_new, *([] if isinstance(mark, MaskField) else [most]))
        return [known, *updates]

    def _materials(self, given: Mapping) -> Mapping:
        if given["task"] not in TASKS:
            return {}
        return form.materials(given["task"], form.joined_mode(given["task"], given["lead"], given["mode"]))

    def _most(self, flag: str, given: Mapping) -> int:
        """How many boxes are drawn: two where the task wants two, else one."""
        item = self._materials(given).get(flag)
        return 2 if item is not None and item.low == 2 else 1

    def _source(self, flag: str, given: Mapping) -> tuple | None:
        """What `flag` is marked on: (kind, path or size, frame); None where the task does not ask for it."""
        materials = self._materials(given)
        if flag not in materials:
            return None
        if "video" in materials and not flag.startswith("ref_"):
            return ("video", given["video"] or "", _index(given["first"]))
        if "image" in materials:
            number = form.first_reference(given["task"]) if flag.startswith("ref_") else 0
            pictures = [item[0] for item in given["image"] or []][number:]
            return ("image", pictures[0] if pictures else "", 0)
        return ("canvas", given["size"] or self.canvas, 0)

    def _still(self, source: tuple) -> Still:
        kind, name, index = source
        if kind == "canvas":
            return empty_canvas(name)
        if not name:
            return NOTHING
        try:
            path = self.studio.own(name)
            return frame_of(path, index) if kind == "video" else picture_of(path)
        except VaceError as error:  # told where the file is shown, and again by the verb
            log.debug("nothing to mark on: %s", error)
            return NOTHING


def _index(value: object) -> int:
    """The number of a frame, as a browser sends it; 0 for what is none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return int(value) if is_number else 0
