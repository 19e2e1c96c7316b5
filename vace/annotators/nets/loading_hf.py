"""Trained weights into a network of transformers: quietly, and what does not fit is told by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vace.errors import CheckpointError

_SHOWN = 4


def from_folder(kind: type, folder: Path, ignored: Sequence[str] = ()) -> Any:
    """The network of class `kind` that `folder` (config.json, *.safetensors) holds, as float32, ready to infer.

    ignored: patterns of names that may be there unused. Raises CheckpointError, listing the names, for tensors missing,
    unknown or of another shape, and for a folder that cannot be read.
    """
    return _load(kind, str(folder), str(folder), ignored)


def from_tensors(kind: type, config: Any, tensors: Mapping[str, Any], where: str) -> Any:
    """The network of class `kind` and of `config` filled with `tensors`, named as transformers publishes them.

    where: names their origin in errors, which are those of `from_folder`.
    """
    return _load(kind, None, where, (), config=config, state_dict=dict(tensors))


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer in `folder`. Raises CheckpointError where it cannot be read."""
    from transformers import AutoTokenizer

    with readable(str(folder)), quiet():
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def _load(kind: type, source: str | None, where: str, ignored: Sequence[str], **given: Any) -> Any:
    import torch

    with readable(where), quiet():
        network, report = kind.from_pretrained(
            source,
            local_files_only=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are reported below, all at once
            output_loading_info=True,
            **given,
        )
    unknown = [key for key in report["unexpected_keys"] if not any(re.search(rule, key) for rule in ignored)]
    shaped = [f"{key} {tuple(found)}, not {tuple(wanted)}" for key, found, wanted in report["mismatched_keys"]]
    refuse_misfits(where, kind.__name__, missing=report["missing_keys"], unknown=unknown, shaped=shaped)
    return network.eval().requires_grad_(False)


def refuse_misfits(
    where: str, network: str, *, missing: Iterable[str] = (), unknown: Iterable[str] = (), shaped: Iterable[str] = ()
) -> None:
    """Raises CheckpointError that lists what is missing, unknown or of another shape; nothing where nothing is."""
    faults = {"missing": sorted(missing), "unknown": sorted(unknown), "of another shape": sorted(shaped)}
    found = "; ".join(f"{len(names)} {fault}: {_some(names)}" for fault, names in faults.items() if names)
    if found:
        raise CheckpointError(f"{where}: not the weights of {network} ({found}); download them again")


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Tells any failure to read `where` as CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # damaged json, tensors or vocabulary: each library has its own kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(f"{where}: cannot be read ({reason}); download it again") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own progress bars and warnings."""
    from transformers.utils import logging

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
