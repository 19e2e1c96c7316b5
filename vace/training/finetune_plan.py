"""What a fine-tuning will do and cost, from files' headers and arithmetic alone, and which rows it is judged by."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vace.models.wan.cost import transformer_flops
from vace.places import CORE_RATE, CUDA_RATE, toy_notice
from vace.training.finetune_model import CONTEXT, trained_count
from vace.training.finetune_rows import PlannedRow

if TYPE_CHECKING:
    from vace.models.checkpoints import Checkpoint
    from vace.models.parts import Part
    from vace.training.finetune_stage import Recipe

FLOAT32 = 4  # bytes
STATE_COPIES = 4  # of the trained weights in state.pt: themselves, their average, two of the optimiser
TRAINED_BYTES = FLOAT32 * (1 + STATE_COPIES)  # and the gradient
FEWEST_ROWS = 5  # from which some are kept for validation


def split_rows(rows: Sequence[PlannedRow], share: float, seed: int) -> tuple[list[int], list[int]]:
    """(numbers of rows to train on, numbers for validation): the rows that say so, else about `share` of the targets,
    all rows of a target on one side, so that nothing that is judged was trained on.
    """
    marked = [number for number, one in enumerate(rows) if one.row.is_judged]
    if marked:
        return [number for number in range(len(rows)) if number not in marked], marked
    targets = list(dict.fromkeys(one.row.target.resolve() for one in rows))
    count = max(1, round(share * len(targets))) if share > 0 and len(targets) >= FEWEST_ROWS else 0
    order = np.random.default_rng([seed, len(targets)]).permutation(len(targets))
    judged = {targets[i] for i in order[:count]}
    sides: tuple[list[int], list[int]] = ([], [])
    for number, one in enumerate(rows):
        sides[one.row.target.resolve() in judged].append(number)
    return sides


def shapes_of(part: Part) -> dict[str, tuple[int, ...]]:
    """name in the class -> shape, of every weight of a component."""
    return {name: part.weights.shapes[key] for name, key in part.names.items()}


def trained_numbers(part: Part, kind: str, rank: int, blocks: str) -> int:
    return trained_count(shapes_of(part), kind, rank, blocks)


def memory(part: Part, kind: str, trained: int, tokens: int, batch: int, per_number: int, checkpointing: bool) -> int:
    """Bytes on the device while training, roughly: weights, what the optimiser keeps, and what a step computes.

    tokens: of the largest row. per_number: bytes of a number in the arithmetic.
    """
    config = part.config
    width, blocks = config["num_attention_heads"] * config["attention_head_dim"], config["num_layers"]
    blocks += len(config["vace_layers"])
    whole = sum(int(np.prod(shape)) for shape in shapes_of(part).values())
    frozen = per_number * (whole - trained if kind == CONTEXT else whole)
    # Of a block: float32 copies around the norms, queries, keys, values and their like, both sides of the feed-forward.
    one = tokens * batch * (width * (6 * FLOAT32 + 14 * per_number) + 3 * config["ffn_dim"] * per_number)
    kept = blocks * 2 * tokens * batch * width * per_number + one if checkpointing else blocks * one
    return frozen + TRAINED_BYTES * trained + kept


def minutes(part: Part, recipe: Recipe, tokens: float, device: str, processes: int, checkpointing: bool) -> float:
    """How long the steps will take, roughly: a backward pass costs two forward passes, and one more where blocks run
    again. tokens: of a row, on average.
    """
    one = transformer_flops(part.config, len(part.config["vace_layers"]), round(tokens))
    passes = 4 if checkpointing else 3
    rate = CUDA_RATE if device.startswith("cuda") else CORE_RATE * (os.cpu_count() or 1) / processes
    return one * passes * recipe.batch_size * recipe.accumulate * recipe.steps / rate / 60


def plan_line(
    checkpoint: Checkpoint,
    part: Part,
    rows: Sequence[PlannedRow],
    sides: tuple[list[int], list[int]],
    recipe: Recipe,
    run: Mapping[str, Any],
) -> str:
    """What will happen, in one line. run: kind, rank, blocks, trained, dtype, device, processes, checkpointing."""
    whole = sum(int(np.prod(shape)) for shape in shapes_of(part).values())
    what = (
        "the context blocks" if run["kind"] == CONTEXT else f"a LoRA of rank {run['rank']} in {_where(run['blocks'])}"
    )
    tokens = [one.shape.tokens for one in rows]
    sizes = sorted({f"{one.shape.width}x{one.shape.height}" for one in rows})
    shown = ", ".join(sizes) if len(sizes) <= 3 else f"{len(sizes)} sizes"
    lengths = sorted({one.shape.model_count for one in rows})
    span = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    need = memory(part, run["kind"], run["trained"], max(tokens), recipe.batch_size, run["dtype"].itemsize,
                  run["checkpointing"])  # fmt: skip
    time = minutes(part, recipe, float(np.mean(tokens)), run["device"], run["processes"], run["checkpointing"])
    examples = recipe.batch_size * recipe.accumulate * run["processes"]
    parts = [
        f"train {what} of {checkpoint.name}: {_millions(run['trained'])} of {_millions(whole)} weights",
        f"{len(sides[0])} rows to train on and {len(sides[1])} for validation at {shown}, {span} frames",
        f"{recipe.steps} steps of {examples} at rate {recipe.rate:g}, seed {recipe.seed}",
        f"on {run['device']} in {str(run['dtype']).removeprefix('torch.')}"
        + (f", {run['processes']} processes" if run["processes"] > 1 else ""),
        f"{_gigabytes(need)} and about {_duration(time)}",
    ]
    if checkpoint.is_toy:
        parts.append(toy_notice(checkpoint.defaults))
    return "; ".join(parts)


def _where(blocks: str) -> str:
    return "the context blocks" if blocks == "context" else "all blocks"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count < 1e8 else f"{count / 1e6:.0f} M"


def _gigabytes(need: int) -> str:
    return f"about {need / 1e9:.1f} GB" if need >= 1e9 else "under 1 GB"


def _duration(count: float) -> str:
    return f"{count / 60:.1f} h" if count >= 120 else f"{max(1, round(count))} min"
