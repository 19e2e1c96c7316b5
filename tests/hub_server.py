"""A hub on this machine: the few answers of its protocol that a download needs, with the faults a test asks for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40
LARGE = (".safetensors", ".pth", ".pt", ".onnx")  # kept by git-lfs there, so with a sha256


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Answers(BaseHTTPRequestHandler):
    """server.repositories: id -> {path: bytes}. server.published: path -> a false sha256 told instead of the true one.

    server.cut: bytes of a large file after which the connection breaks, one number for each time. server.has_ranges.
    """

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.answer(body=True)

    def answer(self, body):
        path = self.path.split("?")[0]
        if path == "/":
            return self.reply(200, b"hello", body)
        for name, files in self.server.repositories.items():
            if path.startswith(f"/api/models/{name}/tree/"):
                tree = [{"type": "file", "path": n, "size": len(d), "oid": self.oid(d)} for n, d in files.items()]
                return self.reply(200, json.dumps(tree).encode(), body)
            if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main"):
                told = {"id": name, "modelId": name, "sha": COMMIT, "siblings": self.siblings(files)}
                return self.reply(200, json.dumps(told).encode(), body)
            prefix = f"/{name}/resolve/{COMMIT}/"
            if path.startswith(prefix) and path[len(prefix) :] in files:
                return self.file(path[len(prefix) :], files[path[len(prefix) :]], body)
        return self.reply(404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def oid(self, data):
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def digest(self, name, data):
        return self.server.published.get(name) or sha256(data)

    def siblings(self, files):
        rows = []
        for name, data in files.items():
            row = {"rfilename": name, "size": len(data), "blobId": self.server.published.get(name) or self.oid(data)}
            if name.endswith(LARGE):
                row["lfs"] = {"sha256": self.digest(name, data), "size": len(data), "pointerSize": 130}
            rows.append(row)
        return rows

    def file(self, name, data, body):
        etag = self.digest(name, data) if name.endswith(LARGE) else self.oid(data)
        headers, status, asked = (
            {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))},
            200,
            self.headers["Range"],
        )
        if asked and self.server.has_ranges:
            data, status = data[int(asked.removeprefix("bytes=").partition("-")[0]) :], 206
        end = self.server.cut.pop(0) if body and self.server.cut and name.endswith(LARGE) else None
        self.reply(status, data, body, headers, etag, end)

    def reply(self, status, data, body, headers=(), etag=None, end=None):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{etag or sha256(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data[:end])
        if end is not None:
            self.close_connection = True


@contextlib.contextmanager
def serving(repositories, monkeypatch, cache):
    """A running server (see Answers) that vace takes for the hub, with an empty hub cache at `cache`."""
    import huggingface_hub.constants

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    httpd.repositories, httpd.asked, httpd.published, httpd.cut, httpd.has_ranges = repositories, [], {}, [], True
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{httpd.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("VACE_MODELS", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    try:
        yield httpd
    finally:
        httpd.shutdown()
        httpd.server_close()
