"""The contact sheets are made from the examples of the task table."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image


@pytest.mark.slow
def test_a_sheet_shows_every_example(root, tmp_path):
    command = [
        sys.executable,
        str(root / "scripts/contact_sheets.py"),
        "frameref",
        "image_gray",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "frameref.jpg") as sheet:
        assert sheet.height > 4 * 96 and sheet.width > 400
    with Image.open(tmp_path / "image_gray.jpg") as sheet:
        assert sheet.height > 2 * 96
