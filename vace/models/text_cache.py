"""Text states kept on disk, so that a prompt seen before costs no text encoder: 11 GB to read, and the time for it.

One small safetensors file per text below $VACE_CACHE (default: the user's cache folder). Its name is a hash of all the
states depend on: the token ids, the encoder's files and settings, the float type, the kind of device, the versions that
compute them. Nothing here can fail a run: what cannot be read or written is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from vace.models.parts import Part
from vace.weight_files import fingerprint

log = logging.getLogger("vace")

FORMAT = 1  # of the states; counts up when they are computed in another way
MOST_BYTES = 512 * 1024**2  # all files together; the longest prompt takes 4 MB in bfloat16, 8 in float32
STALE_SECONDS = 3600.0  # after which an unfinished file is nobody's any more
OFF = "off"


def folder() -> Path | None:
    """Where states are kept: $VACE_CACHE/text, or below the user's cache folder.

    None for VACE_CACHE=off, and where the user has no home.
    """
    own = os.environ.get("VACE_CACHE")
    if own and own.lower() == OFF:
        return None
    try:
        if own:
            return Path(own).expanduser() / "text"
        base = os.environ.get("XDG_CACHE_HOME")
        return (Path(base) if base else Path.home() / ".cache") / "vace" / "text"
    except RuntimeError:
        return None


class TextCache:
    """The states of one encoder. dtype, device: what it runs in and on; quantize: how its weights are rounded."""

    def __init__(self, part: Part, dtype: torch.dtype, device: torch.device, quantize: str | None = None) -> None:
        self._part = part
        self._kind = [FORMAT, str(dtype), device.type, *([quantize] if quantize else [])]
        self._encoder: str | None = None

    def get(self, ids: Sequence[int]) -> torch.Tensor | None:
        """The states [tokens, width] of a text of these token ids, on the CPU; None where they are not kept."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            path = self._path(ids)
            if path is None or not path.is_file():
                return None
            states = load_file(path)["states"]
        except (SafetensorError, OSError, KeyError) as error:
            log.debug("kept text states are not usable: %s", error)
            return None
        if states.shape != (len(ids), self._part.config["d_model"]) or not bool(states.isfinite().all()):
            log.debug("%s: not the states of this text", path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # what is used stays longest
        return states

    def put(self, ids: Sequence[int], states: torch.Tensor) -> None:
        """Keep states; the files not used for longest go where all take more than MOST_BYTES."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        try:
            path = self._path(ids)
            if path is None:
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
            os.close(handle)
            try:
                save_file({"states": states.detach().cpu().contiguous()}, name)
                os.replace(name, path)
            finally:
                Path(name).unlink(missing_ok=True)
            _trim(path.parent)
        except (OSError, SafetensorError) as error:  # a full disk is the latter
            log.debug("text states are not kept: %s", error)

    def _path(self, ids: Sequence[int]) -> Path | None:
        place = folder()
        if place is None:
            return None
        key = json.dumps([list(ids), self._fingerprint(), *self._kind])
        return place / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.safetensors"

    def _fingerprint(self) -> str:
        """What tells this encoder from others: its files (place, age, size, both ends), settings, and software."""
        if self._encoder is None:
            import transformers

            files = [path.resolve() for path in self._part.weights.files]
            facts = {
                "files": [[str(path), path.stat().st_mtime_ns] for path in files],
                "content": fingerprint(files),
                "config": dict(self._part.config),
                "versions": [torch.__version__, transformers.__version__],
            }
            self._encoder = json.dumps(facts, sort_keys=True, default=str)
        return self._encoder


def _trim(place: Path) -> None:
    for path in place.glob(".*.part"):  # of runs that were killed
        if time.time() - path.stat().st_mtime > STALE_SECONDS:
            path.unlink(missing_ok=True)
    files = [(path, path.stat()) for path in place.glob("*.safetensors")]
    total = sum(stat.st_size for _, stat in files)
    for path, stat in sorted(files, key=lambda item: item[1].st_mtime):
        if total <= MOST_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= stat.st_size
