"""Files that come from a browser: which of them may be opened, what they are called here, how long they stay."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import time
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from vace.errors import InputError
from vace.media.files import discard, refusals_as_output_errors, reserve

VIDEO_TYPES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".m4v")
IMAGE_TYPES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MASK_TYPES = IMAGE_TYPES + VIDEO_TYPES

MB = 1_000_000  # bytes, in every limit
LEAST_FREE = 1000 * MB  # of the disk
MOST_UPLOADS = 20  # times the largest file that is taken

NAME_LENGTH, ENDING_LENGTH = 80, 10
NAMELESS = "file"
# Names that Windows keeps for devices, with any ending.
DEVICES = {"con", "prn", "aux", "nul", "conin", "conout", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10))}


def inside(path: str | os.PathLike, roots: Iterable[Path]) -> Path:
    """`path` with all links resolved; InputError unless it is an existing, regular file in one of the `roots`.

    A path outside is refused by its letters alone: nothing there is looked at, so that nobody learns what there is.
    """
    roots = list(roots)
    try:
        found = _lexically_inside(os.fspath(path), roots).resolve(strict=True)
        if any(found.is_relative_to(root.resolve()) for root in roots) and stat.S_ISREG(found.stat().st_mode):
            return found
    except (OSError, ValueError, TypeError, RuntimeError):  # not there, no path at all, links in a circle
        pass
    raise InputError(f"{_shown(path)}: not a file of these pages; upload it again")


def _lexically_inside(path: str, roots: Sequence[Path]) -> Path:
    """`path` without '..' and the like, if it is below a root as that is written, or as it is resolved."""
    plain = Path(os.path.abspath(path))
    if not any(
        plain.is_relative_to(place) for root in roots for place in (Path(os.path.abspath(root)), root.resolve())
    ):
        raise ValueError
    return plain


def accepted(
    path: str | os.PathLike, kinds: Sequence[str], limit_mb: float, roots: Iterable[Path], flag: str = "file"
) -> Path:
    """`inside`, and a file to work with: InputError unless its ending is among `kinds` and its size fits.

    What the file really holds is seen by the verb that opens it. flag: names the file in errors, as --flag.
    """
    try:
        found = inside(path, roots)
    except InputError as error:
        raise InputError(f"--{flag} {error}") from None
    name, size = _shown(found), found.stat().st_size
    if found.suffix.lower() not in kinds:
        known = ", ".join(kind.removeprefix(".") for kind in kinds)
        raise InputError(f"--{flag} {name}: not a kind of file that is taken here; expected {known}")
    if size == 0:
        raise InputError(f"--{flag} {name}: is empty (0 bytes); upload it again")
    if size > limit_mb * MB:
        raise InputError(
            f"--{flag} {name}: {size / MB:.1f} MB, at most {limit_mb:g} MB are taken; shorten or shrink it"
        )
    return found


def safe_name(name: str) -> str:
    """`name` as a file name for every system: letters, digits and . _ - of ASCII, at most 80, the ending kept."""
    plain = unicodedata.normalize("NFKD", str(name)).replace("\\", "/").rsplit("/", 1)[-1]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", "".join(mark for mark in plain if not unicodedata.combining(mark)))
    plain = re.sub(r"[._-]*\.[._-]*", ".", plain.rstrip("._-"))
    stem, dot, ending = plain.rpartition(".")
    if not dot or not ending.isalnum() or len(ending) > ENDING_LENGTH:
        stem, ending = plain, ""
    ending = f".{ending}" if ending else ""
    stem = stem.strip("._-")[: NAME_LENGTH - len(ending)].rstrip("._-") or NAMELESS
    if stem.partition(".")[0].lower() in DEVICES:
        stem = f"{NAMELESS}-{stem}"[: NAME_LENGTH - len(ending)].rstrip("._-")
    return stem + ending


def _shown(path: object) -> str:
    """What an error may say of a path from a browser: its bare name, made harmless."""
    return safe_name(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else "?"


def taken_in(path: str | os.PathLike, folder: Path) -> Path:
    """A file that `accepted` gave, under a `safe_name` of its own in `folder`; the same file again keeps its name.

    A hard link where the system has them, else a copy, whole from the first moment. Raises OutputError when `folder`
    cannot be written.
    """
    path, name = Path(path), Path(safe_name(Path(path).name))
    unique = f"{name.stem[: NAME_LENGTH - 20]}-{secrets.token_hex(4)}{name.suffix}"
    temporary = reserve(folder / unique)
    try:
        discard(temporary)
        with refusals_as_output_errors(folder / unique):
            try:
                os.link(path, temporary)
            except OSError:
                shutil.copyfile(path, temporary)
            return _named(temporary, folder / name, folder / unique)
    finally:
        discard(temporary)


def _named(temporary: Path, wanted: Path, unique: Path) -> Path:
    """`temporary` under the name that is wanted, if no other file has it, else under the unique one."""
    try:
        if wanted.exists() and wanted.samefile(temporary):
            return wanted
        os.link(temporary, wanted)  # which never replaces a file, as renaming would
        return wanted
    except OSError:
        os.replace(temporary, unique)
        return unique


def check_room(folder: Path, limit_mb: float, coming: int = 0) -> None:
    """Raise InputError where `coming` more bytes of uploads find no room: on the disk, or in `folder`."""
    if shutil.disk_usage(folder).free - coming < LEAST_FREE:
        raise InputError(
            f"the disk of this server is nearly full (less than {LEAST_FREE / 1e9:g} GB free), so nothing more can "
            "be uploaded; have somebody make room on it"
        )
    if size_of(folder) + coming > MOST_UPLOADS * limit_mb * MB:
        raise InputError(
            f"the uploads of the last day fill the {MOST_UPLOADS * limit_mb:g} MB that they may have here; "
            "try it again later, or start the server with a larger --max_upload"
        )


def size_of(folder: Path) -> int:
    """Bytes of the files in `folder`; one with several names, as `taken_in` gives, counts once."""
    sizes = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                facts = os.lstat(os.path.join(place, name))
                sizes[facts.st_dev, facts.st_ino or os.path.join(place, name)] = facts.st_size
    return sum(sizes.values())


def sweep(folder: Path, keep_hours: float = 24, used: str = "") -> None:
    """Remove files in `folder` that are older than that, and folders that are left empty; `folder` itself stays.

    Links are removed, never followed; what cannot be removed stays. used: text that names files which stay, too.
    """
    oldest = time.time() - keep_hours * 3600
    fresh, emptied = time.time() - 60, set()
    for place, folders, names in os.walk(folder, topdown=False):
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                if os.lstat(path).st_mtime < oldest and path not in used:
                    os.unlink(path)
                    emptied.add(place)
        for name in folders:
            with contextlib.suppress(OSError):  # there is something in it
                path = os.path.join(place, name)
                if path in emptied or os.lstat(path).st_mtime < fresh:  # else something may be about to come into it
                    os.rmdir(path)
                    emptied.add(place)
