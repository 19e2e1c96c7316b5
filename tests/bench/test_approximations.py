"""What approximate speed costs: the exact run is its own measure, and what a setting changes is told."""

import pytest

from vace.bench import approximations
from vace.bench.approximations import EXACT, JUDGED, SETTINGS


@pytest.fixture(scope="module")
def result():
    patch = pytest.MonkeyPatch()
    kept = (EXACT, "step_cache 0.2", "guidance_interval 0,0.5", "steps 3/5")
    patch.setattr(approximations, "SETTINGS", {name: SETTINGS[name] for name in kept})
    patch.setattr(approximations, "JUDGED", {task: JUDGED[task] for task in ("txt2vid", "gray")})
    try:
        yield approximations.run(rows=1)
    finally:
        patch.undo()


def test_the_exact_run_is_what_others_are_held_against(result):
    exact = result["settings"][EXACT]
    assert exact["time"] == 1 and exact["psnr"] is None and set(exact["measures"]) == {"txt2vid", "gray"}
    assert exact["measures"]["gray"] > 0.6


def test_settings_change_the_video_and_are_measured(result):
    others = {name: row for name, row in result["settings"].items() if name != EXACT}
    assert all(12 < row["psnr"] < 60 and row["time"] > 0 for row in others.values())
    assert result["rows"] == {"txt2vid": 1, "gray": 1} and result["steps"] == 20


def test_steps_are_a_share_and_all_else_is_as_given():
    assert approximations._changes({"steps": 0.6}, 20) == {"steps": 12}
    assert approximations._changes({"steps": 0.6}, 1) == {"steps": 1}
    assert approximations._changes({"step_cache": 0.1}, 20) == {"step_cache": 0.1}


def test_the_table_has_a_line_for_each(result):
    lines = approximations.render({**result, "rows": {"txt2vid": 1, "gray": 1}}).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[4:]] == list(result["settings"])
    assert "purity" in lines[2] and "vace-tiny" in lines[0]
