"""What --lora says, and the file it means: paths, folders, repositories of the hub, with and without a network."""

from __future__ import annotations

import pytest
from hub_server import serving

from vace.errors import InputError, MissingWeights
from vace.speed.lora_sources import LoraSpec, is_hub_id, locate, parse_loras

NAME = "style.safetensors"


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        (None, []),
        ("", []),
        ("a.safetensors", [LoraSpec("a.safetensors")]),
        ("a.safetensors=0.8", [LoraSpec("a.safetensors", weight=0.8)]),
        ("a.safetensors = -1.5", [LoraSpec("a.safetensors", weight=-1.5)]),
        ("a.safetensors=0", [LoraSpec("a.safetensors", weight=0.0)]),
        ("a.pt=1e-1, b.pt", [LoraSpec("a.pt", weight=0.1), LoraSpec("b.pt")]),
        (["a.pt=2", "b.pt,c.pt=3"], [LoraSpec("a.pt", weight=2), LoraSpec("b.pt"), LoraSpec("c.pt", weight=3)]),
        ("org/name", [LoraSpec("org/name")]),
        ("org/name:sub/x.safetensors=0.5", [LoraSpec("org/name", "sub/x.safetensors", 0.5)]),
        (r"C:\loras\a.safetensors=0.5", [LoraSpec(r"C:\loras\a.safetensors", weight=0.5)]),
        ("C:/loras:a.safetensors", [LoraSpec("C:/loras", "a.safetensors")]),
    ],
)
def test_forms(text, specs):
    assert parse_loras(text) == specs


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.pt=much", "'much' is no usable weight"),
        ("a.pt=nan", "'nan' is no usable weight"),
        ("a.pt=inf", "'inf' is no usable weight"),
        ("a.pt=", "'' is no usable weight"),
        ("=0.5", "names no file"),
        ("org/name:", "names no file"),
        ("a.pt=0,8", "a weight has a point"),
        ("org/name:../x.pt", "leads out of org/name"),
        ("org/name:/x.pt", "leads out of org/name"),
    ],
)
def test_forms_that_are_refused(text, told):
    with pytest.raises(InputError, match="--lora") as error:
        parse_loras(text)
    assert told in str(error.value)


def test_names_of_existing_files_are_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a,b.pt", "c=d.pt", "e:f.pt"):
        (tmp_path / name).touch()
    assert parse_loras("a,b.pt=0.5") == [LoraSpec("a,b.pt", weight=0.5)]
    assert parse_loras("c=d.pt") == [LoraSpec("c=d.pt")]
    assert parse_loras("c=d.pt=2") == [LoraSpec("c=d.pt", weight=2.0)]
    assert parse_loras("e:f.pt=2") == [LoraSpec("e:f.pt", weight=2.0)]


@pytest.mark.parametrize(
    ("place", "is_one"),
    [("org/name", True), ("org/name.v2", True), ("org/name.safetensors", False), ("a/b/c", False), ("name", False),
     ("./name", False), ("here/name", False)],
)  # fmt: skip
def test_hub_ids(place, is_one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert is_hub_id(place) is is_one


@pytest.mark.parametrize(
    ("files", "file", "found"),
    [
        (["x.safetensors"], None, "x.safetensors"),
        (["x.safetensors", "y.txt"], None, "x.safetensors"),
        (["x.pt"], None, "x.pt"),
        (["x.pt", "x.safetensors"], None, "x.safetensors"),
        (["adapter_model.safetensors", "adapter_config.json", "z.safetensors"], None, "adapter_model.safetensors"),
        (["pytorch_lora_weights.safetensors", "z.safetensors"], None, "pytorch_lora_weights.safetensors"),
        (["lora.safetensors", "context.safetensors"], None, "lora.safetensors"),
        (["x.safetensors", "y.safetensors"], "y.safetensors", "y.safetensors"),
    ],
)
def test_the_file_of_a_folder(files, file, found, tmp_path):
    for name in files:
        (tmp_path / name).touch()
    assert locate(LoraSpec(str(tmp_path), file)) == tmp_path / found


def test_places_that_hold_none_or_several(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(MissingWeights, match="no such file"):
        locate(LoraSpec(str(tmp_path / "no.safetensors")))
    with pytest.raises(MissingWeights, match="holds no .safetensors"):
        locate(LoraSpec(str(tmp_path / "empty")))
    with pytest.raises(MissingWeights, match="holds no c.safetensors"):
        locate(LoraSpec(str(tmp_path), "c.safetensors"))
    with pytest.raises(InputError, match=r"holds several \(a.safetensors, b.safetensors\); say which: .*:a.safe"):
        locate(LoraSpec(str(tmp_path)))
    with pytest.raises(InputError, match="is a file; leave out ':x'"):
        locate(LoraSpec(str(tmp_path / "a.safetensors"), "x"))


REPOSITORIES = {
    "org/one": {NAME: b"one", "README.md": b"text", "big.txt": b"not needed"},
    "org/peft": {"adapter_model.safetensors": b"peft", "adapter_config.json": b"{}", "other.safetensors": b"other"},
    "org/many": {"a/x.safetensors": b"x", "a/y.safetensors": b"y"},
    "org/none": {"README.md": b"text"},
}


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with serving(REPOSITORIES, monkeypatch, tmp_path / "hub") as httpd:
        yield httpd


@pytest.mark.parametrize(
    ("spec", "content"),
    [
        (LoraSpec("org/one"), b"one"),
        (LoraSpec("org/one", NAME), b"one"),
        (LoraSpec("org/peft"), b"peft"),
        (LoraSpec("org/many", "a/y.safetensors"), b"y"),
    ],
)
def test_from_the_hub_and_then_from_this_machine(spec, content, server):
    path = locate(spec)
    assert path.read_bytes() == content
    assert path.with_name("adapter_config.json").is_file() == (spec.place == "org/peft")
    assert not any(name.endswith(("big.txt", "other.safetensors")) for name, _ in server.asked)
    count = len(server.asked)
    assert locate(spec, no_download=True) == path
    assert len(server.asked) == count


@pytest.mark.parametrize(
    ("spec", "kind", "told"),
    [
        (LoraSpec("org/many"), InputError, "say which: org/many:a/x.safetensors"),
        (LoraSpec("org/none"), MissingWeights, "holds no LoRA"),
        (LoraSpec("org/absent"), MissingWeights, "cannot be listed"),
        (LoraSpec("org/one", "no.safetensors"), MissingWeights, "the hub holds no no.safetensors there"),
    ],
)
def test_what_the_hub_does_not_have(spec, kind, told, server):
    with pytest.raises(kind) as error:
        locate(spec)
    assert told in str(error.value)


def test_offline_the_command_is_told(server, tmp_path, monkeypatch):
    spec = LoraSpec("org/one", NAME)
    told = f"hf download org/one {NAME} --local-dir models/one"
    with pytest.raises(MissingWeights, match=told):
        locate(spec, no_download=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingWeights, match=told):
        locate(spec)
    assert server.asked == []
    (tmp_path / "models" / "one").mkdir(parents=True)
    (tmp_path / "models" / "one" / NAME).write_bytes(b"mine")
    assert locate(spec).read_bytes() == b"mine"
