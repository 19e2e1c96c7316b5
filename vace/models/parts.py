"""A checkpoint's parts before their weights are read: sizes and tensor names, from json files and headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vace.errors import CheckpointError
from vace.models.checkpoints import Checkpoint
from vace.models.configs import text_config, transformer_config, vae_config
from vace.models.keymaps import class_names
from vace.models.layouts import Component
from vace.weight_files import WeightFiles, open_weights, read_json

COMPONENTS = ("transformer", "text_encoder", "vae")


@dataclass(frozen=True)
class Part:
    """One component before its weights are read.

    config: the class's arguments (for the Wan transformer also `text_len`). names: tensor name in the class -> in the
    file. base: the base model it belongs to.
    """

    component: str
    config: Mapping[str, Any]
    weights: WeightFiles
    names: Mapping[str, str]
    source: str
    base: str = "wan"


def read_part(checkpoint: Checkpoint, component: str) -> Part:
    """The sizes and tensor names of 'transformer', 'text_encoder' or 'vae'. Raises CheckpointError."""
    found: Component = getattr(checkpoint, component)
    is_named = len(found.files) == 1 or checkpoint.layout == "single"
    source = " + ".join(str(path) for path in (found.files if is_named else [found.files[0].parent]))
    weights = open_weights(found.files)
    is_single = checkpoint.base == "ltx" and component != "text_encoder"
    return (_read_single if is_single else _read_own)(component, checkpoint, found, weights, source)


def _read_own(component: str, checkpoint: Checkpoint, found: Component, weights: WeightFiles, source: str) -> Part:
    """Of files of its own, with a json beside them or none."""
    names = _class_to_file(component, weights, source)
    shapes = {new: weights.shapes[old] for new, old in names.items()}
    stated = read_json(found.config) if found.config else {}
    if component == "transformer":
        extra = read_json(checkpoint.settings) if checkpoint.settings else {}
        length = {"text_len": checkpoint.defaults.get("text_len")}
        config = transformer_config(shapes, {**length, **stated, **extra}, source)
    elif component == "vae":
        config = vae_config(shapes, stated, source)
    else:
        config = text_config(shapes, stated, source)
    return Part(component, config, weights, names, source, checkpoint.base)


def _class_to_file(component: str, weights: WeightFiles, source: str) -> dict[str, str]:
    """tensor name in the class -> in the file. Raises CheckpointError for a tensor that is there under two names."""
    names: dict[str, str] = {}
    for old, new in class_names(component, weights.shapes).items():
        if new in names:
            raise CheckpointError(f"{source}: the tensor {new} is there twice, as {names[new]} and as {old}")
        names[new] = old
    return names


def _read_single(component: str, checkpoint: Checkpoint, found: Component, weights: WeightFiles, source: str) -> Part:
    """Of LTX's single file, which holds transformer and VAE, and states their sizes in its own metadata."""
    from vace.models.ltx import configs, keymaps
    from vace.models.ltx.metadata import stated_config

    configs.check_is_ltx(weights.shapes, source)
    names = {new: old for old, new in keymaps.class_names(component, weights.shapes).items()}
    shapes = {new: weights.shapes[old] for new, old in names.items()}
    everything = stated_config(found.files[0])
    stated = everything.get(component, {})
    if component == "transformer":
        extra = read_json(checkpoint.settings) if checkpoint.settings else {}
        config = configs.transformer_config(shapes, {**stated, **extra}, source)
        config["scheduler"] = configs.scheduler_config(everything.get("scheduler", {}))
    else:
        config = configs.vae_config(shapes, stated, source)
    return Part(component, config, weights, names, source, checkpoint.base)
