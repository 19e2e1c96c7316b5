"""Layout of tracked things: their outlines on white, as control of where they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vace.annotators.base import Chunk, MaskClip, Result
from vace.annotators.colors import Color, current_colors
from vace.annotators.layout import pick_color
from vace.annotators.maskaug import augmenter
from vace.annotators.masks import binary
from vace.annotators.networks import Networks
from vace.annotators.regions import Asked, labelled_tracks
from vace.errors import InputError, nearest
from vace.media.clip import Clip

MODES = ("masktrack", "bboxtrack", "label", "caption")
LINE_WIDTH = 3


def draw_outline(canvas: np.ndarray, mask: np.ndarray, color: Color) -> None:
    """The outer outlines of `mask` (uint8 [H,W]) on `canvas` (RGB uint8 [H,W,3], changed), 3 pixels wide.

    color: (r, g, b) as it is in the table: not reversed, as the original draws masks (boxes it does reverse).
    """
    import cv2

    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(canvas, outlines, -1, tuple(int(value) for value in color), LINE_WIDTH)


class LayoutTrack:
    """Outlines of what is followed through the clip, on white.

    frames, mode, mask, bbox, label, caption, networks: as for Inpainting, for the modes that follow something. label
    also sets the colour, in every mode; several labels are followed each in its own colour, which the original cannot.
    maskaug_mode, maskaug_ratio: change the masks before they are drawn, once for the clip from seed. color_table: label
    -> (r, g, b) instead of the one of `colors.current_colors`. Black without a known label.
    """

    def __call__(
        self,
        *,
        frames: Clip,
        mode: str,
        mask: MaskClip | None = None,
        bbox: Sequence | None = None,
        label: Sequence[str] = (),
        caption: str | None = None,
        networks: Networks | None = None,
        maskaug_mode: str | None = None,
        maskaug_ratio: float | None = None,
        seed: int = 0,
        color_table: Mapping[str, Color] | None = None,
    ) -> Result:
        if mode not in MODES:
            raise InputError(f"--mode {mode}: layout_track has no such mode; {nearest(str(mode), MODES)}")
        asked = Asked(mode, mask, bbox, label, caption, name="layout_track")
        augment = augmenter(maskaug_mode, maskaug_ratio, seed)
        table = current_colors() if color_table is None else color_table
        tracks, colors = labelled_tracks(frames, asked, networks), {}
        for name in label or [None]:
            colors[name or ""] = pick_color(name, table)
        first = next(iter(colors.values()))
        chunks = (Chunk(_outlines(together, colors, first, augment)) for together in tracks)
        return Result(chunks, frames.frame_count, frames.width, frames.height)


def _outlines(together: list[tuple[str, np.ndarray]], colors: Mapping[str, Color], first: Color, augment) -> np.ndarray:
    """RGB uint8 [t,H,W,3]: the outline of every thing of `labelled_tracks`, in the first colour without a label."""
    canvas = np.full((*together[0][1].shape, 3), 255, np.uint8)
    for name, masks in together:
        for frame, mask in zip(canvas, masks, strict=True):
            draw_outline(frame, binary(augment(mask)) if augment else mask, colors.get(name, first))
    return canvas
