"""What a video of ours says of how it was made. Recipes come in files: of what they hold only known settings are taken.

Files, folders, addresses, devices and models by path are never read from a recipe.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vace.bases import BASES, find_base
from vace.errors import InputError, VaceError
from vace.flags import flags_for
from vace.media.manifest import read_comment, read_json
from vace.parsing import parse_flags
from vace.runs import FILE_FLAGS, PLACES, SCHEMA, public_recipe
from vace.settings import defaults_of
from vace.tasks import TASKS

log = logging.getLogger("vace")

LONGEST = 1_000_000  # characters of a recipe; ours have some thousands
TEXT_LIMIT = 20_000  # of one value in it
# Of the machine, and of where results go, not of what is seen.
OF_MACHINE = ("device", "noise_device", "offload_model", "t5_cpu", "out_format", "intermediates", "no_metadata",
              "allow_truncated", "num_videos", "no_download", "backend", "batch_size", "quiet", "verbose", "from",
              "resume", "pre_save_dir", "src_ref_images")  # fmt: skip
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Result:
    """A finished video. recipe: as `read_recipe` gives it, its seed that of this video. record: of the file, as the
    manifest has it. made: seconds since 1970. details: the manifest without directories."""

    video: Path
    manifest: Path
    recipe: dict
    record: dict
    made: float
    details: dict

    @property
    def prompt(self) -> str:
        return str(self.recipe["parameters"].get("prompt") or "")

    @property
    def model(self) -> str:
        return str(model_of(self.recipe).get("name", ""))


def read_recipe(video: str | Path) -> dict:
    """The recipe inside a video of ours. Raises InputError for a file that is none, or carries none of ours."""
    name = Path(video).name
    text = read_comment(video)
    if not text:
        raise InputError(f"{name}: carries no recipe; give an out_video of vace, made without --no_metadata")
    try:
        recipe = json.loads(text) if len(text) <= LONGEST else None
    except (ValueError, RecursionError):
        recipe = None
    return _checked(recipe, name)


def settings_of(recipe: Mapping) -> dict:
    """The flags of `vace.generate.generate` worth loading: base, prompt and settings, with values the flags can have.

    Under "model" the name and fingerprint of the model stand, both texts. Raises InputError for an unknown base.
    """
    parameters = recipe["parameters"]
    command = str(recipe.get("command"))
    base = find_base(str(parameters.get("base") or (command if command in BASES else "wan")))
    names = [name for name in ("prompt", *defaults_of(base)) if name not in OF_MACHINE]
    given = {**parameters, **({"seed": recipe["seed"]} if recipe.get("seed") is not None else {})}
    model = {key: str(value) for key, value in model_of(recipe).items() if key in ("name", "fingerprint")}
    return {"base": base.name, "model": model} | _valid(base.name, names, given)


def materials_of(recipe: Mapping) -> dict:
    """Task, mode and parameters of a video whose materials were prepared in the same run, else {}; never files."""
    parameters = recipe["parameters"]
    if recipe.get("command") != "pipeline" or not isinstance(parameters.get("task"), str):
        return {}
    left_out = {*FILE_FLAGS, *PLACES, *OF_MACHINE, "size", "frame_num"}
    names = [flag.name for flag in flags_for("preprocess") if flag.name not in left_out]
    found = _valid("preprocess", names, parameters)
    is_known = found.get("task") in TASKS or "(" in str(found.get("task")) or "+" in str(found.get("task"))
    return found if is_known else {}


def model_of(recipe: Mapping) -> dict:
    """What the recipe says of its model; {} where it says nothing."""
    model = recipe.get("model")
    return model if isinstance(model, dict) else {}


def results_in(folder: str | Path) -> Iterator[Result]:
    """The finished videos below `folder`, those made last first. What cannot be read, or lies outside, is passed
    over."""
    folder = Path(folder).resolve()
    for made, place in sorted(_manifests(folder), reverse=True):
        try:
            manifest = read_json(place)
            recipe = _checked(manifest, place.name)
            yield from _videos(folder, place, made, manifest, recipe)
        except (VaceError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            log.debug("%s is passed over: %s", place, error)


def _manifests(folder: Path) -> Iterator[tuple[float, Path]]:
    for place in folder.rglob("manifest.json"):
        try:
            yield place.stat().st_mtime, place
        except OSError:  # removed meanwhile
            continue


def _videos(folder: Path, place: Path, made: float, manifest: dict, recipe: dict) -> Iterator[Result]:
    public = json.loads(public_recipe(manifest))
    told = ("outputs", "stages", "device", "frames", "used", "interrupted", "prompt_extension")
    details = public | {key: manifest[key] for key in told if key in manifest}
    for record in manifest["outputs"]:
        if record["role"] != "out_video" or not SHA256.fullmatch(str(record.get("sha256"))):
            continue
        video = (place.parent / record["name"]).resolve()
        if video.is_file() and video.is_relative_to(folder):
            own = public | {"seed": record.get("seed", recipe.get("seed"))}
            yield Result(video, place, own, record, made, details)


def _checked(recipe: object, name: str) -> dict:
    """`recipe` if it is one of ours, of a generation. Raises InputError otherwise."""
    if not isinstance(recipe, dict) or recipe.get("schema") != SCHEMA:
        raise InputError(f"{name}: carries no recipe of this version ({SCHEMA}); give an out_video of vace")
    if recipe.get("command") not in (*BASES, "pipeline") or not isinstance(recipe.get("parameters"), dict):
        raise InputError(f"{name}: its recipe tells of no generation; give an out_video of vace")
    return recipe


def _valid(command: str, names: list[str], given: Mapping) -> dict:
    """Of `given` the flags called `names` whose values the command line would take."""
    found = {}
    for name in names:
        value = given.get(name)
        if value is None or len(str(value)) > TEXT_LIMIT or (isinstance(value, int) and abs(value) >= 2**63):
            continue
        try:
            found |= parse_flags(command, {name: value})
        except InputError as error:
            log.debug("%s of a recipe is passed over: %s", name, error)
    return found
