"""The example scripts as argument lists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOORS = {"vace_preproccess.py": "preprocess", "vace_wan_inference.py": "wan", "vace_pipeline.py": "pipeline"}


def lines_of(script: str) -> dict[str, list[list[str]]]:
    """Example name -> its commands as argument lists of `vace`."""
    found: dict[str, list[list[str]]] = {}
    for name, line in re.findall(r"^example (\S+)\s+(.*)$", (ROOT / script).read_text(), re.MULTILINE):
        words = shlex.split(line)
        if words[0] == "python":
            words = ["vace", DOORS[Path(words[1]).name], *words[2:]]
        assert words[0] == "vace"
        found.setdefault(name, []).append(words[1:])
    return found
