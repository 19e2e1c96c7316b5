"""Finding a base model: names, folders, the hub cache; never another model than the one asked for."""

from __future__ import annotations

import json
import shutil

import pytest
from wan_folders import write_original

from vace import hub
from vace.bases import WAN
from vace.errors import CheckpointError, InputError, MissingWeights
from vace.models import checkpoints
from vace.models.checkpoints import find_checkpoint, open_checkpoint, tiny_folder

NAMES = [(name, hub_id.partition("/")[2]) for name, repositories in WAN.models.items() for hub_id in repositories]


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """A working folder without models, an empty hub cache, nothing fetched."""
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VACE_MODELS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def fake_original(folder):
    """Files by name only: enough for being found."""
    for name in ("diffusion_pytorch_model.safetensors", "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "google" / "umt5-xxl").mkdir(parents=True)
    (folder / "google" / "umt5-xxl" / "spiece.model").write_bytes(b"")
    return folder


def fake_cached(root, repository):
    base = root / "hub" / f"models--{repository.replace('/', '--')}"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("0" * 40)
    return fake_original(base / "snapshots" / ("0" * 40))


def test_tiny_serves_when_nothing_is_asked_for_and_nothing_is_there():
    found = find_checkpoint(None, None)
    assert (found.name, found.is_toy, found.layout) == ("vace-tiny", True, "diffusers")
    assert found.path == tiny_folder()


def test_tiny_by_name(empty_machine):
    fake_original(empty_machine / "models" / NAMES[0][1])
    assert find_checkpoint("tiny", None).is_toy
    assert find_checkpoint(None, "tiny").is_toy


@pytest.mark.parametrize(("name", "folder"), NAMES)
def test_a_model_in_the_models_folder_is_found(empty_machine, name, folder):
    fake_original(empty_machine / "models" / folder)
    by_name, by_folder, by_nothing = (
        find_checkpoint(None, name),
        find_checkpoint(f"models/{folder}", None),
        find_checkpoint(None, None),
    )
    assert by_name.path.resolve() == by_folder.path.resolve() == by_nothing.path.resolve()
    assert by_name.name == by_folder.name == name
    assert not by_name.is_toy


@pytest.mark.parametrize("spelling", ["vace-14B", "VACE-14b", "Wan2.1-VACE-14B", "Wan-AI/Wan2.1-VACE-14B"])
def test_spellings_of_a_model(empty_machine, monkeypatch, spelling):
    monkeypatch.setenv("VACE_MODELS", str(empty_machine / "elsewhere"))
    fake_original(empty_machine / "elsewhere" / "Wan2.1-VACE-14B")
    assert find_checkpoint(None, spelling).name == "vace-14B"


def test_the_hub_cache_serves_by_name_by_id_and_unasked(empty_machine):
    snapshot = fake_cached(empty_machine, "Wan-AI/Wan2.1-VACE-1.3B")
    for found in (
        find_checkpoint(None, "vace-1.3B"),
        find_checkpoint("Wan-AI/Wan2.1-VACE-1.3B", None),
        find_checkpoint(None, None),
    ):
        assert found.path.resolve() == snapshot.resolve()
        assert found.name == "vace-1.3B"


def test_an_incomplete_cached_copy_does_not_count(empty_machine):
    (fake_cached(empty_machine, "Wan-AI/Wan2.1-VACE-1.3B") / "Wan2.1_VAE.pth").unlink()
    assert find_checkpoint(None, None).is_toy
    with pytest.raises(MissingWeights, match="downloading is off"):
        find_checkpoint(None, "vace-1.3B")


@pytest.mark.parametrize(
    ("ckpt_dir", "model_name", "command"),
    [
        (None, "vace-1.3B", "hf download Wan-AI/Wan2.1-VACE-1.3B --local-dir models/Wan2.1-VACE-1.3B"),
        (None, "vace-14B", "hf download Wan-AI/Wan2.1-VACE-14B --local-dir models/Wan2.1-VACE-14B"),
        ("models/Wan2.1-VACE-14B", None, "hf download Wan-AI/Wan2.1-VACE-14B --local-dir models/Wan2.1-VACE-14B"),
        ("models/VACE-Wan2.1-1.3B-Preview", None, "hf download ali-vilab/VACE-Wan2.1-1.3B-Preview --local-dir"),
        ("nowhere", None, "hf download Wan-AI/Wan2.1-VACE-1.3B --local-dir models/Wan2.1-VACE-1.3B"),
        ("some/thing", None, "hf download some/thing --local-dir models/thing"),
    ],
)
def test_what_was_asked_for_is_never_replaced(ckpt_dir, model_name, command):
    with pytest.raises(MissingWeights) as error:
        find_checkpoint(ckpt_dir, model_name)
    assert command in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(InputError, match=r"--model_name vace-1.4B: unknown model; did you mean"):
        find_checkpoint(None, "vace-1.4B")


@pytest.mark.parametrize(
    ("ckpt_dir", "model_name", "fits"),
    [
        ("models/Wan2.1-VACE-14B", "vace-14B", True),
        ("models/Wan2.1-VACE-14B", "vace-1.3B", False),
        ("models/Wan2.1-VACE-14B", "tiny", False),
        ("models/VACE-Wan2.1-1.3B-Preview", "vace-1.3B", True),
        ("models/mine", "vace-14B", True),
        ("models/mine", "tiny", False),
        ("tiny", "tiny", True),
        ("tiny", "vace-14B", False),
    ],
)
def test_folder_and_name_must_not_contradict_each_other(empty_machine, ckpt_dir, model_name, fits):
    if ckpt_dir != "tiny":
        fake_original(empty_machine / ckpt_dir)
    if fits:
        assert find_checkpoint(ckpt_dir, model_name).is_toy is (ckpt_dir == "tiny")
    else:
        with pytest.raises(InputError, match=f"--model_name says {model_name}; leave one of them out"):
            find_checkpoint(ckpt_dir, model_name)


def test_nothing_is_downloaded_unasked(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub, "download", lambda *_: pytest.fail("a download was started"))
    assert find_checkpoint(None, None).is_toy
    with pytest.raises(MissingWeights, match="downloading is off"):
        find_checkpoint(None, "vace-1.3B", no_download=True)


def test_a_named_model_is_downloaded(empty_machine, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    asked, fetched = [], fake_original(empty_machine / "fetched")
    monkeypatch.setattr(hub, "download", lambda name: asked.append(name) or fetched)
    assert find_checkpoint(None, "vace-14B").path == empty_machine / "fetched"
    assert find_checkpoint("org/name", None).path == empty_machine / "fetched"
    assert asked == ["Wan-AI/Wan2.1-VACE-14B", "org/name"]


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("diffusion_pytorch_model.safetensors", r"diffusion_pytorch_model\*.safetensors"),
        ("models_t5_umt5-xxl-enc-bf16.pth", r"models_t5_\*.pth"),
        ("Wan2.1_VAE.pth", "Wan2.1_VAE.pth"),
        ("google", "tokenizer folder"),
    ],
)
def test_a_missing_part_is_named(tmp_path, gone, named):
    folder = fake_original(tmp_path / "model")
    shutil.rmtree(folder / gone) if (folder / gone).is_dir() else (folder / gone).unlink()
    with pytest.raises(MissingWeights, match=f"incomplete, no {named}.*hf download"):
        open_checkpoint(folder)


