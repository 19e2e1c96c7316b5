"""Names of the tensors in a VACE-LTX single file, from the original's spelling to that of the classes, and back.

The file holds the transformer under `model.diffusion_model.` and the VAE under `vae.`. The original numbers the VAE's
blocks flat, in the order they run; diffusers' AutoencoderKLLTXVideo groups them into stages. Which number goes where
follows from the kinds of the blocks, told by their tensors: a run of residual blocks (res_x), a resampling
(compress_all), a residual block that changes the width (res_x_y). So any depth and both published kinds of VAE, 0.9
and 0.9.1, go through one map. Names it does not know stay as they are, to be reported under their own name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

PREFIXES = {"transformer": "model.diffusion_model.", "vae": "vae."}
RES_X, COMPRESS, RES_X_Y = "res_x", "compress_all", "res_x_y"
# Per half of the VAE: the class's name for its stages, and what a stage holds, in the order a stage runs it.
STAGES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "encoder": ("down_blocks", {RES_X: "", COMPRESS: ".downsamplers.0", RES_X_Y: ".conv_out"}),
    "decoder": ("up_blocks", {RES_X_Y: ".conv_in", COMPRESS: ".upsamplers.0", RES_X: ""}),
}
_KINDS = {"res_blocks": RES_X, "conv": COMPRESS, "conv1": RES_X_Y}  # what a block's tensors begin with -> its kind
_SPELLINGS = {  # (in the file, in the class)
    "transformer": (
        ("patchify_proj.", "proj_in."),
        ("adaln_single.", "time_embed."),
        (".q_norm.", ".norm_q."),
        (".k_norm.", ".norm_k."),
    ),
    "vae": (
        (".res_blocks.", ".resnets."),
        (".conv_shortcut.", ".conv_shortcut.conv."),
        (".norm3.norm.", ".norm3."),
        ("decoder.last_time_embedder.", "decoder.time_embedder."),
        ("decoder.last_scale_shift_table", "decoder.scale_shift_table"),
        ("per_channel_statistics.mean-of-means", "latents_mean"),
        ("per_channel_statistics.std-of-means", "latents_std"),
    ),
}
_VAE_ROOTS = ("encoder.", "decoder.", "per_channel_statistics.", "latents_mean", "latents_std")
_STATISTICS = ("per_channel_statistics.mean-of-means", "per_channel_statistics.std-of-means")


def class_names(component: str, keys: Iterable[str]) -> dict[str, str]:
    """name in the file -> name in the class, for component 'transformer' or 'vae'; other components' keys left out.

    Keys without the component's prefix are taken where no key has it. Of the VAE's statistics only the two that
    normalise latents are used by the model, so the others are left out too.
    """
    bare = _own_keys(component, keys)
    if component == "transformer":
        return {key: _respelt(component, name) for key, name in bare.items()}
    if any(".resnets." in name for name in bare.values()):  # the class's own spelling
        return bare
    places = {place: new for half in STAGES for place, new in _class_places(bare.values(), half).items()}
    return {
        key: _respelt(component, _moved(name, places))
        for key, name in bare.items()
        if not name.startswith("per_channel_statistics.") or name in _STATISTICS
    }


def file_names(component: str, keys: Iterable[str]) -> dict[str, str]:
    """name in the class -> name in the file: the inverse of `class_names`, for writing the published layout."""
    keys = list(keys)
    places = {}
    if component == "vae":
        places = {place: old for half in STAGES for place, old in _file_places(keys, half).items()}
    table = [(new, old) for old, new in _SPELLINGS[component]]
    return {key: PREFIXES[component] + _replaced(_moved(key, places), table) for key in keys}


def has_prefix(keys: Iterable[str], component: str) -> bool:
    """Whether any key lies under the component's prefix."""
    return any(key.startswith(PREFIXES[component]) for key in keys)


def _own_keys(component: str, keys: Iterable[str]) -> dict[str, str]:
    """key in the file -> the same without its prefix, for the keys that are the component's."""
    keys, prefix = list(keys), PREFIXES[component]
    if has_prefix(keys, component):
        return {key: key.removeprefix(prefix) for key in keys if key.startswith(prefix)}
    if component == "vae":
        return {key: key for key in keys if key.startswith(_VAE_ROOTS)}
    return {key: key for key in keys if not key.startswith(PREFIXES["vae"])}


def _respelt(component: str, name: str) -> str:
    return _replaced(name, _SPELLINGS[component])


def _replaced(name: str, table: Iterable[tuple[str, str]]) -> str:
    for old, new in table:
        name = name.replace(old, new)
    return name


def _moved(name: str, places: Mapping[str, str]) -> str:
    """The name with the block it begins with put in its new place; unchanged where the block is unknown."""
    parts = name.split(".")
    for length in (5, 4, 3, 2):  # a place has two to five parts; the longest that fits is meant
        place = ".".join(parts[:length])
        if place in places and len(parts) > length:
            return places[place] + name[len(place) :]
    return name


def _class_places(names: Iterable[str], half: str) -> dict[str, str]:
    """Place in the file -> place in the class, for the numbered blocks of 'encoder' or 'decoder'."""
    blocks, slots = STAGES[half]
    pattern = re.compile(rf"{half}\.{blocks}\.(\d+)\.({'|'.join(_KINDS)})\.")
    kinds = {int(match[1]): _KINDS[match[2]] for name in names if (match := pattern.match(name))}
    numbers = sorted(kinds)
    if not numbers:
        return {}
    middle = numbers.pop(-1 if half == "encoder" else 0)
    places = {f"{half}.{blocks}.{middle}": f"{half}.mid_block"}
    order, stage, last = list(slots), -1, len(slots)
    for number in numbers:
        slot = order.index(kinds[number])
        if slot <= last:  # a stage runs its slots in order, so stepping back begins the next one
            stage += 1
        last = slot
        places[f"{half}.{blocks}.{number}"] = f"{half}.{blocks}.{stage}{slots[kinds[number]]}"
    return places


def _file_places(keys: Iterable[str], half: str) -> dict[str, str]:
    """Place in the class -> place in the file: the places that are there, numbered in the order they run."""
    blocks, slots = STAGES[half]
    order = list(slots)
    inner = {place.removeprefix("."): order.index(kind) for kind, place in slots.items() if place}
    pattern = re.compile(rf"{half}\.{blocks}\.(\d+)\.({'|'.join(map(re.escape, inner))})?")
    found = {
        (int(match[1]), inner.get(match[2], order.index(RES_X)))
        for key in keys
        if (match := pattern.match(key)) and (match[2] or ".resnets." in key)
    }
    running = [f"{half}.{blocks}.{stage}{slots[order[slot]]}" for stage, slot in sorted(found)]
    running.insert(len(running) if half == "encoder" else 0, f"{half}.mid_block")
    return {place: f"{half}.{blocks}.{number}" for number, place in enumerate(running)}
