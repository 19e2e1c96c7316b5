"""What is told before a generation begins."""

import pytest

from vace.places import words_notice
from vace.training import tiny
from vace.training.captions import facts

LEARNT = {"words": "a blue cat moves left", "prompt": "a blue cat"}


@pytest.mark.parametrize(
    ("prompt", "unknown"), [("a cat", None), ("A Cat, moves LEFT!", None), ("a dog and a dog, 7", "dog, and")]
)
def test_words_never_learnt_are_named(prompt, unknown):
    notice = words_notice(prompt, LEARNT)
    assert notice is None if unknown is None else f": {unknown};" in notice and "'a blue cat'" in notice


def test_models_that_list_no_words_are_asked_nothing():
    assert words_notice("a dog", {}) is None


def test_a_trained_toy_lists_its_words_and_a_prompt_of_them(tmp_path):
    import json

    tiny.write_around(tmp_path, tiny.build_tokenizer(), trained=True)
    defaults = json.loads((tmp_path / "vace.json").read_text())
    assert words_notice(defaults["prompt"], defaults) is None and facts(defaults["prompt"]).things
    assert "elephant" in words_notice("an elephant on the grass", defaults)
