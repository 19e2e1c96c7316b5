"""From samples to scores: means with their standard errors, shares of the way to the truth, effects of the scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vace.evaluation import scores
from vace.evaluation.makers import INPUT, MODEL, NO_CONTEXT, TRUTH, UNTRAINED
from vace.evaluation.measures import COLOURS, CONTROL_TASKS, KEPT, MEASURES, PURITY, REFERENCE_COLOUR, SHAPE, Measure

COLUMNS = (MODEL, UNTRAINED, NO_CONTEXT, INPUT, TRUTH)
DIGITS = 4
LEAST_GAPS = {
    "": 0.05,
    "dB": 1.0,
    "levels": 2.0,
    "px": 0.1,
}  # between truth and baseline, for a share to mean something
# What the toy model is to reach.
TARGETS: Mapping[str, float] = {
    "vae_psnr": 28.0, "kept_psnr": 25.0, "prompt_color": 0.85, "prompt_shape": 0.7, "reference_color": 0.8,
    **{f"control.{task}": 0.5 for task in CONTROL_TASKS},
}  # fmt: skip

Sample = Mapping[str, "float | None"]  # measures of one output, by name
Figure = tuple[float, float, int]  # mean, standard error, rows


@dataclass
class Samples:
    """Everything measured: of each task and maker one sample per row (None: not made for it), in the rows' order.

    vae: PSNR of the truth after its round trip, of every row.
    """

    by_task: dict[str, dict[str, list[Sample | None]]] = field(default_factory=dict)
    vae: list[float] = field(default_factory=list)

    def add(self, task: str, samples: Mapping[str, Sample]) -> None:
        """One row's samples by maker."""
        columns = self.by_task.setdefault(task, {})
        count = max((len(column) for column in columns.values()), default=0)
        for maker in {*columns, *samples}:
            columns.setdefault(maker, [None] * count).append(samples.get(maker))

    def column(self, task: str, maker: str, measure: Measure) -> list[float | None]:
        """One number per row, None where it was not measured."""
        column = self.by_task.get(task, {}).get(maker, [])
        return [sample and sample.get(measure.name) for sample in column]

    def figure(self, pairs: Sequence[tuple[str, Measure]], maker: str) -> Figure | None:
        """Mean over all rows of (task, measure) pairs together."""
        values = [value for task, measure in pairs for value in self.column(task, maker, measure) if value is not None]
        return (*scores.mean_and_error(values), len(values)) if values else None

    def paired(self, task: str, makers: Sequence[str], measure: Measure) -> np.ndarray:
        """float [makers, rows] over the rows in which all of them were measured."""
        columns = [self.column(task, maker, measure) for maker in makers]
        rows = [row for row in zip(*columns, strict=False) if all(value is not None for value in row)]
        return np.array(rows, float).T.reshape(len(makers), len(rows))


def share_of(samples: Samples, task: str, measure: Measure) -> tuple[float, float] | None:
    """How far the model is from no context to the truth, and the standard error; None where it cannot be said."""
    rows = samples.paired(task, (MODEL, NO_CONTEXT, TRUTH), measure)
    least = LEAST_GAPS[measure.unit] * (1 if measure.is_better_high else -1)
    value = scores.share(*rows, least)
    return None if value is None else (value, scores.share_error(*rows, least))


def control_of(samples: Samples, task: str) -> tuple[float, float] | None:
    """The mean of the shares of the task's control measures; None where none was taken.

    A share that cannot be said counts 0: a VAE that loses what was asked for shows nothing of it.
    """
    measures = [measure for measure in MEASURES[task] if measure.is_control]
    taken = [measure for measure in measures if samples.paired(task, (MODEL, NO_CONTEXT, TRUTH), measure).size]
    if not taken:
        return None
    found = [share_of(samples, task, measure) or (0.0, float("nan")) for measure in taken]
    values, errors = zip(*found, strict=True)
    return float(np.mean(values)), float(np.sqrt(np.square(errors).sum()) / len(errors))


