"""`vace plan`: what a run would take in memory, stage by stage, and which plan would be chosen; nothing is run."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from vace.errors import InputError, MissingWeights
from vace.settings import resolve_settings
from vace.speed.memory_plans import (
    PLANS,
    Request,
    available_host,
    choose,
    free_memory,
    host_bytes,
    parse_memory,
    peak,
    published_parts,
    settled,
    shown,
    stages,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vace.job import Job
    from vace.models.parts import Part
    from vace.settings import Settings
    from vace.speed.memory import Estimate
    from vace.speed.memory_plans import Plan

log = logging.getLogger("vace")

_DOING = {
    "text": "text encoder", "encode": "VAE, encoding", "denoise": "transformer", "decode": "VAE, decoding",
}  # fmt: skip


def plan(prompt: str | None = None, *, memory: str = "auto", refs: int = 0, **given) -> str:
    """The lines for the flags of a generation; the last is a JSON object. Raises what preparing the job raises.

    Nothing is fetched: a published model that is not on this machine is planned by its published sizes.
    """
    request = parse_memory(memory)  # a wrong flag is told before files are looked for
    from vace.job import prepare_job

    said = prompt or "a boat on the sea"
    try:
        job = prepare_job(said, **{**given, "no_download": True})
        parts, settings, quantize = job.checked[0], job.settings, job.quantize
    except MissingWeights:
        parts = _published(given.get("model_name"))
        if parts is None:
            raise
        settings, quantize = resolve_settings(said, given, {}), given.get("quantize")
    return "\n".join(report(*planned(parts, settings, request, refs, quantize=quantize)))


def _published(model_name: str | None) -> dict[str, Part] | None:
    sizes = {"vace-1.3b": "1.3B", "vace-1.3b-preview": "1.3B", "vace-14b": "14B"}
    size = sizes.get(str(model_name).rpartition("/")[2].lower().removeprefix("wan2.1-"))
    return published_parts(size) if size else None


def planned(
    parts: Mapping[str, Part],
    settings: Settings,
    request: Request,
    refs: int = 0,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    quantize: str | None = None,
) -> tuple[Estimate, Plan, str]:
    """(estimate, plan, what the choice was made by) for what --memory asks. Raises InputError, DeviceError.

    size: width, height; without it the area's own: a source video's picture has as many pixels at most. frames: of the
    clip as the model makes it; without it the setting's. quantize: of --quantize, whatever the plan.
    """
    if settings.base.name != "wan":
        raise InputError(f"--base {settings.base.name}: memory is planned for wan alone; leave --memory out")
    import torch

    from vace.devices import pick_device, pick_dtype
    from vace.speed.memory import estimate

    device = pick_device(settings.device)
    width, height = size or (settings.area.width, settings.area.height)
    found = estimate(
        parts, width, height, frames or settings.frame_num, refs, dtype=pick_dtype(settings.dtype, device),
        is_guided=settings.base.is_guided(settings.guidance_scale), step_cache=settings.options["step_cache"] > 0,
        vae_dtype=getattr(torch, settings.options["vae_dtype"]),
    )  # fmt: skip
    return found, *decided(found, request, device, quantize)


def with_plan(job: Job, refs: int, size: tuple[int, int], frames: int) -> Job:
    """The job with the plan that --memory asks for; what is planned by hand, or a toy, stays as it is.

    Raises DeviceError when nothing fits, MissingDependency for a plan that rounds weights where nothing can.
    """
    settings = job.settings
    request = parse_memory(settings.options.get("memory", "auto"))
    if "memory" not in settings.options or settings.offload_model or settings.t5_cpu:
        return job
    if job.checkpoint.is_toy and request == Request():
        return job
    _, chosen, why = planned(job.checked[0], settings, request, refs, size, frames, job.quantize)
    if chosen.quantize:
        from vace.devices import pick_device
        from vace.speed.quantize import check_kind

        check_kind(chosen.quantize, pick_device(settings.device))
    log.log(logging.DEBUG if chosen.name == "device" else logging.INFO, "%s", plan_line(chosen, why))
    return replace(job, plan=chosen)


def decided(found: Estimate, request: Request, device, quantize: str | None = None) -> tuple[Plan, str]:
    """(plan, why) for what --memory asks. quantize: of --quantize, whatever the plan. DeviceError when nothing fits."""
    budget, words = (request.bytes, f"{shown(request.bytes)} given") if request.bytes else free_memory(device)
    if request.plan:
        return settled(_rounded(PLANS[request.plan], quantize), found, budget), "asked for by name"
    host = available_host() if device.type == "cuda" else None
    return choose(found, budget, host, [_rounded(plan, quantize) for plan in PLANS.values()]), words


def _rounded(plan: Plan, quantize: str | None) -> Plan:
    return replace(plan, quantize=quantize) if quantize else plan


def plan_line(chosen: Plan, why: str) -> str:
    """The plan in one line."""
    exact = "" if chosen.is_exact else "; the result differs a little from that of 'device'"
    text = "; the text encoder runs on the processor" if chosen.text == "cpu" else ""
    return f"plan '{chosen.name}': {chosen.about}{text} ({why}){exact}"


def report(found: Estimate, chosen: Plan, why: str) -> list[str]:
    """One line per stage, one for the plan, and the JSON object."""
    taken = stages(found, chosen)
    most = peak(found, chosen)
    lines = [
        f"{stage:8}{shown(count):>9}  {_DOING[stage]}{' on the processor' if _is_away(stage, chosen) else ''}"
        f"{'  <- most' if count == most else ''}"
        for stage, count in taken.items()
    ]
    lines.append(plan_line(chosen, why))
    answer = {
        "plan": chosen.name, "text": chosen.text, "tile_vae": chosen.tile_vae, "offload_blocks": chosen.offload_blocks,
        "quantize": chosen.quantize, "exact": chosen.is_exact, "tokens": found.tokens, "stages": taken, "peak": most,
        "host": host_bytes(found, chosen), "plans": {name: peak(found, one) for name, one in PLANS.items()},
    }  # fmt: skip
    return [*lines, json.dumps(answer)]


def _is_away(stage: str, chosen: Plan) -> bool:
    return stage == "text" and chosen.text == "cpu"
