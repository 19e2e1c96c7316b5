"""The settings of a generation: what the user said, else the preset, else the checkpoint's `vace.json`, else the
published defaults.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from vace.bases import BASES, LTX, WAN, Base
from vace.conditioning.frames import check_frame_num
from vace.conditioning.sizes import Size, parse_size
from vace.errors import InputError, nearest
from vace.materials import check_number
from vace.runs import draw_seed, split_list
from vace.speed.guidance_interval import parse_interval
from vace.speed.memory_plans import parse_memory

log = logging.getLogger("vace")

# Values for every base model; those that differ are in vace.bases.
SHARED: Mapping[str, object] = {
    "context_scale": 1.0,
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
ONE_PROCESS_FLAGS = {"ulysses_size": 1, "ring_size": 1, "dit_fsdp": False, "t5_fsdp": False}
CHOICES = {
    "sampler": ("unipc", "dpm++", "lcm", "euler"),
    "vae_dtype": ("float32", "bfloat16"),
    "stg_mode": ("stg_a", "stg_r"),
    "posterior": ("sample", "mode"),
    "frame_policy": ("auto", "uniform"),
    "fill_mask": ("auto", "neutral", "keep"),
    "out_format": ("mp4", "exact", "png"),
    "intermediates": ("exact", "small"),
}
# Numbers of one base's options: least, most.
RANGES = {
    "context_end": (0, 1),
    "step_cache": (0, 1),
    "frame_rate": (1, 240),
    "stg_scale": (0, 100),
    "stg_rescale": (0, 1),
    "decode_timestep": (0, 1),
    "decode_noise_scale": (0, 1),
}
MOST_VIDEOS = 10_000
TRANSLATED = ("width", "height", "precision", "image_cond_noise_scale")  # flags of LTX's own that become shared ones
PRECISIONS = {"bfloat16": "bfloat16", "mixed_precision": "float32"}  # of LTX's original command line


@dataclass(frozen=True)
class Settings:
    """Resolved settings. asked_frames: --frame_num where it was given; frame_num: that, or the model's own length.

    shift: None where it follows from the number of tokens. options: what only this base has (see vace.bases).
    """

    base: Base
    prompt: str
    size: str
    frame_num: int
    asked_frames: int | None
    steps: int
    shift: float | None
    guidance_scale: float
    context_scale: float
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
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def area(self) -> Size:
        """The pixel and token budget."""
        return parse_size(self.size, self.base.stride, frames=self.frame_num, names=self.base.sizes)

    @property
    def fps(self) -> float:
        """Frames a second of the result, unless the source's own pace is kept."""
        return float(self.options.get("frame_rate") or self.base.fps)

    @property
    def keeps_pace(self) -> bool:
        """Whether a clip squeezed into the budget keeps its length: the model is told the rate, and none was asked."""
        return "frame_rate" in self.options and self.options["frame_rate"] is None

    def parameters(self) -> dict:
        """As the manifest and `--from` have them: flags by name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        options = {name: list(value) if isinstance(value, tuple) else value for name, value in self.options.items()}
        values |= {"base": values.pop("base").name} | {**values.pop("options"), **options}
        # The model's own length is no explicit count: footage may be longer or shorter.
        return values | {"frame_num": values.pop("asked_frames")}


def defaults_of(base: Base) -> dict[str, object]:
    """Every setting with its published value."""
    return {**base.defaults, **SHARED, **base.options}


def resolve_settings(
    prompt: str | None, given: Mapping[str, object], model_defaults: Mapping[str, object], base: Base = WAN
) -> Settings:
    """Check and complete the settings. given: flags the user set (None = not set); model_defaults: of vace.json.

    Raises InputError that names the flag for an empty prompt, a number out of range, a wrong frame count or size, an
    unknown choice or preset, a flag of another base.
    """
    check_one_process(given)
    check_foreign(given, base)
    preset = preset_of(given, base)
    if prompt is None or not str(prompt).strip():
        raise InputError("--prompt: empty; describe in words what the video shows")
    own = {SHORT_NAMES.get(name, name): value for name, value in model_defaults.items()}
    given = _translated(given, str(own.get("size") or base.defaults["size"]), base)
    asked = given.get("frame_num")
    values = {
        name: _first(given.get(name), preset.get(name), own.get(name), value)
        for name, value in defaults_of(base).items()
    }
    _check(values, base)
    values["seed"] = draw_seed(int(values["seed"]))
    options = {name: values.pop(name) for name in base.options}
    return Settings(base=base, prompt=str(prompt), asked_frames=asked, options=options, **values)


def preset_of(given: Mapping[str, object], base: Base) -> Mapping[str, object]:
    """What the preset among `given` sets; nothing without one. Raises InputError for one that `base` does not have."""
    name = given.get("preset")
    if name is None:
        return {}
    if name not in base.presets:
        raise InputError(f"--preset {name}: not a preset of {base.name}; {nearest(str(name), base.presets)}")
    return base.presets[str(name)]


def describe_preset(given: Mapping[str, object], base: Base) -> str:
    """One line: every setting of the preset among `given`, or what was given instead."""
    parts = []
    for name, value in preset_of(given, base).items():
        own = given.get(name)
        value = value if own is None else own
        parts.append(f"{name} {value:g}" if isinstance(value, (int, float)) else f"{name} {value}")
        parts[-1] += "" if own is None else " (given)"
    return f"preset {given['preset']}: {', '.join(parts)}"


def _check(values: dict, base: Base) -> None:
    """Numbers in their ranges, choices among the known; lists of one flag brought to tuples."""
    check_number("steps", values["steps"], 1, whole=True)
    check_number("num_videos", values["num_videos"], 1, MOST_VIDEOS, whole=True)
    check_positive("shift", values["shift"])
    if base.guides_below_one:
        check_positive("guidance_scale", values["guidance_scale"])
    else:
        check_number("guidance_scale", values["guidance_scale"], 0)
    check_number("context_scale", values["context_scale"], 0)
    check_frame_num(values["frame_num"], base.frame_stride)
    for name, (low, high) in RANGES.items():
        check_number(name, values.get(name), low, high)
    if "sampler" in values:
        values["sampler"] = str(values["sampler"]).lower()
    if "memory" in values:
        _check_memory(values)
    if "guidance_interval" in values:
        values["guidance_interval"] = parse_interval(values["guidance_interval"])
    if "stg_skip_layers" in values:
        values["stg_skip_layers"] = _layers(values["stg_skip_layers"])
    for name, known in CHOICES.items():
        if name in values and values[name] not in known:
            raise InputError(f"--{name} {values[name]}: unknown; {nearest(str(values[name]), known)}")
    parse_size(str(values["size"]), base.stride, names=base.sizes)


def _check_memory(values: dict) -> None:
    """--memory has a known form, and does not come beside flags that say the same by hand."""
    asked = parse_memory(values["memory"])
    by_hand = [name for name in ("offload_model", "t5_cpu") if values[name]]
    if by_hand and asked != parse_memory("auto"):
        raise InputError(f"--memory {values['memory']} decides where the parts lie; leave --{by_hand[0]} out")


def _translated(given: Mapping[str, object], size: str, base: Base) -> dict[str, object]:
    """Flags of LTX's original command line in terms of the shared ones: height and width, precision.

    size: the model's own, from which a side that was not given is taken.
    """
    given = dict(given)
    sides = {side: given.pop(side, None) for side in ("width", "height")}
    if any(side is not None for side in sides.values()):
        if given.get("size") is not None:
            raise InputError("--size says width and height at once; leave out --width and --height, or --size")
        usual = dict(zip(sides, parse_size(size, base.stride, names=base.sizes).sides, strict=True))
        given["size"] = "{width}x{height}".format_map(
            {side: usual[side] if sides[side] is None else sides[side] for side in sides}
        )
    if given.pop("image_cond_noise_scale", None) is not None:
        log.warning("--image_cond_noise_scale has no effect: the original never uses it with VACE")
    precision = given.pop("precision", None)
    if precision is not None and given.get("dtype") is None:
        given["dtype"] = PRECISIONS[precision]
    return given


def _layers(value: object) -> tuple[int, ...]:
    """Layer numbers from '14,19', a list of numbers, or one number; rising, each once."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    numbers = [part for text in parts for part in split_list(str(text))]
    if not all(number.strip().isdecimal() for number in numbers):
        raise InputError(f"--stg_skip_layers {value}: give layer numbers from 0, separated by commas, such as 19")
    return tuple(sorted({int(number) for number in numbers}))


def check_positive(flag: str, value) -> None:
    check_number(flag, value, 0)
    if value is not None and value <= 0:
        raise InputError(f"--{flag} {value}: give a number above 0")


def check_foreign(given: Mapping[str, object], base: Base) -> None:
    """Raise InputError for a flag that only another base model knows."""
    for other in BASES.values():
        for name in (*other.options, *(TRANSLATED if other is LTX else ())):
            if given.get(name) is not None and other is not base and name not in base.options:
                raise InputError(f"--{name}: a setting of --base {other.name}, not of {base.name}; leave it out")


def check_one_process(given: Mapping[str, object]) -> None:
    """Flags of several processes reach no job: `vace.spread` takes them. Off values are taken, others refused."""
    for flag, off in ONE_PROCESS_FLAGS.items():
        value = given.get(flag)
        if value is not None and value != off:
            raise InputError(f"--{flag} {value}: for `vace wan` and `vace pipeline` under torchrun; leave it out here")


def _first(*values):
    return next((value for value in values if value is not None), None)
