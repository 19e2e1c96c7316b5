"""Make assets/examples: one example for each task, by the embedded model, and the page that shows them.

    python scripts/make_gallery.py [--only TASK ...] [--out DIR] [--check]

Each example is one `vace pipeline`, run here in one process. --check makes nothing and fails where the gallery is not
whole, not of this model and this table, or too large.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path

from gallery.examples import EXAMPLES, TOY, Example, flags_of
from gallery.page import STRIP, STRIP_OF, oversize, page, problems, total_bytes
from gallery.previews import given_clips, prepared_clips, preview_frames, read_frames, write_preview, write_strip
from gallery.scenes import SIZE, write_materials

from vace.errors import InputError, VaceError, nearest
from vace.media.manifest import read_json, write_json
from vace.parsing import parse_flags
from vace.verbs import call
from vace.warm import Warm

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "assets/examples"


def wanted(names: list[str], out: Path) -> list[Example]:
    """The examples called `names` (all of them where there are none), after those they take something of.

    Raises InputError for a name that is no task.
    """
    for name in names:
        if name not in EXAMPLES:
            raise InputError(f"--only {name}: no such task; {nearest(name, EXAMPLES)}")
    needed = [need for name in names for need in EXAMPLES[name].needs if not (out / need / "prepared").is_dir()]
    chosen = {*names, *needed} if names else EXAMPLES.keys()
    return [example for task, example in EXAMPLES.items() if task in chosen]


def without(value, root: str):
    """A manifest's value with the files of the clone named from its root, whose path `root` is with its last slash."""
    if isinstance(value, dict):
        return {key: without(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [without(item, root) for item in value]
    return value.replace(root, "") if isinstance(value, str) else value


def make(example: Example, out: Path, warm: Warm) -> None:
    """Run one example into its folder below `out`, which is made anew."""
    folder = out / example.task
    if folder.exists():
        shutil.rmtree(folder)
    flags = flags_of(example, out)
    given = parse_flags("pipeline", flags | {"ckpt_dir": "tiny", "backend": "embedded"})
    prepared = {} if example.task == "txt2vid" else {"pre_save_dir": folder / "prepared"}
    call("pipeline", given, warm, save_dir=folder, **prepared, progress=False)
    (folder / "prompt.txt").write_text(example.prompt + "\n", encoding="utf-8")
    draw(example, folder, flags)
    for path in folder.rglob("manifest.json"):
        write_json(path, without(read_json(path), f"{ROOT}/"))


def draw(example: Example, folder: Path, flags: dict[str, str]) -> None:
    """The preview of an example that was just made."""
    manifest = read_json(folder / "manifest.json")
    before = folder / "prepared"
    prepared = prepared_clips(before, read_json(before / "manifest.json")) if before.is_dir() else []
    canvas = prepared[0].shape[2:0:-1] if prepared else SIZE
    given = given_clips(manifest.get("materials", []), flags, canvas)
    record = next(record for record in manifest["outputs"] if record["role"] == "out_video")
    frames = preview_frames(given, prepared, read_frames(folder / record["name"]), example.prompt)
    write_preview(folder / "preview.webp", frames, record["fps"])


def build(names: list[str], out: Path) -> None:
    """Make the examples called `names`, and the page of all that are there. Raises what the verbs raise."""
    write_materials(out / "materials")
    warm = Warm()
    for example in wanted(names, out):
        began = time.perf_counter()
        make(example, out, warm)
        size = total_bytes(out / example.task)
        print(f"{example.task:22} {time.perf_counter() - began:5.1f} s {size / 1000:6.0f} kB", flush=True)
    (out / "README.md").write_text(page(out, out), encoding="utf-8")
    shown = out / STRIP_OF
    if shown.is_dir():
        write_strip(out / STRIP, Path(TOY), shown / "src_mask.mp4", shown / "out_video.mp4")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="TASK", help="make these alone, leave the others")
    parser.add_argument("--out", type=Path, default=GALLERY, help="folder of the gallery (assets/examples)")
    parser.add_argument("--check", action="store_true", help="make nothing, fail where something is not right")
    args = parser.parse_args(arguments)
    out = args.out.resolve()
    out = out.relative_to(ROOT) if out.is_relative_to(ROOT) else out
    os.chdir(ROOT)  # what the table names is named from there
    try:
        if not args.check:
            build(args.only, out)
        found = problems(out.resolve(), ROOT) if args.check else oversize(out)
    except VaceError as error:
        found = [str(error)]
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(json.dumps({"out": str(out), "bytes": total_bytes(out)}))
    return 1 if found else 0


if __name__ == "__main__":
    logging.getLogger("vace").setLevel(logging.ERROR)
    sys.exit(main())
