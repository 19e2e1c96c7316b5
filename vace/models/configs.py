"""Sizes of a checkpoint's parts: as its json files state them, else as the names and shapes of its tensors show.

Everything here is arithmetic on names and shapes under the classes' spelling (see keymaps.py): no torch, no loading.
What shapes cannot tell (head count, text length, which layers carry context) comes from the json files, else for the
published models from a table by (width, depth), else the caller is asked for `--config`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from vace.errors import CheckpointError
from vace.weight_files import Shape

Shapes = Mapping[str, Shape]

# (width, layers) -> what the published checkpoints of that size do not show in their shapes.
PUBLISHED = {
    (1536, 30): {"num_attention_heads": 12, "vace_layers": list(range(0, 30, 2)), "text_len": 512},
    (5120, 40): {"num_attention_heads": 40, "vace_layers": list(range(0, 40, 5)), "text_len": 512},
}
# The original's spelling of a transformer setting -> the class's.
_ORIGINAL_NAMES = {
    "num_heads": "num_attention_heads",
    "in_dim": "in_channels",
    "out_dim": "out_channels",
    "vace_in_dim": "vace_in_channels",
}
_TRANSFORMER_SETTINGS = (
    "patch_size num_attention_heads attention_head_dim in_channels out_channels text_dim freq_dim ffn_dim num_layers "
    "cross_attn_norm qk_norm eps rope_max_seq_len vace_layers vace_in_channels"
).split()
_VAE_SETTINGS = (
    "base_dim decoder_base_dim z_dim dim_mult num_res_blocks attn_scales temperal_downsample dropout latents_mean "
    "latents_std is_residual in_channels out_channels patch_size scale_factor_temporal scale_factor_spatial"
).split()
_VAE_LATENT_CHANNELS = 16


def transformer_config(shapes: Shapes, stated: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Arguments of WanVACETransformer3DModel, plus `text_len`, the number of text tokens the model attends to.

    shapes: under the class's spelling. stated: the json settings, in the original's spelling or the class's.
    source: the file or folder to name in an error. Raises CheckpointError when something cannot be known.
    """
    config = _transformer_from_shapes(shapes, source)
    stated = _in_class_spelling(stated)
    config.update({key: stated[key] for key in _TRANSFORMER_SETTINGS if stated.get(key) is not None})
    width = config.pop("width")
    published = PUBLISHED.get((width, config["num_layers"]), {})
    for key in ("num_attention_heads", "vace_layers", "text_len"):
        value = config.get(key) or stated.get(key) or published.get(key)
        if value is None:
            raise CheckpointError(
                f"{source}: {key} cannot be told from the tensors (width {width}, {config['num_layers']} layers); "
                f"give --config FILE, a json with num_heads, vace_layers and text_len"
            )
        config[key] = value
    _check_settings(config, source)
    heads = config["num_attention_heads"]
    config.setdefault("attention_head_dim", width // heads)
    if width % heads or config["attention_head_dim"] % 2:
        raise CheckpointError(f"{source}: a width of {width} does not divide into {heads} heads of even size")
    _check_context_layers(config, shapes, source)
    return config


def vae_config(shapes: Shapes, stated: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Arguments of AutoencoderKLWan. Raises CheckpointError for a VAE of another family."""
    config = {**_vae_from_shapes(shapes, source), **{key: stated[key] for key in _VAE_SETTINGS if key in stated}}
    if config.get("is_residual") or config.get("patch_size"):
        raise CheckpointError(f"{source}: a Wan2.2 VAE; VACE needs the Wan2.1 VAE")
    for key in ("latents_mean", "latents_std"):
        if config.get(key) is None:
            config.pop(key, None)
        elif not _are_numbers(config[key], config["z_dim"], above=0 if key == "latents_std" else None):
            raise CheckpointError(f"{source}: its {key} is no list of {config['z_dim']} usable numbers")
    if config["z_dim"] != _VAE_LATENT_CHANNELS and "latents_mean" not in config:
        raise CheckpointError(
            f"{source}: {config['z_dim']} latent channels without latents_mean and latents_std; "
            "give them in vae/config.json"
        )
    return config


def _are_numbers(values: Any, count: int, above: float | None = None) -> bool:
    return (
        isinstance(values, (list, tuple))
        and len(values) == count
        and all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
        and (above is None or min(values) > above)
    )


def text_config(shapes: Shapes, stated: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Settings of UMT5Config for the text encoder. Raises CheckpointError for another kind of encoder."""
    attention = "encoder.block.0.layer.0.SelfAttention"
    try:
        vocabulary, width = _first(shapes, "shared.weight", "encoder.embed_tokens.weight")
        buckets, heads = shapes[f"{attention}.relative_attention_bias.weight"]
        inner = shapes[f"{attention}.q.weight"][0]
        hidden = shapes["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"][0]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{source}: not a UMT5 text encoder (no usable {error})") from error
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": inner // heads,
        "d_ff": hidden,
        "num_layers": count_blocks(shapes, "encoder.block"),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
        **stated,
    }


def count_blocks(shapes: Shapes, prefix: str) -> int:
    """How many numbered blocks `<prefix>.0`, `<prefix>.1` ... there are."""
    pattern = re.compile(rf"^{re.escape(prefix)}\.(\d+)\.")
    return 1 + max((int(match[1]) for key in shapes if (match := pattern.match(key))), default=-1)


def _first(shapes: Shapes, *keys: str) -> Shape:
    for key in keys:
        if key in shapes:
            return shapes[key]
    raise KeyError(keys[0])


def _transformer_from_shapes(shapes: Shapes, source: str) -> dict[str, Any]:
    try:
        width, channels, *patch = shapes["patch_embedding.weight"]
        context_channels = shapes["vace_patch_embedding.weight"][1]
        text = shapes["condition_embedder.text_embedder.linear_1.weight"]
        time = shapes["condition_embedder.time_embedder.linear_1.weight"]
        hidden = shapes["blocks.0.ffn.net.0.proj.weight"][0]
        out = shapes["proj_out.weight"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{source}: not a Wan VACE transformer (no usable {error})") from error
    return {
        "width": width,
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": out // math.prod(patch),
        "text_dim": text[1],
        "freq_dim": time[1],
        "ffn_dim": hidden,
        "num_layers": count_blocks(shapes, "blocks"),
        "cross_attn_norm": "blocks.0.norm2.weight" in shapes,
        "vace_in_channels": context_channels,
    }


def _in_class_spelling(stated: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {_ORIGINAL_NAMES.get(key, key): value for key, value in stated.items()}
    if isinstance(renamed.get("qk_norm"), bool):
        renamed["qk_norm"] = "rms_norm_across_heads" if renamed["qk_norm"] else None
    width, heads, depth = (renamed.get(key) for key in ("dim", "num_attention_heads", "num_layers"))
    if width and heads:
        renamed.setdefault("attention_head_dim", width // heads)
    if "vace_layers" in renamed and renamed["vace_layers"] is None and depth:
        renamed["vace_layers"] = list(range(0, depth, 2))  # what the original's class does when none are named
    return renamed


def _check_settings(config: Mapping[str, Any], source: str) -> None:
    """Kinds of value, since the class takes anything and fails much later."""
    whole = ("num_attention_heads", "num_layers", "ffn_dim", "freq_dim", "text_dim", "text_len", "in_channels")
    wrong = [key for key in whole if not isinstance(config[key], int) or config[key] < 1]
    if not isinstance(config.get("eps", 1e-6), float):
        wrong.append("eps")
    layers = config["vace_layers"]
    if not isinstance(layers, (list, tuple)) or not layers or not all(isinstance(layer, int) for layer in layers):
        wrong.append("vace_layers")
    patch = config.get("patch_size", (1, 2, 2))
    if not isinstance(patch, (list, tuple)) or len(patch) != 3 or not all(isinstance(n, int) and n > 0 for n in patch):
        wrong.append("patch_size")
    if wrong:
        values = ", ".join(f"{key} = {config[key]!r}" for key in wrong)
        raise CheckpointError(f"{source}: its settings make no sense: {values}")


def _check_context_layers(config: dict[str, Any], shapes: Shapes, source: str) -> None:
    layers, depth, blocks = config["vace_layers"], config["num_layers"], count_blocks(shapes, "vace_blocks")
    if list(layers) != sorted(set(layers)) or layers[0] != 0 or layers[-1] >= depth or len(layers) != blocks:
        raise CheckpointError(
            f"{source}: vace_layers {list(layers)} do not fit {blocks} context blocks on {depth} layers "
            "(rising, starting at layer 0, one per context block)"
        )


def _vae_from_shapes(shapes: Shapes, source: str) -> dict[str, Any]:
    try:
        base, in_channels = shapes["encoder.conv_in.weight"][:2]
        latent = shapes["post_quant_conv.weight"][0]
        out_channels, decoder_width = shapes["decoder.conv_out.weight"][:2]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{source}: not a Wan VAE (no usable {error})") from error
    stages: list[list[int]] = [[]]  # width of each residual block, stage by stage
    resamples: list[bool] = []  # after each stage but the last: is time halved too?
    for number in range(count_blocks(shapes, "encoder.down_blocks")):
        prefix = f"encoder.down_blocks.{number}."
        if f"{prefix}resample.1.weight" in shapes:
            resamples.append(f"{prefix}time_conv.weight" in shapes)
            stages.append([])
        elif f"{prefix}conv2.weight" in shapes:
            stages[-1].append(shapes[f"{prefix}conv2.weight"][0])
    if not all(stages) or base < 1 or any(width % base for stage in stages for width in stage):
        raise CheckpointError(f"{source}: not a Wan VAE (its encoder's stages do not follow the known plan)")
    multiples = [stage[-1] // base for stage in stages]
    return {
        "base_dim": base,
        "decoder_base_dim": decoder_width // multiples[0],
        "z_dim": latent,
        "dim_mult": multiples,
        "num_res_blocks": len(stages[0]),
        "temperal_downsample": resamples,
        "in_channels": in_channels,
        "out_channels": out_channels,
    }
