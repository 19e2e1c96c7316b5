"""The hub: found out to be unreachable at once, downloads of only what is needed, resumed and checked."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from hub_server import serving

from vace import hub
from vace.errors import MissingWeights, OutputError

WEIGHTS = bytes(range(256)) * 8000  # two blocks of a download
FILES = {
    "config.json": b"{}",
    "diffusion_pytorch_model.safetensors": WEIGHTS,
    "google/umt5-xxl/spiece.model": b"words",
    "assets/figure.png": b"a picture nobody needs",
    "part/net.pt": b"network" * 9,
}
MODEL = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def server(monkeypatch, tmp_path):
    with serving({"org/name": dict(FILES)}, monkeypatch, tmp_path / "hub") as httpd:
        yield httpd


def asked_for(server, name):
    """The ranges in which a file was asked for."""
    return [range_ for path, range_ in server.asked if path.split("?")[0].endswith(f"/{name}")]


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_what_is_needed_is_fetched_after_one_line_with_the_size(server, caplog):
    with caplog.at_level(logging.INFO, logger="vace"):
        folder = hub.download("org/name")
    assert names(folder) == {"config.json", MODEL, "google/umt5-xxl/spiece.model"}
    assert [record.getMessage() for record in caplog.records if record.name == "vace"] == [
        "downloading org/name: 3 files, 2.0 MB"
    ]
    assert hub.cached_folder("org/name") == folder
    assert (folder / MODEL).read_bytes() == WEIGHTS
    assert asked_for(server, MODEL) == [None]  # by us alone: the library finds it in its cache


def test_files_into_a_folder_of_ones_own(server, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="vace"):
        folder = hub.download("org/name", ("part/net.pt",), folder=tmp_path / "mine", note="licence: MIT")
    assert folder == tmp_path / "mine"
    assert names(folder) == {"part/net.pt"}
    assert (folder / "part" / "net.pt").read_bytes() == FILES["part/net.pt"]
    assert caplog.records[-1].getMessage() == "downloading org/name: 1 file, 0.0 MB; licence: MIT"
    assert hub.cached_folder("org/name") is None


@pytest.mark.parametrize("folder", ["mine", None])
def test_a_download_broken_off_goes_on_where_it_was(server, tmp_path, folder):
    target = tmp_path / folder if folder else None
    server.cut = [1_500_000, 0, 0, 0]
    with pytest.raises(MissingWeights, match="broken off at 1.5 MB of 2.0 MB.*run it again to go on"):
        hub.download("org/name", (MODEL,), folder=target)
    assert not list(tmp_path.rglob(MODEL))  # nothing half-written under its name
    server.asked.clear()
    found = hub.download("org/name", (MODEL,), folder=target)
    assert asked_for(server, MODEL) == ["bytes=1500000-"]
    assert (found / MODEL).read_bytes() == WEIGHTS
    assert not list(tmp_path.rglob("*.part*"))


def test_a_broken_connection_is_made_anew_within_a_run(server, tmp_path):
    server.cut = [100, 0, 900_000]
    found = hub.download("org/name", (MODEL,), folder=tmp_path)
    assert asked_for(server, MODEL) == [None, "bytes=100-", "bytes=100-", "bytes=900100-"]
    assert (found / MODEL).read_bytes() == WEIGHTS


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.has_ranges, server.cut = False, [500_000]
    found = hub.download("org/name", (MODEL,), folder=tmp_path)
    assert (found / MODEL).read_bytes() == WEIGHTS


@pytest.mark.parametrize("folder", ["mine", None])
def test_what_is_not_published_is_removed_and_refused(server, tmp_path, folder):
    server.published[MODEL] = "0" * 64
    with pytest.raises(MissingWeights, match="not what the hub publishes .its checksum differs.*run it again"):
        hub.download("org/name", (MODEL,), folder=tmp_path / folder if folder else None)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1000]


def test_small_files_are_checked_too(server, tmp_path):
    server.published["config.json"] = "0" * 40
    with pytest.raises(MissingWeights, match="config.json: what came is not"):
        hub.download("org/name", ("config.json",), folder=tmp_path)


def test_what_is_there_stays(server, tmp_path):
    hub.download("org/name", ("part/net.pt",), folder=tmp_path)
    server.asked.clear()
    hub.download("org/name", ("part/net.pt",), folder=tmp_path)
    assert not asked_for(server, "net.pt")
    (tmp_path / "part" / "net.pt").write_bytes(b"weights of my own")
    with pytest.raises(MissingWeights, match="net.pt: not the file that the hub publishes; move it away"):
        hub.download("org/name", ("part/net.pt",), folder=tmp_path)
    assert (tmp_path / "part" / "net.pt").read_bytes() == b"weights of my own"


def test_no_room_is_told_before(server, tmp_path, monkeypatch):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(OutputError, match="2.0 MB to come and 1.0 MB free"):
        hub.download("org/name", (MODEL,), folder=tmp_path)
    assert not asked_for(server, MODEL)


def test_what_has_come_already_needs_no_room(server, tmp_path, monkeypatch):
    server.cut = [1_500_000, 0, 0, 0]
    with pytest.raises(MissingWeights, match="broken off"):
        hub.download("org/name", (MODEL,), folder=tmp_path)
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    assert (hub.download("org/name", (MODEL,), folder=tmp_path) / MODEL).read_bytes() == WEIGHTS


def test_an_absent_repository_is_told_with_the_command(server):
    with pytest.raises(MissingWeights, match="org/other: the download failed .HTTP 404.*hf download org/other"):
        hub.download("org/other")


def test_an_absent_file_is_told_by_name(server):
    with pytest.raises(
        MissingWeights, match="holds no flow/raft.pth there; get it with: hf download org/name part/net.pt flow"
    ):
        hub.download("org/name", ("part/net.pt", "flow/raft.pth"))
    with pytest.raises(MissingWeights, match=r"holds no \*.bin there"):
        hub.download("org/name", ("*.bin",))


@pytest.mark.parametrize("path", ["../../evil.json", "/etc/evil.json"])
def test_a_path_out_of_the_folder_is_refused(server, tmp_path, path):
    server.repositories["org/name"][path] = b"{}"
    with pytest.raises(MissingWeights, match=f"a file called {path}"):
        hub.download("org/name", ("*.json",), folder=tmp_path / "in")
    assert not list(tmp_path.rglob("evil.json"))


def test_the_token_goes_to_the_hub_alone(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "secret")
    seen = []
    monkeypatch.setattr(hub.urllib.request, "urlopen", lambda request, timeout: seen.append(request))
    hub._opened("http://127.0.0.1/x", 5)
    assert seen[0].get_header("Range") == "bytes=5-"
    assert seen[0].unredirected_hdrs == {"Authorization": "Bearer secret"}
    assert "Authorization" not in seen[0].headers


def test_sizes_are_readable():
    assert [hub.size_text(size) for size in (0, 17_173_511, 1_341_395_338)] == ["0.0 MB", "17.2 MB", "1.3 GB"]


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
