"""People found by the words for them, where no trained detector can be had: the network `detect`, embedded."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from vace.annotators.nets.matte import find_persons
from vace.annotators.nets.prompts import Detection
from vace.annotators.networks import NETWORKS, how_to_get
from vace.errors import InputError, MissingWeights

WORDS = frozenset(
    "person persons people human humans man men woman women boy boys girl girls child children kid kids toddler "
    "toddlers teenager teenagers adult adults guy guys lady ladies gentleman gentlemen someone somebody anyone anybody "
    "pedestrian pedestrians".split()
)
# After one of these a caption tells more of the thing, or of other things: "a woman with a dog".
_AFTER = frozenset(
    "in with of on at by near next beside behind before under over above below from into to and or who whose that "
    "which while is are has holds wears holding wearing".split()
)
_WORD = re.compile(r"[^\W\d_]+(?:[-'’]\w+)*")


def person_word(text: str) -> str | None:
    """The word for a person that `text` is about, in lower case; None where it is about something else.

    A label is about its words, a caption about what comes before its first preposition or the like: "a woman with a
    dog" is about a woman, "a dog with a woman" and "the woman's dog" are not.
    """
    for word in _WORD.findall(text.lower()):
        if word in WORDS:
            return word
        if word in _AFTER:
            return None
    return None


class PersonWords:
    """Detections of persons, by MediaPipe's networks, for the words that mean one."""

    def find(
        self, image: np.ndarray, label: Sequence[str] | None = None, caption: str | None = None
    ) -> list[Detection]:
        """The people in `image` (RGB uint8 [H,W,3]), the most conspicuous first, each with its mask of 0 and 255.

        Either label (words or short phrases, each for a person) or caption (one phrase about a person). An empty list
        where nobody is found. Raises MissingWeights, naming the trained detector, where another thing is asked for.
        """
        if (label is None) == (caption is None):
            raise InputError("--label, --caption: give one of them, to say what to look for")
        flag, texts = ("--label", list(label)) if label is not None else ("--caption", [caption])
        if not any(text.strip() for text in texts):
            raise InputError(f"{flag}: empty; say what to look for, such as 'person'")
        words = [person_word(text) for text in texts]
        others = [text for text, word in zip(texts, words, strict=True) if word is None]
        if others:
            raise MissingWeights(f"{flag} {', '.join(others)}: {_needed()}")
        return [
            Detection(tuple(float(value) for value in one.box), one.score, words[0], _solid(one.mask))
            for one in find_persons(image)
        ]


def _solid(mask: np.ndarray) -> np.ndarray:
    return np.where(mask > 127, np.uint8(255), np.uint8(0))


def _needed() -> str:
    row = NETWORKS["detect"]
    weights = " or ".join([*(file.path for file in row.files), *row.hub])
    return f"without a trained detector ({weights}) only persons are found by their names; {how_to_get(row)}"
