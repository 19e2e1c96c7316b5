"""From samples to the scores that are promised: the right keys, means over the right rows, nothing made up."""

from __future__ import annotations

import json

import pytest

from vace.evaluation import report, summary
from vace.evaluation.makers import MODEL, NO_CONTEXT, TRUTH
from vace.evaluation.summary import Samples

KEYS = ["vae_psnr", "kept_psnr", "prompt_color", "prompt_shape", "reference_color", "control"]
CONTROLS = [
    "gray", "depth", "scribble", "flow", "pose", "layout", "inpainting", "outpainting", "frameref", "clipref",
]  # fmt: skip


def samples_of(task: str, *rows: tuple[dict, dict, dict]) -> Samples:
    samples = Samples()
    for model, baseline, truth in rows:
        samples.add(task, {MODEL: model, NO_CONTEXT: baseline, TRUTH: truth})
    return samples


def test_the_keys_are_those_promised_and_nothing_is_made_up():
    found, errors = summary.summary(Samples())
    assert list(found) == list(errors) == KEYS
    assert list(found["control"]) == list(errors["control"]) == CONTROLS
    assert set(found["control"].values()) | {found[key] for key in KEYS[:-1]} == {None}
    assert summary.reached(found) == {}


def test_a_control_is_a_ratio_of_means_over_whole_rows():
    samples = samples_of("gray", ({"gray": 0.8}, {"gray": 0.0}, {"gray": 1.0}),
                         ({"gray": 0.9}, {"gray": 0.9}, {"gray": 0.9}), ({"gray": 0.7}, {"gray": 0.0}, {"gray": 1.0}),
                         ({"gray": None}, {"gray": 0.5}, {"gray": 1.0}))  # fmt: skip
    found, errors = summary.summary(samples)
    assert found["control"]["gray"] == pytest.approx(1.5 / 2)
    assert errors["control"]["gray"] > 0
    assert summary.reached(found) == {"control.gray": True}


def test_a_control_of_two_measures_is_their_mean():
    samples = samples_of("outpainting", (
        {"kept": 25.0, "made": 20.0}, {"kept": 10.0, "made": 60.0}, {"kept": 30.0, "made": 10.0}))  # fmt: skip
    assert summary.control_of(samples, "outpainting")[0] == pytest.approx((15 / 20 + 40 / 50) / 2)


def test_a_truth_that_shows_nothing_gives_no_credit():
    samples = samples_of("scribble", ({"scribble": 0.9}, {"scribble": 0.04}, {"scribble": 0.05}))
    assert summary.share_of(samples, "scribble", summary.MEASURES["scribble"][0]) is None
    assert summary.summary(samples)[0]["control"]["scribble"] == 0


def test_kept_pixels_of_all_tasks_count():
    samples = samples_of("inpainting", ({"kept": 20.0}, {"kept": 9.0}, {"kept": 30.0}))
    samples.add("clipref", {MODEL: {"kept": 30.0}})
    samples.add("clipref", {MODEL: {"kept": None}})
    found, _ = summary.summary(samples)
    assert found["kept_psnr"] == 25.0
    assert summary.reached(found)["kept_psnr"]


def test_rows_that_a_maker_did_not_make_stay_in_line():
    samples = Samples()
    samples.add("gray", {MODEL: {"gray": 0.1}})
    samples.add("gray", {MODEL: {"gray": 0.2}, "context 0": {"gray": 0.0}})
    samples.add("gray", {MODEL: {"gray": 0.3}})
    assert samples.paired("gray", (MODEL, "context 0"), summary.MEASURES["gray"][0]).tolist() == [[0.2], [0.0]]


def sweep(*purities: float) -> Samples:
    samples = Samples()
    for row in range(6):
        made = {f"guidance {n}": {"purity": value + 0.01 * row, "colour": 1.0} for n, value in enumerate(purities)}
        samples.add("txt2vid", made)
    return samples


@pytest.mark.parametrize("purities,rises", [((0.2, 0.5, 0.9), True), ((0.9, 0.5, 0.2), False), ((0.2, 0.9, 0.1), True)])
def test_guidance_rises_up_to_the_checkpoints_own(purities, rises):
    makers = {float(n): f"guidance {n}" for n in range(3)}
    found = summary.effect_of_guidance(sweep(*purities), makers, own=1.0 if purities[2] < 0.2 else 2.0)
    assert found["values"] == [0.0, 1.0, 2.0] and found["rises"] is rises


def test_the_error_of_controls_falls_with_the_context():
    samples = Samples()
    for row in range(5):
        for task in ("gray", "depth"):
            made = {f"context {n}": {task: value + 0.01 * row} for n, value in enumerate((0.1, 0.6, 0.9))}
            samples.add(task, made)
    makers = {float(n): f"context {n}" for n in range(3)}
    found = summary.effect_of_context(samples, ("gray", "depth"), makers)
    assert found["falls"] and found["rows"] == 10 and found["error"] == pytest.approx([0.88, 0.38, 0.08])
    assert summary.effect_of_context(Samples(), ("gray",), makers) is None


def test_what_is_not_a_number_is_null_in_json():
    assert json.dumps(summary.rounded((0.123456, float("nan"), 3))) == "[0.1235, null, 3]"


def test_the_table_says_what_is_missed():
    samples = samples_of("gray", ({"gray": 0.2}, {"gray": 0.0}, {"gray": 1.0}))
    found, errors = summary.summary(samples)
    record = {
        "scores": found, "errors": errors, "reached": summary.reached(found), "rows": {"gray": 1}, "sizes": ["64x64"],
        "model": {"name": "vace-tiny"}, "settings": {"steps": 12, "guidance_scale": 3.0}, "seed": 0, "seeds": 1,
        "seconds": 60, "finished": False, "table": summary.rows_of_table(samples),
        "effects": {"guidance_scale": None, "context_scale": None},
    }  # fmt: skip
    text = report.table(record)
    assert "| control.gray | 0.20 | 0.50 | **missed** |" in text
    assert "| kept_psnr | – | 25.0 | not measured |" in text
    assert "Interrupted" in text
    row = next(line for line in text.splitlines() if line.startswith("| gray | **gray** |"))
    assert row == "| gray | **gray** | 0.20 | – | 0.00 | – | 1.00 | 0.20 |"
