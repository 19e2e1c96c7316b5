"""The gallery: its table, its materials, its previews, and two examples made from end to end."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vace.errors import InputError
from vace.media.manifest import read_json
from vace.tasks import TASKS
from vace.training.captions import WORDS, facts
from vace.training.scene import HELD_OUT

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts' own imports, as when one of them is run."""
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def made(tmp_path_factory, scripts) -> Path:
    """A gallery of two examples."""
    from make_gallery import main

    out = tmp_path_factory.mktemp("gallery")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)
        assert main(["--out", str(out), "--only", "inpainting_bbox", "image_plain"]) == 0
    return out


def table():
    from gallery.examples import EXAMPLES

    return EXAMPLES


def test_every_task_has_an_example():
    assert set(table()) == set(TASKS)


def test_prompts_are_captions_of_what_was_learned():
    for example in table().values():
        words = set(re.findall(r"\w+|,", example.prompt))
        said = facts(example.prompt)
        assert words <= set(WORDS), example.prompt
        assert said.things and said.ground and all(one.motion for one in said.things), example.prompt
        assert not {(one.colour, one.name) for one in said.things} & HELD_OUT, example.prompt


def test_scenes_show_what_their_captions_say():
    from gallery.scenes import SCENES, clip_of

    for name, world in SCENES.items():
        said = facts(world.caption).things
        assert [(s.colour, s.name, s.size, s.motion) for s in said] == [
            (t.colour, t.name, t.size, t.motion) for t in world.things
        ], name
        assert (clip_of(name).masks.sum(axis=(2, 3)) > 60).all(), name  # everything stays in the picture


def test_commands_are_what_the_command_line_takes(tmp_path):
    from gallery.examples import command_line, flags_of

    from vace.parsing import parse_flags

    for example in table().values():
        flags = flags_of(example, tmp_path)
        assert parse_flags("pipeline", flags)["prompt"] == example.prompt
        assert "{" not in command_line(example, tmp_path)


def test_materials_are_all_there_and_repeat_themselves(tmp_path):
    from gallery.examples import flags_of
    from gallery.previews import read_frames
    from gallery.scenes import write_materials

    for folder in ("one", "two"):
        write_materials(tmp_path / folder / "materials")
    for path in (tmp_path / "one/materials").iterdir():
        again = tmp_path / "two/materials" / path.name
        assert np.array_equal(read_frames(path), read_frames(again)), path.name
    for example in table().values():
        named = re.findall(r"[\w/.-]+\.(?:mp4|png|jpg)", " ".join(flags_of(example, tmp_path / "one").values()))
        absent = [name for name in named if not (SCRIPTS.parent / name).is_file()]  # joined, an absolute path is itself
        assert all(any(need in name for need in example.needs) for name in absent), absent


def test_the_toy_clip_has_its_true_mask(tmp_path):
    from gallery.previews import read_frames
    from gallery.scenes import clip_of, write_toy

    write_toy(tmp_path)
    masks, first = read_frames(tmp_path / "masks/toy.mp4"), read_frames(tmp_path / "masks/toy.png")
    assert np.array_equal(masks[..., 0] > 127, clip_of("toy").masks[:, 0])
    assert np.array_equal(masks[0], first[0])
    red = read_frames(tmp_path / "videos/toy.mp4")[masks[..., 0] > 127].mean(axis=0)
    assert red[0] > 120 and red[1:].max() < 90


def test_boxes_hold_their_things():
    from gallery.previews import parse_boxes
    from gallery.scenes import boxes, clip_of

    for name, text in {name: text for name, text in boxes().items() if name.endswith("_path")}.items():
        start, end = parse_boxes(text)
        truth = clip_of(name.removesuffix("_path")).boxes[:, 0]
        for box, true in ((start, truth[0]), (end, truth[-1])):
            assert (np.array(box[:2]) <= true[:2]).all() and (np.array(box[2:]) >= true[2:]).all()
            assert np.abs(np.array(box) - true).max() <= 3


