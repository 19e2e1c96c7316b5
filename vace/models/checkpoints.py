"""Where a base model lies and how its folder is laid out, found without loading anything.

Four layouts are read at any size. 'wan', the original's: config.json, diffusion_pytorch_model*.safetensors,
models_t5_*.pth, Wan2.1_VAE.pth and a tokenizer folder. 'diffusers': transformer/, text_encoder/, vae/, tokenizer/.
'single': Wan's transformer in one or two files of any name, the rest wherever it lies (see single_files.py,
companions.py). 'ltx': one .safetensors with transformer and VAE, text_encoder/ and tokenizer/ beside it. A folder may
carry a `vace.json` with defaults for the flags a user leaves out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vace import hub
from vace.bases import LTX, MODELS, WAN, Base, base_of_model
from vace.errors import CheckpointError, InputError, MissingWeights, nearest
from vace.models import companions, single_files
from vace.models.layouts import Component, diffusers_parts, ltx_parts, original_parts, tokenizer_folder
from vace.weight_files import find_files, fingerprint, read_header, read_json

TINY = "tiny"
_LTX_KEY, _VACE_KEY = "patchify_proj.weight", "patchify_context_proj."
_OF_WAN = ("diffusion_pytorch_model", "models_t5", "Wan2.1_VAE")
_COMPANIONS = "Wan-AI/Wan2.1-T2V-1.3B"  # holds the same text encoder, VAE and tokenizer
_COMPANION_FILES = {
    "text encoder": "models_t5_umt5-xxl-enc-bf16.pth", "VAE": "Wan2.1_VAE.pth",
    "tokenizer": "google/umt5-xxl/tokenizer.json google/umt5-xxl/tokenizer_config.json",
}  # fmt: skip
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


@dataclass(frozen=True)
class Checkpoint:
    """A base model on this machine, found but not loaded.

    layout: 'wan', 'diffusers', 'single' or 'ltx'. base: the base model, 'wan' or 'ltx'. name: what its results are
    filed under. defaults: the content of vace.json. is_toy: True for a model that only shows that everything works.
    settings: json given by `--config`, or None.
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

    @property
    def base(self) -> str:
        return LTX.name if self.layout == LTX.name else WAN.name

    def fingerprint(self) -> str:
        """16 hex digits that tell these weights, this tokenizer and these settings from others."""
        parts = (self.transformer, self.text_encoder, self.vae)
        files = {file for part in parts for file in (*part.files, *([part.config] if part.config else []))}
        files |= {path for path in self.tokenizer.iterdir() if path.is_file()}
        return fingerprint({path.resolve() for path in [*files, *([self.settings] if self.settings else [])]})


def find_checkpoint(
    ckpt_dir: str | None,
    model_name: str | None,
    *,
    base: Base = WAN,
    no_download: bool = False,
    config: str | None = None,
    text_encoder_path: str | None = None,
    vae_path: str | None = None,
) -> Checkpoint:
    """The checkpoint meant by `--ckpt_dir` and `--model_name`; a model that was named is never replaced by another.

    ckpt_dir: a folder, a single file, Wan's T2V and VACE module as 'FILE+FILE', a hub id (`org/name`) or 'tiny'.
    model_name: a key of MODELS, a repository name, or 'tiny'. With neither, a published model of `base` found on this
    machine, else the embedded one. config: a json with what the tensors cannot tell. text_encoder_path: the folder with
    text_encoder/ and tokenizer/, where LTX's are not beside its file; for Wan a text encoder's file or folder to use
    instead of the checkpoint's own. vae_path: likewise Wan's VAE. Raises MissingWeights, CheckpointError, or InputError
    for an unknown name, for a model of another base, and for two that disagree.
    """
    settings = Path(config) if config else None
    if settings is not None and not settings.is_file():
        wanted = "num_attention_heads" if base is LTX else "num_heads, vace_layers and text_len"
        raise InputError(f"--config {config}: no such file; give a json with {wanted}")
    if vae_path is not None and base is LTX:
        raise InputError("--vae_path: for --base wan; LTX's file holds its VAE")
    texts = Path(text_encoder_path).expanduser() if text_encoder_path else None
    texts = _texts_folder(text_encoder_path) if text_encoder_path and base is LTX else texts
    vae = Path(vae_path).expanduser() if vae_path else None
    name = _model_key(model_name, base) if model_name else None
    if ckpt_dir:
        files = single_files.named_files(ckpt_dir) if base is WAN else ()
        if files:
            folder = files[0]
        else:
            folder = tiny_folder(base) if ckpt_dir == TINY else _explicit_folder(ckpt_dir, no_download, base)
        found = open_checkpoint(folder, settings, texts, base, vae, files)
        _check_named(ckpt_dir, name, found)
        return found
    if name:
        named = tiny_folder(base) if name == TINY else _local_folder(name) or _fetched(MODELS[name][0], no_download)
        return open_checkpoint(named, settings, texts, base, vae)
    for name in base.models:
        folder = _local_folder(name)
        if folder is not None:
            return open_checkpoint(folder, settings, texts, base, vae)
    return open_checkpoint(tiny_folder(base), settings, texts, base, vae)


