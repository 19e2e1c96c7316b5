"""Our LTX-VACE guidance step against the same without sharing rows, and against the plain pass, in the same run.

All three use the same weights and inputs. 'alone' is our pass with each row computed from the start; 'plain' is
`vace.bench.ltx_replay`, diffusers' blocks on a batch of all rows. Calls take turns, so that a busy machine slows all.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from vace.errors import InputError, nearest

SAMPLES = 7
STEPS = 40
TIMESTEP = 0.5
PRODUCTS = 5  # matrix products of which the fastest counts
FPS = 25.0
GUIDANCE, STG = 3.0, 1.0
TEXT_LENGTHS = (21, 60)  # tokens of a usual negative prompt, and of a paragraph
SIDES = ("shared", "alone", "plain")

_PUBLISHED = {
    "num_attention_heads": 32,
    "attention_head_dim": 64,
    "in_channels": 128,
    "out_channels": 128,
    "num_layers": 28,
    "cross_attention_dim": 2048,
    "caption_channels": 4096,
    "norm_eps": 1e-6,
    "norm_elementwise_affine": False,
    "qk_norm": "rms_norm_across_heads",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "rope_theta": 10000.0,
    "rope_max_pos": [20, 2048, 2048],
    "timestep_scale_multiplier": 1000,
    "in_context_channels": 384,
    "context_layers": list(range(0, 28, 2)),
}
# Models of random weights by name: config, (width, height), frames, skipped layers. 'full' has the published sizes with
# every second layer taking a hint; 'mid' is as much as a CPU does in a minute with arithmetic still outweighing calls.
RANDOM_MODELS: Mapping[str, dict[str, Any]] = {
    "full": {"config": _PUBLISHED, "size": (768, 512), "frames": 97, "skips": (19,)},
    "mid": {
        "config": {
            **_PUBLISHED,
            "num_attention_heads": 8,
            "num_layers": 14,
            "cross_attention_dim": 512,
            "caption_channels": 1024,
            "context_layers": list(range(0, 14, 2)),
        },
        "size": (320, 320),
        "frames": 41,
        "skips": (10,),
    },
}


def run(
    ckpt: str | None = None,
    random_weights: str = "mid",
    *,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    steps: int = STEPS,
    samples: int = SAMPLES,
    device: str = "cpu",
    dtype: str = "auto",
    seed: int = 0,
) -> dict[str, Any]:
    """Times a guidance step; see `run_model` for what comes back.

    ckpt: what `--ckpt_dir` takes; without one, a model of random weights serves, 'full' or 'mid'. Both also give size
    (width, height) and frames where these are None. Raises InputError for another name of random weights, and what
    finding and reading a checkpoint raises.
    """
    from vace.devices import pick_device, pick_dtype

    where = pick_device(device)
    if ckpt is not None:
        model, name, preset = _of_checkpoint(ckpt, where, pick_dtype(dtype, where))
    elif random_weights in RANDOM_MODELS:
        preset, name = RANDOM_MODELS[random_weights], f"random weights '{random_weights}'"
        model = random_model(preset["config"], where, pick_dtype(dtype, where), seed)
    else:
        raise InputError(f"--random_weights {random_weights}: unknown size; {nearest(random_weights, RANDOM_MODELS)}")
    return run_model(
        model, name, size=size or preset["size"], frames=frames or preset["frames"], skips=preset["skips"],
        steps=steps, samples=samples, seed=seed,
    )  # fmt: skip


def _of_checkpoint(ckpt: str, device: Any, dtype: Any) -> tuple[Any, str, dict[str, Any]]:
    """The transformer of a checkpoint, its name, and the size, frames and skipped layers of its usual video."""
    from vace.bases import LTX
    from vace.models.checkpoints import find_checkpoint
    from vace.models.engine import check_checkpoint
    from vace.models.loading import build
    from vace.settings import resolve_settings

    checkpoint = find_checkpoint(ckpt, None, base=LTX)
    parts, _ = check_checkpoint(checkpoint)
    usual = resolve_settings("a benchmark", {}, checkpoint.defaults, LTX)
    preset = {"size": usual.area.sides, "frames": usual.frame_num, "skips": usual.options["stg_skip_layers"]}
    return build(parts["transformer"], dtype, device), checkpoint.name, preset


def random_model(config: Mapping[str, Any], device: Any, dtype: Any, seed: int = 0) -> Any:
    """A transformer of that config with random weights, drawn on the device in the type: no file, no copy.

    Matrices are normal with variance 1 / inputs, gains around 1, biases and tables small, as in a model at work.
    """
    import torch
    from accelerate import init_empty_weights

    from vace.models.ltx.transformer import LTXVACETransformer3DModel

    with init_empty_weights():
        model = LTXVACETransformer3DModel(config)
    model = model.to(dtype).to_empty(device=device).requires_grad_(False).eval()
    generator = torch.Generator(device).manual_seed(seed)
    for name, value in model.named_parameters():
        value.normal_(generator=generator)
        if value.dim() == 2 and not name.endswith("scale_shift_table"):
            value.mul_(value.shape[1] ** -0.5)
        else:
            value.mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0)
    return model


def run_model(
    model: Any,
    name: str,
    *,
    size: tuple[int, int],
    frames: int,
    skips: tuple[int, ...],
    steps: int = STEPS,
    samples: int = SAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Times a step with the negative prompt, the prompt, and the prompt with `skips` skipped, on a model that is there.

    Keys: `step` with the medians in seconds of shared, alone and plain and the ratios plain / shared and alone /
    shared; `flops` of each side's step; `prepare` in seconds; `largest_difference` of alone and plain from shared,
    relative to the largest value; `job`, the seconds of a whole video's transformer work on our side; `rate`, the
    operations a second that are taken for possible (see `possible_rate`), `floor`, the seconds a step takes at least at
    that rate, and `floor_percent`, how near ours comes to it; `h100_floor` likewise on an H100.
    """
    import torch

    from vace.models.ltx import cost

    rows = cost.guided_rows(GUIDANCE, STG, skips)
    tokens = cost.token_count(*size, frames)
    device = model.proj_in.weight.device
    sides, prepare = _sides(model, rows, _inputs(model.config, size, frames, seed, device))
    outs = {side: sides[side]() for side in SIDES}
    scale = float(outs["shared"].abs().max())
    flops = {
        "shared": cost.transformer_flops(model.config, tokens, rows, TEXT_LENGTHS),
        "alone": cost.transformer_flops(model.config, tokens, rows, TEXT_LENGTHS, share=False),
        "plain": cost.replay_flops(model.config, tokens, rows),
    }
    step = _compare(sides, samples, device)
    preparing = _seconds(prepare, device)
    rate = possible_rate(device, model.proj_in.weight.dtype)
    floor = cost.floor_seconds(flops["shared"], rate)
    return {
        "model": name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "dtype": str(model.proj_in.weight.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "layers": model.config["num_layers"],
        "context_layers": list(model.config["context_layers"]),
        "skips": list(skips),
        "tokens": tokens,
        "rows": len(rows),
        "samples": samples,
        "steps": steps,
        "step": step,
        "flops": flops,
        "prepare": preparing,
        "job": preparing + steps * step["shared"],
        "largest_difference": {
            side: float((outs[side] - outs["shared"]).abs().max()) / scale for side in SIDES if side != "shared"
        },
        "rate": rate,
        "floor": floor,
        "h100_floor": cost.floor_seconds(flops["shared"]),
        "floor_percent": 100 * floor / step["shared"],
    }


def render(result: Mapping[str, Any]) -> str:
    """The result as a short markdown table with its conditions in words."""
    step, flops, differences = result["step"], result["flops"], result["largest_difference"]
    threads = f", {result['threads']} threads" if result["device"] == "cpu" else ""
    skipped = ", ".join(map(str, result["skips"]))
    lines = [
        f"LTX-VACE guidance step of {result['rows']} rows, {result['model']}: {result['layers']} layers, "
        f"{len(result['context_layers'])} context blocks, layer {skipped} skipped, {result['tokens']} tokens, "
        f"{result['device']} {result['dtype']}{threads}; medians of {result['samples']} calls in turns.",
        "",
        "| | s/step | Tflop | Tflop/s | times ours | difference |",
        "|---|---|---|---|---|---|",
    ]
    labels = {"shared": "ours", "alone": "ours, rows not shared", "plain": "diffusers' blocks, plain"}
    for side, label in labels.items():
        difference = f"{differences[side]:.1e}" if side in differences else ""
        lines.append(
            f"| {label} | {step[side]:.4g} | {flops[side] / 1e12:.4g} | {flops[side] / 1e12 / step[side]:.4g} "
            f"| {step[side] / step['shared']:.2f} | {difference} |"
        )
    lines += ["", f"Preparing a video takes {result['prepare']:.3g} s; {result['steps']} steps {result['job']:.4g} s."]
    lines.append(
        f"The floor is {result['floor']:.4g} s a step, at {result['rate'] / 1e12:.4g} Tflop/s as large matrix products "
        f"reach: {result['floor_percent']:.0f} % of it reached. On an H100 it is {result['h100_floor']:.4g} s."
    )
    return "\n".join(lines)


def possible_rate(device: Any, dtype: Any) -> float:
    """Operations a second that the device can do: what matrix products reach, on an H100 the published figure."""
    import torch

    from vace.models.ltx.cost import H100_RATE

    if device.type == "cuda" and "H100" in torch.cuda.get_device_name(device) and dtype == torch.bfloat16:
        return H100_RATE
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    times = [_seconds(lambda: left @ right, device) for _ in range(PRODUCTS)]
    return 2 * side**3 / min(times)


def _inputs(config: Mapping[str, Any], size: tuple[int, int], frames: int, seed: int, device: Any) -> dict[str, Any]:
    """Noise of the shapes of a real job, and the grid of a clip without references."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    axes = (math.ceil(frames / 8), size[1] // 32, size[0] // 32)
    grid = torch.meshgrid(*(torch.arange(count, dtype=torch.float32) for count in axes), indexing="ij")
    positions = torch.stack([axis.flatten() for axis in grid]) * torch.tensor([[8 / FPS], [32.0], [32.0]])

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    tokens = positions.shape[1]
    return {
        "latents": draw(tokens, config["in_channels"]),
        "context": draw(tokens, config["in_context_channels"]),
        "positions": positions.to(device),
        "texts": [draw(length, config["caption_channels"]) for length in TEXT_LENGTHS],
    }


def _sides(model: Any, rows: list, inputs: Mapping[str, Any]) -> tuple[dict[str, Callable[[], Any]], Callable[[], Any]]:
    """Each side's step as a call without arguments, and our preparing."""
    from vace.bench import ltx_replay
    from vace.models.ltx import forward

    rows = [forward.Row(*row) for row in rows]
    latents, context, positions, texts = (inputs[key] for key in ("latents", "context", "positions", "texts"))

    def prepare() -> forward.Job:
        return forward.prepare(model, context, positions, texts)

    job = prepare()
    sides = {
        "shared": lambda: forward.predict(model, latents, TIMESTEP, job, rows),
        "alone": lambda: forward.predict(model, latents, TIMESTEP, job, rows, share=False),
        "plain": lambda: ltx_replay.predict(model, latents, TIMESTEP, context, positions, texts, rows),
    }
    return sides, prepare


def _compare(sides: Mapping[str, Callable[[], Any]], samples: int, device: Any) -> dict[str, float]:
    """Median seconds of each side, called in turns, and the ratios; every side has been called once before."""
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for i in range(samples):
        for side in SIDES if i % 2 == 0 else reversed(SIDES):
            times[side].append(_seconds(sides[side], device))
    medians = {side: statistics.median(values) for side, values in times.items()}
    ratios = {f"{side}_ratio": medians[side] / medians["shared"] for side in SIDES if side != "shared"}
    return medians | ratios


def _seconds(call: Callable[[], Any], device: Any) -> float:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
