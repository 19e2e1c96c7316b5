"""The Generate page: prepared files, or none, and a prompt to a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import gradio as gr
from gradio.components import Component

from vace.gradios.files import IMAGE_TYPES, MASK_TYPES, VIDEO_TYPES
from vace.gradios.making_page import MakingPage

# What is uploaded for each flag: label, endings, many or one.
SLOTS = {
    "src_video": ("Prepared video", VIDEO_TYPES, "single"),
    "src_mask": ("Mask", MASK_TYPES, "single"),
    "src_ref_images": ("References", IMAGE_TYPES, "multiple"),
}
TITLE_LENGTH = 40


class GeneratePage(MakingPage):
    """source_inputs: what `receive` gives updates for."""

    prefix, label, loaded = "generate", "Generate", "The settings are loaded; files are not."

    @property
    def source_inputs(self) -> list[Component]:
        return self.given

    def receive(self, answer: Mapping | None) -> list:
        """Updates of `source_inputs`: the files that preprocessing has made."""
        answer = answer or {}
        return [gr.update(value=answer.get(flag) or None) for flag in SLOTS]

    def _build_given(self) -> list[Component]:
        with gr.Accordion("Prepared files", open=True, elem_id=f"{self.prefix}-sources"), gr.Row():
            return [
                gr.File(
                    label=label, file_types=list(endings), file_count=count, height=170, min_width=200,
                    elem_id=f"{self.prefix}-{flag}", allow_reordering=count == "multiple",
                )
                for flag, (label, endings, count) in SLOTS.items()
            ]  # fmt: skip

    def _request(self, *values) -> tuple[str, dict, str]:
        count = len(self.given)
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
