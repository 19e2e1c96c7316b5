"""Colours of labelled boxes: our own table of everyday things, and reading a table in the original's file format."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vace.errors import InputError

Color = tuple[int, int, int]

# Plain words for what people put into boxes; the colour follows from the place in the list, so append only.
LABELS = (
    "person", "man", "woman", "child", "face", "hand", "cat", "dog", "horse", "bird", "fish", "cow", "sheep", "rabbit",
    "squirrel", "bear", "lion", "tiger", "elephant", "monkey", "fox", "deer", "mouse", "duck", "chicken", "butterfly",
    "bee", "snake", "turtle", "frog", "dragon", "dinosaur", "robot", "car", "bus", "truck", "train", "bicycle",
    "motorcycle", "boat", "ship", "airplane", "helicopter", "rocket", "balloon", "ball", "toy", "doll", "teddy bear",
    "kite", "umbrella", "hat", "glasses", "shirt", "dress", "shoe", "bag", "suitcase", "book", "phone", "laptop",
    "keyboard", "camera", "clock", "cup", "bottle", "glass", "plate", "bowl", "knife", "fork", "spoon", "apple",
    "banana", "orange", "bread", "cake", "pizza", "sandwich", "chair", "table", "sofa", "bed", "lamp", "door", "window",
    "tree", "flower", "leaf", "mountain", "rock", "house", "building", "bridge", "road", "sign", "sun", "moon", "star",
    "cloud",
)  # fmt: skip

ORIGINAL_TABLE = "layout/ram_tag_color_list.txt"  # below models/VACE-Annotators
_TURN = 0.6180339887498949  # golden section: neighbours in the list get hues far apart
_SHADES = ((0.85, 0.85), (1.0, 0.6), (0.6, 0.95))  # saturation, value
_LINE = re.compile(r"^\s*\d+\s*#;#\s*(?P<name>.+?)\s*#;#\s*\(?(?P<numbers>[\d,\s]+)\)?\s*$")


def label_colors() -> dict[str, Color]:
    """Our table: label -> (r, g, b), 0..255."""
    table = {}
    for place, label in enumerate(LABELS):
        red, green, blue = colorsys.hsv_to_rgb(place * _TURN % 1, *_SHADES[place % len(_SHADES)])
        table[label] = (round(red * 255), round(green * 255), round(blue * 255))
    return table


def current_colors() -> dict[str, Color]:
    """The original's table where its file is on this machine (it is a download), else our own."""
    from vace.annotators.networks import collection_folders

    for folder in collection_folders():
        path = folder / ORIGINAL_TABLE
        if path.is_file():
            return read_color_table(path)
    return label_colors()


def read_color_table(path: str | Path) -> dict[str, Color]:
    """A table file with one line `id#;#name#;#(r,g,b)` for each label, as name -> (r, g, b).

    Raises InputError for a file that cannot be read and for a line of another form.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"colour table {path}: cannot be read ({error}); give a text file") from None
    table = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            name, color = _entry(path, number, line)
            table[name] = color
    return table


def _entry(path: str | Path, number: int, line: str) -> tuple[str, Color]:
    match = _LINE.match(line)
    values = tuple(int(part) for part in re.findall(r"\d+", match["numbers"])) if match else ()
    if len(values) != 3 or max(values) > 255:
        raise InputError(f"colour table {path}, line {number}: '{line.strip()}' is not of the form id#;#name#;#(r,g,b)")
    return match["name"], values


def color_of(
    label: str | Sequence[str] | None, table: Mapping[str, Color], default: Color | None = None
) -> Color | None:
    """The colour of `label` (of the first of several) in `table`, else `default`."""
    name = label if isinstance(label, str) or not label else label[0]
    return table.get(name, default) if name else default
