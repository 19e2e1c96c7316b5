"""A language model behind an address of this machine: says what it is told to, and notes what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = "A gray cat leaps over a low fence."


def said(content, **choice):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}, **choice}]}).encode()


class Answers(BaseHTTPRequestHandler):
    """server.answers: (status, headers, body) in turn, the last one for ever; a callable body is called first."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers), json.loads(body)))
        status, headers, data = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        if callable(data):
            data = data()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):  # whoever asked may be gone
            self.wfile.write(data)


@contextlib.contextmanager
def served() -> Iterator[ThreadingHTTPServer]:
    """A server with `asked`, `answers` and `url`; it answers GOOD until told otherwise."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    httpd.asked, httpd.answers = [], [(200, {}, said(GOOD))]
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/v1"
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()
