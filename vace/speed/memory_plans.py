"""Which way of running fits a device: plans as data in rising cost, what each stage takes under them, and the choice.

Costs: a text encoder that leaves is read again for the next new prompt; a VAE in tiles computes their overlaps twice
and rounds differently near their edges; offloaded blocks are copied at every step; 8 bits change the result (see
vace.speed.quantize). The text encoder runs on the processor where the device cannot hold it even alone.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from vace.errors import DeviceError, InputError, nearest

if TYPE_CHECKING:
    import torch

    from vace.models.parts import Part
    from vace.speed.memory import Estimate

GB = 10**9
# Kept free: kernels' work space, the driver, what the allocator cannot use.
LEAST_RESERVE, RESERVE_SHARE = GB // 2, 0.05
STAGES = ("text", "encode", "denoise", "decode")


@dataclass(frozen=True)
class Plan:
    """How a run is laid out in memory.

    text: the encoder is 'kept' on the device, 'evicted' after use, or runs on the 'cpu'. tile_vae: in spatial tiles,
    frames kept by the processor. offload_blocks: the transformer's blocks come when they are needed. quantize: None or
    'int8'. after: the plan to try when this one runs out of memory, or None.
    """

    name: str
    about: str
    text: str = "evicted"
    tile_vae: bool = False
    offload_blocks: bool = False
    quantize: str | None = None
    after: str | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the result is that of the first plan, bit for bit on one device."""
        return not (self.tile_vae or self.quantize)


_ALL = (
    Plan("device", "all on the device", text="kept", after="evict"),
    Plan("evict", "text encoder leaves after use", after="tiled"),
    Plan("tiled", "and the VAE works in tiles", tile_vae=True, after="offload"),
    Plan("offload", "and the transformer's blocks come as they are needed", tile_vae=True, offload_blocks=True,
         after="int8+offload"),
    Plan("int8", "weights of 8 bits, the VAE in tiles", tile_vae=True, quantize="int8", after="int8+offload"),
    Plan("int8+offload", "weights of 8 bits that come as they are needed", tile_vae=True, offload_blocks=True,
         quantize="int8"),
)  # fmt: skip
PLANS: Mapping[str, Plan] = MappingProxyType({plan.name: plan for plan in _ALL})  # in rising cost


@dataclass(frozen=True)
class Request:
    """What --memory asks for: a plan by name, or the cheapest that fits `bytes` (None: what the device has free)."""

    plan: str | None = None
    bytes: int | None = None


def parse_memory(text: str | int | float) -> Request:
    """'auto', 'max' (all on the device), the name of a plan, or a budget: '24 GB', '24gb', '7.5', 24, in 10^9 bytes.

    Raises InputError for anything else.
    """
    said = str(text).strip().lower()
    if said == "auto":
        return Request()
    if said == "max":
        return Request("device")
    if said in PLANS:
        return Request(said)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:gb|g)?", said)
    if found is None:
        known = nearest(said, ["auto", "max", *PLANS])
        raise InputError(f"--memory {text}: neither a plan nor a size such as '24 GB'; {known}")
    amount = float(found[1])
    if not 0 < amount < 1e6:
        raise InputError(f"--memory {text}: give a size above 0, in GB, such as '24 GB'")
    return Request(bytes=int(amount * GB))


def stages(estimate: Estimate, plan: Plan) -> dict[str, int]:
    """Bytes on the device at the fullest moment of each stage, for a first video; parts are read when first needed."""
    text = 0 if plan.text == "cpu" else estimate.text.rounded if plan.quantize else estimate.text.plain
    text_work = 0 if plan.text == "cpu" else estimate.text_work
    kept = text if plan.text == "kept" else 0
    vae_after = 0 if plan.offload_blocks else estimate.vae
    if plan.offload_blocks:
        transformer = estimate.offloaded.rounded if plan.quantize else estimate.offloaded.plain
    else:
        transformer = estimate.transformer.rounded if plan.quantize else estimate.transformer.plain
    beside = 0 if plan.offload_blocks else transformer  # while the VAE decodes
    encode = estimate.encode_tiled if plan.tile_vae else estimate.encode_whole
    decode = estimate.decode_tiled if plan.tile_vae else estimate.decode_whole
    return {
        "text": text + text_work,
        "encode": kept + estimate.vae + encode,
        "denoise": kept + vae_after + transformer + estimate.denoise_work,
        "decode": kept + beside + estimate.vae + decode,
    }


def peak(estimate: Estimate, plan: Plan) -> int:
    """Bytes on the device at the fullest moment of the run."""
    return max(stages(estimate, plan).values())


def host_bytes(estimate: Estimate, plan: Plan) -> int:
    """Weights that the processor's memory holds under the plan, at most at one time."""
    text = (estimate.text.rounded if plan.quantize else estimate.text.plain) if plan.text == "cpu" else 0
    held = estimate.offloaded.host
    return max(text, (held.rounded if plan.quantize else held.plain) if plan.offload_blocks else 0)


