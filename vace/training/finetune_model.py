"""What `vace train` trains: a Wan2.1-VACE transformer with gradients for its context blocks, or for a LoRA.

The forward pass is that of vace.models.wan.transformer for a batch and with gradients; a test holds the two equal.
That of vace.training.batched is faster for small models, but it reads past a LoRA, and computes in float32 alone.
Shape letters: B batch, C channels, T latent frames, H W latent height and width, N tokens, D model width, L text
tokens.
"""

from __future__ import annotations

import contextlib
import copy
import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import nn
from torch.utils.checkpoint import checkpoint

from vace.errors import InputError, MissingDependency
from vace.models.wan.transformer import sinusoid

if TYPE_CHECKING:
    from diffusers import WanVACETransformer3DModel

CONTEXT, LORA = "context", "lora"
CONTEXT_PREFIX = "vace_"  # vace_blocks and vace_patch_embedding
_BLOCKS = {"context": r"vace_blocks", "all": r"(?:vace_)?blocks"}
_MATRICES = r"(?:attn[12]\.to_(?:q|k|v|out\.0)|ffn\.net\.(?:0\.proj|2))"
_ADAPTER = "default"


class Tuned(nn.Module):
    """The trained weights of a transformer, as a module that holds nothing else.

    What belongs to a training (gradients, their exchange between devices, the moving average, the saved state) so
    never touches the frozen rest, which may be ten times as large. A copy has weights of its own and shares the rest.
    autocast: the float type of the arithmetic, None for that of the weights.
    """

    def __init__(
        self, transformer: nn.Module, text_len: int, autocast: torch.dtype | None = None, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self._whole = (transformer,)  # in a tuple, a module is not a part of this one
        self.text_len, self.autocast, self.checkpointing = text_len, autocast, checkpointing
        for name, weight in transformer.named_parameters():
            if weight.requires_grad:
                self.register_parameter(_escaped(name), weight)

    def forward(
        self, latents: torch.Tensor, timesteps: list[float], texts: list[torch.Tensor], context: torch.Tensor
    ) -> torch.Tensor:
        """The velocity, float32 [B,16,T,H,W]. latents: noisy, of that shape; timesteps: 0 to 1000, one for each.

        texts: states [tokens, text width]; zeros fill them up and are attended to. context: [B,96,T,H,W].
        """
        padded = latents.new_zeros(len(texts), self.text_len, texts[0].shape[1])
        for row, states in zip(padded, texts, strict=True):
            row[: len(states)] = states[: self.text_len]
        with self.in_place() as transformer:
            return velocity(transformer, latents, timesteps, padded, context, self.checkpointing and self.training)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[WanVACETransformer3DModel]:
        """The transformer with these weights in it; those of a copy leave it again."""
        (transformer,) = self._whole
        pairs = [(weight, transformer.get_parameter(name)) for name, weight in self.tensors().items()]
        pairs = [(own, there) for own, there in pairs if own is not there]
        kind = transformer.patch_embedding.weight.device.type
        with torch.autocast(kind, self.autocast, enabled=self.autocast is not None):
            _swap(pairs)
            try:
                yield transformer
            finally:
                _swap(pairs)

    def tensors(self) -> dict[str, nn.Parameter]:
        """The trained weights by their names in the transformer."""
        return {_plain(name): weight for name, weight in self.named_parameters()}

    def __deepcopy__(self, memo: dict) -> Tuned:
        twin = copy.copy(self)
        twin._parameters = {name: nn.Parameter(weight.detach().clone()) for name, weight in self._parameters.items()}
        return twin


def make_trainable(
    transformer: nn.Module, kind: str, *, rank: int = 16, alpha: float = 16.0, blocks: str = "context", seed: int = 0
) -> None:
    """Give gradients to the context parts (kind 'context'), or put a LoRA in ('lora'), in float32; the rest is frozen.

    rank, alpha, blocks ('context' or 'all'): of the LoRA, whose first half is drawn with `seed`, the second zero.
    Raises MissingDependency where the package that makes LoRAs is absent.
    """
    transformer.requires_grad_(False)
    if kind == CONTEXT:
        for name, weight in transformer.named_parameters():
            if name.startswith(CONTEXT_PREFIX):
                weight.data = weight.data.float()
                weight.requires_grad_(True)
        return
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise MissingDependency("--train lora: needs the package peft; pip install 'vace[train]'") from error
    targets = lora_targets([name for name, part in transformer.named_modules() if isinstance(part, nn.Linear)], blocks)
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets), transformer, _ADAPTER)
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that machines agree
    for name, weight in transformer.named_parameters():
        weight.requires_grad_(".lora_" in name)
        if ".lora_A." in name:  # uniform, as nn.Linear draws its own; lora_B is zero
            drawn = torch.rand(weight.shape, generator=generator) * 2 - 1
            weight.data = (drawn / weight.shape[1] ** 0.5).to(weight.device)
        elif ".lora_B." in name:
            weight.data = weight.data.float()


