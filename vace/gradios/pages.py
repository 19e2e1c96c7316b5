"""All pages in one application: tabs, and the ways between them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from vace.gradios import files
from vace.gradios.generate_page import GeneratePage
from vace.gradios.pipeline_page import PipelinePage
from vace.gradios.prepare_page import PreparePage
from vace.gradios.results_page import ResultsPage
from vace.gradios.studio import Studio

# What `vace demo PAGE` shows, in the order of the tabs.
TABS = {
    "all": ("pipeline", "prepare", "generate", "results"),
    "preprocess": ("prepare",),
    "wan": ("generate", "pipeline", "results"),
    "ltx": ("generate", "pipeline", "results"),
}
NAMES = {"pipeline": "Create", "prepare": "Prepare", "generate": "Generate", "results": "Results"}
KINDS = {"pipeline": PipelinePage, "prepare": PreparePage, "generate": GeneratePage, "results": ResultsPage}
FONTS = ("system-ui", "sans-serif")
MONO = ("ui-monospace", "monospace")
TITLE = "vace"
QUIET = {"show_progress": "hidden", "api_visibility": "private"}
HEAD = """<meta name="referrer" content="no-referrer">"""


def build(studio: Studio, page: str = "all") -> gr.Blocks:
    """The application for `vace demo PAGE`."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as app:
        gr.Markdown(_heading(studio, page), elem_id="heading")
        made: dict[str, Any] = {}
        with gr.Tabs(elem_id="tabs") as tabs:
            for name in TABS[page]:
                with gr.Tab(NAMES[name], id=name, elem_id=f"tab-{name}") as tab:
                    made[name] = KINDS[name](studio)
                    made[name].tab = tab
        _connect(tabs, made)
    app.queue(default_concurrency_limit=8)
    return app


def launch_options(studio: Studio) -> dict[str, Any]:
    """Keywords of `Blocks.launch` that keep the pages to themselves: limits, no telemetry, nothing from elsewhere."""
    # Results are served from where they lie instead of being copied first; nothing else but uploads is.
    gr.set_static_paths([studio.results, studio.processed])
    return {
        "quiet": True, "prevent_thread_lock": True, "max_file_size": studio.upload_mb * files.MB,
        "allowed_paths": [str(studio.results), str(studio.processed)], "ssr_mode": False, "strict_cors": True,
        "enable_monitoring": False, "run_history": False, "footer_links": [], "theme": _theme(),
        "css_paths": sorted(Path(__file__).parent.glob("*.css")), "head": HEAD,
    }  # fmt: skip


def _theme() -> gr.themes.Base:
    """Gradio's own in the system's fonts, its pale texts dark enough to be read."""
    theme = gr.themes.Default(primary_hue="indigo", font=FONTS, font_mono=MONO)
    pale = {"body_text_color_subdued": "*neutral_600", "block_info_text_color": "*neutral_600"}
    return theme.set(**pale, **{f"{name}_dark": "*neutral_300" for name in pale})


def _heading(studio: Studio, page: str) -> str:
    names = ", ".join(model.label for model in studio.models)
    offers = "" if page == "preprocess" else f" Models here: {names}; `vace models` says how to get others."
    return f"# {TITLE}\nMake and edit videos from clips, pictures, masks, boxes and words.{offers}"


def _connect(tabs: gr.Tabs, made: dict[str, Any]) -> None:
    """Prepared files go to Generate, settings of a result to where they are used."""
    if {"prepare", "generate"} <= made.keys():
        prepare, generate = made["prepare"], made["generate"]
        prepare.send_button.click(generate.receive, prepare.answer, generate.source_inputs, **QUIET).then(
            lambda: gr.Tabs(selected="generate"), None, tabs, **QUIET
        )
    elif "prepare" in made:
        made["prepare"].send_button.visible = False
    if "results" in made:
        results, pages = made["results"], [name for name in ("pipeline", "generate") if name in made]
        # The page first: what is loaded may take a moment to show.
        opened = results.load_button.click(_opened, results.parameters, tabs, **QUIET)
        for name in pages:
            target = made[name]
            opened.then(partial(_loaded, name, target.load), results.parameters, target.load_outputs, **QUIET)
        results.tab.select(results.listed_anew, None, results.listing, **QUIET)


def _page_of(parameters: dict | None) -> str:
    """The page that a result was made on."""
    return "pipeline" if (parameters or {}).get("task") else "generate"


def _opened(parameters: dict | None) -> gr.Tabs:
    return gr.Tabs(selected=_page_of(parameters))


def _loaded(name: str, load: Callable[[dict | None], list], parameters: dict | None) -> list:
    """Settings for the page they belong to; the other keeps its own."""
    return load(parameters if _page_of(parameters) == name else None)
