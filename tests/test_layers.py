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


def test_every_layer_gets_its_own_pictures(media, made, tmp_path):
    """References are cut once per layer; a later layer must not get what an earlier one's were."""
    from vace.media.image import read_image, write_image

    layers = []
    for level in (30, 60, 90, 120, 150, 180):
        write_image(tmp_path / f"{level}.png", np.full((64, 96, 3), level, np.uint8))
        layers.append(f"expand_anything(image={media}/image.png,{tmp_path}/{level}.png,mode=mask,expand_num=1,"
                      f"ref_mask={media}/mask.png)")  # fmt: skip
    references = made("+".join(layers))[2]
    assert [int(read_image(path)[5, 5, 0]) for path in references] == [30, 60, 90, 120, 150, 180]


def test_a_folder_of_the_users_is_left_alone(media, tmp_path):
    mine = tmp_path / "out/layers"
    mine.mkdir(parents=True)
    (mine / "mine.txt").write_text("mine")
    text = f"gray(video={media}/clip.mp4)+image_plain(image={media}/image.png)"
    preprocess(text, pre_save_dir=tmp_path / "out", progress=False)
    with pytest.raises(InputError):
        preprocess(f"{text}+firstclip(video={media}/none.mp4)", pre_save_dir=tmp_path / "out", progress=False)
    assert (mine / "mine.txt").read_text() == "mine"
    assert not list((tmp_path / "out").glob(".layers*"))


def test_both_ends_kept_are_no_filler(media, made):
    frames, masks, _, manifest = made(
        f"firstframe(image={media}/image.png,expand_num=9)+lastframe(image={media}/image2.png,expand_num=9)"
    )
    assert len(frames) == 10 and (masks[[0, -1]] == 0).all() and (masks[1:-1] == 255).all()
    assert manifest["filler"] == [[1, 9]]


@pytest.mark.parametrize("order", ["first+gray+last", "first+last+gray", "first+gray+plain", "move+gray"])
def test_kept_frames_stay_whatever_follows(order, media, made):
    from vace.media.image import read_image

    text = {
        "first": f"firstframe(image={media}/image.png,expand_num=7)", "gray": f"gray(video={media}/clip.mp4)",
        "last": f"lastframe(image={media}/image2.png,expand_num=7)", "plain": f"plain(video={media}/clip2.mp4)",
        "move": f"move_anything(image={media}/image.png,bbox=1,1,20,20,30,30,60,60,expand_num=7)",
    }  # fmt: skip
    frames, masks, _, _ = made("+".join(text[name] for name in order.split("+")))
    assert (masks[0] == 0).all() and np.array_equal(frames[0], read_image(media / "image.png"))
    if "last" in order:
        assert (masks[-1] == 0).all() and np.array_equal(frames[-1], read_image(media / "image2.png"))
    assert (masks[1:-1] == 255).all() and (frames[1:-1] != FILLER).any(axis=(1, 2, 3)).all()


def test_what_loses_something_is_told(media, made, caplog):
    made(f"gray(video={media}/clip.mp4)+firstframe(image={media}/image.png,expand_num=4)")
    assert "put the extension first" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gray(video={media}/clip.mp4)+outpainting(direction=left)", "give outpainting a video of its own"),
        ("firstframe(image={media}/image.png,expand_num=2)+lastframe(image={media}/image.png,expand_num=9)",
         "frames that .* keeps"),
        ("gray(video={media}/clip.mp4)+inpainting(mode=mask)", "--mask: task inpainting"),
        ("gray(video={media}/clip.mp4)+frameref(mode=midframe,image={media}/image.png)", "'midframe'"),
        ("scribble+gray(video={media}/clip.mp4)", "--video: task scribble"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(text, told, media, made, tmp_path):
    with pytest.raises(InputError, match=told):
        made(text.format(media=media))
    assert not (tmp_path / "out").exists()


def test_one_clip_for_repaintings_is_repainted_by_all(media, made):
    """A clip given to the whole command is repainted by one task after the other, also where its size grows."""
    frames, masks, _, _ = made("inpainting_bbox(bbox=40,10,80,50)+outpainting(direction=left,expand_ratio=0.25)",
                               video=f"{media}/clip.mp4")  # fmt: skip
    assert frames.shape[1:3] == (64, 120)
    assert (masks[:, :, :24] == 255).all() and (masks[:, 10:50, 64:104] == 255).all() and (masks[:, 60, 40] == 0).all()


def test_the_rate_is_that_of_the_outcome(media, made):
    text = f"firstframe(image={media}/image.png,expand_num=9)+gray(video={media}/clip.mp4)"
    frames, _, _, manifest = made(text, save_fps=8.0)
    assert len(frames) == 10 and manifest["fps"] == 8


def test_lists_grow_and_phrases_keep_their_commas():
    (layer,) = parse_layers("image_reference(mode=caption,image=a.png,image='b c.png',caption=a man, in red,caption=x)")
    assert layer.flags["image"] == "a.png,b c.png" and layer.flags["caption"] == ["a man, in red", "x"]
    with pytest.raises(InputError, match="given twice"):
        parse_layers("depth(normalize=clip,normalize=frame)")


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
