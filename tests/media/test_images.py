"""Images and masks in every mode people have them in, written back whole."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vace.errors import InputError, OutputError
from vace.media.image import image_size, read_image, read_mask_image, write_image
from vace.media.mask import ArrayMask, open_mask
from vace.media.video import VideoWriter


@pytest.fixture
def picture(make_scene):
    return make_scene(1, 20, 30)[0]


def save(path, image, **options):
    image.save(path, **options)
    return path


def masks_of(clip, size=16):
    return np.concatenate(list(clip.chunks(size)))


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm"])
def test_lossless_formats(tmp_path, picture, name):
    path = save(tmp_path / name, Image.fromarray(picture))
    assert np.array_equal(read_image(path), picture)
    assert image_size(path) == (30, 20)


def test_jpeg_is_what_pillow_decodes(tmp_path, picture):
    path = save(tmp_path / "a.jpg", Image.fromarray(picture), quality=95)
    assert np.array_equal(read_image(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_over_white(tmp_path, mode):
    image = Image.new(mode, (4, 2), (10, 20, 30, 0) if mode == "RGBA" else (10, 0))
    image.putpixel((1, 0), (10, 20, 30, 255) if mode == "RGBA" else (10, 255))
    image.putpixel((2, 0), (0, 0, 0, 128) if mode == "RGBA" else (0, 128))
    read = read_image(save(tmp_path / "a.png", image))
    assert tuple(read[0, 0]) == (255, 255, 255)
    assert tuple(read[0, 1]) == ((10, 20, 30) if mode == "RGBA" else (10, 10, 10))
    assert tuple(read[0, 2]) == (127, 127, 127)


def test_palette_with_a_transparent_entry(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    read = read_image(save(tmp_path / "a.png", image, transparency=0))
    assert [tuple(pixel) for pixel in read[0]] == [(255, 255, 255), (0, 0, 200)]
    read = read_image(save(tmp_path / "b.png", image))
    assert [tuple(pixel) for pixel in read[0]] == [(200, 0, 0), (0, 0, 200)]


def test_sixteen_bit_gray_keeps_its_range(tmp_path):
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    read = read_image(save(tmp_path / "a.png", Image.fromarray(values)))
    assert read[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert read_mask_image(tmp_path / "a.png")[0].tolist() == [0, 0, 1, 128, 255]


def test_sixteen_bit_colour(tmp_path):
    import cv2

    values = np.array([[[0, 32768, 65535], [256, 512, 1024]]], np.uint16)  # BGR
    cv2.imwrite(str(tmp_path / "a.png"), values)
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 128, 0], [4, 2, 1]]]


def test_float_tiff(tmp_path):
    path = save(tmp_path / "a.tiff", Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)))
    assert read_image(path)[0, :, 1].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "P"])
def test_other_modes_become_rgb(tmp_path, picture, mode):
    name = "a.tiff" if mode == "CMYK" else "a.png"
    converted = Image.fromarray(picture).convert(mode)
    read = read_image(save(tmp_path / name, converted))
    assert read.shape == (20, 30, 3)
    assert np.array_equal(read, np.asarray(converted.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, picture, orientation):
    turns = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda p: np.rot90(p, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", Image.fromarray(picture), exif=exif)
    expected = turns[orientation](picture)
    assert np.array_equal(read_image(path), expected)
    assert image_size(path) == (expected.shape[1], expected.shape[0])


def test_bad_images(tmp_path, picture, make_video):
    path = save(tmp_path / "a.png", Image.fromarray(picture))
    whole = path.read_bytes()
    cases = {
        "absent.png": (None, "no such file"),
        "empty.png": (b"", "is empty"),
        "words.png": (b"words\n" * 50, "is not an image"),
        "half.png": (whole[: len(whole) // 2], "damaged or cut short"),
        "flipped.png": (whole[:200] + bytes(40) + whole[240:], "damaged or cut short"),
    }
    for name, (data, expected) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        for read in (read_image, read_mask_image):
            with pytest.raises(InputError, match=expected) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(InputError, match="is not an image"):
        read_image(make_video())
    with pytest.raises(InputError, match="is not an image"):
        image_size(tmp_path / "words.png")


def test_half_a_jpeg(tmp_path, assets):
    data = (assets / "images/test.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut short"):
        read_image(tmp_path / "half.jpg")


def test_write_image(tmp_path, picture):
    write_image(tmp_path / "new" / "a.png", picture)
    write_image(tmp_path / "b.png", picture[..., 0])
    assert np.array_equal(read_image(tmp_path / "new" / "a.png"), picture)
    assert np.array_equal(read_mask_image(tmp_path / "b.png"), picture[..., 0])
    for wrong in (picture.astype(np.float32), picture[..., :2], picture[None]):
        with pytest.raises(OutputError, match="expected uint8"):
            write_image(tmp_path / "c.png", wrong)
    with pytest.raises(OutputError, match="a folder has that name"):
        write_image(tmp_path / "new", picture)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.png", "new"]


def test_masks_of_plain_images(tmp_path):
    values = np.arange(0, 240, 8, dtype=np.uint8).reshape(5, 6)
    path = save(tmp_path / "a.png", Image.fromarray(values))
    assert np.array_equal(read_mask_image(path), values)
    path = save(tmp_path / "b.png", Image.fromarray(np.repeat(values[..., None], 3, 2)))
    assert np.array_equal(read_mask_image(path), values)
    path = save(tmp_path / "c.png", Image.fromarray(values > 100))
    assert np.array_equal(read_mask_image(path), np.where(values > 100, 255, 0))


def test_masks_painted_into_alpha(tmp_path):
    rgba = np.zeros((6, 8, 4), np.uint8)
    rgba[..., :3] = (255, 0, 0)
    rgba[2:4, 3:5, 3], rgba[0, 0, 3] = 255, 100
    assert np.array_equal(read_mask_image(save(tmp_path / "a.png", Image.fromarray(rgba))), rgba[..., 3])
    rgba[rgba[..., 3] == 0] = 0  # editors often blacken what is transparent
    rgba[..., :3][rgba[..., 3] > 0] = 0
    assert np.array_equal(read_mask_image(save(tmp_path / "b.png", Image.fromarray(rgba))), rgba[..., 3])


def test_masks_with_other_alpha(tmp_path):
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[:, 3:, :3], rgba[..., 3] = 255, 255
    assert read_mask_image(save(tmp_path / "opaque.png", Image.fromarray(rgba))).max() == 255
    rgba[0, :, 3] = 0
    mask = read_mask_image(save(tmp_path / "holes.png", Image.fromarray(rgba)))
    assert mask[0].max() == 0, "what is transparent is kept"
    assert np.array_equal(mask[1:], rgba[1:, :, 0])


def test_masks_of_labels(tmp_path):
    labels = np.zeros((4, 6), np.uint8)
    labels[1:3, 2:4], labels[3, 5] = 1, 2
    image = Image.fromarray(labels)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    expected = np.where(labels > 0, 255, 0)
    assert np.array_equal(read_mask_image(save(tmp_path / "davis.png", image)), expected)
    ones = np.minimum(labels, 1)
    assert np.array_equal(read_mask_image(save(tmp_path / "ones.png", Image.fromarray(ones))), expected)
    assert read_mask_image(save(tmp_path / "black.png", Image.fromarray(0 * labels))).max() == 0


def test_open_mask_on_an_image(tmp_path):
    values = np.arange(30, dtype=np.uint8).reshape(5, 6)
    mask = open_mask(save(tmp_path / "a.png", Image.fromarray(values)))
    assert (mask.name, mask.width, mask.height, mask.frame_count) == ("a.png", 6, 5, 1)
    assert np.array_equal(masks_of(mask), values[None])


def test_open_mask_on_a_video_and_a_folder(tmp_path):
    masks = np.random.default_rng(0).integers(0, 256, (7, 20, 32), dtype=np.uint8)
    with VideoWriter(tmp_path / "mask.mp4", 16, kind="exact") as writer:
        writer.write(masks)
    with VideoWriter(tmp_path / "masks", 16, kind="png") as writer:
        writer.write(masks)
    for name in ("mask.mp4", "masks"):
        mask = open_mask(tmp_path / name)
        assert (mask.name, mask.width, mask.height, mask.frame_count) == (name, 32, 20, 7)
        assert [len(chunk) for chunk in mask.chunks(3)] == [3, 3, 1]
        assert np.array_equal(masks_of(mask), masks)


def test_open_mask_on_nothing(tmp_path):
    for name, expected in (("absent.png", "no such file"), (".", "folder without images")):
        with pytest.raises(InputError, match=expected):
            open_mask(tmp_path / name)


def test_array_mask():
    masks = np.zeros((5, 4, 6), np.uint8)
    assert [len(chunk) for chunk in ArrayMask(masks).chunks(2)] == [2, 2, 1]
    still = ArrayMask(masks[0])
    assert (still.frame_count, still.height, still.width) == (1, 4, 6)
