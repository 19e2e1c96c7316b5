"""Who may use the server, and for what: other web sites, other hosts, files by address and full disks are refused."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio.to_thread
import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from vace.errors import InputError
from vace.gradios.studio import Studio

log = logging.getLogger("vace")

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SAFE = ("GET", "HEAD")
# Other servers, fetched for a visitor; C:/ is none.
AWAY = re.compile(r"/(?:file=\s*[a-z][a-z0-9+.-]+:/|proxy=)", re.IGNORECASE)
BY_ADDRESS = "files by address are not taken; upload them"
# Nothing is fetched from elsewhere, whatever a page shows. Gradio needs its inline scripts and styles.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'"


@dataclass(frozen=True)
class Rules:
    """hosts: names the server may be called by, empty for any. fronts: hosts of a proxy in front of it.

    is_proxied: X-Forwarded-Host is believed, which without a proxy anyone could write.
    """

    hosts: frozenset[str] = frozenset()
    fronts: frozenset[str] = frozenset()
    is_proxied: bool = False


def rules_for(host: str, is_local: bool, share: bool = False, root_path: str | None = None) -> Rules:
    """What holds for a server on `host`. is_local: only this machine reaches that by itself."""
    is_proxied = share or bool(root_path)
    hosts = LOOPBACK | {host.lower()} if is_local and not is_proxied else frozenset()
    front = urlsplit(root_path or "").netloc
    return Rules(frozenset(hosts), frozenset({_plain(front)} if front else ()), is_proxied)


def refusal(rules: Rules, method: str, path: str, headers: Headers) -> str | None:
    """Why a request is answered by 403, None for one that may pass. path: decoded once, as a route gets it."""
    if AWAY.search(path) or AWAY.search(unquote(path)):
        return BY_ADDRESS
    host = headers.get("host", "")
    if rules.hosts and _name(host) not in rules.hosts:  # a foreign name that was made to lead here
        return "this server is for its own machine; open it as 127.0.0.1 or localhost"
    # The browser's own word, which no page can forge, and which holds behind a proxy that tells no host.
    site = headers.get("sec-fetch-site")
    if site in ("same-origin", "none"):
        return None
    if site and (method not in SAFE or (site == "cross-site" and headers.get("sec-fetch-mode") != "navigate")):
        return "other web sites may not use this server"
    origin = headers.get("origin")
    if origin is None:
        return None
    own = {_plain(host), *rules.fronts}
    if rules.is_proxied:
        own.add(_plain(headers.get("x-forwarded-host", "").partition(",")[0].strip()))
    return None if _plain(_netloc(origin)) in own - {""} else "other web sites may not use this server"


def _netloc(address: str) -> str:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""


def _plain(netloc: str) -> str:
    """HOST or HOST:PORT without the ports that go without saying."""
    return re.sub(r":(80|443)$", "", netloc.lower())


def _name(host: str) -> str:
    """The host without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class Guard:
    """ASGI: answers what may not pass, and hands on the rest."""

    def __init__(self, app: Any, rules: Rules, studio: Studio) -> None:
        self.app, self.rules, self.studio = app, rules, studio
        self._coming = 0  # bytes of uploads on their way

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        reason = refusal(self.rules, scope["method"], path, headers)
        if reason:
            await PlainTextResponse(reason, 403)(scope, receive, send)
        elif scope["method"] == "POST" and path.rstrip("/").endswith("/upload"):
            await self._upload(scope, receive, send, headers)
        else:
            await self._pass(scope, receive, send)

    async def _upload(self, scope: dict, receive: Any, send: Any, headers: Headers) -> None:
        """Only where there is room for it, and for those that come at the same time."""
        length = headers.get("content-length", "")
        if not length.isdecimal():
            await PlainTextResponse("an upload says how long it is; send Content-Length", 411)(scope, receive, send)
            return
        self._coming += int(length)
        try:
            await anyio.to_thread.run_sync(self.studio.check_room, self._coming)
        except InputError as error:
            await PlainTextResponse(str(error), 507)(scope, receive, send)
        else:
            await self._pass(scope, receive, send)
        finally:
            self._coming -= int(length)

    async def _pass(self, scope: dict, receive: Any, send: Any) -> None:
        is_begun = False

        async def answer(message: dict) -> None:
            nonlocal is_begun
            if message["type"] == "http.response.start":
                is_begun = True
                message.setdefault("headers", [])
                MutableHeaders(scope=message)["Content-Security-Policy"] = POLICY
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except Exception as error:
            if is_begun:
                raise
            tell(error)
            await PlainTextResponse("this request cannot be answered", 500)(scope, receive, send)


def middleware(rules: Rules, studio: Studio) -> list[Middleware]:
    return [Middleware(Guard, rules=rules, studio=studio)]


def close_ways_out() -> None:
    """Have Gradio fetch nothing for visitors, and not fill the terminal with what they ask wrongly."""
    import gradio.processing_utils as fetching
    import gradio.queueing
    import gradio.routes

    # Gradio takes an address wherever a browser may name a file, and fetches it: from inside the server's network.
    # There is no option against that. Its parts look these up here each time.
    fetching.async_ssrf_protected_get = fetching.async_ssrf_protected_download = _refused_later
    fetching.ssrf_protected_download = fetching.save_url_to_cache = fetching.unsafe_download = _refused
    # It prints what every request raises, by traceback.print_exc; there is no option against that either.
    quiet = SimpleNamespace(**{**vars(traceback), "print_exc": lambda *_, **__: tell(sys.exc_info()[1])})
    gradio.queueing.traceback = gradio.routes.traceback = quiet


def _refused(*_: object, **__: object) -> str:
    raise gr.Error(BY_ADDRESS, print_exception=False)


async def _refused_later(*_: object, **__: object) -> Any:
    _refused()


def tell(error: BaseException | None) -> None:
    """One line on a request that never got as far as code of ours: it was wrong. Faults of ours are told in full."""
    if error is None:
        return
    if _is_ours(error.__traceback__):
        log.error("a fault of ours", exc_info=error)
        return
    words = "".join(mark if mark.isprintable() else " " for mark in str(error))
    log.warning("a request was refused: %s: %s", type(error).__name__, " ".join(words.split())[:200])
    log.debug("how it came to that", exc_info=error)


def _is_ours(trace: TracebackType | None) -> bool:
    names = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(trace))
    return any(name.startswith("vace.") and name != __name__ for name in names)
