"""The contexts an engine has encoded last, so that jobs that share sources and sizes encode them once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

MOST_BYTES = 512 * 1024**2  # all kept contexts; one of 81 frames takes 50 MB at 480p, 120 MB at 720p (Wan)


class Contexts:
    """Contexts by the contents of what they were made of; they lie in the processor's memory.

    Of one engine alone: `clear` when another takes its place. most_bytes: what is kept at most; the one not used for
    longest goes first.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def encoded(self, engine: Any, frames: torch.Tensor, mask: torch.Tensor, refs: Sequence[torch.Tensor]) -> Any:
        """`engine.encode_context` of these, or the same as it came out before; on the engine's device."""
        key = content_key([frames, mask, *refs])
        if key in self._kept:
            self._kept.move_to_end(key)
            return moved(self._kept[key], engine.device)
        made = engine.encode_context(frames, mask, refs)
        self._keep(key, moved(made, torch.device("cpu")))
        return made

    def clear(self) -> None:
        self._kept.clear()

    def _keep(self, key: str, context: Any) -> None:
        self._kept[key] = context
        while self._kept and sum(map(size_of, self._kept.values())) > self.most_bytes:
            self._kept.popitem(last=False)


def content_key(tensors: Sequence[torch.Tensor]) -> str:
    """A hash of the types, shapes and numbers of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().numpy())
    return digest.hexdigest()


def moved(context: Any, device: torch.device) -> Any:
    """A context, a tensor or dataclasses and tuples of tensors, on `device`."""
    if isinstance(context, torch.Tensor):
        return context.to(device)
    if isinstance(context, tuple):
        items = [moved(item, device) for item in context]
        return type(context)(*items) if hasattr(context, "_fields") else tuple(items)
    if is_dataclass(context):
        return replace(context, **{item.name: moved(getattr(context, item.name), device) for item in fields(context)})
    return context


def size_of(context: Any) -> int:
    """Bytes of all tensors in a context."""
    if isinstance(context, torch.Tensor):
        return context.nbytes
    if isinstance(context, tuple):
        return sum(map(size_of, context))
    return sum(size_of(getattr(context, item.name)) for item in fields(context)) if is_dataclass(context) else 0
