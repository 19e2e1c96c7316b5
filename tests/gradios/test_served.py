"""The served pages without a browser: what they refuse, their doors, and how they end."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
DOORS = {"preprocess_demo": "prepare", "vace_wan_demo": "generate", "vace_ltx_demo": "generate"}
LIMIT = 1  # MB of an upload


@pytest.fixture(scope="module")
def served(tmp_path_factory, serve):
    with serve(tmp_path_factory.mktemp("demo"), "--max_upload", str(LIMIT), "--no_download") as running:
        yield running


def get(url: str | urllib.request.Request) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def post(url: str, body: bytes, kind: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    return get(request)


def upload(served, name: str, content: bytes) -> tuple[int, bytes]:
    line = secrets.token_hex(8)
    head = f'--{line}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    body = head + content + f"\r\n--{line}--\r\n".encode()
    return post(f"{served.url}/gradio_api/upload", body, f"multipart/form-data; boundary={line}")


def click(served, button: str, changed: dict) -> str:
    """What the server says to a click on #BUTTON, with these values of elements, as a hand-made client sends it."""
    config = json.loads(get(f"{served.url}/config")[1])
    parts = {part["id"]: part["props"] for part in config["components"]}
    names = {props.get("elem_id"): number for number, props in parts.items() if props.get("elem_id")}
    call = next(one for one in config["dependencies"] if [names[button], "click"] in one["targets"])
    data = [changed.get(parts[number].get("elem_id"), parts[number].get("value")) for number in call["inputs"]]
    session = secrets.token_hex(6)
    body = {"data": data, "fn_index": call["id"], "session_hash": session, "trigger_id": names[button]}
    status, answer = post(f"{served.url}/gradio_api/queue/join", json.dumps(body).encode(), "application/json")
    assert status == 200, answer
    return get(f"{served.url}/gradio_api/queue/data?session_hash={session}")[1].decode()


@pytest.fixture
def secret(tmp_path):
    """A file of the server's that is no business of the pages'."""
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"only for the owner of this machine" * 10)
    return path


@pytest.mark.parametrize(
    "form", ["{}", "/{}", "..{}", "{out}/results/../../{name}", "{out}/uploads/%2e%2e/%2e%2e/{name}"]
)
def test_no_file_outside_is_served(served, secret, form):
    path = form.format(secret, out=served.out, name=secret.name)
    status, body = get(f"{served.url}/gradio_api/file={path}")
    assert status in (403, 404) and b"only for the owner" not in body


@pytest.mark.parametrize("name", ["../../evil.mp4", "..\\evil.mp4", "/evil.mp4", "a b,c;(d).mp4"])
def test_an_upload_stays_where_uploads_are(served, name):
    status, body = upload(served, name, b"x" * 100)
    (path,) = [Path(one) for one in json.loads(body)]
    assert status == 200 and path.resolve().is_relative_to(served.out / "uploads")
    assert not list(served.out.parent.glob("evil*")) and not list(served.out.glob("evil*"))


def test_a_file_above_the_limit_is_refused(served):
    status, _ = upload(served, "large.mp4", bytes(LIMIT * 1_000_000 + 500_000))
    assert status == 413
    sizes = [path.stat().st_size for path in served.out.rglob("*") if path.is_file()]
    assert max(sizes, default=0) <= LIMIT * 1_000_000


@pytest.mark.parametrize("place", ["path", "url", "climbing"])
def test_a_path_from_the_browser_is_not_opened(served, secret, place):
    climbing = served.out / "results" / ".." / ".." / secret.name
    file = {"path": str(climbing if place == "climbing" else secret), "meta": {"_type": "gradio.FileData"}}
    if place == "url":
        file = {"path": "x.mp4", "url": secret.as_uri(), "meta": {"_type": "gradio.FileData"}}
    said = click(served, "generate-run", {"generate-src_video": file, "generate-prompt": "a cat"})
    assert "only for the owner" not in said
    assert '"success":false' in said.replace(" ", "") or "not a file of these pages" in said
    assert not list((served.out / "results").glob("*/*/manifest.json"))


