"""What `vace train` leaves: the trained weights in a file, and a checkpoint with them put in.

lora.safetensors has the keys of diffusers and peft (`transformer.vace_blocks.0.attn1.to_q.lora_A.weight`), rank and
alpha in its metadata; context.safetensors the tensors of the context parts by the names of diffusers' class.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vace.errors import CheckpointError
from vace.media.files import refusals_as_output_errors, replacing
from vace.media.manifest import write_json
from vace.training.finetune_model import CONTEXT, adapter_name
from vace.weight_files import read_json

if TYPE_CHECKING:
    from vace.models.checkpoints import Checkpoint
    from vace.models.parts import Part

log = logging.getLogger("vace")

PREFIX = "transformer."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
NAMES = {"lora": "lora.safetensors", CONTEXT: "context.safetensors"}
# The names under which diffusers and others look for what a LoRA was made with.
METADATA_KEY = "lora_adapter_metadata"


def write_weights(path: Path, kind: str, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """The trained tensors (names as in the transformer) as a file of `kind`. facts: rank, alpha, base model ..."""
    metadata = {"format": "pt"} | {name: str(value) for name, value in facts.items()}
    if kind != CONTEXT:
        tensors = {PREFIX + adapter_name(name): tensor for name, tensor in tensors.items()}
        targets = sorted({name.removeprefix(PREFIX).removesuffix(DOWN) for name in tensors if name.endswith(DOWN)})
        settings = {"r": facts["rank"], "lora_alpha": facts["alpha"], "target_modules": targets}
        metadata[METADATA_KEY] = json.dumps({PREFIX + name: value for name, value in settings.items()})
    _save(path, {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}, metadata)


def changed_weights(path: Path, part: Part) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """name in the transformer -> what makes the new weight, float32, of the old one, for a file of `write_weights`.

    A LoRA adds alpha / rank * B A. Raises CheckpointError where the file does not fit the transformer.
    """
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if not any(name.endswith(DOWN) for name in tensors):
        found = {name: lambda old, new=tensor: new for name, tensor in tensors.items()}
    else:
        scale = float(metadata["alpha"]) / float(metadata["rank"])
        found = {}
        for name, down in tensors.items():
            if name.endswith(DOWN):
                up = tensors[name.removesuffix(DOWN) + UP]
                target = name.removeprefix(PREFIX).removesuffix(DOWN) + ".weight"
                found[target] = lambda old, up=up, down=down: old.float() + scale * (up.float() @ down.float())
    unknown = [name for name in found if name not in part.names]
    if unknown:
        raise CheckpointError(f"{path}: holds weights that {part.source} does not have ({', '.join(unknown[:4])})")
    return found


def checkpoint_bytes(checkpoint: Checkpoint, part: Part, names: set[str], folder: Path) -> int:
    """What `write_checkpoint` will take of the disk for new weights of these names in the transformer."""
    touched = {part.weights.holder[part.names[name]] for name in names if name in part.names}
    sizes = sum(path.stat().st_size for path in touched)
    kept = [path for path in _files(checkpoint) if path not in touched and not _can_link(path, folder)]
    return sizes + sum(path.stat().st_size for path in kept)


def write_checkpoint(checkpoint: Checkpoint, part: Part, weights: Path, folder: Path, name: str) -> None:
    """A checkpoint in `folder`, in the layout of `checkpoint`, with the trained weights put in; whole or not at all.

    Files without a changed tensor are hard links to those of `checkpoint` where they lie on the same disk, else copies.
    name: what its results are filed under.
    """
    changed = changed_weights(weights, part)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with refusals_as_output_errors(folder):
            linked = _fill(checkpoint, part, changed, temporary)
            _describe(checkpoint, temporary, name)
            _put(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    amount = sum(path.stat().st_size for path in linked) / 1e9
    log.info("%s: %d unchanged files (%.1f GB) are hard links to those of %s", folder, len(linked), amount,
             checkpoint.path)  # fmt: skip


def _fill(checkpoint: Checkpoint, part: Part, changed: Mapping[str, Callable], folder: Path) -> list[Path]:
    """Write or link every file of the checkpoint; returns those that were linked."""
    makers: dict[Path, dict[str, Callable]] = {}
    for name, make in changed.items():
        key = part.names[name]
        makers.setdefault(part.weights.holder[key], {})[key] = make
    linked = []
    for path in _files(checkpoint):
        target = folder / path.relative_to(checkpoint.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path in makers:
            _rewrite(path, target, makers[path])
        elif _linked(path, target):
            linked.append(path)
    return linked


def _rewrite(source: Path, target: Path, makers: Mapping[str, Callable]) -> None:
    """A copy of a weight file with some tensors made anew, each in the float type it is stored in."""
    from safetensors import safe_open

    with safe_open(str(source), framework="pt") as file:
        tensors = {}
        for key in file.keys():  # noqa: SIM118
            old = file.get_tensor(key)
            tensors[key] = makers[key](old).to(old.dtype).reshape(old.shape).contiguous() if key in makers else old
        _save(target, tensors, file.metadata() or {"format": "pt"})


def _files(checkpoint: Checkpoint) -> list[Path]:
    """Every file the checkpoint is read from, and what describes it."""
    parts = (checkpoint.transformer, checkpoint.text_encoder, checkpoint.vae)
    found = {path for one in parts for path in (*one.files, *([one.config] if one.config else []))}
    found |= {path for one in parts for path in one.files[0].parent.glob("*.index.json")}
    found |= {path for path in checkpoint.tokenizer.iterdir() if path.is_file()}
    return sorted(found)


def _describe(checkpoint: Checkpoint, folder: Path, name: str) -> None:
    """vace.json with the new name; what `--config` told goes into the config.json."""
    write_json(folder / "vace.json", {**checkpoint.defaults, "name": name})
    if checkpoint.settings is not None:
        place = folder / "transformer" if checkpoint.layout == "diffusers" else folder
        stated = read_json(checkpoint.transformer.config) if checkpoint.transformer.config else {}
        write_json(place / "config.json", stated | read_json(checkpoint.settings))  # a new file: no link is written to


def _linked(path: Path, target: Path) -> bool:
    """Link `target` to the file that `path` is (or leads to); copied, and False, where that cannot be."""
    try:
        os.link(path.resolve(), target)
        return True
    except OSError:
        shutil.copy2(path, target)
        return False


def _can_link(path: Path, folder: Path) -> bool:
    present = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return path.resolve().stat().st_dev == present.stat().st_dev


def _put(temporary: Path, folder: Path) -> None:
    """Give a finished folder its name; an older one goes."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(temporary, folder)
    shutil.rmtree(old, ignore_errors=True)


def _save(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        mode = temporary.stat().st_mode
        save_file(tensors, temporary, metadata=metadata)
        os.chmod(temporary, mode)  # save_file lets only its user read
