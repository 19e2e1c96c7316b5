"""SAM 2 on pictures: both layouts of weights, prompts, and what happens to the pixels before and after."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tiny_sam2
import torch

from vace.annotators.nets import loading_hf, sam2_keys
from vace.annotators.nets.prompts import Prompt
from vace.annotators.nets.sam2 import Sam2, coordinates
from vace.annotators.networks import NETWORKS, Networks, Weights
from vace.errors import CheckpointError, InputError
from vace.media.clip import ArrayClip

CPU = torch.device("cpu")
TINY_SIZE = ((tiny_sam2.TINY.width, tiny_sam2.TINY.blocks), sam2_keys.Size(**tiny_sam2.TINY_SIZE))
HEIGHT, WIDTH = 48, 70
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[10:30, 20:50] = 200
PROMPTS = {
    "box": Prompt(box=(5, 6, 40.5, 30)),
    "points": Prompt(points=np.float32([[10, 12], [30, 20]])),
    "mask": Prompt(mask=MASK),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same weights in both layouts: original/VACE-Annotators/sam2/*.pt and transformers/sam2.1-hiera-tiny."""
    root = tmp_path_factory.mktemp("models")
    path = root / "original" / "VACE-Annotators" / NETWORKS["segment"].files[0].path
    tiny_sam2.write_original(path, tiny_sam2.drawn_tensors())
    with pytest.MonkeyPatch.context() as patch, loading_hf.quiet():
        patch.setitem(sam2_keys.SIZES, *TINY_SIZE)
        made = Sam2(Weights("original", (path,)), device=CPU)
        made.model.save_pretrained(root / "transformers" / "sam2.1-hiera-tiny")
    return root


@pytest.fixture(scope="module")
def source(folder):
    return folder / "transformers" / "sam2.1-hiera-tiny"


@pytest.fixture(scope="module")
def sam2(source):
    return Sam2(Weights("transformers", folder=source), device=CPU)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def test_both_layouts_give_the_same_masks(folder, sam2, image, monkeypatch):
    monkeypatch.setitem(sam2_keys.SIZES, *TINY_SIZE)
    monkeypatch.setenv("VACE_MODELS", str(folder / "original"))
    monkeypatch.chdir(folder)
    networks, masks = Networks("neural", batch_size=3, no_download=True), {}
    original = networks.get("segment")
    assert isinstance(original, Sam2) and networks.chosen["segment"].weights == "sam2.1_hiera_large.pt"
    for name, prompt in PROMPTS.items():
        masks[name] = original.mask(image, prompt)
        assert masks[name].shape == (HEIGHT, WIDTH) and masks[name].dtype == np.uint8
        assert set(np.unique(masks[name])) == {0, 255}, name  # something is cut out, and something left
        assert np.array_equal(masks[name], sam2.mask(image, prompt)), name
    assert not np.array_equal(masks["box"], masks["points"])  # prompts are heard
    assert not np.array_equal(masks["box"], masks["mask"])


