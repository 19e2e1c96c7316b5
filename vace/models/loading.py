"""Building a checkpoint's parts: the class made without memory, its tensors checked by name and shape, then put in.

The classes of diffusers and transformers hold the weights. A model is first made on the meta device, so that only one
copy of the weights ever exists, in the float type asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from vace.errors import CheckpointError
from vace.models.parts import COMPONENTS, Part

# The original computes these in float32 whatever the rest runs in; they are small.
_KEPT_FLOAT32 = ("time_embedder", "time_proj", "scale_shift_table", ".norm1.", ".norm2.", ".norm3.")
_HEAD = "proj_out."
_LISTED = 4
_BAD_SETTINGS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError)


def check_parts(parts: Mapping[str, Part]) -> None:
    """Names and shapes of every tensor, and that the parts fit each other, before any long work. CheckpointError."""
    for part in parts.values():
        _match(_empty_model(part), part)
    transformer, text, vae = (parts[name].config for name in COMPONENTS)
    latent = vae["z_dim"]
    mask = 8 * 8  # one channel per pixel of the latent's 8 x 8 cell
    facts = (
        ("latent channels", latent, transformer["in_channels"], "vae"),
        ("context channels", 2 * latent + mask, transformer["vace_in_channels"], "vae"),
        ("text width", text["d_model"], transformer["text_dim"], "text_encoder"),
    )
    for what, given, wanted, name in facts:
        if given != wanted:
            raise CheckpointError(
                f"{parts[name].source}: {given} {what}, the transformer takes {wanted}; these files are of two models"
            )


def build(part: Part, dtype: torch.dtype) -> nn.Module:
    """The component with its weights, on the CPU, in `dtype`, ready to run and without gradients."""
    model = _empty_model(part)
    wanted = _match(model, part)
    state = {}
    for key in wanted:
        tensor = part.weights.read(_file_key(part, key))
        state[key] = tensor.to(torch.float32 if _stays_float32(part.component, key) else dtype)
    part.weights.close()
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def _stays_float32(component: str, key: str) -> bool:
    if component != "transformer":
        return False
    return key.startswith(_HEAD) or any(mark in key for mark in _KEPT_FLOAT32)


def _empty_model(part: Part) -> nn.Module:
    """The class on the meta device; buffers that are computed, not stored (rotary tables), are real."""
    from accelerate import init_empty_weights
    from huggingface_hub.errors import StrictDataclassError

    try:
        with init_empty_weights(include_buffers=False):
            return _make(part)
    except (*_BAD_SETTINGS, StrictDataclassError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{part.source}: its settings do not make a {part.component} ({reason})") from error


def _make(part: Part) -> nn.Module:
    config = dict(part.config)
    if part.component == "transformer":
        from diffusers import WanVACETransformer3DModel

        config.pop("text_len")
        config["patch_size"] = tuple(config["patch_size"])
        return WanVACETransformer3DModel(**config)
    if part.component == "vae":
        from diffusers import AutoencoderKLWan

        return AutoencoderKLWan(**config)
    from transformers import UMT5Config, UMT5EncoderModel

    model = UMT5EncoderModel(UMT5Config.from_dict(config))
    model.encoder.embed_tokens = model.shared
    return model


def _match(model: nn.Module, part: Part) -> dict[str, tuple[int, ...]]:
    """The class's tensors by name and shape. Raises CheckpointError that lists what does not match the files."""
    wanted = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    have = {new: part.weights.shapes[old] for new, old in part.names.items()}
    missing = [key for key in wanted if _file_key(part, key) is None]
    unknown = [part.names[key] for key in have if key not in wanted]
    shaped = [
        f"{part.names[key]} {list(have[key])} where {list(wanted[key])} is expected"
        for key in wanted
        if key in have and have[key] != wanted[key]
    ]
    problems = [
        f"{len(keys)} {what} ({'; '.join(keys[:_LISTED])}{' ...' if len(keys) > _LISTED else ''})"
        for what, keys in (("missing", missing), ("unknown", unknown), ("mis-shaped", shaped))
        if keys
    ]
    if problems:
        raise CheckpointError(f"{part.source}: tensors do not fit the {part.component}: {', '.join(problems)}")
    return wanted


def _file_key(part: Part, key: str) -> str | None:
    """Two text encoder conversions go round: the token table under one of its two names, or under both."""
    twins = {"shared.weight": "encoder.embed_tokens.weight", "encoder.embed_tokens.weight": "shared.weight"}
    return part.names.get(key) or part.names.get(twins.get(key, ""))
