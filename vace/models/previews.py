"""Previews: how far a video has come, shown while it is denoised, for a small part of the time it takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("vace")

FIRST = 1  # index of the first step that may have one: what the very first aims at is a blur
SHARE = 0.1  # of the time, at most, when one more is begun


def is_due(step: int, steps: int, elapsed: float, spent: float) -> bool:
    """Whether to make a preview now.

    step: index from 0, of `steps`, of the step that ended; after the last the video itself is near. elapsed: seconds
    since the denoising began. spent: seconds of them that went into previews.
    """
    return FIRST <= step < steps - 1 and spent <= SHARE * elapsed


def middle(latent_frames: int, refs: int = 0) -> int:
    """Index of the middle one of `latent_frames`, of which the first `refs` are references."""
    return refs + (latent_frames - refs) // 2


class Previews:
    """Makes previews when they are due, and shows them.

    make: clean latents -> RGB uint8 [H,W,3]. show: is given the step's index from 0 and the picture; what it raises
    goes on. clock: seconds. Where memory does not suffice for one, a warning is logged and no more are made.
    """

    def __init__(
        self,
        make: Callable[[torch.Tensor], np.ndarray],
        show: Callable[[int, np.ndarray], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.make, self.show, self.clock = make, show, clock
        self.began, self.spent, self.is_over = clock(), 0.0, False

    def after_step(self, step: int, steps: int, estimate: torch.Tensor) -> None:
        """Make and show one, if it is time; estimate: the clean latents that the step aimed at."""
        if self.is_over or not is_due(step, steps, self.clock() - self.began, self.spent):
            return
        if estimate.is_cuda:  # else the preview would be charged for the step still at work
            torch.cuda.synchronize(estimate.device)
        start = self.clock()
        try:
            picture = self.make(estimate)
        except torch.OutOfMemoryError:
            self.is_over = True
            log.warning("no more previews: there is no memory for them; the video itself goes on")
            return
        self.spent += self.clock() - start
        self.show(step, picture)
