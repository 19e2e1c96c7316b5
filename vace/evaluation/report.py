"""What an evaluation leaves behind: scores.json, table.md, and a sheet of examples for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vace.evaluation import summary
from vace.evaluation.makers import INPUT, MODEL, NO_CONTEXT, TRUTH, UNTRAINED, as_given
from vace.evaluation.measures import CONTROL_TASKS, MEASURES
from vace.evaluation.summary import TARGETS, Samples
from vace.media.files import replacing
from vace.media.image import write_image
from vace.media.manifest import write_json

if TYPE_CHECKING:
    from vace.training.rows import Row

SHOWN, SHOWN_FRAMES = 3, 5  # rows on a sheet, frames of each strip
TILE, LABEL, TITLE, GAP = 96, 14, 66, 10  # pixels: height of a frame, of a line of text; width of titles; between rows
WIDEST_TEXT = 560
TINT, TINT_SHARE = np.float32((255, 40, 40)), 0.4  # of what is to be made, over what is given
TITLES = {MODEL: "model", UNTRAINED: "untrained", NO_CONTEXT: "no context", INPUT: "input", TRUTH: "truth"}
DECIMALS = {"dB": 1, "levels": 1}


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """scores.json and table.md, each whole or not at all."""
    write_json(folder / "scores.json", dict(record))
    with replacing(folder / "table.md") as temporary:
        temporary.write_text(table(record), encoding="utf-8")


def headline(samples: Samples, task: str) -> str:
    """One task's outcome in a few words, for its line of progress."""
    share = summary.control_of(samples, task) if task in CONTROL_TASKS else None
    if share is not None:
        return f"{share[0]:.2f} of the way from no context to the truth"
    measure = MEASURES[task][0]
    figure = samples.figure([(task, measure)], MODEL)
    return f"{measure.name} {_number(figure[0], measure.unit)}" if figure else ""


