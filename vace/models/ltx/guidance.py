"""Guidance of LTX: towards the prompt, away from the negative prompt and from the model without its attention.

The last is spatio-temporal guidance, STG (https://arxiv.org/abs/2411.18664): one more answer of the model, in which a
few layers skip their self-attention. The order of the arithmetic is the original's.
"""

from __future__ import annotations

import torch

RESCALE_OFF = 1.0


def guide(
    negative: torch.Tensor | None,
    positive: torch.Tensor,
    perturbed: torch.Tensor | None,
    guidance_scale: float,
    stg_scale: float,
    rescale: float,
) -> torch.Tensor:
    """One velocity from a step's rows, float32: u + g*(c-u) + s*(c-p), of the spread of c by `rescale`.

    negative (u), positive (c), perturbed (p): the model's answers for one video, of one shape; None for a row that
    `cost.guided_rows` leaves out. rescale: how far the result's standard deviation, over all its values, is brought to
    that of c, where there is a perturbed row: x * (r*std(c)/std(x) + 1-r). By that formula 0 changes nothing and 1
    brings it there entirely, yet the original takes exactly 1 for off, and so does this; both ends are thus off, and
    0.7 usual.
    """
    positive = positive.float()
    guided = positive
    if negative is not None:
        negative = negative.float()
        guided = negative + guidance_scale * (positive - negative)
    if perturbed is None:
        return guided
    guided = guided + stg_scale * (positive - perturbed.float())
    if rescale == RESCALE_OFF:
        return guided
    return guided * _rescaling(guided, positive, rescale)


def _rescaling(guided: torch.Tensor, positive: torch.Tensor, rescale: float) -> torch.Tensor:
    """The factor that brings one spread towards the other; 1 where the result is flat, which has no spread."""
    found = guided.std()
    ratio = torch.where(found > 0, positive.std() / found, torch.ones_like(found))
    return rescale * ratio + (1 - rescale)
