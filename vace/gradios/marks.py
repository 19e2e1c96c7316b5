"""Marking a picture in the browser: a mask painted on it (paint.js), boxes drawn on it (boxes.js). Widgets only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from vace.gradios.files import MASK_TYPES
from vace.gradios.form import FIELDS
from vace.gradios.stills import Still

HERE = Path(__file__).parent
STAGE = (
    '<div class="vace-marks"><p class="vace-no-picture">{0}</p><div class="vace-stage" hidden>'
    '<img alt="" draggable="false">{1}</div><div class="vace-tools" hidden>{2}</div></div>'
)
DRAWN = '<svg role="img" aria-label="boxes"></svg>'
PAINTED = '<canvas aria-label="mask"></canvas>'
PENS = (
    '<button type="button" data-paint aria-pressed="true">Paint</button>'
    '<button type="button" data-erase aria-pressed="false">Erase</button>'
    '<button type="button" data-undo disabled>Undo</button><button type="button" data-clear disabled>Clear</button>'
    '<label>Brush <input type="range" data-size min="1" max="40" value="8" aria-label="size of the brush"></label>'
)
FIRST = "Give the {0} first: then it is marked here."
MOVE = ("start", "end")  # what two boxes are


class MaskField:
    """A mask: painted on the picture, or uploaded.

    flag: "mask" or "ref_mask"; kind: what it is painted on, in words. Elements #PREFIX-FLAG, #PREFIX-FLAG-file.
    """

    def __init__(self, prefix: str, flag: str, kind: str) -> None:
        self.flag = flag
        with gr.Column(visible=False, elem_classes="vace-mark", elem_id=f"{prefix}-{flag}-group") as self.group:
            label = f"**{FIELDS[flag].label}**: paint the place or the thing that is meant"
            gr.Markdown(label, elem_classes="vace-field-label")
            self.paint = gr.HTML(
                "", html_template=STAGE.format(FIRST.format(kind), PAINTED, PENS), elem_id=f"{prefix}-{flag}",
                js_on_load=(HERE / "paint.js").read_text(encoding="utf-8"), picture="", width=0, height=0,
            )  # fmt: skip
            self.file = gr.File(
                label="Or upload it, white on black", file_count="multiple", height=130,
                file_types=list(MASK_TYPES), elem_id=f"{prefix}-{flag}-file",
            )  # fmt: skip
        self.inputs: list[gr.components.Component] = [self.paint, self.file]

    @property
    def outputs(self) -> list:
        """What `shown` gives updates for."""
        return [self.paint]

    def shown(self, still: Still, is_new: bool) -> list:
        """The update of `paint` for another picture, or another frame of the same clip: then what is painted stays."""
        cleared = {"value": ""} if is_new else {}
        return [gr.update(picture=still.picture, width=still.width, height=still.height, **cleared)]


class BoxField:
    """Boxes: drawn on the picture, and as numbers; each follows the other.

    flag: "bbox" or "ref_bbox"; kind: what they are drawn on, in words. Elements #PREFIX-boxes (or -ref_boxes) and
    #PREFIX-FLAG.
    """

    def __init__(self, prefix: str, flag: str, kind: str) -> None:
        self.flag = flag
        with gr.Column(visible=False, elem_classes="vace-mark", elem_id=f"{prefix}-{flag}-group") as self.group:
            gr.Markdown(f"**{FIELDS[flag].label}**: draw with the mouse or a finger", elem_classes="vace-field-label")
            self.canvas = gr.HTML(
                "", html_template=STAGE.format(FIRST.format(kind), DRAWN, ""),
                js_on_load=(HERE / "boxes.js").read_text(encoding="utf-8"), picture="", width=0, height=0, most=1,
                names=[], elem_id=f"{prefix}-{flag.replace('bbox', 'boxes')}",
            )  # fmt: skip
            self.text = gr.Textbox(
                label="In numbers: x1,y1,x2,y2 in pixels of the source", lines=1, elem_id=f"{prefix}-{flag}"
            )
        self.inputs: list[gr.components.Component] = [self.text]
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        self.canvas.drawn(None, self.canvas, self.text, js="(boxes) => boxes", **quiet)
        self.text.change(None, self.text, self.canvas, js="(text) => text", **quiet)

    @property
    def outputs(self) -> list:
        """What `shown` gives updates for."""
        return [self.canvas, self.text]

    def shown(self, still: Still, is_new: bool, most: int) -> list:
        """Updates for another picture, on which up to `most` boxes are drawn, or another frame of the same clip."""
        names: Sequence[str] = MOVE if most == 2 else ()
        cleared = {"value": ""} if is_new else {}
        picture = {"picture": still.picture, "width": still.width, "height": still.height}
        canvas = gr.update(**picture, most=most, names=list(names), **cleared)
        return [canvas, gr.update(**cleared) if cleared else gr.skip()]
