"""The Generate page: prepared files, or none, and a prompt to a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import gradio as gr

from vace.errors import VaceError
from vace.gradios import status
from vace.gradios.files import IMAGE_TYPES, MASK_TYPES, VIDEO_TYPES
from vace.gradios.run_panel import RunPanel
from vace.gradios.settings_panel import QUIET, SettingsPanel
from vace.gradios.studio import Studio
from vace.recipes import read_recipe, settings_of

# What is uploaded for each flag: label, endings, many or one.
SLOTS = {
    "src_video": ("Prepared video", VIDEO_TYPES, "single"),
    "src_mask": ("Mask", MASK_TYPES, "single"),
    "src_ref_images": ("References", IMAGE_TYPES, "multiple"),
}
TITLE_LENGTH = 40


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
        return [videos[0], several, words, gr.update(value=files, visible=True, interactive=False)]


class GeneratePage:
    """prefix of the elements: "generate". source_inputs: what `receive` gives updates for; load_outputs: `load`."""

    prefix = "generate"

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Row():
            with gr.Column(min_width=320):
                self.slots = self._build_sources()
                self.settings = SettingsPanel(studio, self.prefix)
                self.dropped = gr.File(
                    label="Load settings from a video of ours", file_types=[".mp4"], height=170,
                    elem_id=f"{self.prefix}-load",
                )  # fmt: skip
                self.told = gr.HTML(js_on_load=None, elem_id=f"{self.prefix}-load-note")
            with gr.Column(min_width=320, elem_classes="vace-outcome"):
                self.panel = RunPanel(studio, self.prefix, "Generate")
                self.result = ResultView(self.prefix)
        self.source_inputs = list(self.slots.values())
        self.load_outputs = [*self.settings.inputs, self.told]
        self.panel.wire(
            [*self.source_inputs, *self.settings.inputs], self._request,
            [*self.result.outputs, *self.settings.seed_outputs],
            lambda answer: [*self.result.show(answer), *self.settings.seed_used(answer)],
        )  # fmt: skip
        self.dropped.upload(self._load_from, self.dropped, [*self.load_outputs, self.dropped], **QUIET)

    def receive(self, answer: Mapping | None) -> list:
        """Updates of `source_inputs`: the files that preprocessing has made."""
        answer = answer or {}
        return [gr.update(value=answer.get(flag) or None) for flag in SLOTS]

    def load(self, parameters: Mapping | None) -> list:
        """Updates of `load_outputs`, from what `vace.recipes.settings_of` gives."""
        if not parameters:
            return [gr.skip()] * len(self.load_outputs)
        return [*self.settings.updates(parameters), status.note("The settings are loaded; files are not.")]

    def _build_sources(self) -> dict[str, gr.File]:
        with gr.Accordion("Prepared files", open=True, elem_id=f"{self.prefix}-sources"):
            with gr.Row():
                return {
                    flag: gr.File(
                        label=label, file_types=list(endings), file_count=count, height=170, min_width=200,
                        elem_id=f"{self.prefix}-{flag}", allow_reordering=count == "multiple",
                    )
                    for flag, (label, endings, count) in SLOTS.items()
                }  # fmt: skip

    def _request(self, *values) -> tuple[str, dict, str]:
        count = len(self.source_inputs)
        flags = self.settings.flags(values[count:])
        flags |= self._sources(dict(zip(SLOTS, values[:count], strict=True)))
        return "generate", flags, " ".join(flags["prompt"].split())[:TITLE_LENGTH]

    def _sources(self, given: Mapping[str, object]) -> dict:
        """The uploads as keywords of the verb: the very files we made where they are that, beside their manifest."""
        flags = {}
        for flag, (_, endings, _) in SLOTS.items():
            paths = given[flag] if isinstance(given[flag], list) else [given[flag]]
            taken = [self._taken(path, endings, flag) for path in paths if path]
            if taken:
                flags[flag] = [str(path) for path in taken] if flag == "src_ref_images" else str(taken[0])
        return flags

    def _taken(self, path: str, endings: Sequence[str], flag: str) -> Path:
        return self.studio.prepared_twin(self.studio.take(path, tuple(endings), flag))

    def _load_from(self, path: str | None) -> list:
        """What the dropped video's recipe says; the drop place is free again afterwards."""
        if not path:
            return [gr.skip()] * (len(self.load_outputs) + 1)
        try:
            return [*self.load(settings_of(read_recipe(self.studio.own(path)))), None]
        except VaceError as error:
            return [*[gr.skip()] * len(self.settings.inputs), status.error(str(error)), None]
