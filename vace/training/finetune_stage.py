"""The stage of `vace train`: flow matching on encoded rows, for any trained part of a Wan2.1-VACE transformer."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vace.errors import CheckpointError
from vace.media.manifest import write_json
from vace.training import flow
from vace.training.finetune_cache import Item
from vace.training.finetune_model import Tuned

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from vace.models.parts import Part

LEVELS = (0.25, 0.5, 0.75, 0.95)  # shares of noise at which rows are judged
JUDGED, SHOWN = 8, 2  # rows of an evaluation at most, of a sheet
SHEET_STEPS = 20  # of denoising, at most
JUDGED_SEED = 77
WARM_UP, LONGEST_WARM_UP = 0.05, 100  # share of the steps until the rate is whole, and the most steps


@dataclass(frozen=True)
class Recipe:
    """How rows become steps. Shares are of examples.

    accumulate: batches whose gradients are added up for one step. prompt_dropout: prompts replaced by the empty one,
    which guidance needs. context_dropout: src_video and src_mask left out, references kept.
    """

    steps: int
    rate: float
    batch_size: int = 1
    accumulate: int = 1
    shift: float = 3.0
    prompt_dropout: float = 0.1
    context_dropout: float = 0.05
    seed: int = 0


class FinetuneStage:
    """See vace.training.trainer.Stage.

    rows, judged: encoded rows to train on, to judge by. empty_text: file with the states of the empty prompt.
    writer: writes the weights into a folder, `writer(tuned, folder)`. vae: for sheets, None for none.
    """

    score = "decibels"

    def __init__(
        self,
        name: str,
        tuned: Tuned,
        recipe: Recipe,
        rows: Sequence[Item],
        judged: Sequence[Item],
        empty_text: Path,
        accelerator: Accelerator,
        writer: Any,
        vae: Part | None = None,
        guidance: float = 5.0,
    ) -> None:
        self.name, self.tuned, self.recipe, self.steps = name, tuned, recipe, recipe.steps
        self.batches = Batches(rows, recipe.batch_size, recipe.seed)
        self.judged, self.judged_name = (judged, "validation") if judged else (rows, "training")
        self.empty_text, self.accelerator, self.writer, self.vae = empty_text, accelerator, writer, vae
        self.guidance = guidance

    def model(self, seed: int) -> nn.Module:
        return self.tuned

    def rate(self, step: int) -> float:
        """Warm-up, then constant: so that a run can be made longer by more steps."""
        return self.recipe.rate * min(1.0, (step + 1) / warm_up(self.steps))

    def batch(self, step: int) -> list[list[dict[str, Any]]]:
        """The rows of this process at a step: `accumulate` batches of rows of one shape."""
        count, rank = self.accelerator.num_processes, self.accelerator.process_index
        first = step * self.recipe.accumulate
        numbers = [(first + i) * count + rank for i in range(self.recipe.accumulate)]
        return [[item.load() | {"item": item} for item in self.batches[number]] for number in numbers]

    def loss(self, model: nn.Module, batch: Any, noise: torch.Generator) -> tuple[torch.Tensor, dict[str, Any]]:
        """The loss of the last batch, for its gradient; those of the batches before it are added here."""
        total = 0.0
        for number, rows in enumerate(batch, 1):
            is_last = number == len(batch)
            with contextlib.nullcontext() if is_last else self.accelerator.no_sync(model):
                loss = self._loss(model, rows, noise) / len(batch)
                if not is_last:
                    self.accelerator.backward(loss)
            total += float(loss.detach())
        if not math.isfinite(total):
            raise CheckpointError(
                "the loss is no finite number any more; lower --learning_rate, or try --dtype float32 (the state that "
                "was saved last is kept)"
            )
        return loss, {"loss": total}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Losses of the judged rows at fixed noise, overall and by share of noise; decibels: the overall loss as such,
        more is better.
        """
        by_level = {level: [] for level in LEVELS}
        for number, item in enumerate(self.judged[:JUDGED]):
            row = item.load()
            noise = torch.Generator().manual_seed(JUDGED_SEED + number)
            drawn = torch.randn(row["target"].shape, generator=noise)
            for level in LEVELS:
                by_level[level].append(float(self._error(model, [row], drawn[None], torch.tensor([level]))))
        losses = {level: float(np.mean(values)) for level, values in by_level.items()}
        mean = float(np.mean(list(losses.values())))
        name = f"{self.judged_name}_loss"
        return {self.score: -10 * math.log10(max(mean, 1e-12)), name: mean} | {
            f"{name}_at_{level}": value for level, value in losses.items()
        }

    @torch.no_grad()
    def sheet(self, model: nn.Module) -> np.ndarray:
        """Three frames of the target, and below them of what the model makes of the same sources, for a few rows."""
        from vace.models.loading import build

        rows = [item.load() | {"refs": item.refs} for item in self.judged[:SHOWN]]
        made = [self._sample(model, row, number) for number, row in enumerate(rows)]
        vae = build(self.vae, torch.float32, self.accelerator.device)
        strips = []
        for row, latents in zip(rows, made, strict=True):
            pair = [_strip(vae, clip, row["refs"]) for clip in (row["target"], latents)]
            strips.append(np.concatenate(pair))
        width = max(strip.shape[1] for strip in strips)
        return np.concatenate([np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0))) for strip in strips])

    def write(self, model: nn.Module, folder: Path, facts: dict[str, Any]) -> None:
        """The trained weights, and facts.json beside them."""
        self.writer(model, folder)
        write_json(folder / "facts.json", facts)

    def _loss(self, model: nn.Module, rows: list[dict], noise: torch.Generator) -> torch.Tensor:
        rows = [self._dropped(row, noise) for row in rows]
        drawn = torch.randn((len(rows), *rows[0]["target"].shape), generator=noise)
        return self._error(model, rows, drawn, flow.draw_levels(len(rows), noise, self.recipe.shift))

    def _error(self, model: nn.Module, rows: list[dict], noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        device = self.accelerator.device
        target, context = (torch.stack([row[name] for row in rows]).to(device) for name in ("target", "context"))
        noise, levels = noise.to(device), levels.to(device)
        texts = [row["text"].to(device).float() for row in rows]
        predicted = model(flow.mixed(target, noise, levels), (flow.TRAINING_STEPS * levels).tolist(), texts, context)
        return flow.errors(predicted, target, noise).mean()

    def _dropped(self, row: dict[str, Any], noise: torch.Generator) -> dict[str, Any]:
        prompt, context = (torch.rand(2, generator=noise) < torch.tensor(
            [self.recipe.prompt_dropout, self.recipe.context_dropout])).tolist()  # fmt: skip
        if prompt:
            row = row | {"text": self._empty()}
        if context:
            row = row | {"context": row["item"].load_empty(row["context"])}
        return row

    @functools.cache  # noqa: B019  one stage lives as long as its run
    def _empty(self) -> torch.Tensor:
        from safetensors.torch import load_file

        return load_file(self.empty_text)["states"]

    def _sample(self, model: Tuned, row: dict[str, Any], seed: int) -> torch.Tensor:
        """Latents by the sampler of generation, guided against the empty prompt."""
        from vace.models.denoise import denoise, draw_noise, guided
        from vace.models.samplers import make_sampler
        from vace.models.wan import transformer as wan

        device = self.accelerator.device
        with model.in_place() as transformer:
            job = wan.prepare(transformer, row["context"].to(device))

            def predictor(states: torch.Tensor):
                text = wan.embed_text(transformer, states.to(device), model.text_len)
                return lambda latents, timestep: wan.predict_velocity(transformer, latents, timestep, text, job)

            predict = guided(predictor(row["text"]), predictor(self._empty()), self.guidance)
            start = draw_noise(tuple(row["target"].shape), JUDGED_SEED + seed).to(device)
            return denoise(start, make_sampler("unipc", SHEET_STEPS, self.recipe.shift), predict)


class Batches:
    """Endless batches of rows of one shape, by number: each row comes once in every round, in an order of its own.

    The last batch of a shape in a round is filled up with rows of the same round.
    """

    def __init__(self, rows: Sequence[Item], size: int, seed: int) -> None:
        self.rows, self.size, self.seed = list(rows), size, seed
        self.groups: dict[tuple, list[int]] = {}
        for number, row in enumerate(rows):
            self.groups.setdefault((*row.shape, row.refs), []).append(number)
        self.in_round = sum(-(-len(group) // size) for group in self.groups.values())
        self._round: tuple[int, list[list[int]]] = (-1, [])

    def __getitem__(self, number: int) -> list[Item]:
        turn, place = divmod(number, self.in_round)
        if self._round[0] != turn:
            self._round = (turn, self._drawn(turn))
        return [self.rows[i] for i in self._round[1][place]]

    def _drawn(self, turn: int) -> list[list[int]]:
        rng = np.random.default_rng([self.seed, turn])
        found = []
        for group in self.groups.values():
            order = rng.permutation(group).tolist()
            whole = -(-len(order) // self.size) * self.size
            order = [order[i % len(order)] for i in range(whole)]
            found += [order[at : at + self.size] for at in range(0, whole, self.size)]
        return [found[i] for i in rng.permutation(len(found))]


def warm_up(steps: int) -> int:
    return max(1, min(LONGEST_WARM_UP, round(WARM_UP * steps)))


def _strip(vae: nn.Module, latents: torch.Tensor, refs: int) -> np.ndarray:
    """The first, middle and last frame of latents [16,T,h,w] side by side, uint8 [H,3W,3]."""
    from vace.conditioning.pixels import to_pixels
    from vace.models.wan.vae import decode

    video = to_pixels(decode(vae, latents[:, refs:].float()).cpu())
    return np.concatenate([video[at] for at in (0, len(video) // 2, -1)], axis=1)
