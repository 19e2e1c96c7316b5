"""Flow as colours: the wheel and the annotator against the original, chunks, normalisation, single frames."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from goldens_io import comparable_cases, equal_within
from parity_fixes import FIXES

from vace.annotators.flow import Flow
from vace.annotators.nets.dis_flow import DisFlow
from vace.annotators.nets.raft import ROUNDS, padding
from vace.annotators.wheel import flow_radius, flow_to_image
from vace.errors import InputError


class OneNetwork:
    """Stands for the networks of a run: `flow` is the one given, and what was asked for is noted."""

    def __init__(self, network) -> None:
        self.network, self.asked = network, []

    def get(self, name):
        self.asked.append(name)
        return self.network


class Difference:
    """The goldens' stand-in for RAFT: a tenth of the change in red and green."""

    def __init__(self) -> None:
        self.pairs = 0

    def flows(self, first, second):
        assert len(first) == len(second) > 0
        self.pairs += len(first)
        return (second[..., :2].astype(np.float32) - first[..., :2]) / 10


def fast_and_slow(count: int, height: int = 20, width: int = 30) -> np.ndarray:
    """Frames whose red changes ever faster: the stand-in's flow grows from frame to frame."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[:, 5:15, 5:20, 0] = (np.arange(count) ** 2)[:, None, None]
    return frames


@pytest.mark.parity
def test_colours_as_the_original():
    cases = [case for case in comparable_cases("flow") if "flow" in case["inputs"]]
    assert cases
    for case in cases:
        assert equal_within("flow colours", flow_to_image(case["inputs"]["flow"]), case["output"]), case["id"]


@pytest.mark.parity
def test_frames_as_the_original(cut_clip, gather):
    cases = [case for case in comparable_cases("flow") if "frames" in case["inputs"]]
    assert cases
    for case in cases:
        frames = np.stack(case["inputs"]["frames"])
        golden = FIXES["flow_of_one_frame"][1](frames, case["output"]["frames"])
        expected = [FIXES["flow_padding"][1](picture, *frames.shape[1:3]) for picture in golden]
        found, _ = gather(Flow()(frames=cut_clip(frames), networks=OneNetwork(Difference())))
        assert equal_within("drawn and copied annotator output", found, np.stack(expected)), case["id"]
        assert case["output"]["iters"] == ROUNDS
        for frame, read in zip(frames, case["output"]["net_in_first"] or [], strict=False):
            padded = np.pad(frame, (padding(frame.shape[0]), padding(frame.shape[1]), (0, 0)), mode="edge")
            assert equal_within("RAFT's padding", padded.transpose(2, 0, 1)[None], read), case["id"]


@pytest.mark.parametrize("normalize", ["frame", "clip"])
def test_cut_does_not_matter(normalize, noise, cut_clip, gather):
    frames, outcomes = noise(9, 12, 20), []
    for cut in (16, 1, 2, 4):
        network = Difference()
        found, _ = gather(
            Flow()(frames=cut_clip(frames, cut), networks=OneNetwork(network), normalize=normalize)
        )  # fmt: skip
        assert network.pairs == len(frames) - 1, "every pair goes through the network once"
        outcomes.append(found)
    assert all(np.array_equal(outcomes[0], other) for other in outcomes[1:])
    assert np.array_equal(outcomes[0][0], outcomes[0][1]) and not np.array_equal(outcomes[0][1], outcomes[0][2])


def test_normalised_over_the_clip(cut_clip, gather):
    frames = fast_and_slow(8)
    pictures = {
        name: gather(Flow()(frames=cut_clip(frames, 3), networks=OneNetwork(Difference()), normalize=name))[0]
        for name in ("frame", "clip")
    }
    saturation = {name: 255 - some[:, 10, 10].min(axis=-1).astype(int) for name, some in pictures.items()}
    assert (saturation["frame"] > 240).all()
    assert (np.diff(saturation["clip"][1:]) > 10).all() and saturation["clip"][-1] > 240
    flows = Difference().flows(frames[:-1], frames[1:])
    radius = max(flow_radius(flow) for flow in flows)
    expected = np.stack([flow_to_image(flow, radius) for flow in flows])
    assert np.abs(pictures["clip"][1:].astype(int) - expected).max() <= 1


def test_longer_vectors_than_the_radius_are_darker():
    flow = np.zeros((1, 3, 2), np.float32)
    flow[0, :, 0] = 1, 2, 8
    one, full, beyond = flow_to_image(flow, radius=2)[0].astype(int)
    assert full.min() == 0 and one.min() > 100
    assert (beyond <= full).all() and beyond.max() == int(0.75 * full.max())


def test_one_frame_stands_still(cut_clip, noise, gather, caplog):
    for normalize in ("frame", "clip"):
        with caplog.at_level(logging.WARNING, "vace"):
            result = Flow()(
                frames=cut_clip(noise(1, 9, 14), name="one.mp4"), networks=OneNetwork(None), normalize=normalize
            )
        assert "one.mp4: one frame alone has no motion" in caplog.text
        found, _ = gather(result)
        assert found.shape == (1, 9, 14, 3) and (found == 255).all()


def test_unknown_normalisation_is_refused(cut_clip, noise):
    with pytest.raises(InputError, match="--normalize clp: unknown; did you mean 'clip'"):
        Flow()(frames=cut_clip(noise(2, 8, 8)), networks=OneNetwork(None), normalize="clp")


def test_network_is_chosen_before_any_frame_is_read(cut_clip, noise):
    networks = OneNetwork(Difference())
    clip = cut_clip(noise(3, 8, 8))
    clip.chunks = lambda size=16: pytest.fail("a frame was read")
    result = Flow()(frames=clip, networks=networks)
    assert networks.asked == ["flow"] and result.frame_count == 3


def test_hue_is_the_direction_of_real_motion(cut_clip, gather):
    """A textured square goes right, then down: red, then yellow, as on the wheel; the ground stays white."""
    rng = np.random.default_rng(3)
    square = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    ground = rng.integers(90, 160, (24, 32, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    frames = np.repeat(ground[None], 3, axis=0)
    for frame, (x, y) in zip(frames, ((20, 20), (24, 20), (24, 24)), strict=True):
        frame[y : y + 36, x : x + 36] = square
    found, _ = gather(Flow()(frames=cut_clip(frames), networks=OneNetwork(DisFlow())))
    pure = flow_to_image(np.array([[[1, 0], [0, 1]]], np.float32))[0].astype(int)
    for picture, hue in zip(found[1:], pure, strict=True):
        inside = np.median(picture[30:46, 34:50], axis=(0, 1))
        assert np.abs(inside - hue).max() < 60
        assert np.median(picture[75:, 80:]) > 235
