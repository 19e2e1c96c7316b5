"""The Results page: what was made before, newest first, each with its settings to look at and to use again."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import gradio as gr
from PIL import Image

from vace.errors import VaceError
from vace.gradios import status
from vace.gradios.settings_panel import QUIET
from vace.gradios.studio import Studio
from vace.recipes import Result, materials_of, results_in, settings_of

log = logging.getLogger("vace")

PAGE = 24  # results shown at a time
POSTER_SIDE = 320  # pixels of a poster's longest side
CAPTION = 60  # characters of a prompt under its poster


class ResultsPage:
    """prefix of the elements: "results". parameters: settings and materials of the chosen result, for other pages."""

    prefix = "results"

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._posters = studio.uploads / ".posters"
        self.listed = gr.State([])  # the videos shown, so that a choice means the one that was seen
        self.parameters = gr.State(None)
        with gr.Row():
            self.refresh = gr.Button("Show the newest", size="sm", min_width=140, elem_id="results-refresh")
            self.more = gr.Button("More", size="sm", min_width=140, visible=False, elem_id="results-more")
        self.note = gr.HTML(status.note("Nothing yet."), js_on_load=None, elem_id="results-note")
        with gr.Row():
            with gr.Column(min_width=320, scale=3):
                self.gallery = gr.Gallery(
                    show_label=False, columns=4, allow_preview=False, interactive=False, object_fit="contain",
                    fit_columns=False, format="jpeg", buttons=[], height="auto", elem_id="results-gallery",
                )  # fmt: skip
            with gr.Column(min_width=320, scale=2, visible=False, elem_id="results-chosen") as self.chosen:
                self.video = gr.Video(label="Video", interactive=False, loop=True, elem_id="results-video")
                self.words = gr.HTML(js_on_load=None, elem_id="results-words")
                self.load_button = gr.Button("Load these settings", variant="primary", elem_id="results-load")
                self.download = gr.File(
                    label="Download", interactive=False, elem_id="results-download", elem_classes="vace-files"
                )
                with gr.Accordion("All that is known of it", open=False):
                    self.details = gr.JSON(show_label=False, elem_id="results-manifest")
        self._connect()

    def _connect(self) -> None:
        self.listing = listing = [self.gallery, self.listed, self.more, self.note]
        gr.on([self.refresh.click, gr.context.Context.root_block.load], self.listed_anew, None, listing, **QUIET)
        self.more.click(self._list, self.listed, listing, **QUIET)
        shown = [self.chosen, self.video, self.words, self.download, self.details, self.parameters, self.note]
        self.gallery.select(self._choose, self.listed, shown, **QUIET)

    def listed_anew(self) -> list:
        """Updates of `listing`: the newest results."""
        return self._list([])

    def _list(self, listed: list[str]) -> list:
        """The results shown so far and as many again; from the newest on."""
        wanted = len(listed) + PAGE
        found = list(itertools.islice(results_in(self.studio.results), wanted + 1))
        shown = [(poster, result) for result in found[:wanted] if (poster := self._poster(result)) is not None]
        words = f"The newest first: {len(shown)}." if shown else "Nothing yet."
        pictures = [(poster, _caption(result)) for poster, result in shown]
        videos = [str(result.video) for _, result in shown]
        return [pictures, videos, gr.update(visible=len(found) > wanted), status.note(words)]

    def _choose(self, listed: list[str], event: gr.SelectData) -> list:
        place = event.index if isinstance(event.index, int) else -1
        try:
            video = self.studio.own(listed[place]) if 0 <= place < len(listed) else None
            result = self._result(video) if video else None
            if result is None:
                raise VaceError("this result is gone; show the newest")
            parameters = settings_of(result.recipe) | materials_of(result.recipe)
        except VaceError as error:
            return [gr.update(visible=False), *[None] * 5, status.error(str(error))]
        files = [str(result.video), str(result.manifest)]
        return [gr.update(visible=True), str(video), describe(result), files, result.details, parameters, gr.skip()]

    def _result(self, video: Path) -> Result | None:
        return next((result for result in results_in(video.parent) if result.video == video), None)

    def _poster(self, result: Result) -> Image.Image | None:
        """The first frame, small; made once for each video. None where it cannot be read."""
        path = self._posters / f"{result.record['sha256'][:32]}.jpg"
        try:
            if not path.is_file():
                _write_poster(result.video, path)
            with Image.open(path) as picture:
                picture.load()
                return picture
        except (VaceError, OSError) as error:
            log.debug("no poster of %s: %s", result.video, error)
            return None


def describe(result: Result) -> str:
    """Prompt, model, seed and the like, as HTML."""
    used, record, recipe = result.details.get("used", {}), result.record, result.recipe
    rows: Mapping[str, object] = {
        "prompt": result.prompt,
        "model": result.model,
        "task": materials_of(recipe).get("task", ""),
        "seed": recipe.get("seed"),
        "size": "{width}x{height}, {frames} frames at {fps:g} fps".format(**record) if "fps" in record else "",
        "steps": used.get("steps") if isinstance(used, dict) else None,
        "made": time.strftime("%Y-%m-%d %H:%M", time.localtime(result.made)),
        "took": _took(result.details.get("stages")),
    }
    return status.table({name: str(value) for name, value in rows.items() if value not in (None, "")})


def _took(stages: object) -> str:
    """The time of all stages together, "" where the manifest does not tell."""
    rows = stages if isinstance(stages, list) else []
    seconds = [row.get("seconds") for row in rows if isinstance(row, dict)]
    known = [float(value) for value in seconds if isinstance(value, (int, float))]
    return status.span(sum(known)) if known else ""


def _caption(result: Result) -> str:
    text = " ".join(result.prompt.split())
    return text if len(text) <= CAPTION else text[: CAPTION - 1].rstrip() + "…"


def _write_poster(video: Path, path: Path) -> None:
    import numpy as np

    from vace.media.files import replacing
    from vace.media.video import VideoReader

    with VideoReader(video, allow_truncated=True) as reader:
        picture = Image.fromarray(np.asarray(reader.get([0])[0]))
    picture.thumbnail((POSTER_SIDE, POSTER_SIDE))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        picture.save(temporary, "JPEG", quality=80)
