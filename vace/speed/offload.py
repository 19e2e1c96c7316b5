"""The blocks of a Wan transformer kept in the processor's memory and copied to the device shortly before they run.

Blocks are taken in groups, in the order they run: a context block before the main block that takes its hint. The device
holds two slots, each as large as the largest group. While one group computes, the next is copied into the other slot on
a stream of its own, from page-locked memory, in one piece; a slot is written only after the group in it has finished.
Everything outside the blocks stays on the device. The operations are those of the plain model on the same numbers, so
the result is the same, bit for bit.

The order is only a guess for what to fetch: a block that comes unexpectedly (a step cache asks for the first context
block alone, hints end early) is fetched when it is called.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from vace.errors import InputError

SLOTS = 2
# Of a block, but read outside it too (the step cache looks at the first block's), and small: stays on the device.
KEPT = "scale_shift_table"
_ALIGNED = 256  # bytes; what torch's own allocators give at least, so that kernels choose as they do without us
Rebuild = Callable[[torch.Tensor], torch.Tensor]  # a group's bytes -> one of its tensors, as a view


@dataclass
class Copier:
    """Copies that are done when they return. `copied`: (group, bytes) of each, in order."""

    copied: list[tuple[int, int]] = field(default_factory=list)

    def host(self, size: int) -> torch.Tensor:
        """Bytes in the processor's memory."""
        return torch.empty(size, dtype=torch.uint8)

    def copy(self, slot: Slot, group: Group) -> None:
        slot.bytes[: group.bytes.numel()].copy_(group.bytes)
        self.copied.append((group.number, group.bytes.numel()))

    def wait(self, slot: Slot) -> None:
        """Until what was copied into the slot is there."""

    def done(self, slot: Slot) -> None:
        """What was asked of the slot's memory up to now has to end before the slot is written again."""

    def finish(self) -> None:
        """Until no copy is under way."""


