"""When previews are made, of which frame, and what becomes of them when there is no memory."""

from __future__ import annotations

import logging

import pytest
import torch

from vace.models.previews import Previews, is_due, middle


@pytest.mark.parametrize(
    ("step", "steps", "elapsed", "spent", "due"),
    [
        (0, 10, 100.0, 0.0, False),  # a blur
        (1, 10, 0.0, 0.0, True),  # the first one cannot be weighed yet
        (2, 10, 10.0, 1.0, True),
        (2, 10, 10.0, 1.01, False),
        (8, 10, 100.0, 1.0, True),
        (9, 10, 100.0, 0.0, False),  # the last: the video itself comes
        (1, 2, 100.0, 0.0, False),
        (0, 1, 100.0, 0.0, False),
    ],
)
def test_when_one_is_due(step, steps, elapsed, spent, due):
    assert is_due(step, steps, elapsed, spent) is due


@pytest.mark.parametrize(("frames", "refs", "at"), [(1, 0, 0), (2, 0, 1), (21, 0, 10), (23, 2, 12), (3, 2, 2)])
def test_the_middle_after_the_references(frames, refs, at):
    assert middle(frames, refs) == at


class Clock:
    """Seconds that go by when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def walk(steps: int, step_seconds: float, preview_seconds: float, fail_at: int | None = None) -> list[int]:
    """The steps after which a preview is shown, of a run in which each takes so long."""
    clock, shown, asked = Clock(), [], []

    def make(latents):
        asked.append(latents)
        clock.now += preview_seconds
        if len(asked) - 1 == fail_at:
            raise torch.OutOfMemoryError("none left")
        return latents

    previews = Previews(make, lambda step, picture: shown.append(step), clock)
    for step in range(steps):
        clock.now += step_seconds
        previews.after_step(step, steps, torch.zeros(1))
    return shown


def test_cheap_ones_are_made_after_every_step_but_the_first_and_the_last():
    assert walk(10, 10.0, 0.5) == list(range(1, 9))


def test_dear_ones_take_a_tenth_of_the_time_and_one_more():
    shown = walk(50, 1.0, 1.0)
    assert shown[0] == 1
    assert 4 <= len(shown) <= 50 * 0.1 / 0.9 + 1
    assert all(later - earlier >= 8 for earlier, later in zip(shown[1:], shown[2:], strict=False))


def test_without_memory_there_are_no_more_and_one_warning(caplog):
    with caplog.at_level(logging.WARNING, "vace"):
        assert walk(10, 10.0, 0.5, fail_at=2) == [1, 2]
    assert [record.message.startswith("no more previews") for record in caplog.records] == [True]


def test_what_showing_raises_goes_on():
    def stop(step, picture):
        raise KeyboardInterrupt

    previews = Previews(lambda latents: latents, stop)
    with pytest.raises(KeyboardInterrupt):
        previews.after_step(1, 4, torch.zeros(1))


@pytest.mark.parametrize("refs", [0, 1])
def test_it_is_the_picture_that_the_decoder_gives_of_that_latent_frame(refs, tiny_engine):
    channels = tiny_engine._parts["vae"].config["z_dim"]
    latents = torch.randn((channels, 3 + refs, 4, 6), generator=torch.Generator().manual_seed(1))
    state = torch.get_rng_state()
    picture = tiny_engine.preview(latents, refs)
    assert picture.shape == (32, 48, 3) and picture.dtype.name == "uint8"
    alone = tiny_engine.decode(latents[:, refs + 1 : refs + 2])
    assert abs(alone[:, 0].permute(1, 2, 0).clamp(-1, 1).add(1).mul(127.5) - torch.from_numpy(picture)).max() <= 0.5
    assert torch.equal(state, torch.get_rng_state())
