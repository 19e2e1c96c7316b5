"""`vace bench`: which benchmark is meant, and where its result goes."""

from __future__ import annotations

import json as jsons
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vace.errors import InputError
from vace.media.files import replacing

RACE = ("model_name", "vs", "size", "steps", "text_steps", "samples", "seed")  # flags of bench wan's whole runs alone


def bench(what: str, *, out: str | None = None, json: bool = False, **given: Any) -> str | dict[str, Any]:
    """Run the benchmark `what`, such as media. Its table, or with json all that was measured.

    out: folder for both, as NAME.json and NAME.md. given: flags of the command line, None where left out. Raises
    InputError for flags of another benchmark, and what the benchmark raises.
    """
    name, module, result = _measured(what, given)
    text = module.render(result)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        for ending, content in (("json", jsons.dumps(result, indent=1)), ("md", text)):
            with replacing(Path(out) / f"{name}.{ending}") as temporary:
                temporary.write_text(content + "\n", encoding="utf-8")
    return result if json else text


def _measured(what: str, given: Mapping[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    """(name of its files, the module that renders it, the result)."""
    asked = [flag for flag in RACE if given.get(flag) is not None]
    if what == "wan" and (given.get("vs") or given.get("model_name")):
        return _race(given)
    if asked:
        remedy = "add --vs diffusers" if what == "wan" else "leave it out"
        raise InputError(f"--{asked[0]}: for whole runs of `vace bench wan`; {remedy}")
    frames, device = given.get("frames"), given.get("device") or "auto"
    if what == "media":
        from vace.bench import media

        return what, media, media.run(frames=frames or 300, long_frames=given["long_frames"])
    if what == "annotators":
        from vace.bench import annotators

        return what, annotators, annotators.run(frames=frames)
    if what == "approximations":
        from vace.bench import approximations

        return what, approximations, approximations.run(given.get("ckpt_dir") or "tiny", device=device)
    if what == "ltx":
        from vace.bench import ltx

        name = given.get("random_weights")
        name = "mid" if name in (None, True) else name
        return what, ltx, ltx.run(given.get("ckpt_dir"), name, frames=frames, device=device)
    return _forward(given, frames, device)


def _forward(given: Mapping[str, Any], frames: int | None, device: str) -> tuple[str, Any, dict[str, Any]]:
    """One forward pass of a checkpoint, on the CPU unless a device is named."""
    from vace.bench import wan

    if given.get("random_weights") is not None:
        raise InputError("--random_weights: for whole runs of `vace bench wan`; add --vs diffusers, and --model_name")
    result = wan.run(given.get("ckpt_dir") or "tiny", frames=frames or 17, device="cpu" if device == "auto" else device)
    return "wan", wan, result


def _race(given: Mapping[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    from vace.bench import wan_race

    name, drawn = given.get("model_name"), given.get("random_weights")
    if isinstance(drawn, str):  # --random_weights vace-1.3B
        if name not in (None, drawn):
            raise InputError(
                f"--random_weights {drawn}: --model_name says {name}; give --random_weights without a name"
            )
        name = drawn
    chosen = {key: given[key] for key in ("size", "frames", "steps", "samples") if given.get(key) is not None}
    if given.get("text_steps") is not None:
        chosen["text_steps"] = _numbers(given["text_steps"])
    result = wan_race.run(
        name, given.get("ckpt_dir"), has_random_weights=drawn is not None, peer=given.get("vs"),
        device=given.get("device") or "auto", seed=given.get("seed") or 0, **chosen,
    )  # fmt: skip
    return f"wan-{result['model']}", wan_race, result


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise InputError(f"--text_steps {text}: give whole numbers with commas, such as 4,20,50") from error
