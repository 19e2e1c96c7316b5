"""A verb run as one job among others: what batches and the web pages share."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vace.warm import Warm

LEFTOVERS = (".*.partial*", ".layers-*", ".vace-write-test-*")  # temporary names of media.files, layers and runs
OF_NETWORKS = {"backend": "auto", "device": "auto", "batch_size": None, "no_download": False}


def call(command: str, flags: Mapping[str, object], warm: Warm, **more) -> dict:
    """The answer (`as_json`) of a verb, what it loads kept in `warm`.

    command: preprocess, pipeline, generate (whose flags hold the base), or the name of a base. more: further keywords
    of the verb: places, resume, progress, watch. Raises what the verb raises.
    """
    flags = dict(flags)
    if command == "preprocess":
        from vace.preprocess import preprocess

        chosen = {name: flags.pop(name, default) for name, default in OF_NETWORKS.items()}
        return preprocess(**flags, **more, networks=warm.networks(**chosen)).as_json()
    if command == "pipeline":
        from vace.pipeline import pipeline as verb
    else:
        from vace.generate import generate as verb
    if command not in ("pipeline", "generate"):
        flags["base"] = command
    return verb(**flags, **more, warm=warm).as_json()


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed run has left half written in `folder`, under its temporary names."""
    for pattern in LEFTOVERS:
        for path in folder.rglob(pattern):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
