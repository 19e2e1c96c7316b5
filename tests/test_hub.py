"""The hub: found out to be unreachable at once, downloads of only what is needed, against a server on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vace import hub
from vace.errors import MissingWeights

FILES = {
    "config.json": b"{}",
    "diffusion_pytorch_model.safetensors": b"weights",
    "google/umt5-xxl/spiece.model": b"words",
    "assets/figure.png": b"a picture nobody needs",
}
COMMIT = "c" * 40


class Hub(BaseHTTPRequestHandler):
    """The few answers of the hub's protocol that a snapshot needs."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.server.asked.append(self.path)
        self.answer(body=True)

    def answer(self, body):
        path = self.path.split("?")[0]
        if path == "/":
            return self.reply(200, b"hello", body)
        if path.startswith("/api/models/org/name/tree/"):
            tree = [{"type": "file", "path": n, "size": len(d), "oid": "0" * 40} for n, d in FILES.items()]
            return self.reply(200, json.dumps(tree).encode(), body)
        if path.startswith("/api/models/org/name"):
            files = [{"rfilename": name, "size": len(data)} for name, data in FILES.items()]
            info = {"id": "org/name", "modelId": "org/name", "sha": COMMIT, "siblings": files}
            return self.reply(200, json.dumps(info).encode(), body)
        prefix = f"/org/name/resolve/{COMMIT}/"
        if path.startswith(prefix) and path[len(prefix) :] in FILES:
            return self.reply(200, FILES[path[len(prefix) :]], body)
        return self.reply(404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def reply(self, status, data, body, headers=()):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def server(monkeypatch, tmp_path):
    import huggingface_hub.constants

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    httpd.asked = []
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{httpd.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield httpd
    httpd.shutdown()


def test_only_what_is_needed_is_fetched_after_one_line_with_the_size(server, caplog):
    with caplog.at_level(logging.INFO, logger="vace"):
        folder = hub.download("org/name")
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {name for name in FILES if not name.endswith(".png")}
    assert [record.getMessage() for record in caplog.records if record.name == "vace"] == [
        "downloading org/name: 3 files, 0.0 GB"
    ]
    assert hub.cached_folder("org/name") == folder


def test_an_absent_repository_is_told_with_the_command(server):
    with pytest.raises(MissingWeights, match="org/other: the download failed .*hf download org/other"):
        hub.download("org/other")


def test_an_unreachable_hub_is_found_out_fast_and_once(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert hub.PROBE_SECONDS < 5
    hits = hub.reachable.cache_info().hits
    for _ in range(3):
        with pytest.raises(MissingWeights, match="http://127.0.0.1:9 cannot be reached from here; get it with: hf"):
            hub.download("org/name")
    assert hub.reachable.cache_info().hits >= hits + 2


def test_a_silent_server_is_given_up(monkeypatch):
    """A server that accepts and never answers must not hold the run."""
    import socket

    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert hub.reachable(f"http://127.0.0.1:{silent.getsockname()[1]}") is False


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_offline_by_environment(monkeypatch, value, offline):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert hub.is_offline() is offline
    assert hub.is_offline(no_download=True)
