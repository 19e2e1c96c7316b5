"""Prompts of LTX: cleaning, tokens and T5 states, against the original and by hand."""

from __future__ import annotations

import warnings

import pytest
import torch
from goldens_io import equal_within, goldens_dir, model_document, model_tensors
from parity_fixes import FIXES

from vace.models import text as shared
from vace.models.ltx.text import TEXT_LEN, clean_caption
from vace.models.text import encode_ids, load_tokenizer

BAR = 5e-5


# Where we fix the original, its golden is read through one of these.
def tokenize(tokenizer, texts, length=TEXT_LEN):
    return shared.tokenize(tokenizer, texts, length, clean_caption)


def encode_texts(tokenizer, model, texts):
    return shared.encode_texts(tokenizer, model, texts, TEXT_LEN, clean_caption)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(goldens_dir() / "ltx" / "text_models" / "tokenizer")


@pytest.fixture(scope="module")
def model():
    from transformers import T5EncoderModel

    folder = goldens_dir() / "ltx" / "text_models" / "text_encoder"
    return T5EncoderModel.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parity
def test_cleaned_prompts_equal_the_original():
    document = model_document("ltx", "text")
    assert [clean_caption(prompt) for prompt in document["prompts"]] == document["cleaned"]
    for text, expected in document["negatives_list_path"].items():
        assert clean_caption(FIXES["negative_as_list"][1](text)) == expected
    assert document["prompts"] and document["negatives_list_path"]


@pytest.mark.parity
def test_tokens_equal_the_original(tokenizer):
    document, tensors = model_document("ltx", "text"), model_tensors("ltx", "text")
    ids, mask = tokenize(tokenizer, document["prompts"])
    assert equal_within("T5 tokens", ids, tensors["input_ids"])
    assert equal_within("T5 tokens", mask, tensors["attention_mask"])
    negatives = [FIXES["negative_as_list"][1](text) for text in document["negatives_list_path"]]
    ids, mask = tokenize(tokenizer, negatives)
    assert equal_within("T5 tokens", ids, tensors["neg_list_input_ids"])
    assert equal_within("T5 tokens", mask, tensors["neg_list_attention_mask"])


@pytest.mark.parity
def test_states_equal_the_original(tokenizer, model):
    document, tensors = model_document("ltx", "text"), model_tensors("ltx", "text")
    negatives = [FIXES["negative_as_list"][1](text) for text in document["negatives_list_path"]]
    for name, texts, masks in (
        ("prompt_embeds_first3", document["prompts"], tensors["prompt_mask_first3"]),
        ("negative_embeds", [document["negative_prompt"]] * 3, tensors["negative_mask"]),
        ("neg_list_embeds_first2", negatives, tensors["neg_list_attention_mask"]),
    ):
        expected = tensors[name]
        ids, mask = tokenize(tokenizer, texts[: len(expected)])
        assert torch.equal(mask, masks[: len(expected)])
        assert equal_within("T5", encode_ids(model, ids, mask), expected, BAR), name
        for found, whole, kept in zip(encode_texts(tokenizer, model, texts[:3]), expected, mask, strict=False):
            assert equal_within("T5, real tokens alone", found, whole[: int(kept.sum())], BAR), name


@pytest.mark.parity
@pytest.mark.parametrize("path", sorted((goldens_dir() / "ltx").glob("e2e_*.json")), ids=lambda path: path.stem)
def test_prompts_of_whole_pipelines_equal_the_original(path, tokenizer, model):
    document, tensors = model_document("ltx", path.stem), model_tensors("ltx", path.stem)
    negative = FIXES["negative_as_list"][1](document["negative_prompt"])
    found = encode_texts(tokenizer, model, [negative, document["prompt"]])
    masks = tensors["prompt_attention_mask_batch"]
    for row, states in enumerate(found):
        expected = tensors["prompt_embeds_batch"][row][: int(masks[row].sum())]
        assert equal_within("T5, prompts of the pipeline", states, expected, BAR), row


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("", ""),
        ("   ", ""),
        ("A Red Fox", "a red fox"),
        ("Don't blur", "don't blur"),
        ('it\'s "bad"', 'it\'s "bad"'),
        ("see <person> in <i>snow</i> &amp; ice", "see person in snow ice"),
        ("a_b_c", "a_b_c"),
        ("a_b_c_d_e", "a b c d e"),
        ("x at 12.34.56.78 y", "x at y"),
        ("ticket 12345 or 123456", "ticket 12345 or"),
        ("wide 16 : 9 shot", "wide 16: 9 shot"),
        ("full hd 1920x1080 film", "full hd film"),
        ("a &#65; b", "a a b"),
        ("fox \u72d0\u72f8 fox", "fox fox"),
        ("\ufb01re and \u201csmoke\u201d", 'fire and "smoke"'),
        ("a <![ b", "a <! b"),
        ("half \ud800 a pair", "half \ufffd a pair"),
    ],
)
def test_cleaning(text, clean):
    assert clean_caption(text) == clean


def test_a_prompt_that_looks_like_a_file_or_link_makes_no_noise():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert clean_caption("clip.mp4") == ""
        assert clean_caption("http://example.com") == ""


def test_an_empty_negative_prompt_stays_empty(tokenizer, model):
    ids, mask = tokenize(tokenizer, [""])
    assert ids.shape == mask.shape == (1, TEXT_LEN)
    assert mask.sum() == 1 and ids[0, 0] == tokenizer.eos_token_id
    (states,) = encode_texts(tokenizer, model, [""])
    assert states.shape == (1, model.config.d_model)


def test_long_prompts_are_cut_and_still_end(tokenizer):
    ids, mask = tokenize(tokenizer, ["fox " * 300, "fox"], 16)
    assert mask.sum(dim=1)[0] == 16 and ids[0, -1] == tokenizer.eos_token_id
    assert mask[1].sum() < 16 and ids[1, -1] == tokenizer.pad_token_id


def test_states_do_not_depend_on_what_is_encoded_beside(tokenizer, model):
    together = encode_texts(tokenizer, model, ["a fox", "a fox in the snow at sunset, seen from far"])
    (alone,) = encode_texts(tokenizer, model, ["a fox"])
    assert together[0].shape == alone.shape and len(together[1]) > len(alone)
    assert (together[0] - alone).abs().max() <= BAR


def test_the_mask_matters(tokenizer, model):
    ids, mask = tokenize(tokenizer, ["a fox"])
    unmasked = encode_ids(model, ids, torch.ones_like(mask))[0, : int(mask.sum())]
    assert (unmasked - encode_texts(tokenizer, model, ["a fox"])[0]).abs().max() > 100 * BAR
