"""What the context blocks read: inactive and reactive latents, and the mask folded into channels.

Letters: T frames, H and W model pixels; T', h, w the same in latents (T' = (T+3)//4, h = H/8, w = W/8); R reference
images. Videos are float32 [3,T,H,W] in -1..1, masks float32 [1,T,H,W] in 0..1 with 1 = generate, 0 = keep.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F

from vace.conditioning.sizes import aspect_matches
from vace.errors import InputError, nearest

FILL_CHOICES = ("auto", "neutral", "keep")
CELL = 8  # pixels of one latent pixel, each way
SPAN = 4  # frames of one latent frame
GRAY_LEVELS = 6 / 127.5  # codec noise around 127 and 128, in model space
GRAY_SHARE = 0.99  # of the white pixels: what still counts as a gray filler
SAMPLE = 4  # every 4th row and column is looked at for a warning

Encode = Callable[[list[torch.Tensor]], list[torch.Tensor]]
T = TypeVar("T")
ZeroLatents = MutableMapping[tuple[int, ...], torch.Tensor]


def empty_source(count: int, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and mask where nothing is given: a neutral video of `count` frames, all of it to be generated."""
    return torch.zeros(3, count, height, width), full_mask(count, width, height)


def full_mask(count: int, width: int, height: int) -> torch.Tensor:
    """The mask of a source without one: everything is generated, guided by the source."""
    return torch.ones(1, count, height, width)


def check_pair(
    size: tuple[int, int], count: int, mask_size: tuple[int, int], mask_count: int, mask_name: str = "src_mask"
) -> None:
    """Raise InputError unless a mask belongs to a video. Sizes are (width, height); a still mask serves any length."""
    if not aspect_matches(size, mask_size):
        raise InputError(
            f"{mask_name} is {mask_size[0]}x{mask_size[1]} and src_video {size[0]}x{size[1]}: "
            "their aspects differ; give a mask of the video's size, or the same picture smaller or larger"
        )
    if mask_count not in (1, count):
        raise InputError(
            f"{mask_name} has {mask_count} frames and src_video {count}: give one mask frame per video frame, "
            "or one still mask for all"
        )


def check_mask(mask: torch.Tensor, *, white_makes_sense: bool = False, black_makes_sense: bool = False) -> list[str]:
    """Warnings for a given mask that asks for nothing to be kept (all white), or nothing to be made (all black)."""
    white = mask[:1] > 0.5
    if not white_makes_sense and bool(white.all()):
        return ["src_mask is all white: every pixel is generated anew and src_video only guides it"]
    if not black_makes_sense and not bool(white.any()):
        return ["src_mask is all black: every pixel is kept, so there is nothing to generate"]
    return []


def neutral_fill(
    frames: torch.Tensor, mask: torch.Tensor, under_mask: str | None = None, fill_mask: str = "auto"
) -> tuple[torch.Tensor, list[str]]:
    """Frames with what lies under white made neutral where it should be, and warnings.

    under_mask: what the manifest says of the file: `neutral` (something to invent, set to exactly 0.0), `content` (a
    control or layout, left alone), None (no manifest: left alone, with a warning when it does not look intended).
    fill_mask: `auto` follows the manifest, `neutral` and `keep` decide it by hand; `keep` is what the original does.
    Raises InputError for another fill_mask.
    """
    if fill_mask not in FILL_CHOICES:
        raise InputError(f"--fill_mask '{fill_mask}' is unknown: {nearest(fill_mask, FILL_CHOICES)}")
    if fill_mask == "neutral" or (fill_mask == "auto" and under_mask == "neutral"):
        return frames.masked_fill(mask[:1] > 0.5, 0.0), []
    if fill_mask == "keep" or under_mask is not None:
        return frames, []
    return frames, _fill_warnings(frames, mask)


