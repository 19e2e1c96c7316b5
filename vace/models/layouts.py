"""Which files of a folder are which part of a model, by their names alone: the original's layout, diffusers', LTX's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vace.weight_files import find_files

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
TOKENIZER = "tokenizer folder (tokenizer.json or spiece.model)"


@dataclass(frozen=True)
class Component:
    """One part of a checkpoint: its weight files and the json that states its sizes, where there is one."""

    files: tuple[Path, ...]
    config: Path | None = None


def ltx_parts(file: Path, texts: Path) -> dict[str, Any]:
    """The parts of the LTX layout: `texts` holds text_encoder/ and tokenizer/."""
    whole = Component((file,))
    encoder = texts / "text_encoder"
    return {
        "*.safetensors": whole,
        "text_encoder/model*.safetensors": component(find_files(encoder, "model"), encoder / "config.json"),
        "vae": whole,
        TOKENIZER: tokenizer_folder(texts),
    }


def diffusers_parts(folder: Path) -> dict[str, Any]:
    weights = {"transformer": "diffusion_pytorch_model", "text_encoder": "model", "vae": "diffusion_pytorch_model"}
    parts: dict[str, Any] = {
        f"{name}/{stem}*.safetensors": component(find_files(folder / name, stem), folder / name / "config.json")
        for name, stem in weights.items()
    }
    parts[TOKENIZER] = tokenizer_folder(folder)
    return parts


def original_parts(folder: Path) -> dict[str, Any]:
    stem = "diffusion_pytorch_model"
    return {
        f"{stem}*.safetensors": component(find_files(folder, stem), folder / "config.json"),
        "models_t5_*.pth": component(pickled_or_safe(folder, "models_t5_*")),
        "Wan2.1_VAE.pth": component(pickled_or_safe(folder, "Wan2.1_VAE")),
        TOKENIZER: tokenizer_folder(folder),
    }


def component(files: tuple[Path, ...], config: Path | None = None) -> Component | None:
    return Component(files, config if config and config.is_file() else None) if files else None


def pickled_or_safe(folder: Path, stem: str) -> tuple[Path, ...]:
    """The safetensors file of that name, else the pickled one."""
    for suffix in (".safetensors", ".pth"):
        found = sorted(folder.glob(stem + suffix))
        if found:
            return tuple(found[:1])
    return ()


def tokenizer_folder(folder: Path) -> Path | None:
    """The folder below `folder` that holds a tokenizer: "tokenizer", google/umt5-xxl, or any other; else None."""
    depths = ("", "*/", "*/*/")  # no deeper: the folder may be anything, a home directory too
    found = {path.parent for name in _TOKENIZER_FILES for depth in depths for path in folder.glob(depth + name)}
    preferred = [folder / "tokenizer", folder / "google" / "umt5-xxl"]
    return next((path for path in [*preferred, *sorted(found)] if path in found), None)
