"""A language model behind an address: what is sent, what is tried again, and that the key goes nowhere else."""

from __future__ import annotations

import contextlib
import email.utils
import json
import logging
import socket
import threading
import time

import pytest
from prompt_server import GOOD, Answers, said, served

from vace.errors import InputError
from vace.prompts import api
from vace.prompts.api import ApiWriter, open_api
from vace.prompts.extend import Answer, PromptError
from vace.prompts.verb import prompt

KEY = "sk-a-very-secret-key-123"
MESSAGES = [{"role": "system", "content": "rules"}, {"role": "user", "content": "a cat"}]
FLAGS = {"prompt_api_model": "tiny-chat"}


@pytest.fixture
def server(monkeypatch):
    for name in (api.OWN_KEY, api.OPENAI_KEY, *api.DASH_KEYS, "DASH_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not for this machine
    with served() as httpd:
        yield httpd


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited between tries, none of them in truth."""
    found = []
    monkeypatch.setattr(api.time, "sleep", found.append)
    return found


def write(server, key=KEY, timeout=5.0):
    return ApiWriter(server.url, "tiny-chat", key, timeout=timeout).write(MESSAGES, seed=11, max_tokens=99)


def test_what_is_sent_and_what_comes_back(server):
    assert write(server) == Answer(GOOD)
    [(path, headers, body)] = server.asked
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}" and headers["Content-Type"] == "application/json"
    assert body["model"] == "tiny-chat" and body["messages"] == MESSAGES
    assert body["seed"] == 11 and body["stream"] is False
    assert KEY not in json.dumps(body) and KEY not in path
    server.asked.clear()
    write(server, key=None)
    assert "Authorization" not in server.asked[0][1]


def test_the_verb_by_an_address(server, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with caplog.at_level(logging.DEBUG, logger="vace"):
        extended = prompt("a cat", base="ltx", prompt_api=server.url + "/", seed=2**40 + 5, **FLAGS, refs=1)
    assert extended.after == GOOD and extended.mode == "ltx_en"
    host = server.url.removesuffix("/v1")
    assert dict(extended.writer) == {"kind": "api", "api": host, "model": "tiny-chat"}
    [(_, headers, body)] = server.asked
    assert headers["Authorization"] == f"Bearer {KEY}" and body["seed"] == (2**40 + 5) % 2**31
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert "Reference pictures: 1" in body["messages"][0]["content"]
    assert body["messages"][1]["content"].endswith("a cat")
    assert [record.getMessage() for record in caplog.records] == [f"the prompt is extended by tiny-chat at {host}"]
    told = json.dumps(extended.as_record()) + caplog.text + repr(ApiWriter(server.url, "m", KEY))
    assert KEY not in told and "/v1" not in json.dumps(extended.as_record())


def test_dashscope_modes_ask_another_address_when_one_is_given(server, monkeypatch):
    monkeypatch.setenv("DASH_API_KEY", "dash")
    extended = prompt("一只猫", use_prompt_extend="wan_en_ds", prompt_api=server.url)
    assert extended.after == GOOD and extended.mode == "wan_en_ds"
    assert "Authorization" not in server.asked[0][1] and server.asked[0][2]["model"] == "qwen-plus"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    prompt("一只猫", use_prompt_extend="wan_en_ds", prompt_api=server.url)
    assert server.asked[1][1]["Authorization"] == f"Bearer {KEY}"


def test_dashscopes_key_goes_to_dashscope_alone(server, monkeypatch):
    monkeypatch.setenv("DASH_API_KEY", "dash")
    monkeypatch.setenv("DASHSCOPE_API_KEY", "too")
    for host in api.DASH_HOSTS.values():
        assert open_api("wan_en_ds", f"https://{host.upper()}/compatible-mode/v1", None).key == "dash"
    near = (
        "host.example",
        "dashscope.aliyuncs.com.example",
        "example-dashscope.aliyuncs.com",
        "x.dashscope.aliyuncs.com",
    )
    for host in near:
        with pytest.raises(InputError, match="no key; set VACE_PROMPT_API_KEY or OPENAI_API_KEY to nothing"):
            open_api("wan_en_ds", f"https://{host}/v1", None)
    assert open_api("ltx_en_ds", "http://localhost:1/v1", None).key is None
    with pytest.raises(InputError, match="no key; set VACE_PROMPT_API_KEY or OPENAI_API_KEY"):  # another mode
        open_api("wan_en", f"https://{api.DASH_HOSTS['China']}/v1", "m")
    monkeypatch.setenv("VACE_PROMPT_API_KEY", "own")
    assert open_api("wan_en_ds", "https://host.example/v1", None).key == "own"


def test_nothing_is_asked_unless_asked_for(server):
    assert prompt("a cat", use_prompt_extend="plain").after == "a cat"
    assert prompt("a cat", use_prompt_extend=None).as_record()["mode"] == "plain"
    with pytest.raises(InputError, match="--prompt_api: the prompt is not extended; add --use_prompt_extend"):
        prompt("a cat", use_prompt_extend=False, prompt_api=server.url, **FLAGS)
    assert not server.asked


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_in_trouble_is_asked_again(server, waits, status, caplog):
    server.answers = [(status, {}, b""), (status, {}, b""), (200, {}, said(GOOD))]
    assert write(server) == Answer(GOOD)
    assert len(server.asked) == 3 and waits == [1.0, 2.0]
    assert [f"HTTP {status}" in record.getMessage() for record in caplog.records] == [True, True]
    assert KEY not in caplog.text


def test_three_tries_and_no_more(server, waits):
    server.answers = [(500, {}, json.dumps({"error": {"message": f"died of {KEY}"}}).encode())]
    with pytest.raises(PromptError, match=r"HTTP 500: the server fails \(died of \*\*\*\), 3 times; try later"):
        write(server)
    assert len(server.asked) == 3 and len(waits) == 2


def test_retry_after_is_kept_to(server, waits):
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    server.answers = [(429, {"Retry-After": "7"}, b""), (503, {"Retry-After": date}, b""), (200, {}, said(GOOD))]
    assert write(server) == Answer(GOOD)
    assert waits[0] == 7.0 and 25 < waits[1] <= 30
    server.answers = [(429, {"Retry-After": "3600"}, b"")]
    with pytest.raises(PromptError, match="HTTP 429: too many requests.* asks to wait 3600 s; run it again then"):
        write(server)
    server.answers = [(429, {"Retry-After": "soon"}, b""), (200, {}, said(GOOD))]
    assert write(server) == Answer(GOOD) and waits[-1] == 1.0


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key(server, waits, status, monkeypatch):
    server.answers = [(status, {}, json.dumps({"error": {"message": f"Incorrect key {KEY[:8]}***"}}).encode())]
    monkeypatch.setenv(api.OWN_KEY, KEY)
    with pytest.raises(PromptError, match=f"HTTP {status}: the key in VACE_PROMPT_API_KEY is refused") as caught:
        prompt("a cat", prompt_api=server.url, **FLAGS)
    assert KEY[:8] not in str(caught.value) and len(server.asked) == 1 and not waits
    with pytest.raises(PromptError, match="it wants a key; set VACE_PROMPT_API_KEY"):
        write(server, key=None)


def test_a_key_of_dashscopes_other_region_is_told():
    with pytest.raises(PromptError, match="--prompt_api https://dashscope-intl.aliyuncs.com/compatible-mode/v1"):
        ApiWriter("https://dashscope.aliyuncs.com/v1", "m", KEY)._judged(api._Status(401, {}, b""))


def test_an_unknown_model(server, waits):
    server.answers = [(404, {}, json.dumps({"error": {"message": "model not found"}}).encode())]
    with pytest.raises(PromptError, match=r"no model 'tiny-chat' there.*\(model not found\).*--prompt_api_model"):
        write(server)
    assert len(server.asked) == 1 and not waits


def test_a_request_refused_is_not_sent_again(server, waits):
    server.answers = [(400, {}, b'{"error": "no such thing"}')]
    with pytest.raises(PromptError, match=r"HTTP 400: the request is refused \(no such thing\); check --prompt_api"):
        write(server)
    assert len(server.asked) == 1 and not waits


def test_a_model_that_takes_no_temperature_is_asked_without(server, waits):
    told = {"error": {"message": "Unsupported parameter: 'temperature' is not supported with this model."}}
    server.answers = [(400, {}, json.dumps(told).encode()), (200, {}, said(GOOD))]
    assert write(server) == Answer(GOOD)
    assert sorted(server.asked[1][2]) == ["messages", "model", "stream"] and not waits
    server.answers = [(400, {}, json.dumps(told).encode())]
    server.asked.clear()
    with pytest.raises(PromptError, match="HTTP 400"):
        write(server)
    assert len(server.asked) == 2


def test_the_time_limit(server, waits):
    done = threading.Event()
    server.answers = [(200, {}, lambda: done.wait(5) and b"" or said(GOOD))]
    began = time.monotonic()
    with pytest.raises(PromptError, match=r"no answer within 0.1 s, 3 times; try later"):
        write(server, timeout=0.1)
    assert time.monotonic() - began < 3
    done.set()


@pytest.mark.parametrize("status", [200, 500])
def test_a_server_that_drips_is_cut_off_too(server, waits, monkeypatch, status):
    monkeypatch.setattr(api, "TRIES", 1)

    def drip(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(40):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                threading.Event().wait(0.05)

    monkeypatch.setattr(Answers, "do_POST", drip)
    began = time.monotonic()
    with pytest.raises(PromptError, match="no answer within 0.3 s"):
        write(server, timeout=0.3)
    assert time.monotonic() - began < 1.5


def test_nobody_there(waits):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(PromptError, match="cannot be reached .*refused.*is the address right and the server running"):
        ApiWriter(f"http://127.0.0.1:{port}/v1", "m").write(MESSAGES, seed=1, max_tokens=9)
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>hello</html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": 5}}]}',
     b'{"choices": [{"text": "old"}]}', b"\xff\xfe", b"null"],
)  # fmt: skip
def test_an_answer_that_is_no_completion(server, waits, data):
    server.answers = [(200, {}, data)]
    with pytest.raises(PromptError, match="answered what is no chat completion; check --prompt_api"):
        write(server)
    assert len(server.asked) == 1


def test_kinds_of_completions(server):
    server.answers = [(200, {}, said([{"type": "text", "text": "A cat"}, {"type": "text", "text": " runs."}]))]
    assert write(server) == Answer("A cat runs.")
    server.answers = [(200, {}, said("A cat", finish_reason="length"))]
    assert write(server) == Answer("A cat", is_cut=True)
    server.answers = [(200, {}, said(None))]
    assert write(server) == Answer("")


def test_an_endless_answer(server, monkeypatch):
    monkeypatch.setattr(api, "LARGEST_ANSWER", 1 << 20)
    server.answers = [(200, {}, b" " * ((1 << 20) + 1))]
    with pytest.raises(PromptError, match="answered more than 1 MB"):
        write(server)


def test_it_is_not_sent_on_to_another_host(server, waits):
    server.answers = [(302, {"Location": server.url + "/elsewhere"}, b"")]
    with pytest.raises(PromptError, match="HTTP 302: it sends on to another address; give that one to --prompt_api"):
        write(server)
    assert len(server.asked) == 1 and not waits


def test_no_certificate_no_second_try(waits):
    error = api.urllib.error.URLError(api.ssl.SSLCertVerificationError("self-signed certificate"))
    with pytest.raises(PromptError, match="no safe connection .*self-signed"):
        ApiWriter("https://host/v1", "m")._unreachable(error)


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("http://127.0.0.1:1/v1/", "http://127.0.0.1:1/v1"),
        ("http://[::1]:8000/v1/chat/completions", "http://[::1]:8000/v1"),
        (" https://host.example/compatible-mode/v1 ", "https://host.example/compatible-mode/v1"),
    ],
)
def test_addresses(server, monkeypatch, address, base):
    monkeypatch.setenv(api.OWN_KEY, KEY)
    writer = open_api("wan_en", address, "m")
    assert writer.address == base and writer.key == KEY
    assert "/v1" not in writer.host and writer.timeout == 60


@pytest.mark.parametrize(
    "address",
    ["host/v1", "ftp://host/v1", "https://", "https:///v1", "http://ho st/v1", "http://h:99999/v1", "http://hö"],
)
def test_wrong_addresses(server, address):
    with pytest.raises(InputError, match="--prompt_api: no such kind of address; give the base of the API, e.g. https"):
        open_api("wan_en", address, "m")


@pytest.mark.parametrize(
    "address", ["https://me:secret@host/v1", "https://host/v1?key=secret", "https://host/v1#secret"]
)
def test_addresses_that_hold_secrets(server, address):
    with pytest.raises(InputError, match="--prompt_api https://host: holds a user, a query or a fragment") as caught:
        open_api("wan_en", address, "m")
    assert "secret" not in str(caught.value)


def test_which_key(server, monkeypatch):
    def found(mode="wan_en", address="https://host/v1"):
        writer = open_api(mode, address, "m")
        return writer.key, writer.key_name

    monkeypatch.setenv("OPENAI_API_KEY", "openai")
    assert found() == ("openai", "OPENAI_API_KEY")
    with pytest.raises(InputError, match="no key; set VACE_PROMPT_API_KEY or DASH_API_KEY or DASHSCOPE_API_KEY and"):
        found("wan_en_ds", None)  # one vendor's key is not sent to another unasked
    monkeypatch.setenv("DASH_API_KEY", "dash")
    assert found() == ("openai", "OPENAI_API_KEY")
    assert found("wan_en_ds", None) == ("dash", "DASH_API_KEY")
    monkeypatch.setenv("VACE_PROMPT_API_KEY", " own\n")
    assert found() == found("wan_zh_ds", None) == ("own", "VACE_PROMPT_API_KEY")
    monkeypatch.setenv("VACE_PROMPT_API_KEY", "")  # the server wants none
    assert found() == (None, "VACE_PROMPT_API_KEY")
    monkeypatch.setenv("VACE_PROMPT_API_KEY", "two\r\nlines")
    with pytest.raises(InputError, match="VACE_PROMPT_API_KEY: holds blanks or signs") as caught:
        found()
    assert "lines" not in str(caught.value)


def test_no_key_is_sent_unencrypted_to_another_machine(server, monkeypatch):
    assert open_api("wan_en", "http://192.168.1.5:8000/v1", "m").key is None
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(InputError, match="the key in OPENAI_API_KEY would go there unencrypted; use https") as caught:
        open_api("wan_en", "http://192.168.1.5:8000/v1", "m")
    assert KEY not in str(caught.value)
    assert open_api("wan_en", "http://localhost:8000/v1", "m").key == KEY
    with pytest.raises(InputError, match="unencrypted"):  # a name that only begins like this machine's
        open_api("wan_en", "http://localhost.example/v1", "m")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="no key; set VACE_PROMPT_API_KEY or OPENAI_API_KEY to nothing, if the server"):
        open_api("wan_en", "https://host/v1", "m")


def test_dashscope(server, monkeypatch):
    monkeypatch.setenv("DASH_API_KEY", KEY)
    writer = open_api("ltx_en_ds", None, None)
    assert (writer.address, writer.model) == ("https://dashscope.aliyuncs.com/compatible-mode/v1", "qwen-plus")
    for url in ("https://dashscope-intl.aliyuncs.com/api/v1", "dashscope-intl.aliyuncs.com"):
        monkeypatch.setenv("DASH_API_URL", url)
        writer = open_api("wan_zh_ds", None, "qwen-max")
        assert (writer.host, writer.model) == ("https://dashscope-intl.aliyuncs.com", "qwen-max")
        assert writer.address.endswith("/compatible-mode/v1")


def test_flags_that_lack_another(server):
    with pytest.raises(InputError, match="--prompt_api https://host: say which model, --prompt_api_model NAME"):
        open_api("wan_en", "https://host/secret/v1", None)
    with pytest.raises(InputError, match="--prompt_api_model: give the address too, --prompt_api https://HOST/v1"):
        open_api("wan_en", None, "m")
    with pytest.raises(InputError, match="--prompt_api_timeout 0"):
        open_api("wan_en", "http://localhost/v1", "m", 0)
