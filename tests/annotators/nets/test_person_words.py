"""Words for persons: which count, what is refused, and what is found for them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from vace.annotators.nets import person_words
from vace.annotators.nets.matte import PersonMatte
from vace.annotators.nets.person_words import PersonWords, person_word
from vace.annotators.networks import NETWORKS
from vace.errors import InputError, MissingWeights
from vace.media.image import read_image


@pytest.fixture
def two_people(monkeypatch):
    mask = np.zeros((20, 30), np.uint8)
    mask[2:10, 3:9] = 255
    mask[10, 3:9] = 90  # a soft edge
    people = [PersonMatte(mask, (3, 2, 9, 11), 0.97), PersonMatte(mask[:, ::-1], (21, 2, 27, 11), 0.9)]
    monkeypatch.setattr(person_words, "find_persons", lambda image: people)
    return people


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("person", "person"),
        ("Woman", "woman"),
        ("a woman in orange", "woman"),
        ("two young men", "men"),
        ("the old lady with a dog", "lady"),
        ("human being", "human"),
        ("CHILDREN playing", "children"),
        ("the boy's sister, a girl", "girl"),
        ("dog", None),
        ("a dog with a man", None),
        ("the woman's hat", None),
        ("a man-made lake", None),
        ("snowman", None),
        ("mandolin", None),
        ("rabbit", None),
        ("", None),
    ],
)
def test_what_a_text_is_about(text, word):
    assert person_word(text) == word


@pytest.mark.parametrize(
    "asked", [{"label": ["person"]}, {"label": ["man", "woman"]}, {"caption": "a guy on the left"}]
)
def test_people_are_served_best_first(two_people, asked):
    found = PersonWords().find(np.zeros((20, 30, 3), np.uint8), **asked)
    assert [(one.box, one.score) for one in found] == [((3.0, 2.0, 9.0, 11.0), 0.97), ((21.0, 2.0, 27.0, 11.0), 0.9)]
    assert {one.name for one in found} == {"person" if "person" in asked.get("label", ()) else found[0].name}
    assert found[0].name in ("person", "man", "guy")
    assert np.array_equal(found[0].mask, np.where(two_people[0].mask == 255, 255, 0))
    assert found[0].mask.dtype == np.uint8


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"label": ["dog"]}, "--label dog: "),
        ({"label": ["person", "red car", "cat"]}, "--label red car, cat: "),
        ({"caption": "a horse under a man"}, "--caption a horse under a man: "),
    ],
)
def test_other_things_need_the_trained_network(two_people, asked, told):
    with pytest.raises(MissingWeights, match=f"^{re.escape(told)}") as caught:
        PersonWords().find(np.zeros((20, 30, 3), np.uint8), **asked)
    row = NETWORKS["detect"]
    for part in (row.files[0].path, row.hub[0], "vace models pull detect"):
        assert part in str(caught.value)


@pytest.mark.parametrize("asked", [{}, {"label": ["person"], "caption": "a man"}])
def test_one_way_of_asking(asked):
    with pytest.raises(InputError, match="--label, --caption: give one of them"):
        PersonWords().find(np.zeros((4, 4, 3), np.uint8), **asked)


@pytest.mark.parametrize(
    ("asked", "flag"), [({"label": []}, "--label"), ({"label": [" "]}, "--label"), ({"caption": ""}, "--caption")]
)
def test_empty_words_are_refused(asked, flag):
    with pytest.raises(InputError, match=f"{flag}: empty; say what to look for"):
        PersonWords().find(np.zeros((4, 4, 3), np.uint8), **asked)


def test_the_astronaut_is_a_woman_and_the_cup_nobody(root):
    image = read_image(root / "assets" / "images" / "test.jpg")
    (found,) = PersonWords().find(image, caption="a woman in an orange suit")
    mask = read_image(root / "assets" / "masks" / "test2.png")[..., 0] > 127
    assert ((found.mask > 0) & mask).sum() / ((found.mask > 0) | mask).sum() > 0.9
    assert found.name == "woman" and found.score > 0.9
    x1, y1, x2, y2 = found.box
    assert found.mask[int(y1) : int(y2), int(x1) : int(x2)].sum() == found.mask.sum()
    assert PersonWords().find(read_image(root / "assets" / "images" / "test3.jpg"), label=["person"]) == []
