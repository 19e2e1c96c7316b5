"""Single files of the golden toy, as ComfyUI, Kijai and converters lay them out; tokenizers inside them."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path

from goldens_io import wan_weights
from wan_folders import STEMS, transformer_settings

COMFY_TEXT = "text_encoders.umt5xxl.transformer."
LINEAR = ("self_attn.", "cross_attn.", "ffn.")  # what float8 files hold in float8


def tensors(component: str, prefix: str = "", *, names: str = "original") -> dict:
    """The golden weights of a component under the original's names or 'class' names, each behind `prefix`."""
    from vace.models.keymaps import class_names

    weights = _weights(component)
    spelled = class_names(component, weights) if names == "class" else {key: key for key in weights}
    return {prefix + spelled[key]: tensor for key, tensor in weights.items()}


@functools.cache
def _weights(component: str) -> dict:
    return wan_weights(STEMS[component])


def halves(weights: dict) -> tuple[dict, dict]:
    """What a T2V file holds of a transformer, and what a VACE module file holds."""
    module = {key: tensor for key, tensor in weights.items() if "vace_" in key}
    return {key: tensor for key, tensor in weights.items() if key not in module}, module


def is_linear(key: str) -> bool:
    return any(mark in key for mark in LINEAR) and key.endswith(".weight") and ".norm_" not in key


def write(path: Path, weights: dict, metadata: dict | None = None) -> Path:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.clone() for key, tensor in weights.items()}, path, metadata)
    return path


def write_settings(path: Path) -> Path:
    """What no tensor of a toy can tell, for --config."""
    settings = {key: transformer_settings()[key] for key in ("num_heads", "vace_layers", "text_len")}
    path.write_text(json.dumps(settings))
    return path


def link_companions(folder: Path, original: Path) -> None:
    """Text encoder, VAE and tokenizer of the original's layout, linked into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "google"):
        (folder / name).symlink_to(original / name)


def sentencepiece_model() -> bytes:
    """A trained unigram model of <pad> 0, </s> 1, <unk> 2, every byte, and a few pieces."""
    import sentencepiece

    lines = ["a boat on the sea", "the red fox sits on a hill", "snow on the road at night", "a cat"] * 5
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=320, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        byte_fallback=True, hard_vocab_limit=False, model_type="unigram", minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def embedded(raw: bytes):
    """Bytes as ComfyUI puts them into a file."""
    import torch

    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)
