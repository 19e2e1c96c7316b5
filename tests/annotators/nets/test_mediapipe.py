"""MediaPipe's files: found, checked, and run without noise."""

from __future__ import annotations

import hashlib
import sys
import zipfile

import numpy as np
import pytest

from vace.annotators import mediapipe
from vace.annotators.mediapipe import FILES, TfliteModel
from vace.errors import CheckpointError, MissingDependency, MissingWeights


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A machine without the files: the only place for them is an empty folder."""
    monkeypatch.setattr(mediapipe, "folders", lambda: [tmp_path / "mediapipe"])
    return tmp_path / "mediapipe"


def test_the_files_of_this_machine_are_whole():
    for name, (_, size, digest) in FILES.items():
        data = mediapipe.find(name).read_bytes()
        assert len(data) == size and hashlib.sha256(data).hexdigest().startswith(digest), name
    assert mediapipe.absent() == []


def test_a_network_says_the_same_twice_and_not_the_same_of_all():
    run = mediapipe.model("face_landmark")
    assert run is mediapipe.model("face_landmark")
    rng = np.random.default_rng(0)
    one, other = (rng.random(run.inputs[0], dtype=np.float32) for _ in range(2))
    first = [part.copy() for part in run(one)]
    assert [part.shape for part in first] == run.outputs
    assert not np.array_equal(run(other)[0], first[0])
    assert all(np.array_equal(a, b) for a, b in zip(run(one), first, strict=True))


def test_nothing_but_trouble_is_told_on_stderr(capfd):
    TfliteModel("face_detection_short_range")
    assert capfd.readouterr().err == ""
    with mediapipe._without_notes():
        import os

        os.write(2, b"INFO: a note\nERROR: trouble\nwithout a line's end")
    assert capfd.readouterr().err == "ERROR: trouble\nwithout a line's end"


def test_trouble_is_told_when_an_error_ends_it(capfd):
    import os

    with pytest.raises(ValueError), mediapipe._without_notes():
        os.write(2, b"WARNING: seen\n")
        raise ValueError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "WARNING: seen\nafter\n"


def test_a_damaged_file_is_named(empty):
    empty.mkdir()
    size = FILES["face_landmark"][1]
    (empty / "face_landmark.tflite").write_bytes(b"\0" * size)
    with pytest.raises(CheckpointError, match=r"face_landmark\.tflite: damaged .*delete it and run: vace models pull"):
        TfliteModel("face_landmark")


def test_a_file_of_another_size_is_none(empty):
    empty.mkdir()
    (empty / "face_landmark.tflite").write_bytes(b"part")
    assert mediapipe.find("face_landmark") is None


def test_absent_and_offline_is_an_error_with_the_command(empty, monkeypatch):
    monkeypatch.setattr(mediapipe, "is_offline", lambda: True)
    with pytest.raises(MissingWeights, match="pose_detection is not on this machine; .*vace models pull mediapipe"):
        TfliteModel("pose_detection")


def test_without_the_runtime_the_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingDependency, match="pip install ai-edge-litert"):
        TfliteModel("pose_detection")


def wheel(folder, monkeypatch, spoil: str | None = None) -> None:
    """What pip would bring: a wheel of this machine's files, one of them spoilt."""
    path = folder / "mediapipe.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, (where, _, _) in FILES.items():
            data = REAL[name]
            archive.writestr(f"mediapipe/modules/{where}/{name}.tflite", data[::-1] if name == spoil else data)
    monkeypatch.setattr(mediapipe, "_download", lambda scratch: path)


REAL = {name: mediapipe.find(name).read_bytes() for name in FILES if mediapipe.find(name)}


def test_files_are_taken_out_of_the_wheel(empty, tmp_path, monkeypatch):
    wheel(tmp_path, monkeypatch)
    assert mediapipe.fetch() == empty
    assert mediapipe.absent() == [] and sorted(path.name for path in empty.iterdir()) == sorted(
        f"{name}.tflite" for name in FILES
    )


def test_a_damaged_file_in_the_wheel_is_not_kept(empty, tmp_path, monkeypatch):
    wheel(tmp_path, monkeypatch, spoil="selfie_segmentation")
    with pytest.raises(MissingWeights, match=r"selfie_segmentation\.tflite in it is damaged"):
        mediapipe.fetch()
    assert "selfie_segmentation" in mediapipe.absent()


def test_nowhere_to_write_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(mediapipe, "folders", lambda: [tmp_path / "file" / "mediapipe"])
    with pytest.raises(MissingWeights, match="can be written; set VACE_MODELS"):
        mediapipe.fetch()


@pytest.mark.parametrize(
    ("brings", "message"),
    [(None, "pip could not get it"), (b"something", "not the published wheel")],
)
def test_what_pip_brings_is_checked(tmp_path, monkeypatch, brings, message):
    class Done:
        returncode, stderr = int(brings is None), "ERROR: no network"

    def pip(command, **options):
        if brings:
            (tmp_path / "mediapipe.whl").write_bytes(brings)
        assert "mediapipe==0.10.21" in command and "--no-deps" in command
        return Done

    monkeypatch.setattr(mediapipe.subprocess, "run", pip)
    with pytest.raises(MissingWeights, match=message):
        mediapipe._download(tmp_path)
