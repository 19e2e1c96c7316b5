"""The page of the gallery, and what must be true of a gallery that is handed out."""

from __future__ import annotations

import json
from pathlib import Path

from gallery.examples import EXAMPLES, Example, command_line, flags_of
from vace.errors import VaceError
from vace.media.manifest import sha256_file
from vace.parsing import parse_flags
from vace.runs import FILE_FLAGS, is_intact, read_manifest
from vace.tasks import GROUPS, TASKS

STRIP, STRIP_OF = "strip.png", "inpainting"  # what the main README shows, and of which example it is
MOST_BYTES = 12_000_000  # of everything together

HEAD = """# One example for each task

Each line below was run from the root of this repository. What made the videos is the embedded model `vace-tiny`, a
toy that knows a world of simple things (`vace/training/worlds.py`) at 96x64 pixels and 17 frames, with the embedded
networks; where others are installed, `--ckpt_dir tiny --backend embedded` asks for these. {state}With
`--model_name vace-1.3B` the same lines serve footage of yours.

Each folder holds what the command leaves: `out_video.mp4`, the sources as the model saw them, `manifest.json`, and in
`prepared/` what the first step made (the exact files are for models; `preview-*.mp4` plays everywhere). A manifest
repeats its example:

```bash
vace pipeline --from assets/examples/inpainting_masktrack/manifest.json
```

What the examples share lies in `materials/`. All of it is made by `python scripts/make_gallery.py`; the person is
[the photograph of NASA](../NOTICE.md) that `assets/images/test.jpg` shows. In the previews, what shall be made is
tinted red.
"""
UNTRAINED = "It is not trained yet, so what it makes is noise of the right shape. "


def page(out: Path, shown: Path) -> str:
    """The text of README.md for the examples that are in `out`. shown: what its commands call that folder."""
    made = [example for example in EXAMPLES.values() if (out / example.task / "manifest.json").is_file()]
    parts = [HEAD.format(state="" if _is_trained() else UNTRAINED)]
    for group, what in GROUPS.items():
        rows = [_row(example, shown) for example in made if TASKS[example.task].group == group]
        if rows:
            parts += [f"## {group}\n\n{what[:1].upper()}{what[1:]}.\n", "| task | preview |\n|---|---|"]
            parts += [*rows, ""]
    return "\n".join(parts).rstrip() + "\n"


def _row(example: Example, shown: Path) -> str:
    line = command_line(example, shown).replace("|", "\\|")
    told = f"**{example.task}** {TASKS[example.task].help}<br><br>`{line}`"
    alt = f"{example.task}: input, prepared, result"
    return f"| {told} | [![{alt}]({example.task}/preview.webp)]({example.task}) |"


def _is_trained() -> bool:
    path = Path(__file__).resolve().parents[2] / "assets/models/vace-tiny/vace.json"
    return bool(json.loads(path.read_text(encoding="utf-8")).get("trained"))


def total_bytes(out: Path) -> int:
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def problems(out: Path, root: Path) -> list[str]:
    """What is wrong with the gallery in `out`, of the clone `root`: a line each, none where all is well."""
    shown = out.relative_to(root) if out.is_relative_to(root) else out
    found = [line for example in EXAMPLES.values() for line in _problems_of(example, out, shown, root)]
    readme = out / "README.md"
    if not readme.is_file() or readme.read_text(encoding="utf-8") != page(out, shown):
        found.append("README.md: not the page of these examples")
    if STRIP_OF in EXAMPLES and not (out / STRIP).is_file():
        found.append(f"{STRIP}: missing")
    folders = {path.name for path in out.glob("*") if path.is_dir()}
    found += [f"{name}: belongs to no example" for name in sorted(folders - {*EXAMPLES, "materials"})]
    return found + oversize(out)


def oversize(out: Path) -> list[str]:
    """The complaint where the gallery is larger than MOST_BYTES."""
    size = total_bytes(out)
    return [f"{size / 1e6:.1f} MB together, {MOST_BYTES / 1e6:g} MB at most"] if size > MOST_BYTES else []


def _problems_of(example: Example, out: Path, shown: Path, root: Path) -> list[str]:
    """What is wrong with one example: files missing or changed, paths of a machine, other flags or model."""
    folder = out / example.task
    try:
        manifests = {folder: read_manifest(folder)}
        if (folder / "prepared").is_dir():
            manifests[folder / "prepared"] = read_manifest(folder / "prepared")
    except VaceError as error:
        return [f"{example.task}: {error}"]
    found = [f"{name} is missing" for name in ("preview.webp", "prompt.txt") if not (folder / name).is_file()]
    for place, manifest in manifests.items():
        found += [f"{r['name']} is not as the manifest says" for r in manifest["outputs"] if not is_intact(place, r)]
        found += [f"{r['path']} has changed" for r in manifest["inputs"] if _has_changed(root / r["path"], r["sha256"])]
        if str(root) in json.dumps(manifest):
            found.append(f"{place.name}/manifest.json names folders of this machine")
    main = manifests[folder]
    flags = parse_flags("pipeline", flags_of(example, shown))
    others = [name for name in flags if name not in FILE_FLAGS and main["parameters"].get(name) != flags[name]]
    found += [f"made with another {name}" for name in others]
    if main["model"]["fingerprint"] != fingerprint():
        found.append("made by another vace-tiny")
    return [f"{example.task}: {line}" for line in found]


def _has_changed(path: Path, sha256: str) -> bool:
    return not path.is_file() or sha256_file(path) != sha256


def fingerprint() -> str:
    """Of the embedded model as it is now."""
    from vace.models.checkpoints import find_checkpoint

    return find_checkpoint("tiny", None).fingerprint()
