"""What each task promises, beyond what the original did."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest

from vace import annotators
from vace.annotators.align import fit_frames
from vace.annotators.colors import LABELS, label_colors, read_color_table
from vace.annotators.frameref import filler_ranges
from vace.annotators.layout import box_path
from vace.annotators.subject import cut_subject
from vace.errors import InputError
from vace.media.clip import ArrayClip


def test_every_registered_name_resolves():
    for name in annotators.REGISTRY:
        assert callable(annotators.get(name)), name


def test_unknown_name_tells_the_nearest():
    with pytest.raises(InputError, match="outpainting"):
        annotators.get("outpaintng")


def test_registry_and_boxes_import_nothing_heavy():
    code = "import sys, vace.annotators, vace.annotators.boxes; print({'cv2', 'torch', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(("mode", "length"), [("firstframe", 81), ("lastframe", 81), ("firstlastframe", 82)])
def test_pictures_make_81_or_82_frames(mode, length, noise, gather):
    pictures = list(noise(2, 16, 24))[: 2 if "firstlast" in mode else 1]
    result = annotators.get("frameref")(images=pictures, mode=mode)
    frames, masks = gather(result)
    assert len(frames) == length
    (start, stop) = result.filler[0]
    assert stop - start == 80 and (frames[start:stop] == 127).all() and (masks[start:stop] == 255).all()
    kept = np.delete(np.arange(length), np.arange(start, stop))
    assert np.array_equal(frames[kept], pictures) and not masks[kept].any()


def test_clip_frames_takes_the_adjoining_ends(noise, cut_clip, gather):
    first, last = noise(10, 16, 24), noise(9, 16, 24, 1)
    call = annotators.get("frameref")
    result = call(clips=[cut_clip(first), cut_clip(last)], mode="firstlastclip", expand_num=3, clip_frames=4)
    frames, _ = gather(result)
    assert np.array_equal(frames[:4], first[-4:]) and np.array_equal(frames[-4:], last[:4])
    assert result.filler == [(4, 7)]
    longer = call(clips=[cut_clip(first)], mode="firstclip", expand_num=3, clip_frames=99)
    assert longer.frame_count == 13


def test_filler_ranges():
    assert filler_ranges([0], 5) == [(1, 5)]
    assert filler_ranges([1, 2, 4], 6) == [(0, 1), (3, 4), (5, 6)]
    assert filler_ranges(range(4), 4) == []


@pytest.mark.parametrize("choice", ["first", "last", "firstlast", "random", None])
def test_framerefext_marks_what_it_blanks(choice, noise, gather):
    source = noise(9, 12, 16)
    result = annotators.get("framerefext")(frames=ArrayClip(source), ref_num=2, ref_cfg=choice, seed=5)
    frames, masks = gather(result)
    blank = np.zeros(9, bool)
    for start, stop in result.filler:
        blank[start:stop] = True
    assert (~blank).sum() in (2, 4)
    assert (frames[blank] == 127).all() and (masks[blank] == 255).all()
    assert np.array_equal(frames[~blank], source[~blank]) and not masks[~blank].any()


def test_framerefext_follows_its_seed(noise):
    clip = ArrayClip(noise(50, 4, 4))
    ranges = [annotators.get("framerefext")(frames=clip, ref_num=5, ref_cfg="random", seed=s).filler for s in (1, 1, 2)]
    assert ranges[0] == ranges[1] != ranges[2]


def test_outpainting_keeps_exactly_the_picture(noise, gather):
    source = noise(2, 20, 30)
    for name in ("outpainting", "outpainting_inner"):
        for direction in (["left"], ["right", "up"], ["left", "right", "up", "down"]):
            result = annotators.get(name)(frames=ArrayClip(source), direction=direction, expand_ratio=0.3)
            frames, masks = gather(result)
            assert (frames[masks > 0] == 128).all()
            kept = frames[masks == 0].reshape(2, -1, 3)
            x1, x2 = (9 if "left" in direction else 0), 30 - (9 if "right" in direction else 0)
            y1, y2 = (6 if "up" in direction else 0), 20 - (6 if "down" in direction else 0)
            expected = source if name == "outpainting" else source[:, y1:y2, x1:x2]
            assert np.array_equal(kept, expected.reshape(2, -1, 3))


def test_outpainting_to_a_multiple(noise):
    for name in ("outpainting", "outpainting_inner"):
        result = annotators.get(name)(
            frames=ArrayClip(noise(1, 35, 51)), direction=["left"], expand_ratio=0.3, keep_padding_ratio=16
        )
        chunk = next(result.chunks)
        assert result.width % 16 == result.height % 16 == 0
        assert (chunk.frames[chunk.masks > 0] == 128).all() and chunk.frames.shape[1:3] == (result.height, result.width)


def test_image_outpainting(noise):
    result = annotators.get("image_outpainting")(images=[noise(1, 20, 30)[0], noise(1, 40, 10)[0]], direction=["up"])
    assert [image.shape for image in result.images] == [(25, 30, 3), (50, 10, 3)]
    assert [mask.shape for mask in result.image_masks] == [(25, 30), (50, 10)]
    assert result.chunks is None


def test_inpainting_with_a_mask_of_another_size(noise, cut_mask, disc, gather):
    source = noise(3, 60, 80)
    _, masks = gather(
        annotators.get("inpainting")(frames=ArrayClip(source), mode="mask", mask=cut_mask(disc(30, 40)[None]))
    )
    assert set(np.unique(masks)) == {0, 255} and np.array_equal(masks[0, ::2, ::2], masks[2, 1::2, 1::2])


def test_augmented_inpainting_grays_what_it_marks(noise, cut_mask, gather):
    source, moving = noise(6, 60, 80), np.zeros((6, 60, 80), np.uint8)
    for i, mask in enumerate(moving):
        mask[20:30, 20 + 3 * i : 32 + 3 * i] = 255
    for mask in (moving, moving[:1]):
        result = annotators.get("inpainting")(
            frames=ArrayClip(source), mode="mask", mask=cut_mask(mask),
            maskaug_mode="hull_expand", maskaug_ratio=1.0, seed=2,
        )  # fmt: skip
        frames, masks = gather(result)
        given = np.broadcast_to(mask, masks.shape)
        assert (masks >= given).all() and masks.sum() > given.sum()
        assert (frames[masks > 0] == 128).all() and np.array_equal(frames[masks == 0], source[masks == 0])


def test_useless_masks_are_told(noise, cut_mask, caplog):
    clip = ArrayClip(noise(2, 20, 30))
    for value, words in ((0, "black everywhere"), (255, "white everywhere")):
        for count in (1, 2):
            caplog.clear()
            mask = cut_mask(np.full((count, 20, 30), value, np.uint8))
            with caplog.at_level(logging.WARNING, "vace"):
                list(annotators.get("inpainting")(frames=clip, mode="mask", mask=mask).chunks)
            assert words in caplog.text


def test_layout_box_starts_and_ends_where_told(gather):
    boxes = [(5, 6, 30, 28), (40, 20, 70.9, 44)]
    frames, masks = gather(annotators.get("layout_bbox")(bbox=boxes, size=(96, 64), frame_num=20, label="cat"))
    assert masks is None
    for frame, (x1, y1, x2, y2) in ((frames[0], boxes[0]), (frames[-1], boxes[1])):
        ys, xs = np.nonzero((frame != 255).any(-1))
        # the line is 2 wide: it lies on the edge and one pixel outside
        assert (xs.min(), ys.min(), xs.max(), ys.max()) == (x1 - 1, y1 - 1, int(x2) + 1, y2 + 1)
    colors = {tuple(color) for color in frames.reshape(-1, 3).tolist()}
    assert colors == {(255, 255, 255), label_colors()["cat"][::-1]}


def test_a_path_is_even_and_whole():
    assert box_path((0, 0, 4, 4), (10, 20, 14, 24), 11)[:, :2].tolist() == [[i, 2 * i] for i in range(11)]
    for count in range(2, 100):
        assert all(box_path((0, 0, 4, 4), (end, 0, end + 4, 4), count)[-1, 0] == end for end in range(1, 60))


def test_one_frame_of_a_path_is_its_start():
    assert box_path((1, 2, 5, 6), (3, 4, 9, 9), 1).tolist() == [[1, 2, 4, 4]]


def test_unknown_label_is_black_and_told(caplog):
    with caplog.at_level(logging.WARNING, "vace"):
        result = annotators.get("layout_bbox")(bbox=[(1, 1, 9, 9)] * 2, size=(20, 16), frame_num=1, label="qwertz")
    assert "qwertz" in caplog.text and next(result.chunks).frames.min() == 0


def test_color_tables(tmp_path):
    table = label_colors()
    assert len(set(table.values())) == len(table) == len(LABELS), "two labels share a colour"
    assert not {(0, 0, 0), (255, 255, 255)} & set(table.values())
    path = tmp_path / "colors.txt"
    path.write_text("0#;#person#;#(220, 20, 60)\n\n17#;#red car#;#(1,2,3)\n")
    assert read_color_table(path) == {"person": (220, 20, 60), "red car": (1, 2, 3)}
    for bad in ("person (1,2,3)", "0#;#person#;#(1,2)", "0#;#person#;#(1,2,300)"):
        path.write_text(bad)
        with pytest.raises(InputError, match="line 1"):
            read_color_table(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_color_table(tmp_path / "none.txt")


def test_references(noise, disc):
    pictures = list(noise(2, 40, 60)) + [noise(1, 80, 120)[0]]
    call = annotators.get("image_reference")
    result = call(images=pictures, mode="mask", masks=[disc(40, 60)])
    assert len(result.images) == 3 and result.images[2].shape[0] == pytest.approx(2 * result.images[0].shape[0], abs=2)
    for image, mask in zip(result.images, result.image_masks, strict=True):
        assert (image[mask == 0] == 255).all() and mask.any()
    boxed = call(images=pictures[:2], mode="bbox", bbox=[(0, 0, 20, 20), (10, 10, 60, 40)])
    assert [image.shape for image in boxed.images] == [(20, 20, 3), (30, 50, 3)]
    assert np.array_equal(boxed.images[1], pictures[1][10:40, 10:60])
    plain = call(images=pictures, mode="plain")
    assert all(np.array_equal(a, b) for a, b in zip(plain.images, pictures, strict=True))


def test_what_counts_as_subject(noise):
    """Above 1 decides where to cut, above 0 what stays."""
    image, mask = noise(1, 20, 30)[0], np.zeros((20, 30), np.uint8)
    mask[2:18, 3:28], mask[5:10, 6:20] = 1, 2
    subject, cut = cut_subject(image, mask)
    assert np.array_equal(subject, image[5:10, 6:20]) and (cut == 2).all()
    whole, _ = cut_subject(image, mask, crop=False)
    assert np.array_equal(whole[mask > 0], image[mask > 0]) and (whole[mask == 0] == 255).all()


def test_reference_on_a_canvas(noise):
    image = noise(1, 40, 60)[0]
    call = annotators.get("image_reference")
    box = [(5, 5, 30, 25)]
    placed = [call(images=[image], mode="bbox", bbox=box, canvas=True, seed=seed).images[0] for seed in (1, 1, 2)]
    assert placed[0].shape == image.shape and (placed[0] == 255).all(-1).any()
    assert np.array_equal(placed[0], placed[1]) and not np.array_equal(placed[0], placed[2])


def test_move_anything_ends_at_the_second_box(noise, gather):
    image = noise(1, 48, 64)[0]
    result = annotators.get("move_anything")(images=[image], bbox=[(4, 4, 20, 20), (40, 24, 60, 44)])
    frames, masks = gather(result)
    assert len(frames) == 81 and np.array_equal(frames[0], image)
    assert not masks[0].any() and (masks[1:] == 255).all()
    for frame, (x1, y1) in ((frames[1], (4, 4)), (frames[-1], (40, 24))):
        ys, xs = np.nonzero((frame != 255).any(-1))
        assert (xs.min(), ys.min()) == (x1 - 1, y1 - 1)


@pytest.mark.parametrize(("mode", "place"), [("plain", 0), ("firstframe,plain", 0), ("lastframe,plain", -1)])
def test_expand_anything(mode, place, noise, gather):
    images = list(noise(3, 20, 32))
    keys = {"direction": ["up"], "expand_ratio": 0.5, "expand_num": 4}
    result = annotators.get("expand_anything")(images=images, mode=mode, **keys)
    frames, masks = gather(result)
    assert frames.shape == (5, 30, 32, 3) and np.array_equal(frames[place, 10:], images[0])
    assert (masks[place, :10] == 255).all() and not masks[place, 10:].any()
    blank = frames[1:] if place == 0 else frames[:-1]
    assert (blank == 127).all() and (frames[place, :10] == 128).all()
    assert result.filler == [(1, 5) if place == 0 else (0, 4)]
    assert [np.array_equal(a, b) for a, b in zip(result.images, images[1:], strict=True)] == [True, True]


def test_expand_anything_without_references(noise):
    result = annotators.get("expand_anything")(images=list(noise(1, 20, 32)))
    assert result.images == [] and result.frame_count == 81 and result.width == 48


def test_composition_of_files_of_two_sizes(noise, cut_mask, gather):
    """A control, all of which is made, and a first frame; the second source is larger."""
    v1, v2 = noise(5, 20, 30), np.full((7, 40, 60, 3), 90, np.uint8)
    m2 = np.full((7, 40, 60), 253, np.uint8)
    m2[0] = 2
    result = annotators.get("composition")(
        frames_1=ArrayClip(v1), frames_2=ArrayClip(v2), masks_2=cut_mask(m2), process_type_1="gray",
        process_type_2="firstframe",
    )  # fmt: skip
    frames, masks = gather(result)
    assert frames.shape == (5, 20, 30, 3) and (masks == 255).all()
    assert np.array_equal(frames[0], v1[0]) and (frames[1:] == 90).all()


def test_composition_is_as_long_as_the_shorter(noise, gather):
    for counts in ((3, 20), (20, 3)):
        v1, v2 = (noise(count, 10, 12, seed) for seed, count in enumerate(counts))
        result = annotators.get("composition")(
            frames_1=ArrayClip(v1), frames_2=ArrayClip(v2), process_type_1="gray", process_type_2="depth"
        )
        frames, _ = gather(result)
        assert result.frame_count == 3 and np.array_equal(frames, v2[:3])


def test_frames_shrink_by_area(noise):
    frames = noise(2, 20, 30)
    means = frames.reshape(2, 10, 2, 15, 2, 3).mean((2, 4))
    assert np.abs(fit_frames(frames, 15, 10) - means).max() <= 0.5
    assert fit_frames(frames, 30, 20) is frames and fit_frames(frames, 60, 40).shape == (2, 40, 60, 3)
