"""GGUF files of a transformer: names, shapes and dequantised tensors, by the package gguf.

Dimensions are stored fastest first, so shapes are reversed; a tensor that was reshaped to fit the blocks states its
own shape in the field `comfy.gguf.orig_shape.NAME`. Each tensor is dequantised as it is read, to float32.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vace.errors import CheckpointError, MissingDependency
from vace.weight_files import Entry, Shape

if TYPE_CHECKING:
    import torch

ARCHITECTURE = "wan"
READABLE = (
    "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS".split()
)  # of the package's kinds those that files of this model are published in
_MAGIC = b"GGUF"
_SHAPE_FIELD = "comfy.gguf.orig_shape."
_LISTED = 4
_MOST_DIMENSIONS, _MOST_ITEMS = 8, 1 << 20  # beyond, the header is damaged: it would be read for ever


def read_entries(path: Path) -> dict[str, Entry]:
    """The tensors of one file by name, with the shapes they stand for; nothing is dequantised.

    Raises CheckpointError for a damaged or truncated file, another kind of model, or an unreadable kind of block;
    MissingDependency without the package.
    """
    opened = _opened(path)
    entries = {tensor.name: Entry(tensor.tensor_type.name, _shape(opened, tensor, path)) for tensor in opened.tensors}
    foreign = {key: entry.dtype for key, entry in entries.items() if entry.dtype not in READABLE}
    if foreign:
        raise CheckpointError(
            f"{path}: {len(foreign)} tensors are stored as {', '.join(sorted(set(foreign.values())))} "
            f"({', '.join(list(foreign)[:_LISTED])}); these kinds are read: {', '.join(READABLE)}"
        )
    return entries


def reader(path: Path) -> Callable[[str], torch.Tensor]:
    """A function that gives one tensor by name, float32, on the CPU."""
    opened = _opened(path)
    tensors = {tensor.name: tensor for tensor in opened.tensors}
    return lambda key: _dequantised(opened, tensors[key], path)


def _dequantised(opened: Any, tensor: Any, path: Path) -> torch.Tensor:
    import numpy as np
    import torch
    from gguf.quants import dequantize

    values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
    if not values.flags.writeable:  # a view of the file itself
        values = values.copy()
    return torch.from_numpy(values).reshape(_shape(opened, tensor, path))


def _opened(path: Path) -> Any:
    """The package's reader over a whole file of this architecture."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise MissingDependency(f"{path}: reading GGUF needs the package gguf; pip install 'vace[quant]'") from error
    _check_start(path)
    try:
        opened = GGUFReader(path)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, OSError, MemoryError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path}: truncated or damaged GGUF file ({reason}); download it again") from error
    kind = _text_field(opened, "general.architecture")
    if kind not in (None, ARCHITECTURE):
        raise CheckpointError(f"{path}: a GGUF file of the architecture '{kind}'; '{ARCHITECTURE}' is expected")
    if not opened.tensors:
        raise CheckpointError(f"{path}: a GGUF file without tensors; download it again")
    return opened


def _check_start(path: Path) -> None:
    """The magic word and the two counts, since the package would follow any number it finds there."""
    try:
        with path.open("rb") as file:
            start = file.read(24)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); check the file and its permissions"
        ) from error
    if start.startswith(b"version https://git-lfs"[:24]):
        raise CheckpointError(f"{path}: a git-lfs pointer, not the weights; run 'git lfs pull' there")
    if len(start) < 24 or not start.startswith(_MAGIC):
        raise CheckpointError(f"{path}: not a GGUF file; download it again")
    tensors, fields = struct.unpack("<QQ", start[8:])
    if max(tensors, fields) > _MOST_ITEMS:
        raise CheckpointError(f"{path}: damaged GGUF file (it counts {tensors} tensors, {fields} fields)")


def _shape(opened: Any, tensor: Any, path: Path) -> Shape:
    stored = tuple(int(side) for side in reversed(tensor.shape.tolist()))
    field = opened.get_field(f"{_SHAPE_FIELD}{tensor.name}")
    if field is None:
        return stored
    own = field.contents()
    is_shape = isinstance(own, list) and 0 < len(own) <= _MOST_DIMENSIONS and all(isinstance(n, int) for n in own)
    if not is_shape or math.prod(own) != math.prod(stored):
        raise CheckpointError(f"{path}: {tensor.name} says it was {own} and holds {list(stored)}; download it again")
    return tuple(own)


def _text_field(opened: Any, name: str) -> str | None:
    field = opened.get_field(name)
    return str(field.contents()) if field is not None else None
