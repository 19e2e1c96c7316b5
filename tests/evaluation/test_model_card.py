"""The model card's tables come from an evaluation, and nothing else of the card changes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield
    sys.modules.pop("model_card", None)


def record() -> dict:
    return json.loads((ROOT / "benchmarks/vace-tiny/eval.json").read_text())


def test_tables_take_the_place_of_those_before(tmp_path):
    import model_card

    card, scores = tmp_path / "README.md", tmp_path / "scores.json"
    card.write_text(f"# toy\n\n{model_card.BEGIN}\nstale words\n{model_card.END}\n\nthe rest\n")
    scores.write_text(json.dumps(record()))
    assert model_card.main([str(scores), "--card", str(card)]) == 0
    text = card.read_text()
    assert text.startswith("# toy\n") and text.endswith("\n\nthe rest\n") and "stale words" not in text
    assert "| kept_psnr |" in text and "| score | measured |" in text and "# Evaluation" not in text
    model_card.main([str(scores), "--card", str(card)])
    assert card.read_text() == text


def test_the_card_shows_the_evaluation_that_is_kept():
    import model_card

    card = model_card.CARD.read_text(encoding="utf-8")
    assert model_card.with_tables(card, record()) == card


@pytest.mark.parametrize(("card", "changes", "word"), [("# toy\n", {}, "no place"), (None, {"finished": False}, "end")])
def test_what_cannot_be_put_there_is_told(card, changes, word, tmp_path, capsys):
    import model_card

    path, scores = tmp_path / "README.md", tmp_path / "scores.json"
    path.write_text(card or f"{model_card.BEGIN}\n{model_card.END}")
    scores.write_text(json.dumps({**record(), **changes}))
    assert model_card.main([str(scores), "--card", str(path)]) == 2
    assert word in capsys.readouterr().err
