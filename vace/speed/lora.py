"""LoRAs fused into a transformer: W + weight * scale * up @ down, worked out in float32, before the run.

A fused model runs exactly as fast as the plain one. Each tensor is made anew by itself, on its own device, so that
memory grows by a few of the largest tensors only.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vace.errors import CheckpointError, InputError
from vace.speed.lora_check import Change, Lora, check_loras
from vace.speed.lora_sources import LoraSpec, parse_loras
from vace.weight_files import fingerprint

__all__ = [
    "Fused",
    "Lora",
    "LoraSpec",
    "check_loras",
    "facts_of",
    "fingerprint_of",
    "fuse_loras",
    "fusing",
    "parse_loras",
]

log = logging.getLogger("vace")

FUSIBLE = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True)
class Fused:
    """What was done. tensors: how many of the model's were changed. lines: one for each LoRA, in words."""

    tensors: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(self.lines)


@torch.no_grad()
def fuse_loras(model: nn.Module, loras: Sequence[Lora]) -> Fused:
    """Add checked LoRAs to the weights of `model`, the transformer they were checked against.

    All that several LoRAs add to a tensor is summed in float32 before it is cast back to the tensor's type. A LoRA of
    weight 0 is not read. Everything that can be refused is refused before the first change: raises InputError for
    weights that are quantised, not read yet or spread over processes, CheckpointError for a model that lacks a target.
    A LoRA that brings numbers which are not finite is a CheckpointError, after which the model must be built again.
    """
    changes = _by_target(loras)
    parameters = dict(model.named_parameters())
    for target, added in changes.items():
        _check_fusible(target, parameters.get(target), added[0][0])
    try:
        with _full_precision():
            for target, added in changes.items():
                _fuse(parameters[target], target, added)
    finally:
        for lora in loras:
            lora.file.weights.close()
    return Fused(len(changes), tuple(_line(lora) for lora in loras))


@contextlib.contextmanager
def fusing(loras: Sequence[Lora]) -> Iterator[Callable[[str, torch.Tensor], torch.Tensor] | None]:
    """What `vace.models.loading.build` calls for each tensor as it is read, by its name: the sums of `fuse_loras`.

    So they reach weights before these are rounded to 8 bits. None where no LoRA changes anything.
    """
    changes = _by_target(loras)

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return _fused(tensor, name, changes[name]) if name in changes else tensor

    try:
        with _full_precision():
            yield change if changes else None
    finally:
        for lora in loras:
            lora.file.weights.close()
    for lora in loras:
        log.info("%s", _line(lora))


def _by_target(loras: Sequence[Lora]) -> dict[str, list[tuple[Lora, Change]]]:
    changes: dict[str, list[tuple[Lora, Change]]] = {}
    for lora in loras:
        for change in lora.changes if lora.spec.weight else ():
            changes.setdefault(change.target, []).append((lora, change))
    return changes


def fingerprint_of(loras: Sequence[Lora]) -> str:
    """16 hex digits that tell these LoRAs, their weights and their order from others; '' when none changes anything.

    The order counts because sums of floats depend on it, if only in the last digit.
    """
    rows = [f"{_file_fingerprint(lora)} {float(lora.spec.weight)!r}" for lora in loras if lora.spec.weight]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16] if rows else ""


def facts_of(loras: Sequence[Lora]) -> list[dict[str, Any]]:
    """For the manifest: file, weight and fingerprint of each LoRA, without directories of this machine."""
    return [
        {"file": lora.file.path.name, "weight": lora.spec.weight, "fingerprint": _file_fingerprint(lora)}
        for lora in loras
    ]


def _file_fingerprint(lora: Lora) -> str:
    return fingerprint({path.resolve() for path in lora.file.files})


def _fuse(parameter: nn.Parameter, target: str, added: Sequence[tuple[Lora, Change]]) -> None:
    # A tensor of its own: the old one may be mapped from the checkpoint's file.
    parameter.data = _fused(parameter.data, target, added)


def _fused(weight: torch.Tensor, target: str, added: Sequence[tuple[Lora, Change]]) -> torch.Tensor:
    """A new tensor of the same type and layout: the weight and all that is added to it."""
    total = weight.float().flatten(1) if weight.ndim > 1 else weight.float()
    for lora, change in added:
        total = _added(total, lora, change)
    if not torch.isfinite(total).all():
        names = ", ".join(lora.file.path.name for lora, _ in added)
        raise CheckpointError(f"{names}: brings numbers into {target} that are not finite; it is damaged or too strong")
    return torch.empty_like(weight).copy_(total.reshape(weight.shape))


def _added(total: torch.Tensor, lora: Lora, change: Change) -> torch.Tensor:
    """total + weight * scale * what the file holds; kernels of any number of dimensions as matrices."""
    tensors = [lora.file.weights.read(name).to(total.device, torch.float32) for name in change.tensors]
    factor = lora.spec.weight * _scale(lora, change)
    if len(tensors) == 1:
        return total.add(tensors[0].reshape(total.shape), alpha=factor)
    up, down = (tensor.flatten(1) for tensor in tensors)
    return torch.addmm(total, up, down, alpha=factor)


def _scale(lora: Lora, change: Change) -> float:
    if change.alpha is None:
        return change.scale
    stored = lora.file.weights.read(change.alpha)
    if stored.numel() != 1 or not math.isfinite(float(stored)):
        raise CheckpointError(f"{lora.file.path}: {change.alpha} is no usable number; download it again")
    return float(stored) / change.rank


def _check_fusible(target: str, parameter: nn.Parameter | None, lora: Lora) -> None:
    if parameter is None:
        raise CheckpointError(
            f"{lora.file.path}: the model has no plain weight {target}; fuse LoRAs into the transformer they were "
            "checked against, before it is quantised, compiled or spread over devices"
        )
    kind = type(parameter)  # a quantised tensor is one of a class of its own
    if kind is not nn.Parameter or parameter.dtype not in FUSIBLE:
        what = str(parameter.dtype).removeprefix("torch.") if kind is nn.Parameter else kind.__name__
        raise InputError(
            f"--lora {lora.spec}: {target} is stored as {what}, into which no LoRA can be fused; take weights in "
            "bfloat16, float16 or float32 (and quantise after fusing), or leave --lora out"
        )
    if parameter.is_meta:
        raise InputError(f"--lora {lora.spec}: {target} has not been read yet; fuse LoRAs after the weights are read")


def _line(lora: Lora) -> str:
    ranks = f", rank {'/'.join(map(str, lora.ranks))}" if lora.ranks else ""
    skipped = f", {len(lora.skipped)} tensors left out" if lora.skipped else ""
    tensors = len({change.target for change in lora.changes})
    return f"LoRA {lora.file.path.name} at {lora.spec.weight:g}: {tensors} weights{ranks}{skipped}"


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Products in true float32, whatever a run has chosen for its own."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
