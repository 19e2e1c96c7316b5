"""Which backend serves as a network: by what is on the machine, what was asked for, and what may be fetched."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import serving

from vace import hub
from vace.annotators import networks
from vace.annotators.networks import (
    COLLECTION,
    NETWORKS,
    Choice,
    Networks,
    Weights,
    collection_folders,
    fetch_weights,
    find_weights,
    how_to_get,
    roots,
)
from vace.errors import InputError, MissingWeights


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """An empty folder to work in, an empty hub cache, no other folder of models, offline."""
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VACE_MODELS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def put_originals(folder: Path, row, without: int = 0) -> list[Path]:
    paths = [folder / file.path for file in row.files]
    for path in paths[: len(paths) - without]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"tensors")
    return paths


def put_copy(folder: Path) -> Path:
    """A repository in transformers' layout."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"tensors")
    return folder


def put_in_cache(repository: str, cache: Path) -> Path:
    base = cache / f"models--{repository.replace('/', '--')}"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("abc")
    return base / "snapshots" / "abc"


def test_every_row_is_whole():
    assert set(NETWORKS) == {"depth", "depthv2", "flow", "pose", "scribble", "salient", "segment", "detect", "face"}
    for row in NETWORKS.values():
        for target in (row.neural, row.embedded):
            module, _, name = target.partition(":")
            path = Path(networks.__file__).parent / "nets" / f"{module.rpartition('.')[2]}.py"
            assert f"class {name}" in path.read_text(), target
        assert row.files and row.licence and row.stand_in
        assert all(not Path(file.path).is_absolute() and file.size > 1_000_000 for file in row.files)
        assert all(repository.count("/") == 1 for repository in row.hub)
    assert {row.name for row in NETWORKS.values() if row.is_approximate} == {"depth", "depthv2"}


@pytest.mark.parametrize("name", NETWORKS)
def test_originals_serve_from_models_and_from_the_folder_named(name, tmp_path, monkeypatch):
    row = NETWORKS[name]
    assert find_weights(row) is None
    own = put_originals(tmp_path / "elsewhere" / "VACE-Annotators", row)
    monkeypatch.setenv("VACE_MODELS", str(tmp_path / "elsewhere"))
    assert find_weights(row) == Weights("original", tuple(own))
    put_originals(Path("models/VACE-Annotators"), row)
    found = find_weights(row)  # ./models comes first
    assert [str(path) for path in found.files] == [f"models/VACE-Annotators/{file.path}" for file in row.files]
    assert found.where == f"models/VACE-Annotators/{row.files[0].path}"
    choice = Networks().choose(name)
    assert choice == Choice(name, "neural", ", ".join(Path(file.path).name for file in row.files))


def test_a_part_of_the_originals_is_nothing(tmp_path):
    put_originals(Path("models/VACE-Annotators"), NETWORKS["pose"], without=1)
    assert find_weights(NETWORKS["pose"]) is None
    assert collection_folders() == [Path("models/VACE-Annotators")]


def test_originals_serve_from_the_hub_cache(tmp_path):
    folder = put_in_cache(COLLECTION, tmp_path / "hub")
    paths = put_originals(folder, NETWORKS["flow"])
    assert find_weights(NETWORKS["flow"]).files == tuple(paths)
    assert collection_folders() == [folder]
    assert find_weights(NETWORKS["scribble"]) is None


@pytest.mark.parametrize("place", ["models", "elsewhere", "hub"])
def test_copies_in_transformers_layout_serve(place, tmp_path, monkeypatch):
    row, repository = NETWORKS["depthv2"], "depth-anything/Depth-Anything-V2-Small-hf"
    monkeypatch.setenv("VACE_MODELS", str(tmp_path / "elsewhere"))
    short = repository.partition("/")[2]
    folder = put_copy(put_in_cache(repository, tmp_path / "hub") if place == "hub" else tmp_path / place / short)
    found = find_weights(row)
    assert found.layout == "transformers" and found.folder.resolve() == folder.resolve()
    assert found.where == str(found.folder)
    choice = Networks("neural").choose("depthv2")
    assert choice.backend == "neural" and str(tmp_path) not in choice.weights
    if place != "hub":
        assert choice.weights == repository
    (folder / "model.safetensors").unlink()
    assert find_weights(row) is None


def test_originals_come_before_copies_and_the_best_copy_first(tmp_path):
    row = NETWORKS["depthv2"]
    small, large = (put_copy(Path("models") / row.hub[i].partition("/")[2]) for i in (2, 0))
    assert find_weights(row).folder == large != small
    put_originals(Path("models/VACE-Annotators"), row)
    assert find_weights(row).layout == "original"


def test_roots_are_models_then_the_folder_named(monkeypatch):
    assert roots() == [Path("models")]
    monkeypatch.setenv("VACE_MODELS", "~/weights")
    assert roots() == [Path("models"), Path("~/weights").expanduser()]


def test_auto_falls_back_to_embedded_and_says_so_once(caplog):
    made = Networks()
    with caplog.at_level(logging.WARNING, logger="vace"):
        first = made.choose("flow")
        assert made.choose("flow") is first
    assert first == Choice("flow", "embedded", "OpenCV's DIS optical flow")
    assert first.as_dict() == {"name": "flow", "backend": "embedded", "weights": "OpenCV's DIS optical flow"}
    (record,) = caplog.records
    assert record.getMessage() == (
        "flow: the embedded one serves (downloading is off): OpenCV's DIS optical flow; the trained one, "
        "get it with: vace models pull flow"
    )
    assert made.chosen == {"flow": first}


