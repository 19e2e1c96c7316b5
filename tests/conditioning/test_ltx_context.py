"""LTX's context: halves of the video, mask channels, positions and tokens, against the original and by hand."""

from __future__ import annotations

import pytest
import torch
from goldens_io import equal_within, goldens_dir, model_document, model_tensors

from vace.conditioning.ltx_context import (
    fold_mask,
    join,
    patchify,
    positions,
    split,
    unpatchify,
    whole_if_white,
)
from vace.conditioning.pixels import on_canvas
from vace.errors import InputError


def stored_mask(tensors: dict, kind: str, frames: int, height: int, width: int) -> torch.Tensor:
    """The mask a golden case was made with: stored, or all ones."""
    return tensors["src_mask"] if kind == "src_mask" else torch.ones(1, frames, height, width)


def positions_as_stored(size: dict, refs: int) -> torch.Tensor:
    latent_frames, h, w = size["latent"]
    return positions(latent_frames + refs, h, w, size["frame_rate"])


@pytest.mark.parity
def test_contexts_equal_the_original():
    document, tensors = model_document("ltx", "vace_context"), model_tensors("ltx", "vace_context")
    size, compared = document["size"], 0
    for name, case in document["cases"].items():
        mask = stored_mask(tensors, case["mask"], size["frames"], size["height"], size["width"])
        folded = fold_mask(whole_if_white(mask), case["refs"])
        if f"{name}.source_mask_latents" in tensors:
            expected = tensors[f"{name}.source_mask_latents"][0]
            assert equal_within("LTX mask channels", patchify(folded), expected, 1e-6), name
            compared += 1
        if f"{name}.source_latents" in tensors:
            refs = list(tensors[f"{name}.ref_latents"]) if case["refs"] else []
            unchanged, changed = (tensors[f"{name}.{half}_latents"][0] for half in ("unchanged", "changed"))
            tokens = join(unchanged, changed, refs, folded)
            assert tokens.shape == (case["tokens"], 384), name
            assert equal_within("LTX context, joined", tokens[:, :256], tensors[f"{name}.source_latents"][0]), name
            assert torch.equal(tokens[:, 256:], patchify(folded)), name
            compared += 1
        for index, canvas in enumerate(tensors.get(f"{name}.ref_pixels_on_canvas", ())):
            found = on_canvas(tensors[f"src_ref_image_{index}"], size["width"], size["height"])
            assert equal_within("LTX references on their canvas", found, canvas, 1e-6), name
    assert compared > 0


@pytest.mark.parity
def test_positions_equal_the_original():
    document, tensors = model_document("ltx", "vace_context"), model_tensors("ltx", "vace_context")
    compared = 0
    for name, case in document["cases"].items():
        if f"{name}.indices_grid" in tensors:
            found = positions_as_stored(document["size"], case["refs"])
            assert found.dtype == torch.float32
            assert equal_within("LTX positions", found, tensors[f"{name}.indices_grid"][0]), name
            compared += 1
    assert compared > 0