def settled(plan: Plan, estimate: Estimate, budget: int) -> Plan:
    """The plan with its text encoder on the processor, where the device cannot hold it though it leaves after use."""
    too_large = plan.text == "evicted" and stages(estimate, plan)["text"] > budget
    return replace(plan, text="cpu") if too_large else plan


def choose(estimate: Estimate, budget: int, host: int | None = None, plans: Sequence[Plan] = _ALL) -> Plan:
    """The cheapest of `plans` whose stages all fit `budget` bytes of the device, and `host` bytes beside it if given.

    Raises DeviceError when none does; it names the stage that is too large under the smallest plan.
    """
    for plan in plans:
        plan = settled(plan, estimate, budget)
        if peak(estimate, plan) <= budget and (host is None or host_bytes(estimate, plan) <= host):
            return plan
    least = min((settled(plan, estimate, budget) for plan in plans), key=lambda plan: peak(estimate, plan))
    taken = stages(estimate, least)
    stage = max(taken, key=taken.__getitem__)
    if taken[stage] <= budget:
        raise DeviceError(
            f"--memory: the plans that fit the device need {shown(host_bytes(estimate, least))} of the processor's "
            f"memory, {shown(host or 0)} are free; give more, or a smaller --size or fewer frames (--frame_num)"
        )
    raise DeviceError(
        f"--memory: no plan fits {shown(budget)}: even '{least.name}' takes {shown(taken[stage])} to {stage}; "
        "give a smaller --size or fewer frames (--frame_num)"
    )


def retry_plan(plan: Plan, approximate: bool = True) -> Plan | None:
    """The plan to repeat a stage with after it ran out of memory; None where there is no smaller one.

    A text encoder that was to leave stays on the processor from then on. approximate: whether weights may be rounded,
    which changes the result.
    """
    if plan.after is None:
        return None
    following = PLANS[plan.after]
    if following.quantize and not plan.quantize and not approximate:
        return None
    return following if plan.text == "kept" else replace(following, text="cpu")


def free_memory(device: torch.device) -> tuple[int, str]:
    """(bytes that may be planned with, in words): what is free on the device less the reserve."""
    import torch

    if device.type == "cuda":
        found, whose = torch.cuda.mem_get_info(device)[0], f"free on {device}"
    else:
        found, whose = available_host(), "available to the processor"
    kept = reserve(found)
    return max(0, found - kept), f"{shown(found)} {whose}, {shown(kept)} of it kept in reserve"


def reserve(found: int) -> int:
    """What is left free of `found` bytes: 5 %, at least 0.5 GB."""
    return max(LEAST_RESERVE, int(RESERVE_SHARE * found))


def available_host(table: Path = Path("/proc/meminfo")) -> int:
    """Bytes of memory the processor could give without swapping; all of it where the system does not say."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", table.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError) as error:
        raise DeviceError("--memory auto: this system does not say how much memory it has; give '16 GB'") from error


def shown(count: int) -> str:
    """Bytes as '7.4 GB' or '310 MB', rounded up."""
    if count >= GB:
        return f"{math.ceil(count / GB * 10) / 10:.1f} GB"
    return f"{math.ceil(count / 10**6)} MB"


def published_parts(name: str) -> dict[str, Part]:
    """The parts of '1.3B' or '14B' as published, sizes alone. Raises InputError for another name."""
    from vace.models.parts import Part

    if name not in _PUBLISHED:
        raise InputError(f"'{name}' is no published size; {nearest(name, _PUBLISHED)}")
    configs = {"transformer": _TRANSFORMER | _PUBLISHED[name], "text_encoder": _UMT5_XXL, "vae": _VAE}
    return {part: Part(part, config, None, {}, f"vace-{name}") for part, config in configs.items()}


def published_table(dtype_name: str = "bfloat16") -> list[str]:
    """Lines: every plan of the published models at 480p, 81 frames, guided, with what each stage takes."""
    import torch

    from vace.speed.memory import estimate

    lines = [f"{'model':6}{'plan':14}" + "".join(f"{stage:>10}" for stage in (*STAGES, "peak", "host"))]
    for name in _PUBLISHED:
        found = estimate(published_parts(name), 832, 480, 81, dtype=getattr(torch, dtype_name))
        for plan in PLANS.values():
            numbers = (*stages(found, plan).values(), peak(found, plan), host_bytes(found, plan))
            lines.append(f"{name:6}{plan.name:14}" + "".join(f"{shown(number):>10}" for number in numbers))
    return lines


_TRANSFORMER = {
    "patch_size": [1, 2, 2], "attention_head_dim": 128, "in_channels": 16, "out_channels": 16, "vace_in_channels": 96,
    "text_dim": 4096, "freq_dim": 256, "text_len": 512,
}  # fmt: skip
_PUBLISHED = {
    "1.3B": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30, "vace_layers": list(range(0, 30, 2))},
    "14B": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40, "vace_layers": list(range(0, 40, 5))},
}
_UMT5_XXL = {
    "vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
    "relative_attention_num_buckets": 32, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
_VAE = {
    "base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
}  # fmt: skip
