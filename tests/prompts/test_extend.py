"""Modes and languages, what is asked of a writer, and what of its answer becomes the prompt."""

from __future__ import annotations

import logging

import pytest

from vace.errors import InputError, VaceError
from vace.prompts.extend import (
    MODES,
    Answer,
    Extended,
    PromptError,
    Request,
    clean,
    extend,
    language_of,
    resolve_mode,
)
from vace.prompts.system import SYSTEM

GOOD = "A gray cat leaps over a low fence and lands in tall grass. The camera follows it."


class Said:
    """A writer that says one thing and remembers what it was asked."""

    def __init__(self, text, is_cut=False):
        self.answer, self.asked = Answer(text, is_cut), []

    def write(self, messages, *, seed, max_tokens):
        self.asked.append((messages, seed, max_tokens))
        return self.answer

    def describe(self):
        return {"kind": "test", "model": "said"}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("a cat runs", "en"),
        ("一只猫在奔跑", "zh"),
        ("一只 cat", "zh"),
        ("a 猫 runs in the park", "en"),
        ("wide shot of a neon sign that reads “你好世界欢迎光临”", "en"),
        ("“你好”", "zh"),
        ('一块牌子写着 "OPEN DAY AND NIGHT"', "zh"),
        ("un café près du lac", "en"),
        ("", "en"),
        ("123 !", "en"),
    ],
)
def test_language_is_that_of_most_words_outside_quotation_marks(text, language):
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("value", "base", "prompt", "mode"),
    [
        (True, "wan", "a cat", "wan_en"),
        ("auto", "wan", "一只猫", "wan_zh"),
        (True, "ltx", "一只猫", "ltx_en"),
        (True, "lxt", "a cat", "ltx_en"),
        (None, "wan", "a cat", "plain"),
        (False, "ltx", "a cat", "plain"),
        ("plain", "ltx", "a cat", "plain"),
        ("wan_zh", "wan", "a cat", "wan_zh"),
        ("wan_en_ds", "wan", "一只猫", "wan_en_ds"),
        ("ltx_en_ds", "ltx", "a cat", "ltx_en_ds"),
    ],
)
def test_mode(value, base, prompt, mode):
    assert resolve_mode(value, base, prompt) == mode


@pytest.mark.parametrize(
    ("value", "base", "told"),
    [
        ("ltx_en", "wan", "not for --base wan; give one of wan_zh, wan_en, wan_zh_ds, wan_en_ds, plain"),
        ("wan_en", "ltx", "not for --base ltx; give one of ltx_en, ltx_en_ds, plain"),
        ("wan_em", "wan", "did you mean 'wan_en'"),
        ("yes", "wan", "known: auto, ltx_en"),
        (True, "sora", "--base sora"),
    ],
)
def test_wrong_modes_name_the_fitting_ones(value, base, told):
    with pytest.raises(InputError, match=told):
        resolve_mode(value, base, "a cat")


def test_all_modes_of_the_command_line():
    assert MODES == ("plain", "wan_zh", "wan_en", "ltx_en", "wan_zh_ds", "wan_en_ds", "ltx_en_ds")


def test_what_the_writer_is_asked():
    writer = Said(GOOD)
    extend(Request(" a cat jumps ", "ltx_en_ds", 7, task="depth", refs=2, has_video=True, seconds=4), writer)
    [(messages, seed, max_tokens)] = writer.asked
    assert seed == 7 and max_tokens == SYSTEM["ltx_en"].max_tokens
    assert [message["role"] for message in messages] == ["system", "user"]
    system, user = (message["content"] for message in messages)
    assert system.startswith(SYSTEM["ltx_en"].text)
    assert "Task: depth" in system and "Reference pictures: 2" in system and "about 4 seconds" in system
    assert user == SYSTEM["ltx_en"].lead + "a cat jumps"


def test_record_of_an_extension():
    extended = extend(Request("a cat", "wan_en", 3), Said(GOOD))
    assert extended.as_record() == {
        "before": "a cat", "after": GOOD, "mode": "wan_en", "seed": 3, "writer": {"kind": "test", "model": "said"},
    }  # fmt: skip
    assert extended.as_json()["prompt"] == GOOD and "after" not in extended.as_json()
    assert Extended("a", "a", "plain", 1).as_record() == {"before": "a", "after": "a", "mode": "plain", "seed": 1}
    assert Extended("a", "a", "wan_en", 1, fallback="why").as_record()["fallback"] == "why"


