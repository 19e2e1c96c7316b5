"""Measures of real rows: the truth scores best, another world and noise do not, and mistakes of a mask are seen."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from vace.annotators.networks import Networks
from vace.evaluation.measures import CONTROL_TASKS, MEASURES, Asked, measured
from vace.training.rows import TASKS, make_row

NETWORKS = Networks("embedded")
SEEDS = (1, 2)


@functools.cache
def asked(task: str, seed: int) -> Asked:
    return Asked(make_row(seed, split="held_out", task=task), NETWORKS)


@functools.cache
def other(seed: int) -> np.ndarray:
    """A clip of another world."""
    return make_row(500 + seed, split="held_out", task="txt2vid").target


def kept(row: Asked) -> np.ndarray:
    """What the mask says is kept, bool [T,H,W,1], as the contract of masks has it: 1 is made, 0 is kept."""
    return row.row.mask[0].numpy()[..., None] < 0.5


def noise(like: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, like.shape, dtype=np.uint8)


def mean(task: str, make) -> dict[str, float]:
    """Every measure of the task over the seeds, of what `make` gives for (asked, seed)."""
    found = [measured(asked(task, seed), make(asked(task, seed), seed)) for seed in SEEDS]
    columns = {name: [sample[name] for sample in found if sample[name] is not None] for name in found[0]}
    return {name: float(np.mean(values)) for name, values in columns.items() if values}


def test_every_task_of_the_rows_is_measured():
    assert set(MEASURES) == set(TASKS)
    assert CONTROL_TASKS == (
        "gray", "depth", "scribble", "flow", "pose", "layout", "inpainting", "outpainting", "frameref", "clipref",
    )  # fmt: skip


@pytest.mark.parametrize("task", CONTROL_TASKS)
def test_a_control_tells_the_truth_from_another_world_and_from_noise(task):
    truth = mean(task, lambda row, seed: row.target)
    foreign = mean(task, lambda row, seed: other(seed))
    noisy = mean(task, lambda row, seed: noise(row.target))
    for measure in MEASURES[task]:
        if not measure.is_control:
            continue
        best = {"": 1.0, "dB": 60.0, "levels": 0.0}[measure.unit]
        margin = {"": 0.35, "dB": 1.0, "levels": 1.0}[measure.unit]  # silhouettes by their colour are not exact
        assert abs(truth[measure.name] - best) < margin, measure.name
        for wrong in (foreign, noisy):
            gap = truth[measure.name] - wrong[measure.name]
            least = {"": 0.4, "dB": 30, "levels": 15}[measure.unit]
            assert (gap if measure.is_better_high else -gap) > least, measure.name


@pytest.mark.parametrize("task", ["txt2vid", "reference", "swap", "move", "control_reference", "expand", "composition"])
def test_the_other_tasks_do_too(task):
    truth = mean(task, lambda row, seed: row.target)
    foreign = mean(task, lambda row, seed: other(seed))
    for measure in MEASURES[task]:
        if measure.name in truth and measure.name not in ("seam", "shape", "reference shape"):
            gap = truth[measure.name] - foreign[measure.name]
            assert (gap if measure.is_better_high else -gap) > 0, measure.name


def test_shape_is_right_of_the_truth_and_wrong_of_noise():
    rows = [asked("txt2vid", seed) for seed in range(12)]
    shape = next(measure for measure in MEASURES["txt2vid"] if measure.name == "shape")
    right = [shape.take(row, row.target) for row in rows]
    wrong = [shape.take(row, noise(row.target)) for row in rows]
    assert np.mean([value for value in right if value is not None]) >= 0.8
    assert np.mean([value for value in wrong if value is not None]) <= 0.3
    assert None in right  # sprites have no shape among the eight


def test_colour_is_strict_about_noise_that_shows_every_colour():
    found = mean("reference", lambda row, seed: noise(row.target))
    assert found["reference colour"] <= 0.5
    assert mean("txt2vid", lambda row, seed: noise(row.target))["purity"] < 0.3


@pytest.mark.parametrize("task", ["inpainting", "outpainting", "swap"])
def test_swapped_mask_polarity_is_caught(task):
    """Keeping what was to be made and making what was to be kept is worth nothing where it counts."""
    right = mean(task, lambda row, seed: np.where(kept(row), row.target, other(seed)))
    swapped = mean(task, lambda row, seed: np.where(kept(row), other(seed), row.target))
    assert right["kept"] == 60 and right["made"] > 10
    assert swapped["kept"] < 20 and swapped["made"] < 1


def test_the_wrong_end_kept_is_caught():
    for task in ("frameref", "clipref"):
        backwards = mean(task, lambda row, seed: np.roll(other(seed), 3, axis=0))
        assert backwards["kept"] < 20 and backwards["next"] > 15


def test_a_clip_that_does_not_go_on_is_caught():
    """Kept frames are right and the next ones are of another world."""

    def broken(row, seed):
        return np.where(kept(row).all(axis=(1, 2), keepdims=True), row.target, other(seed))

    found = mean("clipref", broken)
    assert found["kept"] == 60 and found["next"] > 15 and found["jump"] > 5


def test_motion_the_wrong_way_round_is_caught():
    assert mean("flow", lambda row, seed: row.target[::-1])["flow"] < 0.2


def test_depth_is_not_won_by_rising_to_the_horizon():
    """A picture without things, brighter below: what the embedded annotator sees in anything."""
    flat = np.linspace(60, 180, 64, dtype=np.uint8)[None, :, None, None]
    assert abs(mean("depth", lambda row, seed: np.broadcast_to(flat, row.target.shape).copy())["depth"]) < 0.4


def test_a_control_in_a_part_is_judged_there():
    row = next(row for row in (asked("composition", seed) for seed in range(40)) if row.row.mode == "inpainting,gray")
    only_there = np.where(kept(row), noise(row.target), row.target)
    only_elsewhere = np.where(kept(row), row.target, noise(row.target))
    assert measured(row, only_there)["control"] == pytest.approx(1, abs=1e-3)
    assert measured(row, only_elsewhere)["control"] < 0.2


def test_kept_pixels_are_the_truths_in_every_row():
    for task in TASKS:
        row = asked(task, 1)
        if row.kept.any() and task != "plain":
            assert np.array_equal(row.condition[row.kept], row.target[row.kept]), task
