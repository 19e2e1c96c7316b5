"""Finding and reading LTX's single file: its places, its parts, and never a model of the other base."""

from __future__ import annotations

import shutil

import pytest
import torch
from ltx_folders import NAME, write_single
from wan_folders import write_original

from vace.bases import LTX, WAN
from vace.errors import CheckpointError, InputError, MissingWeights
from vace.models.checkpoints import find_checkpoint, open_checkpoint, tiny_folder
from vace.models.engine import check_checkpoint
from vace.models.loading import build
from vace.weight_files import WeightFiles

REPOSITORY = LTX.models["vace-ltx-0.9"][0]
FOLDER = REPOSITORY.partition("/")[2]


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VACE_MODELS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_the_toy_of_ltx_serves_when_nothing_is_there():
    found = find_checkpoint(None, None, base=LTX)
    assert (found.name, found.is_toy, found.layout, found.base) == ("vace-tiny-ltx", True, "ltx", "ltx")
    assert find_checkpoint("tiny", None, base=LTX).path == find_checkpoint(None, "tiny", base=LTX).path
    assert found.path == tiny_folder(LTX) != tiny_folder(WAN)


def test_a_published_model_is_found_by_name_folder_file_and_nothing(empty_machine):
    folder = write_single(empty_machine / "models" / FOLDER)
    ways = [
        find_checkpoint(None, "vace-ltx-0.9", base=LTX),
        find_checkpoint(None, REPOSITORY, base=LTX),
        find_checkpoint(f"models/{FOLDER}", None, base=LTX),
        find_checkpoint(str(folder / NAME), None, base=LTX),
        find_checkpoint(None, None, base=LTX),
    ]
    assert {found.name for found in ways} == {"vace-ltx-0.9"}
    assert {found.transformer.files[0].resolve() for found in ways} == {(folder / NAME).resolve()}
    assert not any(found.is_toy for found in ways)
    assert find_checkpoint(None, None, base=WAN).is_toy  # the other base does not take it


def test_in_the_hub_cache(empty_machine):
    base = empty_machine / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("0" * 40)
    write_single(base / "snapshots" / ("0" * 40))
    assert find_checkpoint(REPOSITORY, None, base=LTX).name == "vace-ltx-0.9"


def test_a_text_encoder_elsewhere(empty_machine):
    folder = write_single(empty_machine / "one")
    for name in ("text_encoder", "tokenizer"):
        (empty_machine / "texts").mkdir(exist_ok=True)
        shutil.move(folder / name, empty_machine / "texts" / name)
    with pytest.raises(MissingWeights, match=r"incomplete, no text_encoder/model\*.safetensors, no tokenizer"):
        find_checkpoint("one", None, base=LTX)
    found = find_checkpoint("one", None, base=LTX, text_encoder_path="texts")
    assert found.text_encoder.files[0].parent.parent.name == "texts" and found.name == "one"
    with pytest.raises(InputError, match="--text_encoder_path texts: no UMT5 text encoder in this folder"):
        find_checkpoint("tiny", None, base=WAN, text_encoder_path="texts")


def test_models_of_the_other_base_are_refused(empty_machine):
    write_single(empty_machine / "ltx")
    write_original(empty_machine / "wan")
    with pytest.raises(InputError, match="a model of LTX; run it with `vace ltx`"):
        find_checkpoint("ltx", None, base=WAN)
    with pytest.raises(InputError, match="a model of Wan runs with `vace wan`"):
        find_checkpoint("wan", None, base=LTX)
    with pytest.raises(InputError, match="--model_name vace-1.3B: a model of wan"):
        find_checkpoint(None, "vace-1.3B", base=LTX)
    with pytest.raises(InputError, match="--model_name vace-ltx-0.9: a model of ltx"):
        find_checkpoint(None, "vace-ltx-0.9", base=WAN)


def test_what_is_missing_names_the_command_that_gets_it(empty_machine):
    (empty_machine / "empty").mkdir()
    with pytest.raises(MissingWeights, match=f"holds no LTX-VACE model.*{REPOSITORY}"):
        find_checkpoint("empty", None, base=LTX)
    with pytest.raises(MissingWeights, match=f"{REPOSITORY}: not on this machine"):
        find_checkpoint(None, "vace-ltx-0.9", base=LTX)
    (empty_machine / "file.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no LTX model"):
        find_checkpoint("file.bin", None, base=LTX)


