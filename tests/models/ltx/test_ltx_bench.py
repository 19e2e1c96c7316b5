"""The benchmark of the LTX step runs, compares like with like, and says its conditions."""

from __future__ import annotations

import pytest
import torch

from vace.bench import ltx
from vace.errors import DeviceError, InputError
from vace.models.ltx import cost

TINY = {
    **ltx.RANDOM_MODELS["mid"]["config"],
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "num_layers": 4,
    "cross_attention_dim": 64,
    "caption_channels": 24,
    "context_layers": [0, 2],
}


@pytest.fixture(scope="module")
def result():
    model = ltx.random_model(TINY, "cpu", torch.float32, seed=3)
    return ltx.run_model(model, "a toy", size=(96, 64), frames=17, skips=(2,), steps=7, samples=3)


def test_the_three_sides_agree(result):
    assert set(result["largest_difference"]) == {"alone", "plain"}
    assert all(difference <= 1e-6 for difference in result["largest_difference"].values())


def test_all_are_timed(result):
    step = result["step"]
    assert all(step[side] > 0 for side in ltx.SIDES)
    assert step["plain_ratio"] == pytest.approx(step["plain"] / step["shared"])
    assert step["alone_ratio"] == pytest.approx(step["alone"] / step["shared"])
    assert result["job"] == pytest.approx(result["prepare"] + 7 * step["shared"])


def test_arithmetic(result):
    rows = cost.guided_rows(3.0, 1.0, [2])
    flops = result["flops"]
    assert result["tokens"] == 3 * 2 * 3
    assert flops["shared"] == cost.transformer_flops(TINY, 18, rows, ltx.TEXT_LENGTHS)
    assert flops["shared"] < flops["alone"] < flops["plain"] == cost.replay_flops(TINY, 18, rows)
    assert result["floor"] == pytest.approx(flops["shared"] / result["rate"]) and result["rate"] > 1e9
    assert result["floor_percent"] == pytest.approx(100 * result["floor"] / result["step"]["shared"])


def test_table(result):
    table = ltx.render(result)
    assert "a toy: 4 layers, 2 context blocks, layer 2 skipped, 18 tokens" in table and "medians of 3" in table
    assert [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")][1:] == [
        "| ours",
        "| ours, rows not shared",
        "| diffusers' blocks, plain",
    ]
    assert "7 steps" in table and "% of it reached" in table


def test_table_of_a_gpu(result):
    table = ltx.render({**result, "device": "NVIDIA H100", "floor_percent": 61.3})
    assert "61 % of it reached" in table and "CPU" not in table and "threads" not in table


def test_random_weights_are_the_seeds_own():
    first, again, other = (ltx.random_model(TINY, "cpu", torch.bfloat16, seed) for seed in (1, 1, 2))
    for name, value in first.named_parameters():
        assert value.dtype == torch.bfloat16 and torch.isfinite(value).all() and value.float().std() > 0
        assert torch.equal(value, again.get_parameter(name))
        assert not torch.equal(value, other.get_parameter(name))


def test_published_sizes():
    full = ltx.RANDOM_MODELS["full"]
    config = full["config"]
    assert (config["num_layers"], config["num_attention_heads"], config["attention_head_dim"]) == (28, 32, 64)
    assert cost.token_count(*full["size"], full["frames"]) == 4992
    for preset in ltx.RANDOM_MODELS.values():
        config = preset["config"]
        assert config["cross_attention_dim"] == config["num_attention_heads"] * config["attention_head_dim"]
        assert max([*config["context_layers"], *preset["skips"]]) < config["num_layers"]
        arithmetic = {
            share: cost.transformer_flops(config, 600, cost.guided_rows(3, 1, preset["skips"]), (20, 60), share=share)
            for share in (True, False)
        }
        assert arithmetic[False] / arithmetic[True] > 1.2


def test_an_unknown_size():
    with pytest.raises(InputError, match="--random_weights fll: unknown size; did you mean 'full'"):
        ltx.run(random_weights="fll")


def test_a_device_that_is_not_there():
    with pytest.raises(DeviceError, match="cuda:99"):
        ltx.run(random_weights="mid", device="cuda:99")


def test_a_size_of_ones_own(monkeypatch):
    monkeypatch.setitem(ltx.RANDOM_MODELS, "toy", {"config": TINY, "size": (64, 64), "frames": 9, "skips": (3,)})
    assert ltx.run(random_weights="toy", samples=1)["tokens"] == 2 * 2 * 2
    assert ltx.run(random_weights="toy", size=(96, 64), frames=1, samples=1)["tokens"] == 1 * 2 * 3


def test_a_checkpoint_at_its_usual_size():
    result = ltx.run("tiny", samples=1)
    assert (result["model"], result["tokens"], result["skips"]) == ("vace-tiny-ltx", 3 * 3 * 4, [4])
    assert result["largest_difference"]["plain"] <= 1e-5
