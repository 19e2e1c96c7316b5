"""Transformers of Wan-VACE as single files: the whole, or a T2V model and the VACE module that completes it.

`--ckpt_dir` names one file, two as 'T2V+MODULE' (or with a comma), or a folder in which they lie. Which is which is
told by their tensors. ComfyUI's and Kijai's files are of this kind, .safetensors or .gguf.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vace.errors import CheckpointError, InputError, MissingDependency, MissingWeights
from vace.models import file_kinds
from vace.models.file_kinds import MODULE, SUFFIXES, T2V, TRANSFORMERS, VACE, listed, shapes_in, transformer_kind
from vace.models.keymaps import class_names
from vace.models.layouts import Component
from vace.weight_files import read_json

JOINED = "T2V.safetensors+MODULE.safetensors"
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
_SIZES = {1536: "1.3B", 5120: "14B"}  # width -> the published model of that width
_OWN_CLASSES = ("VaceWanModel", "WanVACETransformer3DModel")


def named_files(text: str) -> tuple[Path, ...]:
    """The weight files that `--ckpt_dir` names; none where it names a folder, a hub id or another kind of file.

    Raises MissingWeights for one of several that is not there.
    """
    whole = Path(text).expanduser()
    if whole.exists() or not text.endswith(SUFFIXES):
        return (whole,) if whole.is_file() and whole.suffix in SUFFIXES else ()
    for sign in "+,":
        files = tuple(Path(part.strip()).expanduser() for part in text.split(sign))
        if len(files) > 1 and all(file.suffix in SUFFIXES for file in files):
            absent = [str(file) for file in files if not file.is_file()]
            if absent:
                raise MissingWeights(f"--ckpt_dir {text}: no such file: {', '.join(absent)}")
            return files
    return ()


def checked_files(files: Sequence[Path]) -> tuple[Path, ...]:
    """The files of one transformer, the main one first: VACE's whole, or T2V and module.

    Raises InputError or CheckpointError, naming what each file holds instead.
    """
    shards = [file for file in files if _SHARD.search(file.name)]
    if shards:
        raise InputError(f"--ckpt_dir {shards[0]}: one piece of several; give the folder that holds them all")
    kinds = {file: _kind(file) for file in files}
    by_kind = {kind: [file for file in files if kinds[file] == kind] for kind in TRANSFORMERS}
    counts = tuple(len(by_kind[kind]) for kind in TRANSFORMERS)
    if counts in ((1, 0, 0), (0, 1, 1)):
        return (*by_kind[VACE], *by_kind[T2V], *by_kind[MODULE])
    said = "; ".join(f"{file.name} is {kinds[file]}" for file in files)
    if counts == (0, 1, 0):
        raise InputError(f"--ckpt_dir {files[0]}: {T2V} without VACE's context blocks; add the module: {JOINED}")
    if counts == (0, 0, 1):
        raise InputError(f"--ckpt_dir {files[0]}: {MODULE}, which completes a T2V model; name both: {JOINED}")
    raise InputError(f"--ckpt_dir: {said}; give one VACE transformer, or one T2V transformer and one module")


def files_in(folder: Path) -> tuple[Path, ...]:
    """The files of the one VACE transformer at the top of a folder, whatever they are called; none where there is none.

    Raises CheckpointError where several could be meant, or a half is missing; MissingDependency where what is missing
    may be in a GGUF file and the package for these is not there.
    """
    found: dict[str, list[Path]] = {kind: [] for kind in TRANSFORMERS}
    unread: list[MissingDependency] = []
    for file in sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file()):
        try:
            kind = transformer_kind(file_kinds.readable_shapes(file))
        except MissingDependency as error:
            unread.append(error)
            continue
        if kind in found:
            found[kind].append(file)
    whole, base, module = found.values()
    if unread and not whole:  # what is missing may be in there
        raise unread[0]
    if len(whole) == 1 and not module:
        return (whole[0],)
    if not whole and len(base) == len(module) == 1:
        return (base[0], module[0])
    if not whole and not module:
        return ()  # a folder of other models too: not even half of ours
    names = ", ".join(file.name for file in (*whole, *base, *module))
    if not whole and not base:
        raise CheckpointError(f"{folder}: holds {MODULE} ({names}) and no T2V transformer; name both: {JOINED}")
    raise CheckpointError(f"{folder}: several models could be meant ({names}); name the file, or both: {JOINED}")


def transformer_component(files: Sequence[Path]) -> Component:
    """The transformer in checked files, with the config.json beside them where it is of such a transformer."""
    config = files[0].parent / "config.json"
    try:
        stated = read_json(config) if config.is_file() else {}
    except CheckpointError:  # of something else, as far as can be told
        stated = {}
    is_own = stated.get("model_type") == "vace" or stated.get("_class_name") in _OWN_CLASSES
    return Component(tuple(files), config if is_own else None)


def fit_of(files: Sequence[Path]) -> tuple[int, int]:
    """(text width, latent channels) that the transformer in these files takes. Raises CheckpointError."""
    sizes = _sizes(files)
    try:
        width = sizes["condition_embedder.text_embedder.linear_1.weight"][1]
        return width, sizes["patch_embedding.weight"][1]
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{files[0]}: not a Wan VACE transformer (no usable {error})") from error


def size_of(files: Sequence[Path]) -> str | None:
    """'1.3B' or '14B' for a transformer of a published model's width, else None. Raises CheckpointError."""
    return _SIZES.get(_sizes(files).get("patch_embedding.weight", (0,))[0])


def _sizes(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """The shapes in all files by the class's names."""
    sizes = {}
    for file in files:
        shapes = shapes_in(file)
        sizes |= {new: shapes[old] for old, new in class_names("transformer", shapes).items()}
    return sizes


def _kind(file: Path) -> str:
    """What a file the user named holds. Raises CheckpointError for anything but a transformer, listing its tensors."""
    shapes = shapes_in(file)
    kind = transformer_kind(shapes)
    if kind in TRANSFORMERS:
        return str(kind)
    if kind is None and file_kinds.text_width(shapes, str(file)):
        kind = "a text encoder (--text_encoder_path takes it)"
    elif kind is None and file_kinds.vae_channels(shapes, str(file)):
        kind = "a VAE (--vae_path takes it)"
    raise CheckpointError(
        f"{file}: {kind or 'no model that is known here'}, where a transformer of Wan-VACE is expected; its tensors: "
        f"{listed(shapes)}"
    )
