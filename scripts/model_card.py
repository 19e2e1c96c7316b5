"""Put the tables of an evaluation into the toy's model card, between the marks that it has for them.

    python scripts/model_card.py results/eval/TIME/scores.json [--card assets/models/vace-tiny/README.md]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vace.errors import InputError, VaceError
from vace.evaluation import report
from vace.media.files import replacing
from vace.media.manifest import read_json

CARD = Path(__file__).resolve().parent.parent / "assets/models/vace-tiny/README.md"
BEGIN, END = "<!-- evaluation: scripts/model_card.py -->", "<!-- end of the evaluation -->"


def with_tables(card: str, record: dict) -> str:
    """The card's text with the record's tables. Raises InputError for one without its marks, or half an evaluation."""
    if not record["finished"]:
        raise InputError("scores.json: of an evaluation that was interrupted; run it to its end")
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"the card has no place for tables; put the lines {BEGIN} and {END} where they belong")
    body = report.table(record).split("\n", 1)[1].strip()  # without its heading
    return f"{before}{BEGIN}\n\n{body}\n\n{END}{after}"


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path, help="scores.json of `vace eval`")
    parser.add_argument("--card", type=Path, default=CARD, help="the model card (default: vace-tiny's)")
    args = parser.parse_args(given)
    try:
        text = with_tables(args.card.read_text(encoding="utf-8"), read_json(args.scores))
        with replacing(args.card) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except VaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
