"""Sizes of a VACE-LTX checkpoint's parts, from its tensors' names and shapes checked against what its metadata states.

Everything here is arithmetic on names and shapes under the classes' spelling (see keymaps.py): no torch, no loading.
Sizes come from the tensors; what no shape tells (head count, the length of a rotary turn) from the stated settings,
else the original's values. Where both speak and differ the file is damaged or foreign, which is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from vace.errors import CheckpointError
from vace.models.configs import Shapes, count_blocks
from vace.models.ltx.keymaps import COMPRESS, PREFIXES, RES_X, RES_X_Y, STAGES

HUB_ID = "ali-vilab/VACE-LTX-Video-0.9"
PUBLISHED_HEADS = {(2048, 28): 32}  # (width, layers) -> heads, which no shape shows
_CONTEXT_INPUT = "patchify_context_proj.weight"

# The original's spelling of a setting -> the class's.
_CLASS_SPELLING = {
    "positional_embedding_theta": "rope_theta",
    "positional_embedding_max_pos": "rope_max_pos",
    "context_num_layers": "context_layers",
}
# What the original has where neither tensors nor settings speak.
_UNSHAPED = {
    "norm_eps": 1e-6,
    "activation_fn": "gelu-approximate",
    "rope_theta": 10000.0,
    "rope_max_pos": [20, 2048, 2048],
    "timestep_scale_multiplier": 1000,
}
# Settings that ask for another model than ours when they are stated and differ.
_TRANSFORMER_KIND = {
    "qk_norm": ("rms_norm", "rms_norm_across_heads"),
    "standardization_norm": ("rms_norm",),
    "adaptive_norm": ("single_scale_shift",),
    "positional_embedding_type": ("rope",),
    "causal_temporal_positioning": (False,),
}
_VAE_KIND = {
    "norm_layer": ("pixel_norm",),
    "latent_log_var": ("uniform",),
    "use_quant_conv": (False,),
    "dims": (3,),
    "patch_size_t": (1,),
}
_PLACES = 8  # 2 x 2 x 2: over how many places an upsampling spreads the channels of one


def is_ltx(keys: Iterable[str]) -> bool:
    """Whether these are the tensors of VACE-LTX: LTX-Video's transformer with context blocks."""
    return any(key.removeprefix(PREFIXES["transformer"]) == _CONTEXT_INPUT for key in keys)


def check_is_ltx(keys: Iterable[str], source: str) -> None:
    """Raises CheckpointError, saying what the file is instead and where to get the right one, unless `is_ltx`."""
    names = {re.sub(r"^(model\.)?(diffusion_model\.)?", "", key) for key in keys}
    if _CONTEXT_INPUT in names:
        return
    if "patchify_proj.weight" in names:
        found = f"this is LTX-Video without VACE; get {HUB_ID}"
    elif any(name.startswith(("vace_patch_embedding.", "patch_embedding.")) for name in names):
        found = f"these are weights of Wan, which run with --base wan; for LTX get {HUB_ID}"
    else:
        found = f"no weights of VACE-LTX-Video (no '{_CONTEXT_INPUT}'); get {HUB_ID}"
    raise CheckpointError(f"{source}: {found}")


