"""The base models: what differs between them, as data. The rest of the house is the same for both.

Needs nothing heavy. The engines themselves are found by name: vace.models.NAME.engine.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from vace.conditioning.sizes import LTX_FRAMES, LTX_SIZES, LTX_STRIDE, WAN_SIZES, WAN_STRIDE, Stride
from vace.errors import InputError
from vace.prompts import negative

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Base:
    """One family of models.

    fps: frames a second of its results. stride: frames and pixels of one token, each way; clips have stride*n + 1
    frames. sizes: names of sizes, width first. negative: its own negative prompt. defaults: of its original command
    line, the shared flags; options: likewise, flags that no other base has. presets: name -> settings, of both kinds.
    models: the name a user says -> the hub repositories that hold it, the original layout first. tiny: the embedded
    toy's folder. licence: of the weights.
    guides_below_one: whether guidance below 1 counts; if not, 1 and less are off. references: the module whose
    `crop_reference` a reference picture goes through before it is put on its canvas, if any. made_with: the options
    that an engine is made with; the others are asked with each job.
    """

    name: str
    fps: float
    stride: Stride
    sizes: Mapping[str, tuple[int, int]]
    negative: str
    defaults: Mapping[str, object]
    options: Mapping[str, object]
    presets: Mapping[str, Mapping[str, object]]
    models: Mapping[str, tuple[str, ...]]
    tiny: str
    licence: str
    guides_below_one: bool = True
    references: str | None = None
    made_with: tuple[str, ...] = ()

    @property
    def frame_stride(self) -> int:
        return self.stride[0]

    def is_guided(self, scale: float) -> bool:
        """Whether guidance of that scale asks for a negative prompt."""
        return scale != 1 if self.guides_below_one else scale > 1

    def crop_reference(self, image: np.ndarray) -> np.ndarray:
        """A reference picture as it is put on its canvas: uint8 [H,W,3] -> uint8 [h,w,3]."""
        return importlib.import_module(self.references).crop_reference(image) if self.references else image

    def module(self, part: str) -> ModuleType:
        """vace.models.NAME.PART, such as `engine`."""
        return importlib.import_module(f"vace.models.{self.name}.{part}")


WAN = Base(
    name="wan",
    fps=16.0,
    stride=WAN_STRIDE,
    sizes=WAN_SIZES,
    negative=negative.WAN,
    # "480p" is landscape, as its name says; the original's is portrait by mistake.
    defaults={"size": "480p", "frame_num": 81, "steps": 50, "shift": 16.0, "guidance_scale": 5.0, "seed": 2025},
    options={
        "sampler": "unipc", "context_end": 1.0, "guidance_interval": (0.0, 1.0), "step_cache": 0.0,
        "attention": "auto", "compile": False, "memory": "auto", "vae_dtype": "float32",
    },
    presets={
        "quality": {"steps": 50, "shift": 16.0, "guidance_scale": 5.0, "sampler": "unipc"},  # as published
        "balanced": {"steps": 30, "shift": 16.0, "guidance_scale": 5.0, "sampler": "unipc"},
        # On timesteps 1000, 750, 500, 250, with a LoRA that was distilled to them.
        "turbo": {"steps": 4, "shift": 5.0, "guidance_scale": 1.0, "sampler": "lcm"},
    },
    models={
        "vace-1.3B": ("Wan-AI/Wan2.1-VACE-1.3B", "Wan-AI/Wan2.1-VACE-1.3B-diffusers"),
        "vace-14B": ("Wan-AI/Wan2.1-VACE-14B", "Wan-AI/Wan2.1-VACE-14B-diffusers"),
        "vace-1.3B-preview": ("ali-vilab/VACE-Wan2.1-1.3B-Preview",),
    },
    tiny="vace-tiny",
    licence="Apache-2.0",
    made_with=("attention", "compile", "memory", "vae_dtype"),
)  # fmt: skip
LTX = Base(
    name="ltx",
    fps=25.0,
    stride=LTX_STRIDE,
    sizes=LTX_SIZES,
    negative=negative.LTX,
    # No shift: it follows from the number of tokens, unless one is given.
    defaults={
        "size": "768x512", "frame_num": LTX_FRAMES, "steps": 40, "shift": None, "guidance_scale": 3.0, "seed": 42,
    },
    options={
        "stg_scale": 1.0, "stg_rescale": 0.7, "stg_mode": "stg_a", "stg_skip_layers": (19,), "posterior": "sample",
        "decode_timestep": 0.05, "decode_noise_scale": 0.025, "frame_rate": None,
    },
    presets={
        "quality": {"steps": 40, "guidance_scale": 3.0, "stg_scale": 1.0},  # as published
        "balanced": {"steps": 25, "guidance_scale": 3.0, "stg_scale": 1.0},
    },
    models={"vace-ltx-0.9": ("ali-vilab/VACE-LTX-Video-0.9",)},
    tiny="vace-tiny-ltx",
    licence="RAIL-M, see the model's card",
    guides_below_one=False,
    references="vace.conditioning.ltx_references",
)  # fmt: skip
BASES: Mapping[str, Base] = {base.name: base for base in (WAN, LTX)}
MODELS: Mapping[str, tuple[str, ...]] = {name: found for base in BASES.values() for name, found in base.models.items()}


def find_base(name: str) -> Base:
    """The base model called `name`; 'lxt' is how the user guide spells ltx. Raises InputError for any other."""
    known = {"lxt": "ltx"}.get(name, name)
    if known not in BASES:
        raise InputError(f"--base {name}: not a base model; known: {', '.join(BASES)}")
    return BASES[known]


def base_of_model(name: str) -> Base:
    """The base that a key of MODELS belongs to."""
    return next(base for base in BASES.values() if name in base.models)
