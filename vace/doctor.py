"""`vace doctor`: what this machine has, what is missing, what that costs, and the command that adds it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

PYTHONS = ((3, 10), (3, 13))
CODECS = ("libx264", "libx264rgb", "aac")
DECODERS = ("h264", "hevc", "vp9", "av1", "libdav1d", "gif")
LEAST_FREE_GB = 5
# module -> (what it gives, what adds it)
ATTENTION = {
    "flash_attn": ("flash attention", "pip install flash-attn --no-build-isolation"),
    "sageattention": ("8-bit attention", "pip install sageattention"),
    "xformers": ("memory-saving attention", "pip install xformers"),
}
EXTRAS = {
    "demo": ("gradio", "no web pages"),
    "batch": ("ray", "no spreading of batches over machines"),
    "quant": ("torchao", "no 8-bit weights: the 14B model asks for more memory"),
    "dev": ("pytest", "no tests"),
}


@dataclass(frozen=True)
class Finding:
    """what: the thing looked at. state: ok, missing or note. found: in words. cost, remedy: of what is missing."""

    what: str
    state: str
    found: str
    cost: str = ""
    remedy: str = ""

    def as_dict(self) -> dict:
        return asdict(self)

    def line(self) -> str:
        mark = {"ok": "ok     ", "missing": "missing", "note": "note   "}[self.state]
        text = f"{mark} {self.what}: {self.found}"
        if self.cost:
            text += f" | {self.cost}"
        return text + (f" | {self.remedy}" if self.remedy else "")


def examine() -> list[Finding]:
    """Look at everything, one Finding per line of the report. A check that itself breaks is reported, not hidden."""
    checks: list[Callable[[], list[Finding]]] = [
        _python, _torch, _gpu, _codecs, _decord, _attention, _hub, _disk, _models, _networks, _extras,
    ]  # fmt: skip
    findings = []
    for check in checks:
        try:
            findings += check()
        except Exception as error:
            what = check.__name__.strip("_")
            cost = f"this part does not work here ({type(error).__name__}: {error})"
            findings.append(Finding(what, "missing", "broken", cost, "run scripts/setup.sh again"))
    return findings


def render(findings: list[Finding]) -> str:
    return "\n".join(finding.line() for finding in findings)


def _python() -> list[Finding]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return [Finding("Python", "ok", found)]
    return [Finding("Python", "missing", found, "only 3.10 to 3.13 are tested", "PYTHON=python3.12 scripts/setup.sh")]


def _torch() -> list[Finding]:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    findings = [Finding("torch", "ok", f"{torch.__version__} ({build}), {torch.get_num_threads()} threads")]
    for name in ("diffusers", "transformers"):
        if importlib.util.find_spec(name) is None:
            findings.append(Finding(name, "missing", "not installed", "no generation", f"pip install {name}"))
    return findings


def _gpu() -> list[Finding]:
    import torch

    if not torch.cuda.is_available():
        cost = "real models need minutes per step here; the toy model and all preprocessing run"
        if shutil.which("nvidia-smi") and not torch.version.cuda:
            remedy = "pip install --force-reinstall torch (this build is for CPUs, and there is an NVIDIA driver)"
        else:
            remedy = "an NVIDIA card with 8 GB or more, or another machine"
        return [Finding("GPU", "missing", "none that torch sees", cost, remedy)]
    rows = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        rows.append(Finding(f"GPU cuda:{index}", "ok", f"{name}, {total / 1e9:.0f} GB, {free / 1e9:.0f} GB free"))
    return rows


def _codecs() -> list[Finding]:
    import av

    absent = [name for name in CODECS if not _codec_there(name, "w")]
    reads = [name for name in DECODERS if _codec_there(name, "r")]
    found = f"PyAV {av.__version__} reads {', '.join(reads)}; writes {', '.join(c for c in CODECS if c not in absent)}"
    if absent:
        cost = f"no {', '.join(absent)}: results cannot be written"
        return [Finding("video codecs", "missing", found, cost, "pip install --force-reinstall av")]
    return [Finding("video codecs", "ok", found)]


def _codec_there(name: str, mode: str) -> bool:
    import av.codec

    try:
        av.codec.Codec(name, mode)
    except ValueError:  # PyAV's error for an unknown codec derives from it
        return False
    return True


def _decord() -> list[Finding]:
    if importlib.util.find_spec("decord") is None:
        cost = "jumping about in long videos is slower; everything still works through PyAV"
        return [Finding("decord", "missing", "not installed", cost, "pip install decord (no wheel for ARM or Macs)")]
    import decord

    return [Finding("decord", "ok", f"{getattr(decord, '__version__', 'version unknown')}, fast indexed reading")]


def _attention() -> list[Finding]:
    import torch

    found = [f"{name} ({gives})" for name, (gives, _) in ATTENTION.items() if importlib.util.find_spec(name)]
    if found:
        return [Finding("attention", "ok", "SDPA of torch, and " + ", ".join(found))]
    if not torch.cuda.is_available():
        return [Finding("attention", "ok", "SDPA of torch (faster kernels are for CUDA)")]
    cost = "torch's SDPA serves; flash or sage attention can be 1.3 to 1.6 times as fast at 720p"
    return [Finding("attention", "note", "SDPA of torch", cost, ATTENTION["sageattention"][1])]


def _hub() -> list[Finding]:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    models = sum(1 for _ in cache.glob("models--*")) if cache.is_dir() else 0
    found = f"cache {cache} holds {models} models"
    if constants.HF_HUB_OFFLINE:
        return [Finding("hub", "note", f"{found}; offline mode is on", "nothing is fetched", "unset HF_HUB_OFFLINE")]
    return [Finding("hub", "ok", f"{found}; online mode")]


def _disk() -> list[Finding]:
    free = shutil.disk_usage(os.getcwd()).free / 1e9
    found = f"{free:.0f} GB free here"
    if free >= LEAST_FREE_GB:
        return [Finding("disk", "ok", found)]
    cost = "300 exact frames of 720p take about 0.1 GB, the 14B model 47 GB"
    return [Finding("disk", "missing", found, cost, "free some, or choose another disk with --save_dir")]


def _models() -> list[Finding]:
    from vace.bases import BASES
    from vace.hub import command
    from vace.listing import model_rows

    here = [row["name"] for row in model_rows() if row["path"] and row["hub"]]
    rows = [Finding("base models", "ok", ", ".join(here))] if here else []
    for base in BASES.values():
        if not set(here) & set(base.models):
            name, repositories = next(iter(base.models.items()))
            cost = f"videos of --base {base.name} are made by the embedded toy model"
            remedy = f"vace models pull {name}, or {command(repositories[0])}"
            rows.append(Finding("base models", "note" if here else "missing", f"none of {base.name}", cost, remedy))
    return rows


def _networks() -> list[Finding]:
    from vace.annotators import mediapipe
    from vace.annotators.networks import NETWORKS, find_weights

    neural = [name for name, row in NETWORKS.items() if find_weights(row) is not None]
    found = f"trained: {', '.join(neural) or 'none here'}"
    rows = [Finding("networks", "ok", found)]
    if len(neural) < len(NETWORKS):
        cost = "the others are fetched when needed, or embedded ones serve"
        rows = [Finding("networks", "note", found, cost, "vace models pull all")]
    if mediapipe.absent():
        cost = "no poses, faces and person mattes without the trained networks"
        rows.append(Finding("MediaPipe's networks", "missing", "not here", cost, mediapipe.COMMAND))
    else:
        rows.append(Finding("MediaPipe's networks", "ok", f"all {len(mediapipe.FILES)} here"))
    return rows


def _extras() -> list[Finding]:
    rows = []
    for extra, (module, cost) in EXTRAS.items():
        if importlib.util.find_spec(module):
            rows.append(Finding(f"extra {extra}", "ok", "installed"))
        else:
            rows.append(Finding(f"extra {extra}", "missing", "not installed", cost, f"scripts/setup.sh {extra}"))
    return rows