@pytest.mark.parametrize(
    "said",
    [
        GOOD,
        f'"{GOOD}"',
        f"“{GOOD}”",
        f"```\n{GOOD}\n```",
        f"**{GOOD}**",
        f"# Prompt\n\n{GOOD}",
        f"> {GOOD}",
        f"Sure! Here's the rewritten prompt:\n\n{GOOD}",
        f"Certainly, here is a description of the finished video:\n{GOOD}",
        f"Here is the extended prompt\n\n{GOOD}",
        f"**Prompt:** {GOOD}",
        f'Rewritten prompt: "{GOOD}"',
        f'"Here is the prompt: {GOOD}"',
        f"<think>\nThe user wants a cat.\n\nHere is: a dog\n</think>\n\n{GOOD}",
        f"The template opened this thought.</think>{GOOD}",
        f"{GOOD}\n\nNote: I added the camera.",
        f"{GOOD}\nLet me know if you want changes!",
        "A gray cat leaps over a low fence\nand lands in tall grass.\n\nThe camera follows it.",
        "1. **Action**: A gray cat leaps over a low fence and lands in tall grass\n2. **Camera movement**: The camera "
        "follows it.",
        "- A gray cat leaps over a low fence and lands in tall grass.\n- The camera *follows* it.",
    ],
)
def test_what_stands_around_a_description_is_taken_off(said):
    assert clean(Answer(said), "wan_en") == GOOD


@pytest.mark.parametrize(
    "text",
    [
        '"OPEN" glows above "CLOSED"',
        "This is a busy street: cars pass by.",
        "A tower 3.5 m high, no. 5 of * many, stands.",
        "As an AI robot walks by, people turn.",
        "A sign with the words 'wet paint' on it.",
        "Here the river bends.",
        "Here are two dogs: a black one and a white one.",
        "A dog sits. The light source: a lamp.",
        "The sign on the wall reads. Background music: none.",
        "1950s cars drive along.",
    ],
)
def test_what_belongs_to_a_description_stays(text):
    assert clean(Answer(text), "wan_en") == text


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Action: A dog runs. Background: a hill.", "A dog runs. A hill."),
        ("**Action:** a dog runs.  **Camera angle:** low; light: warm.", "A dog runs. Low; Warm."),
        ("Action: a dog runs\nBackground: a hill", "A dog runs. A hill"),
        ('A man says "Stop." Setting and mood: a quiet street.', 'A man says "Stop." A quiet street.'),
        (
            "A dog runs over grass.\nNote how the light falls on it.",
            "A dog runs over grass. Note how the light falls on it.",
        ),
        ("A dog runs.\nPlease note that I kept the dog.", "A dog runs."),
        ("A dog runs.\n(Note: the dog is kept)", "A dog runs."),
    ],
)
def test_labels_and_remarks_within_go_and_all_else_stays(said, kept):
    assert clean(Answer(said), "wan_en") == kept


@pytest.mark.parametrize(
    "text",
    [
        "Sorry-looking dog sits by a door.",
        "Sorry faces look up from a table.",
        "I'm Sorrytown, says a sign.",
        "As an AI robot walks by, people turn.",
        "As an AI powered truck arrives, icy fog rises.",
    ],
)
def test_words_of_refusals_are_no_refusal(text):
    assert extend(Request("a cat", "wan_en", 1), Said(text)).after == text


def test_words_of_chinese_refusals_and_remarks_are_none():
    text = "对不起三个字写在墙上。\n注意力集中的孩子抬头看。\n以上空的云为背景，孩子笑了。"
    assert extend(Request("猫", "wan_zh", 1), Said(text)).after == text.replace("\n", "")
    assert (
        clean(Answer("一只狗。\n注意：保留了狗。"), "wan_zh")
        == clean(Answer("一只狗。\n以上是描述。"), "wan_zh")
        == "一只狗。"
    )


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("好的，以下是改写后的提示词：\n\n“一只猫在奔跑。”\n\n注：已保留原意。", "一只猫在奔跑。"),
        ("提示词：一只猫在奔跑。", "一只猫在奔跑。"),
        ("一只猫在奔跑\n背景是公园。", "一只猫在奔跑。背景是公园。"),
        ("“一只猫”和“一只狗”", "“一只猫”和“一只狗”"),
        ("这是一条街道：行人来往。", "这是一条街道：行人来往。"),
        ("动作：一只猫在奔跑。\n背景：公园。", "一只猫在奔跑。公园。"),
        ("动作：一只猫在奔跑。背景与环境：公园。镜头：跟随。", "一只猫在奔跑。公园。跟随。"),
        ("一只猫在奔跑。背景墙上写着：欢迎。", "一只猫在奔跑。背景墙上写着：欢迎。"),
    ],
)
def test_chinese_answers(said, kept):
    assert clean(Answer(said), "wan_zh") == kept


def test_quotation_marks_around_a_text_with_quoted_words():
    assert clean(Answer('"A sign "OPEN" glows."'), "wan_en") == 'A sign "OPEN" glows.'


