"""However a clip is cut into chunks, the frames come out the same, and no more of it is held than a chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vace import annotators
from vace.annotators.streams import zip_chunks
from vace.media.clip import SelectedClip
from vace.media.video import VideoReader

ASSETS = Path(__file__).parents[2] / "assets"

CLIP_TASKS = {
    "plain": {},
    "gray": {},
    "outpainting": {"direction": ["left", "down"], "expand_ratio": 0.3, "mask_blur": 1},
    "outpainting_inner": {"direction": ["up"], "expand_ratio": 0.4},
    "framerefext": {"ref_num": 4, "ref_cfg": "random", "seed": 3},
    "inpainting": {"mode": "bbox", "bbox": [(3, 4, 20, 15)], "maskaug_mode": "bbox_expand", "maskaug_ratio": 0.5},
}


@pytest.mark.parametrize("name", CLIP_TASKS)
def test_cut_does_not_matter(name, noise, cut_clip, gather):
    frames = noise(19, 24, 36)
    outcomes = [gather(annotators.get(name)(frames=cut_clip(frames, cut), **CLIP_TASKS[name])) for cut in (16, 1, 3)]
    for other, masks in outcomes[1:]:
        assert np.array_equal(other, outcomes[0][0])
        assert (masks is None and outcomes[0][1] is None) or np.array_equal(masks, outcomes[0][1])
    assert np.array_equal(frames, noise(19, 24, 36)), "the source was written to"


@pytest.mark.parametrize("cuts", [(16, 5), (3, 16), (1, 4)])
def test_masks_are_cut_otherwise_than_their_clip(cuts, noise, cut_clip, cut_mask, gather):
    frames = noise(19, 24, 36)
    masks = np.where(noise(19, 24, 36, 1)[..., 0] > 200, 255, 0).astype(np.uint8)
    source = cut_clip(frames, cuts[0])
    out, out_masks = gather(annotators.get("inpainting")(frames=source, mode="mask", mask=cut_mask(masks, cuts[1])))
    assert np.array_equal(out_masks, masks)
    assert (out[masks > 0] == 128).all() and np.array_equal(out[masks == 0], frames[masks == 0])


@pytest.mark.parametrize("cuts", [(16, 16), (1, 5), (7, 3)])
def test_two_clips_are_cut_differently(cuts, noise, cut_clip, cut_mask, gather):
    v1, v2 = noise(11, 20, 30), noise(14, 20, 30, 1)
    m1, m2 = (np.where(noise(len(v), 20, 30, 7)[..., 0] > 99, 255, 0).astype(np.uint8) for v in (v1, v2))
    result = annotators.get("composition")(
        frames_1=cut_clip(v1, cuts[0]), frames_2=cut_clip(v2, cuts[1]), masks_1=cut_mask(m1, cuts[1]),
        masks_2=cut_mask(m2, 2), process_type_1="outpainting", process_type_2="inpainting",
    )  # fmt: skip
    frames, masks = gather(result)
    assert result.frame_count == 11
    assert np.array_equal(frames, np.where(m2[:11, ..., None] > 0, v2[:11], v1))
    assert np.array_equal(masks, np.maximum(m1, m2[:11]))


@pytest.mark.parametrize("mode", ["firstclip", "lastclip", "firstlastclip"])
def test_extension_of_clips(mode, noise, cut_clip, gather):
    first, last = noise(7, 20, 30), noise(6, 30, 26, 1)
    outcomes = []
    for cut in (16, 1, 3):
        clips = [cut_clip(first, cut), cut_clip(last, cut)][: 2 if "firstlast" in mode else 1]
        outcomes.append(gather(annotators.get("frameref")(clips=clips, mode=mode, expand_num=21, clip_frames=5)))
    for frames, masks in outcomes[1:]:
        assert np.array_equal(frames, outcomes[0][0]) and np.array_equal(masks, outcomes[0][1])


class Watched:
    """A clip that counts the frames it has given out."""

    name, width, height, fps, frame_count = "watched", 64, 48, 16.0, 3000

    def __init__(self) -> None:
        self.given = 0

    def chunks(self, size: int = 16):
        for start in range(0, self.frame_count, size):
            count = min(size, self.frame_count - start)
            self.given += count
            yield np.zeros((count, self.height, self.width, 3), np.uint8)


@pytest.mark.parametrize("name", [*CLIP_TASKS, "firstclip"])
def test_nothing_is_read_before_it_is_wanted(name):
    clip = Watched()
    if name == "firstclip":
        result = annotators.get("frameref")(clips=[clip], mode=name)
    else:
        result = annotators.get(name)(frames=clip, **CLIP_TASKS[name])
    assert clip.given == 0
    next(result.chunks)
    assert clip.given == 16
    next(result.chunks)
    assert clip.given == 32


def test_kept_end_of_a_long_clip_is_all_that_is_handed_on(gather):
    clip = Watched()
    result = annotators.get("frameref")(clips=[clip], mode="lastclip", expand_num=4, clip_frames=9)
    frames, _ = gather(result)
    assert len(frames) == 13 and clip.given == 16


def test_zip_chunks_ends_with_the_shortest():
    pieces = list(zip_chunks([np.arange(4), np.arange(4, 6)], [np.arange(1), np.arange(1, 5)]))
    assert [np.concatenate(column).tolist() for column in zip(*pieces, strict=True)] == [[0, 1, 2, 3, 4]] * 2
    assert all(len(a) == len(b) for a, b in pieces)
    assert list(zip_chunks([], [np.arange(3)])) == []


def test_a_mask_may_be_a_selection_of_frames(noise, cut_clip, cut_mask, gather):
    frames, picks = noise(8, 20, 30), [0, 2, 5, 7]
    masks = np.where(noise(8, 20, 30, 2)[..., 0] > 128, 255, 0).astype(np.uint8)
    clip, mask = SelectedClip(cut_clip(frames, 3), picks), SelectedClip(_as_clip(cut_mask(masks, 5)), picks)
    _, out = gather(annotators.get("inpainting")(frames=clip, mode="mask", mask=mask))
    assert np.array_equal(out, masks[picks])


def _as_clip(mask):
    mask.fps = 16.0
    return mask


@pytest.fixture(scope="module")
def footage():
    with VideoReader(ASSETS / "videos" / "test.mp4") as clip:
        yield clip


def test_decoded_footage_keeps_what_is_not_marked(footage, cut_mask, gather):
    """A real clip with a real mask, read twice: the black part is the footage itself, in the footage's order."""
    from PIL import Image

    mask = np.asarray(Image.open(ASSETS / "masks" / "test.png").convert("L"))
    source = np.concatenate(list(footage.chunks()))
    frames, masks = gather(annotators.get("inpainting")(frames=footage, mode="mask", mask=cut_mask(mask[None])))
    assert frames.shape == source.shape and 0.01 < (masks[0] > 0).mean() < 0.9
    assert np.array_equal(frames[:, mask == 0], source[:, mask == 0]) and (frames[:, mask > 0] == 128).all()


def test_decoded_footage_on_a_larger_canvas(footage, gather):
    source = np.concatenate(list(footage.chunks()))
    keys = {"direction": ["right"], "expand_ratio": 0.5}
    frames, masks = gather(annotators.get("outpainting")(frames=footage, **keys))
    assert frames.shape[2] == source.shape[2] * 3 // 2
    assert np.array_equal(frames[:, :, : source.shape[2]], source) and (masks[:, :, source.shape[2] :] == 255).all()


def test_decoded_footage_goes_on(footage, gather):
    source = np.concatenate(list(footage.chunks()))
    frames, masks = gather(annotators.get("frameref")(clips=[footage], mode="firstclip", clip_frames=17))
    assert len(frames) == 97 and np.array_equal(frames[:17], source[-17:]) and not masks[:17].any()
