"""Where a base model lies and how its folder is laid out, found without loading anything.

Two layouts are read at any size. 'wan', the original's: config.json, diffusion_pytorch_model*.safetensors,
models_t5_*.pth, Wan2.1_VAE.pth and a tokenizer folder. 'diffusers': transformer/, text_encoder/, vae/, tokenizer/.
Either may carry a `vace.json` with defaults for the flags a user leaves out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vace import hub
from vace.errors import CheckpointError, InputError, MissingWeights, nearest
from vace.weight_files import find_files, read_json

TINY = "tiny"
# The name a user says -> the hub repositories that hold it, the original layout first.
MODELS: Mapping[str, tuple[str, ...]] = {
    "vace-1.3B": ("Wan-AI/Wan2.1-VACE-1.3B", "Wan-AI/Wan2.1-VACE-1.3B-diffusers"),
    "vace-14B": ("Wan-AI/Wan2.1-VACE-14B", "Wan-AI/Wan2.1-VACE-14B-diffusers"),
    "vace-1.3B-preview": ("ali-vilab/VACE-Wan2.1-1.3B-Preview",),
}
_TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


@dataclass(frozen=True)
class Component:
    """One part of a checkpoint: its weight files and the json that states its sizes, where there is one."""

    files: tuple[Path, ...]
    config: Path | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A base model on this machine, found but not loaded.

    layout: 'wan' or 'diffusers'. name: what its results are filed under. defaults: the content of vace.json.
    is_toy: True for a model that only shows that everything works. settings: json given by `--config`, or None.
    """

    path: Path
    layout: str
    name: str
    transformer: Component
    text_encoder: Component
    vae: Component
    tokenizer: Path
    is_toy: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    settings: Path | None = None


def find_checkpoint(
    ckpt_dir: str | None,
    model_name: str | None,
    *,
    no_download: bool = False,
    config: str | None = None,
) -> Checkpoint:
    """The checkpoint meant by `--ckpt_dir` and `--model_name`; a model that was named is never replaced by another.

    ckpt_dir: a folder, a hub id (`org/name`) or 'tiny'. model_name: a key of MODELS, a repository name, or 'tiny'.
    With neither, a published model found on this machine, else the embedded one. config: a json with what the tensors
    cannot tell. Raises MissingWeights, CheckpointError, or InputError for an unknown name and for two that disagree.
    """
    settings = Path(config) if config else None
    if settings is not None and not settings.is_file():
        raise InputError(f"--config {config}: no such file; give a json with num_heads, vace_layers and text_len")
    name = _model_key(model_name) if model_name else None
    if ckpt_dir:
        folder = tiny_folder() if ckpt_dir == TINY else _explicit_folder(ckpt_dir, no_download)
        found = open_checkpoint(folder, settings)
        if name and _size(name) != _size(found.name) and (found.is_toy or found.name in MODELS or name == TINY):
            raise InputError(f"--ckpt_dir {ckpt_dir} is {found.name}, --model_name says {name}; leave one of them out")
        return found
    if name:
        folder = tiny_folder() if name == TINY else _local_folder(name) or _fetched(MODELS[name][0], no_download)
        return open_checkpoint(folder, settings)
    for name in MODELS:
        folder = _local_folder(name)
        if folder is not None:
            return open_checkpoint(folder, settings)
    return open_checkpoint(tiny_folder(), settings)


def open_checkpoint(folder: Path, settings: Path | None = None) -> Checkpoint:
    """The checkpoint in `folder`, its layout recognised and all its files present.

    Raises MissingWeights when parts are absent (all of them named), CheckpointError for damaged json or shards.
    """
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise CheckpointError(f"{folder}: cannot be read; check its permissions")
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: a file; --ckpt_dir takes the folder that holds the whole model")
    layout = "diffusers" if (folder / "transformer").is_dir() else "wan"
    parts = _diffusers_parts(folder) if layout == "diffusers" else _original_parts(folder)
    absent = [what for what, part in parts.items() if part is None]
    if len(absent) == len(parts):
        raise MissingWeights(f"{folder}: holds no Wan VACE model in either layout; {_advice(folder)}")
    if absent:
        raise MissingWeights(f"{folder}: incomplete, no {', no '.join(absent)}; {_advice(folder)}")
    defaults = read_json(folder / "vace.json") if (folder / "vace.json").is_file() else {}
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(defaults.get("name") or "model")):  # it becomes a folder's name
        raise CheckpointError(
            f"{folder / 'vace.json'}: its name is no plain name; letters, digits, '.', '-' and '_' are"
        )
    transformer, text_encoder, vae, tokenizer = parts.values()
    return Checkpoint(
        path=folder,
        layout=layout,
        name=str(defaults.get("name") or _known_name(folder) or folder.resolve().name),
        transformer=transformer,
        text_encoder=text_encoder,
        vae=vae,
        tokenizer=tokenizer,
        is_toy=bool(defaults.get("toy", False)),
        defaults=defaults,
        settings=settings,
    )


def tiny_folder() -> Path:
    """The embedded toy model: inside the installed package, or in the clone's assets."""
    package = Path(__file__).resolve().parents[1]
    for root in (package, package.parent):
        folder = root / "assets" / "models" / "vace-tiny"
        if folder.is_dir():
            return folder
    raise MissingWeights("the embedded model vace-tiny is not in this installation; write it with scripts/make_tiny.py")


