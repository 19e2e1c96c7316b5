"""Weight files: names and shapes read without loading, tensors read one by one, every kind of damage named.

Names and shapes of `.safetensors` files come from their header alone, so looking at a 35 GB checkpoint costs nothing
and needs no torch. Pickled `.pth` files are read with `weights_only=True` only. What quantised files add (scales of
float8 tensors, GGUF's blocks) is undone as a tensor is read: see vace/models/scaled_fp8.py and gguf_files.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vace.errors import CheckpointError

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]
PICKLED = (".pth", ".pt", ".bin")
GGUF = ".gguf"
WRAPPERS = ("state_dict", "model")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.safetensors$")
_SAMPLE = 1 << 20  # bytes of each end of a file
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Entry:
    """One tensor as its file describes it. dtype: 'BF16', 'F8_E4M3', 'Q4_K' ..., '' for pickles. at: its first byte."""

    dtype: str
    shape: Shape
    at: int = 0
    size: int = 0


@dataclass(frozen=True)
class WeightFiles:
    """The tensors of one component, spread over one or several files.

    shapes: tensor name -> shape, over all files. holder: tensor name -> the file that holds it. dtypes: tensor name ->
    how it is stored (see Entry). scales: tensor name -> name of the tensor it is multiplied with when read.
    """

    files: tuple[Path, ...]
    shapes: Mapping[str, Shape]
    holder: Mapping[str, Path]
    dtypes: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, str] = field(default_factory=dict)
    _readers: dict[Path, Callable[[str], torch.Tensor]] = field(default_factory=dict, repr=False, compare=False)

    def read(self, key: str) -> torch.Tensor:
        """One tensor, on the CPU, in the type it is stored in (memory mapped where the file allows it).

        float32 for what is stored with a scale or in GGUF's blocks: the value it stands for.
        """
        tensor = self._stored(key)
        if key not in self.scales:
            return tensor
        from vace.models.scaled_fp8 import scaled

        return scaled(tensor, self._stored(self.scales[key]))

    def _stored(self, key: str) -> torch.Tensor:
        path = self.holder[key]
        if path not in self._readers:
            self._readers[path] = _reader(path)
        return self._readers[path](key)

    def close(self) -> None:
        """Lets go of the files; tensors already read stay."""
        self._readers.clear()


def fingerprint(files: Iterable[Path]) -> str:
    """16 hex digits that tell models apart: sha256 over name, size, and both ends of each file.

    A sample, because reading gigabytes through would take longer than what it is for.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as source:
            digest.update(source.read(_SAMPLE))
            source.seek(max(0, size - _SAMPLE))
            digest.update(source.read(_SAMPLE))
    return digest.hexdigest()[:16]


def open_weights(files: tuple[Path, ...]) -> WeightFiles:
    """The names and shapes in `files`. Raises CheckpointError, naming the file, for one that cannot be read."""
    from vace.models import scaled_fp8

    entries: dict[str, Entry] = {}
    holder: dict[str, Path] = {}
    for path in files:
        found = _entries(path)
        entries.update(found)
        holder.update(dict.fromkeys(found, path))
    scales = scaled_fp8.scales_of(entries, " + ".join(str(path) for path in files))
    weights = scaled_fp8.weights_of(entries)
    shapes = {key: entry.shape for key, entry in weights.items()}
    dtypes = {key: entry.dtype for key, entry in weights.items()}
    return WeightFiles(tuple(files), shapes, holder, dtypes, scales)


def _entries(path: Path) -> dict[str, Entry]:
    """What a file of any format holds, tensor by tensor."""
    if path.suffix in PICKLED:
        return {key: Entry("", tuple(tensor.shape)) for key, tensor in _load_pickle(path).items()}
    if path.suffix == GGUF:
        from vace.models.gguf_files import read_entries

        return read_entries(path)
    return _safetensors_entries(path)


def find_files(folder: Path, stem: str) -> tuple[Path, ...]:
    """The safetensors files of one component: those its index names, else every `<stem>*.safetensors`.

    Raises CheckpointError when the index, or the numbers in the shards' own names, ask for files that are not there.
    """
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_weight_map(index).values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(
                f"{index}: names {len(names)} weight files, {len(missing)} of them absent ({_some(missing)}); "
                "download the checkpoint again"
            )
        return tuple(folder / name for name in names)
    whole = folder / f"{stem}.safetensors"
    if whole.is_file():
        return (whole,)
    files = sorted(folder.glob(f"{stem}*.safetensors"))
    _check_numbering(folder, files)
    return tuple(files)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises CheckpointError when the file holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable JSON file ({error}); download it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a {type(value).__name__} where a JSON object is expected")
    return value


def read_header(path: Path) -> dict[str, Shape]:
    """Names and shapes of the weights in one safetensors file. Raises CheckpointError for every kind of damage."""
    from vace.models.scaled_fp8 import weights_of

    return {key: entry.shape for key, entry in weights_of(_safetensors_entries(path)).items()}


