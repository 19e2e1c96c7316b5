"""Wan2.1-VACE as four calls: encode_prompts, encode_context, denoise, decode.

Components are read when first needed and live on the device while they are used. With `offload_model` they leave it
afterwards (on a CPU the text encoder, the largest part, is dropped); with `t5_cpu` the text encoder never enters it.
Nothing is left half done when a call is interrupted: its state is local to it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from vace.conditioning.context import encode_context, trim_refs
from vace.devices import pick_device, pick_dtype
from vace.errors import CheckpointError, InputError
from vace.models import text
from vace.models.checkpoints import Checkpoint
from vace.models.loading import build, check_parts
from vace.models.parts import COMPONENTS, Part, read_part
from vace.models.samplers import make_sampler
from vace.models.wan import transformer, vae
from vace.models.wan.denoise import OnStep, denoise, draw_noise
from vace.speed.cpu_convolution import apply_onednn

log = logging.getLogger("vace")


def load_engine(
    checkpoint: Checkpoint,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    offload_model: bool = False,
    t5_cpu: bool = False,
    checked: tuple[dict[str, Part], Any] | None = None,
) -> WanEngine:
    """An engine for `checkpoint`, all its files checked by name and shape, no weights read yet.

    device: see pick_device. dtype: see pick_dtype; the VAE and the sampler work in float32 whatever it is.
    checked: what check_checkpoint gave before, to spare a second look. Raises CheckpointError, DeviceError, InputError.
    """
    where = pick_device(device)
    parts, tokenizer = checked or check_checkpoint(checkpoint)
    return WanEngine(parts, tokenizer, where, pick_dtype(dtype, where), offload_model, t5_cpu)


def check_checkpoint(checkpoint: Checkpoint) -> tuple[dict[str, Part], Any]:
    """The parts and the tokenizer, every file checked by name and shape, no weights read.

    Raises one CheckpointError that names all parts that cannot be used.
    """
    parts: dict[str, Part] = {}
    problems: list[CheckpointError] = []
    for name in COMPONENTS:
        try:
            parts[name] = read_part(checkpoint, name)
        except CheckpointError as error:
            problems.append(error)
    tokenizer = None
    try:
        tokenizer = text.load_tokenizer(checkpoint.tokenizer)
    except CheckpointError as error:
        problems.append(error)
    if problems:
        raise CheckpointError("; ".join(str(error) for error in problems)) from problems[0]
    check_parts(parts)
    known = parts["text_encoder"].config["vocab_size"]
    highest = max(tokenizer.get_vocab().values())
    if highest >= known:
        raise CheckpointError(
            f"{checkpoint.tokenizer}: a tokenizer of {highest + 1} tokens, the text encoder knows {known}; "
            "these files are of two models"
        )
    return parts, tokenizer


class WanEngine:
    """A loaded Wan2.1-VACE model. Latents are [16, T, h, w], videos [3, frames, height, width] in [-1, 1]."""

    def __init__(
        self,
        parts: dict[str, Part],
        tokenizer: Any,
        device: torch.device,
        dtype: torch.dtype,
        offload_model: bool = False,
        t5_cpu: bool = False,
    ) -> None:
        self.device = device
        self.dtype = dtype
        self.text_len: int = parts["transformer"].config["text_len"]
        self.offload_model = offload_model
        self._parts = parts
        self._tokenizer = tokenizer
        self._modules: dict[str, torch.nn.Module] = {}
        self._zero_latents: dict[tuple[int, ...], torch.Tensor] = {}  # latents of an all-neutral video, by its shape
        self._homes = dict.fromkeys(COMPONENTS, device)
        if t5_cpu:
            self._homes["text_encoder"] = torch.device("cpu")
        # float16 overflows in UMT5's feed-forward layers; the VAE's bar is float32.
        text_dtype = torch.bfloat16 if dtype == torch.float16 else dtype
        self._dtypes = {"transformer": dtype, "text_encoder": text_dtype, "vae": torch.float32}

    def encode_prompts(self, prompt: str, negative: str | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Text states [tokens, text width] of the prompt and, unless it is None, of the negative prompt ('' is one)."""
        texts = [prompt] if negative is None else [prompt, negative]
        with self._in_use("text_encoder") as model:
            states = text.encode_texts(self._tokenizer, model, texts, self.text_len)
        states = [state.to(self.device) for state in states]
        return states[0], states[1] if negative is not None else None

    def encode_context(
        self, frames: torch.Tensor, mask: torch.Tensor, refs: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """The context [96, T' + R, h, w] of frames [3, T, H, W], mask [1, T, H, W] and R references [3, 1, H, W].

        References come first, in the given order; their number is not limited by the length of the video.
        """
        refs = [ref.to(self.device) for ref in refs]
        with self._in_use("vae") as model:
            encode = functools.partial(vae.encode, model)
            return encode_context(encode, frames.to(self.device), mask.to(self.device), refs, self._zero_latents)

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
            guided = uncond is not None and guidance_scale != 1
            branches = [self._predictor(model, states, job) for states in ([cond, uncond] if guided else [cond])]
            return denoise(
                noise.to(self.device), schedule, branches[0], branches[1] if guided else None, guidance_scale, on_step
            )

    def decode(self, latents: torch.Tensor, refs: int = 0) -> torch.Tensor:
        """Video [3, T, H, W] in [-1, 1], float32, on the CPU, without the first `refs` latent frames (references)."""
        return torch.cat(list(self.decode_chunks(latents, refs)), dim=1)

    def decode_chunks(self, latents: torch.Tensor, refs: int = 0) -> Iterator[torch.Tensor]:
        """The same video in pieces [3, t, H, W], each yielded as soon as it is decoded."""
        with self._in_use("vae") as model:
            for chunk in vae.decode_chunks(model, trim_refs(latents.to(self.device), refs)):
                yield chunk.cpu()

    def release(self) -> None:
        """Drops every component from memory; the next call reads it again."""
        self._modules.clear()
        self._zero_latents.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _predictor(self, model: torch.nn.Module, states: torch.Tensor, job: transformer.Job):
        embedded = transformer.embed_text(model, states.to(self.device), self.text_len)

        def predict(latents: torch.Tensor, timestep: float) -> torch.Tensor:
            return transformer.predict_velocity(model, latents, timestep, embedded, job)

        return predict

    @contextmanager
    def _in_use(self, name: str) -> Iterator[Any]:
        """The component on its device, read first if need be; put away afterwards when offloading."""
        if name not in self._modules:
            log.debug("reading %s from %s", name, self._parts[name].source)
            self._modules[name] = build(self._parts[name], self._dtypes[name])
            apply_onednn(self._modules[name])
        home = self._homes[name]
        try:
            yield self._modules[name].to(home)
        finally:
            if self.offload_model:
                self._put_away(name)

    def _put_away(self, name: str) -> None:
        if self._homes[name].type == "cuda":
            self._modules[name].to("cpu")
            torch.cuda.empty_cache()
        elif name == "text_encoder" and self.device.type == "cpu":
            del self._modules[name]