def test_embedded_when_asked_even_with_weights_and_without_a_word(caplog):
    put_originals(Path("models/VACE-Annotators"), NETWORKS["depth"])
    made = Networks("embedded", accept_approximate=False)
    assert made.choose("depth").backend == "embedded"
    assert not caplog.records


def test_neural_when_asked_or_an_error_with_the_command():
    with pytest.raises(
        MissingWeights, match="--backend neural: no weights of salient here .downloading is off.; get it w"
    ):
        Networks("neural").choose("salient")
    with pytest.raises(MissingWeights, match="licence: non-commercial.*put face/models/.*onnx below models/VACE-Ann"):
        Networks("neural").choose("face")
    put_originals(Path("models/VACE-Annotators"), NETWORKS["salient"])
    assert Networks("neural").choose("salient") == Choice("salient", "neural", "u2net.pt")


def test_approximate_depth_is_refused_where_it_matters():
    strict = Networks(accept_approximate=False)
    for name in ("depth", "depthv2"):
        with pytest.raises(
            MissingWeights, match=f"{name}: no weights here .*approximate depth is not fed.*pull {name}, or"
        ):
            strict.choose(name)
    assert strict.choose("flow").backend == "embedded"
    assert Networks().choose("depth").backend == "embedded"


@pytest.mark.parametrize(
    ("given", "told"), [("nerual", "did you mean 'neural'"), ("", "known: auto, embedded, neural")]
)
def test_an_unknown_backend_names_the_known_ones(given, told):
    with pytest.raises(InputError, match=f"--backend {given}: unknown; {told}"):
        Networks(given)


def test_how_to_get():
    assert how_to_get(NETWORKS["depth"]) == "get it with: vace models pull depth"
    assert how_to_get(NETWORKS["face"]) == (
        "put face/models/antelopev2/scrfd_10g_bnkps.onnx below models/VACE-Annotators"
    )


MODULE = """
class Made:
    def __init__(self, *weights, **options):
        self.weights, self.options = weights, options
"""


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """The row of `flow` with classes that only keep what they are made with."""
    (tmp_path / "classes_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    row = replace(NETWORKS["flow"], neural="classes_of_a_test:Made", embedded="classes_of_a_test:Made")
    monkeypatch.setitem(NETWORKS, "flow", row)
    yield row
    sys.modules.pop("classes_of_a_test", None)


def test_networks_are_made_once_with_what_they_need(recorded):
    import torch

    paths = put_originals(Path("models/VACE-Annotators"), recorded)
    asked = []
    made = Networks(device=lambda: asked.append(1) or torch.device("meta"), batch_size=3)
    made.choose("flow")
    assert not asked  # choosing costs nothing
    network = made.get("flow")
    assert network.weights == (Weights("original", tuple(paths)),)
    assert network.options == {"device": torch.device("meta"), "batch_size": 3}
    assert made.get("flow") is network
    assert Networks("embedded").get("flow").weights == () and Networks("embedded").get("flow").options == {}
    assert Networks().device == torch.device("cpu")


@pytest.fixture
def served(monkeypatch, tmp_path):
    files = {NETWORKS["flow"].files[0].path: b"raft" * 50, "README.md": b"cards"}
    small = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"the same", "a.png": b"x"}
    both = {COLLECTION: files, NETWORKS["depth"].hub[0]: small}
    with serving(both, monkeypatch, tmp_path / "hub") as httpd:
        yield httpd


def test_weights_arrive_by_themselves(served, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="vace"):
        made = Networks()
        assert made.choose("flow") == Choice("flow", "neural", "raft-things.pth")
        assert made.choose("depth").backend == "neural"
    assert "downloading ali-vilab/VACE-Annotators: 1 file" in caplog.text
    assert find_weights(NETWORKS["flow"]).files[0].read_bytes() == b"raft" * 50
    folder = find_weights(NETWORKS["depth"]).folder
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert json.loads((folder / "config.json").read_text()) == {}


def test_nothing_is_fetched_where_it_is_not_wanted(served):
    assert Networks(no_download=True).choose("flow").backend == "embedded"
    assert Networks("embedded").choose("flow").backend == "embedded"
    assert Networks().choose("face").backend == "embedded"  # its licence forbids
    assert not served.asked


def test_an_unreachable_hub_leaves_the_embedded_one(monkeypatch, caplog):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert Networks().choose("scribble").backend == "embedded"
    assert "serves (ali-vilab/VACE-Annotators: http://127.0.0.1:9 cannot be reached from here)" in caplog.text
    with pytest.raises(MissingWeights, match="--backend neural: no weights of scribble here .*cannot be reached"):
        Networks("neural").choose("scribble")


def test_a_repository_without_weights_is_told(served):
    served.repositories[NETWORKS["depth"].hub[0]].pop("model.safetensors")
    with pytest.raises(MissingWeights, match="depth: its files did not arrive whole; run: vace models pull depth"):
        fetch_weights(NETWORKS["depth"])


def test_the_hub_cache_is_where_the_library_says(tmp_path):
    assert hub.cache() == tmp_path / "hub"