@pytest.mark.parametrize(
    ("path", "headers", "told"),
    [
        ("/gradio_api/file=http://127.0.0.1:9/x", {}, b"files by address"),
        ("/config", {"Host": "evil.example"}, b"for its own machine"),
        ("/config", {"Origin": "https://evil.example"}, b"other web sites"),
    ],
)
def test_others_are_refused(served, path, headers, told):
    status, body = get(urllib.request.Request(served.url + path, headers=headers))
    assert status == 403 and told in body


def test_wrong_requests_leave_one_line(served):
    log = served.out / "server.log"
    before = len(log.read_text())
    file = {"path": "http://127.0.0.1:9/a.mp4", "meta": {"_type": "gradio.FileData"}}
    assert "files by address are not taken" in click(served, "prepare-run", {"prepare-video": file})
    assert '"success":false' in click(served, "prepare-run", {"prepare-first": "x"}).replace(" ", "")
    said = log.read_text()[before:]
    assert "Traceback" not in said and len(said.splitlines()) <= 2, said


def test_joined_tasks_open_no_path(served, secret):
    changed = {"prepare-task": "more_anything", "prepare-group": "composition"}
    changed["prepare-layers"] = f"gray+image_plain(image={secret})"
    said = click(served, "prepare-run", changed)
    assert '"success":false' in said.replace(" ", "") or "not among the uploaded files" in said


@pytest.mark.parametrize("door", DOORS)
def test_doors_open_their_page_and_end_with_ctrl_c(door, tmp_path, serve):
    with serve(tmp_path, "--no_download", command=(str(ROOT / f"vace/gradios/{door}.py"),)) as running:
        ids = {part["props"].get("elem_id") for part in json.loads(get(f"{running.url}/config")[1])["components"]}
        assert f"{DOORS[door]}-run" in ids and ("pipeline-run" in ids) == (DOORS[door] == "generate")
        assert running.stop() == 130
        log = (tmp_path / "server.log").read_text()
        assert "Traceback" not in log and f"open {running.url}" in log, log


def readme_demos() -> list[list[str]]:
    lines = re.findall(r"^(?:vace demo|python vace/gradios/).*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_what_the_readme_shows_is_served(tmp_path, serve):
    lines = readme_demos()
    assert ["vace", "demo"] in lines
    for number, words in enumerate(lines):
        out = tmp_path / str(number)
        out.mkdir()
        command = ("-m", "vace.cli", *words[1:]) if words[0] == "vace" else (str(ROOT / words[1]), *words[2:])
        with serve(out, command=command) as running:
            assert b"vace" in get(running.url)[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "99999"], "--port 99999: give a whole number from 1 to 65535"),
        (["--host", ""], "--host '': is empty"),
        (["--host", "203.0.113.7"], "--host 203.0.113.7 --port 7860: cannot listen there"),
        (["--gpus", "a"], "--gpus a: give numbers of CUDA devices"),
        (["--max_upload", "0"], "--max_upload 0: give a whole number of 1 or more"),
        (["--model_name", "none"], "--model_name none: unknown model"),
        (["--device", "tpu"], "--device tpu"),
        (["generate"], "invalid choice: 'generate'"),
    ],
)
def test_what_cannot_be_served_is_told(vace, arguments, words):
    outcome = vace("demo", *arguments, "--no_download")
    assert outcome.code == 2 and words in outcome.err and "Traceback" not in outcome.err


def test_a_port_in_use_is_told(vace, served):
    port = served.url.rpartition(":")[2]
    outcome = vace("demo", "--port", port)
    assert (
        outcome.code == 2 and f"--port {port}: cannot listen there" in outcome.err and "another --port" in outcome.err
    )


def test_without_gradio_the_command_that_adds_it_is_told(vace, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    outcome = vace("demo", "--port", "7999")
    assert outcome.code == 2 and "bash scripts/setup.sh demo" in outcome.err
    assert "vace demo: Gradio is not installed" in outcome.err
