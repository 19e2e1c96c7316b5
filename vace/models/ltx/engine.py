"""VACE-LTX-Video-0.9 as four calls: encode_prompts, encode_context, denoise, decode."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from vace.conditioning import ltx_context
from vace.conditioning.context import check_shapes, encode_once, trim_refs
from vace.devices import pick_device
from vace.errors import InputError
from vace.models import engine
from vace.models.cost import part_bytes
from vace.models.denoise import OnStep, Predict, denoise, draw_noise
from vace.models.engine import Engine, wide_dtype
from vace.models.ltx import forward, vae
from vace.models.ltx.cost import STRATEGIES, estimate, guided_rows
from vace.models.ltx.guidance import guide
from vace.models.ltx.schedule import make_schedule, token_shift
from vace.models.ltx.text import TEXT_LEN, clean_caption
from vace.models.parts import COMPONENTS, Part, read_part

if TYPE_CHECKING:
    from vace.models.checkpoints import Checkpoint
    from vace.settings import Settings

SAMPLING = ("steps", "shift", "guidance_scale", "context_scale")
STG = ("stg_scale", "stg_rescale", "stg_mode", "stg_skip_layers", "posterior")
POSTERIORS = ("sample", "mode")


@dataclass(frozen=True)
class Context:
    """What leads a video, before anything is drawn: moments of the two halves and of R references, the folded mask.

    folded: [128, T'+R, h, w], see vace/conditioning/ltx_context.py. statistics: of the VAE's latents.
    """

    unchanged: vae.Moments
    changed: vae.Moments
    refs: tuple[vae.Moments, ...]
    folded: torch.Tensor
    statistics: vae.Statistics

    def tokens(self, draws: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """The context as the transformer reads it [N, 384]: latents drawn from the moments, None for a mode; mask."""
        moments = (self.unchanged, self.changed, *self.refs)
        found = [vae.latents(self.statistics, *pair) for pair in zip(moments, draws, strict=True)]
        return ltx_context.join(found[0], found[1], found[2:], self.folded)


@dataclass(frozen=True)
class PosteriorNoise:
    """Draws for the latents of a context: each half [128, T', h, w], each reference [128, 1, h, w]."""

    unchanged: torch.Tensor
    changed: torch.Tensor
    refs: tuple[torch.Tensor, ...] = ()


def generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """The generator of one purpose within a job: purposes of one seed are independent of each other.

    In the original all draw from one global state, or by chance from two of the same seed, which makes the noise of the
    source latents that of the video.
    """
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


class LTXEngine(Engine):
    """A loaded VACE-LTX model. Latents are [128, T, h, w], videos [3, frames, height, width] in [-1, 1]."""

    clean = staticmethod(clean_caption)
    text_len = TEXT_LEN

    def __init__(
        self, parts: dict[str, Part], tokenizer: Any, device: torch.device, dtype: torch.dtype, *offloading: bool,
        **changes: Any,
    ) -> None:  # fmt: skip
        wide = wide_dtype(dtype)
        dtypes = {"transformer": dtype, "text_encoder": wide, "vae": wide}
        super().__init__(parts, tokenizer, device, dtypes, *offloading, **changes)
        self._last: tuple | None = None  # the last video's key, constants and texts

    def release(self) -> None:
        super().release()
        self._last = None

    def sampling(self, settings: Settings, fps: float, tokens: int) -> dict[str, Any]:
        """Keywords of `denoise` for these settings.

        fps: frames a second of the video, which the model is told. tokens: of the video and its references.
        """
        shared = {name: getattr(settings, name) for name in SAMPLING}
        shared["shift"] = token_shift(tokens) if settings.shift is None else settings.shift
        return shared | {name: settings.options[name] for name in STG} | {"fps": fps}

    def decoding(self, settings: Settings, seed: int) -> dict[str, Any]:
        """Keywords of `decode_chunks` for these settings and the seed of the video."""
        names = ("decode_timestep", "decode_noise_scale")
        where = str(pick_device(settings.noise_device, "--noise_device"))
        return {name: settings.options[name] for name in names} | {"seed": seed, "noise_device": where}

    def encode_context(self, frames: torch.Tensor, mask: torch.Tensor, refs: Sequence[torch.Tensor] = ()) -> Context:
        """The context of frames [3, T, H, W], mask [1, T, H, W] and R references [3, 1, H, W].

        References come first, in the given order; their number is not limited by the length of the video. An
        all-neutral half is encoded once per shape.
        """
        check_shapes(frames, mask, refs)
        mask = ltx_context.whole_if_white(mask.to(self.device))
        halves = ltx_context.split(frames.to(self.device), mask)
        with self._in_use("vae") as model:
            encode = functools.partial(vae.moments, model)
            unchanged, changed = (encode_once(encode, half, self._neutral) for half in halves)
            given = tuple(encode(ref.to(self.device)) for ref in refs)
            statistics = vae.statistics_of(model)
        return Context(unchanged, changed, given, ltx_context.fold_mask(mask, len(given)), statistics)

    def denoise(
        self,
        context: Context,
        cond: torch.Tensor,
        uncond: torch.Tensor | None = None,
        *,
        steps: int,
        fps: float,
        shift: float | None = None,
        seed: int | None = None,
        noise: torch.Tensor | None = None,
        posterior: str = "sample",
        posterior_noise: PosteriorNoise | None = None,
        guidance_scale: float = 3.0,
        context_scale: float = 1.0,
        stg_scale: float = 1.0,
        stg_rescale: float = 0.7,
        stg_mode: str = "stg_a",
        stg_skip_layers: Sequence[int] = (19,),
        noise_device: str | torch.device = "cpu",
        on_step: OnStep | None = None,
    ) -> torch.Tensor:
        """Clean latents [128, T' + R, h, w], float32, on the engine's device.

        context: from encode_context. cond, uncond: from encode_prompts. fps: frames a second of the video. shift: None
        to follow from the number of tokens. posterior: 'sample' draws the source latents, 'mode' takes their mean.
        stg_*: spatio-temporal guidance (see vace/models/ltx/guidance.py), stg_mode 'stg_a' skips the attention of
        stg_skip_layers, 'stg_r' these layers altogether. Starts from `noise` [N, 128] and `posterior_noise`, or from
        what is drawn with `seed` on `noise_device`. Raises InputError when neither is given.
        """
        if stg_mode not in STRATEGIES or posterior not in POSTERIORS:
            raise InputError(f"denoise: stg_mode {stg_mode} or posterior {posterior} is unknown; "
                             f"known: {', '.join((*STRATEGIES, *POSTERIORS))}")  # fmt: skip
        latent_frames, rows, columns = context.folded.shape[1:]
        tokens = latent_frames * rows * columns
        if noise is None:
            if seed is None:
                raise InputError("denoise: neither noise nor a seed was given; give one of them")
            noise = draw_noise((tokens, context.unchanged.mean.shape[0]), seed, noise_device)
        source = context.tokens(self._posterior(context, seed, posterior, posterior_noise, noise_device))
        asked = [
            forward.Row(*row)
            for row in guided_rows(
                guidance_scale if uncond is not None else 1.0, stg_scale, stg_skip_layers, STRATEGIES[stg_mode]
            )
        ]
        texts = [uncond, cond] if asked[-1].text else [cond]
        terminal = self._parts["transformer"].config["scheduler"]["target_shift_terminal"]
        schedule = make_schedule(steps, tokens, shift=shift, terminal=terminal)

        def in_space(found: torch.Tensor) -> torch.Tensor:
            return ltx_context.unpatchify(found, latent_frames, rows, columns)

        def told(i: int, steps: int, latents: torch.Tensor, estimate: torch.Tensor) -> None:
            on_step(i, steps, in_space(latents), in_space(estimate))

        with self._in_use("transformer") as model:
            constants = self._constants(model, texts, (latent_frames, rows, columns, fps), context_scale != 0)
            job = forward.with_context(model, constants, source, context_scale)
            predict = _guided(model, job, asked, (guidance_scale, stg_scale, stg_rescale))
            return in_space(denoise(noise.to(self.device), schedule, predict, told if on_step else None))

    def decode(self, latents: torch.Tensor, refs: int = 0, **given: Any) -> torch.Tensor:
        """Video [3, T, H, W] in about [-1, 1], float32, on the CPU. given: as for `decode_chunks`."""
        return torch.cat(list(self.decode_chunks(latents, refs, **given)), dim=1)

    def decode_chunks(
        self,
        latents: torch.Tensor,
        refs: int = 0,
        *,
        seed: int | None = None,
        decode_timestep: float = 0.05,
        decode_noise_scale: float = 0.025,
        noise: torch.Tensor | None = None,
        inject: vae.Draws | None = None,
        noise_device: str | torch.device = "cpu",
    ) -> Iterator[torch.Tensor]:
        """The video without the first `refs` latent frames, in pieces [3, t, H, W]: one, the whole, for this VAE.

        The kind of 0.9.1 is told decode_timestep and given decode_noise_scale of noise: `noise` and `inject`, or what
        is drawn with `seed`. The kind of 0.9 needs none of this. Raises InputError when neither is given.
        """
        latents = trim_refs(latents.to(self.device), refs)
        with self._in_use("vae") as model:
            if vae.is_conditioned(model):
                if seed is None and (noise is None or inject is None):
                    raise InputError("decode: this VAE adds noise, and no seed was given; give one")
                drawn = generator(seed or 0, "decode", noise_device)
                if noise is None:
                    noise = torch.randn(latents.shape, generator=drawn, device=noise_device)
                latents = vae.mix_decode_noise(latents, noise, decode_noise_scale)
                inject = inject or vae.seeded(drawn)
            yield vae.decode(model, latents, decode_timestep, noise=inject or _no_draws).cpu()

    def _posterior(
        self,
        context: Context,
        seed: int | None,
        posterior: str,
        noise: PosteriorNoise | None,
        noise_device: str | torch.device,
    ) -> list[torch.Tensor | None]:
        """The draws for a context's latents: the given ones, those of the seed, or none for the mode."""
        moments = (context.unchanged, context.changed, *context.refs)
        if posterior == "mode":
            return [None] * len(moments)
        if noise is not None:
            return [noise.unchanged, noise.changed, *noise.refs]
        if seed is None:
            raise InputError("denoise: neither posterior noise nor a seed was given; give one, or posterior 'mode'")
        drawn = generator(seed, "posterior", noise_device)
        return [torch.randn(found.mean.shape, generator=drawn, device=noise_device) for found in moments]

    def _constants(
        self, model: torch.nn.Module, texts: list[torch.Tensor], grid: tuple[int, int, int, float], hinted: bool
    ) -> forward.Constants:
        """Those of the last video where texts, grid (latent frames, rows, columns, fps) and hints are the same."""
        key = ([id(states) for states in texts], grid, hinted)
        if self._last is None or self._last[0] != key:
            positions = ltx_context.positions(*grid)
            found = forward.constants(model, positions, [states.to(self.device) for states in texts], hinted)
            self._last = (key, found, texts)  # the texts are kept so that no other gets their id
        return self._last[1]


def _guided(model: Any, job: forward.Job, asked: Sequence[forward.Row], scales: tuple[float, float, float]) -> Predict:
    """A step's velocity: the answers to all rows, put together. scales: of guidance, of STG, and STG's rescaling."""

    def predict(latents: torch.Tensor, timestep: float) -> torch.Tensor:
        answers = list(forward.predict(model, latents, timestep, job, asked))
        perturbed = answers.pop() if asked[-1].skips else None
        negative = answers[0] if asked[-1].text else None
        return guide(negative, answers[-1], perturbed, *scales)

    return predict


def _no_draws(shape: tuple[int, int], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    raise RuntimeError("a VAE that takes no timestep asked for noise")


def check_prompt(prompt: str) -> None:
    """Raise InputError for a prompt of which this model's cleaning leaves nothing, such as one in Chinese."""
    if not clean_caption(prompt):
        raise InputError(
            f"--prompt '{prompt}': nothing of it is left for LTX, which reads English; write it in English, or add "
            "--use_prompt_extend"
        )


def check_settings(settings: Settings, parts: dict[str, Part]) -> None:
    """Raise InputError for layers that this checkpoint does not have."""
    layers, skipped = parts["transformer"].config["num_layers"], settings.options["stg_skip_layers"]
    beyond = [layer for layer in skipped if layer >= layers]
    if settings.options["stg_scale"] and beyond:
        named = ",".join(map(str, beyond))
        raise InputError(
            f"--stg_skip_layers {named}: this model has layers 0 to {layers - 1}; give others, or --stg_scale 0"
        )


def job_cost(
    checkpoint: Checkpoint, settings: Settings, width: int, height: int, frames: int, refs: int, dtype_bytes: int
) -> dict[str, int]:
    """What a job of these settings will cost; see `vace.models.ltx.cost.estimate`."""
    parts = {name: read_part(checkpoint, name) for name in COMPONENTS}
    sizes = {name: part_bytes(part, dtype_bytes) for name, part in parts.items()}
    chosen = {name: settings.options[name] for name in ("stg_scale", "stg_skip_layers", "stg_mode")}
    chosen["context_scale"] = settings.context_scale
    return estimate(
        parts["transformer"].config, parts["vae"].config, sizes, width, height, frames, refs, settings.steps,
        settings.guidance_scale, **chosen, dtype_bytes=dtype_bytes, offload=settings.offload_model,
    )  # fmt: skip


load_engine = functools.partial(engine.load_engine, LTXEngine)
