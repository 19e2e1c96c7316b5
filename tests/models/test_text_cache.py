"""Text states on disk: the same bits without the encoder, never those of another text or encoder, never a failure."""

from __future__ import annotations

import os

import pytest
import torch

from vace.bases import BASES
from vace.models import text_cache
from vace.models.checkpoints import find_checkpoint
from vace.models.text_cache import TextCache


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("VACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


@pytest.fixture
def cache(place, tmp_path):
    (tmp_path / "encoder.safetensors").write_bytes(b"weights")
    return TextCache([tmp_path / "encoder.safetensors"], torch.float32, torch.device("cpu"))


STATES = torch.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize("base", BASES.values(), ids=list(BASES))
def test_a_prompt_seen_before_needs_no_encoder(place, base):
    engines = [base.module("engine").load_engine(find_checkpoint("tiny", None, base=base)) for _ in range(2)]
    first = engines[0].encode_prompts("a cat runs", "fog")
    assert len(list(place.iterdir())) == 2
    again = engines[1].encode_prompts("a  cat   runs", "fog")  # cleaned, it is the same
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert "text_encoder" in engines[0]._modules and "text_encoder" not in engines[1]._modules
    engines[1].encode_prompts("a dog runs", "fog")
    assert "text_encoder" in engines[1]._modules and len(list(place.iterdir())) == 3


def test_what_is_kept_comes_back(cache, place):
    assert cache.get([1, 2]) is None
    cache.put([1, 2], STATES)
    assert torch.equal(cache.get([1, 2]), STATES)
    assert cache.get([2, 1]) is None


def test_another_encoder_or_type_has_its_own(cache, tmp_path):
    cache.put([1], STATES)
    path = tmp_path / "encoder.safetensors"
    assert TextCache([path], torch.bfloat16, torch.device("cpu")).get([1]) is None
    path.write_bytes(b"Weights")
    assert TextCache([path], torch.float32, torch.device("cpu")).get([1]) is None


def test_a_damaged_file_is_made_anew(cache, place):
    cache.put([1], STATES)
    (path,) = place.iterdir()
    path.write_bytes(b"half")
    assert cache.get([1]) is None
    cache.put([1], STATES)
    assert torch.equal(cache.get([1]), STATES)


def test_a_place_that_cannot_be_written_fails_nothing(cache, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file, no folder")
    cache.put([1], STATES)
    assert cache.get([1]) is None


def test_what_was_not_used_for_longest_goes_first(cache, place, monkeypatch):
    for number in range(3):
        cache.put([number], STATES)
        newest = max(place.iterdir(), key=lambda path: path.stat().st_ctime_ns)
        os.utime(newest, (number, number))
    cache.get([0])  # used again
    size = newest.stat().st_size
    monkeypatch.setattr(text_cache, "MOST_BYTES", 3 * size)
    cache.put([3], STATES)
    assert [cache.get([number]) is not None for number in range(4)] == [True, False, True, True]


def test_it_can_be_turned_off(cache, monkeypatch, place):
    monkeypatch.setenv("VACE_CACHE", "off")
    cache.put([1], STATES)
    assert cache.get([1]) is None and not place.exists()


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("VACE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert text_cache.folder() == tmp_path / "vace" / "text"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert text_cache.folder() == tmp_path / ".cache" / "vace" / "text"