def test_all_missing_parts_are_named_together(tmp_path):
    folder = fake_original(tmp_path / "model")
    (folder / "Wan2.1_VAE.pth").unlink()
    (folder / "models_t5_umt5-xxl-enc-bf16.pth").unlink()
    with pytest.raises(MissingWeights, match=r"no models_t5_\*.pth, no Wan2.1_VAE.pth"):
        open_checkpoint(folder)


def test_an_empty_folder_and_a_file(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingWeights, match="holds no Wan VACE model in either layout; get it with"):
        find_checkpoint(str(tmp_path / "empty"), None)
    (tmp_path / "file.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="--ckpt_dir takes the folder"):
        find_checkpoint(str(tmp_path / "file.pth"), None)


def test_layouts_and_components(original_folder, diffusers_folder):
    original, diffusers = open_checkpoint(original_folder), open_checkpoint(diffusers_folder)
    assert (original.layout, diffusers.layout) == ("wan", "diffusers")
    assert original.text_encoder.files[0].suffix == ".pth"
    assert original.tokenizer == original_folder / "google" / "umt5-xxl"
    assert diffusers.tokenizer == diffusers_folder / "tokenizer"
    assert diffusers.vae.config == diffusers_folder / "vae" / "config.json"


def test_vace_json_gives_name_and_defaults(tmp_path):
    folder = fake_original(tmp_path / "model")
    (folder / "vace.json").write_text(json.dumps({"name": "mine", "toy": True, "steps": 3}))
    found = open_checkpoint(folder)
    assert (found.name, found.is_toy, found.defaults["steps"]) == ("mine", True, 3)


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_damaged_vace_json_is_named(tmp_path, content):
    folder = fake_original(tmp_path / "model")
    (folder / "vace.json").write_text(content)
    with pytest.raises(CheckpointError, match="vace.json"):
        open_checkpoint(folder)


def test_config_must_exist(tmp_path):
    with pytest.raises(InputError, match="--config .*absent.json: no such file"):
        find_checkpoint("tiny", None, config=str(tmp_path / "absent.json"))


def test_a_tokenizer_in_any_sub_folder_is_found(tmp_path):
    folder = write_original(tmp_path / "model")
    (folder / "google" / "umt5-xxl").rename(folder / "words")
    assert checkpoints.open_checkpoint(folder).tokenizer == folder / "words"
