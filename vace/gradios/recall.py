"""From the parameters of an earlier run to the values of fields. Recipes come in files: nothing in them is trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vace.errors import InputError, VaceError
from vace.gradios.form import FIELDS, FILE_KINDS, Field, keyword, materials, parameters, parted_mode
from vace.layer_syntax import format_layers, parse_layers
from vace.runs import FILE_FLAGS
from vace.tasks import LAYERED, TASKS

LONGEST = 4000  # characters of a text that is taken


def recalled(given: Mapping[str, object]) -> tuple[str, tuple[str, str], dict[str, object]]:
    """The task, its two modes ("" where there are none) and the values of its fields; never files.

    given: "task", "mode" and other flags of a run. Joined tasks have their text under "task". What has another type
    than its field, or is no choice of its, is passed over. Raises InputError for a task or mode that is not known.
    """
    task = given.get("task")
    if isinstance(task, str) and ("(" in task or "+" in task):
        text = format_layers(parse_layers(task[:LONGEST]), _bare)
        return LAYERED, ("", ""), {"task": text} | _values(LAYERED, None, given)
    if not isinstance(task, str) or task not in TASKS:
        raise InputError("the settings name no task that is known here")
    modes = parted_mode(task, given.get("mode"))
    return task, modes, _values(task, ",".join(filter(None, modes)) or None, given)


def _bare(flags: dict) -> dict:
    """`flags` with the names of files alone. By text only: the disk is not asked for paths of a recipe."""
    named = {
        flag: ",".join(re.split(r"[/\\\\]", path)[-1] for path in str(flags[flag]).split(","))
        for flag in FILE_FLAGS
        if flag in flags
    }
    return flags | named


def _values(task: str, mode: str | None, given: Mapping[str, object]) -> dict[str, object]:
    found = {}
    for item in materials(task, mode).values():
        value = given.get(item.flag)
        found[item.flag] = value if value is not None or not item.instead else given.get(item.instead)
    found |= {field.flag: given.get(field.flag) for field in parameters(task) if field.flag not in found}
    values = {flag: _value(FIELDS[flag], value) for flag, value in found.items() if value is not None}
    return {flag: value for flag, value in values.items() if value is not None}


def _value(field: Field, value: object) -> object:
    """What the field shows for a keyword of the verb, None for what it cannot show."""
    if field.kind in FILE_KINDS or field.kind == "ranges":  # a range belongs to its clip
        return None
    if field.kind == "yes":
        return value if isinstance(value, bool) else None
    if field.kind in ("integer", "number"):
        return _number(field, value)
    words = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else None
    if words is None or not all(isinstance(word, (str, int, float)) and len(str(word)) <= LONGEST for word in words):
        return None
    words = [str(word) for word in words]
    if field.choices:
        chosen = [word.strip() for text in words for word in text.split(",") if word.strip() in field.choices]
        return (chosen[:1] or [None])[0] if field.kind == "choice" else chosen or None
    return {"lines": "\n", "words": ", ", "boxes": " "}.get(field.kind, ",").join(words)


def _number(field: Field, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return keyword(field, value)
    except VaceError:
        return None
