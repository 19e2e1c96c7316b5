"""What the engines of all base models share: parts checked before they are read, read when first needed, put away.

Components live on the device while they are used. With `offload_model` they leave it afterwards (on a CPU the text
encoder, the largest part, is dropped); with `t5_cpu` the text encoder never enters it. Nothing is left half done when a
call is interrupted: its state is local to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from vace.conditioning.pixels import to_pixels
from vace.devices import pick_device, pick_dtype
from vace.errors import CheckpointError
from vace.models import text
from vace.models.checkpoints import Checkpoint
from vace.models.loading import build, check_parts
from vace.models.parts import COMPONENTS, Part, read_part
from vace.models.previews import middle
from vace.models.text_cache import TextCache
from vace.speed.cpu_convolution import apply_onednn

if TYPE_CHECKING:
    import numpy as np

    from vace.speed.lora_check import Lora

log = logging.getLogger("vace")

ROUNDED = ("transformer", "text_encoder")  # what --quantize is for
A_TEXT = "a boat on the sea"  # that every tokenizer of these models can write


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
    _check_tokenizer(checkpoint, tokenizer, parts["text_encoder"].config)
    return parts, tokenizer


def _check_tokenizer(checkpoint: Checkpoint, tokenizer: Any, encoder: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a tokenizer that is not the text encoder's, as far as can be told, or is damaged."""
    known, highest = encoder["vocab_size"], max(tokenizer.get_vocab().values())
    if highest >= known:
        raise CheckpointError(
            f"{checkpoint.tokenizer}: a tokenizer of {highest + 1} tokens, the text encoder knows {known}; "
            "these files are of two models"
        )
    for name in ("eos_token_id", "pad_token_id"):
        stated, own = encoder.get(name), getattr(tokenizer, name)
        if stated is not None and own is not None and stated != own:
            raise CheckpointError(
                f"{checkpoint.tokenizer}: its {name} is {own}, the text encoder's {stated}; download it again"
            )
    ids = tokenizer(A_TEXT, add_special_tokens=False)["input_ids"]
    if not ids or set(ids) <= {tokenizer.unk_token_id}:
        raise CheckpointError(f"{checkpoint.tokenizer}: knows no word of '{A_TEXT}'; it is damaged, download it again")


