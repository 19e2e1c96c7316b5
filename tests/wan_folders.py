"""Checkpoint folders for tests: the golden toy weights written out in the original's layout and in diffusers'."""

from __future__ import annotations

import json
from pathlib import Path

from goldens_io import model_document, wan_weights

STEMS = {"transformer": "transformer_tiny", "vae": "vae_tiny", "text_encoder": "t5_tiny"}


def transformer_settings() -> dict:
    """The golden transformer's settings, under the names of the original's config.json."""
    return dict(model_document("wan", STEMS["transformer"])["config"])


def write_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer of 262 tokens: <pad> 0, </s> 1, <unk> 2."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -1.0), ("a", -1.0), ("e", -1.0)]
    pieces += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_original(
    folder: Path, *, shards: int = 1, index: bool = True, pickled: bool = True, config: bool = True
) -> Path:
    """The original's layout: transformer in `shards` files, T5 and VAE pickled (.pth) or as safetensors."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = wan_weights(STEMS["transformer"])
    keys = sorted(weights)
    if shards == 1:
        save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    else:
        names = [f"diffusion_pytorch_model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
        for i, name in enumerate(names):
            save_file({key: weights[key] for key in keys[i::shards]}, folder / name)
        if index:
            table = {"weight_map": {key: names[i % shards] for i, key in enumerate(keys)}}
            (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(table))
    for stem, file in ((STEMS["text_encoder"], "models_t5_umt5-xxl-enc-bf16"), (STEMS["vae"], "Wan2.1_VAE")):
        if pickled:
            torch.save(wan_weights(stem), folder / f"{file}.pth")
        else:
            save_file(wan_weights(stem), folder / f"{file}.safetensors")
    if config:
        settings = {"_class_name": "VaceWanModel", "model_type": "vace", **transformer_settings()}
        (folder / "config.json").write_text(json.dumps(settings))
    write_tokenizer(folder / "google" / "umt5-xxl")
    return folder


def write_diffusers(folder: Path, *, config: bool = True) -> Path:
    """diffusers' layout, saved by the classes' own save_pretrained; text_len goes into vace.json."""
    import torch

    from vace.models.checkpoints import open_checkpoint
    from vace.models.loading import build
    from vace.models.parts import COMPONENTS, read_part

    original = open_checkpoint(write_original(folder / "from"))
    for name in COMPONENTS:
        build(read_part(original, name), torch.float32).save_pretrained(folder / name)
        if not config:
            (folder / name / "config.json").unlink()
    write_tokenizer(folder / "tokenizer")
    (folder / "vace.json").write_text(json.dumps({"text_len": transformer_settings()["text_len"]}))
    for path in sorted((folder / "from").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "from").rmdir()
    return folder
