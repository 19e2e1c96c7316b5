"""Floors are those that were worked out by hand for the published models, and follow from rates as they should."""

from __future__ import annotations

import math

import pytest

from vace.bench import floors
from vace.bench.floors import TERA, Rates, Work
from vace.models.wan.cost import token_count
from vace.speed.memory_plans import published_parts

SIZES = {"480p": (832, 480), "720p": (1280, 720)}
# model, size -> Tflop of a forward pass, of its linear layers, of attention, of its context blocks; PF of 50 steps x 2
FORWARDS = {
    ("1.3B", "480p"): (427.0, 125.6, 301.4, 144.0, 42.7),
    ("1.3B", "720p"): (1880.5, 289.6, 1590.9, 630.6, 188.1),
    ("14B", "480p"): (2029.6, 958.1, 1071.5, 351.1, 203.0),
    ("14B", "720p"): (7864.1, 2207.6, 5656.5, 1340.3, 786.4),
}
# seconds of a forward: all at 790 Tflop/s; attention at 600; GEMM at 650 and attention at 350; 50 steps at the second
SECONDS = {
    ("1.3B", "480p"): (0.541, 0.661, 1.054, 66),
    ("14B", "480p"): (2.569, 2.999, 4.535, 300),
    ("14B", "720p"): (9.955, 12.22, 19.56, 1222),
    ("1.3B", "720p"): (2.380, 3.018, 4.991, 302),
}


def transformer(model: str) -> dict:
    return published_parts(model)["transformer"].config


def work(model: str, size: str, refs: int = 0) -> Work:
    config = transformer(model)
    return floors.forward_work(config, token_count(config, *SIZES[size], 81, refs))


@pytest.mark.parametrize(("model", "size"), FORWARDS)
def test_operations_of_a_forward_pass(model, size):
    total, linear, attention, context, whole = FORWARDS[model, size]
    found = work(model, size)
    config = transformer(model)
    bare = floors.forward_work(config, token_count(config, *SIZES[size], 81), with_context=False)
    assert found.total == found.linear + found.attention
    assert found.total / TERA == pytest.approx(total, abs=0.06)
    assert found.linear / TERA == pytest.approx(linear, abs=0.06)
    assert found.attention / TERA == pytest.approx(attention, abs=0.06)
    assert (found.total - bare.total) / TERA == pytest.approx(context, rel=2e-3)
    assert 100 * found.total / 1e15 == pytest.approx(whole, abs=0.06)


def test_references_add_what_was_worked_out():
    one, three = (work("1.3B", "480p", refs).total / work("1.3B", "480p").total for refs in (1, 3))
    assert 1.07 < one < 1.09
    assert 1.22 < three < 1.29


def test_parameters_of_the_published_models():
    assert floors.parameters(transformer("1.3B")) / 1e9 == pytest.approx(2.1540, abs=6e-5)
    assert floors.parameters(transformer("14B")) / 1e9 == pytest.approx(17.3376, abs=6e-5)


def test_parameters_are_those_of_the_class():
    from vace.bench.wan_models import _mid_parts
    from vace.models.loading import tensor_shapes

    part = _mid_parts()["transformer"]
    assert floors.parameters(part.config) == sum(math.prod(shape) for shape in tensor_shapes(part).values())


@pytest.mark.parametrize(
    ("size", "encode", "decode", "picture", "whole"),
    [("480p", 163.7, 275.4, 2.7, 602.9), ("720p", 381.7, 639.2, 6.5, 1402.7)],
)
def test_operations_of_the_vae(size, encode, decode, picture, whole):
    config = published_parts("1.3B")["vae"].config
    none = floors.vae_flops(config, *SIZES[size], 81, encodes=0)
    one = floors.vae_flops(config, *SIZES[size], 81, encodes=1)
    both = floors.vae_flops(config, *SIZES[size], 81)
    assert none / TERA == pytest.approx(decode, abs=0.06)
    assert (one - none) / TERA == pytest.approx(encode, abs=0.06)
    assert both / TERA == pytest.approx(whole, abs=0.3)
    assert (floors.vae_flops(config, *SIZES[size], 81, refs=1) - both) / TERA == pytest.approx(picture, abs=0.06)


