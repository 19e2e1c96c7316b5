"""The LTX-VACE transformer's forward pass: diffusers' blocks, each thing computed once.

Guidance asks the model about the same latents several times a step: with the negative prompt, with the prompt, and with
the prompt while some layers are skipped (spatio-temporal guidance). Such rows are one state until they begin to differ:
by the first cross-attention for two texts, by the first skipped block for two rows of one text. What no step changes
(context embedding, rotary table, each text's keys and values) is prepared once. A context block runs right before the
main block that takes its hint, so one hint is alive at a time.

Shape letters: N tokens of the video (references first), C channels, D model width, L real tokens of a text, H heads,
E head size, G groups of rows that are equal so far.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from vace.errors import InputError, nearest

if TYPE_CHECKING:
    from vace.models.ltx.transformer import LTXVACETransformer3DModel

STRATEGIES = ("attention", "residual")
Group = tuple[int, ...]  # numbers of the rows that share one state
KeyValue = tuple[torch.Tensor, torch.Tensor]  # [1, H, L, E] each


class Row(NamedTuple):
    """One question to the model: the number of its text in the job, and the layers it skips.

    strategy: what a skipped layer leaves out, in its main and its context block ("Spatiotemporal Skip Guidance",
    arXiv 2411.18664: STG-A and STG-R). 'attention': self-attention hands its input on, past queries, keys and values.
    'residual': the block hands its input on; a hint is still made and added. The original means to offer the latter,
    but its switch never takes effect, so that it computes the row as if nothing were skipped.
    """

    text: int
    skips: frozenset[int] = frozenset()
    strategy: str = "attention"


@dataclass(frozen=True)
class Constants:
    """What texts and places of tokens alone decide: the same for every seed.

    rope_ND: cosine + i sine for each pair of channels [N, D/2]. main_texts, context_texts: by layer, the keys and
    values of every text; context_texts is empty when no hint is wanted.
    """

    rope_ND: torch.Tensor
    main_texts: dict[int, tuple[KeyValue, ...]]
    context_texts: dict[int, tuple[KeyValue, ...]]


@dataclass(frozen=True)
class Job:
    """What stays the same over the steps of one video: the constants, and the context.

    context_1ND: the embedded context, through `before_proj` where context block 0 is there; None when no hint is
    wanted.
    """

    constants: Constants
    context_1ND: torch.Tensor | None
    context_scale: float


class _Stream(NamedTuple):
    """States x_GND, state g being that of the rows groups[g]."""

    x_GND: torch.Tensor
    groups: tuple[Group, ...]


@torch.no_grad()
def constants(
    model: LTXVACETransformer3DModel,
    positions_3N: torch.Tensor,
    texts: Sequence[torch.Tensor],
    with_context: bool = True,
) -> Constants:
    """Rotary table, captions, keys and values.

    positions_3N: seconds, pixels down and pixels across of every token. texts: the text encoder's states
    [L, caption_channels] of each different text, real tokens only: what is left out as padding would be masked out.
    Raises InputError for a text without tokens.
    """
    weight = model.proj_in.weight
    for number, states in enumerate(texts):
        if not len(states):
            raise InputError(f"text {number} has no tokens; even an empty prompt has its end token")
    captions = [model.caption_projection(states.unsqueeze(0).to(weight)) for states in texts]
    hinting = model.transformer_context_blocks.items() if with_context else ()
    return Constants(
        rope_ND=rope_table(model.config, positions_3N.to(weight.device)),
        main_texts={layer: _keys_and_values(block, captions) for layer, block in enumerate(model.transformer_blocks)},
        context_texts={int(layer): _keys_and_values(block, captions) for layer, block in hinting},
    )


@torch.no_grad()
def with_context(
    model: LTXVACETransformer3DModel, found: Constants, context_NC: torch.Tensor, context_scale: float = 1.0
) -> Job:
    """The constants of a video led by context_NC [N, 384]: 256 channels of source latents, then 128 of the mask.

    context_scale: strength of all hints; at 0 no context block is run.
    """
    if context_scale == 0 or not found.context_texts:
        return Job(found, None, 0.0)
    context = model.patchify_context_proj(context_NC.unsqueeze(0).to(model.proj_in.weight))
    if 0 in found.context_texts:
        context = model.transformer_context_blocks["0"].before_proj(context)
    return Job(found, context, float(context_scale))


def prepare(
    model: LTXVACETransformer3DModel,
    context_NC: torch.Tensor,
    positions_3N: torch.Tensor,
    texts: Sequence[torch.Tensor],
    context_scale: float = 1.0,
) -> Job:
    """`constants` and `with_context` in one, for a single video."""
    return with_context(model, constants(model, positions_3N, texts, context_scale != 0), context_NC, context_scale)


@torch.no_grad()
def predict(
    model: LTXVACETransformer3DModel,
    latents_NC: torch.Tensor,
    timestep: float | torch.Tensor,
    job: Job,
    rows: Sequence[Row],
    *,
    share: bool = True,
) -> torch.Tensor:
    """The model's velocity for noisy latents [N, 128], one per row: [rows, N, 128] in float32, in the rows' order.

    timestep: 0 to 1, one for all tokens or [N]. share: rows are computed once as far as they are equal; False computes
    each alone from the start, which gives the same up to rounding. Raises InputError for a layer the model does not
    have and for an unknown strategy.
    """
    _check(rows, len(model.transformer_blocks))
    if not share:
        return torch.cat([predict(model, latents_NC, timestep, job, [row]) for row in rows])
    modulation, time = _embed_time(model, timestep)
    given, hinting = job.constants, job.constants.context_texts if job.context_1ND is not None else {}
    main = _Stream(model.proj_in(latents_NC.unsqueeze(0).to(model.proj_in.weight)), (tuple(range(len(rows))),))
    context = main._replace(x_GND=job.context_1ND)
    for layer, block in enumerate(model.transformer_blocks):
        hint = None
        if layer in hinting:
            context_block = model.transformer_context_blocks[str(layer)]
            if layer == 0:
                context = context._replace(x_GND=context.x_GND + main.x_GND)
            context = _run_block(context_block, layer, context, rows, hinting[layer], modulation, given.rope_ND)
            hint = context._replace(x_GND=context_block.after_proj(context.x_GND) * job.context_scale)
        main = _run_block(block, layer, main, rows, given.main_texts[layer], modulation, given.rope_ND)
        if hint is not None:
            main = main._replace(x_GND=main.x_GND + _of_rows(hint, [group[0] for group in main.groups]))
    velocity = _Stream(_to_latents(model, main.x_GND, time), main.groups)
    return _of_rows(velocity, range(len(rows))).float().contiguous()


def rope_table(config: dict[str, Any], positions_3N: torch.Tensor) -> torch.Tensor:
    """Rotations of the channel pairs of queries and keys, complex64 [N, D/2], on the positions' device.

    LTX-Video (arXiv 2501.00103): positions as fractions of rope_max_pos, frequencies rising
    exponentially from pi/2 to theta pi/2; per frequency the axes time, height and width. The rotation is over the full
    width before it is split into heads; the first D % 6 channels are left over and not rotated.
    """
    width = config["num_attention_heads"] * config["attention_head_dim"]
    positions = positions_3N.float()
    limits = torch.tensor(config["rope_max_pos"], dtype=torch.float32, device=positions.device)
    exponents = torch.linspace(0.0, 1.0, width // 6, dtype=torch.float32, device=positions.device)
    frequencies = config["rope_theta"] ** exponents * torch.pi / 2.0
    centred = positions.T / limits * 2 - 1
    angles = (frequencies[None, :, None] * centred[:, None, :]).flatten(1)
    angles = functional.pad(angles, (width % 6 // 2, 0))
    return torch.complex(angles.cos(), angles.sin())


def _check(rows: Sequence[Row], layers: int) -> None:
    for row in rows:
        unknown = sorted(layer for layer in row.skips if not 0 <= layer < layers)
        if unknown:
            listed = ", ".join(map(str, unknown))
            raise InputError(f"skipped layers {listed}: the model has layers 0 to {layers - 1}; give some of these")
        if row.strategy not in STRATEGIES:
            raise InputError(f"skip strategy {row.strategy}: unknown; {nearest(row.strategy, STRATEGIES)}")


def _keys_and_values(block: Any, captions: Sequence[torch.Tensor]) -> tuple[KeyValue, ...]:
    attn = block.attn2
    return tuple(
        (_heads(attn.norm_k(attn.to_k(caption)), attn.heads), _heads(attn.to_v(caption), attn.heads))
        for caption in captions
    )


def _embed_time(model: LTXVACETransformer3DModel, timestep: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Modulations before each block's own table [1 or N, 6, D], and the time embedding [1 or N, 1, D]."""
    weight = model.time_embed.linear.weight
    if isinstance(timestep, torch.Tensor):
        times = timestep.reshape(-1).to(weight.device, torch.float32)
    else:
        times = torch.full((1,), timestep, dtype=torch.float32, device=weight.device)
    times = times * model.config["timestep_scale_multiplier"]
    modulation, embedded = model.time_embed(times, hidden_dtype=weight.dtype)
    return modulation.unflatten(1, (6, -1)), embedded.unsqueeze(1)


