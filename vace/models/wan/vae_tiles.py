"""Encoding and decoding with the Wan VAE in spatial tiles, for devices that cannot hold a whole picture's features.

The middle of encoder and decoder, whose attention looks over the whole picture, works at the latents' size and is
cheap: it sees the picture whole. Only the stages between the latents' size and the pixels' are tiled, and tiles are
blended linearly where they overlap. So what differs from `vace.models.wan.vae` is only how far the convolutions of
those stages look beyond a tile: at most 13 latent pixels. Features between the two halves, and pictures to encode, lie
in the processor's memory.

A tile goes through all of its frames before the next one begins: to take tiles in step would keep the caches of all of
them, 0.6 GB each with the published VAE. In decoding each tile's pixels wait in a temporary file, and frames are whole
as the last tile comes along; so no more than a chunk of a video is ever in memory.

Relative error against the whole picture, of the embedded model: 6e-4 of a picture in the default tiles; with tiles of
8 x 8 latent pixels that overlap by 4, and 9 frames, 0.011 of the pixels and 0.031 of the latents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from vace.errors import InputError
from vace.media.spool import Spool
from vace.models.wan import vae as whole

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

CELL = 8  # pixels of a latent pixel, each way
KEPT = 2  # frames that a causal convolution hands to the next chunk


class Tiles(NamedTuple):
    """side: of a tile, in latent pixels; overlap: the least that neighbours share."""

    side: int = 32
    overlap: int = 8


TILES = Tiles()


class Span(NamedTuple):
    """A tile's place along one axis, in latent pixels, and its weight at each of them times `scale`."""

    start: int
    end: int
    before: int  # shared with the tile before
    after: int  # shared with the tile after

    def weights(self, scale: int = 1) -> torch.Tensor:
        place = torch.arange((self.end - self.start) * scale, dtype=torch.float32) + 0.5
        rising = place / (self.before * scale) if self.before else torch.ones_like(place)
        falling = (len(place) - place) / (self.after * scale) if self.after else torch.ones_like(place)
        return torch.minimum(rising, falling).clamp(max=1.0)

    def at(self, scale: int = 1) -> slice:
        return slice(self.start * scale, self.end * scale)


