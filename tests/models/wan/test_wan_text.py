"""Prompts: cleaning, tokens, UMT5 states."""

from __future__ import annotations

import pytest
import torch
from goldens_io import equal_within, model_document, model_tensors
from wan_folders import write_tokenizer

from vace.errors import CheckpointError
from vace.models import text

BAR = 1e-5


@pytest.fixture(scope="module")
def model(golden_models):
    return golden_models["text_encoder"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return text.load_tokenizer(folder)


@pytest.mark.parity
@pytest.mark.parametrize("name", [case["name"] for case in model_document("wan", "t5_tiny")["cases"]])
def test_states_equal_the_original(model, name):
    tensors = model_tensors("wan", "t5_tiny")
    states = text.encode_ids(model, tensors[f"{name}.ids"], tensors[f"{name}.mask"])
    assert equal_within("UMT5", states, tensors[f"{name}.out"], BAR)


@pytest.mark.parity
def test_prompts_of_the_pipeline_equal_the_original(model):
    tensors = model_tensors("wan", "pipeline_e2e")
    names = {key.split(".")[1] for key in tensors if key.startswith("text.")}
    for name in sorted(names):
        ids, mask = tensors[f"text.{name}.ids"][None], tensors[f"text.{name}.mask"][None]
        length = int(mask.sum())
        states = text.encode_ids(model, ids[:, :length], mask[:, :length])[0]
        assert equal_within("UMT5, prompts of the pipeline", states, tensors[f"text.{name}.states"], BAR)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  a\n\tcat   walks ", "a cat walks"),
        ("a &amp;lt;b&amp;gt; c", "a <b> c"),
        ("caf\u00c3\u00a9", "café"),
        ("\ufb01re", "fire"),
        ("色调艳丽，过曝", "色调艳丽,过曝"),
        ("", ""),
    ],
)
def test_cleaning(raw, clean):
    assert text.clean_prompt(raw) == clean


def test_tokens_are_cut_and_padded_to_the_models_length(tokenizer):
    ids, mask = text.tokenize(tokenizer, ["aea", "a" * 100, ""], 16)
    assert ids.shape == mask.shape == (3, 16)
    assert mask.sum(dim=1).tolist() == [5, 16, 1]
    assert ids[0, 4:].tolist() == [1] + [0] * 11
    assert ids[1, -1] == 1  # a cut prompt still ends


def test_states_are_trimmed_and_do_not_depend_on_what_is_encoded_beside(tokenizer, model):
    together = text.encode_texts(tokenizer, model, ["aea", "a e a e é"], 32)
    alone = text.encode_texts(tokenizer, model, ["aea"], 32)
    assert [state.shape[0] for state in together] == [5, int(text.tokenize(tokenizer, ["a e a e é"], 32)[1].sum())]
    assert (together[0] - alone[0]).abs().max() <= BAR


def test_unused_padding_columns_do_not_change_states(tokenizer, model):
    ids, mask = text.tokenize(tokenizer, ["aea"], 32)
    padded = text.encode_ids(model, ids, mask)[0, :5]
    assert (padded - text.encode_texts(tokenizer, model, ["aea"], 32)[0]).abs().max() <= BAR


def test_a_sentencepiece_tokenizer_loads():
    from goldens_io import goldens_dir

    tokenizer = text.load_tokenizer(goldens_dir() / "ltx" / "text_models" / "tokenizer")
    ids, mask = text.tokenize(tokenizer, ["a cat"], 12)
    assert ids.shape == (1, 12) and mask.sum() >= 2
    assert torch.equal(ids[0, int(mask.sum()) - 1 : int(mask.sum())], torch.tensor([1]))


@pytest.mark.parametrize("content", ["", "{}", "not json"])
def test_a_damaged_tokenizer_is_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        text.load_tokenizer(tmp_path)
