"""The annotators' benchmark at toy size: both ways run the same network, and the table says what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from vace.bench import annotators as bench


@pytest.fixture(scope="module")
def result():
    return bench.run(3, ("flow", "scribble", "pose"), ("embedded",), device="cpu", size=(160, 96))


def test_every_task_is_measured_with_its_peer(result):
    assert [row["task"] for row in result["rows"]] == ["flow", "scribble", "pose"]
    for row in result["rows"]:
        assert row["frames"] == 3 and row["fps"] == 3 / row["seconds"] > 0
        assert row["ratio"] == row["peer_seconds"] / row["seconds"]


def test_neural_networks_run_on_random_weights_of_the_published_size(tmp_path):
    rows = bench.run(2, ("scribble",), ("neural",), device="cpu", size=(64, 48))["rows"]
    assert rows[0]["weights"] == "random" and rows[0]["fps"] > 0
    assert bench.random_weights("pose", tmp_path) is None


def test_table(result):
    lines = bench.render(result).splitlines()
    assert lines[0].startswith("160x96, CPU") and len({line.count("|") for line in lines[2:]}) == 1
    skipped = {"task": "pose", "backend": "neural", "frames": 4, "weights": "random", "skipped": "needs its weights"}
    assert "needs its weights" in bench.render(result | {"rows": [skipped]})


class Noted:
    """A network that notes how many frames it was given at a time."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def lines(self, frames):
        self.counts.append(len(frames))
        return frames[..., 0]

    def poses(self, frames, memory=None, hands=True):
        self.counts.append((len(frames), memory, hands))
        return ["somebody"] * len(frames)


def test_the_peer_gets_one_frame_at_a_time():
    noted = Noted()
    frames = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    assert np.array_equal(bench.OneByOne(noted).lines(frames), frames[..., 0]) and noted.counts == [1] * 5
    noted.counts.clear()
    assert bench.OneByOne(noted).poses(frames, "memory", hands=False) == ["somebody"] * 5
    assert noted.counts == [(1, "memory", False)] * 5