def open_checkpoint(
    place: Path,
    settings: Path | None = None,
    texts: Path | None = None,
    base: Base | None = None,
    vae: Path | None = None,
    files: tuple[Path, ...] = (),
) -> Checkpoint:
    """The checkpoint at `place` (a folder, or a single file), its layout recognised and all its files present.

    base: which base model it must be, where that is known. texts: LTX's folder of texts, or Wan's text encoder to use.
    vae: Wan's VAE to use. files: what makes Wan's transformer, where it is more than the file at `place`. Raises
    MissingWeights when parts are absent (all of them named), CheckpointError for damaged json or shards, InputError for
    a model of another base.
    """
    if place.is_dir() and not os.access(place, os.R_OK | os.X_OK):
        raise CheckpointError(f"{place}: cannot be read; check its permissions")
    layout, parts = _recognised(place, texts, base, vae, files)
    folder = place.parent if place.is_file() else place
    absent = [what for what, part in parts.items() if part is None]
    if len(absent) == len(parts):
        raise MissingWeights(f"{place}: {_nothing(base)}; {_advice(place, base)}")
    if absent and layout == "single":
        raise MissingWeights(f"{place}: {_without_companions(absent)}")
    if absent:
        raise MissingWeights(f"{place}: incomplete, no {', no '.join(absent)}; {_advice(place, base)}")
    defaults = read_json(folder / "vace.json") if (folder / "vace.json").is_file() else {}
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(defaults.get("name") or "model")):  # it becomes a folder's name
        raise CheckpointError(
            f"{folder / 'vace.json'}: its name is no plain name; letters, digits, '.', '-' and '_' are"
        )
    transformer, text_encoder, decoder, tokenizer = parts.values()
    return Checkpoint(
        path=place,
        layout=layout,
        name=str(defaults.get("name") or _known_name(folder) or _plain_name(place)),
        transformer=transformer,
        text_encoder=text_encoder,
        vae=decoder,
        tokenizer=tokenizer,
        is_toy=bool(defaults.get("toy", False)),
        defaults=defaults,
        settings=settings,
    )


def _check_named(ckpt_dir: str, name: str | None, found: Checkpoint) -> None:
    """Raise InputError where the checkpoint is not the model that was named, as far as can be told."""
    if name and _size(name) != _size(found.name) and (found.is_toy or found.name in MODELS or name == TINY):
        raise InputError(f"--ckpt_dir {ckpt_dir} is {found.name}, --model_name says {name}; leave one of them out")
    size = single_files.size_of(found.transformer.files) if name and found.layout == "single" else None
    if size is not None and size != _size(name):
        raise InputError(
            f"--ckpt_dir {ckpt_dir} is of the size {size}, --model_name says {name}; leave one of them out"
        )


