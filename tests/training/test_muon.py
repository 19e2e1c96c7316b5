"""Muon: singular values are evened out, matrices and kernels go its way, the rest AdamW's."""

import pytest
import torch
from torch import nn

from vace.training.muon import Muon, evened, groups_of

PLAIN = {"betas": (0.9, 0.99), "weight_decay": 0.01}


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_singular_values_become_alike(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (made,) = evened(matrix[None])
    values = torch.linalg.svdvals(made)
    assert 0.5 < values.min() and values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(made.flatten(), (left @ right).flatten(), dim=0) > 0.97


def test_rounds_in_bfloat16_are_about_the_same():
    weights = [torch.randn(32, 48, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2)]
    for weight, is_half in zip(weights, (False, True), strict=True):
        weight.grad = torch.randn(32, 48, generator=torch.Generator().manual_seed(1))
        groups = [{"params": [weight], "is_even": True}]
        Muon(groups, lr=0.1, is_half=is_half, **PLAIN).step()
    start = torch.randn(32, 48, generator=torch.Generator().manual_seed(0))
    steps = [weight.detach() - start for weight in weights]
    assert float((steps[0] - steps[1]).norm() / steps[0].norm()) < 0.03 and not torch.equal(*steps)


def test_what_goes_which_way():
    model = nn.ModuleDict({"a": nn.Conv3d(8, 16, 3), "thin": nn.Linear(4, 64), "first": nn.Linear(32, 32)})
    model["frozen"] = nn.Linear(32, 32).requires_grad_(False)
    even, rest = groups_of(model, plain=("first",))
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert {names[id(weight)] for weight in even["params"]} == {"a.weight"}
    assert {names[id(weight)] for weight in rest["params"]} == {
        "a.bias", "thin.weight", "thin.bias", "first.weight", "first.bias"}  # fmt: skip


def test_the_rest_moves_as_adamw_moves_it():
    start = torch.randn(5, generator=torch.Generator().manual_seed(1))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimisers = [Muon([{"params": [ours], "is_even": False}], lr=0.1, **PLAIN),
                  torch.optim.AdamW([theirs], lr=0.1, **PLAIN)]  # fmt: skip
    for step in range(5):
        for weight, optimiser in zip((ours, theirs), optimisers, strict=True):
            weight.grad = torch.sin(weight.detach() * (step + 1))
            optimiser.step()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(16, 64), (32, 8, 3, 3), (16, 16)])
def test_a_step_is_as_long_as_its_rate_says(shape):
    """0.2 of the rate in the mean, as AdamW's steps are, whatever the gradient's size."""
    torch.manual_seed(2)
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape) * 1e-4
    Muon([{"params": [weight], "is_even": True}], lr=0.01, **PLAIN).step()
    assert 0.15 < float(weight.detach().square().mean().sqrt()) / 0.01 < 0.25