def summary(samples: Samples) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scores and, in the same form, their standard errors. None: not measured."""
    kept = [(task, KEPT) for task, row in MEASURES.items() if any(measure.name == KEPT.name for measure in row)]
    figures: dict[str, Any] = {
        "vae_psnr": (*scores.mean_and_error(samples.vae), len(samples.vae)) if samples.vae else None,
        "kept_psnr": samples.figure(kept, MODEL),
        "prompt_color": samples.figure([("txt2vid", COLOURS)], MODEL),
        "prompt_shape": samples.figure([("txt2vid", SHAPE)], MODEL),
        "reference_color": samples.figure([("reference", REFERENCE_COLOUR)], MODEL),
    }
    controls = {task: control_of(samples, task) for task in CONTROL_TASKS}
    parts = []
    for n in range(2):
        part: dict[str, Any] = {name: rounded(figure and figure[n]) for name, figure in figures.items()}
        parts.append(part | {"control": {task: rounded(pair and pair[n]) for task, pair in controls.items()}})
    return parts[0], parts[1]


def rows_of_table(samples: Samples) -> list[dict[str, Any]]:
    """One row for each task and measure: figures by maker as [mean, error, rows], and the share as [value, error]."""
    rows = []
    for task, measures in MEASURES.items():
        for measure in measures if task in samples.by_task else ():
            figures = {maker: samples.figure([(task, measure)], maker) for maker in COLUMNS}
            if figures[MODEL] is None:
                continue
            row = {"task": task, "measure": measure.name, "unit": measure.unit, "is_control": measure.is_control}
            row |= {maker: rounded(figure) for maker, figure in figures.items()}
            rows.append(row | {"share": rounded(share_of(samples, task, measure))})
    return rows


def effect_of_guidance(samples: Samples, makers: Mapping[float, str], own: float) -> dict[str, Any] | None:
    """Purity and truth of colour in videos from words, at each guidance; rises: purity, up to the checkpoint's own.

    makers: name by scale. None where it was not swept.
    """
    found = _swept(samples, [("txt2vid", PURITY)], makers)
    if found is None:
        return None
    scales, rows = found
    up_to_own = [n for n, scale in enumerate(scales) if scale <= own]
    colours = _swept(samples, [("txt2vid", COLOURS)], makers)
    return {
        "values": scales,
        "purity": rounded(rows.mean(axis=1)),
        "colour": rounded(colours[1].mean(axis=1)),
        "rows": rows.shape[1],
        "rises": scores.is_rising(rows[up_to_own]),
    }


def effect_of_context(samples: Samples, tasks: Sequence[str], makers: Mapping[float, str]) -> dict[str, Any] | None:
    """The error of controls, 1 less their measure, at each context scale; falls: with every step."""
    pairs = [(task, next(measure for measure in MEASURES[task] if measure.is_control)) for task in tasks]
    found = _swept(samples, pairs, makers)
    if found is None:
        return None
    scales, rows = found
    error = rounded(1 - rows.mean(axis=1))
    return {"values": scales, "error": error, "rows": rows.shape[1], "falls": scores.is_rising(rows)}


def _swept(samples: Samples, pairs: Sequence[tuple[str, Measure]], makers: Mapping[float, str]):
    """(scales, float [scales, rows]) of the rows that were made at all scales; None without any."""
    scales = sorted(makers)
    rows = np.concatenate(
        [samples.paired(task, [makers[scale] for scale in scales], measure) for task, measure in pairs], axis=1
    )
    return (scales, rows) if rows.size else None


def reached(found: Mapping[str, Any]) -> dict[str, bool]:
    """Which of TARGETS the measured scores reach; what was not measured is left out."""
    flat = {**found, **{f"control.{task}": value for task, value in found["control"].items()}}
    return {name: flat[name] >= least for name, least in TARGETS.items() if flat[name] is not None}


def rounded(value: Any) -> Any:
    """Numbers as JSON takes them: rounded, None for nan."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, (tuple, list, np.ndarray)):
        return [rounded(one) for one in value]
    return round(float(value), DIGITS) if np.isfinite(value) else None
