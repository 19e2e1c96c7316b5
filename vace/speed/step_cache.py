"""A step cache: steps at which the model would say nearly what it said before are not run. Approximate, off by default.

What is kept is the residual of the whole main stack, hints included: what the stack left minus what entered it. A step
that is served adds the residual to the new entering state, so no block and no hint is run, and none is counted twice.
(Caches that wrap single blocks of diffusers' WanVACETransformer3DModel store the hints and add them again.)

The gate looks at two things of the present step, both compared with the step before: the timestep-modulated input of
the first main block, and the fresh hint of context block 0 (one block's work, handed on when the step is run after
all). The larger of the two relative changes, mean |a - b| / mean |b|, is added up from step to step, as TeaCache does
(arXiv 2411.19108), without its polynomial, which is fitted to each model. While the sum stays below the threshold the
step is served; when it reaches it, the model is run and the sum starts again at 0.

Guidance takes differences between its branches, so a stale branch beside a fresh one would be amplified: each branch
has a state of its own, and a step is served for all of its branches or for none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

FIRST_SHARE = 0.1  # of the steps, at least one: they lay out the picture and are always run, as is the last one

Signals = Sequence[torch.Tensor]


@dataclass
class BranchState:
    """What one guidance branch keeps: what it was asked under, its last signals, and its residual [1, N, D]."""

    conditions: tuple
    signals: Signals
    residual: torch.Tensor | None = None
    versions: tuple[int, ...] = ()
    change: float = 0.0
    last: int = -1


class StepCache:
    """The state of one run. threshold: 0 runs every step; steps: how many the run has."""

    def __init__(self, threshold: float, steps: int) -> None:
        self.threshold = threshold
        self.steps = steps
        self.served = self.asked = 0  # forwards, one per branch and step
        self._branches: dict[int, BranchState] = {}

    @property
    def first_steps(self) -> int:
        """How many steps from the start are always run."""
        return max(1, math.ceil(FIRST_SHARE * self.steps))

    def is_served(self, i: int, asked: Mapping[int, tuple[tuple, Signals]]) -> bool:
        """Whether step i can be served to every branch in `asked`: branch -> (conditions, signals).

        conditions: all that decides the answer besides latents and timestep. Tensors and modules in it count as the
        same only when they are the same object, unchanged since; other values when they are equal. A branch that is
        new, sat out a step, or was asked under other conditions or shapes, is not served.
        """
        self.asked += len(asked)
        for branch, (conditions, signals) in asked.items():
            self._update(branch, i, conditions, signals)
        states = [self._branches[branch] for branch in asked]
        is_inside = self.first_steps <= i < self.steps - 1
        served = is_inside and all(state.residual is not None and state.change < self.threshold for state in states)
        self.served += len(asked) * served
        return served

    def serve(self, branch: int, entering_1ND: torch.Tensor) -> torch.Tensor:
        """What the stack would leave, by the residual of the last step that was run."""
        return entering_1ND + self._branches[branch].residual

    def keep(self, branch: int, entering_1ND: torch.Tensor, leaving_1ND: torch.Tensor) -> None:
        """After a step was run: its residual; changes count from here."""
        state = self._branches[branch]
        state.residual, state.change = leaving_1ND - entering_1ND, 0.0

    def report(self) -> str:
        """One line for the log."""
        return f"step cache {self.threshold:g}: {self.served} of {self.asked} forwards saved"

    def _update(self, branch: int, i: int, conditions: tuple, signals: Signals) -> None:
        versions = tuple(_version(value) for value in conditions)
        state = self._branches.get(branch)
        is_same = (
            state is not None
            and state.last == i - 1
            and state.versions == versions
            and _are_same(state.conditions, conditions)
            and [signal.shape for signal in state.signals] == [signal.shape for signal in signals]
        )
        if not is_same:
            self._branches[branch] = BranchState(conditions, signals, versions=versions, last=i)
            return
        state.change += max(map(relative_change, signals, state.signals))
        state.signals, state.last = signals, i


def relative_change(new: torch.Tensor, old: torch.Tensor) -> float:
    """mean |new - old| / mean |old|, in float32; 0 where both are all zeros, infinite where only `old` is."""
    old = old.float()
    difference, size = torch.stack([(new.float() - old).abs().mean(), old.abs().mean()]).tolist()
    if size == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / size


def cache_bytes(tokens: int, width: int, branches: int, type_bytes: int) -> int:
    """Memory the cache takes on the device: per branch residual and hint, and the input they share."""
    return tokens * width * type_bytes * (2 * branches + 1)


def _are_same(old: tuple, new: tuple) -> bool:
    return len(old) == len(new) and all(map(_is_same, old, new))


def _is_same(old: object, new: object) -> bool:
    if isinstance(old, (torch.Tensor, torch.nn.Module)) or isinstance(new, (torch.Tensor, torch.nn.Module)):
        return old is new
    return old == new


def _version(value: object) -> int:
    """How often a tensor was written to in place; 0 for all else, and for tensors that do not count it."""
    return value._version if isinstance(value, torch.Tensor) and not value.is_inference() else 0
