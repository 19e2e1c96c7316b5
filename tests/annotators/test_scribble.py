"""Line drawings as control and as references: three equal channels, the size and number of what was given."""

from __future__ import annotations

import numpy as np
import pytest
from goldens_io import comparable_cases, equal_within
from parity_fixes import FIXES

from vace.annotators.nets.dog_lines import DogLines
from vace.annotators.scribble import Scribble


class OneNetwork:
    """Stands for the networks of a run: `scribble` is the one given, and what was asked for is noted."""

    def __init__(self, network) -> None:
        self.network, self.asked = network, []

    def get(self, name):
        self.asked.append(name)
        return self.network


class Stored:
    """A network that answers what the golden's network gave, cut back."""

    def __init__(self, drawing) -> None:
        self.drawing = drawing

    def lines(self, frames):
        return (FIXES["scribble_size"][1](self.drawing, frames[0]) * 255).astype(np.uint8)[None]


class Red:
    def lines(self, frames):
        return frames[..., 0]


@pytest.mark.parity
def test_pictures_as_the_original():
    cases = [case for case in comparable_cases("scribble") if "inputs" in case]
    assert cases
    for case in cases:
        image, expected = case["inputs"]["image"], case["output"]
        networks = OneNetwork(Stored(expected["net_out"][0, 0]))
        (found,) = Scribble()(images=[image], networks=networks).images
        golden = FIXES["scribble_size"][1](expected["out"], image)
        assert equal_within("scribble, uint8", found, golden, 1), case["id"]


@pytest.mark.parametrize("cut", [16, 1, 3])
def test_clips_keep_their_frames(cut, noise, cut_clip, gather):
    frames, networks = noise(7, 21, 34), OneNetwork(Red())
    found, masks = gather(Scribble()(frames=cut_clip(frames, cut), networks=networks))
    assert masks is None and networks.asked == ["scribble"]
    assert np.array_equal(found, frames[..., :1].repeat(3, axis=-1))


def test_pictures_of_different_sizes(noise):
    images = [noise(1, 20, 30)[0], noise(1, 33, 17, 1)[0]]
    found = Scribble()(images=images, networks=OneNetwork(Red())).images
    assert [one.shape for one in found] == [image.shape for image in images]
    assert all(np.array_equal(one, image[..., :1].repeat(3, axis=-1)) for one, image in zip(found, images, strict=True))


def test_lines_are_dark_on_white(cut_clip, gather):
    frames = np.full((3, 80, 100, 3), 190, np.uint8)
    frames[:, 20:60, 30:70] = 60
    found, _ = gather(Scribble()(frames=cut_clip(frames), networks=OneNetwork(DogLines())))
    assert np.median(found) == 255 and (found[:, 35:45, 24:36].min(axis=2) < 60).all()
    assert (found[:, 30:50, 45:55] == 255).all(), "inside the square there is no line"


def test_network_is_chosen_before_any_frame_is_read(cut_clip, noise):
    networks, clip = OneNetwork(Red()), cut_clip(noise(3, 8, 8))
    clip.chunks = lambda size=16: (pytest.fail("a frame was read") for _ in range(1))
    assert Scribble()(frames=clip, networks=networks).frame_count == 3
    assert networks.asked == ["scribble"]
