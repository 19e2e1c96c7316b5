"""The Create page: materials and a prompt to a video, both steps in one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gradio.components import Component

from vace.bases import find_base
from vace.conditioning.sizes import parse_size
from vace.gradios.making_page import MakingPage
from vace.gradios.materials_panel import MaterialsPanel
from vace.gradios.settings_panel import usual_settings
from vace.gradios.studio import Studio


class PipelinePage(MakingPage):
    prefix, label, loaded = "pipeline", "Create", "The settings are loaded; choose the files again."

    def _build_given(self) -> list[Component]:
        canvas = _usual_size(self.studio)
        self.materials = MaterialsPanel(self.studio, self.prefix, with_words_only=True, canvas=canvas)
        return self.materials.inputs

    def _given_updates(self, parameters: Mapping) -> list:
        """A video that was made without materials leaves them as they are."""
        return self.materials.updates(parameters) if parameters.get("task") else super()._given_updates(parameters)

    def _request(self, *values) -> tuple[str, dict, str]:
        count = len(self.given)
        task, flags = self.materials.flags(values[:count])
        # What is drawn on an empty canvas is drawn at the size of the video: then the canvas says it.
        flags = {**self.settings.flags(values[count:]), "task": task, **flags}
        named = flags.get("video") or flags.get("src_video") or flags.get("image") or []
        return "pipeline", flags, " ".join([task.split("(")[0], *(Path(path).name for path in named[:1])])


def _usual_size(studio: Studio) -> str:
    """WxH of what the first model makes, unless told otherwise."""
    model = studio.models[0]
    base = find_base(model.base)
    return str(parse_size(str(usual_settings(model)["size"]), base.stride, names=base.sizes))
