"""The Create page: materials and a prompt to a video, both steps in one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gradio as gr

from vace.bases import find_base
from vace.conditioning.sizes import parse_size
from vace.errors import VaceError
from vace.gradios import status
from vace.gradios.generate_page import ResultView
from vace.gradios.materials_panel import MaterialsPanel
from vace.gradios.run_panel import RunPanel
from vace.gradios.settings_panel import QUIET, SettingsPanel, usual_settings
from vace.gradios.studio import Studio
from vace.recipes import materials_of, read_recipe, settings_of


class PipelinePage:
    """prefix of the elements: "pipeline". load_outputs: what `load` gives updates for."""

    prefix = "pipeline"

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Row():
            with gr.Column(min_width=320):
                self.materials = MaterialsPanel(studio, self.prefix, with_words_only=True, canvas=_usual_size(studio))
                self.settings = SettingsPanel(studio, self.prefix)
                self.dropped = gr.File(
                    label="Load settings from a video of ours", file_types=[".mp4"], height=150,
                    elem_id=f"{self.prefix}-load",
                )  # fmt: skip
                self.told = gr.HTML(js_on_load=None, elem_id=f"{self.prefix}-load-note")
            with gr.Column(min_width=320, elem_classes="vace-outcome"):
                self.panel = RunPanel(studio, self.prefix, "Create")
                self.result = ResultView(self.prefix)
        self.load_outputs = [*self.materials.inputs, *self.settings.inputs, self.told]
        self.panel.wire(
            [*self.materials.inputs, *self.settings.inputs], self._request,
            [*self.result.outputs, *self.settings.seed_outputs],
            lambda answer: [*self.result.show(answer), *self.settings.seed_used(answer)],
        )  # fmt: skip
        self.dropped.upload(self._load_from, self.dropped, [*self.load_outputs, self.dropped], **QUIET)

    def load(self, parameters: Mapping | None) -> list:
        """Updates of `load_outputs`, from what `vace.recipes` reads in a recipe; all that was made without materials
        leaves those as they are."""
        if not parameters:
            return [gr.skip()] * len(self.load_outputs)
        materials = [gr.skip()] * len(self.materials.inputs)
        if parameters.get("task"):
            try:
                materials = self.materials.updates(parameters)
            except VaceError as error:
                return [*[gr.skip()] * (len(self.load_outputs) - 1), status.error(str(error))]
        note = status.note("The settings are loaded; choose the files again.")
        return [*materials, *self.settings.updates(parameters), note]

    def _request(self, *values) -> tuple[str, dict, str]:
        count = len(self.materials.inputs)
        task, flags = self.materials.flags(values[:count])
        # What is drawn on an empty canvas is drawn at the size of the video: then the canvas says it.
        flags = {**self.settings.flags(values[count:]), "task": task, **flags}
        named = flags.get("video") or flags.get("src_video") or flags.get("image") or []
        return "pipeline", flags, " ".join([task.split("(")[0], *(Path(path).name for path in named[:1])])

    def _load_from(self, path: str | None) -> list:
        """What the dropped video's recipe says; the drop place is free again afterwards."""
        if not path:
            return [gr.skip()] * (len(self.load_outputs) + 1)
        try:
            recipe = read_recipe(self.studio.own(path))
            return [*self.load(settings_of(recipe) | materials_of(recipe)), None]
        except VaceError as error:
            return [*[gr.skip()] * (len(self.load_outputs) - 1), status.error(str(error)), None]


def _usual_size(studio: Studio) -> str:
    """WxH of what the first model makes, unless told otherwise."""
    model = studio.models[0]
    base = find_base(model.base)
    return str(parse_size(str(usual_settings(model)["size"]), base.stride, names=base.sizes))
