"""`vace models` on base models: copies that are whole, damaged, partial and absent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ltx_folders import NAME

from vace.bases import LTX, MODELS
from vace.listing import list_models, model_rows
from vace.models.checkpoints import tiny_folder

FOLDER = Path("models/VACE-LTX-Video-0.9")


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VACE_MODELS", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def copy():
    """A copy of the published layout where it is looked for, with the toy's weights in it."""
    shutil.copytree(tiny_folder(LTX), FOLDER)
    next(FOLDER.glob("*.safetensors")).rename(FOLDER / NAME)
    return FOLDER


def row(name="vace-ltx-0.9"):
    return next(one for one in model_rows() if one["name"] == name)


def places():
    return {file["path"]: file["where"] for file in row()["files"]}


def block(name="vace-ltx-0.9"):
    lines = list_models().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(name))
    end = next(number for number in range(start + 1, len(lines)) if not lines[number].startswith(" "))
    return "\n".join(lines[start:end])


def test_what_is_not_here():
    rows = model_rows()
    assert len({tuple(one) for one in rows}) == 1  # the same keys in each
    assert json.loads(json.dumps(rows)) == rows
    for name in MODELS:
        found = row(name)
        assert found["path"] is None and found["problem"] is None
        assert {file["where"] for file in found["files"]} == {None}
        assert "not here; get it: vace models pull" in block(name) and "problem" not in block(name)


def test_a_whole_copy(copy):
    found = row()
    assert (found["path"], found["problem"]) == (str(copy), None)
    assert places() == {name: str(copy / name) for name in (NAME, "text_encoder", "tokenizer")}
    assert f"here: {copy}" in block() and "problem" not in block()


def test_a_copy_without_a_text_encoder(copy):
    shutil.rmtree(copy / "text_encoder")
    found = row()
    assert found["path"] is None
    assert f"{copy}: incomplete, no text_encoder/model*.safetensors; get it with:" in found["problem"]
    assert places() == {NAME: str(copy / NAME), "text_encoder": None, "tokenizer": str(copy / "tokenizer")}
    assert found["files"][0]["size"] == (copy / NAME).stat().st_size
    text = block()
    assert f"problem: {found['problem']}" in text and "not here" not in text
    assert "file  text_encoder: absent" in text and f"{NAME} (2.5 MB): {copy / NAME}" in text


def test_a_damaged_copy(copy):
    data = (copy / NAME).read_bytes()
    (copy / NAME).write_bytes(data[: len(data) // 2])
    found = row()
    assert found["path"] is None and str(copy / NAME) in found["problem"]
    assert None not in places().values()
    assert f"problem: {found['problem']}" in block() and "absent" not in block()


def test_the_folder_that_is_told_of_is_the_one_that_was_tried(monkeypatch, tmp_path, copy):
    """./models comes first, also when only the copy below $VACE_MODELS is whole."""
    other = tmp_path / "mine" / FOLDER.name
    shutil.copytree(copy, other)
    shutil.rmtree(copy / "text_encoder")
    monkeypatch.setenv("VACE_MODELS", str(tmp_path / "mine"))
    assert str(copy) in row()["problem"] and places()[NAME] == str(copy / NAME)
    shutil.rmtree(copy)
    assert row()["path"] == str(other)


def test_doctor_does_not_take_it_for_a_model(copy):
    from vace.doctor import _models

    assert any(finding.found == "vace-ltx-0.9" for finding in _models())
    shutil.rmtree(copy / "tokenizer")
    assert any(finding.found == "none of ltx" for finding in _models())
