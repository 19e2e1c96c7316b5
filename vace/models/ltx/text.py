"""How LTX's prompts are cleaned before `vace.models.text` encodes them.

LTX was trained on captions cleaned as below, so prompts are cleaned alike, also where a rule is odd. The rules come
from DeepFloyd IF and are kept in the original's order, since each sees what those before it left.
"""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Sequence
from urllib.parse import unquote_plus

TEXT_LEN = 128  # tokens, the end token included

Rules = Sequence[tuple[str, str]]

_DOMAIN = r"[a-z0-9.\-]+\.(?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b/?(?!@)"
_FILE_KINDS = "(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)"

LINKS: Rules = (
    ("<person>", "person"),
    (rf"\b(?:https?:(?:/{{1,3}}|[a-z0-9%])|{_DOMAIN})", ""),
    (rf"\b(?:www:(?:/{{1,3}}|[a-z0-9%])|{_DOMAIN})", ""),
)
SIGNS: Rules = (
    (r"@\w+\b", ""),  # nicknames
    ("[\u31c0-\u9fff]+", ""),  # Chinese characters and the blocks before them, Japanese kanji too
    (
        "[\\-\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0"
        "\ufe31\ufe32\ufe58\ufe63\uff0d]+",
        "-",
    ),  # dashes of every kind
    ("[`\u00b4\u00ab\u00bb\u201c\u201d\u00a8]", '"'),
    ("[\u2018\u2019]", "'"),
    (r"&quot;?|&amp", ""),
    (r"(?:\d{1,3}\.){3}\d{1,3}", " "),  # network addresses
    (r"\d:\d\d\s+$", ""),
    (r"\\n", " "),  # a backslash and an n
    (r"#(?:\d{1,3}|\d{5,})\b", ""),
    (r"\b\d{6,}\b", ""),
    (rf"\S+\.{_FILE_KINDS}", ""),
    (r"[\"']{2,}", '"'),
    (r"\.{2,}", " "),
    ("[#\u00ae\u2022\u00a9\u2122&@\u00b7\u00ba\u00bd\u00be\u00bf\u00a1\u00a7~()\\[\\]{}|\\\\/*]+", " "),
    (r"\s+\.\s+", " "),
)
WORDS: Rules = (
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),  # part numbers, in four forms
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
    (r"\b\d+[a-zA-Z]+\d+\b", ""),
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    (r"(?:free\s)?download(?:\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b{_FILE_KINDS}(?:\simages?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    (r"\b\d+\.?\d*[x\u0445\u00d7]\d+\.?\d*\b", ""),  # 1920x1080
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", r"\1 "),
    (r"\s+", " "),
)
ENDS: Rules = (  # a blank left at an end keeps these from what lies behind it, as in the original
    (r"^[\"']([\w\W]+)[\"']$", r"\1"),
    (r"^['_,\-:;]", ""),
    (r"['_,\-:+]$", ""),
    (r"^\.\S+$", ""),
)
JOINED = r"[-_]"  # this-is-my-cat: made blanks where there are more than
MOST_JOINED = 3


def clean_caption(text: str) -> str:
    """A prompt as LTX reads it, cleaned twice: lower case; no links, mark-up, Chinese, long numbers or sizes.

    For the negative prompt too. There the original cleans the written form of a list, ['...'], by mistake, which makes
    an empty one a lone quote; ours stays empty.
    """
    from ftfy.fixes import fix_surrogates

    return _clean_once(_clean_once(fix_surrogates(text)))


def _clean_once(text: str) -> str:
    import ftfy

    text = _apply(LINKS, unquote_plus(text).strip().lower())
    text = _apply(SIGNS, _without_markup(text))
    if len(re.findall(JOINED, text)) > MOST_JOINED:
        text = re.sub(JOINED, " ", text)
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return _apply(ENDS, _apply(WORDS, text)).strip()


def _apply(rules: Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text


def _without_markup(text: str) -> str:
    """The text between HTML tags, entities resolved; unchanged where it is no HTML that can be read."""
    from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning
    from bs4.exceptions import ParserRejectedMarkup

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)  # a prompt may well look like a file's name
        try:
            return BeautifulSoup(text, features="html.parser").text
        except ParserRejectedMarkup:
            return text
