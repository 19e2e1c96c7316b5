"""Files of the web pages: which are opened, what they are called, how long they stay."""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from vace.errors import InputError, OutputError
from vace.gradios import files
from vace.gradios.files import IMAGE_TYPES, MASK_TYPES, VIDEO_TYPES, accepted, inside, safe_name, sweep, taken_in


@pytest.fixture
def roots(tmp_path) -> tuple[Path, Path]:
    """Two roots, one with clip.mp4 in it; beside them secret.mp4, and a folder whose name begins as a root's."""
    for name in ("uploads", "results", "uploads-not"):
        (tmp_path / name).mkdir()
    (tmp_path / "uploads" / "clip.mp4").write_bytes(b"a clip")
    (tmp_path / "secret.mp4").write_bytes(b"a secret")
    (tmp_path / "uploads-not" / "secret.mp4").write_bytes(b"a secret")
    return tmp_path / "uploads", tmp_path / "results"


class TestInside:
    def test_a_file_in_a_root_is_given_resolved(self, roots, monkeypatch):
        clip = roots[0] / "clip.mp4"
        assert inside(clip, roots) == inside(str(clip), iter(roots)) == clip.resolve()
        assert inside(roots[0] / "deep" / ".." / "clip.mp4", roots) == clip.resolve()
        monkeypatch.chdir(roots[0])
        assert inside("clip.mp4", roots) == clip.resolve()

    @pytest.mark.parametrize("path", [
        "../secret.mp4", "uploads/../secret.mp4", "uploads/../../etc/passwd", "/etc/passwd", "secret.mp4",
        "uploads-not/secret.mp4", "uploads", "uploads/none.mp4", "", ".", "~", "uploads/\0clip.mp4",
        "//server/share/clip.mp4", "\\\\server\\share\\clip.mp4", "file:///etc/passwd", "uploads/" + "a" * 5000,
    ])  # fmt: skip
    def test_everything_else_is_refused_without_a_folder_in_the_message(self, roots, monkeypatch, path):
        monkeypatch.chdir(roots[0].parent)
        with pytest.raises(InputError, match=r"^[\w.-]{1,80}: not a file of these pages; upload it again$"):
            inside(path, roots)

    @pytest.mark.parametrize("path", [None, 3, b"clip.mp4", ["clip.mp4"], {"path": "clip.mp4"}])
    def test_what_is_no_path(self, roots, path):
        with pytest.raises(InputError, match="not a file of these pages"):
            inside(path, roots)

    def test_links_are_followed_before_they_are_judged(self, roots):
        uploads, results = roots
        (uploads / "out.mp4").symlink_to(uploads.parent / "secret.mp4")
        (uploads / "over.mp4").symlink_to(uploads / "clip.mp4")
        (uploads / "circle.mp4").symlink_to(uploads / "circle.mp4")
        (uploads / "folder").symlink_to(uploads.parent / "uploads-not")
        for name in ("out.mp4", "circle.mp4", "folder/secret.mp4"):
            with pytest.raises(InputError, match="not a file of these pages"):
                inside(uploads / name, roots)
        assert inside(uploads / "over.mp4", roots) == (uploads / "clip.mp4").resolve()

    def test_roots_that_are_links_hold_their_files_by_either_name(self, roots, tmp_path):
        (tmp_path / "link").symlink_to(roots[0])
        for path in (tmp_path / "link" / "clip.mp4", roots[0] / "clip.mp4"):
            assert inside(path, [tmp_path / "link"]) == (roots[0] / "clip.mp4").resolve()

    def test_nothing_outside_is_even_looked_at(self, roots, monkeypatch):
        looked, real = [], Path.resolve
        monkeypatch.setattr(Path, "resolve", lambda path, **given: (looked.append(str(path)), real(path, **given))[1])
        with pytest.raises(InputError):
            inside("/net/somewhere/clip.mp4", roots)
        assert "/net/somewhere/clip.mp4" not in looked

    def test_only_regular_files(self, roots):
        os.mkfifo(roots[0] / "pipe.mp4")
        with pytest.raises(InputError, match="pipe.mp4: not a file"):
            inside(roots[0] / "pipe.mp4", roots)


class TestAccepted:
    def test_kinds_and_sizes(self, roots):
        clip = roots[0] / "clip.mp4"
        assert accepted(clip, VIDEO_TYPES, 1, roots) == clip.resolve()
        assert accepted(clip.rename(roots[0] / "CLIP.MP4"), MASK_TYPES, 1, roots).name == "CLIP.MP4"

    @pytest.mark.parametrize(("name", "content", "said"), [
        ("clip.exe", b"x", "--video clip.exe: not a kind of file that is taken here; expected mp4, mov"),
        ("clip", b"x", "--video clip: not a kind"), ("clip.mp4.sh", b"x", "--video clip.mp4.sh: not a kind"),
        ("picture.png", b"x", "--video picture.png: not a kind"),
        ("none.mp4", b"", r"--video none.mp4: is empty \(0 bytes\)"),
        ("long.mp4", b"x" * 2_500_000, "--video long.mp4: 2.5 MB, at most 2 MB are taken"),
    ])  # fmt: skip
    def test_others_are_refused(self, roots, name, content, said):
        (roots[0] / name).write_bytes(content)
        with pytest.raises(InputError, match=f"^{said}"):
            accepted(roots[0] / name, VIDEO_TYPES, 2, roots, "video")

    def test_what_lies_outside_names_the_flag(self, roots):
        with pytest.raises(InputError, match="^--mask passwd: not a file of these pages"):
            accepted("/etc/passwd", IMAGE_TYPES, 2, roots, "mask")


