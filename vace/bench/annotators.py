"""Frames a second of every annotator that asks a network, by backend, against the original's way.

The original's way is the peer: the same network and the same drawing, but one frame (of flow: one pair) at a time and
in whole floats. Both run in this process, in turn, on one clip in memory; what they take from the clip and draw is
part of both. Neural networks whose weights are not here are measured with random ones of the published size.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from vace import annotators
from vace.annotators.batching import Precision
from vace.annotators.nets.prompts import Prompt
from vace.annotators.networks import NETWORKS, Choice, Networks, Weights, find_weights
from vace.media.clip import ArrayClip, SelectedClip

log = logging.getLogger("vace")

SIZE = (832, 480)
BARS = {
    "cuda": 1.3,
    "cpu": 0.95,
}  # the least ratio to the peer; on the CPU equal, within what timing two runs varies by
# task -> the network it asks for first, and its method that takes frames
TASKS = {
    "depth": ("depth", "depths"), "depthv2": ("depthv2", "depths"), "flow": ("flow", "flows"),
    "pose": ("pose", "poses"), "pose_body": ("pose", "poses"), "scribble": ("scribble", "lines"),
    "salient": ("salient", "maps"), "masktrack": ("segment", ""),
}  # fmt: skip
FRAMED = {method for _, method in TASKS.values() if method} | {"maps"}
BACKENDS = ("embedded", "neural")
ROUNDS = 2  # in turn, the best of each: what else the machine does shall not decide


class OneByOne:
    """A network asked for one frame at a time, in whole floats."""

    def __init__(self, network: Any) -> None:
        self.network = network
        for value in vars(network).values():
            if isinstance(value, Precision):
                value.is_half = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.network, name)
        if name not in FRAMED:
            return method

        def one_at_a_time(*given, **more):
            """Arrays are frames, cut into single ones; anything else goes along as it is."""
            found = []
            for i in range(len(given[0])):
                single = (one[i : i + 1] if isinstance(one, np.ndarray) else one for one in given)
                found.append(method(*single, **more))
            return (
                np.concatenate(found) if isinstance(found[0], np.ndarray) else [one for some in found for one in some]
            )

        return one_at_a_time


class Ready(Networks):
    """Networks made beforehand."""

    def __init__(self, made: dict[str, Any], backend: str) -> None:
        super().__init__(backend)
        self._made = made
        self.chosen = {name: Choice(name, backend, "") for name in made}


def run(
    frames: int | None = None,
    tasks: tuple[str, ...] = tuple(TASKS),
    backends: tuple[str, ...] = BACKENDS,
    device: str = "auto",
    size: tuple[int, int] = SIZE,
) -> dict[str, Any]:
    """Measure `tasks` with each of `backends` on a clip of `frames` frames (81; neural on the CPU: 4) of `size`.

    Returns plain numbers; `render` makes a table of them.
    """
    import torch

    from vace.devices import pick_device

    chosen = pick_device(device)
    rows = []
    for task in tasks:
        for backend in backends:
            count = frames or (4 if backend == "neural" and chosen.type == "cpu" else 81)
            rows.append(_row(task, backend, chosen, count, size))
            log.info("%s", rows[-1])
    threads = torch.get_num_threads()
    result = {"size": list(size), "device": str(chosen), "cores": os.cpu_count(), "threads": threads, "rows": rows}
    if chosen.type == "cuda":
        result["gpu"] = torch.cuda.get_device_name(chosen)
    return result


def _row(task: str, backend: str, device, count: int, size: tuple[int, int]) -> dict[str, Any]:
    import tempfile

    name, method = TASKS[task]
    row = {"task": task, "backend": backend, "frames": count}
    clip = _clip(count, size)
    with tempfile.TemporaryDirectory(prefix="vace-bench-") as folder:
        weights = None
        if backend == "neural":
            weights = find_weights(NETWORKS[name])
            row["weights"] = "trained" if weights else "random"
            weights = weights or random_weights(name, Path(folder))
            if weights is None:
                return row | {"skipped": "needs its trained weights: vace models pull " + name}
        ours = _network(name, backend, weights, device)
        _consume(task, SelectedClip(clip, range(min(2, count))), ours, backend)
        peer = OneByOne(_network(name, backend, weights, device)) if method else None
        if peer:
            _consume(task, SelectedClip(clip, range(min(2, count))), peer, backend)
        times = [(_timed(task, clip, ours, backend, device), _timed(task, clip, peer, backend, device) if peer else 0.0)
                 for _ in range(ROUNDS)]  # fmt: skip
        row["seconds"] = min(own for own, _ in times)
        row["fps"] = count / row["seconds"]
        if peer:
            row["peer_seconds"] = min(other for _, other in times)
            row["ratio"] = row["peer_seconds"] / row["seconds"]
            row["is_fast"] = row["ratio"] >= (BARS["cpu"] if backend == "embedded" else BARS[device.type])
        if device.type == "cuda" and backend == "neural":
            row |= {"is_half": _is_half(ours), "peak_device_mb": _peak_device_mb()}
    return row


def _timed(task: str, clip, network, backend: str, device) -> float:
    begun = _clock(device)
    _consume(task, clip, network, backend)
    return _clock(device) - begun


def _clip(count: int, size: tuple[int, int]) -> ArrayClip:
    """`count` frames of the example clip, run forth and back, at `size`."""
    import cv2

    from vace.media.video import VideoReader
    from vace.runs import split_list

    with VideoReader(Path(split_list("assets/videos/test.mp4", files=True)[0])) as reader:
        order = [*range(reader.frame_count), *range(reader.frame_count - 2, 0, -1)]
        frames = reader.get([order[i % len(order)] for i in range(count)])
    return ArrayClip(np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames]), 16)


def _network(name: str, backend: str, weights: Weights | None, device):
    import importlib

    module, _, attribute = getattr(NETWORKS[name], backend).partition(":")
    make = getattr(importlib.import_module(module), attribute)
    return make(weights, device=device, batch_size=None) if backend == "neural" else make()


def _consume(task: str, clip, network, backend: str) -> None:
    """Everything the task draws of `clip`, thrown away."""
    if task == "masktrack":
        mask = np.zeros((clip.height, clip.width), np.uint8)
        mask[clip.height // 16 : clip.height * 7 // 8, clip.width // 6 : clip.width // 2] = 255
        for _ in network.track(clip, Prompt(mask=mask)):
            pass
        return
    if task == "salient":
        for chunk in clip.chunks():
            network.maps(chunk)
        return
    result = annotators.get(task)(frames=clip, networks=Ready({TASKS[task][0]: network}, backend))
    for _ in result.chunks:
        pass


def _clock(device) -> float:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()


def _is_half(network) -> bool:
    return any(value.is_half for value in vars(network).values() if isinstance(value, Precision))


def _peak_device_mb() -> int:
    import torch

    peak = round(torch.cuda.max_memory_allocated() / 1e6)
    torch.cuda.reset_peak_memory_stats()
    return peak


def random_weights(name: str, folder: Path) -> Weights | None:
    """Untrained weights of the published size, in the layout its class loads; None for ONNX files."""
    import torch

    torch.manual_seed(0)
    if name in ("flow", "scribble", "salient"):
        from vace.annotators.nets.contour import ContourModule
        from vace.annotators.nets.raft import RaftModule
        from vace.annotators.nets.u2net import U2NetModule

        module = {"flow": RaftModule, "scribble": ContourModule, "salient": U2NetModule}[name]()
        torch.save(module.state_dict(), folder / f"{name}.pth")
        return Weights("original", (folder / f"{name}.pth",))
    model = _published_model(name)
    if model is None:
        return None
    model.save_pretrained(folder)
    return Weights("transformers", folder=folder)


def _published_model(name: str):
    """The transformers model of the published size with random weights; None where there is none."""
    import transformers as tf

    if name == "depth":
        config = tf.DPTConfig(is_hybrid=True, backbone_out_indices=[2, 5, 8, 11], readout_type="project",
                              neck_hidden_sizes=[256, 512, 768, 768], neck_ignore_stages=[0, 1])  # fmt: skip
        return tf.DPTForDepthEstimation(config)
    if name == "depthv2":
        backbone = tf.Dinov2Config(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, image_size=518,
                                   patch_size=14, out_indices=[5, 12, 18, 24], reshape_hidden_states=False,
                                   apply_layernorm=True)  # fmt: skip
        config = tf.DepthAnythingConfig(backbone_config=backbone, reassemble_hidden_size=1024,
                                        neck_hidden_sizes=[256, 512, 1024, 1024], fusion_hidden_size=256)  # fmt: skip
        return tf.DepthAnythingForDepthEstimation(config)
    return tf.Sam2VideoModel(tf.Sam2VideoConfig()) if name == "segment" else None


def render(result: dict[str, Any]) -> str:
    """The result as a markdown table with its bars."""
    device = result.get("gpu") or f"CPU, {result['cores']} cores, {result['threads']} threads"
    width, height = result["size"]
    lines = [
        f"{width}x{height}, {device}; peer: the same network one frame at a time in float32, as the original runs it. "
        f"Bar: ratio >= {BARS['cuda']:g} on CUDA, never slower on the CPU (>= {BARS['cpu']:g}, timing varies).",
        "",
        "| task | backend | frames | frames/s | peer frames/s | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        backend = row["backend"] + (f", {row['weights']} weights" if "weights" in row else "")
        if "skipped" in row:
            lines.append(f"| {row['task']} | {backend} | - | {row['skipped']} | - | - |")
            continue
        peer = f"{row['frames'] / row['peer_seconds']:.2f}" if "peer_seconds" in row else "-"
        ratio = f"{row['ratio']:.2f}{'' if row['is_fast'] else ' UNDER'}" if "ratio" in row else "-"
        lines.append(f"| {row['task']} | {backend} | {row['frames']} | {row['fps']:.2f} | {peer} | {ratio} |")
    return "\n".join(lines)