def spans(size: int, tiles: Tiles = TILES) -> list[Span]:
    """The fewest tiles over `size` latent pixels, evenly spread. Raises InputError where tiles could not advance."""
    if not 0 <= tiles.overlap < tiles.side:
        raise InputError(f"tiles of {tiles.side} cannot overlap by {tiles.overlap}; give an overlap below the side")
    if size <= tiles.side:
        return [Span(0, size, 0, 0)]
    count = math.ceil((size - tiles.overlap) / (tiles.side - tiles.overlap))
    starts = [i * (size - tiles.side) // (count - 1) for i in range(count)]
    shared = [0, *(a + tiles.side - b for a, b in pairwise(starts)), 0]
    return [Span(start, start + tiles.side, shared[i], shared[i + 1]) for i, start in enumerate(starts)]


def encode(vae: AutoencoderKLWan, videos: Sequence[torch.Tensor], tiles: Tiles = TILES) -> list[torch.Tensor]:
    """As `vace.models.wan.vae.encode`; the videos [3, T, H, W] may lie on any device, and stay there."""
    return [_encode_one(vae, video, tiles) for video in videos]


def decode_chunks(vae: AutoencoderKLWan, latents_CTHW: torch.Tensor, tiles: Tiles = TILES) -> Iterator[torch.Tensor]:
    """As `vace.models.wan.vae.decode_chunks`, on the CPU, from when the last tile is decoded; one alone at once.

    Raises OutputError where the temporary folder cannot hold the other tiles: 4 bytes for each of their numbers.
    """
    height, width = latents_CTHW.shape[2:]
    features = list(_decode_middle(vae, latents_CTHW))
    places = [(rows, columns) for rows in spans(height, tiles) for columns in spans(width, tiles)]
    waiting = [_spooled(_decode_tile(vae, features, *place)) for place in places[:-1]]
    pieces = (*(spool.replay() for spool in waiting), _decode_tile(vae, features, *places[-1]))
    for chunks in zip(*pieces, strict=True):
        blend = _Blend((*chunks[-1].shape[:2], CELL * height, CELL * width), CELL)
        for place, chunk in zip(places, chunks, strict=True):
            blend.add(torch.as_tensor(chunk), 0, *place)
        yield blend.result()


def decode(vae: AutoencoderKLWan, latents_CTHW: torch.Tensor, tiles: Tiles = TILES) -> torch.Tensor:
    """Normalised latents [16, T, h, w] -> video [3, 4T-3, 8h, 8w] in [-1, 1], float32, on the CPU."""
    return torch.cat(list(decode_chunks(vae, latents_CTHW, tiles)), dim=1)


@torch.no_grad()
def _decode_tile(
    vae: AutoencoderKLWan, features: Sequence[torch.Tensor], rows: Span, columns: Span
) -> Iterator[torch.Tensor]:
    """One tile's pixels [3, 1 or 4, H, W] in [-1, 1], on the CPU, chunk by chunk."""
    cache: list[Any] = [None] * (whole._causal_convolutions(vae.decoder.up_blocks) + 1)
    device = vae.post_quant_conv.weight.device
    for i, feature in enumerate(features):
        piece = feature[..., rows.at(), columns.at()].to(device)
        yield _decode_rest(vae, piece, cache, i == 0)[0].float().clamp(-1.0, 1.0).cpu()


def _spooled(chunks: Iterator[torch.Tensor]) -> Spool:
    """All of a tile's chunks, out of memory."""
    spool = Spool()
    for chunk in chunks:
        spool.add(chunk.numpy())
    return spool


class _Blend:
    """A weighted mean of tiles [C, T, H, W], on the CPU."""

    def __init__(self, shape: tuple[int, ...], scale: int) -> None:
        self._sum = torch.zeros(shape)
        self._weight = torch.zeros(shape[-2:])
        self._scale = scale

    def add(self, piece_CTHW: torch.Tensor, start: int, rows: Span, columns: Span) -> None:
        """A tile's frames, the first of them being frame `start`."""
        piece = piece_CTHW.float().cpu()
        weight = rows.weights(self._scale)[:, None] * columns.weights(self._scale)
        high, wide = rows.at(self._scale), columns.at(self._scale)
        self._sum[:, start : start + piece.shape[1], high, wide] += piece * weight
        if start == 0:
            self._weight[high, wide] += weight

    def result(self) -> torch.Tensor:
        """Exactly the tile's own numbers where only one tile is."""
        return self._sum.div_(self._weight)


def _encode_one(vae: AutoencoderKLWan, video_CTHW: torch.Tensor, tiles: Tiles) -> torch.Tensor:
    frames, height, width = video_CTHW.shape[1:]
    device = vae.quant_conv.weight.device
    chunks = 1 + (frames - 1) // 4
    channels = vae.config.base_dim * vae.config.dim_mult[-1]
    blend = _Blend((channels, chunks, height // CELL, width // CELL), 1)
    for rows in spans(height // CELL, tiles):
        for columns in spans(width // CELL, tiles):
            cache: list[Any] = [None] * (whole._causal_convolutions(vae.encoder.down_blocks) + 1)
            for i in range(chunks):
                piece = video_CTHW[:, max(4 * i - 3, 0) : 4 * i + 1, rows.at(CELL), columns.at(CELL)]
                piece = piece.unsqueeze(0).to(device, vae.dtype)
                blend.add(_encode_first(vae, piece, cache)[0], i, rows, columns)
    return _encode_rest(vae, blend.result())


@torch.no_grad()
def _encode_first(vae: AutoencoderKLWan, piece_1CTHW: torch.Tensor, cache: list) -> torch.Tensor:
    """The encoder up to the latents' size: one chunk [1, 3, t, H, W] -> [1, C, 1, H/8, W/8]."""
    at = [0]
    x = _cached(vae.encoder.conv_in, piece_1CTHW, cache, at)
    for layer in vae.encoder.down_blocks:
        x = layer(x, feat_cache=cache, feat_idx=at)
    return x


@torch.no_grad()
def _encode_rest(vae: AutoencoderKLWan, features_CTHW: torch.Tensor) -> torch.Tensor:
    """The encoder's middle and head over the whole picture, frame by frame: normalised latents [16, T, h, w]."""
    mean, inverse_std = whole._statistics(vae)
    encoder = vae.encoder
    cache: list[Any] = [None] * (whole._causal_convolutions(encoder.mid_block) + 1)
    chunks = []
    for feature in features_CTHW.split(1, dim=1):
        at = [0]
        x = encoder.mid_block(feature.unsqueeze(0).to(mean.device, vae.dtype), feat_cache=cache, feat_idx=at)
        chunks.append(_cached(encoder.conv_out, encoder.nonlinearity(encoder.norm_out(x)), cache, at))
    mode = vae.quant_conv(torch.cat(chunks, dim=2))[0, : vae.config.z_dim].float()
    return (mode - mean) * inverse_std


def _decode_middle(vae: AutoencoderKLWan, latents_CTHW: torch.Tensor) -> Iterator[torch.Tensor]:
    """The decoder up to where it widens, over the whole picture, frame by frame: [1, C, 1, h, w] on the CPU."""
    mean, inverse_std = whole._statistics(vae)
    hidden = vae.post_quant_conv((latents_CTHW.to(mean) / inverse_std + mean).unsqueeze(0).to(vae.dtype))
    cache: list[Any] = [None] * (whole._causal_convolutions(vae.decoder.mid_block) + 1)
    for frame in hidden.split(1, dim=2):
        at = [0]
        x = _cached(vae.decoder.conv_in, frame, cache, at)
        yield vae.decoder.mid_block(x, feat_cache=cache, feat_idx=at).cpu()


def _decode_rest(vae: AutoencoderKLWan, feature_1CTHW: torch.Tensor, cache: list, is_first: bool) -> torch.Tensor:
    """From one frame of a tile's features to its pixels [1, 3, 1 or 4, 8h, 8w]."""
    decoder, at, x = vae.decoder, [0], feature_1CTHW
    for block in decoder.up_blocks:
        x = block(x, feat_cache=cache, feat_idx=at, first_chunk=is_first)
    return _cached(decoder.conv_out, decoder.nonlinearity(decoder.norm_out(x)), cache, at)


def _cached(convolution: torch.nn.Module, x: torch.Tensor, cache: list, at: list[int]) -> torch.Tensor:
    """A causal convolution that sees the last frames of the chunk before, and leaves its own for the next."""
    before, kept = cache[at[0]], x[:, :, -KEPT:].clone()
    if before is not None and kept.shape[2] < KEPT:
        kept = torch.cat([before[:, :, -1:], kept], dim=2)
    x = convolution(x, before)
    cache[at[0]] = kept
    at[0] += 1
    return x
