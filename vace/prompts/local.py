"""A language model on this machine as writer: any instruction model that transformers can load, Qwen2.5 by default."""

from __future__ import annotations

import gc
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vace import hf_loading, hub, weight_files
from vace.errors import CheckpointError, DeviceError, InputError, MissingWeights
from vace.prompts.extend import Answer

if TYPE_CHECKING:
    import torch

log = logging.getLogger("vace")

LARGE, SMALL = "Qwen/Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct"
# What Qwen2.5 was published with, for models whose generation_config.json does not say.
SAMPLING: Mapping[str, float] = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
WANTED = (*hub.TRANSFORMERS, "*.jinja", "*.model")  # the chat template may be a file of its own
_ENDLESS = 10**12  # tokenizers that know no limit say 10**30
_TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model")


@dataclass
class LocalWriter:
    """Writes with the model called `model`: a folder, a hub id, or None for the Qwen2.5 that suits the device.

    It is loaded for each `write` and dropped again, so that the base model has the memory to itself.
    """

    model: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    no_download: bool = False
    _told: dict[str, Any] = field(default_factory=dict, repr=False)

    def write(self, messages: Sequence[Mapping[str, str]], *, seed: int, max_tokens: int) -> Answer:
        """See `extend.Writer`. The same seed gives the same words; torch's global generators stay as they are.

        Raises MissingWeights, CheckpointError for a model that cannot be loaded or has no chat template, InputError for
        a prompt longer than it can read, DeviceError where it does not fit.
        """
        import torch

        from vace.devices import pick_device, pick_dtype

        device = pick_device(self.device)
        dtype = pick_dtype(self.dtype, device)
        folder = find_model(self.model, device.type, self.no_download)
        self._told = {"fingerprint": fingerprint(folder), "device": str(device), "dtype": str(dtype).split(".")[-1]}
        self._told["model"] = _label(folder)
        log.info("the prompt is extended by %s on %s", self._told["model"], device)
        began = time.monotonic()
        try:
            # Seeds go through a generator of our own; the fork is for what loading may draw.
            with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.inference_mode():
                answer = _answer(folder, device, dtype, messages, seed, max_tokens)
        except torch.cuda.OutOfMemoryError:
            remedy = f"give --prompt_model {SMALL}, or --device cpu"
            raise DeviceError(f"--prompt_model {self._told['model']}: does not fit into {device}; {remedy}") from None
        finally:
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
        log.debug("the prompt took %.1f s", time.monotonic() - began)
        return answer

    def describe(self) -> dict[str, Any]:
        """Kind and model; after `write` also fingerprint, device and float type. No directory of the machine."""
        name = self.model if self.model and _HUB_ID.match(self.model) else Path(self.model or "auto").name
        return {"kind": "local", "model": name} | self._told


def find_model(name: str | None, device: str = "cpu", no_download: bool = False) -> Path:
    """The folder of the model called `name`, fetched from the hub where it must be, after a line with its size.

    None: of LARGE and SMALL the one that suits the kind of `device` ('cuda': LARGE), or the other one where only that
    is here. A hub id is looked for in ./models, $VACE_MODELS, the annotators' collection and the hub cache first.
    Raises MissingWeights with the command that gets it.
    """
    if name is None:
        wanted = (LARGE, SMALL) if device == "cuda" else (SMALL, LARGE)
        found = next((folder for folder in map(_local_copy, wanted) if folder), None)
        return found or _fetched(wanted[0], no_download)
    folder = Path(name).expanduser()
    if folder.exists():
        absent = _absent(folder)
        if absent:
            raise MissingWeights(f"--prompt_model {name}: no {', no '.join(absent)} there; {hub.how_to_get(SMALL)}")
        return folder
    if not _HUB_ID.match(name) or folder.parts[0] == "models" or Path(folder.parts[0]).is_dir():
        raise MissingWeights(f"--prompt_model {name}: no such folder; {hub.how_to_get(SMALL)}")
    return _local_copy(name) or _fetched(name, no_download)


def fingerprint(folder: Path) -> str:
    """16 hex digits that tell models apart, of the json files and the weights in a folder."""
    return weight_files.fingerprint([*folder.glob("*config.json"), *folder.glob("*.safetensors")])


def _label(folder: Path) -> str:
    """The model's name for the manifest: its hub id where the folder tells it, else the folder's name."""
    for part in folder.resolve().parts:
        if part.startswith("models--"):  # the hub cache
            return part.removeprefix("models--").replace("--", "/")
    name = folder.resolve().name
    return next((known for known in (LARGE, SMALL) if known.endswith(f"/{name}")), name)


def _absent(folder: Path) -> list[str]:
    """What a model folder lacks; CheckpointError where shards that its index names are not there."""
    from vace.weight_files import find_files

    if not folder.is_dir():
        return ["folder"]
    wanted = {
        "config.json": (folder / "config.json").is_file(),
        "tokenizer": any((folder / name).is_file() for name in _TOKENIZERS),
        "model*.safetensors": bool(find_files(folder, "model")),
    }
    return [what for what, is_there in wanted.items() if not is_there]


