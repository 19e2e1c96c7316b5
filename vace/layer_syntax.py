"""How tasks are joined on the command line: NAME(flag=value,flag=value)+NAME+NAME(...).

A value goes on over commas until the next flag=; quotes ('...' or "...") hold what has brackets, plus signs or equals
signs of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vace.errors import InputError, nearest
from vace.flags import FLAGS, Flag
from vace.runs import FILE_FLAGS, full_paths, split_list
from vace.tasks import LAYERED, NETWORK, TASKS

FORM = "write NAME(flag=value,...)+NAME(...), e.g. frameref(mode=firstframe,image=a.png)+outpainting(direction=left)"
SPECIAL = "()+,='\" "
_LAYER = re.compile(r"^\s*([\w-]+)\s*(?:\((.*)\))?\s*$", re.DOTALL)
_FLAG = re.compile(r"^\s*([A-Za-z][\w-]*)\s*=(.*)$", re.DOTALL)


@dataclass(frozen=True)
class Layer:
    """One task of several, with its flags. outer: those of them that were given to the whole command."""

    task: str
    flags: dict[str, object]
    outer: frozenset[str] = frozenset()

    def files(self) -> list[tuple[str, Path]]:
        """(flag, path) of every file it names."""
        return [(flag, Path(path)) for flag in FILE_FLAGS for path in split_list(self.flags.get(flag), files=True)]


def parse_layers(text: str) -> list[Layer]:
    """The layers of `text`, in order. Raises InputError for another form and for unknown tasks, flags and values."""
    return [_layer(part, text) for part in _split(text, "+", text)]


def format_layers(layers: list[Layer], rename: Callable[[dict], dict] = full_paths) -> str:
    """The text of `layers` again, its files as `rename` gives them: by default as full paths."""
    return "+".join(f"{layer.task}({_arguments(rename(layer.flags))})" for layer in layers)


def bare(flags: dict) -> dict:
    """`flags` with the names of files alone, without directories."""
    found = dict(flags)
    for flag in FILE_FLAGS:
        if found.get(flag):
            found[flag] = ",".join(Path(path).name for path in split_list(found[flag], files=True))
    return found


def _arguments(flags: dict) -> str:
    """Every flag with its value; lists once per item, so that commas within one stay its own."""
    pairs = [(name, item) for name, value in flags.items() for item in (value if _is_list(value) else [value])]
    return ",".join(f"{name}={_quoted(item)}" for name, item in pairs)


def _is_list(value) -> bool:
    return isinstance(value, (list, tuple))


def _quoted(value) -> str:
    text = str(value)
    if not any(sign in text for sign in SPECIAL):
        return text
    return f'"{text}"' if '"' not in text else f"'{text}'"


def _split(text: str, sign: str, whole: str) -> list[str]:
    """`text` cut at every `sign` that stands outside brackets and quotes."""
    parts, start = [], 0
    for at, character, depth in _outside(text, whole):
        if character == sign and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _outside(text: str, whole: str) -> Iterator[tuple[int, str, int]]:
    """(place, character, depth of brackets) of every character that is not in quotes."""
    depth, quote = 0, ""
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and (at == 0 or text[at - 1] in "=, ("):
            quote = character
        else:
            depth += (character == "(") - (character == ")")
            if depth < 0:
                break
            yield at, character, depth
    if depth or quote:
        remedy = "put names with commas or brackets of their own in quotes"
        raise InputError(f"--task '{whole}': a bracket or quote is not closed ({remedy}); {FORM}")


def _layer(part: str, whole: str) -> Layer:
    match = _LAYER.match(part)
    if not match:
        raise InputError(f"--task '{whole}': '{part.strip()}' is no task; {FORM}")
    name, inner = match[1].replace("-", "_"), match[2]
    if name not in TASKS:
        raise InputError(f"--task '{whole}': there is no task '{name}'; {nearest(name, TASKS)}")
    if not TASKS[name].annotator or name in (LAYERED, "composition"):
        raise InputError(f"--task '{whole}': {name} cannot be a layer of others; leave it out")
    return Layer(name, _flags(name, inner or "", whole))


def _flags(task: str, inner: str, whole: str) -> dict[str, object]:
    """The flags of one layer; again given, lists and phrases grow, others are refused."""
    row = TASKS[task]
    known = {flag.name: flag for flag in FLAGS if flag.name in {"mode", *row.flags(), *row.params} - {*NETWORK}}
    found: dict[str, list[list[str]]] = {}
    last = None
    for piece in _split(inner, ",", whole) if inner.strip() else []:
        match = _FLAG.match(piece)
        if match:
            last = match[1].replace("-", "_")
            if last not in known:
                raise InputError(f"--task '{whole}': {task} takes no '{last}'; {nearest(last, known)}")
            if last in found and known[last].kind not in ("list", "phrases"):
                raise InputError(f"--task '{whole}': {last} is given twice to {task}; give it once")
            found.setdefault(last, []).append([match[2]])
        elif last is None:
            raise InputError(f"--task '{whole}': '{piece.strip()}' in {task} has no flag; {FORM}")
        else:
            found[last][-1].append(piece)
    return {name: _value(known[name], values, whole) for name, values in found.items()}


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _value(flag: Flag, values: list[list[str]], whole: str):
    """The value of `flag` as the command line would give it; values: for each time it is given, what commas cut."""
    if flag.kind == "phrases":
        phrases = [_unquoted(",".join(pieces)) for pieces in values]
        if not all(phrases):
            raise InputError(f"--task '{whole}': {flag.name}= is empty; give a value, or leave it out")
        return phrases
    text = ",".join(_unquoted(piece) for pieces in values for piece in pieces)
    if not text:
        raise InputError(f"--task '{whole}': {flag.name}= is empty; give a value, or leave it out")
    if isinstance(flag.kind, tuple) and text not in flag.kind:
        raise InputError(f"--task '{whole}': {flag.name}={text} is not known; {nearest(text, flag.kind)}")
    kinds = {"int": int, "float": float}
    try:
        return kinds.get(flag.kind, str)(text)
    except ValueError:
        raise InputError(f"--task '{whole}': {flag.name}={text} is no number of the kind {flag.kind}") from None
