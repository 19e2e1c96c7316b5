"""One video on several processes equals one process; flags are held against the processes there are."""

from __future__ import annotations

import contextlib

import pytest
import torch
from team_processes import model_of, run_of, run_team, spread, velocity_of

from vace.errors import InputError
from vace.speed import parallel_attention
from vace.speed.attention import sdpa
from vace.speed.parallel import LeadingPredictor, Split, follow
from vace.speed.parallel_attention import check_heads, choose_part, head_shares, merge, part_error, plain_part
from vace.speed.parallel_launch import Layout, Team, join, read_layout

BAR = 1e-5
STARTED = {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x"}
# name -> (heads, grid): latent frames, height and width; tokens are frames x height / 2 x width / 2
CASES = {
    "tokens divide": (2, (4, 8, 8)),
    "45 tokens": (2, (3, 6, 10)),
    "two references": (2, (2 + 3, 6, 10)),
    "heads do not divide": (3, (3, 6, 10)),
    "fewer tokens than processes": (2, (1, 2, 2)),
}

# The videos made under a leader, one after the other.
LED = (((3, 6, 10), {"context_end": 0.5}), ((2, 4, 6), {"step_cache": 0.9}))


def heads_for(case: str, layout: tuple[int, int]) -> int:
    """The case's heads, one more than the Ulysses parts where there are fewer."""
    return CASES[case][0] if CASES[case][0] >= layout[0] else layout[0] + 1


def together(plan):
    """What each process does: plan is layout -> cases; gives (velocity, latents) of each, and a run under a leader."""

    def work(rank: int) -> dict:
        teams = {layout: None for layout in plan}
        for layout in plan:
            first = next((team for team in teams.values() if team), None)
            teams[layout] = Team(Layout(*layout), first.device) if first else join(Layout(*layout), "cpu")
        found = {}
        for layout, cases in plan.items():
            for name in cases:
                model, kind = spread(model_of(heads_for(name, layout)), teams[layout])
                grid = CASES[name][1]
                found[layout, name] = velocity_of(model, grid, kind), run_of(model, grid, kind)
        with teams[layout].at_work():
            found["led"] = led(teams[layout], rank)
            teams[layout].leave()
        return found

    return work


def led(team: Team, rank: int):
    """Two videos the leader's way; followers give the number of steps they took part in."""
    model, _ = spread(model_of(3), team)
    if not team.is_leader:
        return follow(team, lambda name: contextlib.nullcontext(model))
    kind = lambda *given, **options: LeadingPredictor(team, *given, **options)  # noqa: E731
    return [run_of(model, grid, kind, **options) for grid, options in LED]


def compare(results, plan) -> None:
    """Hold what all processes gave against one process."""
    for found in results:
        assert isinstance(found, dict), found
    for layout, cases in plan.items():
        for name in cases:
            model, grid = model_of(heads_for(name, layout)), CASES[name][1]
            true = velocity_of(model, grid), run_of(model, grid)
            for found in results:
                for x, y, first in zip(found[layout, name], true, results[0][layout, name], strict=True):
                    assert (x - y).abs().max() <= BAR, (layout, name)
                    assert torch.equal(x, first), (layout, name)
    model = model_of(3)
    for x, (grid, options) in zip(results[0]["led"], LED, strict=True):
        assert (x - run_of(model, grid, **options)).abs().max() <= BAR, options
    assert [found["led"] for found in results[1:]] == [3 * len(LED)] * (len(results) - 1)


def test_two_processes_equal_one(tmp_path):
    plan = {(2, 1): ["heads do not divide"], (1, 2): ["45 tokens"]}
    results, codes, _ = run_team(together(plan), 2, tmp_path)
    compare(results, plan)
    assert codes == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan", [{(2, 2): list(CASES)}, {(4, 1): list(CASES), (1, 4): list(CASES)}], ids=["both", "each"]
)
def test_four_processes_equal_one(tmp_path, plan):
    results, codes, _ = run_team(together(plan), 4, tmp_path)
    compare(results, plan)
    assert codes == [0] * 4


