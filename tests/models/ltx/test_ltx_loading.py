"""The float types that LTX's parts are built in: what stays float32, and what float16 does not serve for."""

from __future__ import annotations

import pytest
import torch
from ltx_folders import write_091

from vace.models.checkpoints import open_checkpoint
from vace.models.loading import build
from vace.models.ltx.engine import load_engine
from vace.models.parts import COMPONENTS, read_part

KEPT = {"latents_mean", "latents_std", "decoder.timestep_scale_multiplier"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return open_checkpoint(write_091(tmp_path_factory.mktemp("ltx") / "toy-091"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_everything_is_scaled_by_stays_float32(checkpoint, dtype):
    """Their values too, as they are in the file; a detour through half precision would leave its rounding."""
    part = read_part(checkpoint, "vae")
    state = build(part, dtype).state_dict()
    types = {name: tensor.dtype for name, tensor in state.items()}
    assert {name for name, found in types.items() if found == torch.float32} == KEPT
    assert set(types.values()) == {torch.float32, dtype}
    for name in KEPT:
        stored = part.weights.read(part.names[name])
        assert torch.equal(state[name], stored.float())
    assert not torch.equal(state["latents_std"], state["latents_std"].to(dtype).float())
    assert state["decoder.timestep_scale_multiplier"] == 1000


def test_no_other_part_keeps_anything(checkpoint):
    for component in ("transformer", "text_encoder"):
        state = build(read_part(checkpoint, component), torch.bfloat16).state_dict()
        assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("asked", "transformer", "others"),
    [
        ("float16", torch.float16, torch.bfloat16),
        ("bfloat16", torch.bfloat16, torch.bfloat16),
        ("float32", torch.float32, torch.float32),
    ],
)
def test_text_encoder_and_vae_overflow_in_float16(checkpoint, asked, transformer, others):
    loaded = load_engine(checkpoint, "cpu", asked)
    expected = {"transformer": transformer, "text_encoder": others, "vae": others}
    for component in COMPONENTS:
        with loaded._in_use(component) as model:
            found = {tensor.dtype for name, tensor in model.state_dict().items() if name not in KEPT}
            assert found == {expected[component]}, component
    assert loaded.dtype == transformer
