"""The embedded model `vace-tiny`: its sizes, its tokenizer, and its folder in the diffusers layout.

The classes are those of Wan2.1-VACE (WanVACETransformer3DModel, AutoencoderKLWan, UMT5EncoderModel) at small size.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vace.media.files import replacing
from vace.training.captions import WORDS

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

TEXT_LEN = 64  # tokens of a prompt, padding included
DEFAULTS = MappingProxyType(
    {
        "name": "vace-tiny",
        "toy": True,
        "trained": False,
        "text_len": TEXT_LEN,
        "size": "96x64",
        "frames": 17,
        "steps": 20,
        "shift": 3.0,
        "guidance_scale": 2.0,
        "negative_prompt": "",
    }
)
TRANSFORMER = MappingProxyType(
    {
        "patch_size": [1, 2, 2],
        "num_attention_heads": 4,
        "attention_head_dim": 32,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 96,
        "freq_dim": 64,
        "ffn_dim": 512,
        "num_layers": 6,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
        "vace_layers": [0, 2, 4],
        "vace_in_channels": 96,
    }
)
VAE = MappingProxyType(
    {
        "base_dim": 8,
        "z_dim": 16,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
    }
)
TEXT_ENCODER = MappingProxyType(
    {
        "d_model": 96,
        "d_kv": 24,
        "d_ff": 192,
        "num_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 32,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
    }
)
CLASSES = MappingProxyType(
    {
        "transformer": {"_class_name": "WanVACETransformer3DModel"},
        "vae": {"_class_name": "AutoencoderKLWan"},
        "text_encoder": {"architectures": ["UMT5EncoderModel"], "model_type": "umt5"},
    }
)

# Words of simple prompts that captions of toy worlds may lack; what is not here is spelled in letters, or in bytes.
GENERAL = """
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
EXAMPLE = "a large red star moves left over grass"  # of the captions that the toy learns from
ENDINGS = "s es ed ing er est ly y al tion ness ment able less ful".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-_()/&%+=*#@"
SPACE = "\u2581"


def build_tokenizer(words: Iterable[str] | None = None) -> Tokenizer:
    """A unigram tokenizer like UMT5's, with byte fallback: <pad> is 0, </s> is 1, <unk> is 2.

    words: of which each is one token at the start of a word; by default the general ones and those of captions.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    if words is None:
        words = [*GENERAL.split(), *(word.lower() for word in WORDS if word.isalpha())]
    pieces: dict[str, float] = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}
    pieces |= {f"<0x{byte:02X}>": -20.0 for byte in range(256)}
    pieces |= {SPACE + word: -4.0 for word in words}
    pieces |= {ending: -6.0 for ending in ENDINGS if len(ending) > 1}
    pieces |= {SPACE: -7.0} | {letter: -8.0 for letter in LETTERS}
    tokenizer = Tokenizer(models.Unigram(list(pieces.items()), unk_id=2, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(replacement=SPACE)])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return tokenizer


def caption_tokens(tokenizer: Tokenizer) -> list[int]:
    """The ids that captions of toy worlds are made of, ascending."""
    texts = [f"{word}, {word}" for word in WORDS if word.isalpha()]
    return sorted({token for text in texts for token in tokenizer.encode(text).ids})


def text_encoder_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """TEXT_ENCODER for the words of this tokenizer."""
    return {**TEXT_ENCODER, "vocab_size": tokenizer.get_vocab_size()}


def write_part(folder: Path, name: str, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """A part of a checkpoint, 'transformer', 'vae' or 'text_encoder': its config.json and its weights."""
    from safetensors.numpy import save

    stem = "model" if name == "text_encoder" else "diffusion_pytorch_model"
    (folder / name).mkdir(parents=True, exist_ok=True)
    write_json(folder / name / "config.json", {**CLASSES[name], **config})
    with replacing(folder / name / f"{stem}.safetensors") as temporary:
        temporary.write_bytes(save(dict(tensors), metadata={"format": "pt"}))  # save_file: its user alone could read


def write_around(folder: Path, tokenizer: Tokenizer, *, trained: bool) -> None:
    """The files beside the parts: tokenizer/ and vace.json."""
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    learnt = {"words": " ".join(sorted({word.lower() for word in WORDS if word.isalpha()})), "prompt": EXAMPLE}
    write_json(folder / "vace.json", {**DEFAULTS, "trained": trained, **(learnt if trained else {})})


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(dict(value), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
