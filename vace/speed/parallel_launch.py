"""The processes that make one video together: how they find each other, speak, and end when one of them fails.

torchrun starts them. Process 0 leads: it reads the user's files, draws the noise, decodes and is the only one that
writes. The others follow: they hold the model (or their part of it) and compute their share of each step on what the
leader sends, so that nothing can differ between processes: not the seed, not the prompt.

A process that fails leaves word where all the others look twice a second; they end with its error within seconds
instead of waiting for it.
"""

from __future__ import annotations

import _thread
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from vace.errors import DeviceError, InputError, VaceError
from vace.speed.attention import Attend
from vace.speed.parallel_attention import Ring, SpreadAttention, check_heads, choose_part

log = logging.getLogger("vace")

FLAGS = ("ulysses_size", "ring_size", "dit_fsdp", "t5_fsdp")
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells each process
START = "torchrun --nproc_per_node {} vace/vace_wan_inference.py ..."
WORK_TIMEOUT = timedelta(minutes=30)  # others may still be reading their weights
WAIT_TIMEOUT = timedelta(days=7)  # followers wait while the leader decodes, writes, or has nothing to do
LOOK_EVERY = 0.5  # seconds
GRACE = 5.0  # seconds for a process to end by itself after another has failed


@dataclass(frozen=True)
class Layout:
    """How one video is spread: Ulysses parts, ring parts, and what of the weights is spread too."""

    ulysses: int = 1
    ring: int = 1
    dit_fsdp: bool = False
    t5_fsdp: bool = False

    @property
    def processes(self) -> int:
        return self.ulysses * self.ring


def read_layout(given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Layout | None:
    """The layout the flags ask for, held against the processes there are; None for one process and no such flag.

    Raises InputError when ulysses_size x ring_size is not the number of processes, with both numbers, or when torchrun
    did not start this.
    """
    sizes = [_size(flag, given.get(flag)) for flag in FLAGS[:2]]
    spread = [bool(given.get(flag)) for flag in FLAGS[2:]]
    layout = Layout(*sizes, *spread)
    is_asked = layout.processes > 1 or any(spread)
    is_started = all(name in environ for name in NEEDED)
    if not is_asked and not (is_started and "TORCHELASTIC_RUN_ID" in environ):
        return None  # variables of these names alone may be a scheduler's, for jobs that do not know of each other
    processes = int(environ["WORLD_SIZE"]) if is_started else 1
    told = f"--ulysses_size {layout.ulysses} --ring_size {layout.ring}"
    if not is_asked and processes == 1:
        return None
    if layout.processes == 1 and processes == 1:
        flag = next(flag for flag, asked in zip(FLAGS[2:], spread, strict=True) if asked)
        raise InputError(
            f"--{flag}: spreads weights over several processes, and there is one; leave it out, or give --ulysses_size "
            f"2 as well and start it with `{START.format(2)}`"
        )
    if not is_started:
        raise InputError(
            f"{told}: one video on {layout.processes} devices takes {layout.processes} processes, and this is one; "
            f"start it with `{START.format(layout.processes)}`"
        )
    if layout.processes != processes:
        raise InputError(
            f"{told}: makes {layout.processes}, but torchrun started {processes} processes; their product must be that "
            "number"
        )
    return layout


class Team:
    """One process among those of a layout; made by `join`.

    rank: its number, 0 leads. device: its own. ulysses, ring: its seats.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.layout, self.device = layout, device
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        seats = torch.arange(self.size).view(layout.ring, layout.ulysses)
        self.ulysses = _seat(seats.tolist(), self.rank)
        self.ring = _seat(seats.T.tolist(), self.rank)
        self._talk = dist.new_group(backend="gloo", timeout=WAIT_TIMEOUT)
        self._failures = Failures(self.rank)

    @property
    def is_leader(self) -> bool:
        return self.rank == 0

    def attention(self, attend: Attend, dtype: torch.dtype, heads: int, head_size: int) -> SpreadAttention:
        """What each self-attention of a model of that shape goes through. attend: the kernel for one device."""
        check_heads(heads, self.layout.ulysses, self.layout.ring, self.is_leader)
        part = choose_part(self.device, dtype, head_size) if self.layout.ring > 1 else None
        return SpreadAttention(self.ulysses, self.ring, attend, part)

    def send(self, kind: str, tensors: Sequence[torch.Tensor] = (), **plain: Any) -> None:
        """From the leader to all others: what is to be done, with tensors and plain values."""
        tensors = [tensor.detach().to(self.device).contiguous() for tensor in tensors]
        shapes = [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]
        dist.broadcast_object_list([(kind, shapes, plain)], src=0, group=self._talk)
        for tensor in tensors:
            dist.broadcast(_bytes(tensor), src=0)

    def receive(self) -> tuple[str, list[torch.Tensor], dict[str, Any]]:
        """What the leader sent, as (kind, tensors on this device, plain values)."""
        box = [None]
        dist.broadcast_object_list(box, src=0, group=self._talk)
        kind, shapes, plain = box[0]
        tensors = [torch.empty(shape, dtype=dtype, device=self.device) for shape, dtype in shapes]
        for tensor in tensors:
            dist.broadcast(_bytes(tensor), src=0)
        return kind, tensors, plain

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around all a process does: whoever fails ends them all.

        The failing process raises its own error, the others DeviceError that tells which one failed and why.
        """
        self._failures.watch()
        try:
            yield
        except BaseException as error:
            self._failures.rest()
            other = self._failures.seen()
            if other is None:
                self._failures.tell(error)
                raise
            raise DeviceError(f"process {other['rank']} of {self.size} failed: {other['text']}") from error
        finally:
            self._failures.rest()

    def leave(self) -> None:
        """The end: the leader lets the others go."""
        if self.is_leader:
            self.send("end")
        dist.destroy_process_group()


def join(layout: Layout, device: str = "auto") -> Team:
    """Meet the other processes. device: 'auto', 'cpu' or 'cuda'; on CUDA each process takes its own.

    Raises DeviceError when the machine has fewer devices than processes.
    """
    where = own_device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    backend = "nccl" if where.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method="env://", timeout=WORK_TIMEOUT)
    return Team(layout, where)


