"""Text states on disk: the same bits without the encoder, never those of another text or encoder, never a failure."""

from __future__ import annotations

import os

import pytest
import torch

from vace.bases import BASES
from vace.models import text_cache
from vace.models.checkpoints import find_checkpoint
from vace.models.parts import Part
from vace.models.text_cache import TextCache
from vace.weight_files import WeightFiles


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("VACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


def part_of(path, **config) -> Part:
    return Part("text_encoder", {"d_model": 4, **config}, WeightFiles((path,), {}, {}), {}, str(path))


def cache_of(path, dtype=torch.float32, **config) -> TextCache:
    return TextCache(part_of(path, **config), dtype, torch.device("cpu"))


@pytest.fixture
def cache(place, tmp_path):
    (tmp_path / "encoder.safetensors").write_bytes(b"weights")
    return cache_of(tmp_path / "encoder.safetensors")


IDS = [5, 7, 1]
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
    assert cache.get(IDS) is None
    cache.put(IDS, STATES)
    assert torch.equal(cache.get(IDS), STATES)
    assert cache.get(IDS[::-1]) is None


def test_another_encoder_has_its_own(cache, tmp_path):
    cache.put(IDS, STATES)
    path = tmp_path / "encoder.safetensors"
    assert cache_of(path).get(IDS) is not None
    assert cache_of(path, torch.bfloat16).get(IDS) is None
    assert cache_of(path, layer_norm_epsilon=1.0).get(IDS) is None
    path.write_bytes(b"Weights")
    assert cache_of(path).get(IDS) is None


def test_a_change_in_the_middle_of_a_large_file_counts(place, tmp_path):
    path = tmp_path / "large.safetensors"
    path.write_bytes(bytes(5 << 20))
    cache_of(path).put(IDS, STATES)
    data = bytearray(bytes(5 << 20))
    data[len(data) // 2] = 1
    path.write_bytes(data)
    assert cache_of(path).get(IDS) is None


@pytest.mark.parametrize("states", [STATES * torch.nan, STATES[:2], STATES[:, :3], STATES[None]])
def test_what_cannot_be_its_states_is_not_served(cache, place, states):
    cache.put(IDS, states)
    assert len(list(place.iterdir())) == 1 and cache.get(IDS) is None


def test_a_damaged_file_is_made_anew(cache, place):
    cache.put(IDS, STATES)
    (path,) = place.iterdir()
    path.write_bytes(b"half")
    assert cache.get(IDS) is None
    cache.put(IDS, STATES)
    assert torch.equal(cache.get(IDS), STATES)


def test_a_place_that_cannot_be_written_fails_nothing(cache, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file, no folder")
    cache.put(IDS, STATES)
    assert cache.get(IDS) is None


def test_a_full_disk_fails_nothing(cache, place, monkeypatch):
    from safetensors import SafetensorError

    def full(*_):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    cache.put(IDS, STATES)
    assert list(place.iterdir()) == []


def test_a_home_that_is_closed_or_missing_fails_nothing(cache, monkeypatch):
    def closed(*_, **__):
        raise PermissionError("closed")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.is_file", closed)
        patch.setattr("pathlib.Path.mkdir", closed)
        assert cache.get(IDS) is None
        cache.put(IDS, STATES)
    monkeypatch.delenv("VACE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def nowhere():
        raise RuntimeError("no home")

    monkeypatch.setattr("pathlib.Path.home", nowhere)
    cache.put(IDS, STATES)
    assert text_cache.folder() is None and cache.get(IDS) is None


def test_what_was_not_used_for_longest_goes_first(cache, place, monkeypatch):
    texts = [[number, 7, 1] for number in range(4)]
    for number, ids in enumerate(texts[:3]):
        before = set(place.iterdir()) if place.is_dir() else set()
        cache.put(ids, STATES)
        (newest,) = set(place.iterdir()) - before
        os.utime(newest, (number, number))
    cache.get(texts[0])  # used again
    size = newest.stat().st_size
    monkeypatch.setattr(text_cache, "MOST_BYTES", 3 * size)
    cache.put(texts[3], STATES)
    assert [cache.get(ids) is not None for ids in texts] == [True, False, True, True]


def test_what_killed_runs_left_is_removed(cache, place):
    cache.put(IDS, STATES)
    old, fresh = place / ".old.part", place / ".fresh.part"
    for path in (old, fresh):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    cache.put(IDS, STATES)
    assert not old.exists() and fresh.exists()


@pytest.mark.parametrize("word", ["off", "OFF"])
def test_it_can_be_turned_off(cache, monkeypatch, place, word):
    monkeypatch.setenv("VACE_CACHE", word)
    cache.put(IDS, STATES)
    assert cache.get(IDS) is None and not place.exists()


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("VACE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert text_cache.folder() == tmp_path / "vace" / "text"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert text_cache.folder() == tmp_path / ".cache" / "vace" / "text"
