"""Our Wan-VACE forward pass against diffusers' own, on the same weights and inputs, in the same run.

Both passes share the class, its blocks and its attention; what differs is what surrounds them: hints just in time and
everything that does not change over the steps prepared once. Calls are interleaved, so that a busy machine slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

SAMPLES = 9
GUIDANCE = 5.0
TIMESTEP = 500.0


def run(
    ckpt: str = "tiny",
    *,
    size: tuple[int, int] = (160, 96),
    frames: int = 17,
    samples: int = SAMPLES,
    device: str = "cpu",
    dtype: str = "float32",
    seed: int = 0,
) -> dict[str, Any]:
    """Times both forward passes and both guided steps on a clip of `size` (width, height) and `frames` frames.

    ckpt: what `--ckpt_dir` takes. Keys: shapes and tokens, `forward` and `guided_step` with the medians in seconds of
    both sides and their ratio (ours / theirs; under 1 is faster), samples, max_difference of the velocities, threads.
    """
    import torch

    from vace.devices import pick_device, pick_dtype, toy_threads
    from vace.models.checkpoints import find_checkpoint
    from vace.models.loading import build, check_parts
    from vace.models.parts import COMPONENTS, read_part
    from vace.models.wan.cost import token_count

    checkpoint = find_checkpoint(ckpt, None)
    with toy_threads(checkpoint.is_toy):
        where = pick_device(device)
        kind = pick_dtype(dtype, where)
        parts = {name: read_part(checkpoint, name) for name in COMPONENTS}
        check_parts(parts)
        config = parts["transformer"].config
        model = build(parts["transformer"], kind).to(where)
        inputs = _inputs(config, size, frames, seed, where)
        passes = _passes(model, config["text_len"], inputs)
        with torch.no_grad():
            ours, theirs = (passes[name](0).float() for name in ("ours", "diffusers"))
        return {
            "checkpoint": checkpoint.name,
            "device": str(where),
            "dtype": str(kind).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "latent": list(inputs["latents"].shape),
            "tokens": token_count(config, *size, frames),
            "text_tokens": config["text_len"],
            "samples": samples,
            "max_difference": float((ours - theirs).abs().max()),
            "forward": _compare(lambda name: passes[name](0), samples, where),
            "guided_step": _compare(lambda name: _guided(passes[name]), samples, where),
        }


def render(result: Mapping[str, Any]) -> str:
    """The result as a short markdown table with its conditions in words."""
    latent = "x".join(map(str, result["latent"]))
    lines = [
        f"Wan-VACE forward, `{result['checkpoint']}`, {result['device']} {result['dtype']}, "
        f"{result['threads']} threads: latent {latent}, {result['tokens']} video tokens, {result['text_tokens']} text "
        f"tokens; medians of {result['samples']} interleaved calls; largest difference {result['max_difference']:.1e}.",
        "",
        "| | ours, ms | diffusers, ms | ratio |",
        "|---|---|---|---|",
    ]
    for key, label in (("forward", "one forward"), ("guided_step", "one step with guidance")):
        row = result[key]
        lines.append(f"| {label} | {row['ours'] * 1e3:.1f} | {row['diffusers'] * 1e3:.1f} | {row['ratio']:.2f} |")
    return "\n".join(lines)


def _inputs(config: Mapping[str, Any], size: tuple[int, int], frames: int, seed: int, device: Any) -> dict[str, Any]:
    """Noise of the shapes of a real job; `states` are those of a prompt and of a negative prompt."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    grid = ((frames - 1) // 4 + 1, size[1] // 8, size[0] // 8)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    return {
        "latents": draw(config["in_channels"], *grid),
        "context": draw(config["vace_in_channels"], *grid),
        "states": [draw(config["text_len"] // part, config["text_dim"]) for part in (2, 4)],
    }


def _passes(model: Any, text_len: int, inputs: Mapping[str, Any]) -> dict[str, Callable[[int], Any]]:
    """branch (0 prompt, 1 negative) -> velocity, by each side's code. Ours prepares its constants here, once."""
    import torch

    from vace.models.wan import transformer

    job = transformer.prepare(model, inputs["context"])
    embedded = [transformer.embed_text(model, states, text_len) for states in inputs["states"]]
    weight = model.patch_embedding.weight
    padded = [torch.zeros(1, text_len, states.shape[1]).to(weight) for states in inputs["states"]]
    for target, states in zip(padded, inputs["states"], strict=True):
        target[0, : states.shape[0]] = states
    timestep = torch.tensor([TIMESTEP], device=weight.device)

    def ours(branch: int) -> torch.Tensor:
        return transformer.predict_velocity(model, inputs["latents"], TIMESTEP, embedded[branch], job)

    @torch.no_grad()
    def diffusers(branch: int) -> torch.Tensor:
        return model(
            hidden_states=inputs["latents"].unsqueeze(0).to(weight),
            timestep=timestep,
            encoder_hidden_states=padded[branch],
            control_hidden_states=inputs["context"].unsqueeze(0).to(weight),
            return_dict=False,
        )[0][0]

    return {"ours": ours, "diffusers": diffusers}


def _guided(one_pass: Callable[[int], Any]) -> Any:
    cond, uncond = one_pass(0).float(), one_pass(1).float()
    return uncond + GUIDANCE * (cond - uncond)


def _compare(call: Callable[[str], Any], samples: int, device: Any) -> dict[str, float]:
    """Median seconds of both sides, called in turns after one warm-up each."""
    times: dict[str, list[float]] = {"ours": [], "diffusers": []}
    for name in times:
        call(name)
    for i in range(samples):
        for name in sorted(times, reverse=i % 2 == 0):
            times[name].append(_seconds(lambda name=name: call(name), device))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {**medians, "ratio": medians["ours"] / medians["diffusers"]}


def _seconds(call: Callable[[], Any], device: Any) -> float:
    import torch

    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
