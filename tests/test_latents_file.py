"""The file of denoised latents: it comes back as it was, names no directory, and knows its VAE by what that decodes."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from vace import latents_file
from vace.bases import LTX, WAN
from vace.errors import InputError, OutputError
from vace.latents_file import Header, how_to_decode, read_latents, save_latents, vae_mark
from vace.models.checkpoints import find_checkpoint, tiny_folder
from vace.models.parts import read_part

HEADER = Header("wan", "vace-tiny", "00ff", 1, 9, 96, 64, 16.0, 7, "float32", "mp4", {"seed": 7}, (0.5, 1.25), "{}")


def part_of(ckpt: str, base=WAN):
    return read_part(find_checkpoint(ckpt, None, base=base), "vae")


@pytest.mark.parametrize("header", [HEADER, dataclasses.replace(HEADER, sound=None, comment=None, decoding={})])
def test_what_is_saved_comes_back(header, tmp_path):
    latents = torch.randn(4, 3, 2, 5).transpose(2, 3)
    save_latents(tmp_path / "a.safetensors", latents, header)
    found, told = read_latents(tmp_path / "a.safetensors")
    assert torch.equal(found, latents) and found.is_contiguous() and told == header
    save_latents(tmp_path / "b.safetensors", latents, header)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_no_directory_of_the_machine_is_in_it(tmp_path, media, monkeypatch):
    from vace.generate import generate

    monkeypatch.chdir(tmp_path)
    made = generate("a cat", src_video=media / "clip.mp4", ckpt_dir=str(tiny_folder()), size="96x64", frame_num=5,
                    steps=1, progress=False, device="cpu", save_latents=True)  # fmt: skip
    with safe_open(made.folder / "latents.safetensors", "pt") as file:
        told = json.dumps(file.metadata())
    assert str(media) not in told and str(tmp_path) not in told and str(tiny_folder()) not in told
    assert json.loads(json.loads(told)["vace"])["model"] == "vace-tiny"


@pytest.mark.parametrize("told", [None, {}, {"vace": "no json"}, {"vace": "[]"}, {"vace": '{"format": "x"}'},
                                  {"vace": '{"format": "vace-latents/1", "sound": null, "base": "wan"}'}])  # fmt: skip
def test_other_files_are_told(told, tmp_path):
    save_file({"latents": torch.zeros(2)}, tmp_path / "x.safetensors", told)
    with pytest.raises(InputError, match="not denoised latents of this version"):
        read_latents(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_text("nothing of the kind")
    for name in ("y", "none"):
        with pytest.raises(InputError, match=f"{name}.safetensors"):
            read_latents(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("error", [SafetensorError("No space left on device"), OSError(28, "No space left on device")])
def test_a_full_disk_leaves_nothing(error, tmp_path, monkeypatch):
    import safetensors.torch

    def full(*_):
        raise error

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OutputError, match="a.safetensors: cannot be written"):
        save_latents(tmp_path / "a.safetensors", torch.zeros(2), HEADER)
    assert not list(tmp_path.iterdir())


def test_a_vae_is_known_by_what_it_decodes(tmp_path):
    own = vae_mark(part_of("tiny"))
    other = tmp_path / "elsewhere"
    shutil.copytree(tiny_folder(), other)
    path = next((other / "vae").glob("*.safetensors"))
    tensors = load_file(path)
    assert vae_mark(part_of(str(other))) == own
    encoding = next(key for key in tensors if key.startswith("encoder.") and key.endswith("weight"))
    save_file(tensors | {encoding: tensors[encoding] + 1}, path)
    assert vae_mark(part_of(str(other))) == own
    decoding = next(key for key in tensors if key.startswith("decoder.") and key.endswith("weight"))
    save_file(tensors | {decoding: tensors[decoding] + 1}, path)
    assert vae_mark(part_of(str(other))) != own
    save_file(tensors, path)
    config = json.loads((other / "vae/config.json").read_text())
    (other / "vae/config.json").write_text(json.dumps(config | {"latents_mean": [0.5] * config["z_dim"]}))
    assert vae_mark(part_of(str(other))) != own
    assert vae_mark(part_of("tiny", LTX)) not in (own, "")


def test_published_statistics_are_the_same_said_and_unsaid():
    from diffusers import AutoencoderKLWan

    part = part_of("tiny")
    usual = AutoencoderKLWan(base_dim=8).config.latents_mean
    bare = {key: value for key, value in part.config.items() if key not in ("latents_mean", "latents_std")}
    said = dataclasses.replace(part, config=bare | {"latents_mean": tuple(usual)})
    assert vae_mark(said) == vae_mark(dataclasses.replace(part, config=bare))


def test_the_command_is_quoted_for_a_shell(tmp_path):
    assert how_to_decode("ltx", tmp_path / "a b").endswith("/a b'")
    assert latents_file.ROLE == "latents"