def fold_mask(mask: torch.Tensor, refs: int = 0) -> torch.Tensor:
    """[1,T,H,W] -> [64,T'+refs,h,w]: channel 8*(y%8) + (x%8), gray values kept, zeros in front for reference images.

    In time the nearest-exact frame stands for four, as the models were trained with: frame 1 for the first latent.
    """
    count, height, width = mask.shape[1:]
    rows, columns = height // CELL, width // CELL
    cells = mask[0].reshape(count, rows, CELL, columns, CELL).permute(2, 4, 0, 1, 3)
    cells = cells.reshape(CELL * CELL, count, rows, columns)
    latent_count = (count + SPAN - 1) // SPAN
    folded = F.interpolate(cells.unsqueeze(0), size=(latent_count, rows, columns), mode="nearest-exact")[0]
    return torch.cat([folded.new_zeros(CELL * CELL, refs, rows, columns), folded], dim=1)


def encode_context(
    encode: Encode,
    frames: torch.Tensor,
    mask: torch.Tensor,
    refs: Sequence[torch.Tensor] = (),
    zero_latents: ZeroLatents | None = None,
) -> torch.Tensor:
    """The context of one clip: [96,T'+R,h,w], inactive 16 ‖ reactive 16 ‖ mask 64 channels.

    encode: the VAE, a list of [3,t,H,W] -> a list of [16,t',h,w]. frames [3,T,H,W]; mask [1,T,H,W] (of more channels
    the first counts), split at 0.5 for the latents and folded with its gray values. refs: letterboxed images
    [3,1,H,W]; each becomes one latent frame in front, in the order given, with zeros for its reactive half.
    An all-neutral video is encoded once per shape; `zero_latents`, kept by the caller per VAE, spares later calls it.
    Raises InputError where mask or references differ from the frames in size or length.
    """
    check_shapes(frames, mask, refs)
    white = mask[:1] > 0.5
    zeros: ZeroLatents = {} if zero_latents is None else zero_latents
    halves = (frames.masked_fill(white, 0.0), frames.masked_fill(~white, 0.0))
    inactive, reactive = (encode_once(lambda half: encode([half])[0], half, zeros) for half in halves)
    latents = torch.cat([inactive, reactive])
    if refs:
        given = torch.cat(encode(list(refs)), dim=1)
        latents = torch.cat([torch.cat([given, torch.zeros_like(given)]), latents], dim=1)
    return torch.cat([latents, fold_mask(mask[:1], len(refs)).to(latents)])


def trim_refs(latents: torch.Tensor, refs: int) -> torch.Tensor:
    """Latents [C,T'+refs,h,w] without the frames that stand for reference images: [C,T',h,w]."""
    return latents[:, refs:]


def encode_once(encode: Callable[[torch.Tensor], T], video: torch.Tensor, zeros: MutableMapping[tuple, T]) -> T:
    """What `encode` makes of a video; of an all-neutral one the same is kept in `zeros`, by shape, and given again."""
    if bool(video.any()):
        return encode(video)
    key = tuple(video.shape)
    if key not in zeros:
        zeros[key] = encode(video)
    return zeros[key]


def check_shapes(frames: torch.Tensor, mask: torch.Tensor, refs: Sequence[torch.Tensor]) -> None:
    if mask.shape[1:] != frames.shape[1:]:
        raise InputError(f"src_mask is {_shown(mask)} and src_video {_shown(frames)}: they must be equal")
    for index, ref in enumerate(refs):
        if ref.shape[2:] != frames.shape[2:]:
            raise InputError(
                f"reference image {index} is {_shown(ref)} and src_video {_shown(frames)}: letterbox it to that size"
            )


def _shown(video: torch.Tensor) -> str:
    count, height, width = video.shape[1:]
    return f"{count} {'frame' if count == 1 else 'frames'} of {width}x{height}"


def _fill_warnings(frames: torch.Tensor, mask: torch.Tensor) -> list[str]:
    """What lies under white: nothing to say for exact zeros; gray with noise, and pictures, are worth a line."""
    white = mask[0, :, ::SAMPLE, ::SAMPLE] > 0.5
    under = frames[:, :, ::SAMPLE, ::SAMPLE].abs().amax(dim=0)[white]
    if under.numel() == 0 or not bool(under.any()):
        return []
    if float((under <= GRAY_LEVELS).float().mean()) >= GRAY_SHARE:
        return ["almost-gray lies under the white of src_mask, not exact neutral: --fill_mask neutral makes it so"]
    return [
        "a picture lies under the white of src_mask and will guide the model like a control: "
        "if it should be invented anew, use --fill_mask neutral; --fill_mask keep silences this"
    ]
