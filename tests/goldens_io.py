"""Reading the golden arrays: annotator packs are JSON + npz, model packs JSON + safetensors."""

from __future__ import annotations

import json
import os
import re
import zlib
from pathlib import Path

import numpy as np


def goldens_dir() -> Path:
    """The folder of goldens: VACE_GOLDENS, or tests/goldens."""
    return Path(os.environ.get("VACE_GOLDENS") or Path(__file__).parent / "goldens")


def annotator_pack(stem: str) -> dict[str, dict]:
    """The cases of annotators/<stem>.json by id, array references resolved."""
    base = goldens_dir() / "annotators"
    document = json.loads((base / f"{stem}.json").read_text())
    arrays = np.load(base / f"{stem}.npz")

    def resolve(value):
        if isinstance(value, dict):
            if "$array" in value:
                return arrays[value["$array"]]
            if "$stack" in value:
                return list(arrays[value["$stack"]])
            if "$list" in value:
                return [arrays[key] for key in value["$list"]]
            return {key: resolve(item) for key, item in value.items()}
        return [resolve(item) for item in value] if isinstance(value, list) else value

    return {case["id"]: resolve(case) for case in document["cases"]}


def comparable_cases(stem: str) -> list[dict]:
    """The cases of an annotator pack that have something to compare; there is at least one."""
    found = [case for case in annotator_pack(stem).values() if "raises" not in case]
    if not found:
        raise LookupError(f"annotators/{stem}.json holds no case with an output")
    return found


def annotator_document(stem: str) -> dict:
    """The raw JSON of annotators/<stem>.json (its `doc`, tables ...)."""
    return json.loads((goldens_dir() / "annotators" / f"{stem}.json").read_text())


def rule_weights(stem: str) -> dict:
    """Torch weights of a network of an annotator pack, as its `doc` says they were made: by rule, from their names."""
    import torch

    document = annotator_document(stem)
    gain = float(re.search(r"gain (\d+(\.\d+)?)", document["doc"])[1])
    (listed,) = (case["keys"] for case in document["cases"] if "keys" in case)
    weights = {}
    for key, shape in listed:
        noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
        if key.endswith("running_var"):
            value = 0.5 + noise**2
        elif key.endswith("running_mean"):
            value = 0.1 * noise
        elif len(shape) == 1:
            value = 1 + 0.1 * noise if key.endswith(".weight") else 0.05 * noise
        else:
            value = gain * noise / np.sqrt(np.prod(shape[1:]))
        weights[key] = torch.from_numpy(value.astype(np.float32))
    return weights


def model_document(family: str, stem: str) -> dict:
    return json.loads((goldens_dir() / family / f"{stem}.json").read_text())


def model_tensors(family: str, stem: str) -> dict:
    """Torch tensors of <family>/<stem>.safetensors."""
    from safetensors.torch import load_file

    return load_file(str(goldens_dir() / family / f"{stem}.safetensors"))


def wan_weights(stem: str) -> dict:
    """Weights of a Wan golden under the original's names.

    The file is read where it is stored. Where it is not, to keep the repository small, the tensors are drawn again by
    the rule its JSON states (`draw`, `scale_rules`, `weights_keys`): they come out bit-identical.
    """
    path = goldens_dir() / "wan" / f"{stem}.weights.safetensors"
    if path.exists():
        from safetensors.torch import load_file

        return load_file(str(path))
    return _drawn(model_document("wan", stem))


def _drawn(document: dict) -> dict:
    import torch

    generator = torch.Generator().manual_seed(document["seed"])
    weights = {}
    for key, shape in document["weights_keys"].items():
        noise = torch.randn(shape, generator=generator)
        if "modulation" in key:
            value = 0.3 * noise
        elif key.endswith("gamma") or ("norm" in key and key.endswith("weight")):
            value = 1 + 0.1 * noise
        elif key.endswith("bias"):
            value = 0.1 * noise
        elif "token_embedding" in key:
            value = noise
        elif "pos_embedding" in key:
            value = 0.5 * noise
        else:
            value = noise / noise[0].numel() ** 0.5
        for pattern, scale in document["scale_rules"].items():
            if pattern in key:
                value = value * scale
        weights[key] = value
    return weights


MEASURED: dict[str, list[tuple[float, float]]] = {}  # part -> (max abs difference, bar) of every comparison


def equal_within(part: str, found, expected, bar: float = 0.0) -> bool:
    """Whether two arrays or tensors of one shape differ by at most `bar`, the difference noted under `part`.

    scripts/parity_table.sh turns what was noted into benchmarks/parity.md.
    """
    found, expected = (np.asarray(value, dtype=np.float64) for value in (found, expected))
    if found.shape != expected.shape:
        return False
    difference = float(np.abs(found - expected).max()) if found.size else 0.0
    MEASURED.setdefault(part, []).append((difference, bar))
    return difference <= bar
