"""The Prepare page: materials of a task to the files that a model takes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

import gradio as gr

from vace.gradios.files import taken_in
from vace.gradios.materials_panel import MaterialsPanel
from vace.gradios.run_panel import RunPanel
from vace.gradios.studio import Studio
from vace.media.manifest import read_json
from vace.runs import outputs_by_role


class PreparePage:
    """answer: what the last run gave, for `send_button`; both for whoever puts the pages together."""

    prefix = "prepare"

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Row():
            with gr.Column(min_width=320, scale=1):
                self.panel = MaterialsPanel(studio, self.prefix)
            with gr.Column(min_width=320, scale=1, elem_classes="vace-outcome"):
                self.runs = RunPanel(studio, self.prefix, "Prepare")
                self._build_results()
        self.outputs = [self.answer, self.done, self.words, self.source, self.preview, self.references, self.files,
                        self.send_button]  # fmt: skip
        cleared = [None, gr.update(visible=False), *[gr.skip()] * (len(self.outputs) - 2)]
        self.runs.wire(self.panel.inputs, self._request, self.outputs, self._shown, cleared)

    def _build_results(self) -> None:
        self.answer = gr.State(None)
        with gr.Column(visible=False, elem_id=f"{self.prefix}-results") as self.done:
            self.words = gr.HTML("", js_on_load=None, elem_id=f"{self.prefix}-words", elem_classes="vace-note")
            with gr.Row():
                self.source = self._video("Source", "source")
                self.preview = self._video("Prepared, the mask in pink", "preview")
            self.references = gr.Gallery(
                label="Reference pictures", columns=3, interactive=False, visible=False, object_fit="contain",
                elem_id=f"{self.prefix}-references", buttons=["download", "fullscreen"],
            )  # fmt: skip
            self.files = gr.File(
                label="Files to download",
                file_count="multiple",
                interactive=False,
                elem_id=f"{self.prefix}-files-made",
                elem_classes="vace-files",
            )
            self.send_button = gr.Button("Send to generation", variant="secondary", elem_id=f"{self.prefix}-send")

    def _video(self, label: str, name: str) -> gr.Video:
        return gr.Video(
            label=label, interactive=False, visible=False, min_width=240, height=280, loop=True, buttons=["download"],
            elem_id=f"{self.prefix}-{name}",
        )  # fmt: skip

    def _request(self, *values) -> tuple[str, dict, str]:
        """The job: verb, its keywords, its title."""
        task, flags = self.panel.flags(values)
        named = flags.get("video") or flags.get("src_video") or flags.get("image") or []
        return "preprocess", {"task": task, **flags}, " ".join([task.split("(")[0], *(Path(p).name for p in named[:1])])

    def _served(self, path: Path | None) -> str | None:
        """An upload where Gradio lets browsers read, in its cache: a link, no copy."""
        return str(taken_in(self.studio.own(path), Path(self.source.GRADIO_CACHE) / "sources")) if path else None

    def _shown(self, answer: Mapping) -> list:
        """Updates of `outputs`, from what the verb wrote."""
        place = Path(answer["manifest"])
        manifest = read_json(place)
        made = outputs_by_role(place.parent, manifest)
        preview = next(iter(made.get("preview", [])), None)
        source = self._served(_source(manifest)) if preview else None
        references = [str(path) for path in made.get("src_ref_images", [])]
        files = [str(path) for role, paths in made.items() for path in paths] + [str(place)]
        return [
            dict(answer),
            gr.update(visible=True),
            _words(manifest),
            gr.update(value=source, visible=source is not None, playback_position=_begins(manifest)),
            gr.update(
                value=str(preview) if preview else None,
                visible=preview is not None,
                label="Prepared, the mask in pink" if "src_mask" in made else "Prepared",
            ),
            gr.update(value=references, visible=bool(references)),
            files,
            gr.update(interactive=True),
        ]


def _source(manifest: Mapping) -> Path | None:
    """The footage that was prepared, where it is still there."""
    found = [Path(record["path"]) for record in manifest["inputs"] if record["flag"] == "video"]
    return found[0] if found and found[0].is_file() else None


def _begins(manifest: Mapping) -> float:
    """Where in the source the frames that were used begin, in seconds."""
    first = str((manifest["parameters"].get("frame_range") or [""])[0]).partition(":")[0]
    rates = [record["fps"] for record in manifest["outputs"] if record["role"] == "src_video"]
    return int(first) / rates[0] if first.isdecimal() and rates else 0


def _words(manifest: Mapping) -> str:
    """What was made, in a line."""
    clips = [r for r in manifest["outputs"] if r["role"] == "src_video"]
    parts = [f"{r['frames']} frames of {r['width']}x{r['height']} at {r['fps']:g} a second" for r in clips]
    pictures = sum(r["role"] == "src_ref_images" for r in manifest["outputs"])
    parts += [f"{pictures} reference picture{'s' * (pictures > 1)}"] if pictures else []
    seconds = sum(row["seconds"] for row in manifest.get("stages", []))
    return f"<p>{escape(' and '.join(parts))}, made in {seconds:.1f} s with seed {escape(str(manifest['seed']))}</p>"