def table(record: Mapping[str, Any]) -> str:
    """All of it for people, as markdown."""
    model, settings = record["model"], record["settings"]
    rows = sum(record["rows"].values())
    lines = [
        f"# Evaluation of {model['name']}",
        "",
        f"{rows} rows of held-out toy worlds ({', '.join(record['sizes'])}, {record['seeds']} draws from "
        f"seed {record['seed']}), {settings['steps']} steps, guidance {settings['guidance_scale']:g}, "
        f"{record['seconds'] / 60:.1f} minutes. Figures are means ± their standard errors.",
        "" if record["finished"] else "\nInterrupted: only the tasks below were measured.\n",
        *_score_lines(record),
        "",
        *_measure_lines(record["table"]),
        "",
        *_effect_lines(record["effects"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _score_lines(record: Mapping[str, Any]) -> list[str]:
    flat, errors = (
        {**record[part], **{f"control.{task}": value for task, value in record[part]["control"].items()}}
        for part in ("scores", "errors")
    )
    lines = ["| score | measured | to reach | |", "|---|---|---|---|"]
    for name, least in TARGETS.items():
        unit = "dB" if name.endswith("psnr") else ""
        verdict = {True: "reached", False: "**missed**", None: "not measured"}[record["reached"].get(name)]
        lines.append(f"| {name} | {_figure((flat[name], errors[name]), unit)} | {_number(least, unit)} | {verdict} |")
    return lines


def _measure_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| task | measure | " + " | ".join(TITLES.values()) + " | share |",
        "|---|---|" + "---|" * len(TITLES) + "---|",
    ]
    for row in rows:
        name = f"**{row['measure']}**" if row["is_control"] else row["measure"]
        name += f", {row['unit']}" if row["unit"] else ""
        cells = [_figure(row[maker], row["unit"]) for maker in TITLES]
        lines.append(f"| {row['task']} | {name} | " + " | ".join(cells) + f" | {_figure(row['share'], '')} |")
    lines += ["", "share: how far the model is on the way from no context to the truth; bold: what a control rests on."]
    known = {measure.name: measure for task in MEASURES.values() for measure in task}
    for name in dict.fromkeys(row["measure"] for row in rows):
        way = "" if known[name].is_better_high else "; less is better"
        lines.append(f"- {name}: {known[name].help}{way}")
    return lines


def _effect_lines(effects: Mapping[str, Any]) -> list[str]:
    lines = []
    if found := effects["guidance_scale"]:
        verdict = "rises up to the checkpoint's own" if found["rises"] else "does not rise with it"
        pairs = _pairs(found["values"], found["purity"])
        lines.append(f"Guidance and the share of coloured pixels in the named colour: {pairs}; {verdict}.")
    if found := effects["context_scale"]:
        verdict = "falls" if found["falls"] else "does not fall with it"
        lines.append(f"Context scale and the error of controls: {_pairs(found['values'], found['error'])}; {verdict}.")
    return lines


def _pairs(scales: Sequence[float], values: Sequence[float]) -> str:
    return ", ".join(f"{scale:g}: {value:.2f}" for scale, value in zip(scales, values, strict=True))


def _figure(figure: Sequence | None, unit: str) -> str:
    if figure is None or figure[0] is None:
        return "–"
    return _number(figure[0], unit) + ("" if figure[1] is None else f" ± {_number(figure[1], unit)}")


def _number(value: float, unit: str) -> str:
    return f"{value:.{DECIMALS.get(unit, 2)}f}"


def write_sheet(path: Path, blocks: Sequence[np.ndarray]) -> None:
    """A picture of some rows, each a `block`."""
    width = max(block.shape[1] for block in blocks)
    write_image(path, np.concatenate([_widened(block, width) for block in blocks]))


def block(row: Row, made: Mapping[str, np.ndarray]) -> np.ndarray:
    """One row in frames: what was given, the truth, the output, and the output with nothing given: uint8 [h,w,3].

    What is to be made is tinted red where only a part is; references stand before the rest.
    """
    strips = {"given": _given(row), "truth": _some(row.target), "output": _some(made[MODEL])}
    if NO_CONTEXT in made:
        strips["no context"] = _some(made[NO_CONTEXT])
    name = f"{row.task} ({row.mode})" if row.mode else row.task
    lines = []
    for title, frames in strips.items():
        if frames:
            strip = np.concatenate([_text(title, TITLE, TILE), *(_tile(frame) for frame in frames)], axis=1)
            lines.append(strip)
    width = max(WIDEST_TEXT, *(line.shape[1] for line in lines))
    head = _text(f"{name}: {row.prompt}", width, LABEL)
    return np.concatenate([head, *(_widened(line, width) for line in lines), _text("", width, GAP)])


def _text(text: str, width: int, height: int) -> np.ndarray:
    """A line of text at the top left of a white picture."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(picture).text((2, 1), text, fill="black")
    return np.asarray(picture)


def _widened(picture: np.ndarray, width: int) -> np.ndarray:
    return np.pad(picture, ((0, 1), (0, width - picture.shape[1]), (0, 0)), constant_values=255)


def _given(row: Row) -> list[np.ndarray]:
    from vace.conditioning.pixels import to_pixels

    given = [to_pixels(ref)[0] for ref in row.refs]
    if not bool(row.frames.any()):
        return given
    frames, white = as_given(row), row.mask[0].numpy() >= 0.5
    if not white.all():
        frames = np.where(white[..., None], frames * (1 - TINT_SHARE) + TINT * TINT_SHARE, frames).astype(np.uint8)
    return given + _some(frames)


def _some(frames: np.ndarray) -> list[np.ndarray]:
    return list(frames[np.linspace(0, len(frames) - 1, SHOWN_FRAMES).round().astype(int)])


def _tile(frame: np.ndarray) -> np.ndarray:
    import cv2

    width = round(TILE * frame.shape[1] / frame.shape[0])
    how = cv2.INTER_CUBIC if frame.shape[0] < TILE else cv2.INTER_AREA
    return np.pad(cv2.resize(frame, (width, TILE), interpolation=how), ((0, 0), (0, 1), (0, 0)), constant_values=255)
