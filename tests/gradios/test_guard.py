"""Who may use the server: hosts, other web sites, files by address; and what it says of wrong requests."""

from __future__ import annotations

import logging
import os
from types import SimpleNamespace

import pytest
from async_io import run_async

pytest.importorskip("gradio", reason="the extra demo is not installed")

import gradio as gr  # noqa: E402
from starlette.datastructures import Headers  # noqa: E402

from vace.errors import InputError  # noqa: E402
from vace.gradios import guard, marking  # noqa: E402
from vace.gradios.guard import refusal, rules_for  # noqa: E402
from vace.gradios.studio import Studio  # noqa: E402

LOCAL = rules_for("127.0.0.1", True)
LAN = rules_for("0.0.0.0", False)
PROXY = rules_for("127.0.0.1", True, root_path="/vace")
FRONT = rules_for("127.0.0.1", True, root_path="https://films.example/vace")
SHARE = rules_for("127.0.0.1", True, share=True)
EVIL = {"origin": "https://evil.example"}


def answer(rules, headers, method="POST", path="/gradio_api/queue/join"):
    return refusal(rules, method, path, Headers(headers))


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860", "127.0.0.1"])
def test_a_local_server_answers_its_own_machine(host):
    assert answer(LOCAL, {"host": host}) is None
    assert answer(LOCAL, {"host": host, "origin": f"http://{host}"}) is None
    assert answer(LOCAL, {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}) is None


