"""`vace models pull`: what goes where, resumed and checked, and its refusals."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path

import pytest
from hub_server import serving

from vace import pull as verb
from vace.annotators import mediapipe
from vace.annotators.networks import COLLECTION, NETWORKS, find_weights
from vace.errors import InputError, MissingWeights
from vace.models.checkpoints import MODELS
from vace.pull import pull

WAN = MODELS["vace-1.3B"][0]
COPY = {"config.json": b"{}", "model.safetensors": b"weights" * 99, "vocab.txt": b"words", "pytorch_model.bin": b"no"}
BASE = {
    "config.json": b"{}",
    "diffusion_pytorch_model.safetensors": b"transformer" * 100,
    "Wan2.1_VAE.pth": b"vae",
    "google/umt5-xxl/tokenizer.json": b"{}",
    "assets/figure.png": b"a picture",
}


@pytest.fixture
def server(monkeypatch, tmp_path):
    originals = {file.path: f"{row.name} of {file.path}".encode() for row in NETWORKS.values() for file in row.files}
    repositories = {COLLECTION: originals, WAN: dict(BASE)}
    repositories |= {row.hub[0]: dict(COPY) for row in NETWORKS.values() if row.hub}
    monkeypatch.chdir(tmp_path)
    with serving(repositories, monkeypatch, tmp_path / "hub") as httpd:
        yield httpd


def paths(answer):
    return [file["path"] for file in answer["files"]]


def test_originals_go_to_models(server, caplog):
    with caplog.at_level(logging.INFO, logger="vace"):
        answer = pull("pose")
    assert answer == json.loads(json.dumps(answer))
    assert answer["name"] == "pose" and answer["path"] == "models/VACE-Annotators"
    assert paths(answer) == ["pose/dw-ll_ucoco_384.onnx", "pose/yolox_l.onnx"]
    for file in answer["files"]:
        content = (Path(answer["path"]) / file["path"]).read_bytes()
        assert content == f"pose of {file['path']}".encode() and file["size"] == len(content)
    assert caplog.messages == ["downloading ali-vilab/VACE-Annotators: 2 files, 0.0 MB; licence: Apache-2.0"]
    assert find_weights(NETWORKS["pose"]).layout == "original"
    assert not [path for path in Path("models").rglob("*") if path.suffix in (".part", ".lock")]


def test_the_folder_named_is_used_instead(server, monkeypatch, tmp_path):
    monkeypatch.setenv("VACE_MODELS", str(tmp_path / "weights"))
    answer = pull("Flow")
    assert answer["path"] == str(tmp_path / "weights" / "VACE-Annotators") and not Path("models").exists()
    assert find_weights(NETWORKS["flow"]).files[0].read_bytes() == b"flow of flow/raft-things.pth"


def test_transformers_copies_go_to_the_hub_cache(server, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="vace"):
        answer = pull("depthv2")
    assert paths(answer) == ["config.json", "model.safetensors", "vocab.txt"]
    assert answer["path"].startswith(str(tmp_path / "hub"))
    assert find_weights(NETWORKS["depthv2"]).folder == Path(answer["path"])
    (message,) = caplog.messages
    assert message.startswith(
        "downloading depth-anything/Depth-Anything-V2-Large-hf: 3 files, 0.0 MB; licence: CC-BY-NC"
    )


def test_base_models_go_to_models_under_their_name(server):
    answer = pull("vace-1.3b")
    assert (answer["name"], answer["path"]) == ("vace-1.3B", "models/Wan2.1-VACE-1.3B")
    assert paths(answer) == sorted(BASE.keys() - {"assets/figure.png"})


def test_pulling_again_asks_but_does_not_fetch(server):
    first = pull("salient")
    server.asked.clear()
    assert pull("salient") == first
    assert not [path for path, _ in server.asked if "/resolve/" in path]


def test_a_pull_broken_off_goes_on(server):
    server.repositories[COLLECTION]["flow/raft-things.pth"] = data = bytes(range(256)) * 40
    server.cut = [6000, 0, 0, 0]
    with pytest.raises(MissingWeights, match="broken off.*run it again to go on"):
        pull("flow")
    assert find_weights(NETWORKS["flow"]) is None
    server.asked.clear()
    pull("flow")
    assert [range_ for path, range_ in server.asked if "/resolve/" in path] == ["bytes=6000-"]
    assert Path("models/VACE-Annotators/flow/raft-things.pth").read_bytes() == data


def test_a_wrong_checksum_is_removed_and_told(server):
    path = NETWORKS["scribble"].files[0].path
    server.published[path] = hashlib.sha256(b"other weights").hexdigest()
    with pytest.raises(MissingWeights, match=f"{path}: what came is not what the hub publishes"):
        pull("scribble")
    assert not [path for path in Path("models").rglob("*") if path.suffix in (".pth", ".part")]


def test_ones_own_file_is_not_replaced(server):
    path = Path("models/VACE-Annotators/salient/u2net.pt")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"trained at home")
    with pytest.raises(MissingWeights, match="u2net.pt: not the file that the hub publishes; move it away"):
        pull("salient")
    assert path.read_bytes() == b"trained at home"


def test_face_says_where_to_put_the_files(server):
    with pytest.raises(
        MissingWeights, match="face: its licence .non-commercial.*put face/models/.*below models/VACE-A"
    ):
        pull("face")
    assert not server.asked


def test_mediapipe_is_told_where_it_lies(monkeypatch, tmp_path):
    for name in mediapipe.FILES:
        (tmp_path / f"{name}.tflite").write_bytes(b"net")
    monkeypatch.setattr(mediapipe, "absent", lambda: [])
    monkeypatch.setattr(mediapipe, "fetch", lambda: tmp_path)
    answer = pull("mediapipe")
    assert answer["path"] == str(tmp_path) and paths(answer) == sorted(f"{name}.tflite" for name in mediapipe.FILES)


def test_all_are_the_networks_and_the_faces_are_left_out(server, monkeypatch, caplog):
    monkeypatch.setattr(verb, "_mediapipe", lambda: {"name": "mediapipe", "path": "", "files": []})
    answer = pull("all")
    assert [part["name"] for part in answer["parts"]] == ["mediapipe", *(name for name in NETWORKS if name != "face")]
    assert list(answer["left_out"]) == ["face"] and "put face/" in answer["left_out"]["face"]
    assert "face is left out: non-commercial" in caplog.text
    assert all(find_weights(NETWORKS[part["name"]]) for part in answer["parts"][1:])
    assert not Path("models/Wan2.1-VACE-1.3B").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [("depht", "did you mean 'depth'"), ("zzz", "known: all, depth, depthv2, detect"), ("", "known: all")],
)
def test_unknown_names_are_told(name, told):
    with pytest.raises(InputError, match=f"vace models pull {name}: there are no such weights; ({told})"):
        pull(name)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("depth", "hf download Intel/dpt-hybrid-midas --local-dir models/dpt-hybrid-midas"),
        ("flow", "hf download ali-vilab/VACE-Annotators flow/raft-things.pth --local-dir models/VACE-Annotators"),
        ("vace-14B", "hf download Wan-AI/Wan2.1-VACE-14B --local-dir models/Wan2.1-VACE-14B"),
    ],
)
@pytest.mark.parametrize("why", ["offline", "unreachable"])
def test_without_a_hub_it_fails_at_once_with_the_command(monkeypatch, tmp_path, name, command, why):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if why == "offline" else "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(
        MissingWeights, match="HF_HUB_OFFLINE is set" if why == "offline" else "cannot be reached"
    ) as caught:
        pull(name)
    assert command in str(caught.value) and time.monotonic() - start < 5
    assert not Path("models").exists()


def test_mediapipe_offline(monkeypatch):
    monkeypatch.setattr(mediapipe, "absent", lambda: ["palm_detection_full"])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        MissingWeights, match="mediapipe: not fetched, HF_HUB_OFFLINE is set.*vace models pull mediapipe"
    ):
        pull("mediapipe")


def test_a_repository_that_cannot_be_loaded_is_told(server):
    server.repositories["Intel/dpt-hybrid-midas"] = {"config.json": b"{}"}
    with pytest.raises(MissingWeights, match="depth: Intel/dpt-hybrid-midas holds nothing that can be loaded"):
        pull("depth")