def test_the_original_s_own_path_names_the_right_model(empty_machine):
    with pytest.raises(MissingWeights, match=f"no such file; get it with: hf download {REPOSITORY}"):
        find_checkpoint(f"models/{FOLDER}/{NAME}", None, base=LTX)


def rewritten(path, change):
    """A single file with its tensors, and its metadata, changed."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(change(load_file(path)), path, metadata)


def test_a_model_without_context_blocks_is_told_from_one_of_vace(empty_machine):
    folder = write_single(empty_machine / "one")
    rewritten(folder / NAME, lambda tensors: {key: value for key, value in tensors.items() if "context" not in key})
    with pytest.raises(CheckpointError, match=f"without VACE.*{REPOSITORY}"):
        check_checkpoint(find_checkpoint("one", None, base=LTX))


def test_neighbours_of_the_file_do_not_matter(empty_machine):
    folder = write_single(empty_machine / "one")
    shutil.copyfile(folder / NAME, folder / "a-plain.safetensors")
    rewritten(folder / "a-plain.safetensors", lambda tensors: {k: v for k, v in tensors.items() if "context" not in k})
    (folder / "a-lora.safetensors").write_bytes(b"half")
    assert find_checkpoint("one", None, base=LTX).transformer.files[0].name == NAME
    shutil.copyfile(folder / NAME, folder / "another.safetensors")
    with pytest.raises(CheckpointError, match="several LTX models.*--ckpt_path"):
        find_checkpoint("one", None, base=LTX)


def test_a_text_encoder_that_is_not_there_is_blamed_by_its_flag(empty_machine):
    folder = write_single(empty_machine / "one")
    with pytest.raises(InputError, match="--text_encoder_path nowhere: holds no text_encoder"):
        find_checkpoint("one", None, base=LTX, text_encoder_path="nowhere")
    found = find_checkpoint("one", None, base=LTX, text_encoder_path=str(folder / "text_encoder"))
    assert found.tokenizer == folder / "tokenizer"


def test_a_damaged_tokenizer(empty_machine):
    folder = write_single(empty_machine / "one")
    (folder / "tokenizer" / "spiece.model").write_bytes(b"xx")
    with pytest.raises(CheckpointError, match="tokenizer: .*download it again"):
        check_checkpoint(find_checkpoint("one", None, base=LTX))


def test_weights_and_tokenizer_have_a_fingerprint(empty_machine):
    folder = write_single(empty_machine / "one")
    before = open_checkpoint(folder).fingerprint()
    assert open_checkpoint(folder).fingerprint() == before
    rewritten(folder / NAME, lambda tensors: {key: value * 1.1 for key, value in tensors.items()})
    changed = open_checkpoint(folder).fingerprint()
    (folder / "tokenizer" / "added_tokens.json").write_text("{}")
    assert len({before, changed, open_checkpoint(folder).fingerprint()}) == 3


def test_every_tensor_is_read_once(empty_machine, monkeypatch):
    """One look at the header for transformer, VAE and scheduler each; no tensor twice, none of the other part."""
    reads: list[str] = []
    real = WeightFiles.read
    monkeypatch.setattr(WeightFiles, "read", lambda self, key: (reads.append(key), real(self, key))[1])
    parts, _ = check_checkpoint(open_checkpoint(write_single(empty_machine / "one")))
    assert reads == []  # checked by names and shapes alone
    for name in ("transformer", "vae"):
        build(parts[name], torch.float32)
    assert len(reads) == len(set(reads)) == len(parts["transformer"].names) + len(parts["vae"].names)


def test_parts_of_two_models(empty_machine):
    folder = write_single(empty_machine / "one")
    for name in ("text_encoder", "tokenizer"):
        shutil.rmtree(folder / name)
        shutil.copytree(tiny_folder(LTX) / name, folder / name)
    with pytest.raises(CheckpointError, match="text width, the transformer takes"):
        check_checkpoint(open_checkpoint(folder))
