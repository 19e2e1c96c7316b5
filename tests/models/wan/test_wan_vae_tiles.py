"""The VAE in tiles: the whole picture's result where a tile sees far enough, near it where not, and less memory."""

from __future__ import annotations

import pytest
import torch
from memory_counter import counted

from vace.errors import InputError
from vace.models.wan import vae, vae_tiles
from vace.models.wan.vae_tiles import Tiles, spans

SMALL = Tiles(8, 4)


@pytest.fixture(scope="module")
def model():
    from vace.models.checkpoints import find_checkpoint
    from vace.models.loading import build
    from vace.models.parts import read_part

    return build(read_part(find_checkpoint("tiny", None), "vae"), torch.float32)


def clip(frames: int, height: int, width: int) -> torch.Tensor:
    """A disc that moves over a slanted gradient."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    pictures = []
    for i in range(frames):
        disc = ((x - 0.1 * i + 0.4) ** 2 + y**2 < 0.1).float()
        pictures.append(torch.stack([disc + 0.5 * x, 0.6 * y - disc, 0.3 * (x + y)]).clamp(-1, 1))
    return torch.stack(pictures, dim=1)


def relative(found, true) -> float:
    return ((found - true).norm() / true.norm()).item()


@pytest.mark.parametrize("size", [1, 8, 9, 13, 30, 57, 104])
def test_tiles_cover_the_picture_and_overlap(size):
    found = spans(size, SMALL)
    covered = torch.zeros(size)
    for span in found:
        covered[span.at()] += span.weights()
        assert span.end - span.start == min(size, SMALL.side) and span.weights().min() > 0
    assert covered.min() > 0 and found[0].start == 0 and found[-1].end == size
    assert all(a.end - b.start >= SMALL.overlap for a, b in zip(found, found[1:], strict=False))


@pytest.mark.parametrize("tiles", [Tiles(8, 8), Tiles(4, -1)])
def test_tiles_that_cannot_advance_are_told(tiles):
    with pytest.raises(InputError, match="give an overlap below the side"):
        spans(20, tiles)


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_one_tile_is_the_whole(model, frames):
    video = clip(frames, 32, 48)
    latents = vae.encode(model, [video])[0]
    assert torch.equal(vae_tiles.encode(model, [video])[0], latents)
    whole = list(vae.decode_chunks(model, latents))
    tiled = list(vae_tiles.decode_chunks(model, latents))
    assert [chunk.shape for chunk in tiled] == [chunk.shape for chunk in whole]
    assert torch.equal(torch.cat(tiled, dim=1), torch.cat(whole, dim=1))


def test_frames_after_the_last_4n_plus_1_are_dropped(model):
    video = clip(7, 96, 32)
    assert torch.equal(vae_tiles.encode(model, [video], SMALL)[0], vae_tiles.encode(model, [video[:, :5]], SMALL)[0])


def test_error_against_the_whole(model):
    """The embedded model, 9 frames of 160x96, tiles of 64 pixels: latents were 0.031 off; the bars are near twice."""
    video = clip(9, 96, 160)
    latents = vae.encode(model, [video])[0]
    encoded = relative(vae_tiles.encode(model, [video], SMALL)[0], latents)
    true = vae.decode(model, latents)
    decoded = vae_tiles.decode(model, latents, SMALL)
    error, worst = relative(decoded, true), (decoded - true).abs().max().item()
    print(f"tiles of 8 by 8, overlap 4: latents {encoded:.1e}, pixels {error:.1e}, the worst {worst:.3f} of 2")
    assert 0 < encoded < 0.06 and 0 < error < 0.02


def test_error_of_the_default_tiles(model):
    """A picture of 320x64 in two tiles of 32 latent pixels: measured 6e-4."""
    latents = vae.encode(model, [clip(1, 64, 320)])[0]
    error = relative(vae_tiles.decode(model, latents), vae.decode(model, latents))
    print(f"tiles of 32, overlap 8: {error:.1e}")
    assert 0 < error < 1.5e-3


@pytest.mark.parametrize("tiles", [SMALL, vae_tiles.TILES])
def test_frames_are_yielded_while_the_last_tile_is_decoded(model, tiles, monkeypatch):
    """One piece for each of its latent frames, before the next of them is decoded."""
    latents = torch.zeros(model.config.z_dim, 4, 8, 12)
    decoded, rest = [], vae_tiles._decode_rest

    def counted(*given):
        decoded.append(1)
        return rest(*given)

    monkeypatch.setattr(vae_tiles, "_decode_rest", counted)
    count = 4 * (len(spans(12, tiles)) - 1)
    for i, piece in enumerate(vae_tiles.decode_chunks(model, latents, tiles)):
        assert len(decoded) == count + i + 1 and piece.shape == (3, 1 if i == 0 else 4, 64, 96)
    assert len(decoded) == 4 * len(spans(12, tiles))


@pytest.mark.slow
def test_no_whole_video_is_ever_in_memory(model):
    """Twice as long a clip takes twice the features of the middle, which are small, and no more of anything else."""
    peaks = {}
    for frames in (6, 12):
        latents = torch.zeros(model.config.z_dim, frames, 8, 20)
        peaks[frames] = counted(lambda given=latents: [None for _ in vae_tiles.decode_chunks(model, given, SMALL)])[0]
    video = 3 * (4 * 12 - 3) * 64 * 160 * 4
    features = 6 * 8 * 20 * model.config.base_dim * model.config.dim_mult[-1] * 4
    print(f"12 latent frames: {peaks[12]} bytes at most, {peaks[6]} for 6; the video is {video}, features {features}")
    assert peaks[12] - peaks[6] < 2 * features < video / 4


def test_a_temporary_folder_that_is_full_is_told(model, monkeypatch):
    from vace.errors import OutputError
    from vace.media import spool

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool.tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match="TMPDIR"):
        vae_tiles.decode(model, torch.zeros(model.config.z_dim, 1, 8, 20), SMALL)


def test_tiles_take_less_memory_than_the_whole(model):
    latents = vae.encode(model, [clip(5, 128, 256)])[0]
    whole = counted(lambda: [None for _ in vae.decode_chunks(model, latents)])[0]
    device = []

    def piece(feature, cache, i):
        device.append(counted(lambda: vae_tiles._decode_rest(model, feature, cache, i))[0])

    for span in spans(latents.shape[3], SMALL)[:1]:
        cache = [None] * (vae._causal_convolutions(model.decoder.up_blocks) + 1)
        for i, feature in enumerate(vae_tiles._decode_middle(model, latents)):
            piece(feature[..., :8, span.at()].contiguous(), cache, i == 0)
    assert max(device) < whole / 4