def _run_block(
    block: Any,
    layer: int,
    stream: _Stream,
    rows: Sequence[Row],
    texts: tuple[KeyValue, ...],
    modulation: torch.Tensor,
    rope_ND: torch.Tensor,
) -> _Stream:
    """A block, for the rows that do not leave it out; its groups split where their rows go different ways."""
    parts = _split(stream.groups, lambda row: layer in rows[row].skips and rows[row].strategy == "residual")
    resting = [part for part in parts if part.key]
    running = [part for part in parts if not part.key]
    if not running:
        return stream
    resting_GND = _take(stream.x_GND, [part.parent for part in resting]) if resting else None
    stream = _Stream(_take(stream.x_GND, [part.parent for part in running]), tuple(part.rows for part in running))

    values = (block.scale_shift_table + modulation).to(stream.x_GND.dtype)
    shift_attention, scale_attention, gate_attention, shift_ff, scale_ff, gate_ff = values.unbind(1)
    normed_GND = _modulated(block.norm1, stream.x_GND, scale_attention, shift_attention)
    stream = _self_attention(
        block.attn1, stream, normed_GND, gate_attention, rope_ND, lambda row: layer in rows[row].skips
    )
    stream = _cross_attention(block.attn2, stream, texts, lambda row: rows[row].text)
    out_GND = block.ff(_modulated(block.norm2, stream.x_GND, scale_ff, shift_ff))
    stream = stream._replace(x_GND=torch.addcmul(stream.x_GND, out_GND, gate_ff))
    if resting_GND is None:
        return stream
    return _Stream(torch.cat([stream.x_GND, resting_GND]), stream.groups + tuple(part.rows for part in resting))


