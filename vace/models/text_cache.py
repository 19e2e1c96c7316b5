"""Text states kept on disk, so that a prompt seen before costs no text encoder: 11 GB to read, and the time for it.

One small safetensors file per text below $VACE_CACHE (default: the user's cache folder). Its name is a hash of all the
states depend on: the token ids, the encoder's files, the float type and the kind of device. Nothing here can fail a
run: what cannot be read or written is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from vace.weight_files import fingerprint

log = logging.getLogger("vace")

MOST_BYTES = 512 * 1024**2  # all files together; a long prompt takes 2 to 4 MB
OFF = "off"


def folder() -> Path | None:
    """Where states are kept: $VACE_CACHE/text, or below the user's cache folder; None for VACE_CACHE=off."""
    own = os.environ.get("VACE_CACHE")
    if own == OFF:
        return None
    if own:
        return Path(own).expanduser() / "text"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vace" / "text"


class TextCache:
    """The states of one encoder. files: its weights; dtype, device: what it runs in and on."""

    def __init__(self, files: Sequence[Path], dtype: torch.dtype, device: torch.device) -> None:
        self._files = tuple(files)
        self._kind = [str(dtype), device.type, torch.__version__]
        self._print: str | None = None

    def get(self, ids: Sequence[int]) -> torch.Tensor | None:
        """The states [tokens, width] of a text of these token ids, on the CPU; None where they are not kept."""
        path = self._path(ids)
        if path is None or not path.is_file():
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            states = load_file(path)["states"]
            with contextlib.suppress(OSError):
                os.utime(path)  # what is used stays longest
            return states
        except (SafetensorError, OSError, KeyError) as error:
            log.debug("%s: not usable (%s)", path, error)
            return None

    def put(self, ids: Sequence[int], states: torch.Tensor) -> None:
        """Keep states; the files not used for longest go where all take more than MOST_BYTES."""
        path = self._path(ids)
        if path is None:
            return
        from safetensors.torch import save_file

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
            os.close(handle)
            try:
                save_file({"states": states.detach().cpu().contiguous()}, name)
                os.replace(name, path)
            finally:
                Path(name).unlink(missing_ok=True)
            _trim(path.parent)
        except OSError as error:
            log.debug("text states are not kept: %s", error)

    def _path(self, ids: Sequence[int]) -> Path | None:
        place = folder()
        if place is None:
            return None
        if self._print is None:
            self._print = fingerprint(self._files)
        key = json.dumps([list(ids), self._print, *self._kind])
        return place / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.safetensors"


def _trim(place: Path) -> None:
    files = [(path, path.stat()) for path in place.glob("*.safetensors")]
    total = sum(stat.st_size for _, stat in files)
    for path, stat in sorted(files, key=lambda item: item[1].st_mtime):
        if total <= MOST_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= stat.st_size