def _local_copy(repository: str) -> Path | None:
    name = repository.partition("/")[2]
    cached = hub.cached_folder(repository)
    places = [root / name for root in hf_loading.roots()]
    places += [folder / "llm" / name for folder in hf_loading.collection_folders()]
    for folder in [*places, *([cached] if cached else [])]:
        try:
            if folder.is_dir() and not _absent(folder):
                return folder
        except CheckpointError:  # a download that broke off: the next place, or the rest of it
            continue
    return None


def _fetched(repository: str, no_download: bool) -> Path:
    if hub.is_offline(no_download):
        advice = hub.how_to_get(repository)
        raise MissingWeights(f"--prompt_model {repository}: not on this machine and downloading is off; {advice}")
    folder = hub.download(repository, WANTED, note="it extends the prompt")
    absent = _absent(folder)
    if absent:
        raise MissingWeights(f"--prompt_model {repository}: holds no {', no '.join(absent)}; give an Instruct model")
    return folder


def _answer(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    messages: Sequence[Mapping[str, str]],
    seed: int,
    max_tokens: int,
) -> Answer:
    tokenizer = hf_loading.tokenizer_of(folder)
    ids = _asked(tokenizer, folder, messages)
    room = _room(folder, tokenizer)
    if room and ids.shape[1] + max_tokens > room:
        raise InputError(
            f"--prompt: {ids.shape[1]} tokens with the rules, and {max_tokens} to write; {folder.name} takes {room} in "
            "all; shorten it"
        )
    model = _load(folder, dtype)
    config = _generation(model, tokenizer, max_tokens)
    with hf_loading.quiet():
        written = model.to(device).generate(
            ids.to(device),
            attention_mask=ids.new_ones(ids.shape).to(device),
            generation_config=config,
            logits_processor=_draws(model.generation_config, seed),
        )[0, ids.shape[1] :]
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    is_cut = len(written) >= max_tokens and int(written[-1]) not in ends
    return Answer(tokenizer.decode(written, skip_special_tokens=True), is_cut)


def _asked(tokenizer: Any, folder: Path, messages: Sequence[Mapping[str, str]]) -> torch.Tensor:
    """`messages` as the model's chat template puts them: int64 [1,tokens]. CheckpointError where it has none."""
    if not tokenizer.chat_template:
        remedy = f"give an Instruct model, e.g. {SMALL}"
        raise CheckpointError(f"{folder}: its tokenizer has no chat template, so it takes no instructions; {remedy}")
    with hf_loading.readable(str(folder)):
        # Qwen3's template asks it to think aloud unless told otherwise; others do not look at this.
        return tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, enable_thinking=False, return_dict=True, return_tensors="pt"
        )["input_ids"]


def _room(folder: Path, tokenizer: Any) -> int | None:
    """Tokens that the model reads and writes in all, by config.json and the tokenizer; None where neither says."""
    from transformers import AutoConfig

    with hf_loading.readable(str(folder)), hf_loading.quiet():
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True).get_text_config()
    said = (getattr(config, "max_position_embeddings", None), tokenizer.model_max_length)
    return min((int(room) for room in said if room and room < _ENDLESS), default=None)


def _load(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    # Tensors beyond the network's own (a tied head, a vision part) do no harm.
    return hf_loading.load(
        AutoModelForCausalLM, str(folder), str(folder), (".*",), dtype=dtype, use_safetensors=True
    )  # fmt: skip


def _said(config: Any, name: str) -> float:
    """A sampling value of the model's generation config; a value that means 'off' there is none."""
    return getattr(config, name, None) or SAMPLING[name]


def _generation(model: Any, tokenizer: Any, max_tokens: int) -> Any:
    """Greedy by name: the draw is done by `_draws`, from its own generator."""
    from transformers import GenerationConfig

    ends = model.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = ends[0] if isinstance(ends, list) else ends
    penalty = _said(model.generation_config, "repetition_penalty")
    return GenerationConfig(
        max_new_tokens=max_tokens, do_sample=False, num_beams=1, eos_token_id=ends, pad_token_id=pad,
        repetition_penalty=penalty, use_cache=True,
    )  # fmt: skip


def _draws(config: Any, seed: int) -> Any:
    """The processors that turn the greedy choice into a draw with the model's temperature, top-k and top-p."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper
    from transformers.generation.logits_process import TemperatureLogitsWarper

    generator = torch.Generator("cpu").manual_seed(seed)

    class Draw(LogitsProcessor):
        """Gumbel noise added: the largest sum falls on each token with its probability (Gumbel 1954)."""

        def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
            waits = torch.empty(scores.shape, dtype=torch.float32).exponential_(generator=generator)
            return scores.float() - waits.log().to(scores.device)

    top_p = min(1.0, float(_said(config, "top_p")))
    return LogitsProcessorList([
        TemperatureLogitsWarper(float(_said(config, "temperature"))),
        TopKLogitsWarper(int(_said(config, "top_k"))),
        TopPLogitsWarper(top_p),
        Draw(),
    ])  # fmt: skip
