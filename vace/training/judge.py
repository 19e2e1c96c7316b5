"""Which named colour and which shape a clip shows: hand-made, robust to shading, texture, blur and noise.

Colour is hue, voted by saturated pixels. A shape is the silhouette that correlates best with the mask, brought to the
same centre and area, over all turns. Without masks a thing is told from the ground by how saturated it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from vace.training.scene import COLOURS, LETTERS, SHAPES, SPRITES
from vace.training.shapes import silhouette

LEAST_CHROMA, SEED_CHROMA = 0.22, 0.36  # of pixels that vote under a mask; that belong to things when there is none
LEAST_SHARE = 0.004  # of a clip's pixels that a colour takes to be seen
GRID, REACH = 32, 1.08  # cells a side of what is compared, and half its side in square roots of the area
# Of silhouettes that are compared besides the sharp ones, in square roots of the area: a VAE rounds corners and thins
# points, by much where a thing is small; without these a star that has been through one counts as a circle.
BLURS = (0.08, 0.16)
COVERED = 0.42  # of the way from the ground's colour to the thing's, from which a pixel is the thing's


def colour_of(frames: np.ndarray, masks: np.ndarray | None = None) -> str | None:
    """The named colour that most pixels have: frames uint8 [T,H,W,3], masks bool [T,H,W] or all of the picture.

    None where nothing is coloured.
    """
    shares = colour_shares(frames, masks)
    best = max(shares, key=shares.get)
    return best if shares[best] > 0 else None


def colour_shares(frames: np.ndarray, masks: np.ndarray | None = None) -> dict[str, float]:
    """How much of the pixels (of the masks' or of all) each named colour takes, 0..1, dull pixels being of none."""
    names, chroma = _named(frames)
    is_voting = chroma > (SEED_CHROMA if masks is None else LEAST_CHROMA)
    count = names.size if masks is None else max(1, int(masks.sum()))
    if masks is not None:
        is_voting &= masks
    votes = np.bincount(names[is_voting], chroma[is_voting] if masks is not None else None, len(COLOURS))
    shares = dict(zip(COLOURS, (votes / count).tolist(), strict=True))
    if masks is None:
        shares = {name: share if share >= LEAST_SHARE else 0.0 for name, share in shares.items()}
    return shares


def shape_of(
    frames: np.ndarray,
    masks: np.ndarray | None = None,
    *,
    colour: str | None = None,
    names: Sequence[str] = SHAPES,
) -> str | None:
    """The shape that the masks, bool [T,H,W], have; without them, that of the thing of a colour (else the commonest).

    names: what to choose from: shapes, sprites, letters. None where there is nothing to see.
    """
    if masks is None:
        masks = find(frames, colour)
    if masks is None:
        return None
    scores = shape_scores(masks, names)
    return max(scores, key=scores.get) if scores else None


def shape_scores(masks: np.ndarray, names: Sequence[str] = SHAPES) -> dict[str, float]:
    """Mean correlation of the masks, bool [T,H,W], with each shape at its best turn; {} where all are empty.

    Frames in which the mask is cut by the picture's edge count only when it is in all.
    """
    masks = masks[masks.any(axis=(1, 2))]
    edges = masks[:, 0].any(1) | masks[:, -1].any(1) | masks[:, :, 0].any(1) | masks[:, :, -1].any(1)
    masks = masks if edges.all() else masks[~edges]
    if not len(masks):
        return {}
    seen = np.stack([_standard(mask.astype(np.float32)) for mask in masks]).reshape(len(masks), -1)
    seen = _unit(seen)
    sizes = masks.sum(axis=(1, 2)).astype(float)
    return {name: float(np.average((seen @ _templates(name).T).max(axis=1), weights=sizes)) for name in names}


def find(frames: np.ndarray, colour: str | None = None) -> np.ndarray | None:
    """Masks, bool [T,H,W], of the largest thing of a colour (default: the commonest) in each frame; None: not seen."""
    import cv2

    frames = np.stack([cv2.GaussianBlur(frame, (0, 0), 0.6) for frame in frames])
    colour = colour or colour_of(frames)
    if colour is None or colour_shares(frames)[colour] == 0:
        return None
    names, chroma = _named(frames)
    is_seed = (chroma > SEED_CHROMA) & (names == list(COLOURS).index(colour))
    plane = _chroma_plane(frames)
    ground, thing = np.median(plane[chroma < SEED_CHROMA], axis=0), np.median(plane[is_seed], axis=0)
    way = thing - ground
    covered = (plane - ground) @ way / (way @ way)
    return np.stack([_largest(one > COVERED, seed) for one, seed in zip(covered, is_seed, strict=True)])


def _largest(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The connected piece of a mask that holds most seeds."""
    import cv2

    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    votes = np.bincount(labels[seeds & mask], minlength=labels.max() + 1)
    return (labels == votes.argmax()) & mask if votes[1:].any() else np.zeros_like(mask)


def _chroma_plane(frames: np.ndarray) -> np.ndarray:
    """What two colours differ in besides grey: float32 [...,2], linear in RGB, its length in units of full red."""
    red, green, blue = np.moveaxis(frames.astype(np.float32) / 255, -1, 0)
    return np.stack([red - (green + blue) / 2, (green - blue) * 0.75**0.5], axis=-1)


def _hues(plane: np.ndarray) -> np.ndarray:
    return np.arctan2(plane[..., 1], plane[..., 0])


def _named(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The index of the colour with the nearest hue, and the chroma 0..1, of every pixel."""
    plane = _chroma_plane(frames)
    hues = _hues(_chroma_plane(np.array(list(COLOURS.values()))))
    order = np.argsort(hues)
    bounds = (hues[order] + np.roll(hues[order], -1)) / 2
    bounds[-1] += np.pi * (1 if bounds[-1] < 0 else -1)  # the one that goes round
    places = np.searchsorted(np.sort(bounds), _hues(plane))
    first = int(np.argmin(bounds))  # the colour before the lowest bound lies at `first` in the order
    names = order[(places + first) % len(order)]
    return names, np.linalg.norm(plane, axis=-1)


def _standard(mask: np.ndarray, turn: float = 0.0, flip: bool = False, scale: float = 1.0) -> np.ndarray:
    """A mask, float32 [H,W], about its centre of mass, turned, and scaled to an area of its own: [GRID,GRID]."""
    import cv2

    moments = cv2.moments(mask)
    area = max(moments["m00"], 1e-6)
    centre = np.array([moments["m10"], moments["m01"]]) / area
    step = 2 * REACH * np.sqrt(area) / GRID * scale
    cos, sin = step * np.cos(turn), step * np.sin(turn)
    turned = np.array([[cos * (-1 if flip else 1), -sin], [sin * (-1 if flip else 1), cos]])
    shift = centre - turned @ np.full(2, (GRID - 1) / 2)
    matrix = np.column_stack([turned, shift])
    if step > 1.5:  # fine masks are smoothed first, or thin parts fall between the cells
        mask = cv2.GaussianBlur(mask, (0, 0), step / 3)
    return cv2.warpAffine(mask, matrix, (GRID, GRID), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _rounded(side: np.ndarray) -> list[np.ndarray]:
    """A silhouette, float32 [H,W], and what is left of it after each of BLURS."""
    import cv2

    room, length = len(side) // 3, float(np.sqrt(side.sum()))
    side = np.pad(side, room)
    blurred = [cv2.GaussianBlur(side, (0, 0), sigma * length) for sigma in BLURS]
    return [side, *((one > COVERED).astype(np.float32) for one in blurred)]


@cache  # constants, made when first needed
def _templates(name: str) -> np.ndarray:
    """The silhouette in all the ways it is shown, sharp and rounded, as unit rows [n,GRID*GRID]."""
    turns = np.arange(0, 360, 6) if name in SHAPES else np.arange(-12, 13, 6) if name in LETTERS else np.zeros(1)
    flips = (False, True) if name in SPRITES else (False,)
    sides = _rounded(np.ascontiguousarray(silhouette(name), np.float32))
    ways = [_standard(side, np.radians(turn), flip) for side in sides for turn in turns for flip in flips]
    return _unit(np.stack(ways).reshape(len(ways), -1))