@pytest.mark.parametrize(
    ("given", "environ", "told"),
    [
        ({"ulysses_size": 2, "ring_size": 3}, STARTED, ["6", "4 processes"]),
        ({"ulysses_size": 8}, {}, ["8 processes", "torchrun --nproc_per_node 8"]),
        ({"ring_size": 2, "dit_fsdp": True}, {}, ["torchrun --nproc_per_node 2"]),
        ({"dit_fsdp": True}, {}, ["--dit_fsdp", "torchrun"]),
        ({"t5_fsdp": True}, STARTED | {"WORLD_SIZE": "1"}, ["--t5_fsdp"]),
        ({}, STARTED, ["makes 1", "4 processes"]),
        ({"ulysses_size": 0}, {}, ["--ulysses_size 0", "at least 1"]),
        ({"ring_size": -2}, STARTED, ["--ring_size -2"]),
    ],
)
def test_flags_that_do_not_fit_are_told(given, environ, told):
    with pytest.raises(InputError) as caught:
        read_layout(given, environ)
    assert all(words in str(caught.value) for words in told), caught.value


def test_flags_that_fit():
    assert read_layout({"ulysses_size": 2, "ring_size": 2, "t5_fsdp": True}, STARTED) == Layout(2, 2, False, True)
    for environ in ({}, STARTED | {"WORLD_SIZE": "1"}, {"RANK": "3", "WORLD_SIZE": "8"}):
        assert read_layout({"ulysses_size": 1, "ring_size": None, "dit_fsdp": False}, environ) is None
    elsewhere = {name: value for name, value in STARTED.items() if name != "TORCHELASTIC_RUN_ID"}
    assert read_layout({}, elsewhere) is None


@pytest.mark.parametrize(("heads", "parts"), [(12, 8), (12, 4), (3, 2), (5, 5), (40, 8)])
def test_heads_are_shared_evenly(heads, parts):
    shares = head_shares(heads, parts)
    assert (sum(shares), len(shares)) == (heads, parts)
    assert max(shares) - min(shares) <= 1 and min(shares) >= 1


def test_uneven_heads_are_told_and_too_few_refused(caplog):
    check_heads(12, 8, 1)
    assert "12 heads" in caplog.text and "75 %" in caplog.text
    caplog.clear()
    check_heads(12, 4, 2)
    assert not caplog.text
    with pytest.raises(InputError, match="--ulysses_size 12 --ring_size 2"):
        check_heads(12, 24, 1)


@pytest.mark.parametrize(("tokens", "parts"), [(45, 2), (45, 4), (1, 4), (48, 4), (5, 4)])
def test_parts_make_the_whole(tokens, parts):
    x = torch.arange(tokens * 3.0).view(1, tokens, 3)
    splits = [Split(tokens, parts, i) for i in range(parts)]
    runs = [split.part(x) for split in splits]
    assert len({run.shape for run in runs}) == 1
    joined = torch.cat(runs, 1)
    assert torch.equal(joined[:, :tokens], x) and not joined[:, tokens:].any()
    assert torch.equal(torch.cat([split.part(x[0], 0) for split in splits]), joined[0])


def drawn(*lengths, scale=1.0):
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(1, n, 2, 24, generator=generator) * scale for n in lengths]


@pytest.mark.parametrize("scale", [1.0, 8.0])  # scores of hundreds: no sum of exponentials may overflow
def test_partial_results_merge_to_the_whole(scale):
    query, key, value = drawn(300, 77, 77, scale=scale)
    merged = None
    for start, end in ((0, 5), (5, 60), (60, 77)):
        merged = merge(merged, plain_part(query, key[:, start:end], value[:, start:end]))
    assert (merged[0] - sdpa(query, key, value)).abs().max() <= BAR * scale**2  # as the scores' rounding


def test_a_part_kernel_must_prove_itself(monkeypatch):
    device = torch.device("cpu")
    fast = choose_part(device, torch.float32, 24)
    assert fast is not plain_part and part_error(fast, device, torch.float32, 24) <= BAR
    broken = lambda name, *more: lambda *given: [x * 1.01 for x in plain_part(*given)]  # noqa: E731
    monkeypatch.setattr(parallel_attention, "_torch_part", broken)
    assert choose_part(device, torch.float32, 24) is plain_part
