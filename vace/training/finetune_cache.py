"""Rows encoded once: latents and text states on disk, so that VAE and text encoder need no memory while training.

One safetensors file for each row, each prompt, and each shape of an empty source. Its name is a hash of all it depends
on: the contents of the row's files, the frames and size chosen, the VAE (or text encoder) and its settings. Each is
written whole or not at all, so a run that was stopped goes on where it was, and several processes share the work.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vace.errors import OutputError
from vace.media.files import replacing
from vace.runs import input_records
from vace.training.finetune_rows import PlannedRow, read_tensors_of
from vace.weight_files import fingerprint

if TYPE_CHECKING:
    import torch

    from vace.models.parts import Part
    from vace.models.wan.engine import WanEngine
    from vace.settings import Settings

log = logging.getLogger("vace")

FORMAT = 1  # of the files; counts up when they are made in another way
MASK_CHANNELS = 64
ROOM = 1.2  # times the estimate that must be free


@dataclass(frozen=True)
class Item:
    """One encoded row. shape: latent (frames with references, rows, columns). refs: references in front.

    row, text, empty: files with the row's latents, its prompt's states, the context of an empty source of its shape.
    """

    row: Path
    text: Path
    empty: Path
    shape: tuple[int, int, int]
    refs: int

    def load(self) -> dict[str, torch.Tensor]:
        """target float32 [16,T,h,w], context float32 [96,T,h,w], text [tokens, width]."""
        from safetensors.torch import load_file

        stored = load_file(self.row)
        context = _joined(stored["context"], stored["mask"])
        return {"target": stored["target"].float(), "context": context, "text": load_file(self.text)["states"]}

    def load_empty(self, context: torch.Tensor) -> torch.Tensor:
        """The context [96,T,h,w] with the references of `context` and no source."""
        import torch
        from safetensors.torch import load_file

        stored = load_file(self.empty)
        return torch.cat([context[:, : self.refs], _joined(stored["context"], stored["mask"])], dim=1)


class Cache:
    """The files in `folder` for one model. vae, text_encoder: its parts; dtype: of the text states."""

    def __init__(self, folder: Path, vae: Part, text_encoder: Part, dtype: object) -> None:
        self.folder = folder
        self._vae = [FORMAT, *_identity(vae)]
        self._text = [FORMAT, str(dtype), *_identity(text_encoder)]

    def items(self, planned: Sequence[PlannedRow], settings: Settings) -> list[Item]:
        """Where each row is, or will be, kept. The contents of all files are read for that."""
        return [self._item(row, settings) for row in planned]

    def text(self, prompt: str) -> Path:
        return self._place("text", [*self._text, prompt])

    def _item(self, planned: PlannedRow, settings: Settings) -> Item:
        row, shape = planned.row, planned.shape
        refs = len(row.src_ref_images)
        latent = (1 + (shape.model_count - 1) // 4 + refs, shape.height // 8, shape.width // 8)
        size = [shape.width, shape.height, shape.model_count]
        content = [[record["flag"], record["sha256"]] for record in input_records(row.files())]
        key = [*self._vae, *size, list(shape.frames.ids), content, settings.fill_mask, planned.hints.get("under_mask")]
        return Item(
            self._place("row", key), self.text(row.prompt), self._place("empty", [*self._vae, *size]), latent, refs
        )

    def _place(self, kind: str, key: list[Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:32]
        return self.folder / f"{kind}-{digest}.safetensors"


def encode_missing(
    engine: WanEngine,
    cache: Cache,
    planned: Sequence[PlannedRow],
    items: Sequence[Item],
    settings: Settings,
    *,
    part: tuple[int, int] = (0, 1),
    progress: bool = True,
) -> int:
    """Encode what is not kept yet; returns how many files were written. part: (i, n), every nth of them from i.

    Raises OutputError where they have no room.
    """
    import torch
    from tqdm import tqdm

    count = 0
    for name, jobs in _jobs(engine, cache, planned, items, settings).items():
        own = list(jobs.items())[part[0] :: part[1]]  # before looking what is there, which others are changing
        todo = [(path, make) for path, make in own if not path.is_file()]
        for path, make in tqdm(todo, desc=f"encode {name}", disable=not progress or not todo):
            with torch.no_grad():
                _write(path, make())
        engine.release()  # text encoder and VAE are never in memory together
        count += len(todo)
    return count


def missing_bytes(items: Iterable[Item]) -> int:
    """About what the files of `items` that are not there yet will take."""
    new = {item.row: item for item in items if not item.row.is_file()}
    return sum((2 * 16 + 2 * 32 + MASK_CHANNELS) * item.shape[0] * item.shape[1] * item.shape[2]
               for item in new.values())  # fmt: skip


def check_room(folder: Path, need: int, remedy: str) -> None:
    """Raise OutputError where the disk of `folder` has less than `need` bytes free, and a little more."""
    import shutil

    present = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(present).free
    if free < ROOM * need:
        raise OutputError(f"{folder}: {free / 1e9:.1f} GB free, about {ROOM * need / 1e9:.1f} GB needed; {remedy}")


def _jobs(
    engine: WanEngine, cache: Cache, planned: Sequence[PlannedRow], items: Sequence[Item], settings: Settings
) -> dict[str, dict[Path, Callable[[], dict[str, torch.Tensor]]]]:
    """What there is to encode, in two parts: file -> what makes its content, each file once."""
    prompts = ["", *(one.row.prompt for one in planned)]
    texts = {cache.text(prompt): partial(_encode_text, engine, prompt) for prompt in prompts}
    clips = {}
    for one, item in zip(planned, items, strict=True):
        clips[item.empty] = partial(_encode_empty, engine, one.shape)
        clips[item.row] = partial(_encode_row, engine, one, settings)
    return {"prompts": texts, "clips": clips}


def _encode_text(engine: WanEngine, prompt: str) -> dict[str, torch.Tensor]:
    return {"states": engine.encode_prompts(prompt, None)[0].cpu()}


def _encode_row(engine: WanEngine, planned: PlannedRow, settings: Settings) -> dict[str, torch.Tensor]:
    import torch

    target, frames, mask, refs = read_tensors_of(planned, settings)
    context = engine.encode_context(frames, mask, refs).cpu()
    # A mask that keeps everything: the inactive half is then the clip itself, references in front.
    clip = engine.encode_context(target, torch.zeros_like(mask), refs).cpu()[:16]
    return {"target": clip.half(), **_split(context)}


def _encode_empty(engine: WanEngine, shape) -> dict[str, torch.Tensor]:
    from vace.conditioning.context import empty_source

    return _split(engine.encode_context(*empty_source(shape.model_count, shape.width, shape.height)).cpu())


def _split(context: torch.Tensor) -> dict[str, torch.Tensor]:
    """Latents as float16; the folded mask as the 8-bit levels it was read from."""
    latents, mask = context[:-MASK_CHANNELS], context[-MASK_CHANNELS:]
    return {"context": latents.half(), "mask": (mask * 255).round().byte()}


def _joined(latents: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat([latents.float(), mask.float() / 255])


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    with replacing(path) as temporary:
        temporary.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def _identity(part: Part) -> list[object]:
    """What tells this component from others: the ends of its files, and its settings."""
    return [fingerprint({path.resolve() for path in part.weights.files}), dict(part.config)]
