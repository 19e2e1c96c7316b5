"""What a weight file holds, told by the names and shapes of its tensors alone: names of files promise nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vace.errors import CheckpointError
from vace.models.configs import Shapes, count_blocks, text_config, vae_config
from vace.models.keymaps import class_names
from vace.weight_files import GGUF, open_weights

VACE, T2V, MODULE = "a VACE transformer", "a T2V transformer", "a VACE module"
I2V, LORA, PARTIAL = "an image-to-video transformer", "a LoRA", "a part of a transformer"
TRANSFORMERS = (VACE, T2V, MODULE)
SUFFIXES = (".safetensors", GGUF)
_OF_IMAGES = ("img_emb.", "condition_embedder.image_embedder.")
_OF_LORA, _LORA_ENDS = (".lora_", ".lora."), (".diff", ".diff_b", ".alpha")
_RGB = 3
_LISTED = 4


def shapes_in(file: Path) -> Shapes:
    """Names and shapes of one file's tensors, in whatever format. Raises CheckpointError, MissingDependency."""
    return open_weights((file,)).shapes


def readable_shapes(file: Path) -> Shapes:
    """The same; nothing for a file that cannot be read, which then is none of ours."""
    try:
        return shapes_in(file)
    except CheckpointError:
        return {}


def transformer_kind(shapes: Shapes) -> str | None:
    """What of a Wan transformer a file holds: one of the words above; None for nothing of one."""
    if any(key.endswith(_LORA_ENDS) or mark in key for key in shapes for mark in _OF_LORA):
        return LORA if any("blocks." in key for key in shapes) else None
    names = set(class_names("transformer", shapes).values())
    if any(name.startswith(_OF_IMAGES) for name in names):
        return I2V
    has_main = {"patch_embedding.weight", "proj_out.weight"} <= names
    has_context = "vace_patch_embedding.weight" in names
    if has_main and any(name.startswith("blocks.0.attn1.") for name in names):
        return VACE if has_context else T2V
    if has_context and not any(name.startswith("blocks.") for name in names):
        return MODULE
    has_blocks = any(name.startswith(("blocks.", "vace_blocks.")) and ".attn1." in name for name in names)
    return PARTIAL if has_blocks else None


def text_width(shapes: Shapes, source: str) -> int | None:
    """The width of the UMT5 encoder in a file; None where it holds none.

    UMT5 has a table of positions in every block, T5 in the first alone.
    """
    own = _part(shapes, "text_encoder")
    tables = sum(name.endswith("relative_attention_bias.weight") for name in own)
    if not tables or tables != count_blocks(own, "encoder.block"):
        return None
    try:
        return text_config(own, {}, source)["d_model"]
    except CheckpointError:
        return None


def vae_channels(shapes: Shapes, source: str) -> int | None:
    """How many latent channels the Wan2.1 VAE in a file has; None where it holds none."""
    try:
        config = vae_config(_part(shapes, "vae"), {}, source)
    except CheckpointError:
        return None
    return config["z_dim"] if config["in_channels"] == config["out_channels"] == _RGB else None


def listed(keys: Iterable[str]) -> str:
    """The first few names of a file, for an error."""
    keys = list(keys)
    rest = len(keys) - _LISTED
    return ", ".join(keys[:_LISTED]) + (f" and {rest} more" if rest > 0 else "") if keys else "nothing"


def _part(shapes: Shapes, component: str) -> Shapes:
    return {new: shapes[old] for old, new in class_names(component, shapes).items()}
