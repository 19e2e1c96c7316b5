"""What `vace models` says of the networks that annotators use. Only folders are looked at: nothing is loaded."""

from __future__ import annotations

from dataclasses import replace

from vace import hub
from vace.annotators import mediapipe
from vace.annotators.networks import COLLECTION, NETWORKS, Network, collection_folders, find_weights, how_to_get, roots

MEDIAPIPE_LICENCE = "Apache-2.0"


def network_rows() -> list[dict]:
    """One row per network, then one for MediaPipe's files, of strings, numbers, lists and None only.

    backend: what serves now under --backend auto without a download ("neural" or "embedded"), by the weights in
    `where`. files: the original's, each with its path in the collection, where it lies (None: absent) and its bytes
    (None: unknown). hub: repositories with the same weights in transformers' layout, and where their copies lie.
    looked_in: folders that are searched, whether they are there or not. embedded: what stands in.
    """
    return [_row(row) for row in NETWORKS.values()] + [_mediapipe_row()]


def _row(row: Network) -> dict:
    weights = find_weights(row)
    return {
        "name": row.name,
        "help": row.help,
        "backend": "neural" if weights else "embedded",
        "where": weights.where if weights else None,
        "embedded": row.stand_in,
        "is_approximate": row.is_approximate,
        "licence": row.licence,
        "files": [_file(file.path, file.size) for file in row.files],
        "hub": [{"id": repository, "where": _copy(row, repository)} for repository in row.hub],
        "looked_in": [*(str(root / name) for name in _folder_names(row) for root in roots()), str(hub.cache())],
        "get": how_to_get(row),
    }


def _folder_names(row: Network) -> list[str]:
    """What a network's copies are called below models/: the collection's name, then those of its hub repositories."""
    return [repository.partition("/")[2] for repository in (COLLECTION, *row.hub)]


def _file(path: str, size: int) -> dict:
    found = next((folder / path for folder in collection_folders() if (folder / path).is_file()), None)
    return {
        "path": path,
        "where": str(found) if found else None,
        "size": found.stat().st_size if found else size or None,
    }


def _copy(row: Network, repository: str) -> str | None:
    weights = find_weights(replace(row, files=(), hub=(repository,)))
    return weights.where if weights else None


def _mediapipe_row() -> dict:
    absent = mediapipe.absent()
    files = [
        {"path": f"{name}.tflite", "where": str(mediapipe.find(name)) if name not in absent else None, "size": size}
        for name, (_, size, _) in mediapipe.FILES.items()
    ]
    return {
        "name": "mediapipe",
        "help": "bodies, hands, faces and person mattes, for the embedded networks",
        "backend": "embedded",
        "where": str(mediapipe.find(next(iter(mediapipe.FILES))).parent) if not absent else None,
        "embedded": f"files of the wheel {mediapipe.WHEEL}",
        "is_approximate": False,
        "licence": MEDIAPIPE_LICENCE,
        "files": files,
        "hub": [],
        "looked_in": [str(folder) for folder in mediapipe.folders()],
        "get": f"get it with: {mediapipe.COMMAND}",
    }


def list_networks() -> str:
    """`network_rows` as text to read, a block for each."""
    return "\n\n".join("\n".join(_block(row)) for row in network_rows())


def _block(row: dict) -> list[str]:
    is_network, where = row["name"] in NETWORKS, row["where"]
    lines = [f"{row['name']:<12}{row['help']}"]
    if row["backend"] == "neural":
        lines.append(_line("serves now", f"neural: {where}"))
    if not is_network:
        lines.append(_line("source", row["embedded"]))
    elif row["backend"] == "neural":
        lines.append(_line("embedded", row["embedded"]))
    else:
        lines.append(_line("serves now", f"embedded: {row['embedded']}"))
    lines += [_line("file", _state(file["path"], file["where"], file["size"])) for file in row["files"]]
    lines += [_line("or hub", _state(copy["id"], copy["where"])) for copy in row["hub"]]
    lines.append(_line("licence", row["licence"]))
    if not where:
        lines += [_line("looked in", ", ".join(row["looked_in"])), _line("absent", row["get"])]
    return lines


def _state(name: str, where: str | None, size: int | None = None) -> str:
    amount = f" ({hub.size_text(size)})" if size else ""
    return f"{name}{amount}: {where or 'absent'}"


def _line(title: str, text: str) -> str:
    return f"{'':<12}{title:<11} {text}"
