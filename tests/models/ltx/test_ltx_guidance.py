"""Guidance of LTX against the original's steps, and each of its parts alone."""

from __future__ import annotations

import pytest
import torch
from goldens_io import equal_within, goldens_dir, model_document, model_tensors

from vace.models.ltx.cost import guided_rows
from vace.models.ltx.guidance import guide

BAR = 2e-6  # of values around 5: some roundings of float32


@pytest.mark.parity
@pytest.mark.parametrize("path", sorted((goldens_dir() / "ltx").glob("e2e_*.json")), ids=lambda path: path.stem)
def test_guided_velocities_equal_the_original(path):
    document, tensors = model_document("ltx", path.stem), model_tensors("ltx", path.stem)
    args = document["args"]
    needed = guided_rows(args["guidance_scale"], args["stg_scale"], args["stg_skip_layers"])
    assert len(needed) == len(tensors["prompt_embeds_batch"])  # the original's rows
    for index in range(args["num_inference_steps"]):
        if f"step{index}.model_out_batch" not in tensors:
            continue
        rows = list(tensors[f"step{index}.model_out_batch"])
        negative = rows.pop(0) if needed[-1][0] else None
        positive = rows.pop(0)
        perturbed = rows.pop(0) if needed[-1][1] else None
        scales = args["guidance_scale"], args["stg_scale"], args["stg_rescale"]
        found = guide(negative, positive, perturbed, *scales)
        assert equal_within("LTX guidance", found, tensors[f"step{index}.guided"][0], BAR), index


@pytest.fixture
def rows() -> list[torch.Tensor]:
    """Answers to the negative prompt, to the prompt, and perturbed."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(12, 8, generator=generator) for _ in range(3)]


def test_towards_the_prompt(rows):
    negative, positive, _ = rows
    assert torch.allclose(guide(negative, positive, None, 3.0, 1.0, 0.7), 3 * positive - 2 * negative, atol=1e-6)
    assert torch.equal(guide(None, positive, None, 3.0, 1.0, 0.7), positive)


def test_stg_needs_no_negative_row(rows):
    _, positive, perturbed = rows
    found = guide(None, positive, perturbed, 1.0, 0.5, 1.0)
    assert torch.allclose(found, 1.5 * positive - 0.5 * perturbed, atol=1e-6)


def test_both_add_up(rows):
    negative, positive, perturbed = rows
    found = guide(negative, positive, perturbed, 3.0, 2.0, 1.0)
    assert torch.allclose(found, 3 * positive - 2 * negative + 2 * (positive - perturbed), atol=1e-5)


def test_the_rescale_brings_the_spread_back(rows):
    negative, positive, perturbed = rows
    plain = guide(negative, positive, perturbed, 3.0, 1.0, 1.0)
    nearly = guide(negative, positive, perturbed, 3.0, 1.0, 0.999999)
    assert plain.std() > 1.5 * positive.std()
    assert float(nearly.std()) == pytest.approx(float(positive.std()), rel=1e-4)
    half = guide(negative, positive, perturbed, 3.0, 1.0, 0.5)
    assert float(half.std()) == pytest.approx(float(plain.std() + positive.std()) / 2, rel=1e-4)
    assert torch.allclose(half / half.std(), plain / plain.std(), atol=1e-5)


def test_at_0_and_at_1_the_rescale_is_off(rows):
    assert torch.allclose(guide(*rows, 3.0, 1.0, 0.0), guide(*rows, 3.0, 1.0, 1.0))


def test_without_stg_there_is_no_rescale(rows):
    negative, positive, _ = rows
    assert torch.equal(guide(negative, positive, None, 3.0, 0.0, 0.7), guide(negative, positive, None, 3.0, 0.0, 1.0))


def test_the_spread_is_that_of_all_values(rows):
    negative, positive, perturbed = rows
    together = guide(negative, positive, perturbed, 3.0, 1.0, 0.7)
    apart = [guide(*(row[:6] for row in rows), 3.0, 1.0, 0.7), guide(*(row[6:] for row in rows), 3.0, 1.0, 0.7)]
    assert not torch.allclose(together, torch.cat(apart), atol=1e-3)


def test_a_flat_result_has_no_spread_to_bring_back():
    flat = torch.zeros(12, 8)
    assert torch.equal(guide(flat, flat, flat, 3.0, 1.0, 0.7), flat)


def test_the_arithmetic_is_float32(rows):
    halved = [row.bfloat16() for row in rows]
    found = guide(*halved, 3.0, 1.0, 0.7)
    assert found.dtype == torch.float32
    assert torch.equal(found, guide(*(row.float() for row in halved), 3.0, 1.0, 0.7))
    assert guide(None, halved[1], None, 1.0, 0.0, 0.7).dtype == torch.float32


@pytest.mark.parametrize(
    ("guidance_scale", "stg_scale", "skips", "expected"),
    [
        (3.0, 1.0, [2], [(0, 0), (1, 0), (1, 1)]),
        (3.0, 0.0, [2], [(0, 0), (1, 0)]),
        (3.0, 1.0, [], [(0, 0), (1, 0)]),
        (1.0, 1.0, [2], [(0, 0), (0, 1)]),
        (0.5, 1.0, [2], [(0, 0), (0, 1)]),
        (1.0, 0.0, [2], [(0, 0)]),
    ],
)
def test_only_the_rows_that_count_are_asked_for(guidance_scale, stg_scale, skips, expected):
    """The number of each row's text, and of the layers it skips."""
    rows = guided_rows(guidance_scale, stg_scale, skips)
    assert [(text, len(skipped)) for text, skipped, _ in rows] == expected
