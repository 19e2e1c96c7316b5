"""What an LTX-VACE run will cost, by arithmetic on the sizes of the model and the video. Needs no torch.

Multiplications and additions count one each. The closed forms count the same operations as torch's FlopCounterMode on
the passes; norms, activations and rotary embedding are left out (under 1 %). Rows are `forward.Row`s or plain tuples
(text, skipped layers, strategy).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vace.conditioning import sizes
from vace.models.cost import FLOAT32, conv_flops, residual_flops

STRATEGIES = {"stg_a": "attention", "stg_r": "residual"}
TEXT_TOKENS = 128
FEED_FORWARD = 4  # its hidden width, in widths of the model
TIME_WAVES = 256
TAPS = 27  # of a 3x3x3 convolution
SOURCE_PLANES = 10  # float32 numbers a pixel: frames and both halves of three, the mask
VAE_COPIES, PATCH_COPIES = 5, 3  # of its widest stage and of the video in patches, as measured on a CPU at three widths
H100_RATE = 790e12  # operations a second of bfloat16 matrix products, as measured on one H100
Row = tuple[int, Iterable[int], str]


def estimate(
    transformer_config: Mapping[str, Any],
    vae_config: Mapping[str, Any],
    sizes_bytes: Mapping[str, int],
    width: int,
    height: int,
    frames: int,
    refs: int = 0,
    steps: int = 40,
    guidance_scale: float = 3.0,
    stg_scale: float = 1.0,
    stg_skip_layers: Iterable[int] = (19,),
    *,
    stg_mode: str = "stg_a",
    context_scale: float = 1.0,
    dtype_bytes: int = 2,
    offload: bool = False,
) -> dict[str, int]:
    """The cost of one video of `frames` frames of width x height, with `refs` reference images.

    sizes_bytes: weights of each component as they lie on the device. stg_mode: a key of STRATEGIES. context_scale: 0
    leaves the context blocks out. dtype_bytes: bytes of a number of the transformer and the VAE. offload: parts leave
    the device after use. Keys as for Wan: tokens, forwards (steps: one pass answers all rows), flops_forward, flops_vae
    (two encodings, one per reference, one decoding), flops (everything after the text encoder, texts taken at their
    longest), weight_bytes, peak_bytes. The last is rough: the weights and the largest of the transformer's working set,
    the VAE's when it encodes, with the whole sources in float32 (frames, mask, both halves), and when it decodes. What
    Python and its libraries take is not counted.
    """
    tokens = token_count(width, height, frames, refs)
    rows = guided_rows(guidance_scale, stg_scale, stg_skip_layers, STRATEGIES[stg_mode])
    with_context = context_scale != 0
    lengths = [TEXT_TOKENS] * (1 + max(text for text, _, _ in rows))
    one = transformer_flops(transformer_config, tokens, rows, lengths, with_context=with_context)
    once = prepare_flops(transformer_config, tokens, lengths, with_context=with_context)
    coding = 2 * encode_flops(vae_config, frames, height, width) + decode_flops(vae_config, frames, height, width)
    coding += refs * encode_flops(vae_config, 1, height, width)
    working = {
        "transformer": _transformer_working(transformer_config, tokens, len(rows), dtype_bytes),
        "vae": _vae_working(vae_config, frames, height, width, dtype_bytes),
    }
    total = sum(sizes_bytes.values())
    together = {name: (size if offload else total) + working.get(name, 0) for name, size in sizes_bytes.items()}
    return {
        "tokens": tokens,
        "forwards": steps,
        "flops_forward": one,
        "flops_vae": coding,
        "flops": once + steps * one + coding,
        "weight_bytes": total,
        "peak_bytes": max(together.values()),
    }


def floor_seconds(flops: float, rate: float = H100_RATE) -> float:
    """The time that so many operations take at least, at `rate` operations a second."""
    return flops / rate


def token_count(width: int, height: int, frames: int, refs: int = 0) -> int:
    """Tokens the transformer reads: one per latent, references included."""
    return sizes.token_count(width, height, frames, refs, sizes.LTX_STRIDE)


def guided_rows(
    guidance_scale: float, stg_scale: float, skip_layers: Iterable[int], strategy: str = "attention"
) -> list[Row]:
    """What a step asks the model, in the original's order: negative prompt, prompt, prompt with layers skipped.

    The negative prompt is asked above guidance 1 and is then text 0, the prompt text 1; the third above STG scale 0,
    where a layer is skipped at all.
    """
    skips = frozenset(skip_layers)
    negative = guidance_scale > 1
    rows: list[Row] = [(0, frozenset(), strategy)] if negative else []
    rows.append((int(negative), frozenset(), strategy))
    if stg_scale > 0 and skips:
        rows.append((int(negative), skips, strategy))
    return rows


def transformer_flops(
    config: Mapping[str, Any],
    tokens: int,
    rows: Sequence[Row],
    text_lengths: Sequence[int],
    *,
    share: bool = True,
    with_context: bool = True,
) -> int:
    """One step of `forward.predict`. text_lengths: tokens of each text. share, with_context: as given to the pass."""
    if not share:
        alone = (transformer_flops(config, tokens, [row], text_lengths, with_context=with_context) for row in rows)
        return sum(alone)
    width = _width(config)
    main = list(range(config["num_layers"]))
    context = list(config["context_layers"]) if with_context else []
    total = sum(_block_flops(width, tokens, rows, main, layer, text_lengths) for layer in main)
    for layer in context:
        hints = len(_states(rows, context, layer + 1))
        total += _block_flops(width, tokens, rows, context, layer, text_lengths) + hints * _linear(tokens, width, width)
    total += _linear(tokens, config["in_channels"], width) + _time_flops(width)
    return total + len(_states(rows, main, len(main))) * _linear(tokens, width, config["out_channels"])


def prepare_flops(
    config: Mapping[str, Any], tokens: int, text_lengths: Sequence[int], *, with_context: bool = True
) -> int:
    """`forward.prepare`, once per video: context embedding, captions, keys and values of the texts."""
    width, context = _width(config), config["context_layers"] if with_context else []
    blocks = config["num_layers"] + len(context)
    total = sum(_caption_flops(config, length) + blocks * _text_flops(config, length) for length in text_lengths)
    if context:
        total += _linear(tokens, config["in_context_channels"], width)
        total += _linear(tokens, width, width) if 0 in context else 0
    return total


def replay_flops(
    config: Mapping[str, Any],
    tokens: int,
    rows: Sequence[Row],
    text_tokens: int = TEXT_TOKENS,
    *,
    with_context: bool = True,
) -> int:
    """One step without any of our savings: every row from its first block, texts padded, nothing kept between steps."""
    plain = [(0, frozenset(), "attention")]
    one = transformer_flops(config, tokens, plain, [text_tokens], with_context=with_context)
    return len(rows) * (one + prepare_flops(config, tokens, [text_tokens], with_context=with_context))


def encode_flops(vae: Mapping[str, Any], frames: int, height: int, width: int) -> int:
    """Encoding one video, from the config of AutoencoderKLLTXVideo (0.9 and 0.9.1)."""
    patch, widths = vae["patch_size"], list(vae["block_out_channels"])
    time, rows, columns = frames, height // patch, width // patch
    total = conv_flops(vae["in_channels"] * patch**2, widths[0], TAPS, time * rows * columns)
    stages = zip(
        widths, [*widths[1:], widths[-1]], vae["layers_per_block"], vae["spatio_temporal_scaling"], strict=False
    )
    for before, after, layers, is_halved in stages:
        total += layers * residual_flops(before, before, time * rows * columns)
        if is_halved:
            time, rows, columns = ((size - 1) // 2 + 1 for size in (time, rows, columns))
            total += conv_flops(before, before, TAPS, time * rows * columns)
        if after != before:
            total += residual_flops(before, after, time * rows * columns)
    volume = time * rows * columns
    total += vae["layers_per_block"][-1] * residual_flops(widths[-1], widths[-1], volume)
    return total + conv_flops(widths[-1], vae["latent_channels"] + 1, TAPS, volume)  # one log-variance for all channels


def decode_flops(vae: Mapping[str, Any], frames: int, height: int, width: int) -> int:
    """Decoding one video. Where the decoder is told a timestep (0.9.1), its embedding is counted too."""
    has_time, patch = vae["timestep_conditioning"], vae["patch_size"]
    widths, layers, doubled, factors = (
        list(reversed(vae[key]))
        for key in (
            "decoder_block_out_channels",
            "decoder_layers_per_block",
            "decoder_spatio_temporal_scaling",
            "upsample_factor",
        )
    )
    scale = 2 ** sum(doubled)
    time, rows, columns = (frames - 1) // scale + 1, height // (patch * scale), width // (patch * scale)
    before, volume = widths[0], time * rows * columns
    total = conv_flops(vae["latent_channels"], before, TAPS, volume) + layers[0] * residual_flops(
        before, before, volume
    )
    total += _time_layers(4 * before) if has_time else 0
    for after, factor, count, is_doubled in zip(widths, factors, layers[1:], doubled, strict=True):
        before, after = before // factor, after // factor
        volume = time * rows * columns
        total += residual_flops(before, after, volume) if after != before else 0
        total += _time_layers(4 * before) if has_time else 0
        if is_doubled:
            total += conv_flops(after * factor, 8 * after, TAPS, volume)
            time, rows, columns = 2 * time - 1, 2 * rows, 2 * columns
        total += count * residual_flops(after, after, time * rows * columns)
        before = after
    total += _time_layers(2 * before) if has_time else 0
    return total + conv_flops(before, vae["out_channels"] * patch**2, TAPS, time * rows * columns)


def _block_flops(
    width: int, tokens: int, rows: Sequence[Row], layers: Sequence[int], layer: int, text_lengths: Sequence[int]
) -> int:
    """A block of the main or of the context layers: each part of it for as many states as are different there."""
    running = [row for row in rows if _done(row, layer) is not None]
    before = {row: _history(row, layers, layer) for row in map(_frozen, running)}
    attending = {history for row, history in before.items() if not _done(row, layer)[1]}
    after_self = {(history, _done(row, layer)[1]) for row, history in before.items()}
    after_cross = {(history, _done(row, layer)) for row, history in before.items()}
    square = _linear(tokens, width, width)
    total = len(attending) * (3 * square + 4 * tokens * tokens * width)
    total += len(after_self) * 2 * square  # self-attention's output, cross-attention's queries
    total += sum(4 * tokens * text_lengths[text] * width for _, (text, _) in after_cross)
    return total + len(after_cross) * (square + 2 * _linear(tokens, width, FEED_FORWARD * width))


def _states(rows: Sequence[Row], layers: Sequence[int], end: int) -> set[tuple]:
    """The different states among the rows after all of `layers` below `end`."""
    return {_history(row, layers, end) for row in rows}


def _history(row: Row, layers: Sequence[int], end: int) -> tuple:
    return tuple(_done(row, layer) for layer in layers if layer < end)


def _done(row: Row, layer: int) -> tuple[int, bool] | None:
    """What a block does to a row: (text, whether self-attention is skipped), or None where it is left out whole."""
    text, skips, strategy = row
    is_skipped = layer in skips
    return None if is_skipped and strategy == "residual" else (text, is_skipped)


def _frozen(row: Row) -> Row:
    text, skips, strategy = row
    return text, frozenset(skips), strategy


def _width(config: Mapping[str, Any]) -> int:
    return config["num_attention_heads"] * config["attention_head_dim"]


def _linear(tokens: int, before: int, after: int) -> int:
    return 2 * tokens * before * after


def _caption_flops(config: Mapping[str, Any], length: int) -> int:
    width = _width(config)
    return _linear(length, config["caption_channels"], width) + _linear(length, width, width)


def _text_flops(config: Mapping[str, Any], length: int) -> int:
    """Keys and values of a text in one block."""
    return 2 * _linear(length, config["cross_attention_dim"], _width(config))


def _time_flops(width: int) -> int:
    return _time_layers(width) + _linear(1, width, 6 * width)


def _time_layers(width: int) -> int:
    return _linear(1, TIME_WAVES, width) + _linear(1, width, width)


def _transformer_working(config: Mapping[str, Any], tokens: int, rows: int, per_number: int) -> int:
    """Streams, hint, one block's queries, keys, values and float32 rotation, and its feed-forward layer, per row."""
    width = _width(config)
    return rows * tokens * width * (4 * FLOAT32 + (8 + 2 * FEED_FORWARD) * per_number)


def _vae_working(vae: Mapping[str, Any], frames: int, height: int, width: int, per_number: int) -> int:
    """Encoding beside the sources, or decoding: residual blocks at full size, and the video in patches around them."""
    pixels, patch = frames * height * width, vae["patch_size"] ** 2
    widths = {
        "in_channels": vae["block_out_channels"][0],
        "out_channels": vae["decoder_block_out_channels"][0] // vae["upsample_factor"][0],
    }
    encoding, decoding = (
        (VAE_COPIES * width * pixels // patch + PATCH_COPIES * vae[channels] * pixels) * per_number
        for channels, width in widths.items()
    )
    return max(SOURCE_PLANES * pixels * FLOAT32 + encoding, decoding)
