"""The first stage of `vace-tiny`: its VAE, diffusers' AutoencoderKLWan at small size, learns to keep toy worlds.

Single frames come first, then clips of 9 and of 17 frames: several times cheaper than clips from the start. The
convolutions begin blind to earlier frames (`still_start`), so that what frames taught serves clips from their first
step. A weak KL term and noise of the posterior's own size keep the latents centred and smooth, as a diffusion model
over them needs.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vace.media.files import replacing
from vace.training.data import clips, held_out_clips

if TYPE_CHECKING:
    import torch
    from torch import nn

CONFIG = {"base_dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1}
CONFIG |= {"temperal_downsample": [False, True, True]}
KL_WEIGHT = 5e-5  # of the mean over latent values, against means over pixels in [-1, 1]
FIRST_LOGVAR = -6.0  # of the posterior: noise that an untrained VAE learns through
SIDE = 64  # of most clips, and of evaluation
SIZES = ((64, 64), (64, 64), (64, 64), (48, 48), (96, 64), (64, 96), (96, 96))  # drawn from for each step
WARM_UP = 100  # steps until the rate is whole
JUDGED, SHOWN, MEASURED = 16, 6, 32  # clips: of evaluation, of a sheet, that the latents' statistics come from
LEAST_STD = 0.02  # of a latent channel: one that is never used would else be blown up


@dataclass(frozen=True)
class Span:
    """A part of the schedule, up to the step `until`: clips of `frames` frames, `batch` of them at 64x64 a step."""

    until: int
    frames: int
    batch: int
    rate: float


SCHEDULE = (Span(2000, 1, 8, 1.2e-3), Span(3000, 9, 2, 1.2e-3), Span(4800, 17, 1, 1.2e-3))


class VaeStage:
    """See vace.training.trainer.Stage. config: of AutoencoderKLWan. length: what the schedule is stretched by.

    decoder_only: the encoder stays as it is, so that latents which were kept stay true while pictures get better.
    """

    name, score = "vae", "clip_psnr"
    plain = ("conv_in", "conv_out")

    def __init__(
        self,
        schedule: tuple[Span, ...] = SCHEDULE,
        config: dict[str, Any] | None = None,
        *,
        seed: int = 0,
        length: float = 1.0,
        decoder_only: bool = False,
    ):
        self.schedule = tuple(replace(span, until=round(length * span.until)) for span in schedule)
        self.config, self.seed = {**CONFIG, **(config or {})}, seed
        self.decoder_only = decoder_only
        self.steps = self.schedule[-1].until

    def model(self, seed: int) -> nn.Module:
        import torch
        from diffusers import AutoencoderKLWan

        from vace.training.whole_clips import WholeClips, still_start

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            vae = AutoencoderKLWan(**self.config)
            still_start(vae)
        vae.quant_conv.bias.data[self.config["z_dim"] :] = FIRST_LOGVAR
        if self.decoder_only:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)
        return WholeClips(vae)

    def span(self, step: int) -> Span:
        return next(span for span in self.schedule if step < span.until)

    def rate(self, step: int) -> float:
        """Warm-up, then the root of what is left of the whole training."""
        return self.span(step).rate * min(1.0, (step + 1) / WARM_UP) * (1 - step / self.steps) ** 0.5

    def batch(self, step: int) -> np.ndarray:
        """Clips uint8 [B,T,H,W,3], of as many pixels at any size as near as can be."""
        span = self.span(step)
        width, height = SIZES[np.random.default_rng([self.seed, step, 1]).integers(len(SIZES))]
        if span.batch * SIDE * SIDE < width * height:
            width = height = SIDE
        count = max(1, round(span.batch * SIDE * SIDE / (width * height)))
        return clips(self.seed, step, count, span.frames, (width, height))

    def loss(self, model: nn.Module, batch: Any, noise: torch.Generator) -> tuple[torch.Tensor, dict[str, Any]]:
        import torch

        device = next(model.parameters()).device
        video = to_video(batch, device)
        count, _, frames, height, width = video.shape
        shape = count, self.config["z_dim"], 1 + (frames - 1) // 4, height // 8, width // 8
        result, mean, logvar = model(video, torch.randn(shape, generator=noise).to(device))
        error = result - video
        squared = error.square().mean()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = squared + error.abs().mean() + KL_WEIGHT * kl
        return loss, {"psnr": psnr(squared.detach()), "kl": kl.detach()}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """PSNR of held-out clips, of their middle frames alone, and of clips whose latents had noise added.

        noisy_psnr: after noise of 0.1 of each channel's deviation. std_least, std_most: of the channels.
        """
        import torch

        vae, clip_score, frame_score, noisy_score, every = model.vae, [], [], [], []
        noise = torch.Generator().manual_seed(0)
        for video in _videos(_judged(), model):
            latents = _encode(vae, video)
            spread = latents.std(dim=(0, 2, 3, 4), keepdim=True)
            shaken = latents + 0.1 * spread * torch.randn(latents.shape, generator=noise).to(latents)
            clip_score.append(_score(vae, latents, video))
            noisy_score.append(_score(vae, shaken, video))
            frame = video[:, :, 8:9]
            frame_score.append(_score(vae, _encode(vae, frame), frame))
            every.append(latents)
        spread = torch.cat(every).std(dim=(0, 2, 3, 4))
        return {
            "clip_psnr": float(np.mean(clip_score)),
            "clip_psnr_least": float(np.min(clip_score)),
            "frame_psnr": float(np.mean(frame_score)),
            "noisy_psnr": float(np.mean(noisy_score)),
            "std_least": float(spread.min()),
            "std_most": float(spread.max()),
        }

    def sheet(self, model: nn.Module) -> np.ndarray:
        """Held-out clips above what the VAE makes of them, five frames of each."""
        rows = []
        for video in _videos(_judged()[:SHOWN], model):
            made = _decode(model.vae, _encode(model.vae, video))
            for clip in (video, made):
                frames = to_frames(clip[0])[::4]
                rows.append(np.concatenate(list(frames), axis=1))
        half = len(rows) // 2
        return np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], axis=1)

    def write(self, model: nn.Module, folder: Path, facts: dict[str, Any]) -> None:
        """vae/ in the diffusers layout, float16, with the latents' statistics; facts.json beside it."""
        from safetensors.torch import save

        mean, std = latent_statistics(model)
        config = {"_class_name": "AutoencoderKLWan", **self.config, "latents_mean": mean, "latents_std": std}
        weights = {name: value.half().cpu().contiguous() for name, value in model.vae.state_dict().items()}
        (folder / "vae").mkdir(parents=True, exist_ok=True)
        with replacing(folder / "vae" / "diffusion_pytorch_model.safetensors") as temporary:
            temporary.write_bytes(save(weights, metadata={"format": "pt"}))  # save_file would let only its user read
        for name, value in (("vae/config.json", config), ("facts.json", facts)):
            with replacing(folder / name) as temporary:
                temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a written vae/ folder as `train` takes them."""
    from safetensors.torch import load_file

    weights = load_file(Path(folder) / "diffusion_pytorch_model.safetensors")
    return {f"vae.{name}": value.float() for name, value in weights.items()}


def latent_statistics(model: nn.Module) -> tuple[list[float], list[float]]:
    """Mean and deviation of each latent channel over training clips."""
    import torch

    batch = clips(1, 0, MEASURED, 17, (SIDE, SIDE))
    latents = torch.cat([_encode(model.vae, video) for video in _videos(batch, model)])
    std = latents.std(dim=(0, 2, 3, 4)).clamp(min=LEAST_STD)
    mean = latents.mean(dim=(0, 2, 3, 4))
    return [[round(float(value), 5) for value in values] for values in (mean, std)]


def to_video(frames: Any, device: Any) -> torch.Tensor:
    """uint8 [B,T,H,W,3] -> float32 [B,3,T,H,W] in [-1, 1]."""
    import torch

    return torch.as_tensor(frames).to(device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def to_frames(video_CTHW: torch.Tensor) -> np.ndarray:
    """float [3,T,H,W] in [-1, 1] -> uint8 [T,H,W,3]."""
    return ((video_CTHW.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).cpu().numpy()


def psnr(squared: Any) -> float:
    """Decibels of a mean squared error between values in [-1, 1]."""
    return 10 * float(np.log10(4 / max(float(squared), 1e-12)))


@functools.cache
def _judged() -> np.ndarray:
    return held_out_clips(JUDGED, size=(SIDE, SIDE))


def _videos(batch: np.ndarray, model: nn.Module) -> Iterator[torch.Tensor]:
    """One clip after another as [1,3,T,H,W] where the model is."""
    device = next(model.parameters()).device
    for clip in batch:
        yield to_video(clip[None], device)


def _encode(vae: nn.Module, video: torch.Tensor) -> torch.Tensor:
    import torch

    from vace.training import whole_clips

    with torch.no_grad():
        return whole_clips.encode(vae, video)[0]


def _decode(vae: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    import torch

    from vace.training import whole_clips

    with torch.no_grad():
        return whole_clips.decode(vae, latents).clamp(-1, 1)


def _score(vae: nn.Module, latents: torch.Tensor, video: torch.Tensor) -> float:
    return psnr((_decode(vae, latents) - video).square().mean())
