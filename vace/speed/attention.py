"""Self-attention by the fastest kernel that is there and proves itself, with a rotation in one pass.

A kernel is used only after a self-test on this device: random queries, keys and values of the model's head size,
against torch's plain attention in float32. `auto` goes down its list to the first that passes; a kernel that is named
is used or is an error. Cross-attention, at most 1 % of the work, stays with torch's own choice.

Shape letters: B batch, N tokens, M tokens attended to, H heads, E head size.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from vace.errors import DeviceError, InputError, MissingDependency, VaceError, is_out_of_memory, nearest

log = logging.getLogger("vace")

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # [B,N,H,E], [B,M,H,E] twice -> [B,N,H,E]


@dataclass(frozen=True)
class Kernel:
    """A way to compute attention.

    make: imports what it needs and gives the function. package: what must be importable, '' for none. needs: least and
    most compute capability of a CUDA device, None where any device will do. auto: least capability from which `auto`
    tries it, None for never. remedy: how to get the package. is_exact: False for kernels in lower precision.
    """

    make: Callable[[], Attend]
    package: str = ""
    needs: tuple[tuple[int, int], tuple[int, int]] | None = None
    auto: tuple[int, int] | None = None
    remedy: str = ""
    is_exact: bool = True


class Choice(NamedTuple):
    """The kernel to use. error: relative, of the self-test."""

    name: str
    attend: Attend
    error: float


def sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """torch's own choice among its kernels."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)


def _make_cudnn() -> Attend:
    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return sdpa(query, key, value)

    return attend


def _make_flash() -> Attend:
    from flash_attn import flash_attn_func

    return flash_attn_func


def _make_flash3() -> Attend:
    from flash_attn_interface import flash_attn_func

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        result = flash_attn_func(query, key, value)
        return result[0] if isinstance(result, tuple) else result  # some releases add the log-sum-exp

    return attend


def _make_sage() -> Attend:
    from sageattention import sageattn

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return sageattn(query, key, value, tensor_layout="NHD")

    return attend


NEWEST = (99, 0)
KERNELS: Mapping[str, Kernel] = {  # in the order `auto` tries them
    "flash3": Kernel(
        _make_flash3, "flash_attn_interface", needs=((9, 0), (9, 0)), auto=(9, 0),
        remedy="build FlashAttention-3 from the folder hopper/ of github.com/Dao-AILab/flash-attention",
    ),
    "cudnn": Kernel(_make_cudnn, needs=((8, 0), NEWEST), auto=(9, 0)),
    "sdpa": Kernel(lambda: sdpa, auto=(0, 0)),
    "flash": Kernel(
        _make_flash, "flash_attn", needs=((8, 0), NEWEST), remedy="pip install flash-attn --no-build-isolation",
    ),
    "sage": Kernel(
        _make_sage, "sageattention", needs=((8, 0), NEWEST), remedy="pip install sageattention", is_exact=False,
    ),
}  # fmt: skip
# Relative error, ||found - true|| / ||true||, that the self-test lets pass.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}
LOOSE = 0.1  # for kernels that are not exact
TEST_SHAPES = ((384, 384), (131, 77))  # (queries, keys): whole tiles, and neither
TEST_HEADS = 2


def availability(device: torch.device) -> dict[str, VaceError | None]:
    """Kernel -> None where it may be tried on `device`, else the error for somebody who names it."""
    return {name: _lack(name, kernel, device) for name, kernel in KERNELS.items()}


def choose(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    head_size: int,
    table: Mapping[str, VaceError | None] | None = None,
) -> Choice:
    """The kernel called `name`, or for 'auto' the first that is there and passes its self-test.

    table: what `availability` says, unless given. What `auto` leaves out after its test is told in one line each.
    Raises InputError for an unknown name, MissingDependency or DeviceError for a named kernel that cannot be used.
    """
    table = availability(device) if table is None else table
    if name != "auto":
        if name not in KERNELS:
            raise InputError(f"--attention {name}: unknown; {nearest(name, ['auto', *KERNELS])}")
        if table[name] is not None:
            raise table[name]
        return _proven(name, device, dtype, head_size)
    for candidate in _automatic(device):
        if table[candidate] is not None:
            log.debug("%s", table[candidate])
            continue
        try:
            return _proven(candidate, device, dtype, head_size)
        except DeviceError as error:
            log.warning("%s; going on without it", error)
    raise DeviceError(f"no attention kernel computes right on {device}; try --device cpu, or another driver or torch")


def self_test(attend: Attend, device: torch.device, dtype: torch.dtype, head_size: int) -> float:
    """The largest relative error of `attend` in `dtype` against plain attention in float32 on the same numbers."""
    generator = torch.Generator().manual_seed(0)
    errors = []
    for queries, keys in TEST_SHAPES:
        drawn = [torch.randn(1, n, TEST_HEADS, head_size, generator=generator) for n in (queries, keys, keys)]
        given = [x.to(device, dtype) for x in drawn]
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            true = sdpa(*(x.float() for x in given))
        with torch.no_grad():
            found = attend(*given)
        if found.shape != true.shape:
            raise RuntimeError(f"gave the shape {list(found.shape)} instead of {list(true.shape)}")
        errors.append(((found.float() - true).norm() / true.norm()).item())
    return max(errors, key=lambda error: (error != error, error))  # NaN counts as the largest


