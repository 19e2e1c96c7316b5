"""MiDaS DPT-hybrid: the original file's tensors by their names in transformers, its settings by their shapes.

Also what loads tensors by such names into a model (`empty`, `fill`, `folder_files`), for Depth Anything too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vace.errors import CheckpointError
from vace.weight_files import Shape, WeightFiles, find_files, open_weights, read_json

Names = Mapping[str, tuple[str, ...]]  # stored tensor -> where it goes; several: in equal parts along its first axis

# Trained, or made by the class, but of no consequence for depth: may be there or not.
IDLE_ORIGINAL = ("pretrained.model.head.", "pretrained.model.norm.", "scratch.refinenet4.resConfUnit1.")
IDLE = ("dpt.pooler.", "dpt.layernorm.", "neck.fusion_stage.layers.0.residual_layer1.")

PATCH = 16
HEAD_WIDTH = 64  # of one attention head in every ViT that DPT and DINOv2 come in
STAGES = 3
_LISTED = 4
_BAD_SETTINGS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError)
_VIT = "pretrained.model"
_BIT = f"{_VIT}.patch_embed.backbone"
_NEW_BIT = "dpt.embeddings.backbone.bit"


def count(shapes: Mapping[str, Shape], start: str) -> int:
    """How many numbers follow `start` in the tensors' names: start0., start1. ..."""
    numbers = {key[len(start) :].partition(".")[0] for key in shapes if key.startswith(start)}
    return max((int(number) for number in numbers if number.isdigit()), default=-1) + 1


