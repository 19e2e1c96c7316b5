"""The Generate page and its run panel: what becomes of uploads, of wrong input, of a job that is followed."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
from async_io import run_async

gr = pytest.importorskip("gradio", reason="the extra demo is not installed")

from vace.errors import InputError  # noqa: E402
from vace.gradios import run_panel  # noqa: E402
from vace.gradios.generate_page import SLOTS, GeneratePage  # noqa: E402
from vace.gradios.offers import Model  # noqa: E402
from vace.gradios.run_panel import RunPanel  # noqa: E402
from vace.gradios.studio import Studio  # noqa: E402

CLIP = "assets/videos/test.mp4"


@pytest.fixture
def page(tmp_path):
    models = (Model("vace-tiny", "wan", {"ckpt_dir": "tiny"}),)
    studio = Studio(tmp_path, SimpleNamespace(find=lambda id: None), models)
    with gr.Blocks():
        return GeneratePage(studio)


@pytest.fixture
def clip(page, request):
    place = page.studio.uploads / "my, clip.mp4"
    shutil.copy(request.config.rootpath / CLIP, place)
    return place


def values(page, prompt="a cat", **sources):
    first = [sources.get(flag) for flag in SLOTS]
    return [*first, prompt, *[widget.value for widget in page.settings.inputs[1:]]]


def test_an_upload_is_taken_in_under_a_plain_name(page, clip):
    verb, flags, title = page._request(*values(page, src_video=str(clip)))
    assert (verb, title, flags["prompt"], flags["ckpt_dir"]) == ("generate", "a cat", "a cat", "tiny")
    assert flags["src_video"].startswith(str(page.studio.uploads / "taken"))
    assert "," not in flags["src_video"]


def test_files_we_prepared_go_in_as_they_are(page, clip):
    own = page.studio.processed / "depth" / "a" / "src_video-depth.mp4"
    own.parent.mkdir(parents=True)
    shutil.copy(clip, own)
    assert page._request(*values(page, src_video=str(own)))[1]["src_video"] == str(own)


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.mp4", "/proc/self/environ"])
@pytest.mark.parametrize("flag", ["src_video", "src_mask", "src_ref_images"])
def test_nothing_outside_is_opened(page, path, flag):
    sent = [path] if flag == "src_ref_images" else path
    with pytest.raises(InputError):
        page._request(*values(page, **{flag: sent}))
    assert "vace-error" in page._load_from(path)[-2]


def test_a_file_of_another_kind_is_refused(page, clip):
    with pytest.raises(InputError, match="src_ref_images"):
        page._request(*values(page, src_ref_images=[str(clip)]))


def test_a_video_without_a_recipe_changes_nothing(page, clip):
    outcome = page._load_from(str(clip))
    assert len(outcome) == len(page.load_outputs) + 1
    assert "carries no recipe" in outcome[-2] and str(page.studio.out) not in outcome[-2]


def test_prepared_files_are_received(page):
    answer = {"out_video": None, "src_video": "/x/v.mp4", "src_mask": None, "src_ref_images": []}
    assert [update["value"] for update in page.receive(answer)] == ["/x/v.mp4", None, None]
    assert len(page.load(None)) == len(page.load_outputs)


def job(**changed):
    plain = {"id": "j", "state": "running", "stage": "denoise", "done": 1, "total": 2, "seconds_per": None, "eta": None,
             "preview": None, "log": (), "plan": "", "message": "", "answer": None, "started": 1.0, "ended": None,
             "ahead": 0, "version": 0, "is_over": False}  # fmt: skip
    return SimpleNamespace(**plain | changed)


def wired(monkeypatch, ticket, request=lambda *given: ("generate", {}, "t"), show=lambda answer: [answer["seed"]]):
    """The functions of a panel by name, for a studio that has that one job."""
    monkeypatch.setattr(run_panel, "LOOK", 0.001)
    cancelled = []
    workers = SimpleNamespace(find=lambda id: ticket if id == "j" else None, cancel=cancelled.append)
    studio = SimpleNamespace(workers=workers, submit=lambda *job: ticket)
    with gr.Blocks() as app:
        text = gr.Textbox()
        RunPanel(studio, "generate").wire([text], request, [text], show)
    return {one.fn.__name__: one.fn for one in app.fns.values()}, cancelled


def followed(function, id):
    async def collect():
        return [updates async for updates in function(id)]

    return run_async(collect())


def test_a_job_is_followed_to_its_result(monkeypatch):
    ticket = job()
    functions, _ = wired(monkeypatch, ticket)
    started = functions["start"]("x")
    assert started[0] == "j" and started[1]["interactive"] is False and started[2]["visible"] is True

    async def follow():
        seen = []
        async for updates in functions["follow"]("j"):
            seen.append(updates)
            ticket.state, ticket.is_over, ticket.answer, ticket.version = "done", True, {"seed": 5}, 1
        return seen

    first, last, shown = run_async(follow())
    assert "Denoising" in first[2] and "Done" in last[2]
    assert last[0]["interactive"] is True and last[1]["visible"] is False
    assert shown[-1] == 5


def test_what_cannot_be_begun_is_told_in_one_line(monkeypatch):
    def refuse(*given):
        raise InputError("--prompt: <b>empty</b>")

    functions, _ = wired(monkeypatch, job(), refuse)
    id, run, cancel, line, *_ = functions["start"]("x")
    assert id is None and run["interactive"] is True
    assert "vace generate: --prompt: &lt;b&gt;empty" in line


def test_a_fault_of_ours_is_told_as_one(monkeypatch):
    functions, _ = wired(monkeypatch, job(state="done", is_over=True, answer={}))
    assert "a fault of ours, not of your input: KeyError" in followed(functions["follow"], "j")[-1][2]


@pytest.mark.parametrize("id", [None, "", "other", 3, {"a": 1}, ["j"]])
def test_an_unknown_job_changes_nothing(monkeypatch, id):
    functions, cancelled = wired(monkeypatch, job())
    (updates,) = followed(functions["follow"], id)
    assert all(update["__type__"] == "update" and len(update) == 1 for update in updates)
    functions["cancel"](id)
    assert cancelled == []


def test_cancelling_asks_the_workers(monkeypatch):
    functions, cancelled = wired(monkeypatch, job())
    functions["cancel"]("j")
    assert cancelled == ["j"]