def _self_attention(
    attn: Any,
    stream: _Stream,
    normed_GND: torch.Tensor,
    gate: torch.Tensor,
    rope_ND: torch.Tensor,
    is_skipped: Callable[[int], bool],
) -> _Stream:
    """Adds self-attention; the input stands in for its result in the rows that skip it."""
    parts = _split(stream.groups, is_skipped)
    attending = [part.parent for part in parts if not part.key]
    skipping = [part.parent for part in parts if part.key]
    results = []
    if attending:
        x_GND = _take(normed_GND, attending)
        query = _heads(_rotated(attn.norm_q(attn.to_q(x_GND)), rope_ND), attn.heads)
        key = _heads(_rotated(attn.norm_k(attn.to_k(x_GND)), rope_ND), attn.heads)
        results.append(_attend(query, key, _heads(attn.to_v(x_GND), attn.heads)))
    if skipping:
        results.append(_take(normed_GND, skipping))
    result_GND = attn.to_out[0](torch.cat(results) if len(results) > 1 else results[0])
    x_GND = _take(stream.x_GND, [part.parent for part in parts])
    return _Stream(torch.addcmul(x_GND, result_GND, gate), tuple(part.rows for part in parts))


def _cross_attention(attn: Any, stream: _Stream, texts: tuple[KeyValue, ...], text_of: Callable[[int], int]) -> _Stream:
    """Adds attention to each row's own text. Its input is not normed, and there is no gate."""
    query_GND = attn.norm_q(attn.to_q(stream.x_GND))
    parts = _split(stream.groups, text_of)
    results = []
    for text, same in itertools.groupby(parts, key=lambda part: part.key):
        asked_GND = _take(query_GND, [part.parent for part in same])
        # Text has no positions, so the tokens of all states that read it can stand in one row.
        query = _heads(asked_GND.reshape(1, -1, asked_GND.shape[-1]), attn.heads)
        results.append(_attend(query, *texts[text]).view(asked_GND.shape))
    result_GND = attn.to_out[0](torch.cat(results) if len(results) > 1 else results[0])
    x_GND = _take(stream.x_GND, [part.parent for part in parts])
    return _Stream(x_GND + result_GND, tuple(part.rows for part in parts))


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """[B, H, N, E] queries on [B, H, M, E] keys and values -> [B, N, H E]."""
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _heads(x_BND: torch.Tensor, heads: int) -> torch.Tensor:
    return x_BND.unflatten(2, (heads, -1)).transpose(1, 2)


