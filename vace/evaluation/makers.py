"""What makes an output of a row: the model, and the baselines it is measured against.

model         the checkpoint, led by all that the row gives
no_context    the same prompt and noise, nothing else given
untrained     the toy model's classes at their sizes with random weights; left out for real checkpoints
input         what the model was given, shown as it is: footage, condition or reference
truth         the clip to be made, after the VAE's round trip: the most that any model of these latents can reach
guidance G, context S     the model with another scale, for the sweeps
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vace.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from vace.job import Job
    from vace.models.checkpoints import Checkpoint
    from vace.training.rows import Row

MODEL, NO_CONTEXT, UNTRAINED, INPUT, TRUTH = "model", "no_context", "untrained", "input", "truth"


class Maker:
    """One engine, loaded once, and the job's own settings. Outputs are uint8 [T,H,W,3]; noise: the seed drawn from."""

    def __init__(self, job: Job, device: torch.device) -> None:
        from vace.warm import load_engine

        self.job, self.settings = job, job.settings
        self.engine = load_engine(job, device)
        negative = self.settings.negative_prompt
        self._negative = job.base.negative if negative is None else negative

    def led(self, row: Row, noise: int, **scales: Any) -> np.ndarray:
        """By all that the row gives. scales: settings other than the job's, such as context_scale or step_cache."""
        context = self.engine.encode_context(row.frames, row.mask, row.refs)
        return self._sampled(row, context, len(row.refs), noise, scales)

    def unled(self, row: Row, noise: int) -> np.ndarray:
        """By the prompt alone."""
        from vace.conditioning.context import empty_source

        count, height, width = row.frames.shape[1:]
        context = self.engine.encode_context(*empty_source(count, width, height))
        return self._sampled(row, context, 0, noise, {})

    def round_trip(self, row: Row, noise: int = 0) -> np.ndarray:
        """The row's target through the VAE: what a context that keeps all of it holds in its first channels."""
        import torch

        from vace.conditioning.context import CELL
        from vace.conditioning.pixels import to_model_space

        video = to_model_space(row.target)
        context = self.engine.encode_context(video, torch.zeros_like(video[:1]))
        latent_channels = (len(context) - CELL * CELL) // 2  # beside as many of the reactive half, and the mask
        return self._decoded(context[:latent_channels])

    def _sampled(self, row: Row, context: torch.Tensor, refs: int, noise: int, scales: dict) -> np.ndarray:
        options = self.settings.options
        changed = {name: value for name, value in scales.items() if name in options}
        rest = {name: value for name, value in scales.items() if name not in options}
        settings = replace(self.settings, options={**options, **changed}, **rest)
        is_guided = self.job.base.is_guided(settings.guidance_scale)
        cond, uncond = self.engine.encode_prompts(row.prompt, self._negative if is_guided else None)
        sampling = self.engine.sampling(settings, settings.fps, 0)
        latents = self.engine.denoise(context, cond, uncond, seed=noise, **sampling)
        return self._decoded(latents, refs)

    def _decoded(self, latents: torch.Tensor, refs: int = 0) -> np.ndarray:
        from vace.conditioning.pixels import to_pixels

        if not bool(latents.isfinite().all()):
            raise CheckpointError(
                f"{self.job.checkpoint.path}: the model gave numbers that are not finite; try --dtype float32, or get "
                "the weights again"
            )
        return to_pixels(self.engine.decode(latents, refs))


def as_given(row: Row, noise: int = 0) -> np.ndarray:
    """What the model was given, as if it were the output; of a row of references alone the first of them."""
    from vace.conditioning.pixels import to_pixels

    if row.refs and not bool(row.frames.any()):
        return np.repeat(to_pixels(row.refs[0]), row.frames.shape[1], axis=0)
    return to_pixels(row.frames)


@contextlib.contextmanager
def untrained_twin(checkpoint: Checkpoint, seed: int = 0) -> Iterator[Path]:
    """A folder, gone afterwards, with the checkpoint's classes at their sizes and weights as training finds them.

    checkpoint: in the diffusers layout, as the toy model is. The weights are the classes' own random start.
    """
    import torch
    from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    with tempfile.TemporaryDirectory(prefix="vace-untrained-") as place, torch.random.fork_rng(devices=[]):
        folder = Path(place)
        torch.manual_seed(seed)
        for name, kind in (("transformer", WanVACETransformer3DModel), ("vae", AutoencoderKLWan)):
            config = kind.load_config(checkpoint.path / name)
            kind.from_config(config).save_pretrained(folder / name)
        config = UMT5Config.from_pretrained(checkpoint.path / "text_encoder")
        UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
        shutil.copytree(checkpoint.tokenizer, folder / "tokenizer")
        shutil.copy(checkpoint.path / "vace.json", folder)
        yield folder