def _explicit_folder(ckpt_dir: str, no_download: bool) -> Path:
    folder = Path(ckpt_dir).expanduser()
    if folder.exists():
        return folder
    if _HUB_ID.match(ckpt_dir) and not Path(folder.parts[0]).is_dir() and folder.parts[0] != "models":
        cached = hub.cached_folder(ckpt_dir)
        return cached if cached is not None and _is_whole(cached) else _fetched(ckpt_dir, no_download)
    raise MissingWeights(f"--ckpt_dir {ckpt_dir}: no such folder; {_advice(folder)}")


def _model_key(model_name: str) -> str:
    """'tiny', or the key of MODELS meant by a short name or by a repository's name with or without its owner."""
    if model_name == TINY:
        return TINY
    for name, repositories in MODELS.items():
        spellings = {name, *repositories, *(repository.partition("/")[2] for repository in repositories)}
        if model_name.lower() in {spelling.lower() for spelling in spellings}:
            return name
    raise InputError(f"--model_name {model_name}: unknown model; {nearest(model_name, [*MODELS, TINY])}")


def _size(name: str) -> str:
    """'1.3B', '14B' or 'tiny': what two names of one model share (the original calls the preview vace-1.3B too)."""
    return name.removeprefix("vace-").partition("-")[0]


def _local_folder(name: str) -> Path | None:
    """A whole copy of the model on this machine: ./models, $VACE_MODELS, then the hub cache."""
    for folder in folders_of(name):
        if folder.is_dir():
            return folder
    for repository in MODELS[name]:
        cached = hub.cached_folder(repository)
        if cached is not None and _is_whole(cached):
            return cached
    return None


def folders_of(name: str) -> list[Path]:
    """Where a published model is looked for before the hub cache: below ./models and $VACE_MODELS."""
    roots = [Path("models"), *(Path(root).expanduser() for root in [os.environ.get("VACE_MODELS")] if root)]
    return [root / repository.partition("/")[2] for repository in MODELS[name] for root in roots]


def _fetched(repository: str, no_download: bool) -> Path:
    if hub.is_offline(no_download):
        raise MissingWeights(f"{repository}: not on this machine and downloading is off; {hub.how_to_get(repository)}")
    return hub.download(repository)


def _is_whole(folder: Path) -> bool:
    """Whether an interrupted download left nothing out."""
    try:
        open_checkpoint(folder)
    except (MissingWeights, CheckpointError):
        return False
    return True


def _known_name(folder: Path) -> str | None:
    """The short name of a published model, from its folder's name or from its place in the hub cache."""
    path = folder.resolve()
    for name, repositories in MODELS.items():
        cache_names = {f"models--{repository.replace('/', '--')}" for repository in repositories}
        if path.name in {repository.partition("/")[2] for repository in repositories} or cache_names & set(path.parts):
            return name
    return None


def _advice(folder: Path) -> str:
    """The command that gets the model, for the published model the folder is named after, else for the smallest one."""
    name = _known_name(folder) or "vace-1.3B"
    fitting = [repository for repository in MODELS[name] if repository.partition("/")[2] == folder.name]
    return hub.how_to_get((fitting or MODELS[name])[0])


def _diffusers_parts(folder: Path) -> dict[str, Any]:
    weights = {"transformer": "diffusion_pytorch_model", "text_encoder": "model", "vae": "diffusion_pytorch_model"}
    parts: dict[str, Any] = {
        f"{name}/{stem}*.safetensors": _component(find_files(folder / name, stem), folder / name / "config.json")
        for name, stem in weights.items()
    }
    parts["tokenizer folder (tokenizer.json or spiece.model)"] = _tokenizer_folder(folder)
    return parts


def _original_parts(folder: Path) -> dict[str, Any]:
    stem = "diffusion_pytorch_model"
    return {
        f"{stem}*.safetensors": _component(find_files(folder, stem), folder / "config.json"),
        "models_t5_*.pth": _component(_pickled_or_safe(folder, "models_t5_*")),
        "Wan2.1_VAE.pth": _component(_pickled_or_safe(folder, "Wan2.1_VAE")),
        "tokenizer folder (tokenizer.json or spiece.model)": _tokenizer_folder(folder),
    }


def _component(files: tuple[Path, ...], config: Path | None = None) -> Component | None:
    return Component(files, config if config and config.is_file() else None) if files else None


def _pickled_or_safe(folder: Path, stem: str) -> tuple[Path, ...]:
    """The safetensors file of that name, else the pickled one."""
    for suffix in (".safetensors", ".pth"):
        found = sorted(folder.glob(stem + suffix))
        if found:
            return tuple(found[:1])
    return ()


def _tokenizer_folder(folder: Path) -> Path | None:
    """The folder below `folder` that holds a tokenizer: "tokenizer", google/umt5-xxl, or any other; else None."""
    depths = ("", "*/", "*/*/")  # no deeper: the folder may be anything, a home directory too
    found = {path.parent for name in _TOKENIZER_FILES for depth in depths for path in folder.glob(depth + name)}
    preferred = [folder / "tokenizer", folder / "google" / "umt5-xxl"]
    return next((path for path in [*preferred, *sorted(found)] if path in found), None)
