"""Linear layers with int8 or float8 weights, by torchao: half the memory of bfloat16, every product as exact as before.

Weights only: each row of a weight is rounded to 8 bits with one scale of its own, and is widened again when the layer
runs. Layers that everything passes through keep their type: embeddings, norms, modulation, output projections, and the
first and last block. Rounding is done weight by weight, so that of a model read straight into this form no more than
one layer is ever there in full (`vace.models.loading.build` with `quantize=`).

Approximate. Relative error of a random toy's velocity: int8 0.004 in float32 and 0.008 in bfloat16, float8 0.013 and
0.016; of its text states in float32 0.009 and 0.040 (tests/speed holds twice that).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from vace.errors import DeviceError, InputError, MissingDependency

if TYPE_CHECKING:
    from torchao.core.config import AOBaseConfig

KINDS = ("int8", "fp8")
_FP8_CAPABILITY = (8, 9)  # Ada and later: below, torch has no kernels for float8, and widening it is slow
_ROW_BYTES = {"int8": 5, "fp8": 4}
_LEAST = 64  # rows and columns: below, a scale per row saves next to nothing
# By part of the name: linear layers that stay as they are.
_KEPT = (
    r"^condition_embedder\.", r"^time_embed", r"^caption_projection", r"^adaln_single", r"(^|\.)proj_out$",
    r"(^|\.)proj_in$", r"_embed(ding|der)?s?($|\.)", r"(^|\.)(norm|shared)",
)  # fmt: skip
# The stacks whose first and last block stay as they are.
_STACKS = ("blocks", "transformer_blocks", "encoder.block")

Rounder = Callable[[torch.Tensor], nn.Parameter]


def quantize(module: nn.Module, kind: str) -> list[str]:
    """Give the linear layers of a loaded module weights of 8 bits, in place, one after the other; their names.

    kind: 'int8' or 'fp8'. The module stays on its device and in its float type. Raises what `rounder` raises.
    """
    names = sorted(layer_names(module))
    if not names:
        return []
    layers = dict(module.named_modules())
    rounded = rounder(kind, layers[names[0]].weight.device)
    for name in names:
        layers[name].weight = rounded(layers[name].weight.detach())
    return names


def layer_names(module: nn.Module) -> set[str]:
    """The linear layers whose weights may be rounded."""
    kept = [re.compile(pattern) for pattern in (*_KEPT, *_ends_of_stacks(module))]
    return {
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
        and min(layer.weight.shape) >= _LEAST
        and not any(pattern.search(name) for pattern in kept)
    }


def rounder(kind: str, device: str | torch.device) -> Rounder:
    """A function from a float weight [out, in] on `device` to the same weight in 8 bits, as a parameter.

    Raises InputError for an unknown kind, MissingDependency without torchao, DeviceError where the device cannot do it.
    """
    check_kind(kind, torch.device(device))
    config = _config(kind)

    def rounded(weight: torch.Tensor) -> nn.Parameter:
        from torchao.quantization import quantize_

        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        quantize_(layer, config)
        return layer.weight

    return rounded


def check_kind(kind: str, device: torch.device) -> None:
    """Whether weights of that kind run on that device; to be asked before anything is read.

    fp8 runs on the CPU too, widened there weight by weight and so slower than without it. Raises InputError,
    MissingDependency, DeviceError.
    """
    if kind not in KINDS:
        raise InputError(f"--quantize {kind}: unknown; known: {', '.join(KINDS)}")
    if device.type == "mps":
        raise DeviceError(f"--quantize {kind}: torchao's weights of 8 bits do not run on Apple's GPUs; leave it out")
    if kind == "fp8" and device.type == "cuda" and torch.cuda.get_device_capability(device) < _FP8_CAPABILITY:
        name, found = torch.cuda.get_device_name(device), "{}.{}".format(*torch.cuda.get_device_capability(device))
        raise DeviceError(
            f"--quantize fp8: needs a GPU of compute capability 8.9 (Ada, Hopper or later), {name} has {found}; "
            "take --quantize int8"
        )
    _config(kind)


def weight_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers as they lie in memory, shared ones counted once."""
    stores = {}
    for tensor in (*module.parameters(), *module.buffers()):
        for inner in _inner(tensor):
            if inner.device.type != "meta":
                stores[inner.untyped_storage().data_ptr()] = inner.untyped_storage().nbytes()
    return sum(stores.values())


def rounded_bytes(shape: tuple[int, ...], kind: str) -> int:
    """Bytes of a weight [out, in] in 8 bits: the weight, a float32 scale for each row, with int8 a zero point too."""
    rows, columns = shape
    return rows * (columns + _ROW_BYTES[kind])


def _inner(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The plain tensors a tensor is made of."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [plain for name in names for plain in _inner(getattr(tensor, name))]


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Without the warnings of these loggers."""
    loggers = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    for logger, _ in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in loggers:
            logger.setLevel(level)


def _ends_of_stacks(module: nn.Module) -> list[str]:
    """Patterns of the names in the first and last block of each stack."""
    ends = []
    for stack in _STACKS:
        try:
            depth = len(module.get_submodule(stack))
        except (AttributeError, TypeError):
            continue
        ends += [rf"^{re.escape(stack)}\.{number}\." for number in sorted({0, depth - 1})]
    return ends


def _config(kind: str) -> AOBaseConfig:
    """torchao's own setting of that kind."""
    try:
        with _quiet("torchao", "torch.utils._pytree"):  # of kernels for other machines that it could not load
            from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig
    except ImportError as error:
        raise MissingDependency(f"--quantize {kind}: needs the package torchao; pip install 'vace[quant]'") from error
    return {"int8": Int8WeightOnlyConfig, "fp8": Float8WeightOnlyConfig}[kind]()
