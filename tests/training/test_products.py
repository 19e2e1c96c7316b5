"""Products in bfloat16 are those of float32 to bfloat16's three digits, forward and backward."""

import pytest
import torch

from vace.training import products


def layer(inputs: int = 32, outputs: int = 48):
    generator = torch.Generator().manual_seed(0)
    shapes = (4, 5, inputs), (outputs, inputs), (outputs,)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def near(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float((one - other).detach().norm() / other.detach().norm()) < 0.01


@pytest.mark.parametrize("has_bias", [True, False])
def test_halved_is_plain_to_bfloat16s_digits(has_bias):
    x, weight, bias = layer()
    given = x, weight, bias if has_bias else None
    expected, found = products.plain(*given), products.halved(*given)
    assert found.dtype == torch.float32 and near(found, expected) and not torch.equal(found, expected)
    asked = [one for one in given if one is not None]
    pull = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        torch.autograd.grad(found, asked, pull), torch.autograd.grad(expected, asked, pull), strict=True
    ):
        assert one.dtype == torch.float32 and near(one, other)


def test_what_is_frozen_gets_no_gradient():
    x, weight, bias = layer()
    weight.requires_grad_(False)
    products.halved(x, weight, bias).sum().backward()
    assert weight.grad is None and x.grad is not None and torch.equal(bias.grad, torch.full((48,), 20.0))