@pytest.mark.parity
@pytest.mark.parametrize("path", sorted((goldens_dir() / "ltx").glob("e2e_*.json")), ids=lambda path: path.stem)
def test_positions_and_masks_of_whole_pipelines(path):
    document, tensors = model_document("ltx", path.stem), model_tensors("ltx", path.stem)
    args, refs = document["args"], document["n_refs"]
    frames, height, width = (args[name] for name in ("num_frames", "height", "width"))
    latent_frames = (frames - 1) // 8 + 1 + refs
    found = positions(latent_frames, height // 32, width // 32, args["frame_rate"])
    assert equal_within("LTX positions", found, tensors["indices_grid"][0])
    kind = "src_mask" if document["src_mask"] == "stored" else "ones"
    folded = fold_mask(whole_if_white(stored_mask(tensors, kind, frames, height, width)), refs)
    assert equal_within("LTX mask channels", patchify(folded), tensors["source_mask_latents"][0], 1e-6)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_halves_keep_the_grays_of_a_mask():
    frames, mask = noise(3, 9, 32, 64) * 2 - 1, noise(1, 9, 32, 64, seed=1)
    unchanged, changed = split(frames, mask)
    assert torch.equal(changed, frames * mask) and changed.shape == (3, 9, 32, 64)
    assert (unchanged + changed - frames).abs().max() <= 1e-6
    mask[:, :, :, :32] = 1
    unchanged, _ = split(frames, mask)
    assert not unchanged[..., :32].any() and unchanged[..., 32:].any()


def test_of_a_mask_of_several_channels_the_first_counts():
    frames, mask = noise(3, 9, 32, 32), noise(3, 9, 32, 32, seed=1)
    assert torch.equal(split(frames, mask)[1], split(frames, mask[:1])[1])
    assert torch.equal(fold_mask(mask), fold_mask(mask[:1]))


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(InputError, match="src_mask is 9 frames of 32x32 and src_video 17 frames of 32x32"):
        split(torch.zeros(3, 17, 32, 32), torch.zeros(1, 9, 32, 32))


def test_a_mask_that_is_white_throughout_is_whole():
    soft = 0.5 + 0.4 * noise(1, 9, 32, 32) + 1e-3
    assert torch.equal(whole_if_white(soft), torch.ones(1, 9, 32, 32))
    soft[0, 8, 31, 31] = 0.5
    assert whole_if_white(soft) is soft


def test_mask_channels_are_samples_of_time_rows_and_columns():
    frames, height, width = 17, 64, 96
    ramp = torch.arange(frames, dtype=torch.float32).reshape(1, -1, 1, 1).expand(1, frames, height, width)
    folded = fold_mask(ramp)
    assert folded.shape == (128, 3, 2, 3)
    times = torch.linspace(0, frames - 1, 6)
    for channel in (0, 63, 64, 127):  # the first time is in the first half of the channels
        assert torch.allclose(folded[channel, :, 1, 2], times[channel // 64 :: 2])
    ramp = torch.arange(width, dtype=torch.float32).expand(1, frames, height, width)
    columns = torch.linspace(0, width - 1, 24)
    folded = fold_mask(ramp)
    for channel in range(8):
        assert torch.allclose(folded[channel, 0, 0], columns[channel::8], atol=1e-5)
    ramp = torch.arange(height, dtype=torch.float32).reshape(1, 1, -1, 1).expand(1, frames, height, width)
    rows = torch.linspace(0, height - 1, 16)
    folded = fold_mask(ramp)
    for channel in range(8):
        assert torch.allclose(folded[64 + 8 * channel, 2, :, 1], rows[channel::8], atol=1e-5)


@pytest.mark.parametrize(("frames", "refs"), [(1, 0), (1, 2), (9, 1), (97, 0)])
def test_references_have_no_mask(frames, refs):
    folded = fold_mask(torch.ones(1, frames, 32, 64), refs)
    assert folded.shape == (128, (frames - 1) // 8 + 1 + refs, 1, 2)
    assert not folded[:, :refs].any()
    assert torch.equal(folded[:, refs:], torch.ones_like(folded[:, refs:]))


def test_positions_by_hand():
    grid = positions(3, 2, 2, 16)
    assert grid.shape == (3, 12) and grid.dtype == torch.float32
    assert grid[0].tolist() == [0.0] * 4 + [0.5] * 4 + [1.0] * 4
    assert grid[1].tolist() == [0.0, 0.0, 32.0, 32.0] * 3
    assert grid[2].tolist() == [0.0, 32.0] * 6


def test_positions_take_the_original_s_rounding():
    """A rate that is no round number: the rate is inverted in float32 before it is multiplied."""
    fps = 25.129531860351562
    inverse = torch.tensor(1.0) / torch.tensor(fps / 8)
    expected = torch.arange(13, dtype=torch.float32) * inverse
    found = positions(13, 1, 1, fps)[0]
    assert torch.equal(found, expected)
    assert not torch.equal(found, torch.arange(13, dtype=torch.float32) * 8 / fps)


def test_tokens_go_there_and_back():
    latents = noise(5, 3, 2, 4)
    tokens = patchify(latents)
    assert tokens.shape == (24, 5)
    assert torch.equal(tokens[1], latents[:, 0, 0, 1])  # columns run first
    assert torch.equal(tokens[4], latents[:, 0, 1, 0])
    assert torch.equal(tokens[8], latents[:, 1, 0, 0])
    assert torch.equal(unpatchify(tokens, 3, 2, 4), latents)
    with pytest.raises(ValueError, match="24 tokens are not 3x2x3"):
        unpatchify(tokens, 3, 2, 3)


def test_references_stand_in_front_in_their_order():
    unchanged, changed = noise(128, 2, 1, 2), noise(128, 2, 1, 2, seed=1)
    refs = [noise(128, 1, 1, 2, seed=seed) for seed in (2, 3)]
    context = unpatchify(join(unchanged, changed, refs, fold_mask(torch.ones(1, 9, 32, 64), 2)), 4, 1, 2)
    assert context.shape == (384, 4, 1, 2)
    assert torch.equal(context[:128], torch.cat([*refs, unchanged], dim=1))
    assert not context[128:256, :2].any() and torch.equal(context[128:256, 2:], changed)
    assert not context[256:, :2].any() and bool((context[256:, 2:] == 1).all())
