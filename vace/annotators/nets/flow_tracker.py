"""wip"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

log = logging.getLogger("vace")


class FlowTracker:
    def track(self, clip, prompt) -> Iterator[np.ndarray]:
        from vace.annotators.nets.track_state import Follower

        follower = None
        for chunk in clip.chunks():
            out = []
            for f in chunk:
                if follower is None:
                    first = np.where(prompt.mask > 0, np.uint8(255), np.uint8(0))
                    follower = Follower(f, first)
                    out.append(first)
                else:
                    out.append(follower.step(f))
            yield np.stack(out)
