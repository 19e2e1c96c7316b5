"""Write the embedded model assets/models/vace-tiny: the classes of Wan2.1-VACE at toy size, drawn from one seed.

    python scripts/make_tiny.py [--out DIR] [--seed N]

Its weights are random, scaled so that activations stay near unit size and the result is a moving texture: it shows that
every step works, and nothing else. Running it again gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

SEED = 2025
OUT = Path(__file__).resolve().parent.parent / "assets" / "models" / "vace-tiny"
TEXT_LEN = 64

DEFAULTS = {
    "name": "vace-tiny",
    "toy": True,
    "trained": False,
    "text_len": TEXT_LEN,
    "size": "128x80",
    "frames": 17,
    "steps": 6,
    "shift": 3.0,
    "guidance_scale": 3.0,
    "negative_prompt": "",
}
TRANSFORMER = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 64,
    "freq_dim": 64,
    "ffn_dim": 192,
    "num_layers": 4,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "vace_layers": [0, 2],
    "vace_in_channels": 96,
}
VAE = {"base_dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1}
VAE |= {"temperal_downsample": [False, True, True]}
TEXT_ENCODER = {
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 32,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
}
# Scales of the draw by a part of the tensor's name; the first that fits counts, the rest is 1.
SCALES = (
    ("SelfAttention.q.", 0.25),  # UMT5 does not divide scores by the root of the head size
    ("relative_attention_bias", 0.5),
    ("scale_shift_table", 0.3),
    ("vace_blocks", 0.8),
    ("decoder.conv_out.weight", 0.7),
)

# The words of simple captions; whatever else comes is spelled in letters, and what no letter fits in bytes.
WORDS = """
a an the of in on at to from with and or by for over under into onto out up down left right is are be it its this that
one two three four five some many no not very slowly quickly fast slow then while before after through across around
along behind front near far toward away between above below inside outside same other another each all both
red green blue yellow orange purple pink brown black white gray grey golden silver dark light bright pale colorful
small large big tiny huge tall short long round flat soft smooth rough shiny wooden old young new wet dry warm cold
circle square triangle disk ball cube box ring star line shape shapes texture pattern background scene shadow color
man woman person people child boy girl face hand hair eye dog cat bird horse fish rabbit bear elephant lion butterfly
car truck train boat ship plane bike road street city house building window door room table chair book cup coffee
tree trees grass flower flowers leaf forest mountain hill river lake sea ocean wave beach sand snow rain cloud clouds
sky sun moon night day morning evening sunset fire smoke water ice stone rock wall floor garden field park
moves moving walks walking runs running flies flying jumps jumping stands standing sits sitting turns turning rotates
rotating falls falling rises rising swims swimming dances dancing plays playing looks looking smiles smiling holds
holding eats drives driving rolls rolling spins spinning bounces bouncing grows shrinks opens closes appears stays
video image picture frame camera shot view style cartoon anime realistic cinematic drawing painting sketch photo pan
zoom close wide slow motion quality high low detailed blurry static still depth pose edge flow mask gray layout scribble
"""
ENDINGS = "s es ed ing er est ly y al tion ness ment able less ful".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-_()/&%+=*#@"
SPACE = "\u2581"


def build_tokenizer():
    """A unigram tokenizer like UMT5's, with byte fallback: <pad> is 0, </s> is 1, <unk> is 2."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pieces: dict[str, float] = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}
    pieces |= {f"<0x{byte:02X}>": -20.0 for byte in range(256)}
    pieces |= {SPACE + word: -4.0 for word in WORDS.split()}
    pieces |= {ending: -6.0 for ending in ENDINGS if len(ending) > 1}
    pieces |= {SPACE: -7.0} | {letter: -8.0 for letter in LETTERS}
    tokenizer = Tokenizer(models.Unigram(list(pieces.items()), unk_id=2, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(replacement=SPACE)])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return tokenizer


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
    from safetensors.numpy import save_file

    state = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    state.pop("encoder.embed_tokens.weight", None)  # the text encoder's second name for shared.weight
    (folder / name).mkdir(parents=True, exist_ok=True)
    write_json(folder / name / "config.json", config)
    stem = "model" if name == "text_encoder" else "diffusion_pytorch_model"
    save_file(draw(state, rng), folder / name / f"{stem}.safetensors", metadata={"format": "pt"})


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def make(out: Path, seed: int) -> None:
    """Writes the whole checkpoint, in the diffusers layout, into the folder `out`."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    tokenizer = build_tokenizer()
    text_encoder = {**TEXT_ENCODER, "vocab_size": tokenizer.get_vocab_size()}
    with init_empty_weights():
        transformer = WanVACETransformer3DModel(**TRANSFORMER)
        vae = AutoencoderKLWan(**VAE)
        encoder = UMT5EncoderModel(UMT5Config(**text_encoder))
    rng = np.random.default_rng(seed)
    write_part(out, "transformer", {"_class_name": "WanVACETransformer3DModel", **TRANSFORMER}, transformer, rng)
    write_part(out, "vae", {"_class_name": "AutoencoderKLWan", **VAE}, vae, rng)
    encoder_config = {"architectures": ["UMT5EncoderModel"], "model_type": "umt5", **text_encoder}
    write_part(out, "text_encoder", encoder_config, encoder, rng)
    (out / "tokenizer").mkdir(exist_ok=True)
    tokenizer.save(str(out / "tokenizer" / "tokenizer.json"))
    write_json(out / "vace.json", DEFAULTS)


def command(make: Callable[[Path, int], None], out: Path, seed: int, text: str) -> None:
    """The command line of a script that writes a checkpoint; text: what it does."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--out", type=Path, default=out, help=f"folder to write (default: assets/models/{out.name})")
    parser.add_argument("--seed", type=int, default=seed, help=f"seed of the weights (default: {seed})")
    args = parser.parse_args()
    make(args.out, args.seed)
    print(args.out)


def main() -> None:
    command(make, OUT, SEED, __doc__)


if __name__ == "__main__":
    main()
