"""The Prepare page: what it hands in, and what it shows of what was made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

gr = pytest.importorskip("gradio", reason="the extra demo is not installed")

from vace.gradios.prepare_page import PreparePage  # noqa: E402
from vace.gradios.studio import Studio  # noqa: E402
from vace.gradios.workers import Workers  # noqa: E402
from vace.preprocess import preprocess  # noqa: E402


@pytest.fixture
def page(tmp_path):
    workers = Workers(("cpu",))
    with gr.Blocks():
        page = PreparePage(Studio(tmp_path / "out", workers, (), device="cpu"))
    page.source.GRADIO_CACHE = str(page.studio.uploads / "cache")
    yield page
    workers.close()


def uploaded(page: PreparePage, media: Path, name: str) -> Path:
    place = page.studio.uploads / "taken" / name
    place.parent.mkdir(exist_ok=True)
    shutil.copy(media / name, place)
    return place


def test_the_job_has_task_keywords_and_a_title(page, media):
    clip = str(uploaded(page, media, "clip.mp4"))
    given = {"task": "inpainting", "mode": "bbox", "video": clip, "bbox": "1,2,30,40"}
    values = [given.get(name, getattr(widget, "value", None)) for name, widget in page.panel.widgets.items()]
    verb, flags, title = page._request(*values)
    assert (verb, title) == ("preprocess", "inpainting clip.mp4")
    assert flags == {"task": "inpainting", "mode": "bbox", "video": flags["video"], "bbox": "1,2,30,40"}


def test_a_prepared_clip_is_shown_beside_its_source(page, media):
    clip = uploaded(page, media, "clip.mp4")
    made = preprocess(
        "inpainting", mode="bbox", video=[str(clip)], bbox="1,2,30,40", frame_range=["5:14"], progress=False,
        pre_save_dir=page.studio.processed / "inpainting" / "1",
    )  # fmt: skip
    updates = page._shown(made.as_json())
    assert len(updates) == len(page.outputs)
    answer, done, words, source, preview, references, listed, send = updates
    assert answer["src_mask"] == str(made.src_mask) and done["visible"] and send["interactive"]
    assert "10 frames of 96x64 at 25 a second" in words and "seed 2025" in words
    assert Path(source["value"]).is_relative_to(page.studio.uploads / "cache")  # where Gradio may serve it from
    assert Path(source["value"]).read_bytes() == clip.read_bytes() and source["playback_position"] == 5 / 25
    assert Path(preview["value"]).name == "preview-inpainting.mp4" and not references["visible"]
    assert {Path(path).name for path in listed} == {"src_video-inpainting.mp4", "src_mask-inpainting.mp4",
                                                    "preview-inpainting.mp4", "manifest.json"}  # fmt: skip


def test_prepared_pictures_are_shown_as_a_gallery(page, media):
    pictures = [str(uploaded(page, media, name)) for name in ("image.png", "image2.png")]
    folder = page.studio.processed / "image_gray" / "1"
    made = preprocess("image_gray", image=pictures, pre_save_dir=folder, progress=False)
    _, _, words, source, preview, references, _, _ = page._shown(made.as_json())
    assert "2 reference pictures" in words
    assert not source["visible"] and not preview["visible"] and references["visible"]
    assert references["value"] == [str(path) for path in made.src_ref_images]
