"""Regions as people mark them: exact or careless, following a thing or standing still, boxes, blots and borders."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vace.training.rendering import Clip, boxes_of
from vace.training.rows_world import LEAST_SEEN, Asked, other_thing, subject, white, with_thing
from vace.training.worlds import sample_world

MODES = {
    "exact": 0.14, "dilated": 0.22, "hull": 0.08, "box": 0.14, "still": 0.07, "still_box": 0.08, "block": 0.10,
    "silhouette": 0.09, "ground": 0.08,
}  # fmt: skip
EDITED = ("dilated", "hull", "box", "still", "still_box")  # wide enough to hide what was there before
EDIT_SHARE = 0.5
MARGIN = (2, 5)  # pixels round a thing at a short side of 64: dilated masks
MOST = 0.72  # of the picture that a mask may take, but for grounds


@dataclass(frozen=True)
class Region:
    """A region to be made anew.

    mode: a key of MODES. masks: uint8 [T,H,W] of 0 and 255, or [H,W] for a still one; None where `box` says it.
    things: what shall be in it. before: the footage, uint8 [T,H,W,3], that shows something else there; None: the clip's
    own. augment: flags for the annotator, maskaug_mode and so on.
    """

    mode: str
    things: tuple[int, ...]
    masks: np.ndarray | None = None
    box: tuple[int, ...] | None = None
    before: np.ndarray | None = None
    augment: dict = field(default_factory=dict)

    def frames(self, count: int, height: int, width: int) -> np.ndarray:
        """The region in each frame, bool [T,H,W], before the annotator enlarges it."""
        if self.box is not None:
            x1, y1, x2, y2 = self.box
            still = np.zeros((height, width), bool)
            still[y1:y2, x1:x2] = True
        else:
            still = self.masks > 0
        return np.broadcast_to(still, (count, height, width))


def region(asked: Asked, clip: Clip, mode: str | None = None) -> Region:
    """A region of a clip, of one of MODES or drawn by their weights."""
    mode = mode or asked.weighted(MODES)
    if mode == "block":
        return _blocks(asked)
    if mode == "silhouette":
        return _silhouette(asked)
    if mode == "ground":  # all but the things: what they are in front of is exchanged
        return Region(mode, (), masks=white(~_grown(clip.masks.any(axis=1), asked.whole(0, 2))))
    n = subject(asked, clip)
    wanted, before = clip.masks[:, n], None
    if mode in EDITED and asked.chance(EDIT_SHARE):
        earlier = asked.shown(with_thing(clip.world, n, other_thing(asked, clip.world, n)))
        wanted, before = _grown(wanted | earlier.masks[:, n], 2), earlier.frames  # and most of both shadows
    return _about(asked, mode, n, wanted, before)


def _about(asked: Asked, mode: str, n: int, wanted: np.ndarray, before: np.ndarray | None) -> Region:
    """A region round what is wanted, bool [T,H,W], of thing n."""
    height, width = wanted.shape[1:]
    margin = round(asked.whole(*MARGIN) * min(width, height) / 64)
    if mode == "exact":
        return Region(mode, (n,), masks=white(wanted))
    if mode == "dilated":
        return Region(mode, (n,), masks=white(_grown(wanted, margin, asked.chance(0.5))), before=before)
    if mode in ("hull", "box"):
        kind = "hull" if mode == "hull" else "bbox"
        augment = {"maskaug_mode": kind}
        if asked.chance(0.5):  # otherwise drawn by the annotator, once for the clip
            augment = {"maskaug_mode": f"{kind}_expand", "maskaug_ratio": float(asked.rng.uniform(0.1, 0.4))}
        augment["seed"] = asked.whole(0, 9999)
        return Region(mode, (n,), masks=white(_grown(wanted, 2)), before=before, augment=augment)
    everywhere = _grown(wanted.any(axis=0)[None], margin)[0]
    if everywhere.mean() > MOST:
        return Region("dilated", (n,), masks=white(_grown(wanted, margin)), before=before)
    if mode == "still":
        return Region(mode, (n,), masks=white(everywhere), before=before)
    x1, y1, x2, y2 = (int(value) for value in boxes_of(everywhere))
    return Region(mode, (n,), box=(x1, y1, x2, y2), before=before)


def _grown(masks: np.ndarray, pixels: int, is_round: bool = True) -> np.ndarray:
    """bool [T,H,W], larger by some pixels on each side."""
    import cv2

    if pixels < 1:
        return masks
    shape = cv2.MORPH_ELLIPSE if is_round else cv2.MORPH_RECT
    kernel = cv2.getStructuringElement(shape, (2 * pixels + 1, 2 * pixels + 1))
    return np.stack([cv2.dilate(mask.view(np.uint8), kernel) for mask in np.ascontiguousarray(masks)]).astype(bool)


def _blocks(asked: Asked) -> Region:
    """One to three boxes anywhere, still or sliding: what is there is made anew, things or ground."""
    width, height = asked.size
    masks = np.zeros((asked.frames, height, width), np.uint8)
    is_still = asked.chance(0.6)
    for _ in range(asked.whole(1, 3)):
        sides = asked.rng.uniform(0.18, 0.6, 2) * (width, height)
        ends = asked.rng.uniform(0, 1, (2, 2)) * ((width, height) - sides)
        track = np.linspace(ends[0], ends[0] if is_still else ends[1], asked.frames)
        for mask, (x, y) in zip(masks, track, strict=True):
            mask[int(y) : int(y + sides[1]), int(x) : int(x + sides[0])] = 255
    return Region("block", (), masks=masks[0] if is_still else masks)


def _silhouette(asked: Asked) -> Region:
    """Where a thing of another clip would be: it is gone in the outcome, as when something is removed."""
    while True:
        seed = asked.whole(0, 2**31 - 1)
        world = sample_world(seed, objects=(1, 1), size=asked.size, frames=asked.frames)
        masks = asked.shown(world).full_masks[:, 0]
        if masks.mean() >= LEAST_SEEN:
            return Region("silhouette", (), masks=white(_grown(masks, asked.whole(1, 3))))
