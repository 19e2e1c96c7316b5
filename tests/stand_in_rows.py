"""Encoded rows as `vace.training.latents.LatentRows` gives them, of noise and of one small shape at a time."""

from __future__ import annotations

import numpy as np

from vace.training.latents import PARTS, Shape

TASKS = ("txt2vid", "depth", "reference")
PROMPTS = (
    "a red circle moves left over grass",
    "a small blue puppet dances on sand, the camera zooms in",
    "a red star",
)


class NoiseRows:
    """Row k is of task k % 3; rows of "reference" have one reference. All that is drawn comes from k."""

    def __init__(self, count: int = 6, frames: int = 2):
        self.count, self.frames = count, frames
        self.tasks = [TASKS[k % 3] for k in range(count)]

    def rows_of(self, shape=None, task=None):
        return np.array([k for k in range(self.count) if task in (None, self.tasks[k])], int)

    def batch(self, rng=None, count=1, *, indices=None):
        if indices is None:
            with_refs = bool(rng.random() < 0.5)
            rows = [k for k in range(self.count) if (self.tasks[k] == "reference") == with_refs]
            indices = rng.choice(rows, count)
        made = [self._row(int(k)) for k in indices]
        refs = int(self.tasks[int(indices[0])] == "reference")
        found = {name: np.stack([row[name] for row in made]) for name in PARTS}
        found |= {"tasks": [self.tasks[int(k)] for k in indices], "prompts": [PROMPTS[int(k) % 3] for k in indices]}
        return found | {"refs": refs, "shape": Shape(32, 32, refs)}

    def empty(self, shape):
        frames = self.frames + shape.refs
        mask = np.full((64, frames, 4, 4), 255, np.uint8)
        mask[:, : shape.refs] = 0
        return {"context": np.full((32, frames, 4, 4), 0.25, np.float16), "mask": mask}

    def _row(self, k):
        rng, refs = np.random.default_rng(k), int(self.tasks[k] == "reference")
        frames = self.frames + refs
        return {
            "target": rng.standard_normal((16, frames, 4, 4)).astype(np.float16),
            "context": rng.standard_normal((32, frames, 4, 4)).astype(np.float16),
            "mask": rng.integers(0, 256, (64, frames, 4, 4)).astype(np.uint8),
            "things": rng.integers(0, 256, (1, frames, 4, 4)).astype(np.uint8),
        }
