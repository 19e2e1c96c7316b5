"""Which device and which float type the models run in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from vace.errors import DeviceError, InputError, nearest

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def pick_device(name: str | torch.device = "auto", flag: str = "--device") -> torch.device:
    """The device called `name`: 'auto' (the first CUDA device, else the CPU), 'cpu', 'cuda' or 'cuda:n'.

    flag: which one it was given with. Raises DeviceError, naming what there is, for a device this machine lacks.
    """
    text = str(name).lower()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text == "auto":
        return torch.device("cuda:0" if count else "cpu")
    if text == "cpu":
        return torch.device("cpu")
    kind, _, number = text.partition(":")
    if kind != "cuda" or not (number.isdecimal() or text == "cuda"):
        raise DeviceError(f"{flag} {text}: unknown device; give auto, cpu, cuda or cuda:0, cuda:1 ...")
    index = int(number or 0)
    if index >= count:
        found = f"it has cuda:0 to cuda:{count - 1}" if count else "torch sees no CUDA device"
        raise DeviceError(f"--device {text}: not on this machine ({found}); use --device auto or --device cpu")
    return torch.device("cuda", index)


def pick_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The float type called `name` for work on `device`: 'auto' is bfloat16 on CUDA and float32 on the CPU.

    Raises InputError for a name that is no float type the models run in.
    """
    if isinstance(name, torch.dtype):
        return name
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise InputError(f"--dtype {name}: unknown float type; {nearest(name, ['auto', *DTYPES])}")
    return DTYPES[name]


@contextlib.contextmanager
def toy_threads(is_toy: bool) -> Iterator[None]:
    """One torch thread while a toy model works, unless OMP_NUM_THREADS says otherwise.

    Its tensors are so small that two threads mostly wait for each other: 33 ms a forward became 430 on a busy machine.
    """
    before = torch.get_num_threads()
    if is_toy and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
