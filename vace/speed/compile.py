"""torch.compile for the repeated part of a Wan block: one graph serves every main and every context block.

What is compiled is `vace.speed.lean_blocks.block_core`, with the number of tokens left open, so that one compilation
serves all layers, both guidance branches and all sizes. Where it cannot be compiled, the run goes on without, after
one line.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from vace.errors import is_out_of_memory
from vace.speed.lean_blocks import Parts, apply_lean, block_core

log = logging.getLogger("vace")

STARTING = "compiling the transformer's block: the first step takes half a minute to three minutes longer"
FAILED = "--compile: not possible here (%s); going on without it"


class CompiledCore:
    """`block_core`, compiled when first called; block_core itself from the moment that fails.

    backend: torch.compile's. failure: why it is not compiled; None as long as it is.
    """

    def __init__(self, backend: Any = "inductor") -> None:
        self.failure: str | None = None
        self._has_run = False
        try:
            self._compiled = torch.compile(block_core, backend=backend)
        except RuntimeError as error:  # a Python or a system that torch.compile is not made for
            self._give_up(error)

    def __call__(self, parts: Parts, table: torch.Tensor, x_1ND: torch.Tensor, *more: Any) -> torch.Tensor:
        if self.failure is None:
            if not self._has_run:
                log.info(STARTING)
            try:
                result = self._compiled(parts, table, _open_tokens(x_1ND, 1), *_open_rope(more))
                self._has_run = True
                return result
            except torch._dynamo.exc.TorchDynamoException as error:
                if is_out_of_memory(error):
                    raise
                self._give_up(error)
        return block_core(parts, table, x_1ND, *more)

    def _give_up(self, error: Exception) -> None:
        reason = getattr(error, "inner_exception", None) or error  # what the compiler itself said
        lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
        self.failure = f"{type(reason).__name__}: {lines[0]}" if lines else type(reason).__name__
        log.warning(FAILED, self.failure)


def apply_compile(model: Any, backend: Any = "inductor") -> CompiledCore:
    """Compile the blocks of a WanVACETransformer3DModel; nothing is compiled before the first step."""
    core = CompiledCore(backend)
    apply_lean(model, core)
    return core


def _open_rope(more: tuple) -> tuple:
    """(text, modulation, rope), the tokens of the rope left open."""
    *others, rope = more
    if isinstance(rope, torch.Tensor):
        return *others, _open_tokens(rope, 0)
    return *others, tuple(_open_tokens(table, 1) for table in rope)


def _open_tokens(x: torch.Tensor, axis: int) -> torch.Tensor:
    torch._dynamo.maybe_mark_dynamic(x, axis)
    return x
