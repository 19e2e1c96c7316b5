"""The media benchmark at toy size: it measures every task against its peer and says what it found."""

from __future__ import annotations

import pytest

from vace.bench import media


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("bench")
    measured = media.run(10, 20, size=(96, 64), scratch=scratch)
    assert list(scratch.iterdir()) == []
    return measured


def test_every_task_and_its_peer_are_measured(result):
    assert [row["task"] for row in result["tasks"]] == list(media.TASKS)
    for row in result["tasks"]:
        assert f"src_video-{row['task']}.mp4" in row["files"]
        assert ("src_mask" in " ".join(row["files"])) == (row["task"] != "gray")
        for side in ("short", "peer", "long"):
            assert row[side]["wall"] > 0
            assert 20 < row[side]["peak_mb"] < 1500
        assert row["ratio"] == row["short"]["wall"] / row["peer"]["wall"]


def test_table(result):
    lines = media.render(result).splitlines()
    assert lines[0].startswith("10 frames of 96x64")
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert all(f"| {task} |" in lines[4 + index] for index, task in enumerate(media.TASKS))


def test_bars():
    cost = {"wall": 2.0, "cpu": 2.0, "peak_mb": 400.0}
    for wall, peak, fast, flat in ((4.0, 499.0, True, True), (4.1, 501.0, False, False), (1.0, 299.0, True, False)):
        row = {"short": cost | {"wall": wall}, "peer": cost, "long": cost | {"peak_mb": peak}}
        media._judge(row)
        assert (row["is_fast"], row["is_flat"]) == (fast, flat)
    row = {"short": cost | {"peak_mb": 1490.0}, "peer": cost, "long": cost | {"peak_mb": 1510.0}}
    media._judge(row)
    assert not row["is_flat"]


def test_a_failing_child_is_told():
    with pytest.raises(RuntimeError, match="exit 3: in its own words"):
        media._measure(["-c", "import sys; print('in its own words', file=sys.stderr); sys.exit(3)"])


def test_a_large_parent_does_not_make_its_child_large():
    ballast = bytearray(600_000_000)
    ballast[:: 1 << 12] = b"x" * len(ballast[:: 1 << 12])
    cost = media._measure(["-c", "import sys; print('untimed 0 0')"])
    assert ballast[0] and cost.peak_mb < 200
