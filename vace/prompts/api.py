"""A language model behind an OpenAI-compatible address as writer: asked only when named, time-limited, tried again.

The key comes from the environment and goes nowhere but into the header of the request.
"""

from __future__ import annotations

import email.utils
import http.client
import ipaddress
import json
import logging
import os
import re
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vace.errors import InputError
from vace.prompts.extend import BY_API, Answer, PromptError

log = logging.getLogger("vace")

TIMEOUT_SECONDS = 60.0  # of one try, from looking the host up to the last byte
LONGEST_TIMEOUT = 3600.0
TRIES = 3
BACKOFF_SECONDS = 1.0  # before the second try; doubled before each further one
LONGEST_WAIT = 60.0  # that a server's Retry-After is waited for
MAX_TOKENS = 2048  # some models think within them before they answer
LARGEST_ANSWER = 4 << 20  # bytes
SAMPLING = {"temperature": 0.7, "top_p": 0.8}

DASH_HOSTS = {"China": "dashscope.aliyuncs.com", "international": "dashscope-intl.aliyuncs.com"}
DASH_PATH = "/compatible-mode/v1"
DASH_MODEL = "qwen-plus"
OWN_KEY, OPENAI_KEY = "VACE_PROMPT_API_KEY", "OPENAI_API_KEY"
DASH_KEYS = ("DASH_API_KEY", "DASHSCOPE_API_KEY")  # the original's name, then the vendor's