class StreamCopier(Copier):
    """Copies on a CUDA stream of their own, beside the computation."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def host(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def copy(self, slot: Slot, group: Group) -> None:
        self._stream.wait_event(slot.used)
        with torch.cuda.stream(self._stream):
            slot.bytes[: group.bytes.numel()].copy_(group.bytes, non_blocking=True)
            slot.ready = self._stream.record_event()
        self.copied.append((group.number, group.bytes.numel()))

    def wait(self, slot: Slot) -> None:
        torch.cuda.current_stream(self._device).wait_event(slot.ready)

    def done(self, slot: Slot) -> None:
        slot.used = torch.cuda.current_stream(self._device).record_event()

    def finish(self) -> None:
        self._stream.synchronize()


@dataclass
class Group:
    """Blocks that come and go together. entries: (module, name, how the tensor is made of the group's bytes)."""

    number: int
    blocks: Sequence[nn.Module]
    bytes: torch.Tensor
    entries: Sequence[tuple[nn.Module, str, Rebuild]]


@dataclass
class Slot:
    """Bytes on the device and the group in them; is_used: whether its blocks read them. used, ready: events."""

    bytes: torch.Tensor
    group: Group | None = None
    used: Any = None
    ready: Any = None
    is_used: bool = False


class BlockOffload:
    """What `apply_offload` gives: `copier` counts the copies, `device_bytes` is what slots and the rest take."""

    def __init__(self, model: Any, device: torch.device, group_blocks: int, copier: Copier) -> None:
        self.copier = copier
        order = running_order(model)
        parts = [order[i : i + group_blocks] for i in range(0, len(order), group_blocks)]
        self.groups = [_gather(number, blocks, copier) for number, blocks in enumerate(parts)]
        most = max(group.bytes.numel() for group in self.groups)
        count = min(SLOTS, len(self.groups))
        self.slots = [Slot(torch.empty(most, dtype=torch.uint8, device=device)) for _ in range(count)]
        for slot in self.slots:
            copier.done(slot)  # what last used this memory, before it was ours
        self._hooks = []
        for group in self.groups:
            for block in group.blocks:
                self._hooks.append(block.register_forward_pre_hook(self._entering(group)))
                self._hooks.append(block.register_forward_hook(self._leaving(group)))
        rest = list(_rest(model, order))
        for module, name, tensor in rest:
            _put(module, name, tensor.detach().to(device))
        self._rest = sum(_bytes(tensor) for _, _, tensor in rest)

    @property
    def device_bytes(self) -> int:
        """Weights on the device at any time."""
        return self._rest + sum(slot.bytes.numel() for slot in self.slots)

    def remove(self) -> None:
        """The blocks' weights stay in the processor's memory, the hooks and slots go."""
        for hook in self._hooks:
            hook.remove()
        self.copier.finish()
        for group in self.groups:
            _point(group, group.bytes)
        self.slots.clear()

    def _entering(self, group: Group) -> Callable:
        offload = weakref.ref(self)  # no circle from the blocks back to their groups: memory goes with the model

        def enter(module: nn.Module, _: Any) -> None:
            self_ = offload()
            if self_ is None:
                raise RuntimeError("the offload of this model was dropped; keep what apply_offload gives")
            self_._enter(group)

        return enter

    def _leaving(self, group: Group) -> Callable:
        offload = weakref.ref(self)

        def leave(*_: Any) -> None:
            self_ = offload()
            if self_ is not None:
                self_.copier.done(self_._slot(group))

        return leave

    def _enter(self, group: Group) -> None:
        slot = self._slot(group)
        self._fetch(group)
        if not slot.is_used:  # until then nobody may read what is still being copied
            self.copier.wait(slot)
            _point(group, slot.bytes)
            slot.is_used = True
        following = self.groups[(group.number + 1) % len(self.groups)]
        if self._slot(following) is not slot:
            self._fetch(following)

    def _fetch(self, group: Group) -> None:
        slot = self._slot(group)
        if slot.group is group:
            return
        if slot.group is not None and slot.is_used:
            _point(slot.group, slot.group.bytes)
        self.copier.copy(slot, group)
        slot.group, slot.is_used = group, False

    def _slot(self, group: Group) -> Slot:
        return self.slots[group.number % len(self.slots)]


def apply_offload(
    model: Any, device: str | torch.device, group_blocks: int = 1, copier: Copier | None = None
) -> BlockOffload:
    """Keep the blocks of a WanVACETransformer3DModel, whose weights lie on the CPU, off `device`; the rest goes there.

    Moving the model afterwards would undo it: `remove` first. copier: for tests. Raises InputError for group_blocks
    below 1. The host holds the blocks once; each block's own tensors become views of its group's bytes.
    """
    if group_blocks < 1:
        raise InputError(f"groups of {group_blocks} blocks: give 1 or more")
    where = torch.device(device)
    if copier is None:
        copier = StreamCopier(where) if where.type == "cuda" else Copier()
    offload = BlockOffload(model, where, group_blocks, copier)
    model.offload = offload  # a plain attribute: it lives as long as the model does
    return offload


def running_order(model: Any) -> list[nn.Module]:
    """The blocks as `vace.models.wan.transformer.run_stack` calls them."""
    context = dict(zip(model.config.vace_layers, model.vace_blocks, strict=True))
    order: list[nn.Module] = []
    for layer, block in enumerate(model.blocks):
        order += [context[layer], block] if layer in context else [block]
    return order


def _gather(number: int, blocks: Sequence[nn.Module], copier: Copier) -> Group:
    """The blocks' tensors copied into one piece of the processor's memory, and replaced by views of it."""
    found = [(module, name, tensor) for block in blocks for module, name, tensor in _tensors(block)]
    plain = [leaf for _, _, tensor in found for leaf in _leaves(tensor)]
    starts, size = [], 0
    for leaf in plain:
        starts.append(size)
        size += -(-leaf.numel() * leaf.itemsize // _ALIGNED) * _ALIGNED
    host = copier.host(size)
    places = iter(starts)
    entries = []
    for module, name, tensor in found:
        rebuild = _rebuild(tensor, places, host)
        entries.append((module, name, rebuild))
    group = Group(number, blocks, host, entries)
    _point(group, host)
    return group


def _rebuild(tensor: torch.Tensor, places: Iterator[int], host: torch.Tensor) -> Rebuild:
    """Copies a tensor into `host`; what makes it again of any copy of `host`. Tensors of tensors (int8) too."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, context = tensor.__tensor_flatten__()
        inner = {name: _rebuild(getattr(tensor, name), places, host) for name in names}
        kind, size, stride = type(tensor), tensor.size(), tensor.stride()

        def compose(source: torch.Tensor) -> torch.Tensor:
            parts = {name: make(source) for name, make in inner.items()}
            return kind.__tensor_unflatten__(parts, context, size, stride)

        return compose
    start, shape, dtype = next(places), tensor.shape, tensor.dtype
    length = tensor.numel() * tensor.itemsize

    def view(source: torch.Tensor) -> torch.Tensor:
        return source[start : start + length].view(dtype).view(shape)

    view(host).copy_(tensor.detach())
    return view


def _point(group: Group, source: torch.Tensor) -> None:
    """Give the blocks of a group the weights that lie in `source`."""
    for module, name, rebuild in group.entries:
        _put(module, name, rebuild(source))


def _tensors(block: nn.Module) -> Iterator[tuple[nn.Module, str, torch.Tensor]]:
    for module in block.modules():
        for table in (module._parameters, module._buffers):
            yield from ((module, name, x) for name, x in table.items() if x is not None and name != KEPT)


def _leaves(tensor: torch.Tensor) -> list[torch.Tensor]:
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [leaf for name in names for leaf in _leaves(getattr(tensor, name))]


def _rest(model: nn.Module, blocks: Sequence[nn.Module]) -> Iterator[tuple[nn.Module, str, torch.Tensor]]:
    """What stays on the device."""
    inside = {id(module) for block in blocks for module in block.modules()}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None and (id(module) not in inside or name == KEPT):
                    yield module, name, tensor


def _put(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    if name in module._parameters:
        module._parameters[name] = nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[name] = tensor


def _bytes(tensor: torch.Tensor) -> int:
    return sum(leaf.numel() * leaf.itemsize for leaf in _leaves(tensor))
