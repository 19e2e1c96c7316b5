"""Write the embedded model assets/models/vace-tiny-ltx: VACE-LTX-Video-0.9 at toy size, drawn from one seed.

    python scripts/make_tiny_ltx.py [--out DIR] [--seed N]

It has the original's layout: one safetensors file with transformer and VAE under the original's names, their settings
in its metadata, and a text encoder and a tokenizer beside it. Its weights are random, scaled so that activations stay
near unit size and the result is a moving texture: it shows that every step works, and nothing else. Running it again
gives the same bytes.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
from make_tiny import TEXT_ENCODER, build_tokenizer, command, draw, write_json, write_part

SEED = 2025
OUT = Path(__file__).resolve().parent.parent / "assets" / "models" / "vace-tiny-ltx"
WEIGHTS = "ltx-video-tiny-v0.9.safetensors"

DEFAULTS = {
    "name": "vace-tiny-ltx",
    "toy": True,
    "trained": False,
    "text_len": 128,
    "size": "128x96",
    "frames": 17,
    "steps": 6,
    "guidance_scale": 3.0,
    "stg_scale": 1.0,
    "stg_rescale": 0.7,
    "stg_skip_layers": [4],
    "negative_prompt": "",
}
# The settings as the published file states them, at toy size. A gap in the list of context layers, as they may have.
TRANSFORMER = {
    "_class_name": "Transformer3DModel",
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "in_channels": 128,
    "out_channels": 128,
    "num_layers": 6,
    "dropout": 0.0,
    "norm_num_groups": 32,
    "cross_attention_dim": 64,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "standardization_norm": "rms_norm",
    "adaptive_norm": "single_scale_shift",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "attention_type": "default",
    "caption_channels": TEXT_ENCODER["d_model"],
    "project_to_2d_pos": True,
    "qk_norm": "rms_norm",
    "positional_embedding_type": "rope",
    "positional_embedding_theta": 10000.0,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "timestep_scale_multiplier": 1000,
    "context_num_layers": [0, 2, 4],
    "context_proj_init_method": "zero",
    "in_context_channels": 384,
}
VAE = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "scaling_factor": 1.0,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "use_quant_conv": False,
    "causal_decoder": False,
    "blocks": [
        ["res_x", 1],
        ["compress_all", 1],
        ["res_x_y", 1],
        ["res_x", 1],
        ["compress_all", 1],
        ["res_x_y", 1],
        ["res_x", 1],
        ["compress_all", 1],
        ["res_x", 1],
        ["res_x", 1],
    ],
}
SCHEDULER = {
    "_class_name": "RectifiedFlowScheduler",
    "num_train_timesteps": 1000,
    "shifting": "SD3",
    "base_resolution": None,
    "target_shift_terminal": 0.1,
}
WIDTHS = {"encoder": 4, "decoder": 6}  # of the VAE where it is finest
# Convolutions of the decoder that enlarge, and over how many places of the picture they spread each channel.
PLACES = ((r"decoder\.conv_out\.", 16), (r"decoder\.up_blocks\.\d\.conv\.", 8))
FINE = r"decoder\.(up_blocks\.[6-9]|conv_out)\."  # those whose kernels are blurred
ALIKE, BLURRED = 0.98, 0.5  # how like the places of a channel are, and a kernel's values; 0: pure noise, 1: equal
# Scales of the draw on top of make_tiny's, by a part of the tensor's name; the first that fits counts.
SCALES = (
    ("adaln_single.linear.", 0.3),
    ("after_proj.", 0.5),
    ("decoder.conv_out.", 0.35),
)


def transformer_shapes() -> dict[str, tuple[int, ...]]:
    """Tensors of the transformer under their names in the file."""
    from accelerate import init_empty_weights

    from vace.models.ltx.keymaps import file_names
    from vace.models.ltx.transformer import LTXVACETransformer3DModel

    same = ("num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "num_layers")
    same += ("cross_attention_dim", "caption_channels", "norm_eps", "norm_elementwise_affine", "activation_fn")
    same += ("attention_bias", "timestep_scale_multiplier", "in_context_channels")
    config = {key: TRANSFORMER[key] for key in same}
    config |= {"qk_norm": "rms_norm_across_heads", "rope_theta": TRANSFORMER["positional_embedding_theta"]}
    config |= {"rope_max_pos": TRANSFORMER["positional_embedding_max_pos"]}
    config |= {"context_layers": TRANSFORMER["context_num_layers"]}
    with init_empty_weights():
        shapes = {key: tuple(tensor.shape) for key, tensor in LTXVACETransformer3DModel(config).state_dict().items()}
    return {new: shapes[old] for old, new in file_names("transformer", shapes).items()}


def vae_shapes() -> dict[str, tuple[int, ...]]:
    """Tensors of the VAE under their names in the file: its blocks one after another, the decoder's in reverse."""
    blocks, latents, pixels = VAE["blocks"], VAE["latent_channels"], VAE["in_channels"] * VAE["patch_size"] ** 2
    widening = 2 ** sum(kind == "res_x_y" for kind, _ in blocks)
    shapes = {f"per_channel_statistics.{name}-of-means": (latents,) for name in ("mean", "std")}
    for half, first, last, ordered in (
        ("encoder", pixels, latents + 1, blocks),
        ("decoder", latents, pixels, blocks[::-1]),
    ):
        width = WIDTHS[half] * (1 if half == "encoder" else widening)
        shapes |= _conv(f"{half}.conv_in.conv", first, width)
        for number, (kind, count) in enumerate(ordered):
            place = f"{half}.{'down' if half == 'encoder' else 'up'}_blocks.{number}"
            more, width = _block(place, kind, count, width, half == "encoder")
            shapes |= more
        shapes |= _conv(f"{half}.conv_out.conv", width, last)
    return {f"vae.{name}": shape for name, shape in shapes.items()}


