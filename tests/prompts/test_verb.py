"""The verb: which mode and which writer, what is checked before, and what happens when there is no better prompt."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from vace.bases import BASES
from vace.errors import DeviceError, InputError, MissingWeights
from vace.prompts import api, local
from vace.prompts.extend import Answer, PromptError
from vace.prompts.verb import check, prompt

ENGLISH, CHINESE = "A gray cat leaps over a low fence.", "一只灰猫跳过矮墙。"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in (api.OWN_KEY, api.OPENAI_KEY, *api.DASH_KEYS, "DASH_API_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asked(monkeypatch):
    """What both writers are asked: (writer, messages, seed). They answer in the language of the rules."""
    found = []

    def write(self, messages, *, seed, max_tokens):
        found.append((self, messages, seed))
        return Answer(CHINESE if "中文" in messages[0]["content"] else ENGLISH)

    monkeypatch.setattr(local.LocalWriter, "write", write)
    monkeypatch.setattr(api.ApiWriter, "write", write)
    return found


@pytest.mark.parametrize(
    ("text", "base", "value", "mode", "after"),
    [
        ("a cat", "wan", True, "wan_en", ENGLISH),
        ("一只猫", "wan", True, "wan_zh", CHINESE),
        ("a cat", "wan", "wan_zh", "wan_zh", CHINESE),
        ("一只猫", "ltx", True, "ltx_en", ENGLISH),
        ("a cat", "lxt", "auto", "ltx_en", ENGLISH),
        ("a cat", "wan", "plain", "plain", "a cat"),
        ("a cat", "ltx", None, "plain", "a cat"),
        ("a cat", "ltx", False, "plain", "a cat"),
    ],
)
def test_the_mode_by_base_and_language(asked, text, base, value, mode, after):
    extended = prompt(text, base=base, use_prompt_extend=value, device="cpu")
    assert (extended.before, extended.mode, extended.after, extended.fallback) == (text, mode, after, None)
    assert len(asked) == (mode != "plain")
    assert bool(extended.writer) == (mode != "plain")


def test_the_writer_gets_what_is_known_and_what_was_chosen(asked):
    prompt(
        "a cat", task="inpainting", refs=["a red hat"], has_video=True, has_mask=True, seconds=5, seed=9,
        prompt_model="org/small-Instruct", device="cpu", dtype="float16", no_download=True,
    )  # fmt: skip
    [(writer, messages, seed)] = asked
    assert writer == local.LocalWriter("org/small-Instruct", "cpu", "float16", True) and seed == 9
    assert writer.describe() == {"kind": "local", "model": "org/small-Instruct"}
    for told in ("Task: inpainting", "1: a red hat", "source video", "masked part", "about 5 seconds"):
        assert told in messages[0]["content"]


def test_which_writer(asked, monkeypatch):
    monkeypatch.setenv("DASH_API_KEY", "k")
    prompt("a cat", prompt_api="http://localhost:1/v1", prompt_api_model="m", prompt_api_timeout=3)
    prompt("a cat", use_prompt_extend="wan_en_ds")
    prompt("a cat", device="cpu")
    writers = [writer for writer, *_ in asked]
    assert [type(writer).__name__ for writer in writers] == ["ApiWriter", "ApiWriter", "LocalWriter"]
    assert (writers[0].address, writers[0].timeout, writers[0].key) == ("http://localhost:1/v1", 3, None)
    assert (writers[1].model, writers[1].timeout, writers[1].key) == ("qwen-plus", 60, "k")


def test_the_seed_is_the_bases_own_where_none_is_given(asked):
    found = [prompt("a cat", base=base, device="cpu").seed for base in ("wan", "ltx", "lxt")]
    assert found == [BASES[base].defaults["seed"] for base in ("wan", "ltx", "ltx")] == [2025, 42, 42]
    assert [seed for *_, seed in asked] == found
    assert prompt("a cat", base="ltx", use_prompt_extend="plain").seed == 42
    assert prompt("a cat", base="ltx", seed=0, device="cpu").seed == 0


def test_a_seed_of_minus_one_is_drawn_and_told(asked):
    seeds = {prompt("a cat", seed=-1, device="cpu").seed for _ in range(4)}
    assert len(seeds) > 1 and seeds == {seed for *_, seed in asked}
    with pytest.raises(InputError, match="--seed -2"):
        prompt("a cat", seed=-2, device="cpu")


@pytest.mark.parametrize("error", [PromptError("it refused"), MissingWeights("not here")])
def test_failure_ends_the_run_unless_a_fallback_is_allowed(monkeypatch, caplog, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(local.LocalWriter, "write", fail)
    with pytest.raises(type(error), match=str(error)):
        prompt("a cat", device="cpu")
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="vace"):
        extended = prompt("a cat", device="cpu", seed=3, prompt_model="org/name", prompt_fallback=True)
    assert [record.getMessage() for record in caplog.records] == [f"the prompt stays as it is: {error}"]
    assert extended.as_record() == {
        "before": "a cat", "after": "a cat", "mode": "wan_en", "seed": 3,
        "writer": {"kind": "local", "model": "org/name"}, "fallback": str(error),
    }  # fmt: skip


def test_an_answer_of_no_use_falls_back_too(monkeypatch, caplog):
    monkeypatch.setattr(local.LocalWriter, "write", lambda *_, **__: Answer("I'm sorry, I can't."))
    with pytest.raises(PromptError, match="refused"):
        prompt("a cat", device="cpu")
    extended = prompt("a cat", device="cpu", prompt_fallback=True)
    assert extended.after == "a cat" and "refused" in extended.fallback and "refused" in caplog.text


def test_faults_of_ours_are_not_covered_up(monkeypatch):
    monkeypatch.setattr(local.LocalWriter, "write", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prompt("a cat", device="cpu", prompt_fallback=True)


BY_API = {"prompt_api": "http://localhost:1/v1", "prompt_api_model": "m"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"text": ""}, "--prompt: empty"),
        ({"text": " \n"}, "--prompt: empty"),
        ({"text": None}, "--prompt: empty"),
        ({"use_prompt_extend": "wan_enn"}, "did you mean 'wan_en'"),
        ({"use_prompt_extend": "ltx_en"}, "not for --base wan"),
        ({"base": "ltx", "use_prompt_extend": "wan_zh_ds"}, "not for --base ltx"),
        ({"base": "sdxl"}, "--base sdxl"),
        ({"prompt_model": " "}, "--prompt_model: empty"),
        ({"prompt_api": ""}, "--prompt_api: empty"),
        ({"prompt_api": "http://localhost:1/v1"}, "say which model, --prompt_api_model"),
        ({"prompt_api_model": "m"}, "give the address too, --prompt_api"),
        ({**BY_API, "prompt_api": "localhost:1"}, "--prompt_api: no such kind of address"),
        ({**BY_API, "prompt_api_timeout": 0}, "--prompt_api_timeout 0: give a number of seconds above 0, at most 3600"),
        ({**BY_API, "prompt_api_timeout": -1.5}, "--prompt_api_timeout -1.5"),
        ({**BY_API, "prompt_api_timeout": float("inf")}, "--prompt_api_timeout inf"),
        ({**BY_API, "prompt_api_timeout": float("nan")}, "--prompt_api_timeout nan"),
        ({**BY_API, "prompt_api_timeout": 3600.5}, "--prompt_api_timeout 3600.5"),
        ({"prompt_api_timeout": float("inf")}, "--prompt_api_timeout inf"),
        ({"use_prompt_extend": "plain", "prompt_api_timeout": 9}, "--prompt_api_timeout: the prompt is not extended"),
        (
            {"use_prompt_extend": None, "prompt_fallback": True},
            "--prompt_fallback: the prompt is not extended; add --use",
        ),
        ({**BY_API, "prompt_api": "https://host/v1"}, "no key; set VACE_PROMPT_API_KEY or OPENAI_API_KEY"),
        ({"use_prompt_extend": "wan_en_ds"}, "no key; set VACE_PROMPT_API_KEY or DASH_API_KEY"),
        ({**BY_API, "prompt_model": "x/y"}, "--prompt_model x/y: --prompt_api asks a model elsewhere"),
        ({"use_prompt_extend": "wan_en_ds", "prompt_model": "x/y"}, "--use_prompt_extend wan_en_ds asks a model els"),
        ({**BY_API, "use_prompt_extend": "plain"}, "--prompt_api: the prompt is not extended; add --use_prompt_extend"),
        ({"use_prompt_extend": None, "prompt_model": "x/y"}, "--prompt_model: the prompt is not extended"),
    ],
)
def test_wrong_flags_are_told_before_anything_begins(asked, options, told):
    for call in (check, prompt):
        more = {"prompt_fallback": True} if call is prompt else {}
        with pytest.raises(InputError, match=told):
            call(**{"text": "a cat"} | options | more)
    assert not asked


def test_wrong_facts_are_told_too(asked):
    with pytest.raises(InputError, match="--task dpth"):
        prompt("a cat", task="dpth", prompt_fallback=True)
    with pytest.raises(DeviceError, match="cuda:77"):
        prompt("a cat", device="cuda:77", prompt_fallback=True)
    with pytest.raises(InputError, match="--dtype float7"):
        prompt("a cat", device="cpu", dtype="float7", prompt_fallback=True)
    assert not asked


def test_check_tells_the_mode(monkeypatch):
    assert check("a cat") == "wan_en" and check("一只猫") == "wan_zh" and check("一只猫", base="ltx") == "ltx_en"
    assert check("a cat", use_prompt_extend=None) == "plain"
    assert check("a cat", **BY_API, prompt_api_timeout=3600, prompt_fallback=True) == "wan_en"
    assert check("a cat", use_prompt_extend="plain", prompt_fallback=False) == "plain"
    monkeypatch.setenv("DASH_API_KEY", "k")
    assert check("a cat", base="ltx", use_prompt_extend="ltx_en_ds") == "ltx_en_ds"


def test_modes_and_checks_need_nothing_heavy():
    code = (
        "import sys; from vace.prompts.verb import check; from vace.prompts.extend import MODES; check('a cat');"
        "check('a cat', prompt_api='http://localhost:1/v1', prompt_api_model='m');"
        "print([name for name in ('torch', 'transformers', 'diffusers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_prompts_know_nothing_of_annotators():
    for path in Path(api.__file__).parent.glob("*.py"):
        found = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = [f"{getattr(node, 'module', '')}.{alias.name}" for node in found for alias in node.names]
        assert not [name for name in names if "annotators" in name], path.name
