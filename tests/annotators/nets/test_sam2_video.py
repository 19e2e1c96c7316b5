"""SAM 2 on clips: equal to transformers' own session, in memory that does not grow."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_sam2
import torch

from vace.annotators.nets import sam2_keys
from vace.annotators.nets.prompts import Prompt
from vace.annotators.nets.sam2 import Sam2
from vace.annotators.networks import Weights
from vace.media.clip import ArrayClip

HEIGHT, WIDTH, COUNT = 40, 56, 18  # frames beyond what the network looks back at: 15
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[10:30, 12:40] = 3  # any value above 0 counts
PROMPTS = {
    "box": Prompt(box=(5, 6, 40.5, 30)),
    "point": Prompt(points=np.float32([[10, 12]])),
    "mask": Prompt(mask=MASK),
}


@pytest.fixture(scope="module")
def video():
    """The module under test, imported late: it brings transformers with it."""
    from vace.annotators.nets import sam2_video

    return sam2_video


@pytest.fixture(scope="module")
def sam2(tmp_path_factory):
    path = tiny_sam2.write_original(tmp_path_factory.mktemp("sam2") / "tiny.pt", tiny_sam2.drawn_tensors(seed=4))
    with pytest.MonkeyPatch.context() as patch:
        key = (tiny_sam2.TINY.width, tiny_sam2.TINY.blocks)
        patch.setitem(sam2_keys.SIZES, key, sam2_keys.Size(**tiny_sam2.TINY_SIZE))
        return Sam2(Weights("original", (path,)), device=torch.device("cpu"))


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)


def gathered(chunks) -> np.ndarray:
    masks = np.concatenate(list(chunks))
    assert masks.dtype == np.uint8 and set(np.unique(masks)) <= {0, 255}
    return masks


def whole_session(video, sam2: Sam2, frames: np.ndarray, prompt: Prompt) -> np.ndarray:
    """The masks by transformers' own session, which holds the whole clip and forgets nothing."""
    count, height, width, _ = frames.shape
    session = video.Sam2VideoInferenceSession(
        sam2._pixels(frames), height, width, dtype=torch.float32, max_vision_features_cache_size=count
    )
    with torch.inference_mode():  # in batches, as `track` does it: some kernels round a lone frame otherwise
        for index, features in enumerate(video.encoded(sam2.model, frames, sam2._pixels, count)):
            session.cache.cache_vision_features(index, features)
    video.prompt_session(session, prompt, width, height, sam2.side)
    outputs = sam2.model.propagate_in_video_iterator(session, start_frame_idx=0)
    masks = [video.drawn(output.pred_masks.float(), width, height) for output in outputs]
    assert len(session.output_dict_per_obj[0]["non_cond_frame_outputs"]) == count - 1
    return np.stack(masks)


@pytest.fixture
def logits(video, monkeypatch):
    """Every coarse mask that is drawn, as numbers."""
    seen, drawn = [], video.drawn
    monkeypatch.setattr(video, "drawn", lambda coarse, *size: seen.append(coarse) or drawn(coarse, *size))
    return seen


@pytest.mark.parametrize("name", PROMPTS)
def test_masks_are_those_of_a_session_that_forgets_nothing(video, sam2, frames, name, logits):
    found = gathered(sam2.track(ArrayClip(frames), PROMPTS[name]))
    expected = whole_session(video, sam2, frames, PROMPTS[name])
    assert np.array_equal(found, expected)
    assert len(logits) == 2 * COUNT and torch.equal(torch.cat(logits[:COUNT]), torch.cat(logits[COUNT:]))
    shares = (found > 0).mean(axis=(1, 2))
    assert 0 < shares.mean() < 1 and len(set(shares.round(4))) > COUNT // 2  # the masks move with the clip


def test_a_pointer_forgotten_too_early_changes_masks(video, sam2, frames, monkeypatch, logits):
    """The comparison above can fail: of memories, transformers itself misses the one that is gone too early."""
    gathered(sam2.track(ArrayClip(frames), PROMPTS["box"]))
    forget = video.BoundedSession.forget
    monkeypatch.setattr(video.BoundedSession, "forget", lambda self, done, *_: forget(self, done, 7, 15))
    gathered(sam2.track(ArrayClip(frames), PROMPTS["box"]))
    same = [torch.equal(one, other) for one, other in zip(logits[:COUNT], logits[COUNT:], strict=True)]
    assert all(same[:16]) and not any(same[16:])


def held_bytes(thing, seen: set[int]) -> int:
    """Bytes of the tensors' storages that `thing` reaches."""
    if isinstance(thing, torch.Tensor):
        storage = thing.untyped_storage()
        is_new = storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        return storage.nbytes() if is_new else 0
    if isinstance(thing, dict):
        return sum(held_bytes(value, seen) for value in thing.values())
    if isinstance(thing, (list, tuple)):
        return sum(held_bytes(value, seen) for value in thing)
    return held_bytes(vars(thing), seen) if hasattr(thing, "__dict__") else 0


