"""The flow stages of `vace-tiny`: what it learns from encoded rows, see `vace.training.latents`.

    base      text encoder and transformer without context blocks: videos from words; references are left out
    context   the context blocks alone, on the frozen base, as VACE trains them
    joint     everything but the VAE

Prompts are dropped to "" and contexts to those of a source that says nothing: then the model can be guided by either.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vace.errors import InputError, nearest
from vace.training import tiny

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vace.training.latents import LatentRows

PARTS = "target", "context", "mask", "things"  # of rows, see vace.training.latents
# In the loss, against a latent pixel of the ground: one that a thing fills, for they are few, and one of a reference,
# which only has to stay.
THING_WEIGHT, REFERENCE_WEIGHT = 5.0, 0.3
PROMPT_DROPOUT, CONTEXT_DROPOUT = 0.10, 0.15
SHIFT = tiny.DEFAULTS["shift"]
WARM_UP = 300  # steps until the rate is whole
JUDGED_BATCHES, JUDGED_ROWS = 8, 32  # of evaluation
# Parts of names whose matrices are better stepped by AdamW: tables, first and last layers.
PLAIN = ("embed_tokens", "relative_attention_bias", "patch_embedding", "transformer.proj_out", "time_embedder")


@dataclass(frozen=True)
class Span:
    """Up to the share `until` of a stage's steps, rows are cut to so many latent frames, and so many make a step.

    The VAE is causal: the first latents of a clip are those of a shorter one. What stands where and how it follows a
    condition is learnt from the first alone, at a fifth of the cost or less; how it moves, afterwards. stills: of the
    span's steps, the share that is of first frames all the same, lest what was learnt of them be forgotten. words: the
    share that is of words alone, without context blocks and references, as `base` learns: a model that is always led
    learns little of what names mean, and such steps cost half. Not for `context`, which trains nothing else.
    """

    until: float
    frames: int | None
    rows: int
    stills: float = 0.0
    words: float = 0.0


STILL = Span(1.0, 1, 96)
SPANS = (replace(STILL, until=0.45), Span(0.55, 2, 64, stills=0.2), Span(1.0, None, 32, stills=0.2))
JOINT_SPANS = (
    replace(STILL, until=0.27, words=1.0),
    replace(STILL, until=0.54, words=0.15),
    Span(0.6, 2, 64, stills=0.2, words=0.15),
    Span(1.0, None, 32, stills=0.2, words=0.15),
)
# Of the steps of first frames, where there are rows of one frame too: those of clips, with the tasks that need time.
CUT_SHARE = 0.25


@dataclass(frozen=True)
class Kind:
    """A flow stage. rate: the highest of its schedule."""

    steps: int
    rate: float
    spans: tuple[Span, ...] = SPANS

    def span(self, share: float) -> Span:
        """The span at that share of the steps."""
        return next((span for span in self.spans if share < span.until), self.spans[-1])


KINDS = {"base": Kind(16_000, 2e-3), "context": Kind(12_000, 2e-3), "joint": Kind(13_000, 2e-3, JOINT_SPANS)}


class FlowStage:
    """See vace.training.trainer.Stage. rows, held_out: folders of `vace.training.latents`. vae: its folder.

    stills: a folder of rows of one frame, which are many times cheaper to make; most steps of first frames take these.
    is_half: products in bfloat16 (vace/training/products.py). transformer: sizes of the class other than vace-tiny's.
    Raises InputError for an unknown kind.
    """

    score = "score"
    plain = PLAIN

    def __init__(
        self,
        kind: str,
        rows: Path,
        held_out: Path,
        vae: Path,
        *,
        seed: int = 0,
        length: float = 1.0,
        stills: Path | None = None,
        is_half: bool = False,
        transformer: dict[str, Any] | None = None,
    ):
        if kind not in KINDS:
            raise InputError(f"{kind}: no flow stage; {nearest(kind, KINDS)}")
        self.name, self.kind, self.seed = kind, KINDS[kind], seed
        self.rows, self.held_out, self.vae = Path(rows), Path(held_out), Path(vae)
        self.steps = max(1, round(length * self.kind.steps))
        self.stills = None if stills is None else Path(stills)
        self.transformer, self.is_half = transformer, is_half

    @property
    def with_context(self) -> bool:
        return self.name != "base"

    def check(self) -> None:
        """Raise InputError or CheckpointError for rows or a VAE that cannot be read, before anything is trained."""
        from vace.training.latents import load_vae

        for folder in (self.rows, self.held_out, self.stills):
            if folder is not None:
                open_rows(folder)
        load_vae(self.vae)

    def model(self, seed: int) -> nn.Module:
        from vace.training import flow_model, products

        model = flow_model.build(seed, _tokenizer(), with_context=self.with_context, transformer=self.transformer)
        model.product = products.halved if self.is_half else products.plain
        if self.name == "context":
            flow_model.freeze_base(model)
        return model

    def rate(self, step: int) -> float:
        """Warm-up, then half a cosine down to nothing."""
        warm = min(1.0, (step + 1) / min(WARM_UP, self.steps))
        return self.kind.rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Rows of one shape, some without their prompt or their context; see `arrays`."""
        rng = np.random.default_rng([self.seed, step])
        span = self.kind.span(step / self.steps)
        is_words = not self.with_context or (span.words > 0 and rng.random() < span.words)
        span = STILL if span.stills and rng.random() < span.stills else span
        is_cut = span.frames != 1 or self.stills is None or rng.random() < CUT_SHARE
        rows = open_rows(self.rows if is_cut else self.stills)
        found = rows.batch(rng, span.rows)
        without_prompt, without_context = (rng.random((2, span.rows)).T < (PROMPT_DROPOUT, CONTEXT_DROPOUT)).T
        found["prompts"] = [
            "" if is_dropped else prompt for prompt, is_dropped in zip(found["prompts"], without_prompt, strict=True)
        ]
        if not is_words and without_context.any():
            for name, value in rows.empty(found["shape"]).items():
                found[name][without_context] = value
        if span.frames is not None:
            found |= {name: found[name][:, :, : found["refs"] + span.frames] for name in PARTS}
        return self.arrays(found, with_context=not is_words)

    def arrays(self, found: dict[str, Any], *, with_context: bool) -> dict[str, np.ndarray]:
        """What the loss needs of rows: "target" float16, "weights" float32 [B,1,F,h,w] of the latent pixels' errors,
        "ids" int64 [B,L]; with context "context" and "mask" too, without it no references."""
        refs = found["refs"]
        weights = 1 + (THING_WEIGHT - 1) / 255 * found["things"].astype(np.float32)
        weights[:, :, :refs] = REFERENCE_WEIGHT
        made = {"target": found["target"], "weights": weights}
        if with_context:
            made |= {"context": found["context"], "mask": found["mask"]}
        else:
            made = {name: value[:, :, refs:] for name, value in made.items()}
        return {"ids": token_ids(found["prompts"]), **{name: np.ascontiguousarray(made[name]) for name in made}}

    def loss(self, model: nn.Module, batch: Any, noise: torch.Generator) -> tuple[torch.Tensor, dict[str, Any]]:
        from vace.training import flow

        losses = self.losses(model, batch, flow.draw_levels(len(batch["ids"]), noise, SHIFT), noise)
        return losses.mean(), {}

    def losses(self, model: nn.Module, batch: Any, levels: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
        """The weighted error of each row [B] at these levels, under noise that the generator gives."""
        import torch

        from vace.training import flow

        device = next(model.parameters()).device
        given = {name: torch.as_tensor(value).to(device) for name, value in batch.items()}
        clean, levels = given["target"].float(), levels.to(device)
        drawn = torch.randn(clean.shape, generator=noise).to(device)
        context = None
        if "context" in given:
            context = torch.cat([given["context"].float(), given["mask"].float() / 255], dim=1)
        noisy = flow.mixed(clean, drawn, levels)
        velocity = model(given["ids"], noisy, flow.TRAINING_STEPS * levels, context)
        return flow.errors(velocity.float(), clean, drawn, given["weights"])

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The loss on held-out rows, always the same at the same levels and noise: of all, of each task.

        score: the loss of all, negated.
        """
        import torch

        from vace.training import flow

        rows, losses, tasks = open_rows(self.held_out), [], []
        for k in range(JUDGED_BATCHES):
            rng, noise = np.random.default_rng([0, k]), torch.Generator().manual_seed(k)
            found = rows.batch(rng, JUDGED_ROWS)
            levels = flow.even_levels(JUDGED_ROWS, SHIFT)[torch.randperm(JUDGED_ROWS, generator=noise)]
            with torch.no_grad():
                losses += self.losses(model, self.arrays(found, with_context=self.with_context), levels, noise).tolist()
            tasks += found["tasks"]
        figures = {"score": -float(np.mean(losses)), "loss": float(np.mean(losses))}
        for task in sorted(set(tasks)):
            figures[f"loss_{task}"] = float(np.mean([one for one, of in zip(losses, tasks, strict=True) if of == task]))
        return figures

    def sheet(self, model: nn.Module) -> np.ndarray:
        """A few held-out rows: what leads, the truth, what the engine's sampler makes; see flow_sheet."""
        from vace.training import flow_sheet

        return flow_sheet.sheet(model, open_rows(self.held_out), _tokenizer(), self.vae, with_context=self.with_context)

    def write(self, model: nn.Module, folder: Path, facts: dict[str, Any]) -> None:
        """A checkpoint folder, see flow_model.write, and facts.json."""
        from vace.training import flow_model

        flow_model.write(model, folder, _tokenizer(), self.vae)
        tiny.write_json(folder / "facts.json", facts)


@functools.cache
def open_rows(folder: Path) -> LatentRows:
    """The rows of a folder, opened once in each process."""
    from vace.training.latents import LatentRows

    return LatentRows(folder)


def token_ids(prompts: list[str]) -> np.ndarray:
    """The tokens of cleaned prompts, int64 [B,L], zeros after the end of the shorter ones."""
    from vace.models.text import clean_prompt

    rows = [encoded.ids for encoded in _cut_tokenizer().encode_batch([clean_prompt(prompt) for prompt in prompts])]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    return ids


@functools.cache
def _tokenizer():
    return tiny.build_tokenizer()


@functools.cache
def _cut_tokenizer():
    tokenizer = tiny.build_tokenizer()
    tokenizer.enable_truncation(tiny.TEXT_LEN)
    return tokenizer