def test_operations_of_a_whole_prompt():
    config = published_parts("14B")["text_encoder"].config
    assert floors.text_flops(config, 512) / TERA == pytest.approx(4.8, abs=0.06)


@pytest.mark.parametrize(("model", "size"), SECONDS)
def test_seconds_on_an_h100(model, size):
    even, mixed, slow, whole = SECONDS[model, size]
    found = work(model, size)
    h100 = floors.rates_of("NVIDIA H100 80GB HBM3")
    config = transformer(model)
    moved = floors.forward_bytes(config, token_count(config, *SIZES[size], 81))
    assert floors.forward_seconds(found, floors.even_rates(790 * TERA, "")) == pytest.approx(even, rel=2e-3)
    assert floors.forward_seconds(found, h100, moved) == pytest.approx(mixed, rel=2e-3)
    older = Rates(650 * TERA, 350 * TERA, 170 * TERA, None, "")
    assert floors.forward_seconds(found, older) == pytest.approx(slow, rel=2e-3)
    assert 100 * floors.forward_seconds(found, h100) == pytest.approx(whole, rel=5e-3)


def test_the_vae_on_an_h100_takes_three_and_a_half_seconds_beside():
    rates = floors.rates_of("NVIDIA H100 80GB HBM3")
    vae = floors.vae_flops(published_parts("1.3B")["vae"].config, *SIZES["480p"], 81)
    forward = floors.forward_seconds(work("1.3B", "480p"), rates)
    assert floors.run_seconds(forward, 100, vae, 0, rates) - 100 * forward == pytest.approx(3.5, abs=0.06)
    four = floors.run_seconds(forward, 4, vae, 0, rates)
    assert (four - 4 * forward) / four == pytest.approx(0.57, abs=0.01)


@pytest.mark.parametrize(
    ("model", "size", "giga", "seconds"),
    [("1.3B", "480p", 179, 0.05), ("14B", "480p", 557, 0.17), ("14B", "720p", 1240, 0.37)],
)
def test_bytes_of_a_forward_pass(model, size, giga, seconds):
    config = transformer(model)
    moved = floors.forward_bytes(config, token_count(config, *SIZES[size], 81))
    assert moved / 1e9 == pytest.approx(giga, rel=0.01)
    idle = floors.rates_of("NVIDIA H100 80GB HBM3")
    assert floors.forward_seconds(Work(0, 0), idle, moved) == pytest.approx(seconds, abs=6e-3)


@pytest.mark.parametrize(
    ("device", "name", "linear"),
    [
        ("NVIDIA H100 80GB HBM3", "H100", 790), ("NVIDIA H100 PCIe", "H100 PCIe", 604), ("NVIDIA H200", "H200", 790),
        ("NVIDIA H20", "H20", 118), ("NVIDIA A100-SXM4-80GB", "A100", 249),
        ("NVIDIA GeForce RTX 4090", "RTX 4090", 132),
    ],
)  # fmt: skip
def test_devices_by_what_torch_calls_them(device, name, linear):
    rates = floors.rates_of(device)
    assert rates.source.startswith(f"{name}, ")
    assert rates.linear / TERA == pytest.approx(linear, abs=0.6)
    assert rates.vae < rates.attention < rates.linear


@pytest.mark.parametrize("device", ["Tesla T4", "NVIDIA H1000", "cpu"])
def test_a_device_that_is_not_in_the_table(device):
    assert floors.rates_of(device) is None


def test_percent():
    assert floors.percent(2.0, 2.0) == 100
    assert floors.percent(1.0, 4.0) == 25
