"""A generation before it begins: the checkpoint found and checked, the settings complete."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vace.bases import LTX, Base, find_base
from vace.conditioning.sizes import parse_size
from vace.errors import CheckpointError, InputError
from vace.prompts.modes import PLAIN
from vace.settings import Settings, describe_preset, resolve_settings

if TYPE_CHECKING:
    import torch

    from vace.speed.memory_plans import Plan

log = logging.getLogger("vace")

SIDES = ("width", "height")
# Published by lightx2v: 4 steps, no guidance, shift 5 (their wan_t2v_distill_lora_4step_cfg.json).
TURBO_LORA = "lightx2v/Wan2.1-Distill-Loras:wan2.1_t2v_14b_lora_rank64_lightx2v_4step.safetensors"
# What says which model serves; each command takes those it has flags for.
MODEL_FLAGS = ("ckpt_dir", "model_name", "config", "text_encoder_path", "vae_path", "lora", "quantize", "no_download")
# What says how the prompt is extended; the text that came of it takes their place in the manifest.
PROMPT_FLAGS = ("use_prompt_extend", "prompt_model", "prompt_api", "prompt_api_model", "prompt_api_timeout",
                "prompt_fallback")  # fmt: skip


@dataclass(frozen=True)
class Job:
    """Everything a generation needs, checked, before anything heavy is loaded.

    checked: the checkpoint's parts and tokenizer, as `check_checkpoint` gives them. extension: what became of the
    prompt, for the manifest; None while, or where, it is as the user gave it. fingerprint: of the checkpoint's files,
    its LoRAs and how its weights are rounded. loras: what is fused into the transformer. quantize: None, 'int8', 'fp8'.
    plan: how the run is laid out in memory (vace/speed/memory_plans.py); None: all stays where it was read to.
    """

    checkpoint: object
    settings: Settings
    given: dict
    checked: tuple
    extension: dict | None = None
    fingerprint: str = ""
    loras: tuple = ()
    quantize: str | None = None
    plan: Plan | None = None

    @property
    def base(self) -> Base:
        return self.settings.base

    def parameters(self) -> dict:
        """The flags that make the same again; an extended prompt stands as it came out."""
        model = {name: self.given.get(name) for name in MODEL_FLAGS}
        if model["ckpt_dir"] is None and model["model_name"] is None:  # what served, so that it serves again
            model["ckpt_dir"] = "tiny" if self.checkpoint.is_toy else str(self.checkpoint.path)
        return model | self.settings.parameters()


def prepare_job(prompt: str | None, *, base: str = "wan", prompt_extension: dict | None = None, **given) -> Job:
    """Find the checkpoint and resolve the settings; the device asked for must exist.

    prompt_extension: the record of an earlier run that extended its prompt to this one, so that none is lost.
    Raises InputError, MissingWeights, CheckpointError or DeviceError.
    """
    kind = find_base(base)
    resolve_settings(prompt, given, {}, kind)  # a wrong flag is told before weights are looked for or fetched
    _check_prompt(prompt, kind, given)
    from vace.models.checkpoints import find_checkpoint

    checkpoint = find_checkpoint(
        given.get("ckpt_dir"), given.get("model_name"), base=kind, no_download=bool(given.get("no_download")),
        config=given.get("config"), text_encoder_path=given.get("text_encoder_path"), vae_path=given.get("vae_path"),
    )  # fmt: skip
    try:
        resolve_settings(prompt, {}, checkpoint.defaults, kind)
    except InputError as error:  # the flags were right: it is the checkpoint's own default that is wrong
        raise CheckpointError(f"{checkpoint.path}: the defaults of its vace.json do not hold: {error}") from error
    settings = resolve_settings(prompt, given, checkpoint.defaults, kind)
    if given.get("preset") is not None:
        log.info("%s", describe_preset(given, kind))
    from vace.devices import pick_device, pick_dtype
    from vace.models.engine import check_checkpoint

    device = pick_device(settings.device)
    pick_dtype(settings.dtype, device)
    pick_device(settings.noise_device, "--noise_device")
    checked = check_checkpoint(checkpoint)
    kind.module("engine").check_settings(settings, checked[0])
    loras, quantize = _checked_changes(given, checked[0], device, settings.t5_cpu)
    extension = prompt_extension if prompt_extension and prompt_extension["after"] == settings.prompt else None
    marks = (checkpoint.fingerprint(), *_marks(loras, quantize))
    job = Job(checkpoint, settings, given, checked, extension, "-".join(marks), loras, quantize)
    if extension or given.get("use_prompt_extend") in (None, PLAIN):
        kind.module("engine").check_prompt(settings.prompt)
    return job


def _checked_changes(given: dict, parts: dict, device: torch.device, t5_cpu: bool) -> tuple[tuple, str | None]:
    """The LoRAs, held against the transformer, and how weights are rounded, where the devices can do that."""
    from vace.speed.lora_sources import parse_loras

    specs, quantize = parse_loras(given.get("lora")), given.get("quantize")
    if given.get("preset") == "turbo" and not specs:
        log.warning("--preset turbo is for a model distilled to few steps: name its LoRA with --lora (of Wan 14B: %s)",
                    TURBO_LORA)  # fmt: skip
    if quantize is not None:
        from vace.devices import pick_device
        from vace.speed.quantize import check_kind

        for home in {device, pick_device("cpu") if t5_cpu else device}:
            check_kind(quantize, home)
    if not specs:
        return (), quantize
    from vace.speed.lora_check import check_loras

    return check_loras(specs, parts["transformer"], bool(given.get("no_download"))), quantize


def _marks(loras: tuple, quantize: str | None) -> list[str]:
    """What tells a changed model from the plain one: nothing for that."""
    if not loras:
        return [quantize] if quantize else []
    from vace.speed.lora import fingerprint_of

    return [mark for mark in (fingerprint_of(loras), quantize) if mark]


def with_extended_prompt(job: Job, task: str | None, refs: int, has_video: bool, has_mask: bool, seconds: float) -> Job:
    """`job` with its prompt extended, where that was asked for and is not done yet.

    task, refs, has_video, has_mask, seconds: what the video will be led by, for the one who writes. Raises what the
    writer raises, unless `--prompt_fallback` lets the prompt stand as it is.
    """
    if job.extension is not None or job.given.get("use_prompt_extend") is None:
        return job
    from vace.prompts.verb import prompt

    settings = job.settings
    extended = prompt(
        settings.prompt, base=job.base.name, task=task, refs=refs, has_video=has_video, has_mask=has_mask,
        seconds=seconds, seed=settings.seed, device=settings.device, dtype=settings.dtype,
        no_download=bool(job.given.get("no_download")), **_asked(job.given),
    )  # fmt: skip
    if extended.mode == PLAIN:
        return job
    job.base.module("engine").check_prompt(extended.after)
    log.info("prompt, %s: %s", extended.mode, extended.after)
    return replace(job, settings=replace(settings, prompt=extended.after), extension=extended.as_record())


def _check_prompt(prompt: str, base: Base, given: dict) -> None:
    """Raise for flags of the extension that are wrong, before anything is looked for."""
    if not _asked(given):
        return
    from vace.prompts.verb import check

    flags = {"use_prompt_extend": None} | _asked(given)
    check(prompt, base=base.name, **flags)


def _asked(given: dict) -> dict:
    return {name: given[name] for name in PROMPT_FLAGS if given.get(name) is not None}


def changed_by(kept: dict, given: dict) -> dict:
    """The parameters of an earlier run, changed by the flags given now.

    A flag takes the place of those that say the same in other words: another model by name or by folder, height or
    width of the size, precision, another base with all its numbers, a preset for what it sets. An extended prompt
    stays as it came out, unless it shall be extended anew: then from what it was before.
    """
    kept = dict(kept)
    record = kept.get("prompt_extension")
    if record and given.get("use_prompt_extend") not in (None, PLAIN) and "prompt" not in given:
        kept["prompt"] = record["before"]
        del kept["prompt_extension"]
    if "base" in given and "base" in kept and find_base(given["base"]) is not find_base(kept["base"]):
        base = find_base(kept["base"])
        dropped = (*base.options, *base.defaults, *MODEL_FLAGS, "negative_prompt", "dtype")
        log.info("of the earlier run: not taken over to another base model are its checkpoint and settings")
        kept = {name: value for name, value in kept.items() if name not in dropped}
    for flag, other in (("model_name", "ckpt_dir"), ("ckpt_dir", "model_name"), ("precision", "dtype")):
        if given.get(flag) is not None:
            kept.pop(other, None)
    if given.get("preset") is not None:
        base = find_base(given.get("base") or kept.get("base") or "wan")
        kept = {name: value for name, value in kept.items() if name not in base.presets.get(given["preset"], ())}
    if any(given.get(side) is not None for side in SIDES):
        size = kept.pop("size", None)
        if size:
            given = dict(zip(SIDES, parse_size(str(size), LTX.stride, names=LTX.sizes).sides, strict=True)) | given
    return kept | given
