"""A LoRA held against a transformer by names and shapes, before any weights are read."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vace.errors import CheckpointError, InputError
from vace.speed import lora_families as families
from vace.speed.lora_files import LoraFile, open_lora
from vace.speed.lora_keys import (
    ALPHA,
    BIAS_DIFFERENCE,
    DIFFERENCE,
    DOWN,
    UP,
    UP_BIAS,
    Keys,
    bias_name,
    grouped,
    weight_name,
)
from vace.speed.lora_sources import LoraSpec, locate
from vace.weight_files import Shape

if TYPE_CHECKING:
    from vace.models.parts import Part

log = logging.getLogger("vace")

_PATCHES = "patch_embedding.weight"
_LISTED = 4


@dataclass(frozen=True)
class Change:
    """What a LoRA adds to one tensor of the transformer: scale * up @ down, or scale * difference.

    target: the tensor's name in the class. tensors: names in the file, (up, down) or (difference,). alpha: the name of
    the tensor by which scale is alpha / rank, or None where `scale` holds.
    """

    target: str
    tensors: tuple[str, ...]
    rank: int = 1
    alpha: str | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Lora:
    """A LoRA that fits the transformer it was checked against. skipped: names in the file that are left out."""

    spec: LoraSpec
    file: LoraFile
    changes: tuple[Change, ...]
    skipped: tuple[str, ...] = ()

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({change.rank for change in self.changes if len(change.tensors) == 2}))


def check_loras(specs: Sequence[LoraSpec], part: Part, no_download: bool = False) -> tuple[Lora, ...]:
    """The LoRAs found, opened and fitted to the transformer `part`, from file headers alone.

    What belongs to Wan's image-to-video models or to a text encoder is left out with a warning when the rest fits.
    Raises MissingWeights, InputError where several files could be meant or the base model takes none, and
    CheckpointError, with the reason, for a file that does not fit: of another size, family or kind, or incomplete.
    """
    if specs and part.base != "wan":
        raise InputError(f"--lora {specs[0]}: LoRAs are for --base wan, not for {part.base}; leave it out")
    shapes = {name: tuple(part.weights.shapes[stored]) for name, stored in part.names.items()}
    loras = tuple(_fitted(spec, open_lora(locate(spec, no_download)), shapes) for spec in specs)
    for lora in loras:
        _warn(lora)
    return loras


def _fitted(spec: LoraSpec, file: LoraFile, shapes: Mapping[str, Shape]) -> Lora:
    keys = grouped(file.weights.shapes)
    _check_kind(file, keys)
    skipped = {
        module: tensors
        for module, tensors in keys.modules.items()
        if families.is_image_only(module) or any(families.is_text_encoder(name) for name in tensors.values())
    }
    rest = {module: tensors for module, tensors in keys.modules.items() if module not in skipped}
    if not rest:
        raise CheckpointError(f"{file.path}: {_nothing_left(skipped)}")
    _check_pairs(file, rest)
    changes, unknown = _changes(file, rest, shapes)
    foreign = _foreign_patches(file, changes, shapes)
    _check_shapes(file, [change for change in changes if change not in foreign], shapes)
    _check_known(file, unknown, [*unknown, *keys.others], bool(changes))
    left_out = [name for tensors in skipped.values() for name in tensors.values()]
    left_out += [name for change in foreign for name in change.tensors]
    kept = tuple(change for change in changes if change not in foreign)
    if not kept:
        raise CheckpointError(f"{file.path}: {_nothing_left({})}")
    return Lora(spec, file, kept, tuple(left_out))


def _check_kind(file: LoraFile, keys: Keys) -> None:
    kind = families.other_kind(file.weights.shapes)
    if kind:
        raise CheckpointError(f"{file.path}: {kind}, which is not read; convert it to a plain LoRA, or leave it out")
    if all(set(tensors) == {ALPHA} for tensors in keys.modules.values()):
        family = families.family_of(keys.others)
        what = f"a file for {family}" if family else f"its tensors are {_some(keys.others)}"
        raise CheckpointError(
            f"{file.path}: no LoRA ({what}); give a file with lora_A/lora_B, lora_down/lora_up or diff tensors"
        )
    if keys.doubled:
        raise CheckpointError(f"{file.path}: says two things of one module ({_some(keys.doubled)}); keep one of them")


def _nothing_left(skipped: Mapping[str, Mapping[str, str]]) -> str:
    if all(families.is_image_only(module) for module in skipped):
        return "changes only layers of Wan's image-to-video models, which VACE does not have; take a LoRA for T2V"
    return "changes only a text encoder; take one that changes the transformer"


def _check_pairs(file: LoraFile, modules: Mapping[str, Mapping[str, str]]) -> None:
    for one, other, words in ((UP, DOWN, "second matrix (up, B)"), (DOWN, UP, "first matrix (down, A)")):
        alone = [tensors[one] for tensors in modules.values() if one in tensors and other not in tensors]
        if alone:
            raise CheckpointError(
                f"{file.path}: {len(alone)} modules have only the {words} of two ({_some(alone)}); download it again"
            )


def _changes(
    file: LoraFile, modules: Mapping[str, Mapping[str, str]], shapes: Mapping[str, Shape]
) -> tuple[list[Change], list[str]]:
    """What is added to which tensor, and the names of the file that no tensor of the transformer answers to."""
    changes, unknown = [], []
    for module, tensors in modules.items():
        weight, bias = weight_name(module, shapes), bias_name(module, shapes)
        rank = file.weights.shapes[tensors[DOWN]][0] if DOWN in tensors and file.weights.shapes[tensors[DOWN]] else 1
        made = {"rank": max(rank, 1), "alpha": tensors.get(ALPHA), "scale": file.scale(module, max(rank, 1))}
        for role, target in ((UP, weight), (UP_BIAS, bias), (DIFFERENCE, weight), (BIAS_DIFFERENCE, bias)):
            if role not in tensors:
                continue
            if target is None:
                unknown.append(tensors[role])
            elif role == UP:
                changes.append(Change(target, (tensors[UP], tensors[DOWN]), **made))
            else:  # of a pair's second matrix, the bias counts as the pair does
                changes.append(Change(target, (tensors[role],), **(made if role == UP_BIAS else {})))
    return changes, unknown


def _foreign_patches(file: LoraFile, changes: Iterable[Change], shapes: Mapping[str, Shape]) -> list[Change]:
    """Changes to patch layers of more input channels: those of image-to-video models of the same width."""
    found = [change for change in changes if change.target == _PATCHES]
    return [
        change
        for change in found
        if (misfit := _misfit(file, change, shapes)) and misfit[0][0] == misfit[1][0] and misfit[0][1] > misfit[1][1]
    ]


def _check_shapes(file: LoraFile, changes: Iterable[Change], shapes: Mapping[str, Shape]) -> None:
    misfits, example = {}, ""
    for change in changes:
        misfit = _misfit(file, change, shapes)
        if misfit is not None:
            misfits[change.target] = misfit
            example = example or f"{change.tensors[0]}: {list(misfit[0])} where {list(misfit[1])} is expected"
    if not misfits:
        return
    width = shapes[_PATCHES][0] if _PATCHES in shapes else 0
    found = families.found_width(misfits, width)
    if found is None:
        raise CheckpointError(f"{file.path}: {len(misfits)} of its tensors do not fit the transformer ({example})")
    have, want = families.size_text(found), families.size_text(width)
    raise CheckpointError(
        f"{file.path}: made for a transformer of width {have}, this one has width {want}; take the LoRA for "
        f"{families.SIZES.get(width, 'this model')}, or the model it was made for ({example})"
    )


def _misfit(file: LoraFile, change: Change, shapes: Mapping[str, Shape]) -> tuple[Shape, Shape] | None:
    """(what would be added, the weight) as [rows, columns] where these differ, else None. CheckpointError: ranks do."""
    weight = shapes[change.target]
    if len(change.tensors) == 1:
        added = file.weights.shapes[change.tensors[0]]
        return None if added == weight else (_flat(added), _flat(weight))
    (rows, ranks), (rank, columns) = (_flat(file.weights.shapes[name]) for name in change.tensors)
    if ranks != rank:
        raise CheckpointError(
            f"{file.path}: {change.tensors[0]} has rank {ranks} and its other half rank {rank}; download it again"
        )
    return None if (rows, columns) == _flat(weight) else ((rows, columns), _flat(weight))


def _flat(shape: Shape) -> Shape:
    """[rows, columns] of a kernel of any number of dimensions."""
    return (shape[0] if shape else 1, math.prod(shape[1:]))


def _check_known(file: LoraFile, unknown: Sequence[str], strangers: Sequence[str], fits_partly: bool) -> None:
    """Raise CheckpointError where something in the file has no place in the transformer."""
    strangers = [name for name in strangers if not families.is_text_encoder(name) and not families.is_image_only(name)]
    if not strangers:
        return
    family = families.family_of(strangers)
    if family and not fits_partly:
        raise CheckpointError(f"{file.path}: a LoRA for {family}, not for Wan; take one made for Wan2.1")
    what = "names of no LoRA" if not unknown else "for layers that this transformer does not have"
    raise CheckpointError(f"{file.path}: {len(strangers)} of its tensors are {what} ({_some(strangers)})")


def _warn(lora: Lora) -> None:
    if lora.skipped:
        log.warning(
            "%s: %d of its tensors are left out: they are for image-to-video layers or a text encoder (%s)",
            lora.file.path.name, len(lora.skipped), _some(lora.skipped),
        )  # fmt: skip


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
