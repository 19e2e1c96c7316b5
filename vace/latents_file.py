"""The denoised latents of a video as a file beside it: hours of work that a failed decoding does not take along.

One safetensors file: the tensor `latents`, and in its metadata, as JSON, the `Header` that says how to make the video
of it. No directory of the machine is in it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vace.errors import InputError, OutputError
from vace.media.files import existing_file, replacing

if TYPE_CHECKING:
    import torch

    from vace.models.parts import Part

FORMAT = "vace-latents/1"
ROLE = "latents"  # in the manifest
KEY = "vace"  # of the metadata: one alone, since safetensors writes several in a random order
ENCODING = ("encoder.", "quant_conv.")  # tensors of a VAE that decode nothing


@dataclass(frozen=True)
class Header:
    """What turns latents [C, refs + T, h, w] into the file of a video.

    base, model: names of what denoised them. vae: see `vae_mark`. refs: latent frames in front that stand for
    references. frames, width, height, fps: of the result, padding left out, in pixels and 1/s. dtype: of the model,
    such as 'bfloat16'. out_format: of --out_format. decoding: further keywords of `decode_chunks`. sound: (start,
    length) in seconds of what src_video gives to hear, or None. comment: of the container, or None.
    """

    base: str
    model: str
    vae: str
    refs: int
    frames: int
    width: int
    height: int
    fps: float
    seed: int
    dtype: str
    out_format: str
    decoding: Mapping[str, Any] = field(default_factory=dict)
    sound: tuple[float, float] | None = None
    comment: str | None = None


def save_latents(path: Path, latents: torch.Tensor, header: Header) -> None:
    """Write latents, whole or not at all. Raises OutputError where they cannot be written."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    told = json.dumps({"format": FORMAT, **asdict(header)}, sort_keys=True)
    with replacing(path) as temporary:
        try:
            save_file({"latents": latents.detach().cpu().contiguous()}, temporary, {KEY: told})
        except SafetensorError as error:  # a full disk is one
            raise OutputError(f"{path}: cannot be written ({error}); free some space, or choose --save_dir") from error


def read_latents(path: Path) -> tuple[torch.Tensor, Header]:
    """Latents on the CPU, and their header. Raises InputError for a file that is missing, damaged or another."""
    from safetensors import SafetensorError, safe_open

    path = existing_file(path, "denoised latents of vace")
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            told = json.loads((file.metadata() or {})[KEY])
            if told.pop("format") != FORMAT:
                raise ValueError("of another version")
            sound = told.pop("sound")
            return file.get_tensor("latents"), Header(**told, sound=tuple(sound) if sound else None)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: not denoised latents of this version of vace ({error}); expected what a run left that broke off "
            "while decoding; make the video again"
        ) from error


def vae_mark(part: Part) -> str:
    """16 hex digits that tell VAEs apart by how they decode, whatever files and layout they lie in.

    sha256 over the names and values, in float32, of all tensors that decode, and over the statistics of latents.
    """
    digest = hashlib.sha256(json.dumps(_statistics(part), sort_keys=True, default=list).encode())
    for name in sorted(part.names):
        if not name.startswith(ENCODING):
            tensor = part.weights.read(part.names[name]).float().contiguous()
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.flatten().numpy())
    part.weights.close()
    return digest.hexdigest()[:16]


def _statistics(part: Part) -> dict[str, Any]:
    """What a latent channel's numbers mean; LTX's are tensors of the file, Wan's settings, or the published ones."""
    if part.base != "wan":
        return {}
    from diffusers import AutoencoderKLWan

    usual = inspect.signature(AutoencoderKLWan.__init__).parameters
    return {name: part.config.get(name, usual[name].default) for name in ("latents_mean", "latents_std")}


def how_to_decode(base: str, folder: Path) -> str:
    """The command that decodes what is kept in `folder`."""
    return f"vace {base} --decode {shlex.quote(str(folder))}"
