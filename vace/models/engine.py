"""What the engines of all base models share: parts checked before they are read, read when first needed, put away.

Components live on the device while they are used. With `offload_model` they leave it afterwards (on a CPU the text
encoder, the largest part, is dropped); with `t5_cpu` the text encoder never enters it. Nothing is left half done when a
call is interrupted: its state is local to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from vace.devices import pick_device, pick_dtype
from vace.errors import CheckpointError
from vace.models import text
from vace.models.checkpoints import Checkpoint
from vace.models.loading import build, check_parts
from vace.models.parts import COMPONENTS, Part, read_part
from vace.models.text_cache import TextCache
from vace.speed.cpu_convolution import apply_onednn

log = logging.getLogger("vace")

OnStep = Callable[[int, int, torch.Tensor, torch.Tensor], None]


def check_checkpoint(checkpoint: Checkpoint) -> tuple[dict[str, Part], Any]:
    """The parts and the tokenizer, every file checked by name and shape, no weights read.

    Raises one CheckpointError that names all parts that cannot be used.
    """
    parts: dict[str, Part] = {}
    problems: list[CheckpointError] = []
    for name in COMPONENTS:
        try:
            parts[name] = read_part(checkpoint, name)
        except CheckpointError as error:
            problems.append(error)
    tokenizer = None
    try:
        tokenizer = text.load_tokenizer(checkpoint.tokenizer)
    except CheckpointError as error:
        problems.append(error)
    if problems:
        raise CheckpointError("; ".join(dict.fromkeys(str(error) for error in problems))) from problems[0]
    check_parts(parts)
    known = parts["text_encoder"].config["vocab_size"]
    highest = max(tokenizer.get_vocab().values())
    if highest >= known:
        raise CheckpointError(
            f"{checkpoint.tokenizer}: a tokenizer of {highest + 1} tokens, the text encoder knows {known}; "
            "these files are of two models"
        )
    return parts, tokenizer


class Engine:
    """A base model over checked parts. `dtypes`: the float type of each component.

    Each engine adds encode_prompts, encode_context, denoise and decode_chunks, and says with `sampling` and `decoding`
    which of the settings of a job the last two take.
    """

    def __init__(
        self,
        parts: dict[str, Part],
        tokenizer: Any,
        device: torch.device,
        dtypes: dict[str, torch.dtype],
        offload_model: bool = False,
        t5_cpu: bool = False,
    ) -> None:
        self.device = device
        self.dtype = dtypes["transformer"]
        self.offload_model = offload_model
        self._parts = parts
        self._tokenizer = tokenizer
        self._dtypes = dtypes
        self._modules: dict[str, torch.nn.Module] = {}
        self._texts: dict[text.TokenRow, torch.Tensor] = {}  # states of the last job's texts
        self._homes = dict.fromkeys(COMPONENTS, device)
        if t5_cpu:
            self._homes["text_encoder"] = torch.device("cpu")

    def _encode_texts(self, texts: Sequence[str], text_len: int, clean: text.Clean) -> list[torch.Tensor]:
        """States [tokens, width] of each text, on the engine's device; only texts not seen before ask the encoder."""
        part, home = self._parts["text_encoder"], self._homes["text_encoder"]
        cache = TextCache(part.weights.files, self._dtypes["text_encoder"], home)
        rows = text.token_rows(self._tokenizer, texts, text_len, clean)
        states = {row: self._texts.get(row, cache.get(row)) for row in rows}
        missing = [row for row, found in states.items() if found is None]
        if missing:
            with self._in_use("text_encoder") as model:
                for row in missing:
                    states[row] = text.encode_row(model, row)
                    cache.put(row, states[row])
        self._texts = {row: found.to(self.device) for row, found in states.items()}
        return [self._texts[row] for row in rows]

    def release(self) -> None:
        """Drops every component from memory; the next call reads it again."""
        self._modules.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def _in_use(self, name: str) -> Iterator[Any]:
        """The component on its device, read straight to it if need be; put away afterwards when offloading."""
        home = self._homes[name]
        if name not in self._modules:
            log.debug("reading %s from %s", name, self._parts[name].source)
            self._modules[name] = build(self._parts[name], self._dtypes[name], home)
            apply_onednn(self._modules[name])
        try:
            yield self._modules[name].to(home)
        finally:
            if self.offload_model:
                self._put_away(name)

    def _put_away(self, name: str) -> None:
        if self._homes[name].type == "cuda":
            self._modules[name].to("cpu")
            torch.cuda.empty_cache()
        elif name == "text_encoder" and self.device.type == "cpu":
            del self._modules[name]


def load_engine(
    kind: Callable[..., Any],
    checkpoint: Checkpoint,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    offload_model: bool = False,
    t5_cpu: bool = False,
    checked: tuple[dict[str, Part], Any] | None = None,
) -> Any:
    """An engine of that kind for `checkpoint`, all its files checked by name and shape, no weights read yet.

    device: see pick_device. dtype: see pick_dtype. checked: what check_checkpoint gave before, to spare a second look.
    Raises CheckpointError, DeviceError, InputError.
    """
    where = pick_device(device)
    parts, tokenizer = checked or check_checkpoint(checkpoint)
    return kind(parts, tokenizer, where, pick_dtype(dtype, where), offload_model, t5_cpu)
