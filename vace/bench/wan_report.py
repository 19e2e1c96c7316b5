"""What `vace bench wan --vs diffusers` says of what it measured: medians, ratios, floors, goals, and the table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vace.bench import floors
from vace.bench.clocks import paired_ratio
from vace.bench.floors import TERA
from vace.bench.wan_models import MID, Model
from vace.models.wan.cost import token_count

# What is to be reached: (model, kind of device) -> numbers of `named_numbers`, at most or at least, and how much.
GOALS: Mapping[tuple[str, str], tuple[tuple[str, str, float], ...]] = {
    (MID, "cpu"): (("forward_ratio", "<=", 1.02), ("run_ratio", "<=", 1.02), ("text_only_speedup.4", ">=", 1.15)),
    ("vace-1.3B", "cuda"): (("run_speedup", ">=", 1.4),),  # stated for an H100
}
Runs = Mapping[str, Sequence[Mapping[str, Any]]]  # side -> what each run took; see vace.bench.wan_race


def report(model: Model, measured: Mapping[str, Any], rates: floors.Rates) -> dict[str, Any]:
    """The JSON of the benchmark. measured: of `vace.bench.wan_race.Race.measured`, whose conditions are taken over.

    Keys besides them: `tokens` and `text_only_tokens`; `forward`: medians in seconds by side, and `pairs`; `run` and,
    by steps, `text_only`: by side the medians of text, encode, denoise, decode, end_to_end and step (seconds of
    `clock`), peak_bytes, runs (each one's end to end); in `run` also step_tflops, tflops, step_floor_percent and
    floor_percent. `flops`, `floor` (seconds of a forward, a step, a run, and by what `source`). With a peer also
    forward_ratio and run_ratio, ours / the peer's, text_only_speedup by steps, the peer's / ours: medians of pairs;
    and `goals`.
    """
    config, size, count = model.parts["transformer"].config, measured["size"], measured["frames"]
    steps, forward = measured["steps"], measured["forward"]
    result = {
        **measured,
        "tokens": token_count(config, *size, count, measured["refs"]),
        "text_only_tokens": token_count(config, *size, count),
        "forward": {**{side: statistics.median(times) for side, times in forward.items()}, "pairs": forward},
        "run": _by_side(measured["run"], steps),
        "text_only": {str(n): _by_side(runs, n) for n, runs in measured["text_only"].items()},
    }
    result |= _floor(model, result, rates)
    return result | (_ratios(measured) if len(forward) > 1 else {}) | {"goals": _goals(measured)}


def _by_side(runs: Runs, steps: int) -> dict[str, dict[str, Any]]:
    return {side: _summary(one, steps) for side, one in runs.items()}


def _summary(runs: Sequence[Mapping[str, Any]], steps: int) -> dict[str, Any]:
    medians = {stage: statistics.median(run[stage] for run in runs) for stage in runs[0] if stage != "peak"}
    peaks = [run["peak"] for run in runs if run["peak"] is not None]
    medians["step"] = medians["denoise"] / steps
    return medians | {"peak_bytes": max(peaks, default=None), "runs": [run["end_to_end"] for run in runs]}


def _floor(model: Model, result: Mapping[str, Any], rates: floors.Rates) -> dict[str, Any]:
    """`flops` and `floor` of the run, and in `run` what each side reaches of them."""
    config, vae_config = model.parts["transformer"].config, model.parts["vae"].config
    a_step = 2 if result["guidance"] != 1 else 1  # forward passes
    forwards = a_step * result["steps"]
    work = floors.forward_work(config, result["tokens"])
    vae = floors.vae_flops(vae_config, *result["size"], result["frames"], refs=result["refs"])
    text = sum(floors.text_flops(model.parts["text_encoder"].config, length) for length in result["text_tokens"])
    forward = floors.forward_seconds(work, rates, floors.forward_bytes(config, result["tokens"]))
    whole = floors.run_seconds(forward, forwards, vae, text, rates)
    total = forwards * work.total + vae + text
    runs = {}
    for side, found in result["run"].items():
        runs[side] = {
            **found,
            "step_tflops": a_step * work.total / found["step"] / TERA,
            "tflops": total / found["end_to_end"] / TERA,
            "step_floor_percent": floors.percent(a_step * forward, found["step"]),
            "floor_percent": floors.percent(whole, found["end_to_end"]),
        }
    return {
        "run": runs,
        "flops": {"forward": work.total, "attention": work.attention, "vae": vae, "text": text, "run": total},
        "floor": {"forward": forward, "step": a_step * forward, "run": whole, "source": rates.source},
    }


def _ratios(measured: Mapping[str, Any]) -> dict[str, Any]:
    ours, theirs = measured["forward"].values()
    return {
        "forward_ratio": paired_ratio(ours, theirs),
        "run_ratio": paired_ratio(*_whole(measured["run"])),
        "text_only_speedup": {
            str(steps): paired_ratio(*reversed(_whole(runs))) for steps, runs in measured["text_only"].items()
        },
    }


def _whole(runs: Runs) -> tuple[list[float], ...]:
    """Seconds end to end, of ours and of the peer."""
    return tuple([run["end_to_end"] for run in one] for one in runs.values())


def _goals(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = GOALS.get((measured["model"], measured["device_type"]), ())
    if len(measured["forward"]) < 2:
        return []
    found = _ratios(measured)
    named = {"forward_ratio": found["forward_ratio"], "run_ratio": found["run_ratio"]}
    named["run_speedup"] = 1 / found["run_ratio"]
    named |= {f"text_only_speedup.{steps}": value for steps, value in found["text_only_speedup"].items()}
    return [
        {"what": what, "value": named[what], "bar": f"{sign} {bar:g}",
         "is_met": named[what] <= bar if sign == "<=" else named[what] >= bar}
        for what, sign, bar in wanted if what in named
    ]  # fmt: skip


def render(result: Mapping[str, Any]) -> str:
    """The result as a markdown table with its conditions in words."""
    sides = list(result["run"])
    heads = ["", *sides, *(["ratio"] if len(sides) > 1 else [])]
    lines = [_conditions(result), "", _line(heads), "|" + "---|" * len(heads)]
    lines += [_line([label, *values, ratio][: len(heads)]) for label, values, ratio in _rows(result, sides)]
    floor = result["floor"]
    lines += ["", f"The floor is {floor['step']:.4g} s a step and {floor['run']:.4g} s a run ({floor['source']}). "
              f"Loading took {result['load']:.3g} s, once for all sides."]  # fmt: skip
    speedups = [f"{value:.2f} at {steps} steps" for steps, value in result.get("text_only_speedup", {}).items()]
    if speedups:
        lines.append(f"Words alone, times as fast: {', '.join(speedups)}.")
    for goal in result["goals"]:
        lines.append(
            f"{goal['what']} {goal['value']:.3f}, wanted {goal['bar']}: {'met' if goal['is_met'] else 'NOT MET'}."
        )
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _conditions(result: Mapping[str, Any]) -> str:
    width, height = result["size"]
    where = f"{result['device']} {result['dtype']} (VAE {result['vae_dtype']})"
    if result["device_type"] == "cpu":
        where += f", {result['threads']} of {result['cores']} threads"
    runs = len(next(iter(result["run"].values()))["runs"])
    text = (
        f"Wan-VACE `{result['model']}` (weights: {result['weights']}), {where}: {width}x{height}, {result['frames']} "
        f"frames, context and {result['refs']} references, {result['tokens']} tokens, {result['steps']} steps of "
        f"{result['sampler']}, guidance {result['guidance']:g}, shift {result['shift']:g}; caches cold, medians of "
        f"{runs} runs, {result['clock']} time"
    )
    if result["difference"]["latents"] is None:
        return f"{text}."
    return (
        f"{text}, in pairs whose order is drawn (seed {result['seed']}). Ratios of forwards and whole runs are medians "
        f"of pairs. After one step the latents differ by {result['difference']['latents']:.1e}."
    )


def _rows(result: Mapping[str, Any], sides: Sequence[str]) -> list[tuple[str, list[str], str]]:
    """(label, a cell for each side, ours / the peer's) of each line."""
    run, forward = result["run"], result["forward"]
    rows = [_timed("one forward, s", [forward[side] for side in sides], result.get("forward_ratio"))]
    stages = {"text": "texts, s", "encode": "VAE encode, s", "step": "a step, s", "decode": "VAE decode, s"}
    rows += [_timed(label, [run[side][key] for side in sides]) for key, label in stages.items()]
    rows.append(_timed("end to end, s", [run[side]["end_to_end"] for side in sides], result.get("run_ratio")))
    peaks = [run[side]["peak_bytes"] for side in sides]
    rows.append(("peak memory, GB", ["-" if peak is None else f"{peak / 1e9:.2f}" for peak in peaks], ""))
    for key, label in (
        ("step_tflops", "Tflop/s, a step"), ("step_floor_percent", "% of the floor, a step"),
        ("tflops", "Tflop/s, end to end"), ("floor_percent", "% of the floor, end to end"),
    ):  # fmt: skip
        rows.append((label, [f"{run[side][key]:.3g}" for side in sides], ""))
    for steps, both in result["text_only"].items():
        speedup = result.get("text_only_speedup", {}).get(steps)
        times = [both[side]["end_to_end"] for side in sides]
        rows.append(_timed(f"words alone, {steps} steps, s", times, None if speedup is None else 1 / speedup))
    return rows


def _timed(label: str, seconds: Sequence[float], ratio: float | None = None) -> tuple[str, list[str], str]:
    if ratio is None and len(seconds) > 1 and seconds[1] > 0:
        ratio = seconds[0] / seconds[1]
    return label, [f"{value:.4g}" for value in seconds], "" if ratio is None else f"{ratio:.3f}"