def config_of(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Settings of transformers' DPTConfig for the original's tensors. Raises KeyError with the name of an absent one.

    What shapes cannot tell is the published model's: heads of 64, the ResNet's features after two stages, the last
    third's first and the last layer (0, 1, 8, 11 of 12), timm's epsilon.
    """
    width = shapes[f"{_VIT}.cls_token"][-1]
    layers = count(shapes, f"{_VIT}.blocks.")
    stages = [shapes[f"{_BIT}.stages.{stage}.blocks.0.conv3.weight"][0] for stage in range(STAGES)]
    side = int((shapes[f"{_VIT}.pos_embed"][1] - 1) ** 0.5)
    return {
        "is_hybrid": True,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // HEAD_WIDTH),
        "intermediate_size": shapes[f"{_VIT}.blocks.0.mlp.fc1.weight"][0],
        "layer_norm_eps": 1e-6,
        "image_size": side * PATCH,
        "patch_size": PATCH,
        "backbone_out_indices": [0, 1, layers * 3 // 4 - 1, layers - 1],
        "backbone_featmap_shape": [1, stages[-1], side, side],
        "neck_hidden_sizes": [shapes[f"scratch.layer{n}_rn.weight"][1] for n in (1, 2, 3, 4)],
        "fusion_hidden_size": shapes["scratch.layer1_rn.weight"][0],
        "reassemble_factors": [1, 1, 1, 0.5],
        "readout_type": "project",
        "backbone_config": {
            "model_type": "bit",
            "layer_type": "bottleneck",
            "global_padding": "same",
            "embedding_dynamic_padding": True,
            "embedding_size": shapes[f"{_BIT}.stem.conv.weight"][0],
            "hidden_sizes": stages,
            "depths": [count(shapes, f"{_BIT}.stages.{stage}.blocks.") for stage in range(STAGES)],
            "out_features": [f"stage{stage + 1}" for stage in range(STAGES)],
        },
    }


def original_names(shapes: Mapping[str, Shape]) -> Names:
    """Every tensor of an original with as many layers and blocks as `shapes`, and where it goes."""
    names = {f"{_VIT}.cls_token": ("dpt.embeddings.cls_token",)}
    names[f"{_VIT}.pos_embed"] = ("dpt.embeddings.position_embeddings",)
    for stage in range(STAGES):
        for block in range(count(shapes, f"{_BIT}.stages.{stage}.blocks.")):
            names |= with_suffixes(_block_names(stage, block))
    for layer in range(count(shapes, f"{_VIT}.blocks.")):
        old, new = f"{_VIT}.blocks.{layer}", f"dpt.encoder.layer.{layer}"
        names |= with_suffixes((f"{old}.{a}", f"{new}.{b}", True) for a, b in _LAYER)
        for suffix in ("weight", "bias"):
            parts = (f"{new}.attention.attention.{part}.{suffix}" for part in ("query", "key", "value"))
            names[f"{old}.attn.qkv.{suffix}"] = tuple(parts)
    return names | with_suffixes(_OUTSIDE) | with_suffixes(fusion_names("scratch"))


_LAYER = (
    ("norm1", "layernorm_before"),
    ("attn.proj", "attention.output.dense"),
    ("norm2", "layernorm_after"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
)
_OUTSIDE = (  # old, new, whether it has a bias
    (f"{_BIT}.stem.conv", f"{_NEW_BIT}.embedder.convolution", False),
    (f"{_BIT}.stem.norm", f"{_NEW_BIT}.embedder.norm", True),
    (f"{_VIT}.patch_embed.proj", "dpt.embeddings.projection", True),
    (f"{_VIT}.norm", "dpt.layernorm", True),
    ("pretrained.act_postprocess3.0.project.0", "neck.reassemble_stage.readout_projects.2.0", True),
    ("pretrained.act_postprocess4.0.project.0", "neck.reassemble_stage.readout_projects.3.0", True),
    ("pretrained.act_postprocess3.3", "neck.reassemble_stage.layers.2.projection", True),
    ("pretrained.act_postprocess4.3", "neck.reassemble_stage.layers.3.projection", True),
    ("pretrained.act_postprocess4.4", "neck.reassemble_stage.layers.3.resize", True),
    ("scratch.output_conv.0", "head.head.0", True),
    ("scratch.output_conv.2", "head.head.2", True),
    ("scratch.output_conv.4", "head.head.4", True),
)


def _block_names(stage: int, block: int) -> Iterator[tuple[str, str, bool]]:
    old, new = f"{_BIT}.stages.{stage}.blocks.{block}", f"{_NEW_BIT}.encoder.stages.{stage}.layers.{block}"
    for part in ("downsample.",) * (block == 0) + ("",):
        for number in ("",) if part else (1, 2, 3):
            yield f"{old}.{part}conv{number}", f"{new}.{part}conv{number}", False
            yield f"{old}.{part}norm{number}", f"{new}.{part}norm{number}", True


def fusion_names(scratch: str) -> Iterator[tuple[str, str, bool]]:
    """DPT's fusion of four maps, below `scratch`: the original counts from the finest, transformers from the last."""
    for n in (1, 2, 3, 4):
        old, new = f"{scratch}.refinenet{n}", f"neck.fusion_stage.layers.{4 - n}"
        yield f"{scratch}.layer{n}_rn", f"neck.convs.{n - 1}", False
        yield f"{old}.out_conv", f"{new}.projection", True
        for unit in (1, 2):
            for conv in (1, 2):
                yield f"{old}.resConfUnit{unit}.conv{conv}", f"{new}.residual_layer{unit}.convolution{conv}", True


def with_suffixes(rows: Iterable[tuple[str, str, bool]]) -> dict[str, tuple[str, ...]]:
    """(old, new, has bias) rows as names of tensors."""
    return {
        f"{old}.{suffix}": (f"{new}.{suffix}",)
        for old, new, has_bias in rows
        for suffix in (("weight", "bias") if has_bias else ("weight",))
    }


def folder_files(folder: Path, model_type: str) -> tuple[dict[str, Any], WeightFiles]:
    """Settings and tensors of a folder in transformers' layout. Raises CheckpointError where it holds another model."""
    config, files = read_json(folder / "config.json"), find_files(folder, "model")
    if config.get("model_type") != model_type:
        raise CheckpointError(f"{folder}: holds a model of type '{config.get('model_type')}', not '{model_type}'")
    if not files:
        raise CheckpointError(f"{folder}: has no model.safetensors; download it again")
    return config, open_weights(files)


def empty(make: Callable[[], Any], source: str) -> Any:
    """The model that `make` makes, without memory for its weights. CheckpointError where its settings make none."""
    from accelerate import init_empty_weights
    from huggingface_hub.errors import StrictDataclassError

    try:
        with init_empty_weights(include_buffers=False):
            return make()
    except KeyError as error:
        raise CheckpointError(f"{source}: not the network it is named after: it has no {error}") from error
    except (*_BAD_SETTINGS, StrictDataclassError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{source}: its settings or shapes make no network ({reason})") from error


def fill(model: Any, weights: WeightFiles, names: Names, idle: Sequence[str], source: str) -> Any:
    """`model` (made without memory) with the tensors of `weights`, as float32, ready to run.

    names: every tensor that is expected, by its stored name. idle: starts of stored names that need not be there.
    Raises CheckpointError that lists the tensors which are missing, unknown or of another shape.
    """
    import torch

    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _check(weights.shapes, names, wanted, tuple(idle), source)
    state = {}
    for key, targets in names.items():
        if key in weights.shapes:
            parts = weights.read(key).to(torch.float32).chunk(len(targets))
            state.update(zip(targets, parts, strict=True))
        else:
            state.update({target: torch.zeros(wanted[target]) for target in targets})
    weights.close()
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def _check(
    shapes: Mapping[str, Shape], names: Names, wanted: Mapping[str, Shape], idle: tuple[str, ...], source: str
) -> None:
    missing = [key for key in names if key not in shapes and not key.startswith(idle)]
    unknown = [key for key in shapes if key not in names and not key.startswith(idle)]
    shaped = []
    for key, targets in names.items():
        first = wanted[targets[0]]
        expected = (first[0] * len(targets), *first[1:])
        if key in shapes and shapes[key] != expected:
            shaped.append(f"{key} {list(shapes[key])} where {list(expected)} is expected")
    problems = [
        f"{len(keys)} {what} ({'; '.join(keys[:_LISTED])}{' ...' if len(keys) > _LISTED else ''})"
        for what, keys in (("missing", missing), ("unknown", unknown), ("mis-shaped", shaped))
        if keys
    ]
    if problems:
        raise CheckpointError(f"{source}: its tensors do not fit: {', '.join(problems)}; download it again")
