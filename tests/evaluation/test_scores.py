"""Scores of made-up arrays: the same is perfect, noise is worth nothing, and what a score shall not see it does not."""

from __future__ import annotations

import numpy as np
import pytest

from vace.evaluation import scores


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def video(rng, count=5, height=32, width=40):
    import cv2

    noise = rng.uniform(0, 255, (count, height, width, 3)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in noise])
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)


def test_psnr_is_that_of_the_formula(rng):
    truth = video(rng)
    made = (truth.astype(int) + 10).clip(0, 255).astype(np.uint8)
    where = truth.max(axis=-1) < 240
    assert scores.psnr(truth, truth) == scores.MOST_PSNR
    assert scores.psnr(made, truth, where) == pytest.approx(20 * np.log10(255 / 10))
    assert scores.psnr(made, truth, np.zeros_like(where)) is None


def test_psnr_sees_only_where_it_is_told(rng):
    truth = video(rng)
    made, where = truth.copy(), np.zeros(truth.shape[:3], bool)
    where[:, :16] = True
    made[:, 16:] = 255 - made[:, 16:]
    assert scores.psnr(made, truth, where) == scores.MOST_PSNR
    assert scores.psnr(made, truth, ~where) < 15


def test_blurred_error_forgives_grain_and_not_colours(rng):
    truth = video(rng)
    grain = (truth + rng.choice([-40, 40], truth.shape)).clip(0, 255).astype(np.uint8)
    darker = (truth * 0.75).astype(np.uint8)
    assert scores.blurred_error(truth, truth) == 0
    assert scores.blurred_error(grain, truth) < 0.4 * np.abs(grain.astype(int) - truth).mean()
    assert scores.blurred_error(darker, truth) > 0.9 * np.abs(darker.astype(int) - truth).mean()


