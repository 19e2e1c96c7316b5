"""The settings of a generation: what the user said, else the checkpoint's `vace.json`, else the published defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from vace.conditioning.frames import check_frame_num
from vace.conditioning.sizes import Size, parse_size
from vace.errors import InputError, nearest
from vace.materials import check_number
from vace.runs import draw_seed

# Values of the original command line; "480p" is landscape, as its name says.
DEFAULTS: Mapping[str, object] = {
    "size": "480p",
    "frame_num": 81,
    "steps": 50,
    "shift": 16.0,
    "guidance_scale": 5.0,
    "context_scale": 1.0,
    "sampler": "unipc",
    "seed": 2025,
    "num_videos": 1,
    "negative_prompt": None,
    "frame_policy": "auto",
    "fill_mask": "auto",
    "noise_device": "cpu",
    "device": "auto",
    "dtype": "auto",
    "offload_model": False,
    "t5_cpu": False,
    "out_format": "mp4",
    "intermediates": "exact",
    "no_metadata": False,
    "allow_truncated": False,
}
# What a checkpoint's vace.json may call a setting by.
SHORT_NAMES = {"frames": "frame_num", "guidance": "guidance_scale"}
SAMPLERS = ("unipc", "dpm++")
BASES = ("wan",)
ONE_DEVICE_FLAGS = {"ulysses_size": 1, "ring_size": 1, "dit_fsdp": False, "t5_fsdp": False}
CHOICES = {
    "sampler": SAMPLERS,
    "frame_policy": ("auto", "uniform"),
    "fill_mask": ("auto", "neutral", "keep"),
    "out_format": ("mp4", "exact", "png"),
    "intermediates": ("exact", "small"),
}


@dataclass(frozen=True)
class Settings:
    """Resolved settings. asked_frames: --frame_num where it was given; frame_num: that, or the model's own length."""

    prompt: str
    size: str
    frame_num: int
    asked_frames: int | None
    steps: int
    shift: float
    guidance_scale: float
    context_scale: float
    sampler: str
    seed: int
    num_videos: int
    negative_prompt: str | None
    frame_policy: str
    fill_mask: str
    noise_device: str
    device: str
    dtype: str
    offload_model: bool
    t5_cpu: bool
    out_format: str
    intermediates: str
    no_metadata: bool
    allow_truncated: bool

    @property
    def area(self) -> Size:
        """The pixel and token budget."""
        return parse_size(self.size, frames=self.frame_num)

    def parameters(self) -> dict:
        """As the manifest and `--from` have them: flags by name."""
        values = asdict(self)
        # The model's own length is no explicit count: footage may be longer or shorter.
        return values | {"frame_num": values.pop("asked_frames")}


def resolve_settings(prompt: str | None, given: Mapping[str, object], model_defaults: Mapping[str, object]) -> Settings:
    """Check and complete the settings. given: flags the user set (None = not set); model_defaults: of vace.json.

    Raises InputError that names the flag for an empty prompt, a number out of range, a wrong frame count or size, an
    unknown choice.
    """
    check_one_device(given)
    if prompt is None or not str(prompt).strip():
        raise InputError("--prompt: empty; describe in words what the video shows")
    asked = given.get("frame_num")
    own = {SHORT_NAMES.get(name, name): value for name, value in model_defaults.items()}
    values = {name: _first(given.get(name), own.get(name), DEFAULTS[name]) for name in DEFAULTS}
    check_number("steps", values["steps"], 1, whole=True)
    check_number("num_videos", values["num_videos"], 1, whole=True)
    for name in ("shift", "guidance_scale"):
        check_positive(name, values[name])
    check_number("context_scale", values["context_scale"], 0)
    check_frame_num(values["frame_num"])
    values["sampler"] = str(values["sampler"]).lower()
    for name, known in CHOICES.items():
        if values[name] not in known:
            raise InputError(f"--{name} {values[name]}: unknown; {nearest(str(values[name]), known)}")
    parse_size(str(values["size"]))
    values["seed"] = draw_seed(int(values["seed"]))
    return Settings(prompt=str(prompt), asked_frames=asked, **values)


def check_positive(flag: str, value) -> None:
    check_number(flag, value, 0)
    if value is not None and value <= 0:
        raise InputError(f"--{flag} {value}: give a number above 0")


def check_base(base: str) -> str:
    """The base model's name; 'lxt' is how the user guide spells ltx."""
    base = {"lxt": "ltx"}.get(base, base)
    if base not in BASES:
        raise InputError(f"--base {base}: not a base model of this version; known: {', '.join(BASES)}")
    return base


def check_one_device(given: Mapping[str, object]) -> None:
    """Flags of the original's multi-device runs: their off values are taken, others refused."""
    for flag, off in ONE_DEVICE_FLAGS.items():
        value = given.get(flag)
        if value is not None and value != off:
            raise InputError(f"--{flag} {value}: this version runs one video on one device; leave it out or give {off}")


def _first(*values):
    return next((value for value in values if value is not None), None)
