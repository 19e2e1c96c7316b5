"""Bytes of tensors alive during a call, counted as operations make them; on the meta device too, where none is real."""

from __future__ import annotations

import weakref

from torch.utils._python_dispatch import TorchDispatchMode


class Counter(TorchDispatchMode):
    """`peak`: the most bytes that were alive at once of what was made inside, by storage; views count nothing.

    What one operation needs inside itself (a convolution's work space) is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.at_peak = ""
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        import torch

        result = func(*args, **(kwargs or {}))
        given = {item.untyped_storage()._cdata for item in args if isinstance(item, torch.Tensor)}
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in given:
                self._add(tensor.untyped_storage(), str(func))
        return result

    def _add(self, storage, name: str) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def gone(_, key=key, size=size):
            self.now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self.now += size
        if self.now > self.peak:
            self.peak, self.at_peak = self.now, name


def counted(call) -> tuple[int, str]:
    """(peak bytes, operation at the peak) of call()."""
    with Counter() as counter:
        result = call()
    del result
    return counter.peak, counter.at_peak
