"""Frames through a network a batch at a time: how many fit, half precision where it changes nothing to see."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

log = logging.getLogger("vace")

MOST = 16  # frames at a time: more gain nothing
SHARE = 0.5  # of the free memory that a batch may take
HALF_LEVELS = 2  # of 255, that half precision may change


def fitting_batch(pixels: int, bytes_per_pixel: float, device, asked: int | None = None) -> int:
    """How many frames of `pixels` go through at a time, 1..MOST: `asked`, or what half of the free memory takes.

    bytes_per_pixel: of working memory, for one frame of the network's input. device: a torch.device. On the CPU one
    frame at a time: its cores are busy with it, and more only miss the caches.
    """
    if asked is not None:
        return max(1, asked)
    if device.type != "cuda":
        return 1
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return int(min(MOST, max(1, free * SHARE / (pixels * bytes_per_pixel))))


def in_batches(run: Callable[..., np.ndarray], size: int, *arrays: np.ndarray) -> np.ndarray:
    """`run` over slices of `size` frames of arrays of one length, its outcomes joined.

    Where the device's memory does not suffice the batch is halved, down to single frames.
    """
    import torch

    out, start, count = [], 0, len(arrays[0])
    while start < count:
        try:
            out.append(run(*(array[start : start + size] for array in arrays)))
            start += size
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
            size = max(1, size // 2)
            torch.cuda.empty_cache()
            log.info("the device's memory is short: %d frames at a time", size)
    return np.concatenate(out)


class Precision:
    """Half precision for a module on CUDA, once its first batch proves that nothing to be seen changes.

    levels: from the module's output to the uint8 picture that is written, by which the two are compared.
    """

    def __init__(self, module, device, levels: Callable[[np.ndarray], np.ndarray]) -> None:
        self.module, self.device, self._levels = module, device, levels
        self.is_half: bool | None = None if device.type == "cuda" else False

    def __call__(self, *tensors):
        """The module's output for float32 tensors on its device, as float32 numpy array."""
        if self.is_half is None:
            whole, half = self._run(False, tensors), self._run(True, tensors)
            worst = np.abs(self._levels(whole).astype(np.int16) - self._levels(half).astype(np.int16)).max(initial=0)
            self.is_half = bool(np.isfinite(half).all() and worst <= HALF_LEVELS)
            log.debug("half precision changes up to %d levels: %s", worst, "used" if self.is_half else "not used")
            return whole
        return self._run(self.is_half, tensors)

    def _run(self, half: bool, tensors) -> np.ndarray:
        import torch

        with torch.inference_mode(), torch.autocast(self.device.type, torch.float16, enabled=half):
            return self.module(*tensors).float().cpu().numpy()
