"""Latents that a run leaves when its decoding fails, and `--decode`, which makes the very video of them."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vace.decode_again import decode_again
from vace.errors import DeviceError, InputError, MissingWeights, OutputError
from vace.generate import generate
from vace.latents_file import read_latents
from vace.models import engine as engines
from vace.models.checkpoints import tiny_folder
from vace.models.wan.engine import WanEngine
from vace.pipeline import pipeline, resumed

TINY = {"ckpt_dir": "tiny", "size": "96x64", "frame_num": 9, "steps": 2, "progress": False, "device": "cpu"}
LTX = {**TINY, "base": "ltx"}
PROMPT = "a large red star moves left over grass"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def breaks_off(monkeypatch, folder, error=KeyboardInterrupt, verb=generate, kind=WanEngine, good=0, **given) -> Path:
    """The folder of a run whose decoding fails after its first piece, of video number `good`."""
    whole, begun = kind.decode_chunks, []

    def failing(self, *args, **keywords):
        begun.append(1)
        for piece in whole(self, *args, **keywords):
            yield piece
            if len(begun) > good:
                raise error("of a test")

    with monkeypatch.context() as patch:
        patch.setattr(kind, "decode_chunks", failing)
        with pytest.raises(error):
            verb(prompt=PROMPT, save_dir=folder, **{**TINY, **given})
    return folder


def same_as_whole(made, folder: Path, **given) -> None:
    """The files and the manifest of `made` are those of an uninterrupted run."""
    whole = generate(PROMPT, save_dir=folder, **{**TINY, **given})
    assert names_in(made.folder) == names_in(whole.folder)
    for path, other in zip(made.out_videos, whole.out_videos, strict=True):
        assert path.read_bytes() == other.read_bytes()
    apart = ("stages", "parameters")
    found, wanted = ({k: v for k, v in one.manifest.items() if k not in apart} for one in (made, whole))
    assert found == wanted and made.manifest["parameters"] == whole.manifest["parameters"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, torch.OutOfMemoryError, OutputError])
def test_a_failed_decoding_leaves_latents_and_decode_makes_the_same_bytes(error, monkeypatch, tmp_path, caplog):
    folder = breaks_off(monkeypatch, tmp_path / "out", error)
    assert names_in(folder) == ["latents.safetensors", "manifest.json"]
    assert manifest_of(folder)["interrupted"] is True
    assert f"vace wan --decode {folder}" in caplog.text
    assert ("--memory tiled" in caplog.text) == (error is torch.OutOfMemoryError)
    same_as_whole(decode_again(folder), tmp_path / "whole")


def test_the_vaes_number_format_is_kept(monkeypatch, tmp_path):
    folder = breaks_off(monkeypatch, tmp_path / "out", vae_dtype="bfloat16")
    made = decode_again(folder)
    same_as_whole(made, tmp_path / "whole", vae_dtype="bfloat16")
    plain = generate(PROMPT, save_dir=tmp_path / "plain", **TINY)
    assert plain.out_videos[0].read_bytes() != made.out_videos[0].read_bytes()


def test_sources_references_and_sound_come_as_in_the_whole_run(monkeypatch, media, root, tmp_path):
    given = {"src_video": root / "assets/videos/test2.mp4", "src_ref_images": f"{media}/image.png,{media}/image2.png"}
    folder = breaks_off(monkeypatch, tmp_path / "out", **given)
    header = read_latents(folder / "latents.safetensors")[1]
    assert header.refs == 2 and header.sound is not None
    same_as_whole(decode_again(folder), tmp_path / "whole", **given)


def test_a_source_that_is_gone_costs_its_sound_alone(monkeypatch, root, tmp_path, caplog):
    source = tmp_path / "clip.mp4"
    shutil.copyfile(root / "assets/videos/test2.mp4", source)
    folder = breaks_off(monkeypatch, tmp_path / "out", src_video=source)
    source.unlink()
    made = decode_again(folder)
    assert "without its sound" in caplog.text and made.out_videos[0].stat().st_size > 0


def test_of_several_videos_the_finished_ones_stay_and_the_missing_ones_are_told(monkeypatch, tmp_path, caplog):
    folder = breaks_off(monkeypatch, tmp_path / "out", good=1, num_videos=2, seed=5)
    assert names_in(folder) == ["latents_1.safetensors", "manifest.json", "out_video.mp4"]
    same_as_whole(decode_again(folder), tmp_path / "whole", num_videos=2, seed=5)
    first = breaks_off(monkeypatch, tmp_path / "first", num_videos=2, seed=5)
    made = decode_again(first)
    assert len(made.out_videos) == 1 and manifest_of(first)["interrupted"] is True
    assert "1 of 2 videos are there" in caplog.text


def test_the_manifest_and_the_latents_are_on_disk_before_decoding_begins(monkeypatch, tmp_path):
    """So that a run that is killed with no chance to tidy can be decoded, too."""
    seen = []
    whole = WanEngine.decode_chunks

    def looking(self, *args, **given):
        seen.append((names_in(tmp_path / "out"), manifest_of(tmp_path / "out").get("interrupted")))
        return whole(self, *args, **given)

    monkeypatch.setattr(WanEngine, "decode_chunks", looking)
    generate(PROMPT, save_dir=tmp_path / "out", **TINY)
    (names, interrupted), *_ = seen
    assert {"latents.safetensors", "manifest.json"} <= set(names) and interrupted is True
    assert names_in(tmp_path / "out") == ["manifest.json", "out_video.mp4"]


def test_latents_stay_when_asked_and_can_be_decoded_again(monkeypatch, tmp_path):
    made = generate(PROMPT, save_dir=tmp_path / "out", save_latents=True, **TINY)
    plain = generate(PROMPT, save_dir=tmp_path / "plain", **TINY)
    assert names_in(made.folder) == ["latents.safetensors", "manifest.json", "out_video.mp4"]
    assert made.out_videos[0].read_bytes() == plain.out_videos[0].read_bytes()
    again = decode_again(made.folder, save_file=tmp_path / "deep/other.mp4")
    assert again.out_videos == [tmp_path / "deep/other.mp4"]
    assert again.out_videos[0].read_bytes() == plain.out_videos[0].read_bytes()
    assert (made.folder / "latents.safetensors").is_file()
    left = breaks_off(monkeypatch, tmp_path / "left")
    decode_again(left / "manifest.json", save_latents=True)
    assert names_in(left) == ["latents.safetensors", "manifest.json", "out_video.mp4"]


def test_a_run_that_goes_on_decodes_what_was_denoised(monkeypatch, tmp_path):
    folder = breaks_off(monkeypatch, tmp_path / "out", num_videos=2, good=1)
    with monkeypatch.context() as patch:
        patch.setattr(WanEngine, "denoise", lambda *_, **__: pytest.fail("was denoised already"))
        made = generate(PROMPT, save_dir=folder, resume=True, num_videos=2, **TINY)
    whole = generate(PROMPT, num_videos=2, **TINY)
    assert [a.read_bytes() for a in made.out_videos] == [b.read_bytes() for b in whole.out_videos]
    assert names_in(folder) == ["manifest.json", "out_video.mp4", "out_video_1.mp4"]


def test_latents_that_no_disk_takes_do_not_end_the_run(monkeypatch, tmp_path, caplog):
    from vace import latents_kept

    def full(*_):
        raise OutputError("the disk is full")

    monkeypatch.setattr(latents_kept, "save_latents", full)
    made = generate(PROMPT, save_dir=tmp_path / "out", **TINY)
    assert "may not survive a failure: the disk is full" in caplog.text
    assert names_in(made.folder) == ["manifest.json", "out_video.mp4"]
    breaks_off(monkeypatch, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_decoding_that_fails_again_changes_nothing(monkeypatch, tmp_path):
    folder = breaks_off(monkeypatch, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def failing(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WanEngine, "decode_chunks", failing)
        with pytest.raises(KeyboardInterrupt):
            decode_again(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("base", ["wan", "ltx"])
def test_the_vae_alone_is_loaded(base, monkeypatch, tmp_path):
    from vace.models.ltx.engine import LTXEngine

    kind, given = (WanEngine, TINY) if base == "wan" else (LTXEngine, LTX)
    folder = breaks_off(monkeypatch, tmp_path / "out", kind=kind, **given)
    loaded, build = [], engines.build

    def counted(part, *args):
        loaded.append(part.component)
        return build(part, *args)

    with monkeypatch.context() as patch:
        patch.setattr(engines, "build", counted)
        made = decode_again(folder, base=base)
    assert loaded == ["vae"]
    same_as_whole(made, tmp_path / "whole", **given)


def test_a_pipeline_that_ran_out_of_memory_goes_on_from_its_folder(monkeypatch, media, tmp_path):
    given = {"task": "gray", "video": f"{media}/clip.mp4", "verb": pipeline, "save_latents": True}
    folder = breaks_off(monkeypatch, tmp_path / "out", torch.OutOfMemoryError, **given)
    assert names_in(folder) == ["latents.safetensors", "manifest.json", "src_video.mp4"]
    monkeypatch.setattr(WanEngine, "denoise", lambda *_, **__: pytest.fail("was denoised already"))
    made = pipeline(**resumed(folder), progress=False)
    assert names_in(folder) == ["latents.safetensors", "manifest.json", "out_video.mp4", "src_video.mp4"]
    assert "interrupted" not in made.manifest


def test_a_pipeline_is_whole_afterwards(monkeypatch, media, tmp_path):
    given = {"task": "gray", "video": f"{media}/clip.mp4", "verb": pipeline}
    folder = breaks_off(monkeypatch, tmp_path / "out", **given)
    assert "job.json" in names_in(folder)
    made = decode_again(folder)
    assert names_in(folder) == ["manifest.json", "out_video.mp4", "src_video.mp4"]
    stamp = made.out_videos[0].stat().st_mtime_ns
    again = pipeline(**resumed(folder), progress=False)  # finished: nothing is made
    assert again.out_videos[0].stat().st_mtime_ns == stamp
    whole = pipeline("gray", PROMPT, video=f"{media}/clip.mp4", **TINY)
    assert made.out_videos[0].read_bytes() == whole.out_videos[0].read_bytes()


class TestMemory:
    def test_the_plan_of_the_run_is_kept_to(self, monkeypatch, tmp_path, caplog):
        folder = breaks_off(monkeypatch, tmp_path / "out", memory="tiled")
        with caplog.at_level(logging.INFO, "vace"):
            made = decode_again(folder)
        assert "in tiles: 9 frames of 96x64" in caplog.text
        same_as_whole(made, tmp_path / "whole", memory="tiled")

    def test_tiles_where_whole_pictures_do_not_fit(self, monkeypatch, tmp_path, caplog):
        folder = breaks_off(monkeypatch, tmp_path / "out", memory="device")
        whole = WanEngine.decode_chunks

        def failing(self, *args, **given):
            if not self._plan.tile_vae:
                raise torch.OutOfMemoryError("no room")
            return whole(self, *args, **given)

        monkeypatch.setattr(WanEngine, "decode_chunks", failing)
        assert decode_again(folder).out_videos and "once more, in tiles" in caplog.text

    def test_a_budget_is_for_the_vae_alone(self, monkeypatch, tmp_path):
        folder = breaks_off(monkeypatch, tmp_path / "out")
        with pytest.raises(DeviceError, match="takes .* to decode"):
            decode_again(folder, memory="0.001 GB")
        with pytest.raises(InputError, match="--memory lots"):
            decode_again(folder, memory="lots")
        assert decode_again(folder, memory="1 GB").out_videos


class TestRefused:
    @pytest.fixture
    def left(self, monkeypatch, tmp_path):
        return breaks_off(monkeypatch, tmp_path / "out")

    def test_folders_without_latents(self, tmp_path):
        with pytest.raises(InputError, match="--decode .*nowhere: no such file"):
            decode_again(tmp_path / "nowhere")
        made = generate(PROMPT, **TINY)
        with pytest.raises(InputError, match="no latents there; .*--save_latents"):
            decode_again(made.folder)

    @pytest.mark.parametrize(
        "given",
        [{"steps": 3}, {"prompt": "x"}, {"seed": 1}, {"src_video": ["a.mp4"]}, {"out_format": "png"},
         {"dit_fsdp": True}, {"from": "manifest.json"}],
    )  # fmt: skip
    def test_flags_that_would_change_what_was_denoised(self, given, left):
        with pytest.raises(InputError, match=f"--{next(iter(given))}: not with --decode"):
            decode_again(left, **given)

    def test_latents_that_changed_are_gone_or_are_none(self, left):
        path = left / "latents.safetensors"
        latents = load_file(path)
        with pytest.raises(InputError, match="not denoised latents"):
            save_file(latents, path)
            decode_again(left)
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(InputError, match="not denoised latents"):
            decode_again(left)
        path.unlink()
        with pytest.raises(InputError, match="no such file"):
            decode_again(left)

    def test_latents_of_another_run(self, left, monkeypatch, tmp_path):
        other = breaks_off(monkeypatch, tmp_path / "other", seed=1)
        shutil.copyfile(other / "latents.safetensors", left / "latents.safetensors")
        with pytest.raises(InputError, match="is not what the manifest beside it describes"):
            decode_again(left)

    def test_another_base(self, left):
        with pytest.raises(InputError, match="latents of wan; give it to `vace wan`"):
            decode_again(left, base="ltx")
        with pytest.raises(InputError, match="--base x"):
            decode_again(left, base="x")

    def test_memory_is_planned_for_wan_alone(self, monkeypatch, tmp_path):
        from vace.models.ltx.engine import LTXEngine

        folder = breaks_off(monkeypatch, tmp_path / "ltx", kind=LTXEngine, **LTX)
        with pytest.raises(InputError, match="--memory tiled: planned for wan alone"):
            decode_again(folder, base="ltx", memory="tiled")

    def test_another_vae_and_the_right_one_by_hand(self, left, tmp_path):
        other = tmp_path / "other"
        shutil.copytree(tiny_folder(), other)
        path = next((other / "vae").glob("*.safetensors"))
        tensors = load_file(path)
        name = next(key for key in tensors if key.startswith("decoder.") and key.endswith("weight"))
        tensors[name] += 1
        save_file(tensors, path, {"format": "pt"})
        with pytest.raises(InputError, match="latents of the VAE .* name the checkpoint that made them"):
            decode_again(left, ckpt_dir=str(other))
        shutil.rmtree(other)
        with pytest.raises(MissingWeights, match="other"):
            decode_again(left, ckpt_dir=str(other))
        shutil.copytree(tiny_folder(), other)
        assert decode_again(left, ckpt_dir=str(other)).out_videos

    def test_several_processes(self, left, monkeypatch):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(InputError, match="leave torchrun out"):
            decode_again(left)

    def test_no_room_is_told_before_decoding(self, left, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
        with pytest.raises(OutputError, match="free"):
            decode_again(left)
        assert "latents.safetensors" in names_in(left)


def test_the_commands_decode_refuse_and_say_so(vace, monkeypatch, tmp_path):
    folder = breaks_off(monkeypatch, tmp_path / "a folder")
    refused = vace("wan", "--decode", folder, "--steps", 3)
    assert refused.code == 2 and "--steps: not with --decode" in refused.err and refused.out == ""
    assert "no latents" not in refused.err
    assert vace("wan", "--decode", "").code == 2
    assert vace("ltx", "--decode", folder).code == 2
    made = vace("wan", "--decode", folder, "--quiet")
    assert made.code == 0 and made.json["out_video"] == str(folder / "out_video.mp4"), made.err
    assert made.json["toy"] is True and made.json["manifest"] == str(folder / "manifest.json")
    assert "--decode" in vace("wan", "--help").out and "--save_latents" in vace("pipeline", "--help").out
    kept = vace("wan", "--prompt", "x", "--ckpt_dir", "tiny", "--size", "64x64", "--frame_num", 5, "--steps", 1,
                "--save_latents", "--save_dir", "kept", "--device", "cpu")  # fmt: skip
    assert kept.code == 0 and Path("kept/latents.safetensors").is_file(), kept.err


def test_the_command_that_is_told_can_be_pasted(monkeypatch, tmp_path, caplog):
    folder = breaks_off(monkeypatch, tmp_path / "a folder")
    assert f"vace wan --decode '{folder}'" in caplog.text
