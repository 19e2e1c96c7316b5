"""People as sticks: control by how somebody stands and moves, without how they look."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from vace.annotators.base import Chunk, Result
from vace.annotators.draw_pose import BODY_SURE, draw_people, drawing_size, from_drawing, to_drawing
from vace.annotators.nets.poses import BODY, Memory, People
from vace.annotators.networks import Networks
from vace.media.clip import Clip

log = logging.getLogger("vace")

HELD = 128 << 20  # bytes of enlarged frames at a time


class Pose:
    """Bodies and faces of the people in a clip, or in pictures one by one, drawn on black. Same size, as many frames.

    As in the original (vace/annotators/pose.py) each frame is drawn with its short side at 1024 pixels, so that sticks
    are as thick in every clip, then brought to the frame's size; colours as told in `draw_pose`. Where nobody is seen
    in any frame, a warning says so once, at the end: the frames are black, which is a control too.
    """

    parts: dict[str, bool] = {"body": True, "face": True}

    def __call__(
        self, *, networks: Networks, frames: Clip | None = None, images: Sequence[np.ndarray] | None = None
    ) -> Result:
        network = networks.get("pose")
        if frames is None:
            return Result(images=[self._picture(image, index, network) for index, image in enumerate(images or [], 1)])
        return Result(self._chunks(frames, network), frames.frame_count, frames.width, frames.height)

    def _picture(self, image: np.ndarray, index: int, network) -> np.ndarray:
        drawn, count = self._drawn(image[None], network, None)
        if not count:
            log.warning("--image: nobody is seen in picture %d: its pose is black", index)
        return drawn[0]

    def _chunks(self, frames: Clip, network) -> Iterator[Chunk]:
        memory, people, done = Memory(fps=frames.fps or Memory.fps), 0, 0
        for chunk in frames.chunks():
            drawn, count = self._drawn(chunk, network, memory)
            people, done = people + count, done + len(chunk)
            if done >= frames.frame_count and not people:  # before the last chunk: nobody may ask for one after it
                log.warning("%s: nobody is seen in any frame: every pose is black", frames.name)
            yield Chunk(drawn)

    def _drawn(self, frames: np.ndarray, network, memory: Memory | None) -> tuple[np.ndarray, int]:
        """Frames RGB uint8 [t,h,w,3] as poses of the same size, and how many bodies they show."""
        height, width = frames.shape[1:3]
        across, down, _ = drawing_size(width, height)
        out, count = np.empty_like(frames), 0
        step = len(frames) if network.short_side is None else max(1, HELD // (3 * across * down))
        for start in range(0, len(frames), step):
            some = frames[start : start + step]
            if network.short_side is not None:
                some = np.stack([to_drawing(frame) for frame in some])
            scale = np.array([across / some.shape[2], down / some.shape[1]])
            for index, people in enumerate(network.poses(some, memory, hands=False), start):
                on_canvas = People(people.points * scale, people.scores)
                out[index] = from_drawing(draw_people(on_canvas, across, down, **self.parts), width, height)
                count += int((people.scores[:, BODY] > BODY_SURE).any(axis=1).sum())
        return out, count


class PoseBody(Pose):
    """Like `Pose`, without faces."""

    parts = {"body": True}
