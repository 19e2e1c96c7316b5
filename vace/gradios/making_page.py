"""What the pages that make a video have in common: settings, the run, its result, and settings from a result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import gradio as gr
from gradio.components import Component

from vace.errors import VaceError, explained
from vace.gradios import status
from vace.gradios.run_panel import RunPanel
from vace.gradios.settings_panel import QUIET, SettingsPanel
from vace.gradios.studio import Studio
from vace.recipes import materials_of, read_recipe, settings_of


class ResultView:
    """The video that a run has made, its seeds, and the files to download. prefix: of #PREFIX-result and others."""

    def __init__(self, prefix: str) -> None:
        self.video = gr.Video(label="Result", interactive=False, loop=True, elem_id=f"{prefix}-result")
        self.more = gr.Gallery(
            label="Videos", visible=False, columns=3, interactive=False, elem_id=f"{prefix}-results-all"
        )
        self.words = gr.HTML(js_on_load=None, elem_id=f"{prefix}-result-words")
        self.download = gr.File(
            label="Download", visible=False, interactive=False, elem_id=f"{prefix}-download", elem_classes="vace-files"
        )
        self.outputs = [self.video, self.more, self.words, self.download]

    def show(self, answer: Mapping) -> list:
        """Updates of `outputs` for the answer of a verb that generates."""
        videos = [str(path) for path in answer.get("out_videos") or [answer["out_video"]]]
        files = [*videos, str(answer["manifest"])]
        several = gr.update(value=videos if len(videos) > 1 else [], visible=len(videos) > 1)
        words = status.note(f"seed {answer['seed']}" + ("; made by the embedded toy model" if answer["toy"] else ""))
        files = gr.update(value=files, visible=True, interactive=False)
        return [gr.update(value=videos[0], visible=True), several, words, files]

    def cleared(self) -> list:
        """Updates of `outputs` when a run begins: the preview takes their place."""
        hidden = gr.update(value=None, visible=False)
        return [hidden, hidden, "", hidden]


class MakingPage(ABC):
    """A page that makes a video. prefix: of the elements' names; label: of its button; loaded: what it says once
    settings are loaded. load_outputs: what `load` gives updates for.
    """

    prefix: str
    label: str
    loaded: str

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Row():
            with gr.Column(min_width=320):
                self.given = self._build_given()
                self.settings = SettingsPanel(studio, self.prefix)
                with gr.Accordion("Load settings", open=False, elem_id=f"{self.prefix}-load-fold"):
                    self.dropped = gr.File(
                        label="A video made here", file_types=[".mp4"], height=170, elem_id=f"{self.prefix}-load"
                    )
                self.told = gr.HTML(js_on_load=None, elem_id=f"{self.prefix}-load-note")
            with gr.Column(min_width=320, elem_classes="vace-outcome"):
                self.panel = RunPanel(studio, self.prefix, self.label)
                self.result = ResultView(self.prefix)
        self.load_outputs = [*self.given, *self.settings.inputs, self.told]
        self.panel.wire(
            [*self.given, *self.settings.inputs], self._request,
            [*self.result.outputs, *self.settings.seed_outputs],
            lambda answer: [*self.result.show(answer), *self.settings.seed_used(answer)],
            [*self.result.cleared(), *[gr.skip()] * len(self.settings.seed_outputs)],
        )  # fmt: skip
        self.dropped.upload(self._load_from, self.dropped, [*self.load_outputs, self.dropped], **QUIET)

    @abstractmethod
    def _build_given(self) -> list[Component]:
        """The widgets for what the video is made of, in order."""

    def _given_updates(self, parameters: Mapping) -> list:
        """An update for each of them, from settings that are loaded; may raise VaceError."""
        return [gr.skip()] * len(self.given)

    @abstractmethod
    def _request(self, *values) -> tuple[str, dict, str]:
        """The job: verb, its keywords, its title. values: of `given`, then of the settings."""

    def load(self, parameters: Mapping | None) -> list:
        """Updates of `load_outputs`, from what `vace.recipes` reads in a recipe; None leaves all as it is."""
        if not parameters:
            return [gr.skip()] * len(self.load_outputs)
        try:
            given = self._given_updates(parameters)
            return [*given, *self.settings.updates(parameters), status.note(self.loaded)]
        except VaceError as error:
            return self._refused(error)

    def _load_from(self, path: str | None) -> list:
        """What the dropped video's recipe says; the drop place is free again afterwards."""
        if not path:
            return [gr.skip()] * (len(self.load_outputs) + 1)
        try:
            recipe = read_recipe(self.studio.own(path))
            return [*self.load(settings_of(recipe) | materials_of(recipe)), None]
        except Exception as error:  # whatever a foreign file holds, the drop place is free again
            return [*self._refused(error), None]

    def _refused(self, error: Exception) -> Sequence:
        line = explained("settings", error)[0]
        return [*[gr.skip()] * (len(self.load_outputs) - 1), status.error(line.removeprefix("settings: "))]