class Engine:
    """A base model over checked parts. `dtypes`: the float type of each component. To decode, the VAE's part suffices.

    Each engine adds encode_context, denoise and decode_chunks, says with `sampling` and `decoding` which of the
    settings of a job the last two take, and how prompts are cleaned and how long they may be (`clean`, `text_len`).
    """

    clean: staticmethod
    text_len: int
    decode_chunks: Callable[..., Iterator[torch.Tensor]]

    def __init__(
        self,
        parts: dict[str, Part],
        tokenizer: Any,
        device: torch.device,
        dtypes: dict[str, torch.dtype],
        offload_model: bool = False,
        t5_cpu: bool = False,
        *,
        loras: Sequence[Lora] = (),
        quantize: str | None = None,
    ) -> None:
        self.device = device
        self.dtype = dtypes["transformer"]
        self.offload_model = offload_model
        self._parts = parts
        self._tokenizer = tokenizer
        self._dtypes = dtypes
        self._loras, self._quantize = loras, quantize
        self._modules: dict[str, torch.nn.Module] = {}
        self._neutral: dict[tuple[int, ...], Any] = {}  # what the VAE makes of an all-neutral video, by its shape
        self._texts: dict[text.TokenRow, torch.Tensor] = {}  # states of the last job's texts
        self._homes = dict.fromkeys(COMPONENTS, device)
        if t5_cpu:
            self._homes["text_encoder"] = torch.device("cpu")

    def encode_prompts(self, prompt: str, negative: str | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Text states [tokens, text width] of the prompt and, unless it is None, of the negative prompt ('' is one)."""
        texts = [prompt] if negative is None else [prompt, negative]
        self._warn_of_loss(prompt)
        states = self._encode_texts(texts)
        return states[0], states[1] if negative is not None else None

    def _warn_of_loss(self, prompt: str) -> None:
        """Tell what of the prompt the model never gets to read."""
        cleaned = self.clean(prompt)
        count = len(self._tokenizer(cleaned)["input_ids"])
        if count > self.text_len:
            log.warning("the prompt has %d tokens, and the model reads %d: its end is left out", count, self.text_len)

    def _encode_texts(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """States [tokens, width] of each text, on the engine's device; only texts not seen before ask the encoder."""
        part, home = self._parts["text_encoder"], self._homes["text_encoder"]
        cache = TextCache(part, self._dtypes["text_encoder"], home, self._quantize)
        rows = text.token_rows(self._tokenizer, texts, self.text_len, self.clean)
        states = {row: self._texts[row] if row in self._texts else cache.get(row) for row in rows}
        missing = [row for row, found in states.items() if found is None]
        if missing:
            with self._in_use("text_encoder") as model:
                for row in missing:
                    states[row] = text.encode_row(model, row)
                    cache.put(row, states[row])
        self._texts = {row: found.to(self.device) for row, found in states.items()}
        return [self._texts[row] for row in rows]

    def preview(self, latents: torch.Tensor, refs: int = 0, **given: Any) -> np.ndarray:
        """The middle frame of what latents [C, refs + T, h, w] are near, from one latent frame: RGB uint8 [H, W, 3].

        given: what `decoding` says, so that all that is drawn for it comes from a generator of its own.
        """
        at = middle(latents.shape[1], refs)
        chunks = list(self.decode_chunks(latents[:, at : at + 1], 0, **given))
        return to_pixels(chunks[0][:, :1])[0]

    def release(self) -> None:
        """Drops every component from memory; the next call reads it again."""
        self._modules.clear()
        self._neutral.clear()
        self._texts.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def _in_use(self, name: str) -> Iterator[Any]:
        """The component on its device, read straight to it if need be; put away afterwards when offloading."""
        if name not in self._modules:
            log.debug("reading %s from %s", name, self._parts[name].source)
            module = self._read(name)
            self._prepare(name, module)
            self._modules[name] = module  # at last: an interrupt in between leaves nothing half made
        try:
            yield self._placed(name)
        finally:
            self._after_use(name)

    def _read(self, name: str) -> torch.nn.Module:
        """The component on its device, LoRAs fused into it, rounded to 8 bits where that was asked for."""
        given = self._parts[name], self._dtypes[name], self._home(name), self._quantize if name in ROUNDED else None
        if name != "transformer" or not self._loras:
            return build(*given)
        from vace.speed.lora import fusing

        with fusing(self._loras) as change:
            return build(*given, change)

    def _prepare(self, name: str, module: torch.nn.Module) -> None:
        """Make the component fast, in place, before it first runs."""
        apply_onednn(module)

    def _home(self, name: str) -> torch.device:
        """Where the component's weights are read to."""
        return self._homes[name]

    def _placed(self, name: str) -> torch.nn.Module:
        """The component where it runs."""
        return self._modules[name].to(self._homes[name])

    def _after_use(self, name: str) -> None:
        if self.offload_model:
            self._put_away(name)

    def _put_away(self, name: str) -> None:
        if self._homes[name].type == "cuda":
            self._modules[name].to("cpu")
            torch.cuda.empty_cache()
        elif name == "text_encoder" and self.device.type == "cpu":
            del self._modules[name]


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of components that float16 overflows in: T5's feed-forward layers, LTX's VAE."""
    return torch.bfloat16 if dtype == torch.float16 else dtype


def load_engine(
    kind: Callable[..., Any],
    checkpoint: Checkpoint,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    offload_model: bool = False,
    t5_cpu: bool = False,
    checked: tuple[dict[str, Part], Any] | None = None,
    *,
    loras: Sequence[Lora] = (),
    quantize: str | None = None,
    **speed: Any,
) -> Any:
    """An engine of that kind for `checkpoint`, all its files checked by name and shape, no weights read yet.

    device: see pick_device. dtype: see pick_dtype. checked: what check_checkpoint gave before, to spare a second look.
    loras: what `check_loras` gave, fused into the transformer as it is read. quantize: 'int8' or 'fp8', see
    vace.speed.quantize. speed: what only this kind of engine is made with. Raises CheckpointError, DeviceError,
    InputError.
    """
    where = pick_device(device)
    parts, tokenizer = checked or check_checkpoint(checkpoint)
    return kind(
        parts,
        tokenizer,
        where,
        pick_dtype(dtype, where),
        offload_model,
        t5_cpu,
        loras=loras,
        quantize=quantize,
        **speed,
    )
