"""Trained weights into an annotator's network of transformers, as float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vace.hf_loading import load, quiet, readable, refuse_misfits, tokenizer_of

__all__ = ["from_folder", "from_tensors", "quiet", "readable", "refuse_misfits", "tokenizer_of"]


def from_folder(kind: type, folder: Path, ignored: Sequence[str] = ()) -> Any:
    """The network of class `kind` that `folder` (config.json, *.safetensors) holds, ready to infer.

    ignored: patterns of names that may be there unused. Raises CheckpointError as `hf_loading.load` does.
    """
    return load(kind, str(folder), str(folder), ignored)


def from_tensors(kind: type, config: Any, tensors: Mapping[str, Any], where: str) -> Any:
    """The network of class `kind` and of `config` filled with `tensors`, named as transformers publishes them.

    where: names their origin in errors, which are those of `from_folder`.
    """
    return load(kind, None, where, config=config, state_dict=dict(tensors))