class TestSafeName:
    @pytest.mark.parametrize(("name", "safe"), [
        ("clip.mp4", "clip.mp4"), ("a, b (1).mp4", "a_b_1.mp4"), ("Grüße aus Köln.MOV", "Gru_e_aus_Koln.MOV"),
        ("../../etc/passwd", "passwd"), ("C:\\Users\\me\\clip.mp4", "clip.mp4"), (".hidden", "file.hidden"),
        ("...", "file"), ("", "file"), ("猫.mp4", "file.mp4"), ("-rf.png", "rf.png"), ("a..b.png", "a.b.png"),
        ("con", "file-con"), ("NUL.tar.mp4", "file-NUL.tar.mp4"), ("com¹.mp4", "file-com1.mp4"),
        ("clip.mp4 ", "clip.mp4"), ("a\0b.mp4", "a_b.mp4"), ("gpj.\u202egnp.mp4", "gpj.gnp.mp4"),
        ("a／b.mp4", "b.mp4"), ("a" * 300 + ".webm", "a" * 75 + ".webm"), ("x." + "y" * 40, "x." + "y" * 40),
        ("name.", "name"),
    ])  # fmt: skip
    def test_examples(self, name, safe):
        assert safe_name(name) == safe

    def test_whatever_it_is_given(self):
        draw = random.Random(3)
        marks = "aZ09._-/\\ ,:;'\"<>|?*\0\n\r\u202e\u0301é猫ﬁ¹\udc80.con.nul"
        for _ in range(5000):
            name = "".join(draw.choice(marks) for _ in range(draw.randrange(120)))
            safe = safe_name(name)
            assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}", safe) and not safe.endswith("."), (name, safe)
            assert safe.partition(".")[0].lower() not in ("con", "nul", "prn", "aux", "com1")
            assert safe_name(safe) == safe, (name, safe)


class TestTakenIn:
    def test_under_a_name_that_every_verb_can_take(self, roots, tmp_path):
        odd = roots[0] / "my clip, the 2nd.mp4"
        odd.write_bytes(b"content")
        taken = taken_in(odd, tmp_path / "uploads" / "taken")
        assert taken == tmp_path / "uploads" / "taken" / "my_clip_the_2nd.mp4" and taken.read_bytes() == b"content"
        assert taken_in(odd, taken.parent) == taken  # the same again
        assert os.listdir(taken.parent) == [taken.name]

    def test_two_files_of_one_name_are_two(self, roots, tmp_path):
        other = tmp_path / "results" / "clip.mp4"
        other.write_bytes(b"another")
        first, second = taken_in(roots[0] / "clip.mp4", tmp_path / "in"), taken_in(other, tmp_path / "in")
        assert first.name == "clip.mp4" and re.fullmatch(r"clip-[0-9a-f]{8}\.mp4", second.name)
        assert (first.read_bytes(), second.read_bytes()) == (b"a clip", b"another")

    def test_without_hard_links_it_is_copied(self, roots, tmp_path, monkeypatch):
        def refused(*_, **__):
            raise PermissionError

        monkeypatch.setattr(os, "link", refused)
        taken = taken_in(roots[0] / "clip.mp4", tmp_path / "in")
        assert taken.read_bytes() == b"a clip" and os.listdir(taken.parent) == [taken.name]
        assert not taken.samefile(roots[0] / "clip.mp4")

    def test_a_folder_that_cannot_be_written(self, roots):
        with pytest.raises(OutputError, match="cannot be written"):
            taken_in(roots[0] / "clip.mp4", roots[0] / "clip.mp4")


def test_what_is_old_is_swept(roots, tmp_path):
    uploads, secret = roots[0], tmp_path / "secret.mp4"
    for name in ("old/deep/a.mp4", "old/b.mp4", "new/c.mp4"):
        (uploads / name).parent.mkdir(parents=True, exist_ok=True)
        (uploads / name).write_bytes(b"x")
    (uploads / "link").symlink_to(tmp_path / "uploads-not")
    long_ago = time.time() - 25 * 3600
    for path in (uploads / "old" / "deep" / "a.mp4", uploads / "old" / "b.mp4", uploads / "clip.mp4", secret):
        os.utime(path, (long_ago, long_ago))
    os.utime(tmp_path / "uploads-not" / "secret.mp4", (long_ago, long_ago))
    sweep(uploads)
    assert sorted(path.name for path in uploads.rglob("*")) == ["c.mp4", "link", "new"]
    assert secret.exists() and (tmp_path / "uploads-not" / "secret.mp4").exists()
    sweep(uploads, 0)
    assert uploads.is_dir() and not list(uploads.rglob("*.mp4"))
    sweep(tmp_path / "nowhere")


def test_what_a_job_needs_and_what_may_be_coming_is_not_swept(tmp_path):
    used, old, coming = tmp_path / "in" / "used.mp4", tmp_path / "in" / "old.mp4", tmp_path / "coming"
    used.parent.mkdir()
    coming.mkdir()
    for path in (used, old):
        path.write_bytes(b"x")
        os.utime(path, (1, 1))
    sweep(tmp_path, used=f"image_face(image={used})")
    assert used.exists() and not old.exists() and coming.is_dir()


def test_uploads_have_so_much_room(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(bytes(15 * files.MB))
    taken_in(tmp_path / "a.mp4", tmp_path / "taken")  # another name of the same bytes
    assert files.size_of(tmp_path) == 15 * files.MB
    files.check_room(tmp_path, 1, 5 * files.MB)
    with pytest.raises(InputError, match="fill the 20 MB .*larger --max_upload"):
        files.check_room(tmp_path, 1, 5 * files.MB + 1)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=999 * files.MB))
    with pytest.raises(InputError, match="disk of this server is nearly full"):
        files.check_room(tmp_path, 512)