class Processor:
    """A stateless stand-in for diffusers' WanAttnProcessor; `attend` is the kernel.

    rotary_emb: of `rope_for`, or diffusers' cosines and sines, so that diffusers' own forward runs too. To spread
    attention over devices, give an `attend` that does so: diffusers' parallel_config is refused.
    """

    _parallel_config = None

    def __init__(self, attend: Attend = sdpa) -> None:
        self.attend = attend

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        if attention_mask is not None or self._parallel_config is not None:
            raise ValueError("this attention takes no mask and no parallel_config; call remove_attention first")
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = _projected(attn, hidden_states, source, encoder_hidden_states is None)
        query, key, value = (x.unflatten(2, (attn.heads, -1)) for x in (attn.norm_q(query), attn.norm_k(key), value))
        if rotary_emb is not None:
            rotation = rotary_emb if isinstance(rotary_emb, torch.Tensor) else rotation_of(*rotary_emb)
            query, key = rotated(query, rotation), rotated(key, rotation)
        result = self.attend(query, key, value).flatten(2, 3).type_as(query)
        return attn.to_out[0](result)


def apply_attention(model: Any, attend: Attend = sdpa) -> None:
    """Give every block of a WanVACETransformer3DModel our attention; self-attention goes through `attend`."""
    for block in _blocks(model):
        block.attn1.set_processor(Processor(attend))
        block.attn2.set_processor(Processor())


def remove_attention(model: Any) -> None:
    """Back to diffusers' own attention."""
    for block in _blocks(model):
        for attn in (block.attn1, block.attn2):
            attn.set_processor(type(attn)._default_processor_cls())


def rope_for(model: Any, tables: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """diffusers' rotary tables in the form that the attention of `model` takes fastest."""
    return rotation_of(*tables) if isinstance(model.blocks[0].attn1.processor, Processor) else tables


def rotation_of(cosines_1N1E: torch.Tensor, sines_1N1E: torch.Tensor) -> torch.Tensor:
    """[N, 1, E/2, 2]: cosine and sine of every pair of channels; diffusers has each of them twice."""
    return torch.stack([cosines_1N1E[0, ..., 0::2], sines_1N1E[0, ..., 1::2]], dim=-1).float()


def rotated(x_BNHE: torch.Tensor, rotation_N1E2: torch.Tensor) -> torch.Tensor:
    """x with every pair of channels turned, computed in float32."""
    pairs = x_BNHE.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler makes one kernel of this, and cannot of complex numbers
        (first, second), (cos, sin) = pairs.unbind(-1), rotation_N1E2.unbind(-1)
        turned = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotation_N1E2))
    return turned.flatten(-2).type_as(x_BNHE)


def _projected(attn: Any, x: torch.Tensor, source: torch.Tensor, is_self: bool) -> tuple[torch.Tensor, ...]:
    if not attn.fused_projections:
        return attn.to_q(x), attn.to_k(source), attn.to_v(source)
    if is_self:
        return attn.to_qkv(x).chunk(3, dim=-1)
    return attn.to_q(x), *attn.to_kv(source).chunk(2, dim=-1)


def _blocks(model: Any) -> Iterable[Any]:
    yield from model.blocks
    yield from model.vace_blocks


def _automatic(device: torch.device) -> list[str]:
    """The kernels `auto` tries, in order; at the end torch's own choice."""
    own = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    return [name for name, kernel in KERNELS.items() if kernel.auto is not None and kernel.auto <= own]


def _lack(name: str, kernel: Kernel, device: torch.device) -> VaceError | None:
    if kernel.needs is not None:
        (least, most), told = kernel.needs, f"--attention {name}: needs a CUDA device of compute capability"
        own = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
        if own is None or not least <= own <= most:
            span = f"{least[0]}.{least[1]}" + (" or more" if most == NEWEST else "")
            found = device if own is None else f"{own[0]}.{own[1]}"
            return DeviceError(f"{told} {span}, this is {found}; leave it out, or give --attention sdpa")
    if kernel.package and importlib.util.find_spec(kernel.package) is None:
        return MissingDependency(f"--attention {name}: the package {kernel.package} is missing; {kernel.remedy}")
    return None


def _proven(name: str, device: torch.device, dtype: torch.dtype, head_size: int) -> Choice:
    """The kernel after its self-test. Raises DeviceError when it does not run or is too far off."""
    kernel = KERNELS[name]
    tolerance = TOLERANCES[dtype] if kernel.is_exact else LOOSE
    try:
        attend = kernel.make()
        error = self_test(attend, device, dtype, head_size)
    except (RuntimeError, ImportError, ValueError, TypeError, OSError, AssertionError) as reason:
        if is_out_of_memory(reason):
            raise
        first = str(reason).strip().splitlines()[:1]
        raise DeviceError(
            f"--attention {name}: does not run on {device} in {dtype} with heads of {head_size} "
            f"({type(reason).__name__}: {''.join(first)}); give --attention sdpa"
        ) from reason
    if not error <= tolerance:
        raise DeviceError(
            f"--attention {name}: off by {error:.2g} of the true result on {device} in {dtype}, at most {tolerance:g} "
            "is right; give --attention sdpa"
        )
    return Choice(name, attend, error)
