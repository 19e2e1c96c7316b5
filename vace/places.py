"""What a generation says and checks before it begins: the plan line, where results go, whether there is room."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vace.errors import InputError, OutputError
from vace.media.manifest import file_record
from vace.media.video import check_free_space, estimated_bytes
from vace.media.writer import CONTAINERS
from vace.runs import OutputFolder, input_records
from vace.settings import Settings
from vace.sources import Shape

KINDS_OF = {"mp4": "result", "exact": "exact", "png": "png"}  # --out_format -> kind of writer
CUDA_RATE = 60e12  # sustained FLOP/s, on the low side of published timings of consumer cards
CORE_RATE = 20e9  # of one processor core
UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


class Places:
    """The files of the results in `out`. save_file: --save_file, a path of its own for the (first) result.

    shape: None while it is not known; only `check_space` needs it.
    """

    def __init__(
        self, out: OutputFolder, settings: Settings, shape: Shape | None, save_file: str | Path | None
    ) -> None:
        self.out, self.settings, self.shape, self.save_file = out, settings, shape, save_file
        self.kind = KINDS_OF[settings.out_format]

    def path(self, count: int) -> Path:
        """Of video number `count` from 0: out_video.mp4, out_video_1.mp4 ..., without ending for a folder of PNGs."""
        name = Path(self.save_file) if self.save_file else Path("out_video" + ("" if self.kind == "png" else ".mp4"))
        if count:
            name = name.with_name(f"{name.stem}_{count}{name.suffix}")
        return self.out.place(name.absolute() if self.save_file else name)

    def check_paths(self, kept: Sequence[bool]) -> None:
        """Raise, before hours of work, where a result could not be written after them. kept: finished earlier."""
        for count in (count for count, is_kept in enumerate(kept) if not is_kept):
            self._check_path(self.path(count))

    def check_space(self, kept: Sequence[bool]) -> None:
        """Raise OutputError where the disk has too little room for what is still to be made."""
        size = (self.shape.width, self.shape.height, self.shape.count)
        need = estimated_bytes(self.kind, *size) * kept.count(False)
        if self.shape.frames is not None:
            need += estimated_bytes(self.settings.intermediates, *size)
        check_free_space(self.out.path, need)

    def _check_path(self, path: Path) -> None:
        self.out.probe(path.parent)
        if self.kind == "png":
            if path.suffix or (path.is_dir() and any(path.iterdir())):
                raise OutputError(f"{path}: pictures go into a new or empty folder without an ending; name another")
        elif path.suffix.lower() not in CONTAINERS:
            known = ", ".join(CONTAINERS)
            raise InputError(f"--save_file {path}: unknown kind of video file '{path.suffix}'; expected {known}")
        elif path.is_dir():
            raise OutputError(f"{path}: a folder; give the name of a file")

    def record(self, path: Path) -> dict:
        """The file record, its name relative to the folder where it lies in it, else absolute."""
        return output_record(self.out.path, path)

    def latents(self, count: int) -> Path:
        """Where the denoised latents of video number `count` lie until it is decoded: latents.safetensors ..."""
        return self.out.file(f"latents{f'_{count}' if count else ''}.safetensors")


def output_record(folder: Path, path: Path) -> dict:
    """Name, sha256 and bytes of a result, its name relative to `folder` where it lies in it, else absolute."""
    record = file_record(path) if path.is_file() else input_records([("", path)])[0]
    return {"name": output_name(folder, path), "sha256": record["sha256"], "bytes": record["bytes"]}


def output_name(folder: Path, path: Path) -> str:
    """How the manifest in `folder` names an output: relative to it where it lies in it, else absolute."""
    inside = path.absolute().is_relative_to(folder.absolute())
    return str(path.absolute().relative_to(folder.absolute()) if inside else path.absolute())


def plan_line(checkpoint, settings: Settings, shape: Shape, refs: int, device, dtype) -> str:
    """What will happen, in one line: frames in and used, size, tokens, steps, device, expected memory and time."""
    cost = settings.base.module("engine").job_cost(
        checkpoint, settings, shape.width, shape.height, shape.model_count, refs, dtype.itemsize
    )
    footage = shape.frames.describe() if shape.frames else f"{shape.count} frames at {shape.fps:g} fps"
    parts = [f"{shape.width}x{shape.height}"]
    if refs:
        parts.append("1 reference" if refs == 1 else f"{refs} references")
    parts += [f"{shape.tokens} tokens", f"{settings.steps} steps", f"seed {settings.seed}"]
    parts.append(f"on {device} in {str(dtype).removeprefix('torch.')}")
    amount = f"{_memory(cost)} and about {_time(cost, str(device))}"
    if settings.num_videos > 1:
        amount += f" each, {settings.num_videos} videos"
    line = f"{settings.base.name} {checkpoint.name}: {footage}; {', '.join(parts)}; {amount}"
    return f"{line}; {toy_notice(checkpoint.defaults)}" if checkpoint.is_toy else line


def toy_notice(defaults: Mapping) -> str:
    """What the plan line says of the embedded model."""
    if defaults.get("trained"):
        state = "a toy that knows coloured shapes, letters and puppets, and has never seen the world"
    else:
        state = "an untrained toy: it shows that everything runs"
    return f"this is {state}; point --ckpt_dir at real weights for real videos"


def words_notice(prompt: str, defaults: Mapping) -> str | None:
    """What to tell of words that a model never learnt: those outside the "words" of its `vace.json`; or None."""
    known = set(str(defaults.get("words") or "").split())
    words = list(dict.fromkeys(re.findall(r"[^\W\d_]+", prompt.lower())))
    unknown = [word for word in words if word not in known]
    if not known or not unknown:
        return None
    return (
        f"words of the prompt that say nothing to this model: {', '.join(unknown)}; it knows such as "
        f"'{defaults.get('prompt', '')}'"
    )


def _memory(cost: dict) -> str:
    return f"about {cost['peak_bytes'] / 1e9:.1f} GB" if cost["peak_bytes"] >= 1e9 else "under 1 GB"


def _time(cost: dict, device: str) -> str:
    seconds = cost["flops"] / (CUDA_RATE if device.startswith("cuda") else CORE_RATE * (os.cpu_count() or 1))
    span, unit = next((span, unit) for span, unit in UNITS if seconds >= 2 * span or span == 1)
    return f"{max(1, round(seconds / span))} {unit}"