def _recognised(
    place: Path, texts: Path | None, base: Base | None, vae: Path | None, files: tuple[Path, ...]
) -> tuple[str, dict[str, Any]]:
    """The layout at `place`, and the four parts found there (None: absent)."""
    single = place if place.is_file() and _is_ltx(place) else single_file(place)
    if single is not None:
        if base is WAN:
            raise InputError(f"--ckpt_dir {place}: a model of LTX; run it with `vace ltx`, or `--base ltx`")
        return LTX.name, ltx_parts(single, texts or single.parent)
    if place.is_file():
        if base is LTX or place.suffix not in single_files.SUFFIXES:
            raise CheckpointError(
                f"{place}: a file, and no LTX model; --ckpt_dir takes the folder that holds the whole model, LTX's "
                "single .safetensors, or Wan's transformer as .safetensors or .gguf (with `vace wan`)"
            )
        return "single", _parts_around(files or (place,), texts, vae)
    layout = "diffusers" if (place / "transformer").is_dir() else WAN.name
    parts = diffusers_parts(place) if layout == "diffusers" else original_parts(place)
    if base is LTX:
        if parts and any(part for what, part in parts.items() if "tokenizer" not in what):
            raise InputError(
                f"--ckpt_dir {place}: no single LTX file; a model of Wan runs with `vace wan`, or `--base wan`"
            )
        return LTX.name, dict.fromkeys((*parts,))
    if layout == WAN.name and place.is_dir() and next(iter(parts.values())) is None:
        found = single_files.files_in(place)
        if found:
            return "single", _parts_around(found, texts, vae)
    return layout, _replaced(parts, texts, vae)


def _parts_around(files: tuple[Path, ...], texts: Path | None, vae: Path | None) -> dict[str, Any]:
    """The parts of a model whose transformer is in files of its own."""
    files = single_files.checked_files(files)
    search = companions.Search(files, single_files.fit_of(files), _other_folders)
    encoder, tokenizer = companions.given_text_encoder(str(texts)) if texts else (search.text_encoder(), None)
    return {
        "transformer": single_files.transformer_component(files),
        "text encoder": encoder,
        "VAE": companions.given_vae(str(vae)) if vae else search.vae(),
        "tokenizer": tokenizer or search.tokenizer(encoder),
    }


def _replaced(parts: dict[str, Any], texts: Path | None, vae: Path | None) -> dict[str, Any]:
    """The parts of a folder, those that were given instead of its own."""
    transformer, encoder, decoder, tokenizer = parts
    if texts is not None:
        parts[encoder], own = companions.given_text_encoder(str(texts))
        parts[tokenizer] = own or parts[tokenizer]
    if vae is not None:
        parts[decoder] = companions.given_vae(str(vae))
    return parts


def _other_folders() -> Iterator[Path]:
    """Models of Wan on this machine, whole or not: those of VACE first, then whatever lies beside them, then cached."""
    yield from (folder for name in WAN.models for folder in folders_of(name) if folder.is_dir())
    for root in _roots():
        yield from sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ()
    for repository in (*(one for name in WAN.models for one in MODELS[name]), _COMPANIONS):
        cached = hub.cached_folder(repository)
        if cached is not None:
            yield cached


def _without_companions(absent: list[str]) -> str:
    """What to do about a single file's missing text encoder, VAE or tokenizer."""
    flags = {"text encoder": "--text_encoder_path FILE", "VAE": "--vae_path FILE"}
    named = [flags[what] for what in absent if what in flags]
    files = " ".join(_COMPANION_FILES[what] for what in absent)
    either = f"give {' and '.join(named)}, or " if named else ""
    return (
        f"no {', no '.join(absent)} for this transformer in the same file, beside it, in a ComfyUI tree around it or "
        f"in a Wan model below ./models; {either}get it with: {hub.command(_COMPANIONS, files + ' ')}"
    )


def _texts_folder(text_encoder_path: str) -> Path:
    """The folder that holds text_encoder/ and tokenizer/; given either of these, its own."""
    folder = Path(text_encoder_path).expanduser()
    if folder.name == "text_encoder" and not (folder / "text_encoder").is_dir():
        folder = folder.parent
    if not (find_files(folder / "text_encoder", "model") and tokenizer_folder(folder)):
        raise InputError(
            f"--text_encoder_path {text_encoder_path}: holds no text_encoder/model*.safetensors beside a tokenizer/; "
            "give the folder that has both"
        )
    return folder