def test_an_example_is_whole(made):
    folder = made / "inpainting_bbox"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"manifest.json", "out_video.mp4", "src_video.mp4", "src_mask.mp4", "preview.webp", "prompt.txt"} <= names
    assert {f"prepared/src_{kind}-inpainting_bbox.mp4" for kind in ("video", "mask")} <= names
    with Image.open(folder / "preview.webp") as preview:
        assert preview.n_frames == read_json(folder / "manifest.json")["frames"]["count"]
        assert preview.size == (3 * 192 + 2 * 4, 128 + 18)
    assert {path.name for path in (made / "image_plain/prepared").iterdir()} == {
        "manifest.json",
        "src_ref_image-image_plain.png",
    }


def test_manifests_name_files_from_the_root(made):
    text = (made / "inpainting_bbox/manifest.json").read_text()
    assert '"assets/videos/toy.mp4"' in text and str(SCRIPTS.parent) not in text


def test_a_manifest_repeats_its_example(made, vace, monkeypatch, tmp_path):
    from gallery.previews import read_frames

    monkeypatch.chdir(SCRIPTS.parent)
    manifest = made / "inpainting_bbox/manifest.json"
    done = vace("pipeline", "--from", manifest, "--save_dir", tmp_path / "again", "--pre_save_dir", tmp_path / "before")
    assert done.code == 0, done.err
    assert "has changed" not in done.err
    again, first = (
        read_frames(Path(path)) for path in (done.json["out_video"], made / "inpainting_bbox/out_video.mp4")
    )
    assert np.array_equal(again, first)


def test_the_page_shows_what_is_made(made):
    text = (made / "README.md").read_text()
    assert "## repainting" in text and "## reference" in text and "## control" not in text
    assert "image_plain/preview.webp" in text
    line = next(line for line in text.splitlines() if line.startswith("| **inpainting_bbox**"))
    assert "`vace pipeline --task inpainting_bbox --video assets/videos/toy.mp4 --bbox " in line


def test_only_names_tasks_and_brings_what_it_needs(tmp_path):
    from make_gallery import wanted

    with pytest.raises(InputError, match="no such task"):
        wanted(["inpaintng"], tmp_path)
    names = [example.task for example in wanted(["composition"], tmp_path)]
    assert names == ["layout_track", "inpainting_masktrack", "composition"]
    assert len(wanted([], tmp_path)) == len(TASKS)


def test_check_tells_what_is_wrong(made, tmp_path, monkeypatch, capsys):
    from gallery import page
    from make_gallery import main

    out = tmp_path / "copy"
    shutil.copytree(made, out)
    monkeypatch.setattr(page, "EXAMPLES", {name: table()[name] for name in ("inpainting_bbox", "image_plain")})
    (out / "README.md").write_text(page.page(out, out))
    monkeypatch.chdir(tmp_path)
    assert page.problems(out, SCRIPTS.parent) == []

    manifest = read_json(out / "image_plain/manifest.json")
    manifest["parameters"]["prompt"], manifest["model"]["fingerprint"] = "another", "0"
    (out / "image_plain/manifest.json").write_text(json.dumps(manifest))
    (out / "image_plain/out_video.mp4").write_bytes(b"another")
    (out / "inpainting_bbox/preview.webp").unlink()
    (out / "README.md").write_text("")
    (out / "no_task").mkdir()
    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    assert main(["--check", "--out", str(out)]) == 1
    told = capsys.readouterr().err
    for part in ("out_video.mp4 is not as the manifest says", "another prompt", "another vace-tiny", "at most",
                 "inpainting_bbox: preview.webp is missing", "README.md", "no_task"):  # fmt: skip
        assert part in told


def test_the_strip_has_three_rows_of_five(tmp_path):
    from gallery.previews import write_strip
    from gallery.scenes import write_toy

    write_toy(tmp_path)
    clip, mask = tmp_path / "videos/toy.mp4", tmp_path / "masks/toy.mp4"
    write_strip(tmp_path / "readme/strip.png", clip, mask, clip)
    with Image.open(tmp_path / "readme/strip.png") as strip:
        assert strip.size == (5 * 192 + 4 * 4, 3 * (128 + 18))


def test_the_gallery_handed_out_is_whole():
    from gallery.page import problems

    out = SCRIPTS.parent / "assets/examples"
    assert problems(out, SCRIPTS.parent) == []
    assert "(assets/examples/strip.png)" in (SCRIPTS.parent / "README.md").read_text(encoding="utf-8")
