"""Layout: a box that moves in a line, drawn on white, as control of where a thing goes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vace.annotators.base import Chunk, Result
from vace.annotators.boxes import check_boxes
from vace.annotators.colors import Color, color_of, current_colors
from vace.errors import InputError
from vace.media.clip import CHUNK

log = logging.getLogger("vace")

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
LINE_WIDTH = 2


def box_path(start: Sequence[float], end: Sequence[float], count: int, include_end: bool = True) -> np.ndarray:
    """The box of each of `count` frames as x, y, width, height in whole pixels: int [count,4].

    It is at `start` in the first frame and at `end` in the last; with include_end False, as in the original, it stops
    one step before. Numbers are cut, not rounded, after arithmetic in float32.
    """
    boxes = np.array([start, end], np.float32)
    boxes[:, 2:] -= boxes[:, :2]
    steps = max(1, count - 1 if include_end else count)
    path = boxes[0] + (boxes[1] - boxes[0]) / steps * np.arange(count, dtype=np.float32)[:, None]
    if include_end and count > 1:
        path[-1] = boxes[1]
    return path.astype(np.int64)


def draw_path(
    path: np.ndarray, width: int, height: int, color: Color, background: Color = WHITE
) -> Iterator[np.ndarray]:
    """Chunks, uint8 [t,height,width,3], with the outline of one box of `path` (from `box_path`) in each frame.

    color, background: (r, g, b) as in the table. The channels come out reversed: the original does so for boxes (not
    for tracked outlines), and the models were trained on it.
    """
    import cv2

    blank = np.empty((1, height, width, 3), np.uint8)
    blank[:] = background[::-1]
    pen = tuple(int(value) for value in color[::-1])
    for start in range(0, len(path), CHUNK):
        boxes = path[start : start + CHUNK]
        frames = np.repeat(blank, len(boxes), axis=0)
        for frame, (x, y, box_width, box_height) in zip(frames, boxes.tolist(), strict=True):
            cv2.rectangle(frame, (x, y), (x + box_width, y + box_height), pen, LINE_WIDTH)
        yield frames


def pick_color(label: str | list[str] | None, color_table: Mapping[str, Color] | None) -> Color:
    """The label's colour in `color_table` (None: `current_colors`); black without a label or, warned of, for others."""
    table = current_colors() if color_table is None else color_table
    color = color_of(label, table)
    if color is None and label:
        log.warning("--label %s: no colour is known for it, the box is drawn in black", label)
    return color or BLACK


class LayoutBbox:
    """A moving box on white: from the first of two boxes in the first frame to the second in the last.

    bbox: two boxes within the frame. label: what the box is (the first of several counts); it sets the colour.
    size: (width, height) of the frame. frame_num: how many frames. color_table: label -> (r, g, b) instead of our own,
    see `colors.read_color_table`. Unlike the original, which stops short of it, the box reaches its end. Raises
    InputError for boxes that are not two or do not lie in the frame.
    """

    def __call__(
        self,
        *,
        bbox: Sequence,
        label: str | list[str] | None = None,
        size: tuple[int, int] = (1280, 720),
        frame_num: int = 81,
        color_table: Mapping[str, Color] | None = None,
    ) -> Result:
        width, height = size
        if frame_num < 1:
            raise InputError(f"--frame_num {frame_num}: give the number of frames to draw, 1 or more")
        start, end = check_boxes(bbox, width, height, 2)
        drawn = draw_path(box_path(start, end, frame_num), width, height, pick_color(label, color_table))
        return Result((Chunk(frames) for frames in drawn), frame_num, width, height)
