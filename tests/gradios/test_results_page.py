"""What the Results page shows, and whom it trusts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

gr = pytest.importorskip("gradio", reason="the extra demo is not installed")

from vace.gradios import files  # noqa: E402
from vace.gradios.results_page import ResultsPage  # noqa: E402
from vace.media.manifest import write_json  # noqa: E402
from vace.media.video import VideoWriter  # noqa: E402
from vace.runs import SCHEMA, input_records  # noqa: E402


@pytest.fixture
def page(tmp_path):
    uploads, results = tmp_path / "uploads", tmp_path / "results"
    for folder in (uploads, results):
        folder.mkdir()
    studio = SimpleNamespace(uploads=uploads, results=results, own=lambda path: files.inside(path, (uploads, results)))
    with gr.Blocks():
        return ResultsPage(studio)


def result(page, name, prompt="a cat", **parameters):
    folder = page.studio.results / "vace-tiny" / name
    folder.mkdir(parents=True)
    with VideoWriter(folder / "out_video.mp4", 16.0, kind="result") as writer:
        writer.write(np.full((2, 40, 64, 3), 90, np.uint8))
    record = {"role": "out_video", **input_records([("", folder / "out_video.mp4")])[0], "seed": 4, "width": 64}
    record |= {"height": 40, "frames": 2, "fps": 16.0}
    command = "pipeline" if "task" in parameters else "wan"
    manifest = {"schema": SCHEMA, "command": command, "parameters": {"prompt": prompt, "base": "wan", **parameters}}
    manifest |= {"inputs": [], "outputs": [record], "model": {"name": "vace-tiny"}, "seed": 4, "versions": {}}
    write_json(folder / "manifest.json", manifest | {"stages": [{"name": "denoise", "seconds": 61.0}]})
    return folder / "out_video.mp4"


def choose(page, listed, index):
    return page._choose(listed, SimpleNamespace(index=index))


def test_an_empty_folder_says_so(page):
    pictures, listed, more, note = page._list([])
    assert (pictures, listed, more["visible"]) == ([], [], False)
    assert "Nothing yet" in note


def test_results_are_listed_with_posters_made_once(page):
    video = result(page, "one", prompt="a cat " * 30)
    ((poster, caption),) = page._list([])[0]
    assert poster.size == (64, 40)
    assert len(caption) <= 60 and caption.endswith("…")
    (made,) = page._posters.iterdir()
    before = made.stat().st_mtime_ns
    assert page._list([])[1] == [str(video)]
    assert made.stat().st_mtime_ns == before


def test_more_are_shown_on_demand(page, monkeypatch):
    monkeypatch.setattr("vace.gradios.results_page.PAGE", 2)
    for name in ("a", "b", "c"):
        result(page, name)
    _, listed, more, _ = page._list([])
    assert (len(listed), more["visible"]) == (2, True)
    _, listed, more, _ = page._list(listed)
    assert (len(listed), more["visible"]) == (3, False)


def test_a_video_that_cannot_be_read_is_left_out(page):
    result(page, "one").write_bytes(b"no video")
    assert page._list([])[1] == []


def test_a_choice_shows_the_video_and_gives_its_settings(page):
    video = result(page, "one", prompt="<b>cat</b>", task="depth", video=["/home/me/cat.mp4"], steps=3)
    chosen, shown, words, download, details, parameters, _ = choose(page, [str(video)], 0)
    assert (chosen["visible"], shown) == (True, str(video))
    assert "&lt;b&gt;cat&lt;/b&gt;" in words and "1 min 1 s" in words
    assert download == [str(video), str(video.parent / "manifest.json")]
    assert (parameters["task"], parameters["steps"], parameters["seed"]) == ("depth", 3, 4)
    assert "video" not in parameters
    assert "/home/me" not in str(details)


@pytest.mark.parametrize("index", [5, -1, "0", None, [0, 0]])
def test_a_choice_of_nothing_is_told(page, index):
    outcome = choose(page, [str(result(page, "one"))], index)
    assert "vace-error" in outcome[-1] and outcome[1] is None


def test_nothing_outside_is_opened(page, tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"x")
    for path in (str(secret), f"{page.studio.results}/../secret.mp4", "/etc/passwd"):
        outcome = choose(page, [path], 0)
        assert "vace-error" in outcome[-1]
        assert outcome[1] is None and str(tmp_path) not in outcome[-1]
