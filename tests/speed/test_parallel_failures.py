"""A process that fails ends the others with its error; weights that are spread give the same results."""

from __future__ import annotations

import contextlib
import time

import pytest
import torch
from team_processes import model_of, run_of, run_team, spread

from vace.errors import DeviceError, InputError
from vace.speed.fsdp import check_spreadable, spread_text_encoder, spread_transformer
from vace.speed.parallel import LeadingPredictor, follow
from vace.speed.parallel_launch import GRACE, Layout, join

SOON = 10  # seconds
REASON = "--prompt: for the test"


def fails_in_a_step(rank: int):
    """Process 1 raises in its second forward; the leader is in the middle of a video."""
    team = join(Layout(ulysses=2), "cpu")
    model, _ = spread(model_of(2), team)
    if rank == 1:
        calls = []

        def fail(*_) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise InputError(REASON)

        model.blocks[1].register_forward_pre_hook(fail)
    with team.at_work():
        if team.is_leader:
            run_of(model, (3, 6, 10), lambda *given, **options: LeadingPredictor(team, *given, **options))
        else:
            follow(team, lambda name: contextlib.nullcontext(model))


def fails_and_lingers(rank: int):
    """Process 1 raises but keeps its connections, so that process 0 never learns of it by itself."""
    team = join(Layout(ulysses=2), "cpu")
    try:
        with team.at_work():
            if rank == 1:
                raise InputError(REASON)
            torch.distributed.barrier()
    except InputError:
        time.sleep(3 * GRACE)


def test_a_failing_process_ends_all_with_its_error(tmp_path):
    (leader, failed), *_ = run_team(fails_in_a_step, 2, tmp_path)
    assert type(failed) is InputError and str(failed) == REASON
    assert type(leader) is DeviceError and f"process 1 of 2 failed: {REASON}" in str(leader)
    ended = [(tmp_path / f"rank{rank}").stat().st_mtime for rank in range(2)]
    assert abs(ended[0] - ended[1]) < SOON


@pytest.mark.slow
def test_a_process_that_cannot_be_woken_is_ended(tmp_path):
    (waiting, _), codes, _ = run_team(fails_and_lingers, 2, tmp_path)
    assert codes[0] == 2 and waiting is None  # it did not live to see the connection go


def tiny_t5():
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    model = UMT5EncoderModel(
        UMT5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0)
    )
    model.encoder.embed_tokens = model.shared
    return model.requires_grad_(False).eval()


def encoded(model):
    ids = torch.tensor([[3, 9, 27, 1]])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state


def held(model) -> float:
    """Numbers of the model's weights on this process."""
    own = [each.to_local() if hasattr(each, "to_local") else each for each in model.parameters()]
    return sum(each.numel() for each in own)


def spread_weights(rank: int):
    team = join(Layout(ulysses=2, dit_fsdp=True, t5_fsdp=True), "cpu")
    model, encoder = spread(model_of(2), team)[0].requires_grad_(False), tiny_t5()
    spread_transformer(model, team)
    spread_text_encoder(encoder, team)
    sizes = held(model.blocks), held(encoder)
    with team.at_work():
        if not team.is_leader:
            follow(team, lambda name: contextlib.nullcontext({"transformer": model, "text_encoder": encoder}[name]))
            return sizes, None, None
        states = encoded(encoder)
        found = run_of(model, (3, 6, 10), lambda *given, **options: LeadingPredictor(team, *given, **options))
        cached = run_of(
            model, (3, 6, 10), lambda *given, **options: LeadingPredictor(team, *given, **options), step_cache=0.9
        )
        team.leave()
        return sizes, states, (found, cached)


def test_spread_weights_give_the_same(tmp_path):
    results, codes, _ = run_team(spread_weights, 2, tmp_path)
    assert codes == [0, 0]
    assert all(isinstance(found, tuple) for found in results), results
    model, encoder = model_of(2), tiny_t5()
    (sizes, states, (found, cached)), (other, *_) = results
    assert torch.equal(states, encoded(encoder))
    assert (found - run_of(model, (3, 6, 10))).abs().max() <= 1e-5
    assert (cached - run_of(model, (3, 6, 10), step_cache=0.9)).abs().max() <= 1e-5
    for mine, theirs, whole in zip(sizes, other, (held(model.blocks), held(encoder)), strict=True):
        assert max(mine, theirs) < 0.6 * whole  # norms, biases and tables of so small a model weigh much


@pytest.mark.parametrize(("quantize", "offload"), [("int8", False), (None, True)])
def test_what_does_not_go_together_is_told(quantize, offload):
    check_spreadable(None, False)
    with pytest.raises(InputError, match="--dit_fsdp"):
        check_spreadable(quantize, offload)
