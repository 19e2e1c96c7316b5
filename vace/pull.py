"""`vace models pull NAME`: weights fetched on purpose, resumed and checked."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from vace import hub
from vace.annotators import mediapipe
from vace.annotators.networks import COLLECTION, NETWORKS, Network, find_weights, how_to_get, roots
from vace.bases import MODELS, base_of_model
from vace.errors import InputError, MissingWeights, nearest

log = logging.getLogger("vace")

MEDIAPIPE, ALL = "mediapipe", "all"


def pull(name: str) -> dict:
    """Fetches the weights called `name`: a network, "mediapipe", a base model, or "all" networks and MediaPipe's.

    A network's original files go to models/VACE-Annotators, a base model to models/ under its repository's name (below
    $VACE_MODELS where that is set), what transformers reads to the hub cache. Interrupted, it goes on where it was.
    Returns {"name", "path", "files": [{"path", "size"}]}, for "all" {"name", "parts", "left_out": {name: why}}.
    Raises InputError for an unknown name; MissingWeights when they cannot be had.
    """
    spelled = {known.lower(): known for known in (*NETWORKS, MEDIAPIPE, *MODELS, ALL)}
    if str(name).lower() not in spelled:
        raise InputError(f"vace models pull {name}: there are no such weights; {nearest(str(name), spelled.values())}")
    name = spelled[name.lower()]
    if name == ALL:
        return _all()
    if name == MEDIAPIPE:
        return _mediapipe()
    return _network(NETWORKS[name]) if name in NETWORKS else _base_model(name)


def _all() -> dict:
    """Every network in turn; one that may not be fetched is left out, one that cannot be had ends it."""
    left_out = {row.name: how_to_get(row) for row in NETWORKS.values() if not row.is_fetched}
    for name, remedy in left_out.items():
        log.warning("%s is left out: %s; %s", name, NETWORKS[name].licence, remedy)
    parts = [pull(name) for name in (MEDIAPIPE, *NETWORKS) if name not in left_out]
    return {"name": ALL, "parts": parts, "left_out": left_out}


def _mediapipe() -> dict:
    if mediapipe.absent() and hub.is_offline():
        raise MissingWeights(f"{MEDIAPIPE}: {_OFFLINE}; {mediapipe.COMMAND}")
    folder = mediapipe.fetch()
    return _answer(MEDIAPIPE, folder, [folder / f"{name}.tflite" for name in mediapipe.FILES])


def _network(row: Network) -> dict:
    if not row.is_fetched:
        raise MissingWeights(f"{row.name}: its licence ({row.licence}) keeps it from being fetched; {how_to_get(row)}")
    note = f"licence: {row.licence}"
    repository, patterns, folder = COLLECTION, tuple(file.path for file in row.files), _local(COLLECTION)
    if row.hub:
        repository, patterns, folder = row.hub[0], hub.TRANSFORMERS, None
    _refuse_offline(row.name, repository, patterns)
    folder = hub.download(repository, patterns, folder=folder, note=note)
    if find_weights(row) is None:
        raise MissingWeights(f"{row.name}: {repository} holds nothing that can be loaded; {how_to_get(row)}")
    found = [folder / path for path in patterns] if not row.hub else _files(folder)
    return _answer(row.name, folder, found)


def _base_model(name: str) -> dict:
    repository = MODELS[name][0]
    _refuse_offline(name, repository, hub.WANTED)
    folder = hub.download(repository, folder=_local(repository), note=f"licence: {base_of_model(name).licence}")
    return _answer(name, folder, _files(folder))


_OFFLINE = "not fetched, HF_HUB_OFFLINE is set; unset it and run again"


def _refuse_offline(name: str, repository: str, patterns: Iterable[str]) -> None:
    if hub.is_offline():
        raise MissingWeights(f"{name}: {_OFFLINE}, or on another machine {hub.how_to_get(repository, tuple(patterns))}")


def _local(repository: str) -> Path:
    """Where a repository's copy belongs: below $VACE_MODELS where that is set, else below ./models."""
    return roots()[-1] / repository.partition("/")[2]


def _files(folder: Path) -> list[Path]:
    return [
        path for path in folder.rglob("*") if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    ]


def _answer(name: str, folder: Path, files: Iterable[Path]) -> dict:
    told = [{"path": path.relative_to(folder).as_posix(), "size": path.stat().st_size} for path in sorted(files)]
    return {"name": name, "path": str(folder), "files": told}
