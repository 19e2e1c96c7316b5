"""Rows: what leads the model says what is kept and what is made, by the project's own annotators."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vace.conditioning.pixels import to_model_space, to_pixels
from vace.errors import InputError
from vace.training.judge import colour_of
from vace.training.rows import TASKS, _drawn_task, make_row
from vace.training.rows_masks import MODES, region
from vace.training.rows_world import Asked, noun, picture_of, strayed, without_colour
from vace.training.scene import HELD_OUT
from vace.training.worlds import sample_world

NEUTRAL = ("inpainting", "outpainting", "frameref", "clipref", "swap")  # what lies under white is to be invented
REFERENCED = ("reference", "swap", "control_reference", "expand")


def asked(seed: int = 3, split: str = "held_out", objects: tuple[int, int] = (1, 2)) -> Asked:
    return Asked(np.random.default_rng(seed), seed, split, (64, 64), 17, objects)


@pytest.mark.parametrize("task", TASKS)
def test_a_row_has_its_form_and_is_the_same_again(task):
    row, again = (make_row(11, task=task, split="held_out", size=(64, 48), frames=9) for _ in range(2))
    assert row.target.shape == (9, 48, 64, 3) and row.target.dtype == np.uint8
    assert row.frames.shape == (3, 9, 48, 64) and row.mask.shape == (1, 9, 48, 64)
    assert row.frames.abs().max() <= 1 and row.mask.min() >= 0 and row.mask.max() <= 1
    assert all(ref.shape == (3, 1, 48, 64) for ref in row.refs) and bool(row.refs) == (task in REFERENCED)
    assert row.prompt and all(0 <= n < len(row.clip.world.things) for n in row.things)
    assert row.prompt == again.prompt and torch.equal(row.frames, again.frames) and torch.equal(row.mask, again.mask)


@pytest.mark.parametrize("task", [*NEUTRAL, "move", "expand", "composition"])
def test_black_is_the_outcome_itself_and_white_is_not(task):
    for seed in (1, 2):
        row = make_row(seed, split="held_out", task=task)
        target, white = to_model_space(row.target), row.mask > 0.5
        kept = (row.frames - target).abs().amax(dim=0, keepdim=True)
        assert 0.005 < white.float().mean() < 1, row.mode
        assert kept[~white].max() < 1e-6, row.mode
        if task in NEUTRAL:
            assert row.frames.masked_select(white).abs().max() == 0.0, row.mode
        assert kept[white].mean() > 0.03


@pytest.mark.parametrize("task", ["plain", "gray", "depth", "scribble", "flow", "pose", "layout"])
def test_a_control_leads_all_of_the_clip(task):
    row = make_row(4, split="held_out", task=task)
    assert bool((row.mask == 1).all())
    assert float(row.frames.std()) > 0.02
    if task == "gray":
        assert np.ptp(to_pixels(row.frames).astype(int), axis=-1).max() == 0


def test_words_and_references_have_no_source():
    for task in ("txt2vid", "reference"):
        row = make_row(4, task=task)
        assert row.source is None and not row.frames.any() and bool((row.mask == 1).all())


def test_poses_are_drawn_where_the_puppet_is():
    row = make_row(6, split="held_out", task="pose", objects=(1, 1))
    lit = to_pixels(row.frames).max(axis=-1) > 60
    (n,) = row.things
    assert row.clip.world.things[n].kind == "puppet"
    assert lit.any(axis=(1, 2)).all()
    assert (lit & row.clip.full_masks[:, n]).sum() > 0.7 * lit.sum()


def test_layouts_lie_round_their_things():
    for seed in range(3):
        row = make_row(seed, split="held_out", task="layout")
        drawn = to_pixels(row.frames).min(axis=-1) < 200
        union = row.clip.full_masks[:, list(row.things)].any(axis=1)
        for t in (0, 8, 16):
            y, x = np.nonzero(drawn[t])
            inside_y, inside_x = np.nonzero(union[t])
            assert abs(y.min() - inside_y.min()) <= 7 and abs(x.max() - inside_x.max()) <= 7, (seed, t)


def test_a_reference_shows_the_things_it_stands_for():
    for seed in range(4):
        row = make_row(seed, split="held_out", task="reference")
        assert len(row.refs) == len(row.things)
        for ref, n in zip(row.refs, row.things, strict=True):
            frames = to_pixels(ref)
            on_paper = (frames > 250).all(axis=-1)
            if on_paper.mean() > 0.1:  # cut out, not the whole picture
                assert colour_of(frames, ~on_paper) == row.clip.world.things[n].colour


def test_an_edit_changes_its_region_alone():
    edits = [make_row(seed, split="held_out", task="inpainting") for seed in range(14)]
    edits = [row for row in edits if row.mode not in ("block", "silhouette", "ground")]
    changed = [row for row in edits if not np.array_equal(row.source, row.target)]
    assert 0 < len(changed) < len(edits)
    for row in changed:
        outside = row.mask[0].numpy() < 0.5
        assert np.array_equal(row.source[outside], row.target[outside])
    for row in edits:
        (n,) = row.things
        thing = row.clip.world.things[n]
        assert noun(thing) in row.prompt or row.prompt == row.clip.caption
        shown = row.clip.masks[:, n] & (row.mask[0].numpy() > 0.5)
        assert shown.sum() > 0.9 * row.clip.masks[:, n].sum(), row.mode


def test_held_out_edits_are_about_pairs_never_seen():
    row = make_row(2, split="held_out", task="swap")
    (n,) = row.things
    assert (row.clip.world.things[n].colour, row.clip.world.things[n].name) in HELD_OUT


@pytest.mark.parametrize("mode", MODES)
def test_regions_are_as_their_mode_says(mode):
    request = asked(seed=5)
    clip = request.clip()
    found = region(request, clip, mode)
    white = found.frames(17, 64, 64)
    assert 0 < white.mean() < 1
    if mode in ("still", "still_box"):
        assert (white == white[:1]).all()
    if mode == "ground":
        assert not (white & clip.masks.any(axis=1)).any()
    if mode == "exact":
        assert np.array_equal(white, clip.masks[:, found.things[0]])


def test_every_task_is_drawn_about_as_often_as_its_weight_says():
    drawn = [_drawn_task(seed, "train", 17) for seed in range(3000)]
    total = sum(recipe.weight for recipe in TASKS.values())
    for name, recipe in TASKS.items():
        assert drawn.count(name) / 3000 == pytest.approx(recipe.weight / total, abs=0.02)


@pytest.mark.parametrize("task", [name for name, recipe in TASKS.items() if not recipe.needs_time])
def test_rows_of_one_frame_are_whole_rows(task):
    row = make_row(11, task=task, frames=1)
    assert (
        row.target.shape == (1, 64, 64, 3) and row.frames.shape == (3, 1, 64, 64) and row.mask.shape[1:] == (1, 64, 64)
    )
    if row.task in ("gray", "inpainting"):
        kept = row.mask[0].numpy() < 0.5
        assert kept.any() == (task == "inpainting")


def test_what_needs_time_is_not_drawn_for_one_frame():
    drawn = {_drawn_task(seed, "train", 1) for seed in range(600)}
    assert drawn == {name for name, recipe in TASKS.items() if not recipe.needs_time}
    with pytest.raises(InputError, match="'flow' has no training rows of one frame"):
        make_row(0, task="flow", frames=1)


def test_what_is_said_without_colours():
    things = sample_world(1).things
    caption = f"a small {things[0].colour} {things[0].name} moves left over grass"
    assert without_colour(caption, things[:1]) == f"a small {things[0].name} moves left over grass"
    assert without_colour(f"an orange circle and {noun(things[0])}", ()) == f"an orange circle and {noun(things[0])}"


def test_pictures_of_things_are_large_and_whole():
    image, mask = picture_of(sample_world(3).things[0], np.random.default_rng(0))
    assert image.shape[:2] == mask.shape and image.shape[0] >= 96
    assert 0.08 < (mask > 0).mean() < 0.7 and not mask[0].any() and not mask[-1].any()


def test_how_straight_a_way_is():
    way = np.linspace([0, 0, 10, 10], [30, 0, 40, 10], 9)
    assert strayed(way) < 1e-6
    bent = way.copy()
    bent[4, 1] += 5
    assert strayed(bent) == pytest.approx(5)
    assert strayed(way * 0) == float("inf")


def test_what_cannot_be_made_is_told():
    with pytest.raises(InputError, match="depth"):
        make_row(0, task="dept")
    with pytest.raises(InputError, match="held_out"):
        make_row(0, split="heldout")
    with pytest.raises(InputError, match="multiples of 16"):
        make_row(0, size=(60, 64))
    with pytest.raises(InputError, match="4n"):
        make_row(0, frames=16)
