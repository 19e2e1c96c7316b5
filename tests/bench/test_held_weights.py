"""Models without files: random weights that are repeatable and usable, second modules over the same tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vace.bench.held_weights import drawn_part, second_module
from vace.errors import CheckpointError
from vace.models.checkpoints import find_checkpoint
from vace.models.loading import build, check_parts, tensor_shapes
from vace.models.parts import COMPONENTS, read_part


@pytest.fixture(scope="module")
def parts():
    checkpoint = find_checkpoint("tiny", None)
    return {name: read_part(checkpoint, name) for name in COMPONENTS}


@pytest.fixture(scope="module")
def drawn(parts):
    return {name: drawn_part(part, "cpu", seed=1) for name, part in parts.items()}


def test_drawn_parts_are_whole_and_fit_each_other(drawn):
    check_parts(drawn)


def test_drawn_weights_are_the_same_at_every_reading_and_of_the_seed(parts, drawn):
    key = "blocks.0.attn1.to_q.weight"
    read = drawn["transformer"].weights.read
    assert torch.equal(read(key), read(key))
    assert not torch.equal(read(key), read("blocks.1.attn1.to_q.weight"))
    assert not torch.equal(read(key), drawn_part(parts["transformer"], "cpu", seed=2).weights.read(key))


def test_drawn_weights_keep_what_goes_through_them_in_bounds(drawn):
    read = drawn["transformer"].weights.read
    assert read("blocks.0.ffn.net.2.weight").std().item() == pytest.approx(512**-0.5, rel=0.1)
    assert read("blocks.0.attn1.norm_q.weight").mean().item() == pytest.approx(1.0, abs=0.1)
    assert read("blocks.0.ffn.net.2.bias").abs().max() < 0.2
    assert drawn["vae"].weights.read("encoder.norm_out.gamma").mean().item() == pytest.approx(1.0, abs=0.2)
    encoder = build(drawn["text_encoder"], torch.float32)
    states = encoder(input_ids=torch.arange(8)[None]).last_hidden_state
    assert states.isfinite().all() and states.std() > 0.1


def test_both_names_of_the_text_table_are_one_tensor(drawn):
    encoder = build(drawn["text_encoder"], torch.float32)
    assert encoder.shared.weight.data_ptr() == encoder.encoder.embed_tokens.weight.data_ptr()


def test_settings_that_make_no_model(parts):
    wrong = replace(parts["transformer"], config={**parts["transformer"].config, "num_layers": "many"})
    with pytest.raises(CheckpointError, match="do not make a transformer"):
        drawn_part(wrong, "cpu")
    assert len(tensor_shapes(parts["vae"])) > 50


def test_a_second_module_shares_every_tensor_in_float32(parts):
    first = build(parts["transformer"], torch.float32)
    second = second_module(parts["transformer"], first, torch.float32)
    assert second is not first and type(second) is type(first)
    theirs = dict(second.named_parameters())
    for name, value in first.named_parameters():
        assert theirs[name].data_ptr() == value.data_ptr()


def test_a_second_module_is_in_the_types_diffusers_loads(parts):
    first = build(parts["transformer"], torch.bfloat16)
    second = second_module(parts["transformer"], first, torch.bfloat16)
    own, theirs = dict(first.named_parameters()), dict(second.named_parameters())
    assert own["proj_out.weight"].dtype == torch.float32  # ours alone keeps it
    assert theirs["proj_out.weight"].dtype == torch.bfloat16
    assert theirs["blocks.0.scale_shift_table"].dtype == torch.float32
    assert theirs["blocks.0.norm2.weight"].dtype == torch.float32
    assert theirs["blocks.0.attn1.to_q.weight"].data_ptr() == own["blocks.0.attn1.to_q.weight"].data_ptr()
    assert own["proj_out.weight"].dtype == torch.float32
