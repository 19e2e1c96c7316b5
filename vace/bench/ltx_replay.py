"""The plain peer of the LTX-VACE forward pass: diffusers' own block forward, a batch of all rows, nothing shared.

As the original does it: texts padded and masked by -10000, all context blocks before the main blocks with every hint
kept, everything recomputed at each call, and every row of the guidance batch from the first block to the last. Its
rotary tables and timestep embedding are diffusers' too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers.models.transformers.transformer_ltx import LTXVideoAttnProcessor, LTXVideoRotaryPosEmbed

TEXT_TOKENS = 128
MASKED = -10000.0


@torch.no_grad()
def predict(
    model: Any,
    latents_NC: torch.Tensor,
    timestep: float | torch.Tensor,
    context_NC: torch.Tensor | None,
    positions_3N: torch.Tensor,
    texts: Sequence[torch.Tensor],
    rows: Sequence[Any],
    context_scale: float = 1.0,
    text_tokens: int = TEXT_TOKENS,
) -> torch.Tensor:
    """Velocities [rows, N, 128] in float32, from the arguments of both `forward.prepare` and `forward.predict`.

    context_NC: None leaves the context branch out. rows: forward's `Row`s; skipped attention is computed and then
    exchanged, a skipped block is computed and then undone. text_tokens: the length that texts are padded to.
    """
    config, weight, count = model.config, model.proj_in.weight, len(rows)
    hidden = model.proj_in(latents_NC.to(weight).expand(count, -1, -1))
    rope = _rope(config)(hidden, video_coords=positions_3N[None].to(weight.device, torch.float32))
    times = torch.as_tensor(timestep, dtype=torch.float32, device=weight.device).reshape(1, -1).expand(count, -1)
    modulation, embedded = model.time_embed(
        (times * config["timestep_scale_multiplier"]).flatten(), batch_size=count, hidden_dtype=weight.dtype
    )
    shared = {
        "temb": modulation.view(count, -1, modulation.shape[-1]),
        "image_rotary_emb": rope,
        **_padded_texts(model, [texts[row.text] for row in rows], text_tokens),
    }
    with _skipped_attention(model, rows):
        hints = _hints(model, hidden, context_NC, rows, shared) if context_NC is not None else {}
        for layer, block in enumerate(model.transformer_blocks):
            hidden = _kept(hidden, block(hidden, **shared), layer, rows)
            if layer in hints:
                hidden = hidden + hints[layer] * context_scale
    shift, scale = (model.scale_shift_table + embedded.view(count, -1, 1, hidden.shape[-1])).unbind(2)
    return model.proj_out(model.norm_out(hidden) * (1 + scale) + shift).float()


def _hints(
    model: Any, hidden: torch.Tensor, context_NC: torch.Tensor, rows: Sequence[Any], shared: dict[str, Any]
) -> dict[int, torch.Tensor]:
    """Every context block's hint, by layer."""
    context = model.patchify_context_proj(context_NC.to(hidden).expand(len(rows), -1, -1))
    hints = {}
    for name, block in model.transformer_context_blocks.items():
        layer = int(name)
        if layer == 0:
            context = block.before_proj(context) + hidden
        context = _kept(context, block(context, **shared), layer, rows)
        hints[layer] = block.after_proj(context)
    return hints


def _rope(config: dict[str, Any]) -> LTXVideoRotaryPosEmbed:
    frames, height, width = config["rope_max_pos"]
    return LTXVideoRotaryPosEmbed(
        dim=config["num_attention_heads"] * config["attention_head_dim"],
        base_num_frames=frames,
        base_height=height,
        base_width=width,
        theta=config["rope_theta"],
    )


def _padded_texts(model: Any, texts: Sequence[torch.Tensor], tokens: int) -> dict[str, torch.Tensor]:
    """The rows' embedded texts [rows, tokens, D], and the bias [rows, 1, tokens] that hides the padding."""
    weight = model.proj_in.weight
    padded = torch.zeros(len(texts), tokens, texts[0].shape[-1]).to(weight)
    bias = torch.full((len(texts), 1, tokens), MASKED).to(weight)
    for row, states in enumerate(texts):
        padded[row, : len(states)] = states.to(weight)
        bias[row, :, : len(states)] = 0
    return {"encoder_hidden_states": model.caption_projection(padded), "encoder_attention_mask": bias}


def _rows_that_skip(rows: Sequence[Any], layer: int, strategy: str) -> list[int]:
    return [i for i, row in enumerate(rows) if layer in row.skips and row.strategy == strategy]


def _kept(before: torch.Tensor, after: torch.Tensor, layer: int, rows: Sequence[Any]) -> torch.Tensor:
    """The block's output, with its input put back in the rows that skip the block whole."""
    skipped = _rows_that_skip(rows, layer, "residual")
    if skipped:
        after[skipped] = before[skipped]
    return after


class _Skipping(LTXVideoAttnProcessor):
    """Self-attention whose result is exchanged for its input in some rows."""

    def __init__(self, rows: list[int]) -> None:
        super().__init__()
        self.rows = rows

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        attended = super().__call__(attn, hidden_states, *args, **kwargs)
        # The output projection acts on each token alone, so exchanging after it needs it of the input too.
        attended[self.rows] = attn.to_out[0](hidden_states[self.rows])
        return attended


@contextlib.contextmanager
def _skipped_attention(model: Any, rows: Sequence[Any]) -> Iterator[None]:
    changed = []
    contexts = {int(name): block for name, block in model.transformer_context_blocks.items()}
    for layer, block in enumerate(model.transformer_blocks):
        skipped = _rows_that_skip(rows, layer, "attention")
        for target in [block, *([contexts[layer]] if layer in contexts else [])] if skipped else []:
            changed.append((target.attn1, target.attn1.processor))
            target.attn1.set_processor(_Skipping(skipped))
    try:
        yield
    finally:
        for attention, processor in changed:
            attention.set_processor(processor)
