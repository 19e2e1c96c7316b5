"""Reference images and source videos as LTX takes them, against the original's loaders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from goldens_io import annotator_pack, equal_within, goldens_dir, model_document, model_tensors
from parity_fixes import FIXES
from PIL import Image

from vace.conditioning.frames import constant_timestamps, uniform_fps, uniform_ids
from vace.conditioning.ltx_references import crop_reference, reference_size
from vace.conditioning.pixels import letterbox, resize_crop, to_model_space
from vace.conditioning.sizes import LTX_STRIDE, Size, fit_area, source_frames, token_count
from vace.errors import InputError
from vace.media.image import read_image

SIZE = Size(768, 512, 4992)


# Where we fix the original, its golden is read through one of these.
def fixed_side(side: int) -> int:
    return FIXES["smallest_reference"][1](side)


def as_tensor(image: np.ndarray) -> torch.Tensor:
    """An image of the canvas's size, as the shared letterbox leaves it."""
    return letterbox(image, image.shape[1], image.shape[0])


def other_goldens() -> dict[str, dict]:
    """Cases of the same loader among the annotators' goldens, which not every set has."""
    has_them = (goldens_dir() / "annotators" / "image_processor.npz").exists()
    return annotator_pack("image_processor") if has_them else {}


@pytest.mark.parity
def test_reference_images_equal_the_original():
    tensors, compared = model_tensors("ltx", "preprocess"), 0
    for name in [name.removesuffix("_u8") for name in tensors if name.startswith("image") and name.endswith("_u8")]:
        if f"{name}_out" in tensors:
            found = as_tensor(crop_reference(tensors[f"{name}_u8"].numpy()))
            assert equal_within("LTX reference images", found, tensors[f"{name}_out"], 1e-6), name
            compared += 1
    for name, case in other_goldens().items():
        image = case.get("inputs", {}).get("image")
        if image is not None and image.ndim == 3 and 0 not in case["output"]["size"]:
            found = as_tensor(crop_reference(image, case["params"]["seq_len"]))
            assert equal_within("LTX reference images", found, case["output"]["tensor"], 1e-6), name
    assert compared > 0


@pytest.mark.parity
def test_transparent_references_equal_the_original(tmp_path):
    tensors, compared = model_tensors("ltx", "preprocess"), 0
    for name in [name.removesuffix("_u8") for name in tensors if name.startswith("rgba") and name.endswith("_u8")]:
        Image.fromarray(tensors[f"{name}_u8"].numpy()).save(tmp_path / "image.png")
        found = as_tensor(crop_reference(read_image(tmp_path / "image.png")))
        assert equal_within("LTX reference images", found, tensors[f"{name}_out"], 1e-6), name
        compared += 1
    assert compared > 0


@pytest.mark.parity
def test_sizes_of_references_equal_the_original():
    document = model_document("ltx", "preprocess")
    rows = [(height, width, 384, *sides) for height, width, sides in document["image_target_sizes"]]
    rows += [(height, width, 384, *sides) for height, width, *sides in document["image_sizes_in_out"]]
    rows += [row for case in other_goldens().values() for row in case.get("rows", ())]
    for height, width, cells, *expected in rows:
        found = reference_size(width, height, cells)[::-1]
        expected = [fixed_side(side) for side in expected]
        assert equal_within("LTX sizes of references", found, expected), (width, height, cells)
    assert rows


@pytest.mark.parity
def test_frames_and_sizes_of_source_videos_equal_the_original():
    rows = model_document("ltx", "preprocess")["video_frame_ids"]
    for row in rows:
        stamps = constant_timestamps(row["n"], row["fps"])
        width, height = fit_area(row["w"], row["h"], SIZE.area, LTX_STRIDE)
        assert [height, width] == row["out_hw"], row
        ids = uniform_ids(stamps, source_frames(row["w"], row["h"], SIZE, LTX_STRIDE), LTX_STRIDE[0])
        assert equal_within("LTX frame ids", ids, row["frame_ids"]), row
        assert uniform_fps(stamps, len(ids)) == row["out_fps"], row
        assert token_count(width, height, len(ids), stride=LTX_STRIDE) == row["latent_tokens"], row
    assert rows


@pytest.mark.parity
def test_resized_source_videos_equal_the_original():
    tensors, compared = model_tensors("ltx", "preprocess"), 0
    for name, expected in tensors.items():
        if not name.startswith("resize_crop_"):
            continue
        height, width = expected.shape[2:]
        found = to_model_space(resize_crop(tensors["frames_u8"].numpy(), width, height))
        assert equal_within("LTX source videos", found, expected), name
        compared += 1
    assert compared > 0


def gradient(height: int, width: int) -> np.ndarray:
    """Red grows from left to right, green from top to bottom."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = np.linspace(0, 255, width)
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    return image


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((768, 512), (768, 512)),
        ((800, 500), (768, 480)),
        ((3000, 2000), (768, 512)),
        ((1920, 1080), (832, 448)),
        ((100, 70), (96, 64)),
        ((31, 64), (32, 64)),
        ((5, 5), (32, 32)),
        ((1, 1000), (32, 992)),
        ((40000, 20), (12288, 32)),
    ],
)
def test_sizes_are_whole_cells(given, expected):
    assert reference_size(*given) == expected
    assert expected[0] * expected[1] <= 384 * 32 * 32


def test_a_fitting_image_is_not_touched():
    image = gradient(64, 96)
    assert crop_reference(image) is image


@pytest.mark.parametrize(("height", "width"), [(70, 100), (100, 70), (20, 20), (10, 200), (900, 1500)])
def test_the_centre_is_kept_and_the_picture_not_squeezed(height, width):
    cropped = crop_reference(gradient(height, width))
    assert cropped.dtype == np.uint8 and cropped.flags.writeable
    assert cropped.shape[1::-1] == reference_size(width, height)
    middle = cropped[cropped.shape[0] // 2, cropped.shape[1] // 2].astype(int)
    assert abs(middle[:2] - 127).max() <= 6
    scale = max(cropped.shape[1] / width, cropped.shape[0] / height)
    across = np.diff(cropped[0, 4:-4, 0].astype(float)).mean() if cropped.shape[1] > 16 else 0.0
    assert across == pytest.approx(255 / (width - 1) / scale, rel=0.2)


@pytest.mark.parametrize("shape", [(0, 10, 3), (10, 0, 3)])
def test_an_image_without_pixels_is_refused(shape):
    with pytest.raises(InputError, match="src_ref_images holds an image of .* pixels: give a real one"):
        crop_reference(np.zeros(shape, dtype=np.uint8))