def _block(place: str, kind: str, count: int, width: int, down: bool) -> tuple[dict[str, tuple[int, ...]], int]:
    """Tensors of one block, and the width behind it."""
    if kind == "compress_all":  # the decoder spreads eight times the channels over 2x2x2 places
        return _conv(f"{place}.conv" if down else f"{place}.conv.conv", width, width if down else 8 * width), width
    if kind == "res_x":
        names = [f"{place}.res_blocks.{index}.conv{part}.conv" for index in range(count) for part in (1, 2)]
        return {key: shape for name in names for key, shape in _conv(name, width, width).items()}, width
    new = width * 2 if down else width // 2
    shapes = _conv(f"{place}.conv1.conv", width, new) | _conv(f"{place}.conv2.conv", new, new)
    shapes |= _conv(f"{place}.conv_shortcut", width, new, 1)
    return shapes | {f"{place}.norm3.norm.{name}": (width,) for name in ("weight", "bias")}, new


def _conv(name: str, given: int, made: int, kernel: int = 3) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (made, given, kernel, kernel, kernel), f"{name}.bias": (made,)}


def write_weights(path: Path, rng: np.random.Generator) -> None:
    """The single file, float16: transformer and VAE, and their settings in its metadata."""
    from safetensors.numpy import save_file

    tensors = draw(transformer_shapes() | vae_shapes(), rng)
    for name, tensor in tensors.items():
        scale = next((scale for part, scale in SCALES if part in name), 1.0)
        tensors[name] = (_smoothed(name, tensor.astype(np.float64)) * scale).astype(np.float16)
    tensors["vae.per_channel_statistics.mean-of-means"][:] = 0
    tensors["vae.per_channel_statistics.std-of-means"][:] = 1
    config = {"transformer": TRANSFORMER, "vae": VAE, "scheduler": SCHEDULER}
    # One entry and no more: safetensors writes several in another order each time.
    save_file(tensors, path, metadata={"config": json.dumps(config)})


def _smoothed(name: str, tensor: np.ndarray) -> np.ndarray:
    """A kernel of the decoder, changed so that the picture is neither grain nor one colour; any other tensor as it is.

    The size of the values stays. Without the first two steps neighbouring pixels would have nothing in common; without
    the last, what a layer's inputs share, their mean, would be all that is left after a few layers.
    """
    if ".decoder." not in name or tensor.ndim != 5 or tensor.shape[2] == 1:
        return tensor
    if re.search(FINE, name):
        blur = tensor.sum(axis=(2, 3, 4), keepdims=True) / math.sqrt(math.prod(tensor.shape[2:]))
        tensor = _mixed(blur, tensor, BLURRED)
    places = next((places for pattern, places in PLACES if re.search(pattern, name)), 1)
    channels = tensor.reshape(-1, places, *tensor.shape[1:])
    if places > 1:
        tensor = _mixed(channels[:, :1], channels, ALIKE).reshape(tensor.shape)
    return tensor - tensor.mean(axis=1, keepdims=True)


def _mixed(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Two draws of one size mixed so that the size stays."""
    return share * one + math.sqrt(1 - share**2) * other


def make(out: Path, seed: int) -> None:
    """Writes the whole checkpoint, in the original's layout, into the folder `out`."""
    from accelerate import init_empty_weights
    from transformers import T5Config, T5EncoderModel

    out.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    text_encoder = {**TEXT_ENCODER, "vocab_size": tokenizer.get_vocab_size()}
    with init_empty_weights():
        encoder = T5EncoderModel(T5Config(**text_encoder))
    rng = np.random.default_rng(seed)
    write_weights(out / WEIGHTS, rng)
    encoder_config = {"architectures": ["T5EncoderModel"], "model_type": "t5", **text_encoder}
    write_part(out, "text_encoder", encoder_config, encoder, rng)
    (out / "tokenizer").mkdir(exist_ok=True)
    tokenizer.save(str(out / "tokenizer" / "tokenizer.json"))
    write_json(out / "vace.json", DEFAULTS)


def main() -> None:
    command(make, OUT, SEED, __doc__)


if __name__ == "__main__":
    main()
