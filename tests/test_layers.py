"""more_anything: the text of joined tasks, and what their composition keeps and makes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from media_io import frames_of

from vace.errors import InputError
from vace.layer_syntax import bare, format_layers, parse_layers
from vace.preprocess import preprocess
from vace.runs import public_recipe

FILLER = 127


def test_text_is_read():
    text = "frameref(mode=firstframe,image=a.png)+outpainting( direction=left,right , expand_ratio=0.3 )+scribble"
    first, second, third = parse_layers(text)
    assert (first.task, first.flags) == ("frameref", {"mode": "firstframe", "image": "a.png"})
    assert (second.task, second.flags) == ("outpainting", {"direction": "left,right", "expand_ratio": 0.3})
    assert (third.task, third.flags) == ("scribble", {})


def test_quotes_hold_what_the_form_uses():
    (layer,) = parse_layers("inpainting(mode=caption,caption=\"a cat (red), 1+1=2\",video='my (clip), 2.mp4')")
    assert layer.flags["caption"] == ["a cat (red), 1+1=2"] and layer.flags["video"] == "my (clip), 2.mp4"


@pytest.mark.parametrize(
    "text", ["frameref(mode=firstframe,image=a b.png)+scribble(video=c.mp4)", "flow(video='x,(y)=.mp4')+gray"]
)
def test_text_comes_back(text):
    layers = parse_layers(text)
    again = parse_layers(format_layers(layers, dict))
    assert [(one.task, one.flags) for one in again] == [(one.task, one.flags) for one in layers]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("frameref(mode=firstframe", "not closed"),
        ("frameref)mode(", "not closed"),
        ("fremeref(mode=firstframe)", "'frameref'"),
        ("frameref(mod=firstframe)", "'mode'"),
        ("depth(3)+gray", "has no flag"),
        ("depth+", "is no task"),
        ("outpainting(expand_ratio=much)", "is no number"),
        ("outpainting(direction=)", "is empty"),
        ("inpainting(maskaug_mode=hul)", "'hull'"),
        ("composition(process_type=a,b)+gray", "cannot be a layer"),
        ("txt2vid+gray", "cannot be a layer"),
        ("gray(backend=neural)", "takes no 'backend'"),
    ],
)
def test_what_is_wrong_is_told(text, told):
    with pytest.raises(InputError, match=told):
        parse_layers(text)


@pytest.fixture
def made(media, tmp_path):
    """Prepare joined tasks: made(text, **flags) -> (frames, masks or None, references, manifest)."""

    def run(text, **flags):
        outcome = preprocess(text, pre_save_dir=tmp_path / "out", progress=False, backend="embedded", **flags)
        frames = frames_of(outcome.src_video) if outcome.src_video else None
        masks = frames_of(outcome.src_mask)[..., 0] if outcome.src_mask else None
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            "manifest.json", *(record["name"] for record in outcome.manifest["outputs"])
        }  # fmt: skip
        return frames, masks, outcome.src_ref_images, outcome.manifest

    return run


def test_a_picture_outpainted_and_extended(media, made):
    """A repainting layer without a video repaints what the layers before made."""
    frames, masks, references, manifest = made(
        f"frameref(mode=firstframe,image={media}/image.png,expand_num=8)+outpainting(direction=left,expand_ratio=0.25)"
        f"+image_plain(image={media}/image2.png)"
    )
    assert frames.shape == (9, 64, 120, 3) and len(references) == 1
    assert (masks[0, :, :24] == 255).all() and (masks[0, :, 24:] == 0).all() and (masks[1:] == 255).all()
    from vace.media.image import read_image

    assert np.array_equal(frames[0, :, 24:], read_image(media / "image.png"))
    assert manifest["time"] == "model" and manifest["filler"] == [[1, 9]]


def test_an_extension_keeps_its_frames_before_any_other(media, made):
    frames, masks, _, manifest = made(
        f"firstclip(clip_frames=3,expand_num=6,video={media}/clip.mp4)+gray(video={media}/clip2.mp4)"
    )
    assert len(frames) == 9 and (masks[:3] == 0).all() and (masks[3:] == 255).all()
    assert (frames[3:, ..., 0] == frames[3:, ..., 1]).all() and (frames[:3, ..., 0] != frames[:3, ..., 1]).any()
    assert manifest["under_mask"] == "content"


def test_three_layers_keep_what_each_keeps(media, made):
    """A first frame, a control and a repainting: footage outside the region, control within, the first frame whole."""
    frames, masks, _, _ = made(
        f"firstframe(image={media}/image.png,expand_num=6)+gray"
        f"+inpainting_mask(mask={media}/mask.png)", video=f"{media}/clip.mp4",
    )  # fmt: skip
    inside = np.zeros((64, 96), bool)
    inside[16:48, 24:72] = True
    assert len(frames) == 7 and (masks[0] == 0).all()
    assert all(np.array_equal(mask > 0, inside) for mask in masks[1:])
    assert (frames[1:, inside, 0] == frames[1:, inside, 1]).all()
    assert (frames[1:, ~inside, 0] != frames[1:, ~inside, 1]).any()


def test_references_alone(media, made):
    frames, masks, references, _ = made(f"image_plain(image={media}/image.png)+image_gray(image={media}/image2.png)")
    assert frames is None and masks is None and len(references) == 2


def test_flags_of_the_command_serve_every_layer(media, made, caplog):
    frames, masks, _, _ = made("outpainting_inner(direction=left)+inpainting_bbox", video=f"{media}/clip.mp4",
                               bbox="40,10,80,50", label="cat")  # fmt: skip
    assert (masks[:, :, :24] == 255).all() and (masks[:, 10:50, 40:80] == 255).all() and (masks[:, 60, 90] == 0).all()
    assert "--label is not used" in caplog.text


def test_other_shapes_are_told(media, made, tmp_path):
    from vace.media.image import write_image

    write_image(tmp_path / "square.png", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="another shape"):
        made(f"firstframe(image={tmp_path}/square.png,expand_num=4)+gray(video={media}/clip.mp4)")
    assert not (tmp_path / "out").exists()


def test_a_mode_for_all_is_refused(media, made):
    with pytest.raises(InputError, match="several tasks are joined"):
        made(f"gray(video={media}/clip.mp4)+image_plain(image={media}/image.png)", mode="plain")


def test_the_bare_name_asks_for_tasks(made):
    with pytest.raises(InputError, match="say which tasks"):
        made("more_anything")


def test_it_is_recognised_and_repeated(media, vace, tmp_path):
    text = f"firstframe(image={media}/image.png,expand_num=4)+outpainting(direction=up)"
    first = vace("preprocess", "--task", text, "--pre_save_dir", tmp_path / "a", "--quiet")
    assert first.code == 0, first.err
    again = vace("preprocess", "--from", tmp_path / "a", "--pre_save_dir", tmp_path / "b", "--quiet")
    assert again.code == 0, again.err
    names = ("src_video-more_anything.mp4", "src_mask-more_anything.mp4")
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    recipe = json.loads(public_recipe(json.loads((tmp_path / "a" / "manifest.json").read_text())))
    assert str(media) not in json.dumps(recipe) and "image.png" in recipe["parameters"]["task"]


def test_through_the_pipeline(media, vace):
    outcome = vace(
        "pipeline", "--task", f"firstframe(image={media}/image.png)+outpainting(direction=left)",
        "--prompt", "a square", "--steps", 1, "--size", "64x64", "--quiet",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert Path(outcome.json["out_video"]).stat().st_size > 0


def test_names_alone_in_a_recipe():
    assert bare({"video": "/a/b/c.mp4,/d/e.mp4", "mode": "label"}) == {"video": "c.mp4,e.mp4", "mode": "label"}
