"""The example scripts as argument lists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOORS = {"vace_preproccess.py": "preprocess", "vace_wan_inference.py": "wan", "vace_ltx_inference.py": "ltx",
         "vace_pipeline.py": "pipeline"}  # fmt: skip


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


# Lines that differ from others only in how a reference or a region is found: each way is shown by another line.
REPEATED = ("image_inpainting_", "reference_anything_", "animate_anything_", "swap_anything_",
            "expand_anything_firstframe_", "inpainting_masktrack_", "inpainting_mode_")  # fmt: skip
SHOWN = ("image_inpainting_mask", "reference_anything_salientmasktrack", "animate_anything_plain",
         "swap_anything_masktrack_salient", "swap_anything_label_label", "expand_anything_firstframe_plain",
         "inpainting_masktrack_masktrack", "inpainting_mode_salient")  # fmt: skip


def is_repeated(name: str) -> bool:
    """Whether a line shows nothing that another does not: then it is run with the slow tests."""
    return name.startswith(REPEATED) and name not in SHOWN


def is_tracked(name: str) -> bool:
    """Whether a line follows a thing through a clip, which takes long; run_vace_preprocess.sh shows the same."""
    return bool(re.search("track|label|caption", name)) and name != "inpainting_masktrack_masktrack"
