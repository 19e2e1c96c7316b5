import numpy as np
import pytest

from vace.conditioning.frames import constant_timestamps
from vace.conditioning.plan import plan_frames
from vace.errors import InputError


def test_footage_plays_at_its_own_speed():
    plan = plan_frames(constant_timestamps(101, 25), 81)
    assert (plan.count, plan.model_count, plan.padding) == (65, 65, 0)
    assert plan.ids[:5] == (0, 1, 3, 4, 6)
    assert plan.keeps_duration and plan.sound == pytest.approx((0, 4.04))
    assert plan.describe() == "101 frames at 25 fps (4.0 s) -> 65 at 16 fps, at the source's speed"


def test_footage_over_the_budget_is_cut_at_the_end_and_says_so():
    plan = plan_frames(constant_timestamps(101, 25), 49)
    assert plan.count == 49
    assert plan.trimmed == pytest.approx(1.0)
    assert plan.sound == pytest.approx((0, 49 / 16))
    assert plan.describe().endswith("; trimmed 1.0 s at the end to fit the budget")


@pytest.mark.parametrize(
    ("frames", "count", "model_count"),
    [(1, 1, 1), (2, 2, 5), (77, 77, 77), (79, 79, 81), (80, 80, 81), (81, 81, 81), (82, 81, 81), (84, 81, 81)],
)
def test_lengths_are_padded_up_within_the_budget(frames, count, model_count):
    plan = plan_frames(constant_timestamps(frames, 16), 81)
    assert (plan.count, plan.model_count) == (count, model_count)
    assert plan.ids == tuple(range(count))
    assert plan.model_ids == plan.ids + (count - 1,) * (model_count - count)
    assert ("padded to" in plan.describe()) == (model_count > count)


def test_a_budget_of_the_wrong_form_is_rounded_down():
    assert plan_frames(constant_timestamps(100, 16), 80).model_count == 77


def test_the_whole_clip_can_be_squeezed_in():
    plan = plan_frames(constant_timestamps(300, 30), 81, policy="uniform")
    assert (plan.count, plan.ids[0], plan.ids[-1]) == (81, 0, 299)
    assert plan.sound is None and not plan.keeps_duration
    assert "the whole clip at 1.98x speed" in plan.describe()
    same = plan_frames(constant_timestamps(81, 16), 81, policy="uniform")
    assert same.ids == tuple(range(81)) and same.keeps_duration
    assert "the first frame only" in plan_frames(constant_timestamps(3, 16), 81, policy="uniform").describe()


def test_an_explicit_frame_num_replaces_the_budget():
    stamps = constant_timestamps(400, 16)
    assert plan_frames(stamps, 81, frame_num=49).ids == tuple(range(49))
    longer = plan_frames(stamps, 81, frame_num=121)
    assert longer.ids == tuple(range(121))
    assert "for --frame_num 121" in longer.describe()
    spread = plan_frames(stamps, 81, policy="uniform", frame_num=5)
    assert (spread.count, spread.ids[0], spread.ids[-1]) == (5, 0, 399)
    short = plan_frames(constant_timestamps(40, 16), 81, frame_num=81)
    assert (short.count, short.model_count) == (40, 41)
    assert "shorter than the 81 frames asked for" in short.describe()
    with pytest.raises(InputError, match="use 81 or 85"):
        plan_frames(stamps, 81, frame_num=82)


def test_a_prepared_file_enters_one_to_one():
    plan = plan_frames(constant_timestamps(81, 16), 81, policy="exact", filler=[(1, 81)])
    assert plan.ids == tuple(range(81)) and plan.dropped == 0 and plan.keeps_duration
    odd = plan_frames(constant_timestamps(30, 30), 81, policy="exact")
    assert odd.ids == tuple(range(30)) and not odd.keeps_duration


