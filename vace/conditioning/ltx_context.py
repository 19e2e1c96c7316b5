"""What LTX's context blocks read: unchanged and changed latents, the mask folded into channels, and where tokens lie.

Letters: T frames, H and W model pixels (multiples of 32); T', h, w the same in latents (T' = (T-1)//8 + 1, h = H/32,
w = W/32); R reference images; C channels; N tokens = (T'+R)*h*w. Videos are float32 [3,T,H,W] in -1..1, masks float32
[1,T,H,W] in 0..1 with 1 = generate, 0 = keep. Wan's half is vace/conditioning/context.py, and what both need is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from vace.conditioning.context import check_shapes

CELL = 32  # pixels of one latent pixel, each way
SPAN = 8  # frames of one latent frame
FINE = 8  # mask samples of one latent pixel, each way
BEATS = 2  # mask samples of one latent frame
LATENT_CHANNELS = 128
MASK_CHANNELS = BEATS * FINE * FINE
HALF = 0.5


def whole_if_white(mask: torch.Tensor) -> torch.Tensor:
    """A given mask as the original takes it: all ones where every value is above 0.5, else unchanged, grays and all."""
    return torch.ones_like(mask) if bool((mask > HALF).all()) else mask


def split(frames: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(unchanged, changed): the frames times 1-mask and times mask, both [3,T,H,W]; what is cut out becomes 0.0.

    mask: [1,T,H,W], as `whole_if_white` left it; of more channels the first counts. Unlike Wan's, a gray mask is not
    made black and white: a pixel of 0.3 goes to both halves. Raises InputError where mask and frames differ in shape.
    """
    check_shapes(frames, mask, ())
    mask = mask[:1]
    return frames * (1 - mask), frames * mask


def fold_mask(mask: torch.Tensor, refs: int = 0) -> torch.Tensor:
    """[1,T,H,W] -> [128,T'+refs,h,w]: channel 64*(t%2) + 8*(y%8) + (x%8), zeros in front for reference images.

    The mask is sampled trilinearly, corner on corner, at two times and 8x8 places for each latent pixel. The times run
    evenly from the first frame to the last, although a latent frame stands for 1 frame and then for 8 each: the
    original does so, and the models learned it. Of more channels the first counts.
    """
    count, height, width = mask.shape[1:]
    latents, rows, columns = (count - 1) // SPAN + 1, height // CELL, width // CELL
    size = (BEATS * latents, FINE * rows, FINE * columns)
    fine = F.interpolate(mask[None, :1], size=size, mode="trilinear", align_corners=True)[0, 0]
    cells = fine.reshape(latents, BEATS, rows, FINE, columns, FINE).permute(1, 3, 5, 0, 2, 4)
    folded = cells.reshape(MASK_CHANNELS, latents, rows, columns)
    return torch.cat([folded.new_zeros(MASK_CHANNELS, refs, rows, columns), folded], dim=1)


def positions(latent_frames: int, h: int, w: int, fps: float) -> torch.Tensor:
    """Where each token lies: seconds, rows and columns of pixels, float32 [3, latent_frames*h*w], token by token.

    latent_frames: T'+R; reference images take the first frames as if they were played, and the video follows them.
    fps: of the clip as the model sees it. A latent frame lies at its number times 8/fps, the first one included; the
    arithmetic is float32 throughout, the rate inverted before it is multiplied, as in the original.
    """
    seconds = torch.reciprocal(torch.tensor(fps / SPAN, dtype=torch.float32))
    scales = (seconds, CELL, CELL)
    axes = [
        torch.arange(n, dtype=torch.float32) * scale for n, scale in zip((latent_frames, h, w), scales, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1)


def patchify(latents: torch.Tensor) -> torch.Tensor:
    """[C,T',h,w] -> tokens [N,C], columns first, then rows, then frames."""
    return latents.flatten(1).T.contiguous()


def unpatchify(tokens: torch.Tensor, latent_frames: int, h: int, w: int) -> torch.Tensor:
    """Tokens [N,C] -> [C,latent_frames,h,w], the way back from `patchify`. Raises ValueError for another N."""
    if len(tokens) != latent_frames * h * w:
        raise ValueError(f"{len(tokens)} tokens are not {latent_frames}x{h}x{w}")
    return tokens.T.reshape(-1, latent_frames, h, w).contiguous()


def join(
    unchanged: torch.Tensor, changed: torch.Tensor, refs: Sequence[torch.Tensor], folded: torch.Tensor
) -> torch.Tensor:
    """The context as the transformer reads it: tokens [N,384], unchanged 128 ‖ changed 128 ‖ mask 128.

    unchanged, changed: normalised latents [128,T',h,w]. refs: one [128,1,h,w] per reference image, in the order given;
    each becomes a frame in front with zeros for its changed half. folded: `fold_mask(mask, len(refs))`.
    """
    source = torch.cat([unchanged, changed])
    given = [torch.cat([ref, torch.zeros_like(ref)]) for ref in refs]
    return patchify(torch.cat([torch.cat([*given, source], dim=1), folded.to(source)]))
