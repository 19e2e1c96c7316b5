"""What is known of one flag of the command line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """One flag.

    kind: "text", "list" (commas or repeats), "phrases" (repeats only), "int", "float", "bool" (bare, or True/False) or
    a tuple of choices. bare: what the flag means without a value.
    """

    name: str
    kind: str | tuple[str, ...]
    help: str
    commands: tuple[str, ...]
    others: tuple[str, ...] = ()
    bare: str | None = None
