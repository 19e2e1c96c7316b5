"""Times add up, orders are drawn and repeatable, and the highest mark of memory is of one call."""

from __future__ import annotations

import random

import pytest
import torch

from vace.bench import clocks

CPU = torch.device("cpu")


class Counter(clocks.Clock):
    """A clock that goes on by one second whenever it is looked at."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.time = 0.0

    def now(self) -> float:
        self.time += 1.0
        return self.time


def test_the_processor_is_timed_by_the_process():
    clock = clocks.Clock(CPU)
    assert clock.kind == "process"
    assert clock.now() <= clock.now()
    assert clocks.Clock(torch.device("cuda", 0)).kind == "wall"


def test_seconds_of_a_call():
    called = []
    assert Counter().seconds(lambda: called.append(1)) == 1.0
    assert called == [1]


def test_stages_add_up():
    clock = Counter()
    watch = clocks.Watch(clock)
    watch.mark("text")
    watch.mark("encode")
    clock.time += 5
    watch.mark("text")
    assert watch.stages == {"text": 7.0, "encode": 1.0}
    assert watch.total == 8.0


def test_pairs_are_shuffled_and_repeatable():
    def orders(seed: int) -> list[str]:
        called: list[str] = []
        sides = {name: lambda name=name: called.append(name) or len(called) for name in ("ours", "theirs")}
        given = clocks.in_pairs(sides, 16, random.Random(seed))
        assert all(len(values) == 16 for values in given.values())
        assert sorted(given["ours"] + given["theirs"]) == list(range(1, 33))
        assert all({*called[i : i + 2]} == {"ours", "theirs"} for i in range(0, 32, 2))
        return called

    assert orders(3) == orders(3)
    assert {orders(3)[i] for i in range(0, 32, 2)} == {"ours", "theirs"}  # each comes first at times


def test_the_ratio_is_the_median_of_pairs():
    assert clocks.paired_ratio([1, 20, 3], [2, 10, 3]) == 1.0
    with pytest.raises(ValueError, match="shorter"):
        clocks.paired_ratio([1, 2], [1])


def test_peak_memory_counts_what_is_gone_again():
    before = clocks.PeakMemory(CPU)
    if before.read() is None:
        pytest.skip("this system does not set the highest mark back")
    low = clocks.PeakMemory(CPU).read()
    memory = clocks.PeakMemory(CPU)
    torch.ones(64 * 2**20 // 4).sum()
    assert memory.read() > low + 48 * 2**20


def test_no_peak_where_the_mark_cannot_be_set_back(monkeypatch, tmp_path):
    monkeypatch.setattr(clocks, "_RESET", tmp_path / "absent" / "clear_refs")
    assert clocks.PeakMemory(CPU).read() is None
    assert clocks._resident_peak() is None or clocks._resident_peak() > 0
    monkeypatch.setattr(clocks, "_STATUS", tmp_path / "absent")
    assert clocks._resident_peak() is None