def transformer_config(shapes: Shapes, stated: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The config of LTXVACETransformer3DModel.

    shapes: under the class's spelling. stated: the metadata's settings of the transformer, or {}. source: the file to
    name in an error. Raises CheckpointError for another model, for settings that the tensors contradict, and for a
    head count that nothing tells.
    """
    config = _transformer_from_shapes(shapes, source)
    width = config.pop("width")
    _check_kind(stated, _TRANSFORMER_KIND, source)
    said = {_CLASS_SPELLING.get(key, key): value for key, value in stated.items() if value is not None}
    if isinstance(said.get("context_layers"), int):
        said["context_layers"] = list(range(said["context_layers"]))
    _check_agreement({key: (said[key], value) for key, value in config.items() if key in said}, source)
    config |= {key: said.get(key, value) for key, value in _UNSHAPED.items()}
    heads = said.get("num_attention_heads") or PUBLISHED_HEADS.get((width, config["num_layers"]))
    if heads is None:
        raise CheckpointError(
            f"{source}: num_attention_heads cannot be told from the tensors (width {width}, {config['num_layers']} "
            "layers); give --config FILE, a json with num_attention_heads"
        )
    config["num_attention_heads"] = heads
    _check_values(config, source)
    if width % heads or said.get("attention_head_dim", width // heads) != width // heads:
        size = f" of {said['attention_head_dim']}" if "attention_head_dim" in said else ""
        raise CheckpointError(f"{source}: a width of {width} does not divide into {heads} heads{size}")
    return {**config, "attention_head_dim": width // heads, "qk_norm": "rms_norm_across_heads"}


def vae_config(shapes: Shapes, stated: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Arguments of AutoencoderKLLTXVideo, for the kinds of 0.9 and of 0.9.1.

    shapes: under the class's spelling. stated: the metadata's settings of the VAE, in the original's spelling, or {}.
    Raises CheckpointError for another kind of VAE, and for settings that the tensors contradict.
    """
    _check_kind(stated, _VAE_KIND, source)
    try:
        return _vae_config(shapes, stated, source)
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise CheckpointError(f"{source}: not an LTX VAE of kind 0.9 or 0.9.1 (no usable {error})") from error


def scheduler_config(stated: Mapping[str, Any], source: str = "the checkpoint") -> dict[str, Any]:
    """num_train_timesteps, shifting and target_shift_terminal (None: no stretch), as stated or as the original's file.

    Raises CheckpointError for another shifting than SD3's, and for values that make no schedule.
    """
    config = {"num_train_timesteps": 1000, "shifting": "SD3", "target_shift_terminal": 0.1}
    config.update({key: stated[key] for key in config if key in stated})
    if config["shifting"] != "SD3":
        raise CheckpointError(f"{source}: its scheduler shifts by {config['shifting']!r}; VACE-LTX is made for 'SD3'")
    terminal = config["target_shift_terminal"]
    if not _is_whole(config["num_train_timesteps"]) or (
        terminal is not None and not (_is_number(terminal) and 0 <= terminal < 1)
    ):
        raise CheckpointError(f"{source}: its scheduler's settings make no sense: {config}")
    return config


def _transformer_from_shapes(shapes: Shapes, source: str) -> dict[str, Any]:
    block = "transformer_blocks.0"
    try:
        width, channels = shapes["proj_in.weight"]
        config = {
            "width": width,
            "in_channels": channels,
            "out_channels": shapes["proj_out.weight"][0],
            "num_layers": count_blocks(shapes, "transformer_blocks"),
            "cross_attention_dim": shapes[f"{block}.attn2.to_k.weight"][1],
            "caption_channels": shapes["caption_projection.linear_1.weight"][1],
            "norm_elementwise_affine": f"{block}.norm1.weight" in shapes,
            "attention_bias": f"{block}.attn1.to_q.bias" in shapes,
            "in_context_channels": shapes[_CONTEXT_INPUT][1],
        }
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{source}: not a VACE-LTX transformer (no usable {error})") from error
    pattern = re.compile(r"transformer_context_blocks\.(\d+)\.")
    config["context_layers"] = sorted({int(match[1]) for key in shapes if (match := pattern.match(key))})
    if not config["context_layers"] or config["context_layers"][-1] >= config["num_layers"]:
        raise CheckpointError(
            f"{source}: context blocks {config['context_layers']} do not fit {config['num_layers']} layers"
        )
    return config


@dataclass(frozen=True)
class _Stage:
    """One stage of the VAE: its residual blocks, and what resamples it.

    width: of the stage's resampling, else of its residual blocks. multiplier: by how much the resampling changes the
    width, None without one. step: by how much the block that changes the width does, None without one.
    """

    layers: int
    width: int
    has_noise: bool
    multiplier: int | None
    step: int | None

    def blocks(self, half: str) -> list[tuple[str, dict[str, Any]]]:
        """The stage as the original lists it: kind and settings, in the order they run."""
        found = {
            RES_X: {"num_layers": self.layers, "inject_noise": self.has_noise} if self.layers else None,
            COMPRESS: {"multiplier": self.multiplier} if self.multiplier else None,
            RES_X_Y: {"multiplier": self.step} if self.step else None,
        }
        return [(kind, found[kind]) for kind in STAGES[half][1] if found[kind] is not None]


def _vae_config(shapes: Shapes, stated: Mapping[str, Any], source: str) -> dict[str, Any]:
    if any(".downsamplers.0.conv.conv." in key for key in shapes):
        raise CheckpointError(f"{source}: a VAE of LTX-Video 0.9.5 or later; VACE-LTX needs that of {HUB_ID}")
    down, up = _encoder_stages(shapes), _decoder_stages(shapes)
    middle = {half: _middle(shapes, half) for half in STAGES}
    latent = shapes["decoder.conv_in.conv.weight"][1]
    if shapes["encoder.conv_out.conv.weight"][0] != latent + 1:
        raise CheckpointError(
            f"{source}: its VAE gives {shapes['encoder.conv_out.conv.weight'][0]} channels for {latent} latent ones; "
            "a mean each and one variance for all are expected"
        )
    colours = stated.get("in_channels", 3)
    patch = math.isqrt(shapes["encoder.conv_in.conv.weight"][1] // colours)
    facts = {
        "in_channels": shapes["encoder.conv_in.conv.weight"][1] // patch**2,
        "out_channels": shapes["decoder.conv_out.conv.weight"][0] // patch**2,
        "latent_channels": latent,
        "patch_size": patch,
        "timestep_conditioning": any(key.startswith("decoder.time_embedder.") for key in shapes),
    }
    found = {
        "encoder": [*(block for stage in down for block in stage.blocks("encoder")), middle["encoder"]],
        "decoder": [middle["decoder"], *(block for stage in up for block in stage.blocks("decoder"))],
    }
    said = {half: _stated_blocks(stated, half, source) for half in STAGES}
    for half in STAGES:
        if said[half] is not None:
            _check_blocks(half, said[half], found[half], source)
    _check_agreement({key: (stated[key], value) for key, value in facts.items() if key in stated}, source)
    layers = {half: middle[half][1] for half in STAGES}
    last_first = up[::-1]  # the class lists the decoder's stages from the video's side
    return {
        **facts,
        "block_out_channels": [stage.width for stage in down],
        "down_block_types": ["LTXVideoDownBlock3D"] * len(down),
        "downsample_type": ["conv"] * len(down),
        "spatio_temporal_scaling": [stage.multiplier is not None for stage in down],
        "layers_per_block": [*(stage.layers for stage in down), layers["encoder"]["num_layers"]],
        "decoder_block_out_channels": [stage.width for stage in last_first],
        "decoder_spatio_temporal_scaling": [stage.multiplier is not None for stage in last_first],
        "decoder_layers_per_block": [*(stage.layers for stage in last_first), layers["decoder"]["num_layers"]],
        "decoder_inject_noise": [*(stage.has_noise for stage in last_first), layers["decoder"]["inject_noise"]],
        "upsample_factor": [stage.multiplier or 1 for stage in last_first],
        "upsample_residual": _residuals(up, said["decoder"])[::-1],
        "encoder_causal": True,
        "decoder_causal": bool(stated.get("causal_decoder", False)),
    }


def _encoder_stages(shapes: Shapes) -> list[_Stage]:
    width, stages = shapes["encoder.conv_in.conv.weight"][0], []
    for number in range(count_blocks(shapes, "encoder.down_blocks")):
        place = f"encoder.down_blocks.{number}"
        wider = shapes.get(f"{place}.conv_out.conv1.conv.weight", (None,))[0]
        resamples = f"{place}.downsamplers.0.conv.weight" in shapes
        layers = count_blocks(shapes, f"{place}.resnets")
        stages.append(_Stage(layers, width, False, 1 if resamples else None, wider and wider // width))
        width = wider or width
    if not stages or stages[-1].step is not None:
        raise ValueError("last stage in its encoder, which keeps its width")
    return stages


def _decoder_stages(shapes: Shapes) -> list[_Stage]:
    width, stages = shapes["decoder.conv_in.conv.weight"][0], []
    for number in range(count_blocks(shapes, "decoder.up_blocks")):
        place = f"decoder.up_blocks.{number}"
        narrower = shapes.get(f"{place}.conv_in.conv1.conv.weight", (None,))[0]
        step, multiplier = narrower and width // narrower, None
        width = stage_width = narrower or width
        if f"{place}.upsamplers.0.conv.conv.weight" in shapes:
            out, stage_width = shapes[f"{place}.upsamplers.0.conv.conv.weight"][:2]
            multiplier = stage_width * _PLACES // out
            width = stage_width // multiplier
        layers = count_blocks(shapes, f"{place}.resnets")
        has_noise = f"{place}.resnets.0.per_channel_scale1" in shapes
        stages.append(_Stage(layers, stage_width, has_noise, multiplier, step))
    if not stages:
        raise ValueError("stage in its decoder")
    return stages


def _middle(shapes: Shapes, half: str) -> tuple[str, dict[str, Any]]:
    place = f"{half}.mid_block.resnets"
    has_noise = f"{place}.0.per_channel_scale1" in shapes
    return RES_X, {"num_layers": count_blocks(shapes, place), "inject_noise": has_noise}


def _stated_blocks(stated: Mapping[str, Any], half: str, source: str) -> list[tuple[str, dict[str, Any]]] | None:
    """The blocks the metadata lists, in the order they run, with the original's defaults; None where it lists none."""
    listed = stated.get(f"{half}_blocks", stated.get("blocks"))
    if listed is None:
        return None
    blocks = []
    for entry in listed if isinstance(listed, Sequence) else [None]:
        if not isinstance(entry, Sequence) or len(entry) != 2 or not isinstance(entry[1], (int, Mapping)):
            raise CheckpointError(
                f"{source}: its metadata lists {entry!r} among the VAE's blocks; [kind, layers] is meant"
            )
        kind, settings = entry
        settings = {"num_layers": settings} if isinstance(settings, int) else dict(settings)
        blocks.append((kind, {"multiplier": 2 if kind == RES_X_Y else 1, "inject_noise": False} | settings))
    return blocks if half == "encoder" else blocks[::-1]  # the decoder runs the list backwards


def _check_blocks(half: str, said: Sequence, found: Sequence, source: str) -> None:
    for number, ((kind, told), (shown, facts)) in enumerate(zip(said, found, strict=False)):
        wrong = [key for key, value in facts.items() if kind == shown and told.get(key) != value]
        if kind != shown or wrong:
            one, other = ({key: settings.get(key) for key in wrong} for settings in (told, facts))
            _disagree(f"block {number} of the VAE's {half} {kind} {one} and {shown} {other}", source)
    if len(said) != len(found):
        _disagree(f"blocks of the VAE's {half} {len(said)} and {len(found)}", source)


def _residuals(stages: Sequence[_Stage], said: Sequence | None) -> list[bool]:
    """Whether each stage's upsampling has a way around it: as stated, else as the kind 0.9.1 has it and 0.9 has not."""
    stated = iter([] if said is None else [bool(one.get("residual")) for kind, one in said if kind == COMPRESS])
    return [stage.multiplier is not None and next(stated, stage.multiplier > 1) for stage in stages]


def _check_kind(stated: Mapping[str, Any], kinds: Mapping[str, tuple], source: str) -> None:
    for key, known in kinds.items():
        if stated.get(key) is not None and stated[key] not in known:
            raise CheckpointError(
                f"{source}: its {key} is {stated[key]!r}, where VACE-LTX has {known[0]!r}; get {HUB_ID}"
            )


def _check_agreement(pairs: Mapping[str, tuple[Any, Any]], source: str) -> None:
    """pairs: setting -> (as stated, as the tensors show)."""
    differing = [f"{key} {said!r} and {found!r}" for key, (said, found) in pairs.items() if said != found]
    if differing:
        _disagree(", ".join(differing), source)


def _disagree(what: str, source: str) -> NoReturn:
    raise CheckpointError(
        f"{source}: its metadata and its tensors disagree: {what}; "
        f"this file is damaged or of another model, get {HUB_ID}"
    )


def _check_values(config: Mapping[str, Any], source: str) -> None:
    """Kinds of value, since the class takes anything and fails much later."""
    numbers = ("norm_eps", "rope_theta", "timestep_scale_multiplier")
    wrong = [key for key in numbers if not (_is_number(config[key]) and config[key] > 0)]
    if not _is_whole(config["num_attention_heads"]):
        wrong.append("num_attention_heads")
    ends = config["rope_max_pos"]
    if not isinstance(ends, (list, tuple)) or len(ends) != 3 or not all(_is_number(end) and end > 0 for end in ends):
        wrong.append("rope_max_pos")
    if wrong:
        values = ", ".join(f"{key} = {config[key]!r}" for key in wrong)
        raise CheckpointError(f"{source}: its settings make no sense: {values}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
