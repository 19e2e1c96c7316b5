"""Records beside outputs: hashes of files, JSON written whole, the comment inside a video."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from vace.errors import InputError
from vace.media.files import existing_file, replacing

BLOCK = 1 << 20  # bytes hashed at a time


def sha256_file(path: str | os.PathLike) -> str:
    """Hex sha256 of a file's bytes. Raises InputError when it is missing, empty or a folder."""
    path = existing_file(path, "a file")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_record(path: str | os.PathLike) -> dict[str, Any]:
    """{"name", "sha256", "bytes"} of a file: its bare name, so that no folder of the user's machine travels."""
    path = Path(path)
    return {"name": path.name, "sha256": sha256_file(path), "bytes": path.stat().st_size}


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, whole or not at all. Raises OutputError when it cannot be written."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def read_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file. Raises InputError when it is missing or not JSON."""
    path = existing_file(path, "a JSON file")
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except ValueError as cause:  # covers bad JSON and bad UTF-8
        raise InputError(f"{path}: is not valid JSON ({cause}); restore it or run the task again") from cause


def read_comment(video_path: str | os.PathLike) -> str | None:
    """The container comment of a video, or None when it carries none. Raises InputError when it is no video."""
    import av

    path = existing_file(video_path, "a video")
    try:
        with av.open(str(path.absolute())) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
    except (av.FFmpegError, ValueError) as cause:
        raise InputError(f"{path}: is not a video this build can read; check the path") from cause
    return tags.get("comment")
