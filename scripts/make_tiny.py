"""Write a model of vace-tiny's sizes with random weights, drawn from one seed: what an untrained one makes.

    python scripts/make_tiny.py --out DIR [--seed N]

Its weights are scaled so that activations stay near unit size and the result is a moving texture: it shows that every
step works, and is what a trained model is measured against. Running it again gives the same bytes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vace.training import tiny
from vace.training.tiny import write_json

__all__ = ["TEXT_ENCODER", "build_tokenizer", "command", "draw", "write_json", "write_part"]  # make_tiny_ltx.py's

SEED = 2025
# The text encoder of vace-tiny-ltx.
TEXT_ENCODER = {**tiny.TEXT_ENCODER, "d_model": 64, "d_kv": 16, "d_ff": 128}
# Scales of the draw by a part of the tensor's name; the first that fits counts, the rest is 1.
SCALES = (
    ("SelfAttention.q.", 0.25),  # UMT5 does not divide scores by the root of the head size
    ("relative_attention_bias", 0.5),
    ("scale_shift_table", 0.3),
    ("vace_blocks", 0.8),
    ("decoder.conv_out.weight", 0.7),
)


def build_tokenizer():
    """The tokenizer of general words alone, which vace-tiny-ltx has."""
    return tiny.build_tokenizer(tiny.GENERAL.split())


def draw(shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Float16 values for tensors of these shapes, drawn in order of name."""
    return {name: _draw_one(name, shapes[name], rng).astype(np.float16) for name in sorted(shapes)}


def _draw_one(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name.endswith("bias"):
        return np.zeros(shape)
    if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
        return np.ones(shape)
    noise = rng.standard_normal(shape)
    scale = next((scale for part, scale in SCALES if part in name), 1.0)
    is_table = "scale_shift_table" in name or "relative_attention_bias" in name or name == "shared.weight"
    return noise * scale / (1.0 if is_table else math.sqrt(math.prod(shape[1:])))


def write_part(folder: Path, name: str, config: dict, model, rng: np.random.Generator) -> None:
    """One component: config.json and its float16 weights. model: the class at that size, only its shapes count."""
    state = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    state.pop("encoder.embed_tokens.weight", None)  # the text encoder's second name for shared.weight
    tiny.write_part(folder, name, config, draw(state, rng))


def make(out: Path, seed: int) -> None:
    """Writes the whole checkpoint, in the diffusers layout, into the folder `out`."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    tokenizer = tiny.build_tokenizer()
    config = tiny.text_encoder_config(tokenizer)
    with init_empty_weights():
        transformer = WanVACETransformer3DModel(**tiny.TRANSFORMER)
        vae = AutoencoderKLWan(**tiny.VAE)
        encoder = UMT5EncoderModel(UMT5Config(**config))
    rng = np.random.default_rng(seed)
    write_part(out, "transformer", tiny.TRANSFORMER, transformer, rng)
    write_part(out, "vae", tiny.VAE, vae, rng)
    write_part(out, "text_encoder", config, encoder, rng)
    tiny.write_around(out, tokenizer, trained=False)


def command(make: Callable[[Path, int], None], out: Path | None, seed: int, text: str) -> None:
    """The command line of a script that writes a checkpoint; text: what it does. out: where to, None: must be given."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    default = f"(default: assets/models/{out.name})" if out else ""
    parser.add_argument("--out", type=Path, default=out, required=out is None, help=f"folder to write {default}")
    parser.add_argument("--seed", type=int, default=seed, help=f"seed of the weights (default: {seed})")
    args = parser.parse_args()
    make(args.out, args.seed)
    print(args.out)


def main() -> None:
    command(make, None, SEED, __doc__)


if __name__ == "__main__":
    main()
