"""Weights spread over the processes of a team, by torch's fully_shard: each holds a share of every linear layer.

A block's weights are gathered right before it runs and let go after it, so that a device holds its share of the model
and one block. Biases, norms and tables, a thousandth of the whole, stay on every device. The results are the same, bit
for bit: the same weights are there when a block computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from vace.errors import InputError
from vace.speed.parallel_launch import Team


def check_spreadable(quantize: str | None, offload_model: bool) -> None:
    """Raise InputError for what does not go together with --dit_fsdp or --t5_fsdp."""
    for flag, is_on in ((f"--quantize {quantize}", quantize), ("--offload_model", offload_model)):
        if is_on:
            raise InputError(f"{flag}: not together with --dit_fsdp or --t5_fsdp; leave one of them out")


def spread_transformer(model: nn.Module, team: Team) -> None:
    """Spread main and context blocks of a WanVACETransformer3DModel, in place.

    To be called last, after `apply_lean` and `apply_attention`: the classes of the blocks change.
    """
    _spread([*model.blocks, *model.vace_blocks], team)


def spread_text_encoder(model: nn.Module, team: Team) -> None:
    """Spread the blocks and the token table of a UMT5 encoder, in place, and let every process take part in its calls.

    The leader's calls go to the followers by themselves (see `vace.speed.parallel.follow`).
    """
    _spread([model.shared, *model.encoder.block], team)
    if team.is_leader:
        model.register_forward_pre_hook(lambda _, args, given: _announce(team, args, given), with_kwargs=True)


def _announce(team: Team, args: Sequence[Any], given: dict[str, Any]) -> None:
    ids = given["input_ids"] if "input_ids" in given else args[0]
    mask = given.get("attention_mask")
    team.send("text", [ids, torch.ones_like(ids) if mask is None else mask])


def _spread(modules: Iterable[nn.Module], team: Team) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(team.device.type, (team.size,))
    for module in modules:
        weights = {id(part.weight) for part in module.modules() if isinstance(part, (nn.Linear, nn.Embedding))}
        whole = {each for each in module.parameters() if id(each) not in weights}
        for each in whole:
            each.data = each.data.to(team.device)
        fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
