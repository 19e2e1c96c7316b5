"""Names of the tensors: from the original's spelling to that of the diffusers and transformers classes.

Each map leaves names it does not know as they are, so that an unknown tensor is reported under its own name, and files
that already use the classes' spelling pass through unchanged. What single files put in front of every name is dropped;
in one that holds several components, the names of the others are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# A name that only the classes' own spelling has, per component.
_CLASS_SPELLING = {
    "transformer": "condition_embedder.",
    "vae": "encoder.conv_in.",
    "text_encoder": "encoder.block.",
}

# What a component's names may begin with in a single file, the longer before what it begins with.
_PREFIXES = {
    "transformer": ("model.diffusion_model.", "diffusion_model."),
    "text_encoder": ("text_encoders.umt5xxl.transformer.", "umt5xxl.transformer."),
    "vae": ("first_stage_model.", "vae.", "model."),
}
# The first words of names in a file that holds several components.
_BUNDLED = ("model.diffusion_model.", "diffusion_model.", "text_encoders.", "first_stage_model.", "vae.")

_TRANSFORMER = (
    (r"^time_embedding\.0\.", "condition_embedder.time_embedder.linear_1."),
    (r"^time_embedding\.2\.", "condition_embedder.time_embedder.linear_2."),
    (r"^text_embedding\.0\.", "condition_embedder.text_embedder.linear_1."),
    (r"^text_embedding\.2\.", "condition_embedder.text_embedder.linear_2."),
    (r"^time_projection\.1\.", "condition_embedder.time_proj."),
    (r"^head\.head\.", "proj_out."),
    (r"^head\.modulation$", "scale_shift_table"),
    (r"^((?:vace_)?blocks\.\d+)\.modulation$", r"\1.scale_shift_table"),
    (r"\.self_attn\.", ".attn1."),
    (r"\.cross_attn\.", ".attn2."),
    (r"\.([qkv])\.(weight|bias)$", r".to_\1.\2"),
    (r"\.o\.(weight|bias)$", r".to_out.0.\1"),
    # The original numbers the norms by place in the code, diffusers by order of use: the affine one is second.
    (r"\.norm3\.", ".norm2."),
    (r"\.ffn\.0\.", ".ffn.net.0.proj."),
    (r"\.ffn\.2\.", ".ffn.net.2."),
    (r"\.before_proj\.", ".proj_in."),
    (r"\.after_proj\.", ".proj_out."),
)

_TEXT_ENCODER = (
    (r"^token_embedding\.weight$", "shared.weight"),
    (r"^norm\.weight$", "encoder.final_layer_norm.weight"),
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.block.\1.layer.0.layer_norm."),
    (r"^blocks\.(\d+)\.attn\.", r"encoder.block.\1.layer.0.SelfAttention."),
    (r"^blocks\.(\d+)\.pos_embedding\.embedding\.", r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias."),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.block.\1.layer.1.layer_norm."),
    (r"^blocks\.(\d+)\.ffn\.gate\.0\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_0."),
    (r"^blocks\.(\d+)\.ffn\.fc1\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_1."),
    (r"^blocks\.(\d+)\.ffn\.fc2\.", r"encoder.block.\1.layer.1.DenseReluDense.wo."),
)

_VAE = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
    (r"^(encoder|decoder)\.head\.0\.", r"\1.norm_out."),
    (r"^(encoder|decoder)\.head\.2\.", r"\1.conv_out."),
    (r"^(encoder|decoder)\.middle\.0\.", r"\1.mid_block.resnets.0."),
    (r"^(encoder|decoder)\.middle\.1\.", r"\1.mid_block.attentions.0."),
    (r"^(encoder|decoder)\.middle\.2\.", r"\1.mid_block.resnets.1."),
    (r"^encoder\.downsamples\.", "encoder.down_blocks."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)

_TABLES = {"transformer": _TRANSFORMER, "text_encoder": _TEXT_ENCODER, "vae": _VAE}


def class_names(component: str, keys: Iterable[str]) -> dict[str, str]:
    """name in the file -> name in the class, for component 'transformer', 'vae' or 'text_encoder'.

    Of a file that bundles several components, only the names of this one.
    """
    bare = _bare_names(component, list(keys))
    # Class names pass through the transformer's table unchanged, so that a file may continue one in another spelling.
    is_class = any(name.startswith(_CLASS_SPELLING[component]) for name in bare.values())
    if is_class and component != "transformer":
        return bare
    table = [(re.compile(pattern), new) for pattern, new in _TABLES[component]]
    stages = _decoder_stages(list(bare.values())) if component == "vae" else {}
    return {key: _rename(_staged(name, stages), table) for key, name in bare.items()}


def _bare_names(component: str, keys: list[str]) -> dict[str, str]:
    """name in the file -> the same without its prefix; names of other components are left out."""
    own = _PREFIXES[component]
    return {key: _without(own, key) for key in keys if _is_own(own, key)}


def _is_own(prefixes: tuple[str, ...], key: str) -> bool:
    """Whether a name is none of another component's in a file that holds several."""
    bundle = next((prefix for prefix in _BUNDLED if key.startswith(prefix)), None)
    return bundle is None or any(prefix.startswith(bundle) for prefix in prefixes if key.startswith(prefix))


def _without(prefixes: tuple[str, ...], key: str) -> str:
    return next((key[len(prefix) :] for prefix in prefixes if key.startswith(prefix)), key)


def _rename(key: str, table: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, new in table:
        key = pattern.sub(new, key)
    return key


def _decoder_stages(keys: list[str]) -> dict[str, str]:
    """The original numbers the decoder's up path flat; the class groups it into stages that end with an upsampler."""
    flat = {int(key.split(".")[2]) for key in keys if re.match(r"decoder\.upsamples\.\d+\.", key)}
    upsamplers = {int(key.split(".")[2]) for key in keys if re.match(r"decoder\.upsamples\.\d+\.resample\.", key)}
    stage, place, stages = 0, 0, {}
    for number in sorted(flat):
        old = f"decoder.upsamples.{number}."
        if number in upsamplers:
            stages[old] = f"decoder.up_blocks.{stage}.upsamplers.0."
            stage, place = stage + 1, 0
        else:
            stages[old] = f"decoder.up_blocks.{stage}.resnets.{place}."
            place += 1
    return stages


def _staged(key: str, stages: dict[str, str]) -> str:
    match = re.match(r"decoder\.upsamples\.\d+\.", key)
    return stages[match.group()] + key[match.end() :] if match and stages else key
