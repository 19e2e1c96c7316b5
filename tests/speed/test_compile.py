"""One compiled graph for all blocks, branches and sizes; and what happens where there is no compiler."""

from __future__ import annotations

import logging

import pytest
import torch
from tiny_wan import context, latents, relative, texts, tiny_wan

from vace.models.wan import transformer
from vace.speed.attention import apply_attention
from vace.speed.compile import STARTING, apply_compile
from vace.speed.lean_blocks import block_core

SIZES = ((3, 8, 8), (2, 8, 12), (1, 4, 6))


@pytest.fixture(autouse=True)
def nothing_compiled_yet():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def velocity(model, grid=SIZES[0], branch=0):
    job = transformer.prepare(model, context(2, grid))
    return transformer.predict_velocity(model, latents(1, grid), 500.0, texts(model)[branch], job)


class Counting:
    """A compiler that counts graphs and runs them as they are."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.mark.parametrize("with_attention", [True, False])
def test_main_and_context_blocks_and_all_sizes_share_one_graph(with_attention):
    model, compiler = tiny_wan(), Counting()
    if with_attention:
        apply_attention(model)
    true = [velocity(model, grid, branch) for grid in SIZES for branch in (0, 1)]
    core = apply_compile(model, backend=compiler)
    found = [velocity(model, grid, branch) for grid in SIZES for branch in (0, 1)]
    assert core.failure is None
    assert compiler.graphs == 1
    for ours, plain in zip(found, true, strict=True):
        assert (ours - plain).abs().max() <= 3e-6


def test_the_wait_is_told_once(caplog):
    model = tiny_wan()
    apply_compile(model, backend=Counting())
    with caplog.at_level(logging.INFO, "vace"):
        velocity(model)
        velocity(model)
    assert [record.message for record in caplog.records] == [STARTING]


def failing(graph, inputs):
    raise FileNotFoundError("no C++ compiler was found; install g++")


def test_without_a_compiler_one_line_is_told_and_the_run_goes_on(caplog):
    model = tiny_wan()
    true = velocity(model)
    core = apply_compile(model, backend=failing)
    with caplog.at_level(logging.WARNING, "vace"):
        assert (velocity(model) - true).abs().max() <= 3e-6
        velocity(model)
    assert "no C++ compiler was found" in core.failure
    (record,) = caplog.records
    assert record.message.startswith("--compile: not possible here (") and "\n" not in record.message
    assert record.message.endswith("going on without it")


def test_where_compiling_is_not_supported_the_run_goes_on(monkeypatch, caplog):
    def refuse(*args, **more):
        raise RuntimeError("torch.compile is not supported here")

    monkeypatch.setattr(torch, "compile", refuse)
    model = tiny_wan()
    true = velocity(model)
    core = apply_compile(model)
    assert core.failure == "RuntimeError: torch.compile is not supported here"
    assert (velocity(model) - true).abs().max() <= 3e-6


def test_running_out_of_memory_is_no_failure_to_compile():
    def exhausted(graph, inputs):
        raise MemoryError("can't allocate memory")

    model = tiny_wan()
    core = apply_compile(model, backend=exhausted)
    with pytest.raises(Exception) as raised:
        velocity(model)
    assert core.failure is None and "allocate memory" in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inductor_equals_the_plain_pass(dtype):
    """The real compiler: float32 within 1e-5 of the plain pass, bfloat16 no further from float32 than that."""
    true = velocity(tiny_wan())
    model = tiny_wan().to(dtype)
    apply_attention(model)
    plain = velocity(model)
    core = apply_compile(model)
    found = velocity(model)
    assert core.failure is None
    if dtype == torch.float32:
        assert relative(found, plain) <= 1e-5
    else:
        assert relative(found, true) <= 1.5 * relative(plain, true)


def test_the_core_is_what_the_blocks_run_without_compiling():
    model = tiny_wan()
    apply_compile(model, backend=Counting())
    assert model.blocks[0].core is model.vace_blocks[1].core is not block_core
