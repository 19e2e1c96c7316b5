"""One Wan video on many devices: its tokens spread over the processes of a team.

The tokens of latents and context are cut into runs of equal length, one for each process in order, the rotary tables
likewise; zeros fill up the last runs. Everything but self-attention works token by token and needs nobody else; for
self-attention see `vace.speed.parallel_attention`. What leaves the main stack is gathered, so that every process holds
the whole velocity. Time and text are the same everywhere.

The leader calls a `LeadingPredictor` as it would a `Predictor`; the others are in `follow`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.nn import functional

from vace.models.wan.predictor import Predictor
from vace.models.wan.transformer import Job, Step
from vace.speed.parallel_attention import SpreadAttention
from vace.speed.parallel_launch import Team
from vace.speed.step_cache import StepCache

if TYPE_CHECKING:
    from diffusers import WanVACETransformer3DModel

InUse = Callable[[str], AbstractContextManager[Any]]  # a component's name -> it, ready on its device


@dataclass(frozen=True)
class Split:
    """How `tokens` tokens lie on `parts` processes, of which this is number `index`."""

    tokens: int
    parts: int
    index: int

    @property
    def run(self) -> int:
        """Tokens of each process."""
        return -(-self.tokens // self.parts)

    def part(self, x: torch.Tensor, axis: int = 1) -> torch.Tensor:
        """This process's run of all the tokens on `axis`, filled up with zeros at the end of them all."""
        start = min(self.index * self.run, self.tokens)
        own = x.narrow(axis, start, min(self.run, self.tokens - start))
        missing = self.run - own.shape[axis]
        return functional.pad(own, (*[0, 0] * (x.ndim - 1 - axis), 0, missing)).contiguous()

    def whole(self, x_1nD: torch.Tensor) -> torch.Tensor:
        """Every process's run of tokens -> all of them, [1, N, D], on every process."""
        runs = x_1nD.new_empty(self.parts * self.run, x_1nD.shape[2])
        dist.all_gather(list(runs.chunk(self.parts)), x_1nD[0].contiguous())
        return runs[: self.tokens].unsqueeze(0)

    def job(self, job: Job) -> Job:
        """The job with context and rotary tables cut to this process's run."""
        context = None if job.context_1ND is None else self.part(job.context_1ND)
        is_table = isinstance(job.rope, torch.Tensor)
        rope = self.part(job.rope, 0) if is_table else tuple(self.part(table, 1) for table in job.rope)
        return replace(job, context_1ND=context, rope=rope)


class SpreadPredictor(Predictor):
    """A `Predictor` each process of a team has and calls with the same latents: the result is the same on all.

    job: whole, as `transformer.prepare` gives it. The model's attention must come from `Team.attention`.
    """

    def __init__(
        self,
        team: Team,
        model: WanVACETransformer3DModel,
        job: Job,
        texts: Sequence[torch.Tensor],
        steps: int,
        **options: Any,
    ) -> None:
        frames, rows, columns = job.grid
        self.split = Split(frames * rows * columns, team.size, team.rank)
        super().__init__(model, self.split.job(job), texts, steps, **options)
        if self.cache is not None:
            self.cache = WholeCache(self.split, self.cache.threshold, steps)

    def _stacks(self, i: int, step: Step, job: Job, branches: Sequence[int]) -> list[torch.Tensor]:
        attention_of(self.model).tokens = self.split.tokens
        part = step._replace(hidden_1ND=self.split.part(step.hidden_1ND))
        return [self.split.whole(hidden) for hidden in super()._stacks(i, part, job, branches)]


class LeadingPredictor(SpreadPredictor):
    """The leader's: what it is made with and called with goes to the followers first."""

    def __init__(
        self,
        team: Team,
        model: WanVACETransformer3DModel,
        job: Job,
        texts: Sequence[torch.Tensor],
        steps: int,
        **options: Any,
    ) -> None:
        self._team = team
        tables = [job.rope] if isinstance(job.rope, torch.Tensor) else list(job.rope)
        context = [] if job.context_1ND is None else [job.context_1ND]
        team.send(
            "video", [*texts, *tables, *context], texts=len(texts), tables=len(tables), scales=job.scales,
            grid=job.grid, steps=steps, options=options,
        )  # fmt: skip
        super().__init__(team, model, job, texts, steps, **options)

    def __call__(self, latents_CTHW: torch.Tensor, timestep: float) -> torch.Tensor:
        self._team.send("step", [latents_CTHW], timestep=timestep)
        return super().__call__(latents_CTHW, timestep)


class WholeCache(StepCache):
    """A step cache that judges by the signals of all tokens, so that all processes come to one decision."""

    def __init__(self, split: Split, threshold: float, steps: int) -> None:
        super().__init__(threshold, steps)
        self._split = split

    def is_served(self, i: int, asked: Mapping[int, tuple[tuple, Sequence[torch.Tensor]]]) -> bool:
        whole: dict[int, torch.Tensor] = {}  # the branches share a signal
        for _, signals in asked.values():
            for signal in signals:
                if id(signal) not in whole:
                    whole[id(signal)] = self._split.whole(signal)
        judged = {
            branch: (conditions, [whole[id(signal)] for signal in signals])
            for branch, (conditions, signals) in asked.items()
        }
        return super().is_served(i, judged)


def attention_of(model: WanVACETransformer3DModel) -> SpreadAttention:
    """The attention that all blocks of the model share."""
    return model.blocks[0].attn1.processor.attend


@torch.no_grad()
def follow(team: Team, in_use: InUse) -> int:
    """What every process but the leader does until the leader leaves; returns how many steps it took part in.

    in_use: gives the component of that name for use; the transformer is read at once, while the leader reads prompt
    and sources.
    """
    predict, done = None, 0
    with in_use("transformer") as model:
        while True:
            kind, tensors, plain = team.receive()
            if kind == "end":
                return done
            if kind == "text":
                with in_use("text_encoder") as encoder:
                    encoder(input_ids=tensors[0], attention_mask=tensors[1])
            elif kind == "video":
                predict = None  # what the last video held goes first
                predict = _follower(team, model, tensors, plain)
            elif kind == "step":
                predict(tensors[0], plain["timestep"])
                done += 1


def _follower(team: Team, model: WanVACETransformer3DModel, tensors: list, plain: dict) -> SpreadPredictor:
    count, tables = plain["texts"], plain["tables"]
    texts, rope, context = tensors[:count], tensors[count : count + tables], tensors[count + tables :]
    job = Job(context[0] if context else None, rope[0] if tables == 1 else tuple(rope), plain["scales"], plain["grid"])
    return SpreadPredictor(team, model, job, texts, plain["steps"], **plain["options"])
