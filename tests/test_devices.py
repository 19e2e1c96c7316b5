"""Devices and float types by name."""

from __future__ import annotations

import pytest
import torch

from vace.devices import pick_device, pick_dtype
from vace.errors import DeviceError, InputError


@pytest.fixture
def cuda(monkeypatch):
    """Pretends this machine has that many CUDA devices."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("name", "count", "device"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda:0"), ("cpu", 2, "cpu"), ("cuda", 2, "cuda:0"), ("cuda:1", 2, "cuda:1")],
)
def test_devices(cuda, name, count, device):
    cuda(count)
    assert pick_device(name) == torch.device(device)


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("cuda", 0, "torch sees no CUDA device"),
        ("cuda:0", 0, "torch sees no CUDA device"),
        ("cuda:2", 2, "it has cuda:0 to cuda:1"),
        ("cuda:x", 2, "unknown device"),
        ("cuda:", 2, "unknown device"),
        ("cuda0", 2, "unknown device"),
        ("gpu", 2, "unknown device"),
        ("", 2, "unknown device"),
    ],
)
def test_devices_that_are_not_there(cuda, name, count, said):
    cuda(count)
    with pytest.raises(DeviceError, match=f"--device {name}.*{said}"):
        pick_device(name)


@pytest.mark.parametrize(
    ("name", "device", "dtype"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda", torch.bfloat16),
        ("float32", "cuda", torch.float32),
        ("bf16", "cpu", torch.bfloat16),
        (torch.float16, "cpu", torch.float16),
    ],
)
def test_dtypes(name, device, dtype):
    assert pick_dtype(name, torch.device(device)) == dtype


def test_unknown_dtype():
    with pytest.raises(InputError, match="--dtype bfloat: unknown float type; did you mean 'bfloat16'"):
        pick_dtype("bfloat", torch.device("cpu"))