def test_blurred_error_sees_nothing_beyond_the_region(rng):
    truth = video(rng)
    where = np.zeros(truth.shape[:3], bool)
    where[:, 8:20, 8:20] = True
    outside = np.where(where[..., None], truth, 255 - truth)
    inside = np.where(where[..., None], truth // 2, truth)
    assert scores.blurred_error(outside, truth, where) == pytest.approx(0, abs=1e-3)
    assert scores.blurred_error(inside, truth, where) > 30
    assert scores.blurred_error(inside, truth, np.zeros_like(where)) is None


def test_correlation(rng):
    wanted = video(rng)[..., 0]
    assert scores.correlation(wanted // 2 + 20, wanted) == pytest.approx(1, abs=1e-3)
    assert scores.correlation(255 - wanted, wanted) == pytest.approx(-1)
    assert abs(scores.correlation(rng.integers(0, 256, wanted.shape), wanted)) < 0.1
    assert scores.correlation(np.full_like(wanted, 9), wanted) == 0
    assert scores.correlation(wanted, np.full_like(wanted, 9)) is None


def test_correlation_of_a_part(rng):
    wanted = video(rng)[..., 0]
    where = np.zeros(wanted.shape, bool)
    where[:, :16] = True
    made = np.where(where, wanted, 255 - wanted)
    assert scores.correlation(made, wanted, where) == pytest.approx(1)
    assert scores.correlation(made, wanted, ~where) == pytest.approx(-1)


def drawing(*columns, side=32):
    lines = np.full((3, side, side), 255, np.uint8)
    lines[:, 4:-4, list(columns)] = 0
    return lines


def test_lines_are_met_within_reach():
    wanted = drawing(10, 20)
    assert scores.line_f1(wanted, wanted) == 1
    assert scores.line_f1(drawing(11, 21), wanted) == 1
    assert scores.line_f1(drawing(13, 23), wanted) == 0
    assert scores.line_f1(drawing(10), wanted) == pytest.approx(2 / 3)  # half of them found
    assert scores.line_f1(drawing(10, 20, 26, 30), wanted) == pytest.approx(2 / 3)  # twice as many drawn


def test_lines_of_nothing():
    wanted, blank = drawing(10), np.full((3, 32, 32), 255, np.uint8)
    assert scores.line_f1(blank, wanted) == 0
    assert scores.line_f1(wanted, blank) is None
    assert scores.line_f1(np.zeros_like(blank), wanted) < 0.3  # black all over is no drawing


def test_lines_of_a_part():
    where = np.zeros((3, 32, 32), bool)
    where[:, :, :16] = True
    assert scores.line_f1(drawing(10, 28), drawing(10, 20), where=where) == 1
    assert scores.line_f1(drawing(10, 28), drawing(10, 20), where=~where) == 0


def test_flow_agreement_is_free_of_scale_and_signed(rng):
    wanted = rng.normal(0, 1, (4, 16, 16, 2)).astype(np.float32)
    assert scores.flow_agreement(3 * wanted, wanted) == pytest.approx(1)
    assert scores.flow_agreement(-wanted, wanted) == pytest.approx(-1)
    assert abs(scores.flow_agreement(rng.normal(0, 1, wanted.shape), wanted)) < 0.1
    assert scores.flow_agreement(0 * wanted, wanted) == 0
    assert scores.flow_agreement(wanted, 0 * wanted) is None
    assert scores.flow_error(wanted + (3, 4), wanted) == pytest.approx(5)


def test_masks_and_boxes():
    truth = np.zeros((3, 16, 16), bool)
    truth[:2, 4:8, 4:8] = True  # nothing to be seen in the last frame
    half = truth.copy()
    half[:, :, 6:] = False
    assert scores.mask_iou(truth, truth) == 1
    assert scores.mask_iou(half, truth) == 0.5
    assert scores.mask_iou(~truth, truth) == 0
    assert scores.mask_iou(None, truth) == 0
    assert scores.mask_iou(truth, np.zeros_like(truth)) is None
    boxes = np.float32([[4, 4, 8, 8], [4, 4, 8, 8], [0, 0, 0, 0]])
    assert scores.box_iou(boxes, boxes) == 1
    assert scores.box_iou(boxes + np.float32([2, 0, 2, 0]), boxes) == pytest.approx(1 / 3)
    assert scores.box_iou(np.zeros_like(boxes), boxes) == 0
    assert scores.box_iou(boxes, np.zeros_like(boxes)) is None


def test_a_seam_is_contrast_beyond_the_truths(rng):
    truth = video(rng)
    kept = np.zeros(truth.shape[:3], bool)
    kept[:, :, 10:30] = True
    made = np.where(kept[..., None], truth, truth // 2)
    assert scores.seam(truth, truth, kept) == 0
    assert scores.seam(made, truth, kept) > 20
    assert scores.seam(made, truth, np.ones_like(kept)) is None


def test_a_jump_is_change_beyond_the_truths(rng):
    truth = np.repeat(video(rng, 1), 6, axis=0)
    kept = np.array([True, False, False, False, False, False])
    made = truth.copy()
    made[1:] = 255 - made[1:]
    assert scores.jump(truth, truth, kept) == 0
    assert scores.jump(made, truth, kept) > 20
    assert scores.jump(made, truth, ~np.zeros(6, bool)) is None


def test_a_share_is_a_ratio_of_means():
    # In the second row the baseline is as good as the truth: a mean of ratios would be anything.
    assert scores.share([0.8, 0.9], [0.0, 0.9], [1.0, 0.9]) == pytest.approx(0.8 / 1.0)
    assert scores.share([12.0], [40.0], [5.0], least=-1) == pytest.approx(28 / 35)  # less is better
    assert scores.share([0.3], [0.3], [0.9]) == 0
    assert scores.share([9.0], [0.0], [1.0]) == 1 and scores.share([-9.0], [0.0], [1.0]) == -1
    assert scores.share([], [], []) is None


def test_no_share_where_the_truth_is_no_better_than_the_baseline():
    assert scores.share([0.5], [0.4], [0.42], least=0.05) is None
    assert scores.share([0.1], [0.4], [0.2], least=0.05) is None  # a decoder that loses all
    assert scores.share([30.0], [20.0], [40.0], least=-2.0) is None


def test_errors_are_those_of_the_rows(rng):
    values = rng.normal(2, 0.5, 400)
    mean, error = scores.mean_and_error(values)
    assert mean == pytest.approx(2, abs=0.1) and error == pytest.approx(0.5 / 20, rel=0.15)
    assert np.isnan(scores.mean_and_error([1.0])[1])
    jackknife = scores.share_error(values, np.zeros(400), np.full(400, 4.0))
    assert jackknife == pytest.approx(error / 4, rel=0.05)


def test_rising_beyond_chance(rng):
    noise = rng.normal(0, 0.1, (3, 10))
    assert not scores.is_rising(np.array([[0.380], [0.385], [0.391]]) * np.ones(10))  # by next to nothing
    assert not scores.is_rising(np.array([[0.3], [0.3], [0.33]]) + 3 * noise)  # by chance
    assert scores.is_rising(np.array([[0.1], [0.5], [0.9]]) + noise)
    assert not scores.is_rising(np.array([[0.9], [0.5], [0.1]]) + noise)
    assert not scores.is_rising(np.array([[0.1], [0.9], [0.3]]) + noise)
    assert scores.is_rising(np.array([[0.1], [0.8], [0.79]]) + 2 * noise)  # a dip within chance
