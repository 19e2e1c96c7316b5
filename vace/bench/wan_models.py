"""The models that `vace bench wan` races, by name: checkpoints, published sizes with random weights, and `mid`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vace.errors import DeviceError, InputError, MissingWeights

if TYPE_CHECKING:
    from vace.models.parts import Part

MID = "mid"
PUBLISHED = {"vace-1.3B": "1.3B", "vace-14B": "14B"}  # name -> as vace.speed.memory_plans has it
STEPS, GUIDANCE, SHIFT = 50, 5.0, 16.0  # of the original's command line
# What a CPU does in minutes with arithmetic still outweighing calls: 1500 tokens of 17 frames, 512 channels.
MID_SIZE, MID_FRAMES, MID_STEPS = (320, 240), 17, 20
_MID_CONFIGS: Mapping[str, dict[str, Any]] = {
    "transformer": {
        "num_attention_heads": 4, "ffn_dim": 2048, "num_layers": 8, "vace_layers": [0, 2, 4, 6], "text_dim": 256,
    },
    "vae": {"base_dim": 32},
    "text_encoder": {"d_model": 256, "d_kv": 64, "d_ff": 512, "num_layers": 2, "num_heads": 4},
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model to race, nothing of it loaded, and the job it is raced with.

    weights: 'random' or 'checkpoint'. size: (width, height).
    """

    name: str
    weights: str
    parts: Mapping[str, Part]
    tokenizer: Any
    size: tuple[int, int]
    frames: int
    steps: int
    guidance: float
    shift: float
    negative: str
    is_toy: bool = False


def check_device(model_name: str | None, device: str) -> None:
    """Raise DeviceError for a full-sized model on a machine without CUDA, unless a device was said by hand."""
    import torch

    if model_name in (None, MID, "tiny") or device != "auto" or torch.cuda.is_available():
        return
    raise DeviceError(
        f"--model_name {model_name}: torch sees no CUDA device, and a processor would take days; run this command on "
        f"a machine with one, or give --model_name {MID}, or --device cpu all the same"
    )


def find_model(model_name: str | None, ckpt: str | None, has_random_weights: bool, device: str, seed: int = 0) -> Model:
    """The model of `--model_name` or `--ckpt_dir`; `mid` without either. device: where random weights are drawn.

    Raises InputError for a name that has no published size to draw, or both flags; MissingWeights and CheckpointError
    as the engine does.
    """
    if ckpt is not None and (model_name is not None or has_random_weights):
        other = "--model_name" if model_name is not None else "--random_weights"
        raise InputError(f"--ckpt_dir {ckpt}: with {other} it is not clear which model is meant; leave one out")
    if ckpt is None and model_name in (None, MID):
        return _drawn(MID, _mid_parts(), MID_SIZE, MID_FRAMES, MID_STEPS, device, seed)
    if not has_random_weights:
        return _of_checkpoint(ckpt, model_name)
    if model_name not in PUBLISHED:
        known = ", ".join((*PUBLISHED, MID))
        raise InputError(f"--model_name {model_name} --random_weights: can be drawn for {known}; give one of them")
    from vace.speed.memory_plans import published_parts

    return _drawn(model_name, published_parts(PUBLISHED[model_name]), (832, 480), 81, STEPS, device, seed)


def _drawn(
    name: str, parts: Mapping[str, Part], size: tuple[int, int], frames: int, steps: int, device: str, seed: int
) -> Model:
    """Random weights, and the embedded model's tokenizer: its tokens are among those of every encoder here."""
    from vace.bench.held_weights import drawn_part
    from vace.models.checkpoints import find_checkpoint
    from vace.models.text import load_tokenizer
    from vace.prompts import negative

    tokenizer = load_tokenizer(find_checkpoint("tiny", None).tokenizer)
    drawn = {component: drawn_part(part, device, seed) for component, part in parts.items()}
    return Model(name, "random", drawn, tokenizer, size, frames, steps, GUIDANCE, SHIFT, negative.WAN)


def _mid_parts() -> dict[str, Part]:
    """The 1.3B model's parts, smaller."""
    from dataclasses import replace

    from vace.speed.memory_plans import published_parts

    parts = published_parts("1.3B")
    small = {name: {**part.config, **_MID_CONFIGS[name]} for name, part in parts.items()}
    small["text_encoder"]["vocab_size"] = 4096  # more than the embedded tokenizer has
    return {name: replace(part, config=small[name], source=MID) for name, part in parts.items()}


def _of_checkpoint(ckpt: str | None, model_name: str | None) -> Model:
    from vace.models.checkpoints import find_checkpoint
    from vace.models.engine import check_checkpoint
    from vace.settings import resolve_settings

    try:
        checkpoint = find_checkpoint(ckpt, model_name)
    except MissingWeights as error:
        hint = "; or add --random_weights" if model_name in PUBLISHED else ""
        raise MissingWeights(f"{error}{hint}") from error
    parts, tokenizer = check_checkpoint(checkpoint)
    usual = resolve_settings("a benchmark", {}, checkpoint.defaults)
    negative = usual.base.negative if usual.negative_prompt is None else usual.negative_prompt
    return Model(
        checkpoint.name, "checkpoint", parts, tokenizer, usual.area.sides, usual.frame_num, usual.steps,
        usual.guidance_scale, usual.shift, negative, checkpoint.is_toy,
    )  # fmt: skip
