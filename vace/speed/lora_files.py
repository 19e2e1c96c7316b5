"""A LoRA's file opened by its header alone: names, shapes, and the scale that was stated when it was made."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vace.errors import CheckpointError
from vace.weight_files import PICKLED, WeightFiles, open_weights, read_header, read_json

# Where diffusers (and `vace train`) state what peft keeps in adapter_config.json.
METADATA_KEY, METADATA_PREFIX = "lora_adapter_metadata", "transformer."
CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class LoraFile:
    """A LoRA on this machine. stated: peft's settings (r, lora_alpha ...), empty where there are none."""

    path: Path
    weights: WeightFiles
    stated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything its effect depends on."""
        config = self.path.with_name(CONFIG)
        return (self.path, config) if _has_config(self.path) else (self.path,)

    def scale(self, module: str, rank: int) -> float:
        """What up @ down counts for a module without an alpha of its own: alpha / rank where stated, else 1.

        peft's settings may state an alpha for single modules, and alpha / sqrt(rank) instead.
        """
        alpha = self._alpha(module)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.stated.get("use_rslora") else rank)

    def _alpha(self, module: str) -> float | None:
        patterns = self.stated.get("alpha_pattern") or {}
        try:
            found = [value for name, value in patterns.items() if re.match(rf"(?:.*\.)?(?:{name})\Z", module)]
            value = found[0] if found else self.stated.get("lora_alpha")
            alpha = None if value is None else float(value)
        except (AttributeError, TypeError, ValueError, re.error) as error:
            raise CheckpointError(f"{self.path}: its settings state no usable alpha ({error})") from error
        if alpha is not None and not math.isfinite(alpha):
            raise CheckpointError(f"{self.path}: its settings state an alpha of {alpha}")
        return alpha


def open_lora(path: Path) -> LoraFile:
    """The names and shapes in a `.safetensors`, or in a pickled file. Raises CheckpointError for one that is damaged.

    Numbers of any kind may be in it: alpha is often stored as a whole one.
    """
    if path.suffix in PICKLED:
        return LoraFile(path, open_weights((path,)), _config(path))
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        read_header(path)  # says what is wrong in words of ours
        raise CheckpointError(f"{path}: damaged safetensors file ({error}); download it again") from error
    weights = WeightFiles((path,), shapes, dict.fromkeys(shapes, path))
    return LoraFile(path, weights, _metadata(path, metadata) or _config(path))


def _metadata(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if METADATA_KEY not in metadata:
        return {}
    try:
        settings = json.loads(metadata[METADATA_KEY])
        pairs = [(name, value) for name, value in settings.items() if name.startswith(METADATA_PREFIX)]
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: its {METADATA_KEY} is no JSON object; download it again") from error
    return {name.removeprefix(METADATA_PREFIX): value for name, value in pairs}


def _config(path: Path) -> dict[str, Any]:
    return read_json(path.with_name(CONFIG)) if _has_config(path) else {}


def _has_config(path: Path) -> bool:
    """peft calls its weights adapter_model; a LoRA of another name that lies beside is not meant."""
    return path.stem == "adapter_model" and path.with_name(CONFIG).is_file()
