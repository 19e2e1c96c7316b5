"""Building a checkpoint's parts: the class made without memory, its tensors checked by name and shape, then put in.

The classes of diffusers and transformers hold the weights. A model is first made on the meta device, so that only one
copy of the weights ever exists, in the float type asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from vace.errors import CheckpointError
from vace.models.parts import COMPONENTS, Part

# By part of the name: what stays float32 whatever the rest runs in, because the original computes it so (Wan), or
# because it is small and everything is scaled by it (LTX).
_KEPT_FLOAT32 = {
    ("wan", "transformer"): (
        "time_embedder", "time_proj", "scale_shift_table", ".norm1.", ".norm2.", ".norm3.", "^proj_out.",
    ),
    ("ltx", "vae"): ("^latents_mean", "^latents_std", "timestep_scale_multiplier"),
}  # fmt: skip
_LISTED = 4
Change = Callable[[str, torch.Tensor], torch.Tensor]  # (name in the class, tensor) -> tensor of that shape and type
_BAD_SETTINGS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError)


def _wan_facts(transformer: Mapping, text: Mapping, vae: Mapping) -> tuple:
    """What two parts must agree on: (what, how many this part has, how many the transformer takes, part)."""
    mask = 8 * 8  # one channel per pixel of the latent's 8 x 8 cell
    return (
        ("latent channels", vae["z_dim"], transformer["in_channels"], "vae"),
        ("context channels", 2 * vae["z_dim"] + mask, transformer["vace_in_channels"], "vae"),
        ("text width", text["d_model"], transformer["text_dim"], "text_encoder"),
    )


def _ltx_facts(transformer: Mapping, text: Mapping, vae: Mapping) -> tuple:
    latent, mask = vae["latent_channels"], 2 * 8 * 8  # one channel per cell of 2 x 8 x 8 in a latent's pixels
    return (
        ("latent channels", latent, transformer["in_channels"], "vae"),
        ("context channels", 2 * latent + mask, transformer["in_context_channels"], "vae"),
        ("text width", text["d_model"], transformer["caption_channels"], "text_encoder"),
    )


FACTS = {"wan": _wan_facts, "ltx": _ltx_facts}


def check_parts(parts: Mapping[str, Part]) -> None:
    """Names and shapes of every tensor, and that the parts fit each other, before any long work. CheckpointError."""
    for part in parts.values():
        _match(_empty_model(part), part)
    transformer, text, vae = (parts[name].config for name in COMPONENTS)
    for what, given, wanted, name in FACTS[parts["transformer"].base](transformer, text, vae):
        if given != wanted:
            raise CheckpointError(
                f"{parts[name].source}: {given} {what}, the transformer takes {wanted}; these files are of two models"
            )


def build(
    part: Part,
    dtype: torch.dtype,
    device: str | torch.device = "cpu",
    quantize: str | None = None,
    change: Change | None = None,
) -> nn.Module:
    """The component with its weights on `device` in `dtype`, ready to run and without gradients.

    Each tensor goes there as it is read, so that the processor's memory never holds the whole of it. quantize: 'int8'
    or 'fp8', weights of the linear layers rounded as they arrive (see vace.speed.quantize; needs torchao), so that the
    device never holds the whole of them either. change: what is done to each tensor before that, by its name in the
    class (a LoRA that is fused). Raises CheckpointError, and what `vace.speed.quantize.rounder` raises.
    """
    model = _empty_model(part)
    wanted = _match(model, part)
    rounded, layers = _rounding(model, quantize, device)
    state = {}
    for key in wanted:
        tensor = part.weights.read(_file_key(part, key))
        tensor = tensor.to(device, torch.float32 if _stays_float32(part, key) else dtype)
        tensor = change(key, tensor) if change else tensor
        state[key] = rounded(tensor) if key in layers else tensor
    part.weights.close()
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval().to(device)  # tables that are computed, not stored, go there too


def _rounding(model: nn.Module, kind: str | None, device: str | torch.device) -> tuple[Callable | None, set[str]]:
    """What rounds a weight, and the weights it is for; nothing where none is asked for."""
    if kind is None:
        return None, set()
    from vace.speed.quantize import layer_names, rounder

    return rounder(kind, device), {f"{name}.weight" for name in layer_names(model)}


def device_bytes(part: Part, dtype: torch.dtype, quantize: str | None = None) -> int:
    """What the weights of `build(part, dtype, device, quantize)` take, from names and shapes alone.

    Raises CheckpointError for settings that make no model.
    """
    from vace.speed.quantize import layer_names, rounded_bytes

    model = _empty_model(part)
    rounded = {f"{name}.weight" for name in layer_names(model)} if quantize else set()
    total = sum(buffer.numel() * buffer.itemsize for buffer in model.buffers())
    for key, tensor in model.named_parameters():  # a table under two names counts once
        wide = torch.float32 if _stays_float32(part, key) else dtype
        total += rounded_bytes(tensor.shape, quantize) if key in rounded else tensor.numel() * wide.itemsize
    return total


def tensor_shapes(part: Part) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor its class holds, from the config alone. Raises CheckpointError."""
    return {key: tuple(tensor.shape) for key, tensor in _empty_model(part).state_dict().items()}


def _stays_float32(part: Part, key: str) -> bool:
    marks = _KEPT_FLOAT32.get((part.base, part.component), ())
    return any(mark in f"^{key}" for mark in marks)


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
    return _MAKERS[part.base, part.component](dict(part.config))


def _make_wan_transformer(config: dict) -> nn.Module:
    from diffusers import WanVACETransformer3DModel

    config.pop("text_len")
    config["patch_size"] = tuple(config["patch_size"])
    return WanVACETransformer3DModel(**config)


def _make_wan_vae(config: dict) -> nn.Module:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(**config)


def _make_umt5(config: dict) -> nn.Module:
    from transformers import UMT5Config, UMT5EncoderModel

    model = UMT5EncoderModel(UMT5Config.from_dict(config))
    model.encoder.embed_tokens = model.shared
    return model


def _make_ltx_transformer(config: dict) -> nn.Module:
    from vace.models.ltx.transformer import LTXVACETransformer3DModel

    return LTXVACETransformer3DModel(config)


def _make_ltx_vae(config: dict) -> nn.Module:
    from diffusers import AutoencoderKLLTXVideo

    return AutoencoderKLLTXVideo(**config)


def _make_t5(config: dict) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    model = T5EncoderModel(T5Config.from_dict(config))
    model.encoder.embed_tokens = model.shared
    return model


_MAKERS: Mapping[tuple[str, str], Callable[[dict], nn.Module]] = {
    ("wan", "transformer"): _make_wan_transformer,
    ("wan", "vae"): _make_wan_vae,
    ("wan", "text_encoder"): _make_umt5,
    ("ltx", "transformer"): _make_ltx_transformer,
    ("ltx", "vae"): _make_ltx_vae,
    ("ltx", "text_encoder"): _make_t5,
}


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
        raise CheckpointError(
            f"{part.source}: tensors do not fit the {part.component}: {', '.join(problems)}; "
            "download it again, or see whether it is of another model"
        )
    return wanted


def _file_key(part: Part, key: str) -> str | None:
    """Two text encoder conversions go round: the token table under one of its two names, or under both."""
    twins = {"shared.weight": "encoder.embed_tokens.weight", "encoder.embed_tokens.weight": "shared.weight"}
    return part.names.get(key) or part.names.get(twins.get(key, ""))
