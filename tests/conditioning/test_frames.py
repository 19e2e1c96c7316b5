import numpy as np
import pytest

from vace.conditioning.frames import (
    check_frame_num,
    constant_timestamps,
    is_valid_count,
    nearest_counts,
    opening_ids,
    padded_count,
    resample_ids,
    thin_filler,
    uniform_fps,
    uniform_ids,
)
from vace.errors import InputError


@pytest.mark.parametrize(
    ("count", "stride", "padded", "around"),
    [(1, 4, 1, (1, 1)), (2, 4, 5, (1, 5)), (80, 4, 81, (77, 81)), (81, 4, 81, (81, 81)), (82, 4, 85, (81, 85))]
    + [(9, 8, 9, (9, 9)), (10, 8, 17, (9, 17))],
)
def test_counts_the_model_takes(count, stride, padded, around):
    assert padded_count(count, stride) == padded
    assert nearest_counts(count, stride) == around
    assert is_valid_count(count, stride) == (padded == count)


def test_an_explicit_count_of_the_wrong_form_names_the_nearest():
    assert check_frame_num(81) == 81
    assert check_frame_num(97, stride=8) == 97
    with pytest.raises(InputError, match="--frame_num 80 .*use 77 or 81"):
        check_frame_num(80)
    with pytest.raises(InputError, match="8n\\+1.*use 73 or 81"):
        check_frame_num(80, stride=8)
    for wrong in (0, -3):
        with pytest.raises(InputError, match="use 1$"):
            check_frame_num(wrong)


def test_resampling_keeps_real_time():
    assert resample_ids(constant_timestamps(6, 16), 16) == [0, 1, 2, 3, 4, 5]
    assert resample_ids(constant_timestamps(12, 24), 16) == [0, 1, 3, 4, 6, 7, 9, 10]
    assert resample_ids(constant_timestamps(3, 8), 16) == [0, 0, 1, 1, 2, 2]
    assert resample_ids(constant_timestamps(1, 30), 16) == [0]
    assert len(resample_ids(constant_timestamps(101, 25), 16)) == 65
    assert len(resample_ids(constant_timestamps(100, 25), 16)) == 64


@pytest.mark.parametrize("fps", [8, 12.5, 15, 23.976, 24, 25, 29.97, 30, 50, 59.94, 60, 120, 240])
@pytest.mark.parametrize("target", [16, 25])
def test_resampling_shows_each_frame_at_its_time(fps, target):
    count = 500
    ids = np.array(resample_ids(constant_timestamps(count, fps), target))
    assert ids[0] == 0 and ids.max() < count
    assert np.all(np.diff(ids) >= 0)
    late = np.arange(len(ids)) / target - ids / fps  # how long the frame has been up when it is taken
    assert late.min() >= -1.1e-3 and late.max() < 1 / fps + 1e-3
    assert abs(len(ids) / target - count / fps) <= 1 / target


def test_resampling_follows_variable_frame_rates():
    edges = np.array([0, 0.1, 0.15, 0.5, 0.55], dtype=np.float32)
    stamps = np.stack([edges[:-1], edges[1:]], axis=1)
    assert resample_ids(stamps, 10) == [0, 1, 2, 2, 2, 3]


def test_resampling_survives_times_rounded_to_a_millisecond():
    stamps = np.round(constant_timestamps(120, 60), 3)
    assert resample_ids(stamps, 30) == list(range(0, 120, 2))


def test_resampling_counts_from_the_first_frame():
    stamps = constant_timestamps(24, 24) + np.float32(3.5)
    assert resample_ids(stamps, 12) == list(range(0, 24, 2))


def test_resampling_can_start_later_and_stop_early():
    stamps = constant_timestamps(32, 16)
    assert resample_ids(stamps, 16, max_count=3) == [0, 1, 2]
    assert resample_ids(stamps, 16, max_count=3, start=0.5) == [8, 9, 10]
    assert resample_ids(stamps, 16, start=1.75) == [28, 29, 30, 31]
    with pytest.raises(InputError, match="ends at 2.00 s, before the start at 2 s"):
        resample_ids(stamps, 16, start=2.0)


def test_the_first_frame_is_kept_however_short():
    stamps = np.array([[0, 0.0005], [0.0005, 1.0]], dtype=np.float32)
    assert resample_ids(stamps, 2) == [0, 1]


def test_uniform_takes_the_first_and_the_last_frame():
    assert uniform_ids(constant_timestamps(9, 30), 5) == [0, 2, 4, 6, 8]
    assert uniform_ids(constant_timestamps(14, 16), 9) == [0, 1, 3, 5, 6, 8, 10, 11, 13]
    assert uniform_ids(constant_timestamps(4, 16), 81) == [0]
    assert uniform_ids(constant_timestamps(17, 25), 97, stride=8) == list(range(17))
    assert uniform_fps(constant_timestamps(81, 16), 81) == pytest.approx(81 / (80.5 / 16))


def test_uniform_takes_the_frame_before_a_gap_and_not_the_first():
    stamps = constant_timestamps(9, 16)
    stamps[4, 1] -= 0.04  # nothing is said to be shown from here to the next frame
    ids = uniform_ids(np.delete(stamps, 5, axis=0), 5)
    assert ids == sorted(ids) and ids[0] == 0 and ids[-1] == 7
    gap = np.array([[0, 0.1], [0.1, 0.2], [0.6, 0.7], [0.7, 0.8], [0.8, 0.9]], dtype=np.float32)
    assert uniform_ids(gap, 5) == [0, 1, 1, 2, 4]


def test_the_opening_rule_needs_a_frame():
    assert opening_ids(constant_timestamps(64, 32), 32, 16, 9) == [0, 2, 4, 6, 9, 11, 13, 15, 18]
    with pytest.raises(InputError, match="lasts less than one frame"):
        opening_ids(constant_timestamps(1, 16), 16, 16, 81)


@pytest.mark.parametrize(
    ("given", "limit", "kept"),
    [
        ([0], 5, [0, 1, 2, 3, 4]),  # firstframe: from the end
        ([9], 5, [5, 6, 7, 8, 9]),  # lastframe: from the start
        ([0, 9], 6, [0, 1, 2, 7, 8, 9]),  # firstlastframe: from the middle
        ([0, 9], 5, [0, 1, 2, 8, 9]),
        ([2, 9], 6, [0, 1, 2, 3, 8, 9]),  # the longest stretch gives most
        ([], 3, [0, 1, 2]),
        (list(range(10)), 10, list(range(10))),
    ],
)
def test_filler_goes_farthest_first(given, limit, kept):
    is_filler = np.ones(10, dtype=bool)
    is_filler[given] = False
    ids = thin_filler(is_filler, limit)
    assert ids == kept
    assert set(given) <= set(ids)
