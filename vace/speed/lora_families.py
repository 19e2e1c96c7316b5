"""What a LoRA file is when it does not fit: another model's, another size's, another kind of adapter. No torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from vace.weight_files import Shape

# Model width -> how the published Wan models of that width are called.
SIZES = {1536: "1.3B", 3072: "Wan2.2 5B", 5120: "14B"}
# Marks in the tensors' names, the more particular first.
_FAMILIES = (
    ("HunyuanVideo", r"double_blocks\.\d+\.img_attn_|img_mlp[._]fc[12]|individual_token_refiner"),
    ("FLUX", r"double_blocks[._]\d|single_blocks[._]\d|single_transformer_blocks[._]\d"),
    ("Qwen-Image", r"transformer_blocks[._]\d+[._](?:img|txt)_(?:mlp|mod)"),
    ("LTX-Video", r"transformer_blocks[._]\d+[._]attn[12][._]|patchify_proj"),
    ("Stable Diffusion (SD 1.5 or SDXL)",
     r"(?:^|[._])(?:input_blocks|output_blocks|middle_block|down_blocks|up_blocks|mid_block)[._]"),
    ("another image or video model", r"transformer_blocks[._]\d"),
)  # fmt: skip
_OTHER_KINDS = (
    ("a LoHa adapter", r"\.hada_w\d"),
    ("a LoKr adapter", r"\.lokr_w\d"),
    ("a DoRA adapter", r"\.dora_scale|\.lora_magnitude_vector"),
    ("an OFT adapter", r"\.oft_(?:blocks|diag|R)"),
    ("a LoRA in Tucker form", r"\.lora_mid\."),
)
_TEXT = re.compile(r"(?:^|\.)(?:text_encoders?(?:_\d)?|text_model|te\d?|t5|umt5\w*|clip\w*)\.|^lora_te\d?_")
# Layers of Wan's image-to-video models that VACE, a text-to-video model, does not have.
_IMAGE = re.compile(
    r"(?:^|[._])(?:k_img|v_img|norm_k_img|img_emb|add_k_proj|add_v_proj|norm_added_[kq]|image_embedder)(?:[._]|$)"
)


def family_of(names: Iterable[str]) -> str | None:
    """The family of models that tensors of these names are of, where it is not Wan's; None when it cannot be told."""
    names = list(names)
    return next((family for family, mark in _FAMILIES if any(re.search(mark, name) for name in names)), None)


def other_kind(names: Iterable[str]) -> str | None:
    """What kind of adapter the names tell of that is not a sum of products of two matrices."""
    names = list(names)
    return next((kind for kind, mark in _OTHER_KINDS if any(re.search(mark, name) for name in names)), None)


def is_text_encoder(name: str) -> bool:
    """Whether a tensor of this name changes a text encoder."""
    return bool(_TEXT.search(name))


def is_image_only(module: str) -> bool:
    """Whether only Wan's image-to-video models have this module."""
    return bool(_IMAGE.search(module))


def size_text(width: int) -> str:
    return f"{width} ({SIZES[width]})" if width in SIZES else str(width)


def found_width(misfits: Mapping[str, tuple[Shape, Shape]], width: int) -> int | None:
    """The width of the model a LoRA was made for: what most often stands where this model has its own.

    misfits: target -> (shape of what would be added, shape of the weight), as [rows, columns].
    """
    places = [
        have
        for found, wanted in misfits.values()
        for have, want in zip(found, wanted, strict=False)
        if want == width and have != width
    ]
    return Counter(places).most_common(1)[0][0] if places else None
