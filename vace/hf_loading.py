"""Networks of transformers: where copies may be on this machine, and their loading: quiet, misfits told by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vace import hub
from vace.errors import CheckpointError

COLLECTION = "ali-vilab/VACE-Annotators"  # the original's files, below a folder of that name
_SHOWN = 4


def roots() -> list[Path]:
    """Folders that may hold the collection or a transformers folder: ./models, then $VACE_MODELS."""
    return [Path("models"), *(Path(root).expanduser() for root in [os.environ.get("VACE_MODELS")] if root)]


def collection_folders() -> list[Path]:
    """Copies of the collection on this machine: in `roots`, and in the hub cache."""
    cached = hub.cached_folder(COLLECTION)
    folders = [root / COLLECTION.partition("/")[2] for root in roots()] + ([cached] if cached else [])
    return [folder for folder in folders if folder.is_dir()]


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer in `folder`. Raises CheckpointError where it cannot be read."""
    from transformers import AutoTokenizer

    with readable(str(folder)), quiet():
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def load(kind: type, source: str | None, where: str, ignored: Sequence[str] = (), **given: Any) -> Any:
    """What `kind.from_pretrained` makes of the folder `source`, or of what is `given` to it; ready to infer.

    where: names the origin in errors. ignored: patterns of names that may be there unused. given: goes to
    `from_pretrained` (dtype: float32 unless it says so). Raises CheckpointError, listing the names, for tensors
    missing, unknown or of another shape, and for what cannot be read.
    """
    import torch

    options = {"dtype": torch.float32} | given
    with readable(where), quiet():
        network, report = kind.from_pretrained(
            source,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are reported below, all at once
            output_loading_info=True,
            **options,
        )
    unknown = [key for key in report["unexpected_keys"] if not any(re.search(rule, key) for rule in ignored)]
    shaped = [f"{key} {tuple(found)}, not {tuple(wanted)}" for key, found, wanted in report["mismatched_keys"]]
    refuse_misfits(where, type(network).__name__, missing=report["missing_keys"], unknown=unknown, shaped=shaped)
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
