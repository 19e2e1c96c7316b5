"""Depth as control: the original's pictures from its raw maps, two ways of stretching, one network pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from goldens_io import comparable_cases, equal_within

from vace.annotators.depth import Depth, DepthV2, levels, pictures
from vace.annotators.nets.cue_depth import CueDepth
from vace.annotators.networks import Networks
from vace.errors import InputError
from vace.media.clip import ArrayClip


class Given:
    """`Networks` whose one network is given."""

    def __init__(self, network, name: str = "depth") -> None:
        self.network, self.name, self.asked = network, name, []

    def get(self, name: str):
        assert name == self.name
        self.asked.append(name)
        return self.network


class Brightness:
    """Inverse depth that is the brightness of the red channel; counts the frames it sees."""

    def __init__(self) -> None:
        self.seen = 0

    def depths(self, frames: np.ndarray) -> np.ndarray:
        self.seen += len(frames)
        return frames[..., 0].astype(np.float32)


class Maps:
    """A network that works at its own size and says what it is given."""

    def __init__(self, raw: np.ndarray) -> None:
        self.raw = raw

    def maps(self, frames: np.ndarray) -> np.ndarray:
        return np.repeat(self.raw[None], len(frames), axis=0)

    depths = None  # not to be asked, where there are maps


@pytest.mark.parity
def test_midas_pictures(gather):
    for case in comparable_cases("depth_midas"):
        if "rows" in case:
            continue
        image, raw = case["inputs"]["image"], case["output"]["raw"]
        (found,) = Depth()(images=[image], networks=Given(Maps(raw))).images
        assert found.shape == image.shape and found.dtype == np.uint8
        assert equal_within("network post-processing, uint8", found, case["output"]["image"], 1), case["id"]
        frames, _ = gather(Depth()(frames=ArrayClip(image[None]), networks=Given(Maps(raw))))
        assert equal_within("network post-processing, uint8", frames[0], case["output"]["image"], 1), case["id"]


@pytest.mark.parity
def test_depth_anything_pictures():
    """The stub network of these cases is a coarse grid, resized to the network's size, then to the picture's."""
    for case in comparable_cases("depth_anything_v2"):
        if "rows" in case:
            continue
        image, size = case["inputs"]["image"], case["output"]["net_shape"][2:]
        raw = torch.from_numpy(case["inputs"]["grid"])[None, None]
        for shape in (size, image.shape[:2]):
            raw = torch.nn.functional.interpolate(raw, tuple(shape), mode="bilinear", align_corners=True)
        (found,) = DepthV2()(images=[image], networks=Given(Maps(raw[0, 0].numpy()), "depthv2")).images
        assert equal_within("network post-processing, uint8", found, case["output"]["image"], 1), case["id"]


def test_levels():
    maps = np.float32([[[2, 3], [4, 6]], [[0, 0], [0, 0.5]]])
    np.testing.assert_array_equal(levels(maps), [[[0, 63], [127, 255]], [[0, 0], [0, 255]]])
    np.testing.assert_array_equal(levels(maps, 0, 8)[0], [[63, 95], [127, 191]])
    np.testing.assert_array_equal(levels(maps, 3, 4)[0], [[0, 0], [255, 255]])
    np.testing.assert_array_equal(levels(np.full((2, 3, 3), 7, np.float32)), np.zeros((2, 3, 3)))


def test_pictures_have_equal_channels_and_the_size_asked_for():
    stretched = np.arange(16, dtype=np.uint8).reshape(1, 4, 4) * 10
    same, half = pictures(stretched, 4, 4), pictures(stretched, 2, 2)
    np.testing.assert_array_equal(same, np.stack([stretched] * 3, axis=-1))
    np.testing.assert_array_equal(half[0, ..., 2], [[25, 45], [105, 125]])  # means of 2 x 2


def ramp(count: int) -> np.ndarray:
    """Frames whose red channel spans 10 levels, from 10 * index upwards."""
    frames = np.zeros((count, 8, 11, 3), np.uint8)
    frames[..., 0] = np.arange(11)[None, None] + 10 * np.arange(count)[:, None, None]
    return frames


def test_every_frame_by_itself_or_the_clip_alike(cut_clip, gather):
    frames = ramp(7)
    each, _ = gather(Depth()(frames=cut_clip(frames, 3), networks=Given(Brightness())))
    np.testing.assert_array_equal(each, np.repeat(each[:1], 7, axis=0))
    assert (each[0].min(), each[0].max()) == (0, 255)

    network = Brightness()
    clip, _ = gather(Depth()(frames=cut_clip(frames, 3), networks=Given(network), normalize="clip"))
    assert network.seen == 7
    expected = (frames[..., 0] / np.float32(70) * np.float32(255)).astype(np.uint8)
    assert np.abs(clip.astype(int) - expected[..., None]).max() <= 1
    assert (clip[0].min(), clip[-1].max()) == (0, 255) and clip[0].max() < 40


@pytest.mark.parametrize("normalize", ["frame", "clip"])
def test_a_network_that_keeps_its_range_is_not_stretched(gather, normalize):
    network = Brightness()
    network.limits = (0, 255)
    found, _ = gather(Depth()(frames=ArrayClip(ramp(4)), networks=Given(network), normalize=normalize))
    np.testing.assert_array_equal(found, ramp(4)[..., :1].repeat(3, axis=-1))


@pytest.mark.parametrize("normalize", ["frame", "clip"])
def test_equal_depth_everywhere_is_black(gather, normalize):
    frames = np.full((3, 6, 6, 3), 40, np.uint8)
    found, _ = gather(Depth()(frames=ArrayClip(frames), networks=Given(Brightness()), normalize=normalize))
    assert not found.any()


def test_pictures_are_by_themselves():
    images = [ramp(3)[2], np.zeros((5, 4, 3), np.uint8)]
    for normalize in ("frame", "clip"):
        found = Depth()(images=images, networks=Given(Brightness()), normalize=normalize).images
        assert [image.shape for image in found] == [(8, 11, 3), (5, 4, 3)]
        assert found[0].max() == 255 and not found[1].any()


def test_the_network_is_chosen_at_once_and_frames_are_read_late():
    class Unread(ArrayClip):
        def chunks(self, size=16):
            raise AssertionError("read")
            yield

    networks = Given(Brightness(), "depthv2")
    for normalize in ("frame", "clip"):
        result = DepthV2()(frames=Unread(ramp(2)), networks=networks, normalize=normalize)
        with pytest.raises(AssertionError, match="read"):
            next(result.chunks)
    assert networks.asked == ["depthv2"] * 2


def test_one_chunk_is_alive_at_a_time():
    """A long clip that is made while it is read: what is held does not grow with its length."""
    import tracemalloc

    class Long(ArrayClip):
        def chunks(self, size=16):
            for _ in range(self.frame_count // 4):
                yield np.random.default_rng(0).integers(0, 256, (4, 120, 160, 3), dtype=np.uint8)

    def peak(count: int, normalize: str) -> int:
        clip = Long(np.broadcast_to(np.zeros((1, 120, 160, 3), np.uint8), (count, 120, 160, 3)))
        tracemalloc.start()
        for _ in Depth()(frames=clip, networks=Given(Brightness()), normalize=normalize).chunks:
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    for normalize in ("frame", "clip"):
        assert peak(80, normalize) < 1.2 * peak(16, normalize)


def test_unknown_word():
    with pytest.raises(InputError, match=r"--normalize video: unknown; known: clip, frame"):
        Depth()(frames=ArrayClip(ramp(2)), networks=Given(Brightness()), normalize="video")


@pytest.mark.parametrize(("annotator", "name"), [(Depth, "depth"), (DepthV2, "depthv2")])
def test_embedded(annotator, name, cut_clip, gather, noise):
    networks = Networks("embedded")
    frames = np.linspace(60, 160, 9 * 48 * 64 * 3).reshape(9, 48, 64, 3).astype(np.uint8)
    frames[:, 20:40, 20:40] = (200, 40, 30)
    result = annotator()(frames=cut_clip(frames, 4), networks=networks)
    assert networks.chosen[name].backend == "embedded"
    found, _ = gather(result)
    np.testing.assert_array_equal(found, pictures(levels(CueDepth().depths(frames), 0, 1), 48, 64))
    assert found[:, 22:38, 22:38].mean() > found[:, :16].mean() + 60
    # Neither clips nor pictures see one another, though the network is one.
    again, _ = gather(annotator()(frames=cut_clip(frames, 4), networks=networks))
    np.testing.assert_array_equal(again, found)
    first, second = annotator()(images=[frames[0], frames[0]], networks=networks).images
    np.testing.assert_array_equal(first, second)