def test_long_answers_end_with_a_whole_sentence():
    sentence = "A cat walks along the old wall."
    cut = clean(Answer(" ".join([sentence] * 40)), "ltx_en")
    assert cut == " ".join([sentence] * (SYSTEM["ltx_en"].limit // 7))
    cut = clean(Answer("猫走过墙。" * 200), "wan_zh")
    assert cut == "猫走过墙。" * (SYSTEM["wan_zh"].limit // 5)


def test_one_long_sentence_ends_with_a_whole_clause_or_word():
    clause = " ".join(["word"] * 70) + ", " + " ".join(["more"] * 70) + "."
    assert clean(Answer(clause), "ltx_en") == " ".join(["word"] * 70) + "."
    assert clean(Answer("A, " + " ".join(["word"] * 200)), "ltx_en").split() == ["A,"] + ["word"] * 88 + ["word."]
    assert clean(Answer("一" * 500), "wan_zh") == "一" * SYSTEM["wan_zh"].limit + "。"


def test_an_answer_that_was_stopped_loses_its_unfinished_sentence():
    said = "A cat runs. It jumps. Then it"
    assert clean(Answer(said, is_cut=True), "wan_en") == "A cat runs. It jumps."
    assert clean(Answer(said), "wan_en") == said
    assert clean(Answer("A cat runs and", is_cut=True), "wan_en") == "A cat runs and"
    assert clean(Answer(GOOD, is_cut=True), "wan_en") == GOOD
    assert clean(Answer("一只猫在奔跑\ufffd", is_cut=True), "wan_zh") == "一只猫在奔跑"  # stopped within a letter


@pytest.mark.parametrize(
    ("mode", "said", "told"),
    [
        ("wan_en", "", "gave no description"),
        ("wan_en", "\n\n```\n```", "gave no description"),
        ("wan_en", "<think>I wonder what the user", "gave no description"),
        ("ltx_en", "Here is the prompt:", "gave no description"),
        ("wan_en", "I'm sorry, but I can't help with that.", "refused .*sorry"),
        ("wan_en", "As an AI language model, I have no eyes.", "refused"),
        ("wan_en", "Sorry, but this is not for me.", "refused"),
        ("wan_en", "Sorry! No.", "refused"),
        ("wan_en", "Sorry I cannot do that.", "refused"),
        ("wan_en", "I am sorry that this is not possible.", "refused"),
        ("wan_zh", "作为人工智能，我没有眼睛。", "refused"),
        ("wan_en", "A cat \ufffd runs.", "wrote no readable text"),
        ("wan_en", "A cat \x00 runs.", "wrote no readable text"),
        ("wan_en", "A \x1b[1mcat\x1b[0m runs.", "wrote no readable text"),
        ("wan_en", "A cat \ud83d runs.", "wrote no readable text"),
        ("wan_zh", "一只猫\x7f在奔跑。", "wrote no readable text"),
        ("ltx_en", "]}{ 0 1 2 . , ; a ((( ---", "wrote no readable text"),
        ("ltx_en", "1 2 3", "wrote no readable text"),
        ("wan_zh", "抱歉，我无法满足这个要求。", "refused"),
        ("wan_en", SYSTEM["wan_en"].text, "said its rules back"),
        ("wan_zh", SYSTEM["wan_zh"].text, "said its rules back"),
        ("ltx_en", "A cat runs. " + SYSTEM["ltx_en"].text.split("\n")[3][3:], "said its rules back"),
        ("wan_zh", GOOD, "did not answer in Chinese"),
        ("ltx_en_ds", "一只猫在草地上奔跑。", "did not answer in English"),
    ],
)
def test_what_is_no_description_is_refused_with_what_to_do(mode, said, told):
    with pytest.raises(PromptError, match=told + ".*another --seed.*--use_prompt_extend plain") as caught:
        extend(Request("a cat", mode, 1), Said(said))
    assert isinstance(caught.value, VaceError) and f"--use_prompt_extend {mode}" in str(caught.value)


def test_new_lines_tabs_and_signs_of_all_kinds_are_readable():
    text = 'A cat\t"runs"\r\nthrough caf\u00e9 no. 7 \U0001f469\u200d\U0001f680 \u2013 24/7.'
    after = extend(Request("a cat", "wan_en", 1), Said(text)).after
    assert after == 'A cat "runs" through caf\u00e9 no. 7 \U0001f469\u200d\U0001f680 \u2013 24/7.'


def test_lost_quotations_are_told(caplog):
    with caplog.at_level(logging.WARNING, logger="vace"):
        extend(Request('a sign "OPEN" and “shut”', "wan_en", 1), Said('A sign "OPEN" glows.'))
    assert [record.getMessage() for record in caplog.records] == [
        "the extended prompt has lost the words in quotation marks: shut"
    ]