@pytest.mark.parametrize("name", ["box", "points"])
def test_masks_are_those_of_transformers_picture_network(source, sam2, image, name):
    """`Sam2Model`, with the prompt in the form it takes, from the same weights."""
    from transformers import Sam2Model

    network = loading_hf.from_folder(Sam2Model, source, (".*",))
    prompt = PROMPTS[name]
    points, labels = coordinates(prompt, WIDTH, HEIGHT, 64)
    if name == "box":
        given = {"input_boxes": torch.from_numpy(points).reshape(1, 1, 4)}
    else:
        given = {"input_points": torch.from_numpy(points)[None, None]}
        given["input_labels"] = torch.from_numpy(labels)[None, None]
    with torch.inference_mode():
        logits = network(pixel_values=sam2._pixels(image[None]), multimask_output=False, **given).pred_masks[0]
        full = torch.nn.functional.interpolate(logits, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    assert np.array_equal(sam2.mask(image, prompt) > 0, full[0, 0].numpy() > 0)


def test_a_mask_comes_without_points(sam2):
    """The original's decoder gets no point beside a mask."""
    sparse, dense = sam2._prompt(PROMPTS["mask"], WIDTH, HEIGHT)
    assert sparse.shape == (1, 1, 0, 128) and dense.shape == (1, 128, 4, 4)
    sparse, _ = sam2._prompt(PROMPTS["points"], WIDTH, HEIGHT)
    assert sparse.shape == (1, 1, 3, 128)  # an empty one ends the points


def test_coordinates():
    points, kinds = coordinates(Prompt(box=(10, 20, 30, 40)), 100, 50, 1024)
    assert np.allclose(points, [[102.4, 409.6], [307.2, 819.2]]) and kinds.tolist() == [2, 3]
    points, kinds = coordinates(Prompt(points=np.float32([[50, 25], [0, 50]])), 100, 50, 64)
    assert points.tolist() == [[32, 32], [0, 64]] and kinds.tolist() == [1, 1]
    assert points.dtype == np.float32 and kinds.dtype == np.int64


def triangle_weights(source: int, target: int) -> np.ndarray:
    """[target,source] of bilinear resizing with antialias: a triangle as wide as the scale, cut at the border."""
    scale = source / target
    reach = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / reach
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(200, 90), (40, 61)])
def test_pixels_are_resized_with_antialias_and_normalised(sam2, size):
    frames = np.random.default_rng(2).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    down, across = (triangle_weights(side, 64) for side in size)
    expected = np.einsum("yh,thwc,xw->tcyx", down, frames / 255, across, optimize=True)
    expected = (expected - np.reshape((0.485, 0.456, 0.406), (3, 1, 1))) / np.reshape((0.229, 0.224, 0.225), (3, 1, 1))
    assert np.abs(sam2._pixels(frames).numpy() - expected).max() < 1e-4


def test_networks_make_it_from_a_folder_of_models(folder, sam2, image, monkeypatch):
    monkeypatch.setenv("VACE_MODELS", str(folder / "transformers"))
    monkeypatch.chdir(folder)
    networks = Networks("neural", no_download=True)
    made = networks.get("segment")
    assert isinstance(made, Sam2) and networks.chosen["segment"].weights == "facebook/sam2.1-hiera-tiny"
    assert np.array_equal(made.mask(image, PROMPTS["box"]), sam2.mask(image, PROMPTS["box"]))


@pytest.mark.parametrize(
    "prompt, message",
    [
        (Prompt(), "nothing given; give a box, points or a mask"),
        (Prompt(box=(1, 2, 3, 4), mask=MASK), "box and mask given"),
        (Prompt(mask=np.zeros((4, 4), np.uint8)), "--mask: black everywhere"),
        (Prompt(points=np.zeros((0, 2), np.float32)), r"no dot of pure white \(255\)"),
    ],
)
def test_prompts_that_mark_nothing(sam2, image, prompt, message):
    with pytest.raises(InputError, match=message):
        sam2.mask(image, prompt)
    with pytest.raises(InputError, match=message):
        sam2.track(ArrayClip(image[None]), prompt)  # at once, before the first mask is asked for


def test_folders_that_do_not_fit(source, tmp_path):
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    tensors = load_file(source / "model.safetensors")
    del tensors["no_object_pointer"]
    tensors["memory_attention.layer_norm.bias"] = torch.zeros(7)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    faults = r"1 missing: no_object_pointer; 1 of another shape: .*\(7,\), not \(128,\)"
    with pytest.raises(CheckpointError, match=faults):
        Sam2(Weights("transformers", folder=tmp_path), device=CPU)
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Sam2(Weights("transformers", folder=tmp_path), device=CPU)


def test_loading_is_quiet_and_leaves_transformers_as_it_was(source, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    assert before[1]
    Sam2(Weights("transformers", folder=source), device=CPU)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_looking_at_it_needs_no_torch():
    modules = "vace.annotators.nets.sam2, vace.annotators.nets.grounding_dino"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
