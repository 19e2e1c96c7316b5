"""Weights that come from no file, in the form that `vace.models.loading.build` reads: drawn, or of another module.

So benchmarks build models of random weights, and second modules over the same tensors, by the code that reads
checkpoints.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vace.models.parts import Part
from vace.weight_files import WeightFiles

if TYPE_CHECKING:
    import torch

_TWIN = "encoder.embed_tokens.weight"  # of a text encoder's table, which has two names


@dataclass(frozen=True)
class DrawnWeights(WeightFiles):
    """Random numbers, drawn on `device` when a tensor is read: no file, no copy, the same at every reading."""

    device: str = "cpu"
    seed: int = 0

    def read(self, key: str) -> torch.Tensor:
        """Matrices and kernels with variance 1 / inputs, gains near 1, the rest small, as in a model at work."""
        import torch

        generator = torch.Generator(self.device).manual_seed(zlib.crc32(f"{self.seed} {key}".encode()))
        shape = self.shapes[key]
        drawn = torch.randn(shape, generator=generator, device=self.device)
        if key.endswith(".gamma") or (key.endswith(".weight") and len(shape) == 1):
            return drawn.mul_(0.1).add_(1.0)
        if key.endswith(".weight"):
            return drawn.mul_(math.prod(shape[1:]) ** -0.5)
        return drawn.mul_(0.02)


@dataclass(frozen=True)
class HeldWeights(WeightFiles):
    """Tensors that are in memory already."""

    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def read(self, key: str) -> torch.Tensor:
        return self.tensors[key]


def drawn_part(part: Part, device: str, seed: int = 0) -> Part:
    """`part`, of which only the config counts, with random weights. Raises CheckpointError for a wrong config."""
    from vace.models.loading import tensor_shapes

    shapes = {name: shape for name, shape in tensor_shapes(part).items() if name != _TWIN}
    weights = DrawnWeights((), shapes, {}, device=device, seed=seed)
    return replace(part, weights=weights, names={name: name for name in shapes})


def second_module(part: Part, module: Any, dtype: torch.dtype) -> Any:
    """A new module of the part's class over the tensors of `module`, as diffusers would have loaded it in `dtype`.

    Tensors are shared where diffusers has them in the same float type; what it keeps in float32 its class says.
    """
    from vace.models.loading import build

    state = module.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    weights = HeldWeights((), shapes, {}, tensors=state)
    device = next(iter(state.values())).device
    second = build(replace(part, weights=weights, names={name: name for name in shapes}), dtype, device)
    kept = set(getattr(second, "_keep_in_fp32_modules", None) or ())
    for name, value in second.named_parameters():
        if not kept & set(name.split(".")):
            value.data = value.data.to(dtype)
    return second