def entries(thing) -> int:
    """How many values the containers in `thing` hold, however deep."""
    if isinstance(thing, (dict, list, tuple)):
        values = list(thing.values() if isinstance(thing, dict) else thing)
        return len(values) + sum(entries(value) for value in values)
    return 0


def test_the_session_does_not_grow(video, sam2, frames, monkeypatch):
    held, sessions = [], set()
    forget = video.BoundedSession.forget

    def watched(session, *arguments):
        forget(session, *arguments)
        sessions.add(session)
        held.append((held_bytes(session, set()), entries(vars(session))))

    monkeypatch.setattr(video.BoundedSession, "forget", watched)
    long = np.concatenate([frames, frames[::-1]])
    assert len(gathered(sam2.track(ArrayClip(long), PROMPTS["mask"]))) == 2 * COUNT
    (session,) = sessions
    assert len(held) == 2 * COUNT and held[17:] == held[17:18] * (2 * COUNT - 17)
    assert session.processed_frames is None  # no pixels
    outputs = session.output_dict_per_obj[0]
    assert list(outputs["cond_frame_outputs"]) == [0]
    assert list(outputs["non_cond_frame_outputs"]) == list(range(2 * COUNT - 15, 2 * COUNT))
    kept = [set(output) for output in outputs["non_cond_frame_outputs"].values()]
    assert kept == [{"object_pointer"}] * 9 + [{"object_pointer", "maskmem_features", "maskmem_pos_enc"}] * 6


def test_chunks_and_batches_change_nothing(sam2, frames, cut_clip):
    frames = frames[:8]
    expected = gathered(sam2.track(ArrayClip(frames), PROMPTS["box"]))
    cut = list(sam2.track(cut_clip(frames, 3), PROMPTS["box"]))
    assert [len(chunk) for chunk in cut] == [3, 3, 2]
    assert np.array_equal(np.concatenate(cut), expected)
    sam2._asked = 5
    try:
        batched = gathered(sam2.track(ArrayClip(frames), PROMPTS["box"]))
    finally:
        sam2._asked = None
    assert (batched != expected).mean() < 1e-3  # sums in another order may tip a pixel at the very edge


@pytest.mark.parametrize("count", [1, 5])
def test_short_clips(video, sam2, frames, count):
    """How time is encoded depends on the number of frames below 16: the session knows it from the start."""
    found = gathered(sam2.track(ArrayClip(frames[:count]), PROMPTS["box"]))
    assert found.shape == (count, HEIGHT, WIDTH)
    assert np.array_equal(found, whole_session(video, sam2, frames[:count], PROMPTS["box"]))


def test_a_mask_of_another_size_is_stretched(video, sam2, frames):
    small = Prompt(mask=MASK[::2, ::2])
    assert gathered(sam2.track(ArrayClip(frames[:2]), small)).shape == (2, HEIGHT, WIDTH)
    first = gathered(sam2.track(ArrayClip(frames[:1]), PROMPTS["mask"]))[0] > 0
    given = MASK > 0
    assert (first & given).sum() / (first | given).sum() > 0.9  # the first mask is the one given


def test_a_dot_that_stretching_thins_out_is_still_followed(video):
    dot = np.zeros((400, 600), np.uint8)
    dot[200, 300] = 255
    session = video.BoundedSession(600, 400, 1, torch.device("cpu"))
    video.prompt_session(session, Prompt(mask=dot), 600, 400, 64)
    inside = session.mask_inputs_per_obj[0][0]
    assert inside.shape == (1, 1, 64, 64) and 1 <= inside.sum() <= 4 and inside[0, 0, 32, 32] == 1


def test_short_memory_halves_the_batch(video, sam2, frames, monkeypatch):
    asked = []
    whole = video.frame_features

    def scarce(model, pixels, limit=2):
        asked.append(len(pixels))
        if len(pixels) > limit:
            raise torch.cuda.OutOfMemoryError
        return whole(model, pixels)

    monkeypatch.setattr(video, "frame_features", scarce)
    with torch.inference_mode():
        found = list(video.encoded(sam2.model, frames[:7], sam2._pixels, 6))
        assert len(found) == 7 and asked == [6, 3, 1, 1, 1, 1, 1, 1, 1]
        monkeypatch.setattr(video, "frame_features", lambda model, pixels: scarce(model, pixels, limit=0))
        with pytest.raises(torch.cuda.OutOfMemoryError):
            list(video.encoded(sam2.model, frames[:1], sam2._pixels, 1))


def test_half_precision_runs_through(sam2, frames, monkeypatch):
    """The types that bfloat16 makes meet no float32 anywhere: tried with the CPU's autocast."""
    exact = gathered(sam2.track(ArrayClip(frames[:4]), PROMPTS["mask"]))
    monkeypatch.setattr(Sam2, "_half", lambda self: torch.autocast("cpu", torch.bfloat16))
    half = gathered(sam2.track(ArrayClip(frames[:4]), PROMPTS["mask"]))
    assert (half == exact).mean() > 0.8
