"""Errors a user can act on. Every message names the input, what was expected and what to do next."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class VaceError(Exception):
    """The user's input or machine is at fault: one clear line, exit status 2, no traceback."""


class InputError(VaceError):
    """A file, flag or value the user gave cannot be used."""


class MissingWeights(VaceError):
    """A checkpoint or network file that was asked for is not there."""


class CheckpointError(VaceError):
    """A checkpoint is there but damaged, foreign or of the wrong shape."""


class MissingDependency(VaceError):
    """An optional package is needed; the message holds the command that adds it."""


class DeviceError(VaceError):
    """The device asked for does not exist or cannot hold the work."""


class OutputError(VaceError):
    """An output cannot be written: no permission, no space, not a folder."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an 'unknown name' message: the nearest known names, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{name}'" for name in close) + "?"
    return "known: " + ", ".join(known)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device; torch raises a bare RuntimeError on the CPU."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        if isinstance(cause, RuntimeError) and "can't allocate memory" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def explained(prog: str, error: BaseException) -> tuple[str, bool]:
    """The one line that says what went wrong in the command `prog`, and whether that is a fault of ours."""
    text = " ".join(str(error).split())
    if isinstance(error, VaceError):
        return f"{prog}: {text}", False
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("vace"):
        remedy = "run `bash scripts/setup.sh`, then use .venv/bin/python or `source .venv/bin/activate`"
        return f"{prog}: the package {error.name} is missing in {sys.executable}; {remedy}", False
    if is_out_of_memory(error):
        remedy = "try a smaller --size, fewer frames (--frame_num), --offload_model or --t5_cpu"
        return f"{prog}: out of memory ({text.partition('. ')[0]}); {remedy}", False
    return f"{prog}: a fault of ours, not of your input: {f'{type(error).__name__}: {text}'.strip()}", True
