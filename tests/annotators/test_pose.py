"""People as sticks: sizes, counts, what the network is shown, and a real clip."""

from __future__ import annotations

import numpy as np
import pytest

from vace import annotators
from vace.annotators import pose
from vace.annotators.draw_pose import draw_people, drawing_size, from_drawing, to_drawing
from vace.annotators.nets.poses import BODY, NOBODY, POINTS, Memory, People
from vace.annotators.networks import Networks


class Seer:
    """In the place of the network "pose": one person whose points lie at the same shares of every frame.

    It is all `Networks` that an annotator asks for.
    """

    def __init__(self, short_side=None, sees: bool = True) -> None:
        rng = np.random.default_rng(3)
        self.shares, self.scores = rng.uniform(0.2, 0.8, (1, POINTS, 2)), rng.uniform(0.4, 1, (1, POINTS))
        self.short_side, self.sees = short_side, sees
        self.shown, self.memories, self.asked = [], [], []

    def get(self, name):
        self.asked.append(name)
        return self

    def poses(self, frames, memory=None, *, hands=True):
        assert not hands
        self.shown.append(frames.copy())
        self.memories.append(memory)
        size = frames.shape[2], frames.shape[1]
        return [People(self.shares * size, self.scores) if self.sees else NOBODY for _ in frames]

    def expected(self, width, height, **parts):
        across, down, _ = drawing_size(width, height)
        return from_drawing(
            draw_people(People(self.shares * (across, down), self.scores), across, down, **parts), width, height
        )


@pytest.mark.parametrize(("task", "face"), [("pose", True), ("pose_body", False)])
@pytest.mark.parametrize("short_side", [None, 1024])
def test_every_frame_is_drawn_at_its_size(cut_clip, noise, gather, task, face, short_side):
    seer, clip = Seer(short_side), cut_clip(noise(5, 48, 80), 2, fps=25)
    result = annotators.get(task)(frames=clip, networks=seer)
    assert seer.asked == ["pose"]
    frames, masks = gather(result)
    assert masks is None and frames.shape == (5, 48, 80, 3)
    assert all(np.array_equal(frame, seer.expected(80, 48, face=face)) for frame in frames)
    assert frames.any() and frames.max() > 100


def test_a_network_is_shown_what_it_asks_for(cut_clip, noise, gather):
    frames = noise(3, 48, 80)
    for short_side, expected in ((None, frames), (1024, np.stack([to_drawing(frame) for frame in frames]))):
        seer = Seer(short_side)
        gather(annotators.get("pose")(frames=cut_clip(frames, 2), networks=seer))
        assert np.array_equal(np.concatenate(seer.shown), expected)


def test_enlarged_frames_are_held_few_at_a_time(cut_clip, noise, gather, monkeypatch):
    monkeypatch.setattr(pose, "HELD", 2 * 3 * 1024 * 1728)
    seer = Seer(1024)
    gather(annotators.get("pose")(frames=cut_clip(noise(5, 48, 81), 5), networks=seer))
    assert [len(some) for some in seer.shown] == [2, 2, 1]


def test_a_clip_is_one_clip_to_the_network_and_pictures_are_none(cut_clip, noise, gather):
    seer = Seer()
    for fps in (25.0, 0.0):
        gather(annotators.get("pose")(frames=cut_clip(noise(4, 48, 80), 2, fps=fps), networks=seer))
    first, second, third, fourth = seer.memories
    assert first is second and third is fourth and first is not third
    assert (first.fps, third.fps) == (25.0, Memory().fps)
    seer.memories.clear()
    annotators.get("pose")(images=list(noise(2, 48, 80)), networks=seer)
    assert seer.memories == [None, None]


def test_pictures_of_any_sizes(noise):
    seer = Seer()
    images = [noise(1, 48, 80)[0], noise(1, 90, 33)[0]]
    result = annotators.get("pose")(images=images, networks=seer)
    assert result.chunks is None and result.image_masks == []
    for image, found in zip(images, result.images, strict=True):
        assert np.array_equal(found, seer.expected(image.shape[1], image.shape[0], face=True))


def test_nobody_in_a_clip_is_told_once(cut_clip, noise, gather, caplog):
    frames, _ = gather(annotators.get("pose")(frames=cut_clip(noise(5, 48, 80), 2), networks=Seer(sees=False)))
    assert not frames.any()
    assert [record.message for record in caplog.records] == ["frames: nobody is seen in any frame: every pose is black"]


def test_somebody_too_unsure_to_be_drawn_is_nobody(cut_clip, noise, gather, caplog):
    seer = Seer()
    seer.scores[:, BODY] = 0.3
    gather(annotators.get("pose_body")(frames=cut_clip(noise(2, 48, 80), 2), networks=seer))
    assert "nobody is seen" in caplog.text


def test_nobody_in_a_picture_names_it(noise, caplog):
    seer = Seer(sees=False)
    result = annotators.get("pose")(images=list(noise(2, 48, 80)), networks=seer)
    assert [image.any() for image in result.images] == [False, False]
    assert "picture 1" in caplog.text and "picture 2" in caplog.text and caplog.text.count("nobody") == 2


def test_the_network_is_chosen_before_the_first_frame(cut_clip, noise):
    networks = Networks("embedded")
    annotators.get("pose")(frames=cut_clip(noise(2, 48, 80), 2), networks=networks)
    assert networks.chosen["pose"].backend == "embedded"


def test_a_real_clip_shows_sticks_where_the_person_is(root, cut_clip, gather):
    """The astronaut drifting through 300x300 frames: white dots in the face, sticks below it, the rest black."""
    import cv2

    from vace.media.image import read_image

    image = cv2.resize(read_image(root / "assets" / "images" / "test.jpg"), (300, 300), interpolation=cv2.INTER_AREA)
    clip = cut_clip(np.stack([np.roll(image, 2 * shift, axis=1) for shift in range(4)]), 3)
    networks = Networks("embedded")
    both, _ = gather(annotators.get("pose")(frames=clip, networks=networks))
    bodies, _ = gather(annotators.get("pose_body")(frames=clip, networks=networks))
    for index, (frame, body) in enumerate(zip(both, bodies, strict=True)):
        x, scale = 2 * index, 300 / 512
        white = np.argwhere(frame.min(axis=2) > 60)
        assert len(white) > 30
        assert (white[:, 0] / scale).mean() == pytest.approx(130, abs=15)
        assert ((white[:, 1] - x) / scale).mean() == pytest.approx(224, abs=15)
        assert not (body.min(axis=2) > 60).any()
        sticks = np.argwhere(body.max(axis=2) > 60)
        assert len(sticks) > 200 and (body.max(axis=2) > 60).mean() < 0.1
        assert sticks[:, 0].min() / scale > 70  # nothing above the head
        assert sticks[:, 1].max() / scale < 400 + x / scale