@pytest.mark.parametrize("host", ["evil.example:7860", "127.0.0.1.evil.example", "", "[", "localhost@evil.example"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_local_server_has_no_other_name(host, method):
    assert answer(LOCAL, {"host": host, "sec-fetch-site": "same-origin"}, method)
    assert answer(LAN, {"host": host}, method) is None


@pytest.mark.parametrize("rules", [LOCAL, LAN, PROXY, FRONT, SHARE])
def test_other_sites_may_not_use_it(rules):
    host = {"host": "127.0.0.1:7860"}
    for told in (EVIL, {"origin": "null"}, {"origin": "http://localhost:3000"}, {"origin": "http://127.0.0.1:1"}):
        assert answer(rules, {**host, **told})
        assert answer(rules, {**host, **told}, "GET")
        assert answer(rules, {**host, **told, "sec-fetch-site": "cross-site"})
    assert answer(rules, {**host, "sec-fetch-site": "cross-site"})
    assert answer(rules, {**host, "sec-fetch-site": "same-site"})
    assert answer(rules, {**host, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "GET")
    assert answer(rules, {**host, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, "GET") is None


def test_a_proxy_and_the_share_link_work():
    page = {"origin": "https://films.example"}
    assert answer(PROXY, {**page, "host": "127.0.0.1:7860", "x-forwarded-host": "films.example"}) is None
    assert answer(PROXY, {**page, "host": "films.example"}) is None
    assert answer(PROXY, {**page, "host": "127.0.0.1:7860", "sec-fetch-site": "same-origin"}) is None
    assert answer(FRONT, {**page, "host": "127.0.0.1:7860"}) is None
    assert answer(SHARE, {"origin": "https://a1.gradio.live", "host": "a1.gradio.live"}) is None


def test_without_a_proxy_none_is_believed():
    assert answer(LAN, {**EVIL, "host": "192.168.0.2:7860", "x-forwarded-host": "evil.example"})
    assert answer(LAN, {"origin": "http://192.168.0.2:7860", "host": "192.168.0.2:7860"}) is None


@pytest.mark.parametrize(
    "path", ["file=http://1.1.1.1/x", "file=HTTPS://a/", "file=http%3A//a/", "file=http:/a", "file=ftp://a", "proxy=a"]
)
def test_nothing_is_fetched_from_elsewhere(path):
    assert answer(LOCAL, {"host": "localhost"}, "GET", f"/gradio_api/{path}") == guard.BY_ADDRESS


@pytest.mark.parametrize("path", ["file=/out/results/a.mp4", "file=C:/out/a.mp4", "file=/out/a=http.mp4", "info"])
def test_own_files_are_served(path):
    assert answer(LOCAL, {"host": "localhost"}, "GET", f"/gradio_api/{path}") is None


class Room:
    """A studio with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def check_room(self, coming: int) -> None:
        if coming > self.room:
            raise InputError("no room")


def asked(app, method="POST", path="/gradio_api/upload", **headers) -> tuple[int, dict, bytes]:
    """What a Guard before `app` answers."""
    told = []

    async def send(message):
        told.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    plain = [
        (name.replace("_", "-").encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()
    ]
    scope = {"type": "http", "method": method, "path": path, "headers": plain, "query_string": b""}
    run_async(guard.Guard(app, LOCAL, Room(1000))(scope, receive, send))
    return told[0]["status"], dict(told[0]["headers"]), told[1]["body"]


async def plain_app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"page"})


async def broken_app(scope, receive, send):
    raise TypeError("Integer exceeds 64-bit range")


def test_uploads_need_room():
    assert asked(plain_app, content_length="1000")[0] == 200
    assert asked(plain_app, content_length="1001")[::2] == (507, b"no room")
    assert asked(plain_app)[0] == 411
    assert asked(plain_app, origin="https://evil.example", content_length="1")[0] == 403


def test_pages_may_load_nothing_from_elsewhere():
    assert b"default-src 'self'" in asked(plain_app, "GET", "/")[1][b"content-security-policy"]


def test_what_cannot_be_answered_takes_one_line(caplog):
    assert asked(broken_app, "GET", "/")[0] == 500
    assert [record.exc_info for record in caplog.records if record.levelno > logging.DEBUG] == [None]
    assert "Integer exceeds 64-bit range" in caplog.text


@pytest.fixture
def closed(monkeypatch):
    """Gradio as `close_ways_out` leaves it, until the test is over."""
    import gradio.processing_utils as fetching
    import gradio.queueing
    import gradio.routes

    names = ("async_ssrf_protected_get", "async_ssrf_protected_download", "ssrf_protected_download")
    for name in (*names, "save_url_to_cache", "unsafe_download"):
        monkeypatch.setattr(fetching, name, getattr(fetching, name))
    for module in (gradio.queueing, gradio.routes):
        monkeypatch.setattr(module, "traceback", module.traceback)
    guard.close_ways_out()


def test_gradio_fetches_nothing(closed, tmp_path):
    part = gr.Video(render=False)
    with pytest.raises(gr.Error, match="upload them"):
        run_async(part.async_move_resource_to_block_cache("http://127.0.0.1:9/a.mp4"))
    with pytest.raises(gr.Error, match="upload them"):
        part.move_resource_to_block_cache("http://127.0.0.1:9/a.mp4")


def test_wrong_requests_take_one_line_and_faults_of_ours_all(closed, caplog, capfd):
    import gradio.queueing

    try:
        gr.Slider(0, 1, render=False).preprocess("x\n\x1b[31m")
    except Exception:
        gradio.queueing.traceback.print_exc()
    (record,) = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert record.exc_info is None and "\x1b" not in record.getMessage() and "\n" not in record.getMessage()
    caplog.clear()
    try:
        rules_for(None, True)
    except AttributeError:
        gradio.queueing.traceback.print_exc()
    assert not caplog.records[0].exc_info  # the guard's own are no page's
    caplog.clear()
    try:
        from vace.gradios.stills import empty_canvas

        empty_canvas(7)
    except Exception:
        gradio.queueing.traceback.print_exc()
    assert caplog.records[0].exc_info and not capfd.readouterr().err.count("Traceback") > 1


@pytest.mark.parametrize("value", ["x", None, [1], {}, float("nan"), float("inf"), True])
def test_what_is_no_frame_is_the_first(value):
    assert marking._index(value) == 0 and marking._index(7.0) == 7


def test_files_of_jobs_are_not_swept(tmp_path):
    class Busy:
        def active(self):
            flags = {"video": (str(used),), "layers": {"image": [used]}, "steps": 4}
            return [SimpleNamespace(request=SimpleNamespace(flags=flags))]

    studio = Studio(tmp_path, Busy(), ())
    used, old = studio.uploads / "used.mp4", studio.uploads / "old.mp4"
    for path in (used, old):
        path.write_bytes(b"x")
        os.utime(path, (1, 1))
    studio.sweep()
    assert used.exists() and not old.exists()
