"""Prompt extension: a short prompt rewritten by a language model into what the base models were trained on.

Which of the modes fits, what is asked, and what of the answer is kept. Who answers is a `Writer`: see `local`, `api`.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vace.errors import InputError, VaceError, nearest
from vace.prompts.modes import AUTO, BY_API, MODES, PLAIN
from vace.prompts.system import CHINESE, ENGLISH, SYSTEM, complete

log = logging.getLogger("vace")

BASES = ("wan", "ltx")

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_QUOTED = re.compile(r"\"([^\"\n]+)\"|“([^”\n]+)”|「([^」\n]+)」|『([^』\n]+)』")

_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_MARKS = re.compile(r"^\s{0,3}(?:>\s+|[-*+•]\s+|\d{1,2}[.)]\s+|\d{1,2}、)")
_SKIPPED = re.compile(r"^\s*(?:`{3}\w*|~{3}\w*|[-*_]{3,}|#{1,6}\s.*)\s*$")
_EMPHASIS = (
    (re.compile(r"(\*\*|__)(?=\S)(.+?)\1"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)\*(?![\w*])"), r"\1"),
    (re.compile(r"`([^`\n]*)`"), r"\1"),
)
_OPENINGS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^(?:sure|certainly|of course|okay|ok|absolutely|got it)(?: thing)?\s*[!.,。，！]+\s*",
        # A colon alone says little ("Here are two dogs: ..."): what follows must begin anew.
        r"^(?:here['’]?s|here is|here are|below is)\b[^\n:.]{0,120}:(?:[ \t]*\n\s*|\s*(?=[\"“]))",
        r"^(?:here['’]?s|here is|below is|this is|the following is)\b[^\n:.]*"
        r"\b(?:prompt|description|version|rewrite|caption|finished video)\b[^\n:.]*(?::|\n)\s*",
        r"^(?:the )?(?:(?:rewritten|extended|expanded|improved|enhanced|final|revised|finished|video|user['’]s)\s+)*"
        r"(?:prompt|description|caption|answer|output)\s*[:：]\s*",
        r"^(?:好的|当然|没问题)[，。！,.!]*\s*(?=[以下这]|\n)",
        r"^(?:以下|下面)(?:就?是|为)[^\n：:。]{0,40}[：:]\s*",
        r"^这(?:就?是|为)[^\n：:。]{0,40}(?:提示词|描述|文案|版本)[^\n：:。]{0,10}[：:]\s*",
        r"^(?:(?:改写|扩写|优化|润色|完善|最终)(?:后的?|的)?)?(?:视频)?(?:提示词|描述|文案)\s*[：:]\s*",
    )
)
_PARTS = "主体|动作|运动|外观|外貌|背景|环境|镜头|景别|光线|光影|色彩|氛围|来源"
_NAMED = (
    r"(?:(?:main )?(?:action|movement|motion|gesture|appearance|subject|background|environment|setting|camera|light|"
    r"lighting|colou?r|source|footage)s?(?:\s*(?:and|&|/|,)\s*[a-z]+(?: [a-z]+)?|\s+(?:angle|movement|type|details)s?)*"
    rf"|(?:{_PARTS})(?:[与和及、]?(?:{_PARTS}|描述|角度|类型|细节|过程|风格))?)\s*[:：]\s*(\S)"
)
_LABEL = re.compile(rf"^{_NAMED}", re.IGNORECASE)
_LABEL_WITHIN = re.compile(
    rf"(?:(?<=[.!?;] )|(?<=[.!?][\"”] )|(?<=[。！？；])|(?<=[。！？]”)) ?{_NAMED}", re.IGNORECASE
)
_REMARK = re.compile(
    r"^(?:\(?(?:please note\b|note\s*[:：])|let me know|i hope|feel free|if you(?:['’]d| would| want| need)|"
    r"this (?:description|prompt|version)\b|word count|（?注意?[：:]|（?备注[：:]|希望[这您你以]|如果您|如需|"
    r"以上[就是为描内提])",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"^(?:(?:unfortunately, )?i(?:['’]?m| am) (?:sorry|unable|not able)\b|(?:unfortunately, )?i (?:can['’]?t|cannot|"
    r"can not|won['’]t)\b|sorry(?:\s*[,.!]|,? (?:but )?i\b)|"
    r"(?:unfortunately, )?as an? (?:ai|language model)\b[^,.]{0,40}, ?i\b|"
    r"我(?:无法|不能|没有办法)|(?:很|非常)?(?:抱歉|对不起)(?:[，,。.！!]|我|无法|不能|$)|"
    r"作为(?:一个|一名)?(?:AI|人工智能|语言模型)[^。]{0,20}，我)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"\S.*?(?:[.!?…]+[\"'”’)]*(?=\s|$)|[。！？…]+[”’」』）\"]*|$)")
_PAIRS = {'"': '"', "“": "”", "「": "」", "『": "』", "'": "'", "‘": "’"}
_NO_LETTER = "\ufffd"  # what bytes that make no letter are decoded to
_NO_SIGNS = ("Cc", "Co", "Cs")  # Unicode's control signs, private ones, halves of pairs
LEAST_LETTERS = 0.5  # of the signs of a description that are no blanks
_ECHO = {ENGLISH: 40, CHINESE: 14}  # characters of one sentence of the rules that no description has by chance
_REMEDY = "try another --seed, a larger --prompt_model, or --use_prompt_extend plain"


class PromptError(VaceError):
    """The language model did not answer, or not with a description."""


@dataclass(frozen=True)
class Answer:
    """What a writer said. is_cut: it was stopped at the number of tokens allowed."""

    text: str
    is_cut: bool = False


class Writer(Protocol):
    """A language model that follows instructions."""

    def write(self, messages: Sequence[Mapping[str, str]], *, seed: int, max_tokens: int) -> Answer:
        """The answer to chat `messages` ({"role", "content"}). Raises VaceError."""

    def describe(self) -> dict[str, Any]:
        """Who it is, for the manifest: no key, no directory."""


@dataclass(frozen=True)
class Request:
    """What is to be rewritten and what is known of the job; the latter as `system.complete` takes it."""

    prompt: str
    mode: str
    seed: int
    task: str | None = None
    refs: int | Sequence[str] = 0
    has_video: bool = False
    has_mask: bool = False
    seconds: float | None = None

    @property
    def system(self) -> str:
        """The key of SYSTEM that the mode means, whoever answers."""
        return self.mode.removesuffix(BY_API)

    def messages(self) -> list[dict[str, str]]:
        job = {"task": self.task, "refs": self.refs, "has_video": self.has_video, "has_mask": self.has_mask}
        system = complete(self.system, seconds=self.seconds, **job)
        return [
            {"role": "system", "content": system},
            {"role": "user", "content": SYSTEM[self.system].lead + self.prompt.strip()},
        ]


@dataclass(frozen=True)
class Extended:
    """A prompt before and after. writer: `Writer.describe`, {} for plain. fallback: why `after` is `before` still."""

    before: str
    after: str
    mode: str
    seed: int
    writer: Mapping[str, Any] = field(default_factory=dict)
    fallback: str | None = None

    def as_record(self) -> dict[str, Any]:
        """As the manifest has it."""
        record = {"before": self.before, "after": self.after, "mode": self.mode, "seed": self.seed}
        record |= {"writer": dict(self.writer)} if self.writer else {}
        return record | ({"fallback": self.fallback} if self.fallback else {})

    def as_json(self) -> dict[str, Any]:
        """As `vace prompt` prints it: the record with the text after as "prompt"."""
        record = self.as_record()
        return {"prompt": record.pop("after"), **record}


def language_of(text: str) -> str:
    """'zh' or 'en', the two languages Wan's prompts are written in.

    Chinese where there are at least as many Han characters as words in other letters. What stands in quotation marks
    is not counted (a sign's words say nothing of the speaker's) unless nothing else is there.
    """
    for part in (_QUOTED.sub(" ", text), text):
        han = len(_HAN.findall(part))
        words = len(_WORD.findall(_HAN.sub(" ", part)))
        if han or words:
            return CHINESE if han >= words else ENGLISH
    return ENGLISH


def resolve_mode(value: str | bool | None, base: str, prompt: str) -> str:
    """The mode of MODES meant by --use_prompt_extend.

    True or 'auto' (the bare flag): ltx_en for ltx, wan_zh or wan_en by the prompt's language for wan. None, False:
    plain. Raises InputError for an unknown value, and for a mode of the other base with those that fit.
    """
    base = {"lxt": "ltx"}.get(base, base)
    if base not in BASES:
        raise InputError(f"--base {base}: no base model of that name; {nearest(base, BASES)}")
    if value is None or value is False or value == PLAIN:
        return PLAIN
    if value is True or value == AUTO:
        return f"wan_{language_of(prompt)}" if base == "wan" else "ltx_en"
    if value not in MODES:
        raise InputError(f"--use_prompt_extend {value}: unknown; {nearest(str(value), (*MODES, AUTO))}")
    fitting = [mode for mode in MODES if mode.startswith(base)]
    if value not in fitting:
        known = ", ".join((*fitting, PLAIN))
        raise InputError(f"--use_prompt_extend {value}: not for --base {base}; give one of {known}, or the bare flag")
    return str(value)


def extend(request: Request, writer: Writer) -> Extended:
    """`request`'s prompt as `writer` rewrites it, cleaned and cut to what the base model's text encoder takes.

    Raises PromptError for an answer that is empty, unreadable, a refusal, in the wrong language or the rules said back;
    and what the writer raises.
    """
    system = SYSTEM[request.system]
    answer = writer.write(request.messages(), seed=request.seed, max_tokens=system.max_tokens)
    text = clean(answer, request.system)
    fault = _fault(text, request.system)
    if fault:
        raise PromptError(f"--use_prompt_extend {request.mode}: the language model {fault}; {_REMEDY}")
    lost = [words for words in _quotations(request.prompt) if words not in text]
    if lost:
        log.warning("the extended prompt has lost the words in quotation marks: %s", ", ".join(lost))
    return Extended(request.prompt, text, request.mode, request.seed, writer.describe())


def clean(answer: Answer, name: str) -> str:
    """The description in `answer` as one line: no thoughts, markdown, remarks around it; at most `limit` long.

    name: a key of SYSTEM.
    """
    # Stopped within a letter of several bytes, a tokenizer gives half a one.
    text = answer.text.rstrip(_NO_LETTER) if answer.is_cut else answer.text
    text = _THOUGHT.sub("", text)
    text = text.rpartition("</think>")[2].partition("<think>")[0]  # a template may open or leave the thought itself
    lines = [line for line in text.strip().splitlines() if not _SKIPPED.match(line)]
    text = "\n".join(_MARKS.sub("", line) for line in lines).strip()
    for pattern, kept in _EMPHASIS:
        text = pattern.sub(kept, text)
    lines = [line.strip() for line in _without_openings(text).splitlines() if line.strip()]
    remark = next((at for at, line in enumerate(lines) if at and _REMARK.match(line)), None)
    text = _without_openings(_unquoted("\n".join(lines[:remark])))  # an opening may stand within the quotation marks
    lines = [_LABEL.sub(_begun, line) for line in text.splitlines()]
    text = _LABEL_WITHIN.sub(_begun, _joined([line for line in lines if line]))
    return _cut(text, SYSTEM[name].language, SYSTEM[name].limit, answer)


def _begun(label: re.Match) -> str:
    """What is left of a label and the letter after it: that letter, which now begins a sentence."""
    return label[1].upper()


def _without_openings(text: str) -> str:
    before = None
    while text != before:
        before = text
        for pattern in _OPENINGS:
            text = pattern.sub("", text.strip(), count=1)
    return text


def _unquoted(text: str) -> str:
    """Without one pair of quotation marks around the whole; those of words at its start and end stay."""
    close, inner = _PAIRS.get(text[:1]), text[1:-1]
    if not inner or close != text[-1]:
        return text
    first = re.search(f"[{text[0]}{close}]", inner)
    if first is None:
        return inner.strip()
    before = inner[: first.start()]
    opens = first[0] != close if close != text[0] else not before or before[-1].isspace()
    return inner.strip() if opens else text


def _joined(lines: Sequence[str]) -> str:
    """Lines as one paragraph; where a list had no full stops, they are put in."""
    text = ""
    for line in lines:
        if text and not re.search(r"[.!?,;:…。！？，；：、”\"’」)）—-]$", text) and not line[0].islower():
            text += "。" if _HAN.match(text[-1]) else "."
        between = "" if text and _is_wide(text[-1]) and _is_wide(line[0]) else " "
        text = f"{text}{between}{line}"
    return re.sub(r"\s+", " ", text).strip()


def _is_wide(character: str) -> bool:
    return bool(_HAN.match(character)) or character in "。！？，；：、…“”「」『』（）《》"


def _length(text: str, language: str) -> int:
    return len(re.sub(r"\s", "", text)) if language == CHINESE else len(text.split())


def _cut(text: str, language: str, limit: int, answer: Answer) -> str:
    """As many whole sentences as fit; of a first one that is too long, as many whole clauses or words."""
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    is_whole = not ends or not re.search(r"[^.!?…。！？”’\"')」』）]$", text)
    if answer.is_cut and not is_whole and len(ends) > 1:
        ends.pop()
    fitting = [end for end in ends if _length(text[:end], language) <= limit]
    if fitting:
        return text[: fitting[-1]].strip()
    stop = "。" if language == CHINESE else "."
    for pattern, least in ((r"[,;，；、]", limit / 2), (r"\s", 1), (r"(?<=\S)", 1)):
        places = [match.start() for match in re.finditer(pattern, text)]
        kept = [text[:at] for at in places if least <= _length(text[:at], language) <= limit]
        if kept:
            return kept[-1].strip() + stop
    return ""


def _fault(text: str, name: str) -> str | None:
    """What keeps `text` from being a prompt, as a predicate; None where nothing does."""
    system = SYSTEM[name]
    if not text:
        return "gave no description"
    if not _is_readable(text):
        return "wrote no readable text"
    if _REFUSAL.match(text):
        return f"refused ('{text[:80]}')"
    rules = [part.strip() for part in re.split(r"(?<=[.。;；])\s*|\n", system.text)]
    if any(len(rule) >= _ECHO[system.language] and rule.casefold() in text.casefold() for rule in rules):
        return "said its rules back instead of a description"
    if language_of(text) != system.language:
        wanted = "Chinese" if system.language == CHINESE else "English"
        return f"did not answer in {wanted} ('{text[:60]}')"
    return None


def _is_readable(text: str) -> bool:
    """Whether `text`, of one line, is words: nothing undecoded, no control signs, and letters for the most part."""
    if _NO_LETTER in text or any(unicodedata.category(sign) in _NO_SIGNS for sign in text):
        return False
    signs = [sign for sign in text if not sign.isspace()]
    return sum(map(str.isalpha, signs)) >= LEAST_LETTERS * len(signs) and bool(_WORD.search(text))


def _quotations(text: str) -> list[str]:
    return [next(group for group in match.groups() if group) for match in _QUOTED.finditer(text)]
