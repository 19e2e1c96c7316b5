"""Float8 weights in safetensors files: which tensors are scales, what they belong to, and how they are applied.

A 'scaled' file holds a layer's weight as float8 and a float32 scale beside it: `X.weight` and `X.scale_weight`, or
`X.weight_scale`; the weight is their product. A tensor `scaled_fp8`, or one `X.comfy_quant` per layer (a small json as
bytes), marks such a file. Files without marks and scales hold weights that were only cast. Everything here is about
names, types and shapes; torch is needed by `scaled` alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vace.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from vace.weight_files import Entry

FLOAT8 = ("F8_E4M3", "F8_E5M2")
READABLE = ("F64", "F32", "F16", "BF16", *FLOAT8, "")  # '' is a pickle's, whose types torch knows
_OLDER, _NEWER = ".scale_weight", ".weight_scale"
_OF_INPUTS = (".scale_input", ".input_scale")  # for arithmetic in float8 on the activations too, which is not done here
_MARKER = "scaled_fp8"
_QUANT, _QUANT_METADATA = "comfy_quant", "_quantization_metadata"
_TOKENIZER = "spiece_model"
_KNOWN_FORMATS = ("float8_e4m3fn", "float8_e5m2")
_HARMLESS = ("format", "full_precision_matrix_mult")  # what a layer's json may say without changing its values
_LISTED = 4


def without_notes(entries: Mapping[str, Entry], metadata: Mapping[str, str], path: Path) -> dict[str, Entry]:
    """The tensors without those that only describe others: a layer's json, an embedded tokenizer.

    Raises CheckpointError for a layer stored in a format that is not read.
    """
    notes = {key: entry for key, entry in entries.items() if _is_called(key, _QUANT) and entry.dtype == "U8"}
    for layer, stated in {**_from_metadata(metadata, path), **_from_tensors(notes, path)}.items():
        if not isinstance(stated, dict) or stated.get("format") not in _KNOWN_FORMATS or set(stated) - set(_HARMLESS):
            raise CheckpointError(
                f"{path}: the layer {layer} is stored as {json.dumps(stated)}; of quantised layers only scaled float8 "
                "is read, get the float8, bfloat16 or GGUF file of this model"
            )
    is_note = {key: key in notes or (_is_called(key, _TOKENIZER) and entry.dtype == "U8")
               for key, entry in entries.items()}  # fmt: skip
    return {key: entry for key, entry in entries.items() if not is_note[key]}


def scales_of(entries: Mapping[str, Entry], source: str) -> dict[str, str]:
    """Name of each scaled weight -> name of its scale.

    Raises CheckpointError, naming the tensors, for a scale without its weight, for one that is neither a number nor
    one per row, and for float8 weights without a scale in a file that scales others or says that it does.
    """
    scales = {}
    for key in entries:
        weight = _scaled_by(key, entries)
        if weight is None:
            continue
        if weight in scales:
            raise CheckpointError(f"{source}: two scales for {weight} ({scales[weight]}, {key})")
        scales[weight] = key
        if not _is_scale(entries[key].shape, entries[weight].shape):
            raise CheckpointError(
                f"{source}: the scale {key} has the shape {list(entries[key].shape)}; one number, or one per row of "
                f"{weight} {list(entries[weight].shape)}, is read"
            )
    lost = [key for key in entries if key.endswith((_OLDER, _NEWER)) and _weight_of(key) not in entries]
    if lost:
        raise CheckpointError(f"{source}: {len(lost)} scales without their weights ({_some(lost)}); download it again")
    if scales or any(_is_called(key, _MARKER) for key in entries):
        bare = [key for key, entry in entries.items() if entry.dtype in FLOAT8 and key not in scales]
        bare = [key for key in bare if not _is_called(key, _MARKER)]
        if bare:
            raise CheckpointError(
                f"{source}: a scaled float8 file in which {len(bare)} float8 tensors have no scale ({_some(bare)}); "
                "download it again, or get the bfloat16 file"
            )
    return scales


def weights_of(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The tensors without scales and markers."""
    return {key: entry for key, entry in entries.items() if not _is_bookkeeping(key, entries)}


def scaled(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """weight * scale in float32; the scale is one number, or one per row."""
    scale = scale.float()
    if scale.numel() > 1:
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return weight.float() * scale


def _is_bookkeeping(key: str, entries: Mapping[str, Entry]) -> bool:
    if _is_called(key, _MARKER):
        return True
    if key.endswith(_OF_INPUTS):
        layer = key.rpartition(".")[0]
        return any(f"{layer}{suffix}" in entries for suffix in (_OLDER, _NEWER))
    return _scaled_by(key, entries) is not None


def _scaled_by(key: str, entries: Mapping[str, Entry]) -> str | None:
    """The weight that the tensor `key` scales; None where it is no scale.

    The newer name also means other things, so it counts beside a float8 weight only.
    """
    weight = _weight_of(key)
    if weight not in entries:
        return None
    return weight if key.endswith(_OLDER) or entries[weight].dtype in FLOAT8 else None


def _weight_of(key: str) -> str | None:
    ending = next((suffix for suffix in (_OLDER, _NEWER) if key.endswith(suffix)), None)
    return f"{key.removesuffix(ending)}.weight" if ending else None


def _is_scale(scale: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    if all(side == 1 for side in scale):
        return True
    return bool(weight) and scale[0] == weight[0] and all(side == 1 for side in scale[1:])


def _is_called(key: str, name: str) -> bool:
    return key == name or key.endswith(f".{name}")


def _from_tensors(notes: Mapping[str, Entry], path: Path) -> dict[str, object]:
    """What each layer's own json says."""
    stated = {}
    if notes:
        with path.open("rb") as file:
            for key, entry in notes.items():
                file.seek(entry.at)
                stated[key.removesuffix(f".{_QUANT}")] = _parsed(file.read(entry.size), key, path)
    return stated


def _from_metadata(metadata: Mapping[str, str], path: Path) -> dict[str, object]:
    """What one json in the file's metadata says of all layers."""
    if _QUANT_METADATA not in metadata:
        return {}
    stated = _parsed(metadata[_QUANT_METADATA], _QUANT_METADATA, path)
    layers = stated.get("layers") if isinstance(stated, dict) else None
    if not isinstance(layers, dict):
        raise CheckpointError(f"{path}: its {_QUANT_METADATA} names no layers; download it again")
    return layers


def _parsed(text: bytes | str, key: str, path: Path) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: {key} is no readable json ({error}); download it again") from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (" ..." if len(names) > _LISTED else "")
