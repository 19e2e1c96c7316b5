"""Where we fix the original, its golden is read through one of these corrections, each with its reason."""

from __future__ import annotations

FIXES: dict[str, tuple[str, object]] = {}
