"""Toy worlds: the same from the same seed, and everything they say of themselves is so."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vace.annotators.draw_pose import LIMBS
from vace.errors import InputError
from vace.training.scene import COLOURS, HELD_OUT, LETTERS, SHAPES, SPRITES, Camera
from vace.training.worlds import KEYPOINTS, boxes_of, render, sample_world

SEEDS = range(24)


@pytest.fixture(scope="module")
def clips():
    return [render(sample_world(seed, objects=(1, 3))) for seed in SEEDS]


def test_same_seed_gives_same_bytes():
    first, second = (render(sample_world(5, objects=(2, 2))) for _ in range(2))
    for name in ("frames", "masks", "full_masks", "depth", "flow", "boxes", "keypoints"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
    assert first.world == second.world


def test_seeds_and_splits_differ():
    worlds = {sample_world(seed, split=split) for seed in range(50) for split in ("train", "held_out")}
    assert len(worlds) == 100


def test_global_randomness_is_neither_used_nor_touched():
    np.random.seed(3)
    before, first = np.random.get_state()[1].copy(), render(sample_world(1)).frames
    np.random.seed(4)
    assert np.array_equal(first, render(sample_world(1)).frames)
    np.random.seed(3)
    assert np.array_equal(before, np.random.get_state()[1])


def test_held_out_pairs_are_never_trained_on():
    for seed in range(5000):
        assert not {(thing.colour, thing.name) for thing in sample_world(seed).things} & HELD_OUT, seed


def test_held_out_worlds_show_a_held_out_pair():
    shown = set()
    for seed in range(1000):
        pairs = {(thing.colour, thing.name) for thing in sample_world(seed, split="held_out").things} & HELD_OUT
        assert pairs, seed
        shown |= pairs
    assert shown == HELD_OUT


def test_every_name_and_colour_is_mostly_trained_on():
    pairs = len(COLOURS) * len(SHAPES + SPRITES)
    assert 1 / 7 < len(HELD_OUT) / pairs < 1 / 5
    for name in SHAPES + SPRITES:
        assert 1 <= sum(held == name for _, held in HELD_OUT) <= 2
    for colour in COLOURS:
        assert 1 <= sum(held == colour for held, _ in HELD_OUT) <= 3


def test_things_of_a_world_differ_in_name_and_colour():
    for seed in range(300):
        things = sample_world(seed, objects=(3, 3)).things
        assert len({thing.name for thing in things}) == len({thing.colour for thing in things}) == 3


@pytest.mark.parametrize("size, frames", [((64, 64), 17), ((96, 96), 9), ((128, 80), 5), ((33, 47), 1)])
def test_any_size_and_count(size, frames):
    world = sample_world(11, objects=(2, 2), size=size, frames=frames)
    clip, (width, height), count = render(world), size, len(world.things)
    assert clip.frames.shape == (frames, height, width, 3) and clip.frames.dtype == np.uint8
    assert clip.masks.shape == clip.full_masks.shape == (frames, count, height, width)
    assert clip.depth.shape == (frames, height, width) and clip.depth.dtype == np.float32
    assert clip.flow.shape == (frames - 1, height, width, 2) and clip.flow.dtype == np.float32
    assert clip.boxes.shape == (frames, count, 4) and clip.keypoints.shape == (frames, count, 18, 2)
    assert clip.caption == world.caption


def test_a_world_looks_the_same_at_another_size():
    world = sample_world(2, objects=(2, 2))
    small, large = render(world), render(world, size=(192, 192))
    shrunk = np.stack([cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA) for frame in large.frames])
    assert np.abs(shrunk.astype(float) - small.frames).mean() < 12
    areas = [clip.masks.mean(axis=(0, 2, 3)) for clip in (small, large)]
    assert np.allclose(*areas, rtol=0.05)


def test_masks_are_disjoint_and_what_is_hidden_is_hidden_by_a_nearer_thing(clips):
    for clip in clips:
        assert clip.masks.sum(axis=1).max() <= 1
        assert not (clip.masks & ~clip.full_masks).any()
        ranks = [thing.rank for thing in clip.world.things]
        for n, rank in enumerate(ranks):
            hidden = clip.full_masks[:, n] & ~clip.masks[:, n]
            nearer = [other for other, its in enumerate(ranks) if its > rank]
            assert not (hidden & ~clip.full_masks[:, nearer].any(axis=1)).any()


def test_every_thing_is_seen(clips):
    for clip in clips:
        assert clip.masks.mean(axis=(0, 2, 3)).min() > 0.005


def test_boxes_are_those_of_the_masks(clips):
    for clip in clips:
        for mask, box in zip(clip.masks.reshape(-1, 64, 64), clip.boxes.reshape(-1, 4), strict=True):
            if not mask.any():
                assert not box.any()
                continue
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_boxes_of_nothing_are_zero():
    assert boxes_of(np.zeros((2, 3, 8, 8), bool)).tolist() == np.zeros((2, 3, 4)).tolist()


def test_depth_agrees_with_what_hides_what(clips):
    for clip in clips:
        assert clip.depth.min() >= 0 and clip.depth.max() <= 1
        ground = clip.depth[~clip.masks.any(axis=1)]
        by_rank = sorted(range(len(clip.world.things)), key=lambda n: clip.world.things[n].rank)
        spans = [clip.depth[clip.masks[:, n]] for n in by_rank]
        for farther, nearer in zip([ground, *spans], spans, strict=False):
            assert farther.max() < nearer.min()
        assert all(span.std() > 0.005 for span in spans)  # rounded, not flat


def test_flow_brings_each_frame_to_the_next(clips):
    """What the next frame shows where the flow points is what this frame shows, inside of what stays in view."""
    errors, unmoved = [], []
    for clip in clips:
        owners = np.where(clip.masks.any(axis=1), clip.masks.argmax(axis=1) + 1, 0).astype(np.uint8)
        y, x = np.mgrid[:64, :64].astype(np.float32)
        for t, flow in enumerate(clip.flow):
            to_x, to_y = x + flow[..., 0], y + flow[..., 1]
            is_kept = (to_x > 1) & (to_x < 62) & (to_y > 1) & (to_y < 62)
            is_kept &= cv2.remap(owners[t + 1], to_x, to_y, cv2.INTER_NEAREST) == owners[t]
            for owner in range(len(clip.world.things) + 1):  # away from edges, where colours are mixed
                for frame, near in ((owners[t], None), (owners[t + 1], (to_x, to_y))):
                    inner = cv2.erode((frame == owner).astype(np.uint8), np.ones((5, 5)))
                    inner = inner if near is None else cv2.remap(inner, *near, cv2.INTER_NEAREST)
                    is_kept &= (owners[t] != owner) | (inner > 0)
            moved = cv2.remap(clip.frames[t + 1], to_x, to_y, cv2.INTER_CUBIC)
            for other, found in ((moved, errors), (clip.frames[t + 1], unmoved)):
                found.append(np.abs(other.astype(float) - clip.frames[t])[is_kept].mean())
    assert np.mean(errors) < 4 and np.mean(errors) < 0.4 * np.mean(unmoved)


def test_flow_of_a_pan_is_the_camera_s():
    world = sample_world(0, objects=(1, 1), cameras=("pan right",), grounds=("bricks",))
    clip = render(world, frames=5)
    ground = clip.flow[~clip.masks[:-1].any(axis=1)]
    assert np.allclose(ground, (-world.camera.amount * 64 / 4, 0), atol=1e-4)


def test_things_go_where_the_world_says():
    for seed in range(80):
        world = sample_world(seed, objects=(1, 1), kinds=("shape",))
        thing, track = world.things[0], None
        if world.camera != Camera("still", world.camera.amount) or thing.motion not in ("left", "right", "up", "down"):
            continue
        track = np.diff(render(world).boxes[[0, -1], 0].reshape(2, 2, 2).mean(axis=1), axis=0)[0]
        step = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[thing.motion]
        assert track @ step > 6 and abs(track @ step[::-1]) < 4, seed


def test_points_lie_on_the_puppet():
    for seed in range(30):
        clip = render(sample_world(seed, objects=(1, 1), kinds=("puppet",)), size=(96, 96))
        points = np.round(clip.keypoints[:, 0]).astype(int)
        is_inside = ((points >= 0) & (points < 96)).all(axis=-1)
        for t, frame_points in enumerate(points):
            shown = frame_points[is_inside[t]]
            assert len(shown) > 6 and clip.full_masks[t, 0, shown[:, 1], shown[:, 0]].all(), (seed, t)


def test_points_are_those_of_the_pose_annotator():
    assert len(KEYPOINTS) == 18
    named = {(KEYPOINTS[start], KEYPOINTS[end]) for start, end in LIMBS}
    for side in ("right", "left"):
        assert {(f"{side} elbow", f"{side} wrist"), (f"{side} hip", f"{side} knee"), ("nose", f"{side} eye")} <= named


def test_only_puppets_have_points():
    clip = render(sample_world(0, objects=(1, 1), kinds=("shape",)))
    assert np.isnan(clip.keypoints).all()


@pytest.mark.parametrize("name", SHAPES + SPRITES + LETTERS)
def test_no_surface_is_flat(name):
    kind = "shape" if name in SHAPES else "sprite" if name in SPRITES else "letter"
    worlds = (sample_world(seed, objects=(1, 1), kinds=(kind,)) for seed in range(400))
    clip = render(next(world for world in worlds if world.things[0].name == name))
    assert clip.frames[0][clip.masks[0, 0]].std(axis=0).max() > 12


@pytest.mark.parametrize(
    "wrong", [{"split": "trian"}, {"kinds": ("shap",)}, {"grounds": ("gras",)}, {"cameras": ("pan up",)}]
)
def test_unknown_words_are_refused(wrong):
    with pytest.raises(InputError):
        sample_world(0, **wrong)


def test_held_out_of_kinds_without_pairs_is_refused():
    with pytest.raises(InputError, match="shape"):
        sample_world(0, split="held_out", kinds=("puppet",))
