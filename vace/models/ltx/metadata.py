"""What a VACE-LTX single file says about itself: the settings in its safetensors header, read without its tensors."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from vace.errors import CheckpointError
from vace.weight_files import read_header

PARTS = ("transformer", "vae", "scheduler")


def stated_config(path: Path) -> dict[str, dict[str, Any]]:
    """The settings by part ('transformer', 'vae', 'scheduler') in metadata["config"]; {} where the file has none.

    Raises CheckpointError for a damaged file, and for settings that are there but are no JSON object of objects.
    """
    text = read_metadata(path).get("config")
    if text is None:
        return {}
    try:
        config = json.loads(text)
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}: the settings in its metadata are not readable JSON ({error}); download it again"
        ) from error
    parts = {name: config[name] for name in PARTS if name in config} if isinstance(config, dict) else None
    if parts is None or not all(isinstance(part, dict) for part in parts.values()):
        raise CheckpointError(
            f"{path}: the settings in its metadata are no JSON object with objects {', '.join(PARTS)}; "
            "download it again"
        )
    return parts


def read_metadata(path: Path) -> dict[str, Any]:
    """The `__metadata__` of a safetensors file (text by name), {} where it has none. CheckpointError for damage."""
    read_header(path)  # tells every kind of damage; what follows can rely on the layout
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        metadata = json.loads(file.read(length)).get("__metadata__")
    if metadata is not None and not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: its metadata is no JSON object; download it again")
    return metadata or {}
