"""A picture of what a flow model makes of held-out rows, drawn by the engine's own sampler."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vace.models.denoise import denoise, draw_noise, guided
from vace.models.samplers import make_sampler
from vace.models.wan import transformer
from vace.models.wan.vae import decode_chunks
from vace.training import tiny
from vace.training.latents import load_vae
from vace.training.vae_stage import to_frames

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

    from vace.training.latents import LatentRows

SHOWN = ("txt2vid", "depth", "pose", "layout", "inpainting", "outpainting", "frameref", "reference", "swap", "scribble")
STEPS, TIMES = 12, (0, 8, 16)  # of the sampler; frames that are shown


def sheet(
    model: nn.Module, rows: LatentRows, tokenizer: Tokenizer, vae_folder: Path, *, with_context: bool
) -> np.ndarray:
    """uint8 [H,W,3]. A line for each task: [references,] inactive, reactive, truth, made, three frames of each."""
    vae = load_vae(vae_folder)
    model = copy.deepcopy(model).cpu()
    parts = {"transformer": model.transformer, "text": model.text}
    lines = []
    for task in SHOWN:
        numbers = rows.rows_of(task=task)
        if len(numbers):
            row = rows.batch(indices=numbers[:1])
            lines.append(_line(parts, vae, row, tokenizer, with_context))
    return _stacked(lines or [np.zeros((8, 8, 3), np.uint8)])


@torch.no_grad()
def _line(parts: dict[str, nn.Module], vae: nn.Module, row: dict, tokenizer: Tokenizer, with_context: bool):
    refs = row["refs"]
    target, halves, mask = (torch.from_numpy(row[name][0]).float() for name in ("target", "context", "mask"))
    context = torch.cat([halves, mask / 255])
    strips = [*(_frames(vae, halves[:16, i : i + 1]) for i in range(refs))] if with_context else []
    strips += [_frames(vae, halves[c : c + 16, refs:]) for c in (0, 16)] if with_context else []
    made = _made(parts, context if with_context else context[:, refs:], row["prompts"][0], tokenizer, with_context)
    strips += [_frames(vae, target[:, refs:]), _frames(vae, made[:, refs:] if with_context else made)]
    return np.concatenate(strips, axis=1)


def _made(
    parts: dict[str, nn.Module], context: torch.Tensor, prompt: str, tokenizer: Tokenizer, with_context: bool
) -> torch.Tensor:
    """Clean latents for one context and prompt, guided as vace.json has it."""
    model, defaults = parts["transformer"], tiny.DEFAULTS
    job = transformer.prepare(model, context, 1.0 if with_context else 0.0)
    branches = []
    for text in (prompt, ""):
        ids = torch.tensor([tokenizer.encode(text).ids[: tiny.TEXT_LEN]])
        states = parts["text"](input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        branches.append(transformer.embed_text(model, states, tiny.TEXT_LEN))
    predicts = [
        lambda latents, timestep, text=text: transformer.predict_velocity(model, latents, timestep, text, job)
        for text in branches
    ]
    noise = draw_noise((model.config.in_channels, *context.shape[1:]), 0)
    sampler = make_sampler("unipc", STEPS, defaults["shift"])
    return denoise(noise, sampler, guided(*predicts, defaults["guidance_scale"]))


def _frames(vae: nn.Module, latents: torch.Tensor) -> np.ndarray:
    """Three frames side by side of a clip's latents, one of a picture's: uint8 [H,W',3]."""
    video = torch.cat(list(decode_chunks(vae, latents)), dim=1)
    frames = to_frames(video)
    return np.concatenate([frames[t] for t in TIMES if t < len(frames)], axis=1)


def _stacked(lines: list[np.ndarray]) -> np.ndarray:
    width = max(line.shape[1] for line in lines)
    return np.concatenate([np.pad(line, ((0, 2), (0, width - line.shape[1]), (0, 0))) for line in lines])
