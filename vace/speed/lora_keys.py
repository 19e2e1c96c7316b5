"""Names in LoRA files: which module a tensor belongs to, and what it does there.

The published styles, for a module M:

| who writes it | names |
| --- | --- |
| diffusers | `transformer.M.lora_A.weight`, `M.lora_B.weight`, with or without the prefix |
| peft | `base_model.model.M.lora_A.default.weight` |
| ComfyUI and Kijai, lightx2v | `diffusion_model.M.lora_down.weight`, `.lora_up.weight`, `.alpha`; `.diff`, `.diff_b` |
| kohya, musubi | `lora_unet_M` or `lora_unet__M` with underscores for dots, then `.lora_down.weight` and so on |

M is spelled as in the original or as in diffusers' class; vace.models.keymaps knows how one becomes the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vace.models.keymaps import class_names

# What a tensor does. A pair adds up @ down to the module's weight; a difference is added to the weight or the bias as
# it is; the bias of the second matrix counts alpha / rank like the pair.
DOWN, UP, UP_BIAS, ALPHA, DIFFERENCE, BIAS_DIFFERENCE = "down", "up", "up bias", "alpha", "diff", "diff_b"
_ROLES = tuple(
    (re.compile(pattern + r"\Z"), role)
    for pattern, role in (
        (r"\.(?:lora_A|lora_down|lora\.down)(?:\.[^.]+)?\.weight", DOWN),
        (r"\.(?:lora_B|lora_up|lora\.up)(?:\.[^.]+)?\.weight", UP),
        (r"\.(?:lora_B|lora_up|lora\.up)(?:\.[^.]+)?\.bias", UP_BIAS),
        (r"\.alpha", ALPHA),
        (r"\.diff", DIFFERENCE),
        (r"\.diff_b", BIAS_DIFFERENCE),
    )
)
_PREFIX = re.compile(r"(?:base_model\.model|diffusion_model|transformer|model|module|pipe\.dit|dit)\.")
_UNDERSCORED = re.compile(r"(?:lora_unet_|lora_transformer_|lycoris_)_?")
# Words that keep their underscores where the dots were written as such; longer ones first.
_WORDS = (
    "vace_patch_embedding patch_embedding vace_blocks self_attn cross_attn before_proj after_proj norm_k_img norm_k "
    "norm_q k_img v_img img_emb time_embedding text_embedding time_projection condition_embedder time_embedder "
    "text_embedder image_embedder linear_1 linear_2 time_proj scale_shift_table add_k_proj add_v_proj norm_added_k "
    "norm_added_q proj_in proj_out to_out to_q to_k to_v"
).split()
_TOKEN = re.compile(rf"({'|'.join(_WORDS)}|[^_]+)(?:_|\Z)")


@dataclass(frozen=True)
class Keys:
    """The names of a file in order. modules: module -> role -> name in the file. others: names without a role."""

    modules: Mapping[str, Mapping[str, str]]
    others: tuple[str, ...]
    doubled: tuple[str, ...] = field(default=())


def grouped(names: Iterable[str]) -> Keys:
    """The names of a LoRA file by module. doubled: names that say of a module what another name has said."""
    modules: dict[str, dict[str, str]] = {}
    others, doubled = [], []
    for name in names:
        found = split_name(name)
        if found is None:
            others.append(name)
            continue
        module, role = found
        if modules.setdefault(module, {}).setdefault(role, name) != name:
            doubled.append(name)
    return Keys(modules, tuple(others), tuple(doubled))


def split_name(name: str) -> tuple[str, str] | None:
    """The module, with dots and without a prefix, and the role of a tensor; None for a name of no known role."""
    for pattern, role in _ROLES:
        if match := pattern.search(name):
            return _module(name[: match.start()]), role
    return None


def weight_name(module: str, known: Mapping[str, object]) -> str | None:
    """The module's weight as the class calls it; `known` has the class's names. None for a module it lacks.

    A name may also be that of a bare parameter, which has no `.weight` (`blocks.0.modulation`).
    """
    spelled = class_names("transformer", [f"{module}.weight", module]).values()
    return next((name for name in spelled if name in known), None)


def bias_name(module: str, known: Mapping[str, object]) -> str | None:
    """The module's bias as the class calls it, or None."""
    spelled = class_names("transformer", [f"{module}.bias"]).values()
    return next((name for name in spelled if name in known), None)


def _module(text: str) -> str:
    if match := _UNDERSCORED.match(text):
        return ".".join(_TOKEN.findall(text[match.end() :]))
    while match := _PREFIX.match(text):
        text = text[match.end() :]
    return text
