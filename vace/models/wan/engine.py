"""Wan2.1-VACE as four calls: encode_prompts, encode_context, denoise, decode."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from vace.conditioning.context import encode_context, trim_refs
from vace.errors import InputError
from vace.models import engine, text
from vace.models.denoise import OnStep, denoise, draw_noise, guided
from vace.models.engine import Engine, wide_dtype
from vace.models.parts import Part
from vace.models.samplers import make_sampler
from vace.models.wan import transformer, vae
from vace.models.wan.cost import estimate

if TYPE_CHECKING:
    from vace.models.checkpoints import Checkpoint
    from vace.settings import Settings


class WanEngine(Engine):
    """A loaded Wan2.1-VACE model. Latents are [16, T, h, w], videos [3, frames, height, width] in [-1, 1]."""

    clean = staticmethod(text.clean_prompt)

    def __init__(
        self, parts: dict[str, Part], tokenizer: Any, device: torch.device, dtype: torch.dtype, *offloading: bool
    ) -> None:
        # The VAE's bar, and the sampler's, is float32.
        dtypes = {"transformer": dtype, "text_encoder": wide_dtype(dtype), "vae": torch.float32}
        super().__init__(parts, tokenizer, device, dtypes, *offloading)
        self.text_len: int = parts["transformer"].config["text_len"]

    def sampling(self, settings: Settings, fps: float, tokens: int) -> dict[str, Any]:
        """Keywords of `denoise` for these settings; `fps` and `tokens` change nothing for Wan."""
        shared = {name: getattr(settings, name) for name in ("steps", "shift", "guidance_scale", "context_scale")}
        return shared | dict(settings.options)

    def decoding(self, settings: Settings, seed: int) -> dict[str, Any]:
        """Keywords of `decode_chunks`: none, nothing is drawn in decoding."""
        return {}

    def encode_context(
        self, frames: torch.Tensor, mask: torch.Tensor, refs: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """The context [96, T' + R, h, w] of frames [3, T, H, W], mask [1, T, H, W] and R references [3, 1, H, W].

        References come first, in the given order; their number is not limited by the length of the video.
        """
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
        noise_device: str | torch.device = "cpu",
        on_step: OnStep | None = None,
    ) -> torch.Tensor:
        """Clean latents [16, T' + R, h, w], float32, on the engine's device.

        context: from encode_context. cond, uncond: from encode_prompts; at guidance_scale 1, or without `uncond`, the
        model runs once per step. Starts from `noise`, or from noise drawn with `seed` on `noise_device` (the CPU by
        default, so that machines agree). Raises InputError when neither is given.
        """
        context = context.to(self.device)
        if noise is None:
            if seed is None:
                raise InputError("denoise: neither noise nor a seed was given; give one of them")
            channels = self._parts["transformer"].config["in_channels"]
            noise = draw_noise((channels, *context.shape[1:]), seed, noise_device)
        schedule = make_sampler(sampler, steps, shift)
        with self._in_use("transformer") as model:
            job = transformer.prepare(model, context, context_scale)
            is_guided = uncond is not None and guidance_scale != 1
            branches = [self._predictor(model, states, job) for states in ([cond, uncond] if is_guided else [cond])]
            predict = guided(branches[0], branches[1] if is_guided else None, guidance_scale)
            return denoise(noise.to(self.device), schedule, predict, on_step)

    def decode(self, latents: torch.Tensor, refs: int = 0) -> torch.Tensor:
        """Video [3, T, H, W] in [-1, 1], float32, on the CPU, without the first `refs` latent frames (references)."""
        return torch.cat(list(self.decode_chunks(latents, refs)), dim=1)

    def decode_chunks(self, latents: torch.Tensor, refs: int = 0) -> Iterator[torch.Tensor]:
        """The same video in pieces [3, t, H, W], each yielded as soon as it is decoded."""
        with self._in_use("vae") as model:
            for chunk in vae.decode_chunks(model, trim_refs(latents.to(self.device), refs)):
                yield chunk.cpu()

    def _predictor(self, model: torch.nn.Module, states: torch.Tensor, job: transformer.Job):
        embedded = transformer.embed_text(model, states.to(self.device), self.text_len)

        def predict(latents: torch.Tensor, timestep: float) -> torch.Tensor:
            return transformer.predict_velocity(model, latents, timestep, embedded, job)

        return predict


def check_prompt(prompt: str) -> None:
    """Nothing that Wan could not read."""


def check_settings(settings: Settings, parts: dict[str, Part]) -> None:
    """Nothing that a checkpoint of Wan could not do."""


def job_cost(
    checkpoint: Checkpoint, settings: Settings, width: int, height: int, frames: int, refs: int, dtype_bytes: int
) -> dict[str, int]:
    """What a job of these settings will cost; see `vace.models.wan.cost.estimate`."""
    return estimate(
        checkpoint, width, height, frames, refs, settings.steps, settings.guidance_scale, dtype_bytes=dtype_bytes,
        offload=settings.offload_model,
    )  # fmt: skip


load_engine = functools.partial(engine.load_engine, WanEngine)
