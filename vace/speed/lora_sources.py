"""What `--lora` says, and where the file it means lies: on this machine, or on the hub."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vace import hub
from vace.errors import InputError, MissingWeights
from vace.weight_files import PICKLED

ENDINGS = (".safetensors", *PICKLED)
# What the common tools (peft, diffusers, `vace train`) call the one LoRA of a folder.
_USUAL = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors", "lora.safetensors", "adapter_model.bin")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_FORM = "give PATH_OR_HUB_ID[:FILE][=WEIGHT]"
_LISTED = 6


@dataclass(frozen=True)
class LoraSpec:
    """One LoRA as asked for. place: a file, a folder or a hub id (`org/name`). file: which one there, where needed."""

    place: str
    file: str | None = None
    weight: float = 1.0

    def __str__(self) -> str:
        return self.place + (f":{self.file}" if self.file else "")


def parse_loras(text: str | Sequence[str] | None) -> list[LoraSpec]:
    """The LoRAs of `--lora`: `PATH_OR_HUB_ID[:FILE][=WEIGHT]`, comma lists and repeated flags alike, in order.

    A weight is any finite number, 1 where none is given. A comma, colon or equals sign in the name of a file that
    exists belongs to the name. Raises InputError for what has another form; whether a file is there is not looked at.
    """
    parts = [text] if isinstance(text, (str, os.PathLike)) else text or []
    return [spec for part in parts for spec in _parse_list(str(part).strip())]


def locate(spec: LoraSpec, no_download: bool = False) -> Path:
    """The file that `spec` means, fetched from the hub where need be.

    Raises MissingWeights, with the command that gets it, for one that is not there, InputError where several could be
    meant.
    """
    place = Path(spec.place).expanduser()
    if place.is_file():
        if spec.file:
            raise InputError(f"--lora {spec}: {spec.place} is a file; leave out ':{spec.file}'")
        return place
    if place.is_dir():
        found = _in_folder(place, spec)
        if found is None:
            raise MissingWeights(f"--lora {spec}: {place} holds no {spec.file or '.safetensors'}; {_FORM}")
        return found
    if not is_hub_id(spec.place):
        raise MissingWeights(f"--lora {spec}: no such file; {_FORM}")
    return _local_copy(spec) or _fetched(spec, no_download)


def is_hub_id(place: str) -> bool:
    """Whether `place` can only be a repository: `org/name`, without the ending of a weight file."""
    return bool(_HUB_ID.match(place)) and not place.endswith(ENDINGS) and not Path(place.partition("/")[0]).is_dir()


def _parse_list(text: str) -> list[LoraSpec]:
    if not text:
        return []
    if "," in text:
        parts = [part.strip() for part in text.split(",")]
        whole = _parse_form(text)
        if not (whole and Path(whole.place).expanduser().exists()):
            return [_parse_one(part) for part in parts if part]
    return [_parse_one(text)]


def _parse_one(text: str) -> LoraSpec:
    spec = _parse_form(text)
    if spec is None:
        tail = text.rpartition("=")[2]
        raise InputError(f"--lora {text}: '{tail}' is no usable weight; write a number, such as =0.8")
    if re.fullmatch(r"[\d.]+", spec.place) and not _exists(spec.place):
        raise InputError(f"--lora {text}: names no file; a comma separates LoRAs, a weight has a point, such as =0.8")
    if not spec.place or spec.file == "":
        raise InputError(f"--lora {text}: names no file; {_FORM}")
    if spec.file and (".." in PurePosixPath(spec.file).parts or PurePosixPath(spec.file).is_absolute()):
        raise InputError(f"--lora {text}: {spec.file} leads out of {spec.place}; name a file in it")
    return spec


def _parse_form(text: str) -> LoraSpec | None:
    """None for a weight that is no finite number."""
    if _exists(text):
        return LoraSpec(text)
    name, equals, number = text.rpartition("=")
    if not equals:
        return LoraSpec(*_split_file(text))
    try:
        weight = float(number)
    except ValueError:
        return None
    return LoraSpec(*_split_file(name.strip()), weight) if math.isfinite(weight) else None


def _split_file(text: str) -> tuple[str, str | None]:
    place, colon, file = text.rpartition(":")
    if not colon or _exists(text) or (len(place) == 1 and _DRIVE.match(text)):
        return text, None
    return place, file.strip()


def _exists(text: str) -> bool:
    return bool(text) and Path(text).expanduser().exists()


def _in_folder(folder: Path, spec: LoraSpec) -> Path | None:
    if spec.file:
        return folder / spec.file if (folder / spec.file).is_file() else None
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
    name = _only_lora(names, spec)
    return folder / name if name else None


def _only_lora(names: Iterable[str], spec: LoraSpec) -> str | None:
    """The one weight file among `names`; None without any. Raises InputError where several could be meant."""
    names = [name for name in names if name.endswith(ENDINGS)]
    usual = [name for name in _USUAL if name in names]
    if usual or len(names) < 2:
        return (usual or names or [None])[0]
    safe = [name for name in names if not name.endswith(PICKLED)]
    if len(safe) == 1:
        return safe[0]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    listed = ", ".join(names[:_LISTED])
    raise InputError(f"--lora {spec}: holds several ({listed}{more}); say which: {spec.place}:{names[0]}")


def _local_copy(spec: LoraSpec) -> Path | None:
    """In ./models, $VACE_MODELS or the hub cache, as for the models themselves."""
    roots = [Path("models"), *(Path(root).expanduser() for root in [os.environ.get("VACE_MODELS")] if root)]
    folders = [root / spec.place.partition("/")[2] for root in roots]
    folders += [folder for folder in [hub.cached_folder(spec.place)] if folder is not None]
    for folder in folders:
        if folder.is_dir() and (found := _in_folder(folder, spec)):
            return found
    return None


def _fetched(spec: LoraSpec, no_download: bool) -> Path:
    wanted = (spec.file,) if spec.file else ()
    if hub.is_offline(no_download):
        advice = hub.how_to_get(spec.place, wanted)
        raise MissingWeights(f"--lora {spec}: not on this machine and downloading is off; {advice}")
    file = spec.file or _published_lora(spec)
    folder = hub.download(spec.place, (file, "*adapter_config.json"))
    return folder / file


def _published_lora(spec: LoraSpec) -> str:
    """The one LoRA of a repository. Only names are asked for: some repositories hold hundreds of gigabytes."""
    address = hub.endpoint()
    advice = f"name its file, {spec.place}:FILE, or {hub.how_to_get(spec.place)}"
    if not hub.reachable(address):
        raise MissingWeights(f"--lora {spec}: {address} cannot be reached from here; {advice}")
    from huggingface_hub import HfApi

    try:
        names = HfApi(endpoint=address).list_repo_files(spec.place)
    except Exception as error:  # by version, the library's transport raises classes of one package or another
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MissingWeights(f"--lora {spec}: its files cannot be listed ({reason}); {advice}") from error
    found = _only_lora(names, spec)
    if found is None:
        raise MissingWeights(f"--lora {spec}: the hub holds no LoRA there (no .safetensors); {_FORM}")
    return found
