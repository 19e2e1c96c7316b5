"""Contexts kept between jobs: the same numbers, encoded once for the same sources, of one engine, within a bound."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from media_io import frames_of

from vace.batch import batch
from vace.contexts import Contexts, content_key, moved, size_of
from vace.models.ltx.engine import Context, LTXEngine
from vace.models.ltx.vae import Moments
from vace.models.wan.engine import WanEngine
from vace.warm import Warm

WORDS = {"ckpt_dir": "tiny", "size": "64x64", "frame_num": 9, "steps": 1, "device": "cpu"}


class Fake:
    """An engine that makes a context of `size` numbers, and counts."""

    device = torch.device("cpu")

    def __init__(self, size: int = 1) -> None:
        self.size, self.count = size, 0

    def encode_context(self, frames, mask, refs=()):
        self.count += 1
        return torch.full((self.size,), float(frames.sum()))


def clip(value: float) -> torch.Tensor:
    return torch.full((3, 1, 2, 2), value)


MASK = torch.ones(1, 1, 2, 2)


def test_the_same_contents_are_encoded_once():
    engine, contexts = Fake(), Contexts()
    first = contexts.encoded(engine, clip(1), MASK, [])
    assert torch.equal(contexts.encoded(engine, clip(1), MASK.clone(), []), first) and engine.count == 1
    for given in ((clip(2), MASK, []), (clip(1), MASK * 0, []), (clip(1), MASK, [clip(1)])):
        contexts.encoded(engine, *given)
    assert engine.count == 4
    contexts.clear()
    contexts.encoded(engine, clip(1), MASK, [])
    assert engine.count == 5


def test_what_was_not_used_for_longest_goes_first():
    engine, contexts = Fake(size=25), Contexts(most_bytes=200)
    for value in (1, 2, 1, 3, 1):  # 2 goes when 3 comes
        contexts.encoded(engine, clip(value), MASK, [])
    assert engine.count == 3
    contexts.encoded(engine, clip(2), MASK, [])
    assert engine.count == 4
    large = Fake(size=1000)
    for _ in range(2):  # larger than all that may be kept
        assert contexts.encoded(large, clip(9), MASK, []).numel() == 1000
    assert large.count == 2


def test_types_shapes_and_numbers_make_the_key():
    keys = [content_key([tensor]) for tensor in (torch.zeros(4), torch.zeros(2, 2), torch.zeros(4).double(),
                                                 torch.ones(4))]  # fmt: skip
    keys += [content_key([]), content_key([torch.zeros(4), torch.zeros(0)])]
    assert len(set(keys)) == len(keys)
    assert content_key([torch.arange(6.0).view(2, 3).T]) == content_key([torch.arange(6.0).view(2, 3).T.contiguous()])


def test_contexts_of_either_base_are_moved_and_measured():
    pair = Moments(torch.zeros(2), torch.zeros(1))
    context = Context(pair, pair, (pair,), torch.zeros(4), (torch.zeros(1), torch.zeros(1)))
    assert size_of(context) == 4 * (3 * 3 + 4 + 2) and size_of(torch.zeros(3)) == 12
    away = moved(context, torch.device("meta"))
    assert away.refs[0].mean.device.type == away.statistics[1].device.type == away.folded.device.type == "meta"


def test_another_engine_shares_nothing():
    warm, first, second = Warm(), Fake(), Fake()
    warm._engine = ((), first)
    for engine, count in ((first, 1), (first, 1), (second, 1), (second, 2)):
        warm.encode_context(engine, clip(1), MASK, [])
        assert engine.count == count  # only the engine that is kept is served


@pytest.mark.parametrize(("command", "kind"), [("wan", WanEngine), ("ltx", LTXEngine)])
def test_rows_of_a_batch_that_share_sources_encode_them_once(command, kind, media, monkeypatch, tmp_path):
    encoded, whole = Counter(), kind.encode_context

    def counted(self, frames, mask, refs=()):
        encoded[tuple(frames.shape[2:])] += 1
        return whole(self, frames, mask, refs)

    shared = {"command": command, **WORDS, "src_video": str(media / "clip.mp4"), "src_mask": str(media / "mask.png"),
              "src_ref_images": str(media / "image.png"), "fill_mask": "neutral"}  # fmt: skip
    rows = [
        {**shared, "id": "a", "prompt": "a cat", "seed": 1},
        {**shared, "id": "b", "prompt": "a dog", "seed": 2},
        {**shared, "id": "c", "prompt": "a cat", "seed": 1, "size": "96x64"},
        {**shared, "id": "d", "prompt": "a cat", "seed": 3},
    ]
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(kind, "encode_context", counted)
    done = batch(tmp_path / "jobs.jsonl", out=tmp_path / "out", progress=False)
    assert done["done"] == 4 and sorted(encoded.values()) == [1, 1]
    (tmp_path / "one.jsonl").write_text(json.dumps(rows[3]) + "\n")
    batch(tmp_path / "one.jsonl", out=tmp_path / "alone", progress=False)
    again, alone = (tmp_path / place / "d" / "out_video.mp4" for place in ("out", "alone"))
    assert again.read_bytes() == alone.read_bytes()
    assert (frames_of(again) != frames_of(tmp_path / "out/b/out_video.mp4")).any()
