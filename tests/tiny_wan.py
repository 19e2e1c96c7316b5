"""A small WanVACETransformer3DModel with weights at random, hints that matter, and inputs for it."""

from __future__ import annotations

LATENT = (3, 8, 8)
TEXT_LEN = 8


def tiny_wan(seed: int = 0, **changes):
    """Four main and two context blocks of width 48, float32."""
    import torch
    from diffusers import WanVACETransformer3DModel

    torch.manual_seed(seed)
    config = dict(
        num_attention_heads=2, attention_head_dim=24, ffn_dim=64, num_layers=4, vace_layers=[0, 2], text_dim=32,
        rope_max_seq_len=32,
    )  # fmt: skip
    model = WanVACETransformer3DModel(**config | changes).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "proj_out" in name and "vace_blocks" in name:
                weight.normal_(0, 0.3)
    return model


def draw(seed: int, *shape: int):
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def latents(seed: int = 1, grid: tuple[int, int, int] = LATENT):
    return draw(seed, 16, *grid)


def context(seed: int = 2, grid: tuple[int, int, int] = LATENT):
    return draw(seed, 96, *grid)


def texts(model, seed: int = 3) -> list:
    """The embedded prompt and negative prompt."""
    from vace.models.wan.transformer import embed_text

    return [embed_text(model, draw(seed + i, 5 - i, 32), TEXT_LEN) for i in range(2)]


def relative(found, true) -> float:
    return ((found - true).norm() / true.norm()).item()


def blocks_run(model, call) -> list[str]:
    """The names of the blocks that ran in call(), in order: main0, context1, ..."""
    ran: list[str] = []
    hooks = [
        block.register_forward_hook(lambda *_, name=f"{kind}{i}": ran.append(name))
        for kind, blocks in (("main", model.blocks), ("context", model.vace_blocks))
        for i, block in enumerate(blocks)
    ]
    call()
    for hook in hooks:
        hook.remove()
    return ran
