"""LTX checkpoint folders for tests: a golden single file with its text encoder and tokenizer beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

from goldens_io import goldens_dir, model_document

NAME = "ltx-video-2b-v0.9.safetensors"  # what the published file is called


def golden_checkpoints() -> list[str]:
    """Stems of the golden single files that are there."""
    return sorted(path.stem for path in (goldens_dir() / "ltx").glob("ckpt_*.safetensors"))


def pipeline_cases() -> list[str]:
    """Stems of the golden pipeline calls whose checkpoint is there."""
    stems = sorted(path.stem for path in (goldens_dir() / "ltx").glob("e2e_*.json"))
    return [stem for stem in stems if checkpoint_of(stem) in golden_checkpoints()]


def checkpoint_of(stem: str) -> str:
    return Path(model_document("ltx", stem)["ckpt"]).stem


def write_single(folder: Path, stem: str = "ckpt_v090") -> Path:
    """The published layout: one file, text_encoder/, tokenizer/."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(goldens_dir() / "ltx" / f"{stem}.safetensors", folder / NAME)
    for name in ("text_encoder", "tokenizer"):
        shutil.copytree(goldens_dir() / "ltx" / "text_models" / name, folder / name)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder
