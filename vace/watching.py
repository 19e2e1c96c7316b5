"""What a caller wants to be told while a verb is at work: for progress bars, previews and stop buttons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from vace.models.denoise import OnStep


@dataclass(frozen=True)
class Watch:
    """What a caller wants to be told while a verb is at work; whatever one of these raises ends the run.

    on_stage: a stage begins: "prepare" (of preprocessing; again for each of joined tasks), "load", "read sources",
    "encode prompt", "encode context", "write sources", "denoise" and "decode" ("denoise 1", "decode 1" ... of further
    videos). on_frames: frames that preprocessing has written so far, and of how many. on_step: after each denoising
    step, see vace.models.denoise. on_preview: the step's index from 0 and the middle frame of the clean video the step
    aims at, RGB uint8 [H,W,3]; not after every step, see vace.models.previews.
    """

    on_stage: Callable[[str], None] | None = None
    on_frames: Callable[[int, int], None] | None = None
    on_step: OnStep | None = None
    on_preview: Callable[[int, np.ndarray], None] | None = None

    def stage(self, name: str) -> None:
        """Tell that a stage begins."""
        if self.on_stage is not None:
            self.on_stage(name)

    def frames(self, done: int, total: int) -> None:
        """Tell how many frames are written."""
        if self.on_frames is not None:
            self.on_frames(done, total)

    def step(self, *step) -> None:
        """Tell that a denoising step ended; its values are those of OnStep."""
        if self.on_step is not None:
            self.on_step(*step)


NOBODY = Watch()
