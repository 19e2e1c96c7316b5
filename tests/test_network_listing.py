"""`vace models` on networks: every file, where it is looked for, what serves now; quickly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vace.annotators import mediapipe
from vace.annotators.networks import COLLECTION, NETWORKS
from vace.network_listing import list_networks, network_rows


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VACE_MODELS", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def row(name):
    return next(one for one in network_rows() if one["name"] == name)


def block(name):
    return next(part for part in list_networks().split("\n\n") if part.split()[0] == name)


def test_one_row_per_network_then_mediapipe():
    rows = network_rows()
    assert [one["name"] for one in rows] == [*NETWORKS, "mediapipe"]
    assert json.loads(json.dumps(rows)) == rows
    assert len({tuple(one) for one in rows}) == 1  # the same keys in each


def test_a_network_that_is_not_here(tmp_path):
    found = row("pose")
    assert (found["backend"], found["where"], found["licence"]) == ("embedded", None, "Apache-2.0")
    assert found["files"] == [
        {"path": "pose/yolox_l.onnx", "where": None, "size": 216_746_733},
        {"path": "pose/dw-ll_ucoco_384.onnx", "where": None, "size": 134_399_116},
    ]
    assert found["looked_in"] == ["models/VACE-Annotators", str(tmp_path / "hub")]
    assert found["get"] == "get it with: vace models pull pose"
    text = block("pose")
    assert "serves now  embedded: MediaPipe's pose, hand and face networks" in text
    assert "file        pose/yolox_l.onnx (216.7 MB): absent" in text
    assert "get it with: vace models pull pose" in text and "looked in   models/VACE-Annotators, " in text


def test_a_network_whose_originals_are_here(monkeypatch, tmp_path):
    monkeypatch.setenv("VACE_MODELS", str(tmp_path / "mine"))
    path = tmp_path / "mine" / COLLECTION.partition("/")[2] / NETWORKS["flow"].files[0].path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 1_200_000)
    found = row("flow")
    assert (found["backend"], found["where"]) == ("neural", str(path))
    assert found["files"] == [{"path": "flow/raft-things.pth", "where": str(path), "size": 1_200_000}]
    assert found["embedded"] == "OpenCV's DIS optical flow"
    assert found["looked_in"][:2] == ["models/VACE-Annotators", str(tmp_path / "mine" / "VACE-Annotators")]
    text = block("flow")
    assert f"serves now  neural: {path}" in text and "embedded    OpenCV's DIS optical flow" in text
    assert f"flow/raft-things.pth (1.2 MB): {path}" in text and "vace models pull" not in text


def test_a_copy_in_transformers_layout(tmp_path):
    folder = Path("models/Depth-Anything-V2-Base-hf")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert row("depthv2")["backend"] == "embedded"  # no weights in it yet
    (folder / "model.safetensors").write_bytes(b"x")
    found = row("depthv2")
    assert (found["backend"], found["where"]) == ("neural", str(folder))
    assert [copy["where"] for copy in found["hub"]] == [None, str(folder), None]
    assert f"or hub      depth-anything/Depth-Anything-V2-Base-hf: {folder}" in block("depthv2")


def test_half_of_the_files_serve_nobody():
    path = Path("models/VACE-Annotators/pose/yolox_l.onnx")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"net")
    found = row("pose")
    assert found["backend"] == "embedded" and [file["where"] for file in found["files"]] == [str(path), None]


def test_faces_say_where_to_put_them():
    assert "absent      put face/models/antelopev2/scrfd_10g_bnkps.onnx below models/VACE-Annotators" in block("face")


def test_mediapipe_files(monkeypatch, tmp_path):
    monkeypatch.setattr(mediapipe, "folders", lambda: [tmp_path])
    found = row("mediapipe")
    assert found["where"] is None and found["get"] == "get it with: vace models pull mediapipe"
    assert {file["path"] for file in found["files"]} == {f"{name}.tflite" for name in mediapipe.FILES}
    name, (_, size, _) = next(iter(mediapipe.FILES.items()))
    with (tmp_path / f"{name}.tflite").open("wb") as file:
        file.truncate(size)
    found = row("mediapipe")
    assert found["where"] is None  # the others are absent
    assert found["files"][0] == {"path": f"{name}.tflite", "where": str(tmp_path / f"{name}.tflite"), "size": size}
    assert "hand_landmark_full.tflite (5.5 MB): absent" in block("mediapipe")
    for name, (_, size, _) in mediapipe.FILES.items():
        with (tmp_path / f"{name}.tflite").open("wb") as file:
            file.truncate(size)
    assert row("mediapipe")["where"] == str(tmp_path) and "absent" not in block("mediapipe")


def test_nothing_heavy_is_loaded():
    code = (
        "import sys; from vace.network_listing import list_networks, network_rows; list_networks(); network_rows();"
        "print(sorted({'torch', 'cv2', 'transformers', 'onnxruntime', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_listing_is_quick():
    import time

    list_networks()
    start = time.perf_counter()
    list_networks()
    assert time.perf_counter() - start < 0.15
