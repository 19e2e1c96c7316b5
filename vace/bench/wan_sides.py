"""The two sides of `vace bench wan --vs diffusers`: our engine and diffusers' WanVACEPipeline over the same tensors.

Both get the same pixels, texts, noise, noise levels and number of steps, and give the pixels of a video. Each runs its
own code with its own defaults; diffusers' has modules of its own, since the engine makes its modules fast in place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vace.bench.clocks import Clock, Watch
from vace.bench.held_weights import second_module
from vace.bench.wan_models import Model
from vace.conditioning.context import empty_source
from vace.conditioning.pixels import letterbox, mask_to_unit, to_model_space, to_pixels
from vace.models import text
from vace.models.parts import COMPONENTS
from vace.models.samplers import LEVELS
from vace.models.wan import transformer
from vace.models.wan.engine import WanEngine

PROMPT = "a red boat with a white sail crosses the bay in the evening sun, seen from the shore"
SAMPLER = "unipc"
TIMESTEP = 500.0
STAGES = ("text", "encode", "denoise", "decode")
_ENDS = {"encode_prompt": "text", "prepare_latents": "encode"}  # method of diffusers' pipeline -> stage it ends


@dataclass(frozen=True)
class Job:
    """One video to make. frames, mask: uint8 [T,H,W,3] and [T,H,W], None for words alone. refs: uint8 [H,W,3] each.

    noise: float32 [16, T' + R, h, w]. size: (width, height).
    """

    prompt: str
    negative: str
    size: tuple[int, int]
    count: int
    frames: np.ndarray | None
    mask: np.ndarray | None
    refs: tuple[np.ndarray, ...]
    noise: torch.Tensor


@dataclass(frozen=True)
class Run:
    """One video made. stages: seconds by STAGES. latents: float32 [16, T' + R, h, w]. video: [T,H,W,3]."""

    stages: Mapping[str, float]
    latents: torch.Tensor
    video: np.ndarray

    @property
    def seconds(self) -> float:
        return sum(self.stages.values())


def make_job(
    model: Model, size: tuple[int, int], count: int, refs: int = 0, has_video: bool = True, seed: int = 0
) -> Job:
    """A job of that shape: coarse random pictures, the middle of which is to be made anew, and `refs` more.

    Without has_video, of words alone.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    frames = mask = None
    if has_video:
        frames = _pictures(rng, count, width, height)
        mask = np.zeros((count, height, width), np.uint8)
        mask[:, height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = 255
    pictures = tuple(_pictures(rng, refs, width, height))
    channels = model.parts["transformer"].config["in_channels"]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(channels, (count - 1) // 4 + 1 + refs, height // 8, width // 8, generator=generator)
    return Job(PROMPT, model.negative, size, count, frames, mask, pictures, noise)


def _pictures(rng: np.random.Generator, count: int, width: int, height: int) -> np.ndarray:
    coarse = rng.integers(0, 256, (count, -(-height // 16), -(-width // 16), 3), dtype=np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]


class RaceEngine(WanEngine):
    """Our engine, told when to load and when to forget."""

    def load(self) -> None:
        """Every component, in the order a run needs them."""
        for name in COMPONENTS:
            with self._in_use(name):
                pass

    def module(self, name: str) -> torch.nn.Module:
        with self._in_use(name) as found:
            return found

    def forget(self) -> None:
        """What was kept from videos before: states of texts, latents of an all-neutral video."""
        self._neutral.clear()
        self._texts.clear()

    def text_lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as the encoder reads it, without padding."""
        return [len(row) for row in text.token_rows(self._tokenizer, texts, self.text_len, self.clean)]


class Ours:
    """Our engine over a job, as `vace wan` runs it between reading files and writing one."""

    name = "ours"

    def __init__(self, engine: RaceEngine, model: Model) -> None:
        self.engine, self.model = engine, model

    def run(self, job: Job, steps: int, clock: Clock) -> Run:
        """The video as uint8, caches cold."""
        engine, model = self.engine, self.model
        engine.forget()
        is_guided = model.guidance != 1
        watch = Watch(clock)
        cond, uncond = engine.encode_prompts(job.prompt, job.negative if is_guided else None)
        watch.mark("text")
        context = engine.encode_context(*source(job))
        watch.mark("encode")
        latents = engine.denoise(
            context, cond, uncond, steps=steps, shift=model.shift, noise=job.noise, guidance_scale=model.guidance,
            sampler=SAMPLER,
        )  # fmt: skip
        watch.mark("denoise")
        video = to_pixels(engine.decode(latents, len(job.refs)))
        watch.mark("decode")
        return Run(watch.stages, latents.float().cpu(), video)

    def forward(self, job: Job, context: torch.Tensor, states: torch.Tensor) -> Callable[[], torch.Tensor]:
        """One pass, what does not change over the steps made ready: -> velocity [16, T' + R, h, w]."""
        model, device = self.engine.module("transformer"), self.engine.device
        prepared = transformer.prepare(model, context)
        embedded = transformer.embed_text(model, states, self.engine.text_len)
        latents = job.noise.to(device)
        return lambda: transformer.predict_velocity(model, latents, TIMESTEP, embedded, prepared)


class Diffusers:
    """diffusers' WanVACEPipeline over the tensors of our engine; its own classes, attention and defaults."""

    name = "diffusers"

    def __init__(self, engine: RaceEngine, model: Model) -> None:
        from diffusers import WanVACEPipeline

        self.engine, self.model = engine, model
        self.pipe = WanVACEPipeline(
            tokenizer=model.tokenizer,
            text_encoder=engine.module("text_encoder"),  # which the engine leaves as it is
            vae=second_module(model.parts["vae"], engine.module("vae"), torch.float32),
            scheduler=_scheduler(model.shift),
            transformer=second_module(model.parts["transformer"], engine.module("transformer"), engine.dtype),
        )
        self.pipe.set_progress_bar_config(disable=True)

    def run(self, job: Job, steps: int, clock: Clock) -> Run:
        """The video as float32 in 0..1, as the pipeline gives it by default."""
        found: dict[str, torch.Tensor] = {}
        given = _as_diffusers(job)
        watch = Watch(clock)
        with _marked(self.pipe, watch):
            frames = self.pipe(
                callback_on_step_end=_at_end(steps, watch, found), max_sequence_length=self.engine.text_len,
                num_inference_steps=steps, guidance_scale=self.model.guidance, **given,
            ).frames[0]  # fmt: skip
        watch.mark("decode")
        return Run(watch.stages, found["latents"][0].float().cpu(), frames)

    def forward(self, job: Job, context: torch.Tensor, states: torch.Tensor) -> Callable[[], torch.Tensor]:
        """One pass of diffusers' own: -> velocity [16, T' + R, h, w]."""
        model, device, dtype = self.pipe.transformer, self.engine.device, self.engine.dtype
        padded = torch.zeros(1, self.engine.text_len, states.shape[1], device=device, dtype=dtype)
        padded[0, : states.shape[0]] = states
        given = {
            "hidden_states": job.noise.unsqueeze(0).to(device, dtype),
            "timestep": torch.tensor([int(TIMESTEP)], device=device),
            "encoder_hidden_states": padded,
            "control_hidden_states": context.unsqueeze(0).to(device, dtype),
        }

        @torch.no_grad()
        def call() -> torch.Tensor:
            return model(**given, return_dict=False)[0][0]

        return call


SIDES: Mapping[str, type[Ours | Diffusers]] = {side.name: side for side in (Ours, Diffusers)}


def source(job: Job) -> tuple[torch.Tensor, torch.Tensor, Sequence[torch.Tensor]]:
    """Frames, mask and references in model space."""
    refs = [letterbox(picture, *job.size) for picture in job.refs]
    if job.frames is None:
        return *empty_source(job.count, *job.size), refs
    return to_model_space(job.frames), mask_to_unit(job.mask), refs


def _as_diffusers(job: Job) -> dict[str, Any]:
    """The pipeline's arguments. It puts each reference before those it has, so they are given from the last."""
    from PIL import Image

    width, height = job.size
    given = {
        "prompt": job.prompt, "negative_prompt": job.negative, "width": width, "height": height,
        "num_frames": job.count, "latents": job.noise.unsqueeze(0),
    }  # fmt: skip
    if job.frames is not None:
        given["video"] = [Image.fromarray(frame) for frame in job.frames]
        given["mask"] = [Image.fromarray(mask).convert("RGB") for mask in job.mask]
    if job.refs:
        given["reference_images"] = [Image.fromarray(picture) for picture in reversed(job.refs)]
    return given


def _scheduler(shift: float) -> Any:
    """diffusers' UniPC with the noise levels of our sampler, which are the original's and not quite its own."""
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    original = scheduler.set_timesteps
    scheduler.set_timesteps = lambda steps, device=None: original(device=device, sigmas=LEVELS[SAMPLER](steps))
    return scheduler


def _at_end(steps: int, watch: Watch, found: dict[str, torch.Tensor]) -> Callable[..., dict]:
    """The pipeline's callback: after the last step, its latents and the mark."""

    def told(pipe: Any, i: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        if i == steps - 1:
            found["latents"] = given["latents"]
            watch.mark("denoise")
        return given

    return told


@contextlib.contextmanager
def _marked(pipe: Any, watch: Watch) -> Iterator[None]:
    """While it lasts, the pipeline's texts and its getting ready for the first step end with a mark."""

    def marking(call: Callable, stage: str) -> Callable:
        def marked(*given: Any, **more: Any) -> Any:
            result = call(*given, **more)
            watch.mark(stage)
            return result

        return marked

    for method, stage in _ENDS.items():
        setattr(pipe, method, marking(getattr(pipe, method), stage))
    try:
        yield
    finally:
        for method in _ENDS:
            delattr(pipe, method)  # the class's own again
