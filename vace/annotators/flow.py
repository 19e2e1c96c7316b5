"""Control by motion: optical flow between frames, in the colours of the flow wheel."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from vace.annotators.base import Chunk, Result
from vace.annotators.networks import Networks
from vace.annotators.wheel import flow_radius, flow_to_image
from vace.errors import InputError, nearest
from vace.media.clip import Clip
from vace.media.spool import Spool

log = logging.getLogger("vace")

NORMALIZE = ("frame", "clip")


class Flow:
    """Motion as colour: hue is its direction, saturation its speed, white stands still.

    frames: the clip; N frames in, N out, of the same size. Picture i shows the way from frame i-1 to frame i, and the
    first picture is the second once more, as in the original (which leaves its padding to whole multiples of 8 on; here
    it is cut off). Of a single frame, which moves nowhere, the picture is white, with a warning; the original gives no
    frame at all. normalize: "frame" shows the fastest pixel of each frame at full saturation, as the original does,
    "clip" that of the whole clip, so that colours can be compared. Raises InputError for another normalize.
    """

    def __call__(self, *, frames: Clip, networks: Networks, normalize: str = "frame") -> Result:
        if normalize not in NORMALIZE:
            raise InputError(f"--normalize {normalize}: unknown; {nearest(str(normalize), NORMALIZE)}")
        network = networks.get("flow")
        if frames.frame_count < 2:
            log.warning("%s: one frame alone has no motion; its flow is white", frames.name)
        flows = _flows(frames, network)
        pictures = _by_frame(flows) if normalize == "frame" else _by_clip(flows)
        return Result(map(Chunk, pictures), frames.frame_count, frames.width, frames.height)


def _flows(frames: Clip, network) -> Iterator[np.ndarray]:
    """As much flow as there are frames, float32 [t,H,W,2] a chunk: that of the first pair twice, zero for one frame."""
    last, is_begun = None, False
    for chunk in frames.chunks():
        run = chunk if last is None else np.concatenate([last, chunk])  # so that the pair between chunks is not lost
        last = run[-1:].copy()
        if len(run) > 1:
            flows = network.flows(run[:-1], run[1:])
            yield flows if is_begun else np.concatenate([flows[:1], flows])
            is_begun = True
    if last is not None and not is_begun:
        yield np.zeros((*last.shape[:3], 2), np.float32)


def _by_frame(flows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for some in flows:
        yield np.stack([flow_to_image(flow) for flow in some])


def _by_clip(flows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Flow is kept on disk in half precision, which changes no colour by more than one level, until all is known."""
    spool, radius = Spool(), 0.0
    for some in flows:
        kept = some.astype(np.float16)
        radius = max(radius, *(flow_radius(flow.astype(np.float32)) for flow in kept))
        spool.add(kept)
    for kept in spool.replay():
        yield np.stack([flow_to_image(flow, radius) for flow in kept])