def single_file(folder: Path) -> Path | None:
    """The LTX checkpoint in a folder: the one .safetensors at its top with LTX's transformer, of VACE before others.

    Raises CheckpointError where several could be meant.
    """
    if (folder / "transformer").is_dir() or not folder.is_dir():
        return None
    files = [path for path in sorted(folder.glob("*.safetensors")) if not path.name.startswith(_OF_WAN)]
    if len(files) == 1:
        return files[0] if _is_ltx(files[0]) else None
    names = {path: _keys(path) for path in files}
    found = [path for path in files if any(key.endswith(_LTX_KEY) for key in names[path])]
    leading = [path for path in found if any(_VACE_KEY in key for key in names[path])] or found
    if len(leading) > 1:
        listed = ", ".join(path.name for path in leading)
        raise CheckpointError(f"{folder}: several LTX models ({listed}); name one of the files with --ckpt_path")
    return leading[0] if leading else None


def _keys(file: Path) -> Iterable[str]:
    """The tensors' names; of a file that cannot be read, none."""
    try:
        return read_header(file)
    except CheckpointError:
        return ()


def _is_ltx(file: Path) -> bool:
    return file.suffix == ".safetensors" and any(key.endswith(_LTX_KEY) for key in read_header(file))


def tiny_folder(base: Base = WAN) -> Path:
    """The embedded toy model of a base: inside the installed package, or in the clone's assets."""
    package = Path(__file__).resolve().parents[1]
    for root in (package, package.parent):
        folder = root / "assets" / "models" / base.tiny
        if folder.is_dir():
            return folder
    raise MissingWeights(f"the embedded model {base.tiny} is not in this installation; install vace again")


def _explicit_folder(ckpt_dir: str, no_download: bool, base: Base) -> Path:
    folder = Path(ckpt_dir).expanduser()
    if folder.exists():
        return folder
    if _HUB_ID.match(ckpt_dir) and not Path(folder.parts[0]).is_dir() and folder.parts[0] != "models":
        cached = hub.cached_folder(ckpt_dir)
        return cached if cached is not None and _is_whole(cached) else _fetched(ckpt_dir, no_download)
    what, place = ("file", folder.parent) if folder.suffix == ".safetensors" else ("folder", folder)
    raise MissingWeights(f"--ckpt_dir {ckpt_dir}: no such {what}; {_advice(place, base)}")


def _model_key(model_name: str, base: Base) -> str:
    """'tiny', or the key of MODELS meant by a short name or by a repository's name with or without its owner."""
    if model_name == TINY:
        return TINY
    for name, repositories in MODELS.items():
        spellings = {name, *repositories, *(repository.partition("/")[2] for repository in repositories)}
        if model_name.lower() in {spelling.lower() for spelling in spellings}:
            if name not in base.models:
                other = base_of_model(name).name
                raise InputError(f"--model_name {model_name}: a model of {other}; run it with `vace {other}`, or "
                                 f"`--base {other}`")  # fmt: skip
            return name
    raise InputError(f"--model_name {model_name}: unknown model; {nearest(model_name, [*base.models, TINY])}")


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
    return [root / repository.partition("/")[2] for repository in MODELS[name] for root in _roots()]


def _roots() -> list[Path]:
    return [Path("models"), *(Path(root).expanduser() for root in [os.environ.get("VACE_MODELS")] if root)]


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


def _advice(place: Path, base: Base | None = None) -> str:
    """The command that gets the model: the published one the place is named after, else the smallest of the base."""
    name = _known_name(place) or next(iter((base or WAN).models))
    fitting = [repository for repository in MODELS[name] if repository.partition("/")[2] == place.name]
    return hub.how_to_get((fitting or MODELS[name])[0])


def _nothing(base: Base | None) -> str:
    return "holds no LTX-VACE model (one .safetensors)" if base is LTX else "holds no Wan VACE model in either layout"


def _plain_name(place: Path) -> str:
    """What results of a checkpoint without a name are filed under."""
    return re.sub(r"[^\w.-]", "-", place.stem if place.is_file() else place.resolve().name) or "model"
