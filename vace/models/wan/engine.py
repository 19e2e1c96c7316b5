"""Wan2.1-VACE as four calls: encode_prompts, encode_context, denoise, decode."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from vace.conditioning.context import encode_context, trim_refs
from vace.devices import pick_device, pick_dtype
from vace.errors import InputError
from vace.models import engine, text
from vace.models.denoise import OnStep, Sampler, denoise, draw_noise
from vace.models.engine import Engine, wide_dtype
from vace.models.parts import Part
from vace.models.samplers import make_sampler
from vace.models.wan import transformer, vae, vae_tiles
from vace.models.wan.cost import estimate
from vace.models.wan.predictor import Predictor
from vace.speed.attention import apply_attention, choose
from vace.speed.channels_last import apply_channels_last
from vace.speed.compile import apply_compile
from vace.speed.guidance_interval import WHOLE
from vace.speed.lean_blocks import apply_lean
from vace.speed.offload import BlockOffload, apply_offload

if TYPE_CHECKING:
    from vace.models.checkpoints import Checkpoint
    from vace.settings import Settings
    from vace.speed.memory_plans import Plan
    from vace.speed.parallel_launch import Team

log = logging.getLogger("vace")


class WanEngine(Engine):
    """A loaded Wan2.1-VACE model. Latents are [16, T, h, w], videos [3, frames, height, width] in [-1, 1]."""

    clean = staticmethod(text.clean_prompt)

    def __init__(
        self, parts: dict[str, Part], tokenizer: Any, device: torch.device, dtype: torch.dtype, *offloading: bool,
        attention: str = "auto", compile: bool = False, vae_dtype: str = "float32", plan: Plan | None = None,
        team: Team | None = None, **changes: Any,
    ) -> None:  # fmt: skip
        # The VAE's bar is float32, so that is what it is in unless it is asked otherwise.
        dtypes = {"transformer": dtype, "text_encoder": wide_dtype(dtype), "vae": getattr(torch, vae_dtype)}
        super().__init__(parts, tokenizer, device, dtypes, *offloading, **changes)
        self._attention, self._compile, self._plan = attention, compile, plan
        self._team = team
        self._offload: BlockOffload | None = None
        if plan is not None:
            self._quantize = self._quantize or plan.quantize
            if plan.text == "cpu":
                self._homes["text_encoder"] = torch.device("cpu")

    @property
    def text_len(self) -> int:
        """Tokens of a text at most; asked only where there is a transformer: decoding needs the VAE alone."""
        return self._parts["transformer"].config["text_len"]

    def sampling(self, settings: Settings, fps: float, tokens: int) -> dict[str, Any]:
        """Keywords of `denoise` for these settings; `fps` and `tokens` change nothing for Wan."""
        shared = {name: getattr(settings, name) for name in ("steps", "shift", "guidance_scale", "context_scale")}
        asked = settings.options.keys() - set(settings.base.made_with)
        return shared | {name: settings.options[name] for name in sorted(asked)}

    def decoding(self, settings: Settings, seed: int) -> dict[str, Any]:
        """Keywords of `decode_chunks`: none, nothing is drawn in decoding."""
        return {}

    def encode_context(
        self, frames: torch.Tensor, mask: torch.Tensor, refs: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """The context [96, T' + R, h, w] of frames [3, T, H, W], mask [1, T, H, W] and R references [3, 1, H, W].

        References come first, in the given order; their number is not limited by the length of the video.
        """
        if self._plan is not None and self._plan.tile_vae:
            with self._in_use("vae") as model:
                encode = functools.partial(_encode_tiles, model)
                return encode_context(encode, frames, mask, list(refs), self._neutral)
        refs = [ref.to(self.device) for ref in refs]
        with self._in_use("vae") as model:
            encode = functools.partial(vae.encode, model)
            return encode_context(encode, frames.to(self.device), mask.to(self.device), refs, self._neutral)

    def denoise(
        self,
        context: torch.Tensor,
        cond: torch.Tensor,
        uncond: torch.Tensor | None = None,
        *,
        steps: int,
        shift: float,
        seed: int | None = None,
        noise: torch.Tensor | None = None,
        guidance_scale: float = 5.0,
        sampler: str = "unipc",
        context_scale: float | Sequence[float] = 1.0,
        context_end: float = 1.0,
        guidance_interval: tuple[float, float] = WHOLE,
        step_cache: float = 0.0,
        noise_device: str | torch.device = "cpu",
        on_step: OnStep | None = None,
    ) -> torch.Tensor:
        """Clean latents [16, T' + R, h, w], float32, on the engine's device.

        context: from encode_context. cond, uncond: from encode_prompts; at guidance_scale 1, or without `uncond`, the
        model runs once per step. context_end, guidance_interval, step_cache: see vace.models.wan.predictor. Starts from
        `noise`, or from noise drawn with `seed` on `noise_device` (the CPU by default, so that machines agree). Raises
        InputError when neither is given, and for `lcm` without a seed.
        """
        context = context.to(self.device)
        if noise is None:
            if seed is None:
                raise InputError("denoise: neither noise nor a seed was given; give one of them")
            channels = self._parts["transformer"].config["in_channels"]
            noise = draw_noise((channels, *context.shape[1:]), seed, noise_device)
        schedule = _schedule(sampler, steps, shift, noise, seed, noise_device)
        with self._in_use("transformer") as model:
            job = transformer.prepare(model, context, context_scale)
            is_guided = uncond is not None and guidance_scale != 1
            texts = [
                transformer.embed_text(model, states.to(self.device), self.text_len)
                for states in ([cond, uncond] if is_guided else [cond])
            ]
            kind = functools.partial(_leading(), self._team) if self._team else Predictor
            predict = kind(
                model, job, texts, len(schedule.timesteps), guidance_scale=guidance_scale, context_end=context_end,
                guidance_interval=guidance_interval, step_cache=step_cache,
            )  # fmt: skip
            latents = denoise(noise.to(self.device), schedule, predict, on_step)
        for line in predict.report():
            log.info("%s", line)
        return latents

    def decode(self, latents: torch.Tensor, refs: int = 0) -> torch.Tensor:
        """Video [3, T, H, W] in [-1, 1], float32, on the CPU, without the first `refs` latent frames (references)."""
        return torch.cat(list(self.decode_chunks(latents, refs)), dim=1)

    def decode_chunks(self, latents: torch.Tensor, refs: int = 0) -> Iterator[torch.Tensor]:
        """The same video in pieces [3, t, H, W], each yielded as soon as it is decoded."""
        with self._in_use("vae") as model:
            decode = vae_tiles.decode_chunks if self._plan is not None and self._plan.tile_vae else vae.decode_chunks
            for chunk in decode(model, trim_refs(latents.to(self.device), refs)):
                yield chunk.cpu()

    def release(self) -> None:
        self._end_offload()
        super().release()

    def _home(self, name: str) -> torch.device:
        away = name == "transformer" and self._plan is not None and self._plan.offload_blocks
        away = away or self._is_spread(name)  # each process keeps its share alone
        return torch.device("cpu") if away else super()._home(name)

    def _placed(self, name: str) -> torch.nn.Module:
        if name != "transformer" or self._plan is None or not self._plan.offload_blocks:
            return super()._placed(name)
        if self._offload is None:
            self._offload = apply_offload(self._modules[name], self.device)
        return self._modules[name]

    def _after_use(self, name: str) -> None:
        """What the plan has leave the device: the text encoder for good, the others until they are needed again."""
        super()._after_use(name)
        if self._plan is None:
            return
        if name == "text_encoder" and self._plan.text != "kept":
            self._modules.pop(name, None)
        elif self._plan.offload_blocks:
            self._end_offload() if name == "transformer" else None
            self._modules[name].to("cpu")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _end_offload(self) -> None:
        if self._offload is not None:
            self._offload.remove()
            self._offload = None

    def _prepare(self, name: str, module: torch.nn.Module) -> None:
        super()._prepare(name, module)
        if name == "text_encoder" and self._is_spread(name):
            from vace.speed.fsdp import spread_text_encoder

            spread_text_encoder(module, self._team)
        if name == "vae" and self.device.type == "cuda":
            apply_channels_last(module)
        if name != "transformer":
            return
        apply_compile(module) if self._compile else apply_lean(module)
        kernel = choose(self._attention, self.device, self.dtype, module.config.attention_head_dim)
        log.debug("attention: %s, off by %.1e in its test", kernel.name, kernel.error)
        attend, config = kernel.attend, module.config
        if self._team is not None:
            attend = self._team.attention(attend, self.dtype, config.num_attention_heads, config.attention_head_dim)
        apply_attention(module, attend)
        if self._is_spread(name):
            from vace.speed.fsdp import spread_transformer

            spread_transformer(module, self._team)

    def _is_spread(self, name: str) -> bool:
        layout = self._team.layout if self._team else None
        return bool(layout and {"transformer": layout.dit_fsdp, "text_encoder": layout.t5_fsdp}.get(name))


def _leading() -> type:
    from vace.speed.parallel import LeadingPredictor

    return LeadingPredictor


def _encode_tiles(model: torch.nn.Module, videos: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Latents on the CPU, where frames and masks are, of videos that a device could not hold."""
    return [latents.cpu() for latents in vae_tiles.encode(model, videos)]


def _schedule(
    name: str, steps: int, shift: float, noise: torch.Tensor, seed: int | None, device: str | torch.device
) -> Sampler:
    """The sampler called `name`; noise of its own goes on where the start's ended."""
    from vace.models.few_steps import FEW_STEPS, generator_after, make_few_steps

    if name not in FEW_STEPS:
        return make_sampler(name, steps, shift)
    if name == "lcm" and seed is None:
        raise InputError("denoise: lcm draws noise at every step; give a seed beside the noise, or take euler")
    generator = generator_after(tuple(noise.shape), seed, device) if name == "lcm" else None
    return make_few_steps(name, steps, shift, generator)


def check_prompt(prompt: str) -> None:
    """Nothing that Wan could not read."""


def check_settings(settings: Settings, parts: dict[str, Part]) -> None:
    """Raise InputError, MissingDependency or DeviceError for a named attention kernel that cannot serve."""
    name = settings.options["attention"]
    if name != "auto":
        device = pick_device(settings.device)
        config = parts["transformer"].config
        choose(name, device, pick_dtype(settings.dtype, device), config["attention_head_dim"])


def job_cost(
    checkpoint: Checkpoint, settings: Settings, width: int, height: int, frames: int, refs: int, dtype_bytes: int
) -> dict[str, int]:
    """What a job of these settings will cost; see `vace.models.wan.cost.estimate`."""
    return estimate(
        checkpoint, width, height, frames, refs, settings.steps, settings.guidance_scale, dtype_bytes=dtype_bytes,
        offload=settings.offload_model, context_end=settings.options["context_end"],
        guidance_interval=settings.options["guidance_interval"],
    )  # fmt: skip


load_engine = functools.partial(engine.load_engine, WanEngine)
