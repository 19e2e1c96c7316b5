"""The generator of line drawings with weights made by the goldens' rule, and the sizes it takes and gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from goldens_io import annotator_document, comparable_cases, equal_within, rule_weights
from parity_fixes import FIXES

from vace.annotators.nets.contour import Contour, ContourModule
from vace.annotators.networks import Weights
from vace.errors import CheckpointError


def golden_keys() -> dict[str, tuple[int, ...]]:
    (listed,) = (case["keys"] for case in annotator_document("scribble")["cases"] if "keys" in case)
    return {key: tuple(shape) for key, shape in listed}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("scribble") / "netG_A_latest.pth"
    torch.save(rule_weights("scribble"), path)
    return path


def made(path, batch_size=None) -> Contour:
    return Contour(Weights("original", (path,)), device=torch.device("cpu"), batch_size=batch_size)


@pytest.fixture(scope="module")
def contour(stored):
    return made(stored)


@pytest.mark.parity
def test_tensor_names():
    assert {key: tuple(value.shape) for key, value in ContourModule().state_dict().items()} == golden_keys()


@pytest.mark.parity
def test_drawings_as_the_original(contour, stored):
    module = ContourModule().eval()
    module.load_state_dict(torch.load(stored, weights_only=True))
    cut = FIXES["scribble_size"][1]
    cases = [case for case in comparable_cases("scribble") if "inputs" in case]
    assert cases
    for case in cases:
        image = case["inputs"]["image"]
        with torch.inference_mode():
            found = module(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
        assert equal_within("scribble", found, case["output"]["net_out"][:, 0], 1e-4), case["id"]
        drawn = contour.lines(image[None])[0]
        expected = cut(case["output"]["out"], image)
        assert drawn.dtype == np.uint8
        assert equal_within("scribble, uint8", np.stack([drawn] * 3, axis=-1), expected, 1), case["id"]


@pytest.mark.parametrize("size", [(1, 1), (2, 30), (7, 9), (33, 41)])
def test_drawings_have_the_size_of_their_pictures(contour, size, noise):
    drawn = contour.lines(noise(1, *size))
    assert drawn.shape == (1, *size) and drawn.dtype == np.uint8


def test_padding_of_small_pictures_leaves_larger_ones_alone(contour, noise):
    """Below 8 pixels the last row is repeated; the rest of the drawing is that of the padded picture."""
    small = noise(1, 5, 40)
    padded = np.pad(small, ((0, 0), (0, 3), (0, 0), (0, 0)), mode="edge")
    assert np.array_equal(contour.lines(small), contour.lines(padded)[:, :5])


def test_batches_change_nothing(stored, contour, noise):
    frames = noise(3, 24, 36)
    alone = contour.lines(frames)
    together = made(stored, batch_size=2).lines(frames)
    assert len(np.unique(alone)) > 50
    assert np.abs(alone.astype(int) - together).max() <= 1


def test_other_files_are_refused(stored, tmp_path):
    table = torch.load(stored, weights_only=True)
    table["model5.weight"] = table.pop("model4.1.weight")
    torch.save(table, tmp_path / "netG_A_latest.pth")
    with pytest.raises(CheckpointError, match="1 missing: model4.1.weight; 1 unknown: model5.weight"):
        made(tmp_path / "netG_A_latest.pth")
