"""Lists, folders, keys, manifests and recipes: what every verb needs around its work."""

from __future__ import annotations

import json

import pytest

from vace.errors import InputError, OutputError
from vace.runs import (
    OutputFolder,
    draw_seed,
    finished,
    public_recipe,
    read_manifest,
    run_key,
    split_list,
    write_manifest,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , b ,", ["a", "b"]),
        (["a", "b,c"], ["a", "b", "c"]),
    ],
)
def test_lists(value, expected):
    assert split_list(value) == expected
    assert split_list(value, files=True) == expected


def test_files_with_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b").mkdir()
    for name in ("a,b/x.mp4", "c, d.png", "e.png"):
        (tmp_path / name).touch()
    assert split_list("a,b/x.mp4,c, d.png,e.png,nowhere.png", files=True) == [
        "a,b/x.mp4", "c, d.png", "e.png", "nowhere.png",
    ]  # fmt: skip


def test_seeds():
    assert draw_seed(7) == 7 and draw_seed(0) == 0
    assert draw_seed(-1) >= 0 and len({draw_seed(-1) for _ in range(5)}) > 1
    for wrong in (-2, 2**63):
        with pytest.raises(InputError, match="--seed"):
            draw_seed(wrong)


def test_key_follows_settings_and_contents_not_places():
    inputs = [{"flag": "video", "path": "/a/x.mp4", "name": "x.mp4", "sha256": "1", "bytes": 1}]
    key = run_key("wan", {"steps": 2, "save_dir": "a"}, inputs)
    assert key == run_key("wan", {"steps": 2, "save_dir": "b"}, [inputs[0] | {"path": "/b/y.mp4"}])
    assert key != run_key("wan", {"steps": 3, "save_dir": "a"}, inputs)
    assert key != run_key("wan", {"steps": 2, "save_dir": "a"}, [inputs[0] | {"sha256": "2"}])


def test_finished_only_when_whole(tmp_path):
    from vace.runs import input_records

    (tmp_path / "out.png").write_bytes(b"picture")
    record = input_records([("", tmp_path / "out.png")])[0] | {"role": "out_video"}
    manifest = write_manifest(tmp_path / "manifest.json", "wan", {}, [], [record], seed=1)
    assert finished(tmp_path, manifest["key"])["seed"] == 1
    assert finished(tmp_path, "another") is None
    (tmp_path / "out.png").write_bytes(b"damaged")
    assert finished(tmp_path, manifest["key"]) is None


def test_recipe_names_no_folder():
    home = "/home/me"
    parameters = {"src_video": f"{home}/x.mp4", "src_ref_images": [f"{home}/a.png"], "ckpt_dir": f"{home}/model"}
    parameters |= {"save_dir": f"{home}/out", "prompt": "a/b"}
    manifest = {"schema": "s", "command": "wan", "seed": 1, "parameters": parameters}
    manifest["inputs"] = [{"name": "x.mp4", "path": f"{home}/x.mp4"}]
    recipe = public_recipe(manifest)
    assert home not in recipe and json.loads(recipe)["parameters"]["prompt"] == "a/b"


def test_foreign_manifests_are_refused(tmp_path):
    for content in ("{}", "[]", "nonsense", '{"schema": "other"}'):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(InputError, match="--from"):
            read_manifest(tmp_path)


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--save_dir"), OutputFolder(tmp_path / "file", "--save_dir", tmp_path):
        pass