def read_bytes(path: Path, name: str) -> bytes | None:
    """The raw bytes of a safetensors tensor whose name is `name` or ends with `.name`; None where there is none."""
    entries, _ = _opened_header(path)
    found = next((entry for key, entry in entries.items() if key == name or key.endswith(f".{name}")), None)
    if found is None:
        return None
    with path.open("rb") as file:
        file.seek(found.at)
        return file.read(found.size)


def _safetensors_entries(path: Path) -> dict[str, Entry]:
    """The tensors of one safetensors file, without what is no weight; formats that are not read are refused."""
    from vace.models import scaled_fp8

    entries, metadata = _opened_header(path)
    entries = scaled_fp8.without_notes(entries, metadata, path)
    foreign = {key: entry.dtype for key, entry in entries.items() if entry.dtype not in scaled_fp8.READABLE}
    if foreign:
        kinds = ", ".join(sorted(set(foreign.values())))
        raise CheckpointError(
            f"{path}: {len(foreign)} tensors are no floating-point numbers of a known kind ({kinds}: "
            f"{_some(list(foreign))})"
        )
    return entries


def _opened_header(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """`_read_header`, with files that cannot be opened told like damaged ones."""
    try:
        return _read_header(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); check the file and its permissions"
        ) from error


def _read_header(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Tensors and metadata of one safetensors file, from its header; the file's size is checked against it.

    The layout is 8 bytes of header length (little endian), the header as JSON, then the tensors' bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(_POINTER) + 8)
        if start.startswith(_POINTER):
            raise CheckpointError(f"{path}: a git-lfs pointer, not the weights; run 'git lfs pull' there")
        length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
        if not 2 <= length <= size - 8:
            raise CheckpointError(
                f"{path}: not a safetensors file, or cut off within its header ({size} bytes); download it again"
            )
        file.seek(8)
        text = file.read(length)
    try:
        stated = json.loads(text)
        metadata = stated.pop("__metadata__", None) or {}
        entries = {key: _entry(entry, 8 + length) for key, entry in stated.items()}
        end = max((int(entry["data_offsets"][1]) for entry in stated.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path}: not a safetensors file (its header is damaged); download it again") from error
    if end != size - 8 - length:
        state = "truncated" if end > size - 8 - length else "too long"
        raise CheckpointError(
            f"{path}: {state}, it has {size} bytes and its header asks for {end + 8 + length}; download it again"
        )
    return entries, metadata


def _entry(stated: Mapping[str, Any], base: int) -> Entry:
    start, end = (int(offset) for offset in stated["data_offsets"])
    return Entry(str(stated["dtype"]), tuple(int(n) for n in stated["shape"]), base + start, end - start)


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: has no 'weight_map' that names the weight files; download it again")
    return weight_map


def _check_numbering(folder: Path, files: list[Path]) -> None:
    """Shards without an index must be complete by their own numbering (`-00002-of-00007`)."""
    numbers = [match.groups() for path in files if (match := _SHARD.search(path.name))]
    if not numbers:
        return
    total = int(numbers[0][1])
    absent = sorted(set(range(1, total + 1)) - {int(number) for number, _ in numbers})
    if absent:
        raise CheckpointError(f"{folder}: weight files {absent} of {total} are absent; download the checkpoint again")


def _reader(path: Path) -> Callable[[str], torch.Tensor]:
    if path.suffix in PICKLED:
        return _load_pickle(path).__getitem__
    if path.suffix == GGUF:
        from vace.models.gguf_files import reader

        return reader(path)
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(str(path), framework="pt", device="cpu").get_tensor
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged safetensors file ({error}); download it again") from error


def _load_pickle(path: Path) -> dict[str, torch.Tensor]:
    """The flat table of tensors in a `.pth` file, memory mapped when it is of the zip kind."""
    import pickle
    import zipfile

    import torch

    try:
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise CheckpointError(f"{path}: a git-lfs pointer, not the weights; run 'git lfs pull' there")
        mapped = zipfile.is_zipfile(path)
        table = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, OSError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        if isinstance(error, (pickle.UnpicklingError, KeyError)):  # torch's own words are advice to its callers
            reason = "it is no pickled table, or holds more than tensors"
        raise CheckpointError(
            f"{path}: truncated, or not a table of tensors that loads safely ({reason}); download it again"
        ) from error
    if isinstance(table, dict):  # training code wraps the table: {"model": {...}, ...}
        table = next((table[key] for key in WRAPPERS if isinstance(table.get(key), dict)), table)
    kinds = table.items() if isinstance(table, dict) else [(None, None)]
    if not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in kinds):
        raise CheckpointError(f"{path}: holds something other than a flat table of tensors")
    return table


def _some(names: list[str], limit: int = 4) -> str:
    """The first few names, then how many more there are."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