@pytest.mark.parametrize(
    ("frames", "rate", "speed"),
    [(49, 25, "0.64x"), (49, 8, "2.00x"), (100, 25, "0.64x"), (49, 16.1, None), (100, 16, None), (1, 25, None)],
)
def test_a_prepared_file_of_another_rate_says_how_fast_it_runs(frames, rate, speed):
    """Cut at the end or not; a single frame has no speed."""
    plan = plan_frames(constant_timestamps(frames, rate), 81, policy="exact")
    pace = plan.describe().partition(" fps, ")[2].partition(";")[0]
    assert pace == ("one to one" if speed is None else f"one to one, at {speed} speed")
    own = plan_frames(constant_timestamps(frames, rate), 81, policy="exact", keeps_pace=True)
    assert "x speed" not in own.describe()


@pytest.mark.parametrize(
    ("frames", "filler", "budget", "expected", "sound"),
    [
        (82, [(1, 81)], 81, [*range(41), *range(42, 82)], None),  # first and last frame: one from the middle
        (81, [(1, 81)], 49, range(49), (0, 49 / 16)),  # first frame: from the end
        (81, [(0, 80)], 49, range(32, 81), (2.0, 49 / 16)),  # last frame: from the start
        (157, [(77, 157)], 81, range(81), (0, 81 / 16)),  # a first clip that just leaves room
    ],
)
def test_filler_goes_first_and_given_frames_never(frames, filler, budget, expected, sound):
    plan = plan_frames(constant_timestamps(frames, 16), budget, policy="exact", filler=filler)
    assert plan.ids == tuple(expected)
    assert plan.dropped == frames - budget and plan.trimmed == 0
    assert plan.sound == (sound if sound is None else pytest.approx(sound))
    assert f"{plan.dropped} filler frame" in plan.describe()


def test_given_frames_that_leave_no_room_are_refused():
    with pytest.raises(InputError, match="holds 79 frames of given clips.*takes 81.*may have 77.*--clip_frames"):
        plan_frames(constant_timestamps(159, 16), 81, policy="exact", filler=[(79, 159)])
    with pytest.raises(InputError, match="^control.mp4 holds 81 frames of given clips"):
        plan_frames(constant_timestamps(83, 16), 81, policy="exact", filler=[(40, 42)], name="control.mp4")


def test_a_prepared_file_of_given_frames_alone_is_cut_at_the_end():
    plan = plan_frames(constant_timestamps(84, 16), 81, policy="exact")
    assert plan.ids == tuple(range(81)) and plan.dropped == 0
    assert plan.trimmed == pytest.approx(3 / 16)


def test_other_models_have_other_rates_and_strides():
    plan = plan_frames(constant_timestamps(120, 30), 97, fps=25, stride=8)
    assert (plan.count, plan.model_count, plan.fps) == (97, 97, 25)
    assert plan_frames(constant_timestamps(20, 25), 97, fps=25, stride=8).model_count == 25


def test_a_plan_that_cannot_be_made():
    with pytest.raises(InputError, match="--frame_policy 'unifrm' is unknown: did you mean 'uniform'"):
        plan_frames(constant_timestamps(10, 16), 81, policy="unifrm")
    with pytest.raises(InputError, match="src_video holds no frames"):
        plan_frames(np.zeros((0, 2), dtype=np.float32), 81)


def test_a_still_without_a_duration_is_one_frame():
    plan = plan_frames(np.zeros((1, 2), dtype=np.float32), 81)
    assert (plan.ids, plan.model_count) == ((0,), 1)
    assert plan.describe().startswith("1 frame at 16 fps")


def test_a_slide_show_is_resampled_whole():
    """Two pictures of ten seconds each, at the model's rate: 320 frames, none trimmed."""
    from vace.conditioning.plan import plan_whole

    plan = plan_whole(np.array([[0, 10], [10, 20]], np.float32), 16.0)
    assert plan.ids == (0,) * 160 + (1,) * 160 and plan.trimmed == 0