def _rotated(x_BND: torch.Tensor, rope_ND: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x_BND.float().unflatten(2, (-1, 2)))
    return torch.view_as_real(pairs * rope_ND).flatten(2).to(x_BND.dtype)


def _modulated(norm: Any, x_GND: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    normed = functional.rms_norm(x_GND, x_GND.shape[-1:], norm.weight, norm.eps)
    return torch.addcmul(shift, normed, 1 + scale)


def _to_latents(model: LTXVACETransformer3DModel, x_GND: torch.Tensor, time_N1D: torch.Tensor) -> torch.Tensor:
    shift, scale = (model.scale_shift_table + time_N1D).to(x_GND.dtype).unbind(1)
    return model.proj_out(torch.addcmul(shift, model.norm_out(x_GND), 1 + scale))


class _Part(NamedTuple):
    """A piece of a group: the group's place, the piece's rows, and the key they have in common."""

    parent: int
    rows: Group
    key: int


def _split(groups: Sequence[Group], key_of: Callable[[int], int]) -> list[_Part]:
    """The groups cut into pieces of equal key, pieces of lower keys first."""
    parts = []
    for parent, members in enumerate(groups):
        by_key: dict[int, list[int]] = {}
        for row in members:
            by_key.setdefault(key_of(row), []).append(row)
        parts += [_Part(parent, tuple(same), key) for key, same in by_key.items()]
    return sorted(parts, key=lambda part: part.key)


def _of_rows(stream: _Stream, rows: Sequence[int]) -> torch.Tensor:
    """The states of the given rows, in their order."""
    place = {row: g for g, members in enumerate(stream.groups) for row in members}
    return _take(stream.x_GND, [place[row] for row in rows])


def _take(x_GND: torch.Tensor, places: Sequence[int]) -> torch.Tensor:
    """x_GND[places] without an index tensor, which a GPU would have to wait for; a view where one will do."""
    first, count = places[0], len(places)
    if list(places) == list(range(first, first + count)):
        return x_GND[first : first + count]
    if set(places) == {first}:
        return x_GND[first : first + 1].expand(count, -1, -1)
    return torch.cat([x_GND[place : place + 1] for place in places])
