"""Control by line drawings; the same for reference pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vace.annotators.base import Result, redrawn
from vace.annotators.networks import Networks
from vace.media.clip import Clip


class Scribble:
    """A clip (frames) or pictures (images, RGB uint8 [H,W,3] each) as drawings: dark lines on white, in three equal
    channels, each of the size of what it was drawn from (the original's are rounded up to whole multiples of 4)."""

    def __call__(
        self, *, frames: Clip | None = None, images: Sequence[np.ndarray] | None = None, networks: Networks
    ) -> Result:
        network = networks.get("scribble")
        return redrawn(frames, images, lambda some: np.repeat(network.lines(some)[..., None], 3, axis=-1))
