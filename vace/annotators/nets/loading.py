"""The original's weight files into a module of our own that uses the same names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from vace.errors import CheckpointError
from vace.weight_files import open_weights

_UNUSED = "num_batches_tracked"  # a counter of training: some files carry it, nothing reads it
_SHOWN = 4


def load_original(module: torch.nn.Module, files: Sequence[Path], strip: str = "module.") -> None:
    """Fills `module` with the tensors in `files`, as float32, by their names without a leading `strip`.

    Raises CheckpointError, listing the names, when tensors are missing, unknown to the module or of another shape.
    """
    source = open_weights(tuple(files))
    stored = {key.removeprefix(strip): key for key in source.shapes if not key.endswith(_UNUSED)}
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items() if not key.endswith(_UNUSED)}
    faults = {
        "missing": [key for key in wanted if key not in stored],
        "unknown": [key for key in stored if key not in wanted],
        "of another shape": [
            f"{key} {source.shapes[stored[key]]}, not {shape}"
            for key, shape in wanted.items()
            if key in stored and source.shapes[stored[key]] != shape
        ],
    }
    found = "; ".join(f"{len(names)} {fault}: {_some(names)}" for fault, names in faults.items() if names)
    if found:
        where = ", ".join(str(path) for path in files)
        raise CheckpointError(f"{where}: not the weights of {type(module).__name__} ({found}); download the file again")
    module.load_state_dict({key: source.read(stored[key]).float() for key in wanted}, strict=False)
    source.close()


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
