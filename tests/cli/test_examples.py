"""The example scripts and the README: every line they show is run, in one process; two per script for real."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from example_lines import is_repeated, is_tracked, lines_of

from vace.tasks import TASKS, find_task, resolve_mode

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("run_vace_preprocess.sh", "run_vace_wan.sh", "run_vace_ltx.sh", "run_vace_pipeline.sh")
# The lines of run_vace_preprocess.sh are run, and looked at, in test_preprocess_examples.py.
EXAMPLES = [(script, name) for script in SCRIPTS[1:] for name in lines_of(script)]
REAL = {"vace-1.3B": "Wan-AI/Wan2.1-VACE-1.3B", "vace-ltx-0.9": "ali-vilab/VACE-LTX-Video-0.9"}
FEW_FRAMES = 24  # of each clip: what they are made of is looked at elsewhere


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder that has what the examples name: the example media under assets/."""
    from vace.media.video import VideoReader, VideoWriter

    folder = tmp_path_factory.mktemp("clone")
    for kind in ("images", "masks", "jobs"):
        shutil.copytree(ROOT / "assets" / kind, folder / "assets" / kind)
    (folder / "assets/videos").mkdir()
    for path in sorted((ROOT / "assets/videos").glob("*.mp4")):
        with (
            VideoReader(path) as reader,
            VideoWriter(folder / "assets/videos" / path.name, reader.fps, kind="exact") as writer,
        ):
            writer.write(reader.get(range(min(FEW_FRAMES, reader.frame_count))))
    return folder


def quickly(arguments: list[str]) -> list[str]:
    """Fewer steps on a smaller picture, where the line leaves them to the model; preprocessing runs as it is."""
    if arguments[0] == "train":
        return ["--steps", "2", "--size", "48x48", "--rank", "1"]
    if arguments[0] == "eval":
        return ["--tasks", "gray", "--per_task", "1", "--steps", "1", "--workers", "1"]
    if arguments[0] not in ("wan", "ltx", "pipeline") or {"layout_bbox", "--height"} & set(arguments):
        return []
    return [
        word
        for flag, value in (("--steps", "2"), ("--size", "96x64"))
        if flag not in arguments
        for word in (flag, value)
    ]


@pytest.mark.parametrize(
    ("script", "name"),
    [
        pytest.param(
            script,
            name,
            id=f"{script}:{name}",
            marks=[pytest.mark.slow]
            if script == "run_vace_pipeline.sh" and (is_repeated(name) or is_tracked(name))
            else [],
        )
        for script, name in EXAMPLES
    ],
)
def test_example_runs(script, name, vace, clone, monkeypatch):
    monkeypatch.chdir(clone)
    for arguments in lines_of(script)[name]:
        outcome = vace(*arguments, *quickly(arguments), "--quiet")
        assert outcome.code == 0, outcome.err
        answer = outcome.json
        files = [answer["out_video"], answer["src_video"], answer["src_mask"], *answer["src_ref_images"]]
        assert any(files)
        for file in files:
            assert file is None or Path(file).stat().st_size > 0
        assert json.loads(Path(answer["manifest"]).read_text())["outputs"]
    shutil.rmtree(clone / "processed", ignore_errors=True)
    shutil.rmtree(clone / "results", ignore_errors=True)


@pytest.mark.parametrize("script", ["run_vace_preprocess.sh", "run_vace_pipeline.sh"])
def test_every_task_and_mode_has_a_line(script):
    shown = set()
    for commands in lines_of(script).values():
        for command, *arguments in commands:
            options = dict(zip(arguments[0::2], arguments[1::2], strict=True))
            if command == script.removeprefix("run_vace_").removesuffix(".sh") and "--task" in options:
                task = find_task(options["--task"])
                mode = resolve_mode(task, options.get("--mode"))
                shown |= {(task.name, mode.split(",")[-1] if mode else None)}
                shown |= {(task.name, f"{mode.split(',')[0]},")} if mode and task.lead_modes else set()
    wanted = {(task.name, mode) for task in TASKS.values() for mode in (task.modes or [None])}
    wanted |= {(task.name, f"{mode},") for task in TASKS.values() for mode in task.lead_modes}
    if "preprocess" in script:
        wanted.discard(("txt2vid", None))
    assert wanted <= shown


def test_scripts_are_what_the_table_says():
    command = [sys.executable, str(ROOT / "scripts/make_examples.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def readme_commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("vace ")]
    return [line for line in lines if not line.startswith("vace demo")]  # served in tests/gradios/test_served.py


def test_readme_commands_run_in_order(vace, clone, monkeypatch):
    monkeypatch.chdir(clone)
    lines = readme_commands()
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        outcome = vace(*words, *quickly(words))
        absent = [repository for name, repository in REAL.items() if name in words]
        if absent:  # real weights are not here: then the command that gets them is told
            assert outcome.code == 2 and f"hf download {absent[0]}" in outcome.err
        else:
            assert outcome.code == 0, outcome.err


def test_readme_shows_its_two_commands():
    text = (ROOT / "README.md").read_text()
    for script in SCRIPTS:
        assert script in text
    assert "./run_vace_pipeline.sh" in text and "bash scripts/test.sh" in text and "--all" in text
    for task in TASKS:
        assert f"`{task}`" in text, task


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("run_vace_preprocess.sh", []),
        ("run_vace_preproccess.sh", ["image_reference_mask"]),
        ("run_vace_wan.sh", ["txt2vid"]),
        ("run_vace_wan.sh", ["guide"]),
        ("run_vace_ltx.sh", ["guide"]),
        ("run_vace_pipeline.sh", []),
        ("run_vace_pipeline.sh", ["guide"]),
    ],
)
def test_script_as_a_process(script, arguments, tmp_path):
    """From a copy of the clone, so that what it writes stays out of the real one."""
    for item in ("assets", "scripts", "vace", ".venv", "pyproject.toml", "constraints.txt", *SCRIPTS):
        (tmp_path / item).symlink_to(ROOT / item)
    (tmp_path / "run_vace_preproccess.sh").symlink_to(ROOT / "run_vace_preproccess.sh")
    done = subprocess.run(
        ["bash", "-c", f"cd {tmp_path} && bash {script} {' '.join(arguments)}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    produced = answer["out_video"] or answer["src_video"] or answer["src_ref_images"][0]
    assert (tmp_path / produced).stat().st_size > 0


def test_unknown_example_is_told(tmp_path):
    done = subprocess.run(["bash", str(ROOT / "run_vace_wan.sh"), "list"], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "inpainting"
