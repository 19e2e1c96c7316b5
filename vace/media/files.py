"""Writing whole files or none: temporary names, renaming, free space, and what the system said when it refused."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from vace.errors import InputError, OutputError

# What the user can do about each refusal of the operating system.
REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another folder",
    errno.EFBIG: "the file grew over the size this system allows: choose another folder or lift the limit",
    errno.EACCES: "no permission to write there: choose another folder",
    errno.EPERM: "no permission to write there: choose another folder",
    errno.EROFS: "that disk is read-only: choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another path",
    errno.EISDIR: "a folder has that name: choose another name",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
}


def output_error(path: Path, cause: OSError) -> OutputError:
    """The one-line error for a file that could not be written."""
    remedy = REMEDIES.get(cause.errno, f"{cause.strerror or cause}: choose another path")
    return OutputError(f"{path}: cannot be written; {remedy}")


@contextlib.contextmanager
def refusals_as_output_errors(path: Path) -> Iterator[None]:
    """Turn every OSError of the block into an OutputError that names `path`."""
    try:
        yield
    except OSError as cause:
        raise output_error(path, cause) from cause


def reserve(path: Path) -> Path:
    """Make the parent folder and a unique temporary name beside `path`; nothing is created under `path` itself.

    Raises OutputError when `path` is a folder or its parent cannot be made or written.
    """
    path = Path(path)
    with refusals_as_output_errors(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem[:80]}.{secrets.token_hex(4)}.partial{path.suffix}")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def discard(temporary: Path) -> None:
    """Remove a temporary file or folder; one that is already gone is fine."""
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to; rename it to `path` on a clean end, remove it on any exception."""
    path = Path(path)
    temporary = reserve(path)
    try:
        with refusals_as_output_errors(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        discard(temporary)


def existing_file(path: str | os.PathLike, expected: str) -> Path:
    """`path` as a Path when it is a readable, non-empty file; else InputError naming what was `expected`."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; expected {expected}, check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected {expected}, name the file itself")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read; expected {expected}, check its permissions")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); expected {expected}, copy or download it again")
    return path


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def check_free_space(folder: str | os.PathLike, needed_bytes: int) -> None:
    """Raise OutputError when the disk that holds `folder` (or will hold it) has less than `needed_bytes` free."""
    folder = Path(folder).absolute()
    present = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(present).free
    if free < needed_bytes:
        raise OutputError(
            f"{folder}: {_amount(free)} free, about {_amount(needed_bytes)} needed; free some space, choose another "
            "folder (--pre_save_dir, --save_dir), or write small files (--intermediates small)"
        )


def _amount(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
