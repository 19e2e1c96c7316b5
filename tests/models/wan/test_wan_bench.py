"""The benchmark of the forward pass runs, compares like with like, and says its conditions."""

from __future__ import annotations

import pytest

from vace.bench import wan
from vace.errors import DeviceError


def test_both_sides_agree_and_are_timed():
    result = wan.run("tiny", size=(64, 48), frames=5, samples=3)
    assert result["max_difference"] < 1e-4
    assert result["tokens"] == 2 * 3 * 4
    assert result["latent"] == [16, 2, 6, 8]
    for key in ("forward", "guided_step"):
        row = result[key]
        assert row["ours"] > 0 and row["diffusers"] > 0
        assert row["ratio"] == pytest.approx(row["ours"] / row["diffusers"])
    table = wan.render(result)
    assert "24 video tokens" in table and "medians of 3" in table
    assert len([line for line in table.splitlines() if line.startswith("| one")]) == 2


def test_a_device_that_is_not_there():
    with pytest.raises(DeviceError, match="cuda:99"):
        wan.run("tiny", device="cuda:99")
