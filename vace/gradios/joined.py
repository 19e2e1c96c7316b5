"""Joined tasks typed on a page: file names in the text stand for uploads, any other path is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vace.errors import InputError, nearest
from vace.layer_syntax import format_layers, parse_layers
from vace.runs import FILE_FLAGS

MOST = 16  # tasks in one text


def joined_tasks(text: str, uploads: Mapping[str, Path]) -> str:
    """`text`, NAME(flag=value,...)+NAME(...), with the names of files replaced by their paths.

    uploads: name -> path. Nothing in the text is looked for on the disk. Raises InputError for another form, unknown
    tasks and flags, and names that are not among the uploads.
    """
    if not text.strip():
        raise InputError("--task: write the tasks to join, e.g. scribble+image_face(image=a.png)")
    layers = parse_layers(text)
    if len(layers) > MOST:
        raise InputError(f"--task: {len(layers)} tasks joined; join {MOST} at most")
    return format_layers(layers, lambda flags: {flag: _stored(flag, value, uploads) for flag, value in flags.items()})


def _stored(flag: str, value: object, uploads: Mapping[str, Path]) -> object:
    if flag not in FILE_FLAGS:
        return value
    return [str(uploads[name]) for name in _names(flag, str(value), uploads)]


def _names(flag: str, text: str, known: Mapping[str, Path]) -> list[str]:
    """The uploads that `text` lists; names that hold commas are taken whole."""
    pieces, names, start = text.split(","), [], 0
    while start < len(pieces):
        joined = ((end, ",".join(pieces[start:end]).strip()) for end in range(len(pieces), start, -1))
        end, name = next(((end, name) for end, name in joined if name in known), (0, pieces[start].strip()))
        if not end:
            remedy = nearest(name, known) if known else "upload the files that the text names"
            raise InputError(f"--task: {flag}={name}: not among the uploaded files; {remedy}")
        names.append(name)
        start = end
    return names