def own_device(device: str, environ: Mapping[str, str] = os.environ) -> torch.device:
    """This process's device on its machine."""
    kind = device.partition(":")[0]
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    local, there = int(environ.get("LOCAL_RANK", environ["RANK"])), torch.cuda.device_count()
    if local >= there:
        raise DeviceError(
            f"process {local + 1} on this machine has no device of its own: {there} CUDA devices; start fewer processes"
        )
    return torch.device("cuda", local)


class Failures:
    """The place where a failing process leaves word, and the look-out of the others."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self._key = f"vace/failure/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        # A connection of its own: torch's may be held by a main thread that waits.
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        self._store = dist.TCPStore(address, port, is_master=False, wait_for_workers=False)
        self._ending = threading.Event()

    def tell(self, error: BaseException) -> None:
        """Leave word, unless somebody was first."""
        text = " ".join(str(error).split()) or type(error).__name__
        text = text if isinstance(error, VaceError) else f"{type(error).__name__}: {text}"
        word = {"rank": self.rank, "text": text, "code": 2 if isinstance(error, VaceError) else 1}
        try:
            self._store.compare_set(self._key, "", json.dumps(word))
        except (RuntimeError, OSError):  # nobody is there any more to be told
            log.debug("the other processes are gone")

    def seen(self) -> dict | None:
        """The word of another process that failed."""
        try:
            word = json.loads(self._store.get(self._key)) if self._store.check([self._key]) else None
        except (RuntimeError, OSError):
            return None
        return word if word and word["rank"] != self.rank else None

    def watch(self) -> None:
        """Look twice a second, until `rest`."""
        self._ending.clear()
        threading.Thread(target=self._look, name="vace-failures", daemon=True).start()

    def rest(self) -> None:
        self._ending.set()

    def _look(self) -> None:
        while not self._ending.wait(LOOK_EVERY):
            word = self.seen()
            if word is None or self._ending.is_set():
                continue
            # Time to tidy up; a main thread that waits for a device never gets to know, and is ended here.
            _thread.interrupt_main()
            if not self._ending.wait(GRACE):
                sys.stderr.write(f"vace: process {word['rank']} failed: {word['text']}\n")
                sys.stderr.flush()
                os._exit(word["code"])
            return


def _size(flag: str, value: Any) -> int:
    size = 1 if value is None else int(value)
    if size < 1:
        raise InputError(f"--{flag} {size}: a number of processes, at least 1")
    return size


def _seat(rows: Sequence[Sequence[int]], rank: int) -> Ring:
    """This process's seat in its row; a group is made for every row, by all processes in the same order."""
    seat = None
    for row in rows:
        group = dist.new_group(list(row), timeout=WORK_TIMEOUT) if len(row) > 1 else None
        if rank in row:
            seat = Ring(group, len(row), list(row).index(rank))
    return seat


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as bytes: not every backend sends every float type."""
    return tensor.reshape(-1).view(torch.uint8)
