"""With lean blocks and our attention the transformer still equals the original."""

from __future__ import annotations

import copy

import pytest
import torch
from goldens_io import equal_within, model_document, model_tensors

from vace.models.wan import transformer
from vace.speed.attention import apply_attention
from vace.speed.lean_blocks import apply_lean

BAR = 5e-5
STEM = "transformer_tiny"
DOCUMENT = model_document("wan", STEM)


@pytest.mark.parity
@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_velocity_equals_the_original(golden_models, case):
    model = copy.deepcopy(golden_models["transformer"])
    apply_lean(model)
    apply_attention(model)
    tensors, name = model_tensors("wan", STEM), case["name"]
    suffixes = [f".{i}" for i in range(case["batch"])] if case["batch"] > 1 else [""]
    for i, suffix in enumerate(suffixes):
        job = transformer.prepare(model, tensors[f"{name}.vace_context{suffix}"], case["vace_context_scale"])
        assert isinstance(job.rope, torch.Tensor)
        text = transformer.embed_text(model, tensors[f"{name}.context{suffix}"], DOCUMENT["config"]["text_len"])
        found = transformer.predict_velocity(
            model, tensors[f"{name}.x{suffix}"], float(tensors[f"{name}.t"][i]), text, job
        )
        assert equal_within("Wan transformer, lean blocks", found, tensors[f"{name}.out{suffix}"], BAR)
