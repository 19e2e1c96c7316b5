"""The rows of `vace train`: a .jsonl file with one training example a line, checked before any weights are read.

    {"prompt": "a fox runs, in ink style", "target": "clips/1.mp4", "src_video": "p/1/src_video-depth.mp4",
     "src_mask": "p/1/src_mask.mp4", "src_ref_images": ["fox.png"]}
    {"prompt": "a fox runs, in ink style", "target": "clips/1.mp4", "prepared": "p/1"}

prompt: what the target shows, as it would be asked for. target: the clip the model shall learn to make. src_video,
src_mask, src_ref_images: what it is led by, as `vace wan` takes them; each may be left out. prepared: instead of these
three, a folder that `vace preprocess` wrote. validation: true for a row that is only judged by; where no row says so,
some are drawn (--validation). Paths count from the folder of the .jsonl file. Empty lines and lines that
begin with # are skipped.

Sources go through the code of generation (vace.sources), the target through the same choice of frames and the same
size, so that the model sees in training what it sees in use.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vace.errors import InputError, VaceError, nearest
from vace.runs import outputs_by_role, read_manifest, split_list
from vace.sources import Shape, Sources, open_sources, plan_shape, read_tensors

if TYPE_CHECKING:
    import torch

    from vace.settings import Settings

log = logging.getLogger("vace")

SOURCES = ("src_video", "src_mask", "src_ref_images")
KEYS = ("prompt", "target", "prepared", "validation", *SOURCES)
LISTED = 10  # problems told at most


@dataclass(frozen=True)
class Row:
    """One training example. line: its number in the file, from 1. is_judged: it is only judged by."""

    line: int
    prompt: str
    target: Path
    src_video: Path | None = None
    src_mask: Path | None = None
    src_ref_images: tuple[Path, ...] = ()
    is_judged: bool = False

    def files(self) -> list[tuple[str, Path]]:
        """(key, path) of every file, in a fixed order."""
        given = [("target", self.target), ("src_video", self.src_video), ("src_mask", self.src_mask)]
        return [(key, path) for key, path in given if path] + [("src_ref_images", path) for path in self.src_ref_images]


@dataclass(frozen=True)
class PlannedRow:
    """A row that can be used. shape: what the model will see of it; hints: what the manifest of src_video says."""

    row: Row
    shape: Shape
    hints: Mapping[str, object]


def read_rows(file: str | Path) -> list[Row]:
    """The rows of a .jsonl file. Raises one InputError that names every line that is no row, and why."""
    file = Path(file)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--data {file}: cannot be read as text ({error}); give a file of one JSON object a line; "
                         "`vace train --help` shows one") from error  # fmt: skip
    rows, problems = [], []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                rows.append(_read_row(number, line, file.resolve().parent))
            except VaceError as error:
                problems.append(f"line {number}: {error}")
    _raise_all(file, problems, len(rows) + len(problems))
    if all(row.is_judged for row in rows):
        raise InputError(
            f'--data {file}: holds no row to train on; give one JSON object a line, with "prompt" and "target"'
        )
    return rows


def plan_rows(file: str | Path, rows: list[Row], settings: Settings) -> list[PlannedRow]:
    """The rows with the shapes the model will see.

    Raises one InputError that names every line with files that cannot be read, do not belong together, or do not fit
    the model.
    """
    planned, problems = [], []
    for row in rows:
        try:
            planned.append(_plan_row(row, settings))
        except VaceError as error:
            problems.append(f"line {row.line}: {error}")
    _raise_all(Path(file), problems, len(rows))
    trimmed = [item for item in planned if item.shape.frames.trimmed]
    if trimmed:
        log.info("%d of %d rows are longer than the model takes: %s", len(trimmed), len(planned),
                 trimmed[0].shape.frames.describe())  # fmt: skip
    return planned


def read_tensors_of(
    planned: PlannedRow, settings: Settings
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """(target [3,T,H,W] in -1..1, frames [3,T,H,W] in -1..1, mask [1,T,H,W] in 0..1, references [[3,1,H,W]])."""
    from vace.conditioning.pixels import video_from_chunks
    from vace.media.clip import SelectedClip

    row, shape = planned.row, planned.shape
    sources = _open(row, settings)
    target = _open_target(row, settings)
    try:
        frames, mask, refs = read_tensors(sources, shape, settings)
        chosen = SelectedClip(target, shape.frames.ids)
        clip = video_from_chunks(chosen.chunks(), shape.width, shape.height, shape.model_count)
    finally:
        sources.close()
        target.close()
    return clip, frames, mask, refs


def _read_row(number: int, line: str, folder: Path) -> Row:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InputError(f"not JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f'a {type(value).__name__} where an object such as {{"prompt": ..., "target": ...}} belongs')
    given = {key: item for key, item in value.items() if item is not None}
    for key in given:
        if key not in KEYS:
            raise InputError(f"'{key}' is no key of a row; {nearest(key, KEYS)}")
    for key in ("prompt", "target"):
        if not isinstance(given.get(key), str) or not given[key].strip():
            raise InputError(f'"{key}" is missing; give a text')
    if not isinstance(given.get("validation", False), bool):
        raise InputError('"validation": give true or false')
    if "prepared" in given:
        given = _with_prepared(given, folder)
    found = {key: _paths(key, given[key], folder) for key in SOURCES if key in given}
    for key in ("src_video", "src_mask"):
        if len(found.get(key, ())) > 1:
            raise InputError(f'"{key}": {len(found[key])} files given, one is taken')
    row = Row(
        number, given["prompt"], folder / given["target"], next(iter(found.get("src_video", ())), None),
        next(iter(found.get("src_mask", ())), None), found.get("src_ref_images", ()),
        given.get("validation", False),
    )  # fmt: skip
    for key, path in row.files():
        if not path.exists():
            raise InputError(f'"{key}" {path}: no such file; paths count from the folder of the .jsonl file')
    return row


def _with_prepared(given: dict, folder: Path) -> dict:
    """The row with the files that `vace preprocess` wrote into its folder."""
    both = [key for key in SOURCES if key in given]
    if both:
        raise InputError(f'"prepared" and "{both[0]}": give one of them')
    place = folder / str(given["prepared"])
    named = outputs_by_role(place, read_manifest(place, '"prepared"'))
    return given | {key: [str(path) for path in named[key]] for key in SOURCES if key in named}


def _paths(key: str, value: object, folder: Path) -> tuple[Path, ...]:
    """A text is one name, or several between commas where no file has it whole."""
    if isinstance(value, str):
        names = [value] if (folder / value).exists() else split_list(value)
    elif isinstance(value, list) and all(isinstance(name, str) for name in value):
        names = value
    else:
        raise InputError(f'"{key}": give a path, or a list of paths')
    return tuple(folder / name for name in names if name.strip())


def _open(row: Row, settings: Settings) -> Sources:
    video, mask = ([path] if path else None for path in (row.src_video, row.src_mask))
    return open_sources(_one(video), _one(mask), list(row.src_ref_images), settings.allow_truncated)


def _one(paths: list[Path] | None) -> Path | None:
    """A path as such is taken whole, commas and all."""
    return paths[0] if paths else None


def _open_target(row: Row, settings: Settings):
    from vace.media.video import VideoReader

    return VideoReader(row.target, allow_truncated=settings.allow_truncated)


def _plan_row(row: Row, settings: Settings) -> PlannedRow:
    sources = _open(row, settings)
    target = None
    try:
        target = _open_target(row, settings)
        if sources.video is not None:
            _check_pair(target, sources.video, row)
            shape = plan_shape(sources, settings)
        else:  # the target itself says size and length
            shape = plan_shape(replace(sources, video=target), settings)
        return PlannedRow(row, shape, dict(sources.hints))
    finally:
        sources.close()
        if target is not None:
            target.close()


def _check_pair(target, video, row: Row) -> None:
    """The target must show the source frame by frame, in the same picture."""
    from vace.conditioning.sizes import aspect_matches

    if target.frame_count != video.frame_count:
        raise InputError(
            f'"target" {row.target.name} has {target.frame_count} frames and src_video {video.frame_count}: each frame '
            "of src_video needs its own; prepare src_video from the target, and where its rate varies make the target "
            "even first (`vace preprocess --task plain`)"
        )
    if not aspect_matches((target.width, target.height), (video.width, video.height)):
        raise InputError(
            f'"target" {row.target.name} is {target.width}x{target.height} and src_video '
            f"{video.width}x{video.height}: their aspects differ; they must show the same picture"
        )


def _raise_all(file: Path, problems: list[str], count: int) -> None:
    if problems:
        more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        told = "; ".join(problems[:LISTED])
        raise InputError(f"--data {file}: {len(problems)} of {count} rows cannot be used: {told}{more}")
