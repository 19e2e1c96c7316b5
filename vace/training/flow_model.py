"""What the flow stages train: text encoder and transformer of `vace-tiny` as one module; made, read, written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from vace.errors import CheckpointError
from vace.media.files import replacing
from vace.training import batched, tiny
from vace.training.products import Product, plain

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTEXT_PARTS = ("vace_blocks.", "vace_patch_embedding.")
CONTEXT_SEED = 0  # of the context's patch embedding, the one context layer that is no copy


class FlowModel(nn.Module):
    """Text encoder (UMT5's stack, which holds the table of words) and transformer, with or without context blocks."""

    def __init__(self, text: nn.Module, transformer: nn.Module, text_len: int, product: Product = plain):
        super().__init__()
        self.text, self.transformer, self.text_len, self.product = text, transformer, text_len, product

    def forward(
        self,
        ids_BL: torch.Tensor,
        latents_BCTHW: torch.Tensor,
        timesteps_B: torch.Tensor,
        context_BCTHW: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The velocity of noisy latents, of their shape. ids_BL: tokens, 0 (padding) after each prompt's end."""
        kept = ids_BL != 0
        states = self.text(input_ids=ids_BL, attention_mask=kept.long()).last_hidden_state
        text = batched.embed_text(self.transformer, states * kept.unsqueeze(-1), self.text_len)
        return batched.predict_velocity(self.transformer, latents_BCTHW, timesteps_B, text, context_BCTHW, self.product)


def build(
    seed: int, tokenizer: Tokenizer, *, with_context: bool, transformer: Mapping[str, Any] | None = None
) -> FlowModel:
    """A model drawn from a seed, as Wan's code draws its own; words that no caption uses are zero, and say nothing.

    transformer: sizes of the class other than vace-tiny's.
    """
    from diffusers import WanVACETransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = UMT5EncoderModel(UMT5Config(**tiny.text_encoder_config(tokenizer))).encoder
        model = WanVACETransformer3DModel(**{**tiny.TRANSFORMER, **(transformer or {})})
        _draw(model)
    with torch.no_grad():
        used = torch.zeros(len(encoder.embed_tokens.weight), 1)
        used[tiny.caption_tokens(tokenizer)] = 1
        encoder.embed_tokens.weight.mul_(used)
    if with_context:
        model.load_state_dict(with_context_parts(model.state_dict(), model.config))
    else:
        model.vace_blocks, model.vace_patch_embedding = nn.ModuleList(), None
    return FlowModel(encoder, model, tiny.TEXT_LEN)


def freeze_base(model: FlowModel) -> None:
    """Leave the context blocks, and what embeds the context, as all that is trained."""
    model.requires_grad_(False)
    for name, weight in model.transformer.named_parameters():
        weight.requires_grad_(name.startswith(CONTEXT_PARTS))


def with_context_parts(state: Mapping[str, torch.Tensor], config: Any) -> dict[str, torch.Tensor]:
    """A transformer's weights with context blocks that do not show yet, whether or not it had any.

    Each is a copy of the block that it hints to, between projections of zero, as VACE begins (arXiv:2503.07598).
    """
    state = {name: value for name, value in state.items() if not name.startswith(CONTEXT_PARTS)}
    width = config["num_attention_heads"] * config["attention_head_dim"]
    zeros = {"weight": torch.zeros(width, width), "bias": torch.zeros(width)}
    made: dict[str, torch.Tensor] = {}
    for i, layer in enumerate(config["vace_layers"]):
        start = f"blocks.{layer}."
        made |= {f"vace_blocks.{i}.{name.removeprefix(start)}": value.clone()
                 for name, value in state.items() if name.startswith(start)}  # fmt: skip
        for part in ("proj_in", "proj_out")[i > 0 :]:
            made |= {f"vace_blocks.{i}.{part}.{name}": value.clone() for name, value in zeros.items()}
    embedding = torch.empty(width, config["vace_in_channels"], *config["patch_size"])
    bound = (6 / (width + embedding[0].numel())) ** 0.5
    embedding.uniform_(-bound, bound, generator=torch.Generator().manual_seed(CONTEXT_SEED))
    made |= {"vace_patch_embedding.weight": embedding, "vace_patch_embedding.bias": torch.zeros(width)}
    return {**state, **{name: value.to(state["proj_out.weight"]) for name, value in made.items()}}


def weights_of(folder: Path, *, with_context: bool = True) -> dict[str, torch.Tensor]:
    """The weights of a written checkpoint as `train` takes them. Raises CheckpointError where there are none."""
    from safetensors.torch import load_file

    found = {}
    for part, stem in (("transformer", "diffusion_pytorch_model"), ("text_encoder", "model")):
        path = Path(folder) / part / f"{stem}.safetensors"
        if not path.is_file():
            raise CheckpointError(
                f"{folder}: no {part}/{path.name} there; give a folder that a flow stage wrote (best/)"
            )
        found[part] = {name: value.float() for name, value in load_file(path).items()}
    weights = {f"transformer.{name}": value for name, value in found["transformer"].items()
               if with_context or not name.startswith(CONTEXT_PARTS)}  # fmt: skip
    texts = {name.removeprefix("encoder."): value for name, value in found["text_encoder"].items()}
    texts["embed_tokens.weight"] = texts.pop("shared.weight")
    return weights | {f"text.{name}": value for name, value in texts.items()}


def write(model: FlowModel, folder: Path, tokenizer: Tokenizer, vae_folder: Path) -> None:
    """A whole checkpoint that the engine loads: float16 weights, the VAE as it is, tokenizer and defaults."""
    config = {name: value for name, value in dict(model.transformer.config).items() if name in tiny.TRANSFORMER}
    state = model.transformer.state_dict()
    if not model.transformer.vace_blocks:
        state = with_context_parts(state, config)
    tiny.write_part(folder, "transformer", config, _halves(state))
    names = {name: f"encoder.{name}" for name in model.text.state_dict()} | {"embed_tokens.weight": "shared.weight"}
    texts = {names[name]: value for name, value in model.text.state_dict().items()}
    tiny.write_part(folder, "text_encoder", tiny.text_encoder_config(tokenizer), _halves(texts))
    _copy_vae(vae_folder, folder / "vae")
    tiny.write_around(folder, tokenizer, trained=True)


def _halves(state: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(value.detach().half().cpu().numpy()) for name, value in state.items()}


def _copy_vae(source: Path, target: Path) -> None:
    source = source / "vae" if (source / "vae" / "config.json").is_file() else source
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        with replacing(target / name) as temporary:
            shutil.copyfile(source / name, temporary)


def _draw(model: nn.Module) -> None:
    """Wan's own first weights: Xavier's bounds, small text and time layers, an output of zero."""
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv3d)):
            nn.init.xavier_uniform_(layer.weight.flatten(1))
            nn.init.zeros_(layer.bias)
            if "text_embedder" in name or "time_embedder" in name:
                nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(model.proj_out.weight)
