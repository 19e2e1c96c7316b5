"""The guided velocity of a whole Wan run, each thing worked out once: what `vace.models.denoise.denoise` calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vace.models.denoise import combine
from vace.models.wan import transformer
from vace.models.wan.transformer import FirstHint, Job, Step
from vace.speed.guidance_interval import WHOLE, is_guided
from vace.speed.step_cache import StepCache
from vace.speed.step_share import steps_before

if TYPE_CHECKING:
    from diffusers import WanVACETransformer3DModel

COND, UNCOND = 0, 1


class Predictor:
    """(latents, timestep) -> velocity, to be called once for each of `steps` steps, in their order.

    texts: from `transformer.embed_text`, of the prompt, and of the negative prompt where there is guidance.
    context_end: hints only in that first fraction of the steps. guidance_interval: guidance only in that part of them.
    step_cache: the threshold of `vace.speed.step_cache`; 0 is off. The last two change the result; without them it is
    that of `denoise.guided` over `transformer.predict_velocity`, bit for bit.
    """

    def __init__(
        self,
        model: WanVACETransformer3DModel,
        job: Job,
        texts: Sequence[torch.Tensor],
        steps: int,
        *,
        guidance_scale: float = 1.0,
        context_end: float = 1.0,
        guidance_interval: tuple[float, float] = WHOLE,
        step_cache: float = 0.0,
    ) -> None:
        self.model = model
        self.texts = list(texts)
        self.steps = steps
        self.guidance_scale = guidance_scale
        self.guidance_interval = guidance_interval
        self.context_steps = steps_before(context_end, steps)
        self.cache = StepCache(step_cache, steps) if step_cache > 0 else None
        self.done = self.forwards = 0
        self._job, self._bare = job, transformer.without_context(job)

    def __call__(self, latents_CTHW: torch.Tensor, timestep: float) -> torch.Tensor:
        i, self.done = self.done, self.done + 1
        job = self._job if i < self.context_steps else self._bare
        step = transformer.begin_step(self.model, latents_CTHW, timestep)
        stacks = self._stacks(i, step, job, self._branches(i))
        velocities = [transformer.end_step(self.model, step, hidden, job) for hidden in stacks]
        return velocities[0] if len(velocities) == 1 else combine(*velocities, self.guidance_scale)

    def report(self) -> list[str]:
        """Lines for the log: what was saved; none where nothing could be."""
        return [self.cache.report()] if self.cache else []

    def _branches(self, i: int) -> tuple[int, ...]:
        is_asked_twice = len(self.texts) > 1 and self.guidance_scale != 1
        return (COND, UNCOND) if is_asked_twice and is_guided(i, self.steps, self.guidance_interval) else (COND,)

    def _stacks(self, i: int, step: Step, job: Job, branches: Sequence[int]) -> list[torch.Tensor]:
        if self.cache is None:
            return [self._run(step, job, branch) for branch in branches]
        firsts = [transformer.first_hint(self.model, step, self.texts[branch], job) for branch in branches]
        entering = step.hidden_1ND
        shared = transformer.modulated_input(self.model, step)
        asked = {}
        for branch, first in zip(branches, firsts, strict=True):
            conditions = (self.model, self.texts[branch], job.context_1ND, job.scales, job.grid)
            asked[branch] = conditions, ([shared] if first is None else [shared, first.hint_1ND])
        if self.cache.is_served(i, asked):
            return [self.cache.serve(branch, entering) for branch in branches]
        stacks = []
        for branch, first in zip(branches, firsts, strict=True):
            stacks.append(self._run(step, job, branch, first))
            self.cache.keep(branch, entering, stacks[-1])
        return stacks

    def _run(self, step: Step, job: Job, branch: int, first: FirstHint | None = None) -> torch.Tensor:
        self.forwards += 1
        return transformer.run_stack(self.model, step, self.texts[branch], job, first)