def lora_targets(names: list[str], blocks: str = "context") -> list[str]:
    """Of the names of modules or weights, those of the matrices that a LoRA changes. Raises InputError for `blocks`."""
    if blocks not in _BLOCKS:
        raise InputError(f"--lora_blocks {blocks}: unknown; give context or all")
    pattern = re.compile(rf"{_BLOCKS[blocks]}\.\d+\.{_MATRICES}(?:\.weight)?")
    return [name for name in names if pattern.fullmatch(name)]


def trained_count(shapes: Mapping[str, tuple[int, ...]], kind: str, rank: int, blocks: str) -> int:
    """How many numbers are trained, from the shapes of the transformer's weights alone."""
    if kind == CONTEXT:
        return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(CONTEXT_PREFIX))
    return sum(rank * sum(shapes[name]) for name in lora_targets(list(shapes), blocks) if name.endswith(".weight"))


def adapter_name(name: str) -> str:
    """The name of a LoRA's weight in a file: that in the transformer, without the adapter's own name."""
    return name.replace(f".{_ADAPTER}.", ".")


def velocity(
    model: WanVACETransformer3DModel,
    latents_BCTHW: torch.Tensor,
    timesteps: list[float],
    text_BLD: torch.Tensor,
    context_BCTHW: torch.Tensor,
    checkpointing: bool = False,
) -> torch.Tensor:
    """The model's velocity [B,16,T,H,W], float32, with gradients. checkpointing: blocks run again in the backward pass,
    instead of keeping what they computed.
    """
    grid = [n // p for n, p in zip(latents_BCTHW.shape[2:], model.config.patch_size, strict=True)]
    time_BD, modulation = _embed_time(model, timesteps, latents_BCTHW.device)
    text = model.condition_embedder.text_embedder(text_BLD.to(model.patch_embedding.weight.dtype))
    hidden = _tokens(model.patch_embedding(latents_BCTHW.to(model.patch_embedding.weight.dtype)))
    context = _tokens(model.vace_patch_embedding(context_BCTHW.to(model.vace_patch_embedding.weight.dtype)))
    rope = model.rope(latents_BCTHW)

    def run(block: nn.Module, *inputs: object):
        if checkpointing:
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return block(*inputs)

    pending = {layer: i for i, layer in enumerate(model.config.vace_layers)}
    for layer, block in enumerate(model.blocks):
        hint = None
        if layer in pending:
            hint, context = run(model.vace_blocks[pending[layer]], hidden, text, context, modulation, rope)
        hidden = run(block, hidden, text, modulation, rope)
        if hint is not None:
            hidden = hidden + hint
    return _to_latents(model, hidden, time_BD, grid)


def _embed_time(
    model: WanVACETransformer3DModel, timesteps: list[float], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """[B,D] and [B,6,D], in the time layers' own float32 whatever the rest runs in."""
    embedder = model.condition_embedder
    wave = torch.cat([sinusoid(timestep, model.config.freq_dim, device) for timestep in timesteps])
    with torch.autocast(device.type, enabled=False):
        time_BD = embedder.time_embedder(wave.to(embedder.time_proj.weight.dtype))
        return time_BD, embedder.time_proj(embedder.act_fn(time_BD)).unflatten(1, (6, -1))


def _to_latents(
    model: WanVACETransformer3DModel, hidden_BND: torch.Tensor, time_BD: torch.Tensor, grid: list[int]
) -> torch.Tensor:
    shift, scale = (model.scale_shift_table + time_BD.unsqueeze(1)).chunk(2, dim=1)
    with torch.autocast(hidden_BND.device.type, enabled=False):
        normed = model.norm_out(hidden_BND.float()) * (1 + scale) + shift
        patches = model.proj_out(normed.to(model.proj_out.weight.dtype))
    p, q, r = model.config.patch_size
    t, h, w = grid
    return rearrange(patches, "b (t h w) (p q r c) -> b c (t p) (h q) (w r)", t=t, h=h, w=w, p=p, q=q, r=r).float()


def _tokens(patches_BDTHW: torch.Tensor) -> torch.Tensor:
    return patches_BDTHW.flatten(2).transpose(1, 2)


def _swap(pairs: list[tuple[nn.Parameter, nn.Parameter]]) -> None:
    for own, there in pairs:
        own.data, there.data = there.data, own.data


def _escaped(name: str) -> str:
    """Names of parameters may hold no dots."""
    return name.replace(".", "/")


def _plain(name: str) -> str:
    return name.replace("/", ".")