@dataclass(frozen=True)
class ApiWriter:
    """Writes with `model` of the API at `address` (the base: http(s)://HOST/v1). key_name: where `key` was found."""

    address: str
    model: str
    key: str | None = field(default=None, repr=False)
    key_name: str = OWN_KEY
    timeout: float = TIMEOUT_SECONDS

    @property
    def host(self) -> str:
        """All of the address that errors and manifests tell: a path may be a secret."""
        parts = urllib.parse.urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"

    def describe(self) -> dict[str, Any]:
        return {"kind": "api", "api": self.host, "model": self.model}

    def write(self, messages: Sequence[Mapping[str, str]], *, seed: int, max_tokens: int) -> Answer:
        """See `extend.Writer`. Servers take the seed as a wish: some give other words all the same.

        Raises PromptError, which says what to do, when there is no answer in TRIES tries or one that is of no use.
        """
        del max_tokens  # `clean` cuts; a limit that suits a local model would cut a thinking one off
        needed = {"model": self.model, "messages": list(messages), "stream": False}
        wishes = {**SAMPLING, "max_tokens": MAX_TOKENS, "seed": seed % 2**31}
        log.info("the prompt is extended by %s at %s", self.model, self.host)
        try:
            return self._read(self._ask({**needed, **wishes}))
        except _Refused as refusal:
            # Newer models refuse a fixed temperature or the old name of a limit: then without wishes, once.
            if not any(re.search(rf"\b{name}\b", refusal.message) for name in wishes):
                raise
            log.debug("asked again without %s", ", ".join(wishes))
            return self._read(self._ask(needed))

    def _ask(self, body: dict) -> bytes:
        """The answer's bytes, after as many tries as it takes."""
        for count in range(1, TRIES + 1):
            try:
                return _within(self.timeout, lambda: self._send(body))
            except _Status as status:
                reason, wait = self._judged(status), _retry_after(status.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException) as error:
                reason, wait = self._unreachable(error), None
            if count == TRIES:
                break
            wait = BACKOFF_SECONDS * 2 ** (count - 1) if wait is None else wait
            if wait > LONGEST_WAIT:
                raise PromptError(f"{reason}, and asks to wait {wait:.0f} s; run it again then, or {_ELSE}")
            log.warning("%s; trying again in %.0f s", reason, wait)
            time.sleep(wait)
        raise PromptError(f"{reason}, {TRIES} times; try later, or {_ELSE}")

    def _send(self, body: dict) -> bytes:
        parts = urllib.parse.urlsplit(self.address)
        request = urllib.request.Request(
            f"{self.address}/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "vace"},
            method="POST",
        )
        if self.key:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        handlers = [_NoRedirect()]
        if _is_this_machine(parts.hostname):
            handlers.append(urllib.request.ProxyHandler({}))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout) as answer:
                data = answer.read(LARGEST_ANSWER + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise _Status(error.code, error.headers, error.read(LARGEST_ANSWER)) from None
        if len(data) > LARGEST_ANSWER:
            raise PromptError(f"--prompt_api {self.host}: answered more than {LARGEST_ANSWER >> 20} MB; {_CHECK}")
        return data

    def _judged(self, status: _Status) -> str:
        """Why a status is worth another try; those that are not are raised."""
        code, told = status.code, self._told(status.data)
        start = f"--prompt_api {self.host}: HTTP {code}"
        if code in (401, 403):  # the server's words may repeat parts of the key
            given = f"the key in {self.key_name} is refused" if self.key else f"it wants a key; set {OWN_KEY}"
            raise PromptError(f"{start}: {given}{self._other_region()}; or {_ELSE}") from None
        if code == 404:
            raise PromptError(
                f"{start}: no model '{self.model}' there, or no API at that path{told}; {_CHECK} and --prompt_api_model"
            ) from None
        if 300 <= code < 400:
            raise PromptError(f"{start}: it sends on to another address; give that one to --prompt_api") from None
        if code != 429 and code < 500:
            raise _Refused(f"{start}: the request is refused{told}; {_CHECK} and --prompt_api_model", told) from None
        return f"{start}: {'too many requests, or the quota is used up' if code == 429 else 'the server fails'}{told}"

    def _told(self, data: bytes) -> str:
        """The server's own message, in brackets, short and without the key."""
        try:
            found = json.loads(data)
            found = found.get("error", found)
            text = str(found.get("message") or "") if isinstance(found, dict) else str(found)
        except (ValueError, AttributeError):
            return ""
        text = " ".join(self._without_key(text).split())[:200]
        return f" ({text})" if text else ""

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text

    def _other_region(self) -> str:
        """Keys of one region are refused in the other."""
        own = urllib.parse.urlsplit(self.address).hostname
        others = [host for host in DASH_HOSTS.values() if host != own]
        return f" (one of the other region: --prompt_api https://{others[0]}{DASH_PATH})" if len(others) == 1 else ""

    def _unreachable(self, error: BaseException) -> str:
        """Why nothing came; raised where another try cannot help."""
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        start = f"--prompt_api {self.host}"
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            raise PromptError(f"{start}: no safe connection ({cause}); {_CHECK}") from None
        if isinstance(cause, TimeoutError):
            return f"{start}: no answer within {self.timeout:g} s"
        text = self._without_key(str(getattr(cause, "strerror", None) or cause or type(cause).__name__))
        return f"{start}: cannot be reached ({text}); is the address right and the server running"

    def _read(self, data: bytes) -> Answer:
        """The text of a chat completion."""
        try:
            choice = json.loads(data)["choices"][0]
            content = choice["message"]["content"]
            if isinstance(content, list):  # parts, as some servers give them
                content = "".join(part.get("text") or "" for part in content)
            text = "" if content is None else content
            if not isinstance(text, str):
                raise TypeError(type(text).__name__)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise PromptError(f"--prompt_api {self.host}: answered what is no chat completion; {_CHECK}") from error
        return Answer(text, is_cut=choice.get("finish_reason") == "length")


_ELSE = "--use_prompt_extend plain, or --prompt_fallback to go on without"
_CHECK = "check --prompt_api (the base address of an OpenAI-compatible API, e.g. https://HOST/v1)"


class _Status(Exception):
    """An answer of another status than 200: read whole, so that its reading falls under the time limit too."""

    def __init__(self, code: int, headers: Mapping[str, str], data: bytes) -> None:
        super().__init__(code)
        self.code, self.headers, self.data = code, headers, data


class _Refused(PromptError):
    """A status 4xx: the same request again would be refused again."""

    def __init__(self, text: str, message: str) -> None:
        super().__init__(text)
        self.message = message


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would come as a GET, and the prompt would go to a host nobody named."""

    def redirect_request(self, *_: Any) -> None:
        return None


def open_api(mode: str, address: str | None, model: str | None, timeout: float = TIMEOUT_SECONDS) -> ApiWriter:
    """The writer that --prompt_api and --prompt_api_model mean; *_ds modes know DashScope's address and a model.

    Its region is that of the host in DASH_API_URL, as in the original, else China; its keys go to no other `address`.
    Raises InputError for an address or a model that is wanting or wrong, for a key that is, for a timeout that is none,
    and for a key that would go unencrypted to another machine.
    """
    is_dash = mode.endswith(BY_API)
    if not address and not is_dash:
        raise InputError("--prompt_api_model: give the address too, --prompt_api https://HOST/v1")
    if not model and not is_dash:
        raise InputError(f"--prompt_api {_origin(address)}: say which model, --prompt_api_model NAME")
    check_timeout(timeout)
    base = _checked(address or f"https://{_dash_host()}{DASH_PATH}")
    is_dashs_own = not address or urllib.parse.urlsplit(base).hostname in DASH_HOSTS.values()
    names = (OWN_KEY, *(DASH_KEYS if is_dash and is_dashs_own else ()), *((OPENAI_KEY,) if address else ()))
    name = next((name for name in names if name in os.environ), None)
    key = os.environ[name].strip() if name else ""
    writer = ApiWriter(base, model or DASH_MODEL, key or None, name or names[0], timeout)
    parts = urllib.parse.urlsplit(base)
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        raise InputError(f"{name}: holds blanks or signs that no key has; set it again")
    if key and parts.scheme == "http" and not _is_this_machine(parts.hostname):
        remedy = f"use https, or set {OWN_KEY} to nothing if the server wants no key"
        raise InputError(f"--prompt_api {writer.host}: the key in {name} would go there unencrypted; {remedy}")
    if name is None and parts.scheme == "https" and not _is_this_machine(parts.hostname):
        remedy = "to nothing, if the server wants none" if address else "and run again"
        raise InputError(f"--prompt_api {writer.host}: no key; set {' or '.join(names)} {remedy}")
    return writer


def check_timeout(seconds: float) -> None:
    """Raise InputError for a time limit that is none: not a number, endless, nothing or less, or too long."""
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise InputError(
            f"--prompt_api_timeout {seconds:g}: give a number of seconds above 0, at most {LONGEST_TIMEOUT:g}"
        )


def _dash_host() -> str:
    text = os.environ.get("DASH_API_URL", "")
    host = urllib.parse.urlsplit(text if "//" in text else f"//{text}").hostname
    return host or DASH_HOSTS["China"]


def _origin(address: str | None) -> str:
    """Scheme and host of any text, as far as it has them: nothing that could be a secret."""
    parts = urllib.parse.urlsplit(address or "")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""


def _checked(address: str) -> str:
    """The base address without the slash or the /chat/completions at its end. Raises InputError."""
    text = address.strip().rstrip("/").removesuffix("/chat/completions").rstrip("/")
    try:
        parts = urllib.parse.urlsplit(text)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole = False
    if not is_whole or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise InputError("--prompt_api: no such kind of address; give the base of the API, e.g. https://HOST/v1")
    if parts.username is not None or parts.query or parts.fragment:
        remedy = f"give the bare address, and a key in {OWN_KEY}"
        raise InputError(f"--prompt_api {_origin(text)}: holds a user, a query or a fragment; {remedy}")
    return text


def _is_this_machine(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _retry_after(asked: str | None) -> float | None:
    """Seconds that the server asks to wait, given as a number or a date; None where it does not."""
    text = (asked or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time()) if text else None
    except (ValueError, TypeError):
        return None


def _within(seconds: float, call: Callable[[], bytes]) -> bytes:
    """What `call` returns or raises; TimeoutError after `seconds`.

    A thread, because a socket's own limit counts from byte to byte, and looking a host name up has none.
    """
    outcome: list[tuple[bytes | None, BaseException | None]] = []

    def work() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(seconds)
    if not outcome:
        raise TimeoutError
    data, error = outcome[0]
    if error is not None:
        raise error
    return data
