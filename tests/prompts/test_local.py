"""A language model on this machine: seeded, bounded, found, freed; here a Qwen2 of random weights and toy size."""

from __future__ import annotations

import gc
import json
import logging
import random

import numpy as np
import pytest
import torch
from hub_server import serving

from vace.errors import CheckpointError, DeviceError, InputError, MissingWeights
from vace.prompts import local
from vace.prompts.local import LARGE, SMALL, LocalWriter, find_model, fingerprint
from vace.prompts.verb import prompt

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = (
    "a cat runs over the green grass and jumps into a tree while the camera follows it under a bright sky . , \n"
    "The quick brown fox jumps over my lazy dog, and Voices of Extra Zebras make Quiet Hours: 0 1 2 3 4 5 6 7 8 9\n"
)
MESSAGES = [{"role": "system", "content": "describe the cat"}, {"role": "user", "content": "a cat"}]


def save_model(folder, *, template=TEMPLATE, positions=8192, **generation):
    """A Qwen2 of two thin layers with a byte-level tokenizer, saved as its publishers do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    rules = Tokenizer(models.BPE())
    rules.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rules.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=[],  # of the words alone: a model of no training writes any token, and bytes are no text
        show_progress=False,
    )
    rules.train_from_iterator([WORDS] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rules, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = template
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=positions,
                tie_word_embeddings=True,
            )
        )  # fmt: skip
    model.generation_config = GenerationConfig(
        do_sample=True, **{"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id} | generation
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("qwen") / "my-qwen")


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch, tmp_path):
    """No copy of a model but the test's own is found."""
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VACE_MODELS", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def write(model, seed=1, max_tokens=24):
    return LocalWriter(str(model), "cpu").write(MESSAGES, seed=seed, max_tokens=max_tokens)


def test_a_seed_means_something_and_no_other_generator_is_touched(model):
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first, again, other = write(model, 1), write(model, 1), write(model, 2)
    assert first == again and first.text and first.text != other.text
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1] and np.array_equal(np.random.get_state()[1], before[2])
    torch.manual_seed(77)
    assert write(model, 1) == first  # nor is it listened to
    assert write(model, 2**63 - 1).text


def test_the_number_of_tokens_is_bounded_and_an_end_token_ends(model, tmp_path):
    from transformers import AutoTokenizer

    answer = write(model, max_tokens=5)
    assert answer.is_cut
    assert len(AutoTokenizer.from_pretrained(model).encode(answer.text)) <= 5
    ending = save_model(tmp_path / "ending", eos_token_id=list(range(2, 300)))
    answer = write(ending, max_tokens=60)
    assert not answer.is_cut and len(answer.text) < 60


def test_the_words_follow_the_models_probabilities():
    from transformers import GenerationConfig

    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0, -9.0]]).repeat(20000, 1)
    processors = local._draws(GenerationConfig(temperature=2.0, top_k=4, top_p=1.0), 3)
    drawn = processors(torch.zeros(20000, 1, dtype=torch.long), scores).argmax(-1)
    found = torch.bincount(drawn, minlength=5) / 20000
    assert torch.allclose(found[:4], (scores[0, :4] / 2).softmax(0), atol=0.015)
    assert found[4] == 0  # beyond top_k
    narrow = local._draws(GenerationConfig(temperature=1.0, top_k=5, top_p=0.5), 3)
    assert set(narrow(torch.zeros(20000, 1, dtype=torch.long), scores).argmax(-1).tolist()) == {0}
    assert local._said(GenerationConfig(), "temperature") == 0.7


def test_the_model_is_freed(model):
    from transformers import Qwen2ForCausalLM

    write(model)
    assert not [thing for thing in gc.get_objects() if type(thing) is Qwen2ForCausalLM]


def test_the_verb_with_a_model_of_ones_own(tmp_path):
    model = save_model(tmp_path / "my-qwen", eos_token_id=list(range(2, 14)))  # it comes to an end soon
    options = {"base": "ltx", "prompt_model": str(model), "device": "cpu", "task": "depth", "refs": 1, "seed": 4}
    extended = prompt("a cat", **options)
    assert extended.mode == "ltx_en" and extended.before == "a cat" and extended.seed == 4
    assert extended.after and extended.after != "a cat" and len(extended.after.split()) <= 90
    assert extended == prompt("a cat", **options)
    assert dict(extended.writer) == {
        "kind": "local", "model": "my-qwen", "fingerprint": fingerprint(model), "device": "cpu", "dtype": "float32",
    }  # fmt: skip
    assert str(model.parent) not in json.dumps(extended.as_record())
    half = prompt("a cat", **options, dtype="bfloat16")
    assert half.writer["dtype"] == "bfloat16" and half.after


def test_the_fingerprint_tells_weights_apart(model, tmp_path):
    other = save_model(tmp_path / "my-qwen")
    assert fingerprint(other) == fingerprint(model)
    path = other / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert fingerprint(other) != fingerprint(model)


def test_absent_models_name_the_command():
    def told(match):
        return pytest.raises(MissingWeights, match=match)

    with told(f"{SMALL}: not on this machine and downloading is off; get it with: hf download {SMALL} --local-dir"):
        find_model(None, "cpu", no_download=True)
    with told(f"hf download {LARGE} --local-dir models/Qwen2.5-3B-Instruct"):
        find_model(None, "cuda", no_download=True)
    with told("org/other-Instruct: not on this machine.*hf download org/other-Instruct"):
        prompt("a cat", prompt_model="org/other-Instruct", no_download=True, device="cpu")
    for name in ("nowhere", "./some/where", "models/Qwen2.5-7B-Instruct", "/no/such/folder"):
        with told(f"--prompt_model {name}: no such folder; get it with: hf download {SMALL}"):
            find_model(name, no_download=True)


def test_a_folder_without_all_parts_says_which(model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingWeights, match="no config.json, no tokenizer, no model.*safetensors there"):
        find_model("empty")
    with pytest.raises(MissingWeights, match="no folder there"):
        find_model(str(model / "config.json"))
    broken = save_model(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="broken: cannot be read"):
        write(broken)


def test_a_folder_of_another_models_tensors(model, tmp_path):
    from safetensors.torch import load_file, save_file

    other = save_model(tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="1 missing: model.layers.0.mlp.up_proj.weight"):
        write(other)


def test_local_copies_are_found_before_anything_is_fetched(monkeypatch, tmp_path):
    three = save_model(tmp_path / "models" / "VACE-Annotators" / "llm" / "Qwen2.5-3B-Instruct")
    relative = three.relative_to(tmp_path)
    assert find_model(None, "cuda", no_download=True) == relative
    assert find_model(None, "cpu", no_download=True) == relative  # rather than a download
    assert find_model(LARGE, no_download=True) == relative
    monkeypatch.setenv("VACE_MODELS", str(tmp_path / "shelf"))
    small = save_model(tmp_path / "shelf" / "Qwen2.5-1.5B-Instruct")
    assert find_model(None, "cpu", no_download=True) == small
    assert find_model(None, "cuda", no_download=True) == relative
    (small / "model.safetensors").unlink()  # a copy that broke off
    assert find_model(None, "cpu", no_download=True) == relative
    told = LocalWriter(None, "cpu", no_download=True)
    told.write(MESSAGES, seed=1, max_tokens=2)
    assert told.describe()["model"] == LARGE


def test_the_hub_serves_what_is_absent(model, monkeypatch, tmp_path, caplog):
    files = {path.name: path.read_bytes() for path in model.iterdir()} | {"README.md": b"not read"}
    with serving({SMALL: files, "org/gguf": {"config.json": b"{}"}}, monkeypatch, tmp_path / "hub"):
        writer = LocalWriter(None, "cpu")
        with caplog.at_level(logging.INFO, logger="vace"):
            answer = writer.write(MESSAGES, seed=1, max_tokens=24)
        with pytest.raises(MissingWeights, match="org/gguf: holds no tokenizer, no model"):
            find_model("org/gguf")
    assert answer == write(model)
    assert writer.describe()["model"] == SMALL
    lines = [record.getMessage() for record in caplog.records if record.name == "vace"]
    assert lines[0].startswith(f"downloading {SMALL}: ") and lines[0].endswith("MB; it extends the prompt")
    assert lines[1] == f"the prompt is extended by {SMALL} on cpu"
    assert len(lines) == 2


def test_a_tokenizer_without_a_chat_template(tmp_path):
    base = save_model(tmp_path / "base", template=None)
    with pytest.raises(CheckpointError, match="no chat template.*give an Instruct model, e.g. Qwen/Qwen2.5-1.5B"):
        write(base)


def test_a_prompt_longer_than_the_model_reads(tmp_path):
    short = save_model(tmp_path / "short", positions=40)
    with pytest.raises(InputError, match="--prompt: .* tokens with the rules, and 24 to write; short takes 40 in all"):
        write(short)


def test_a_prompt_too_long_is_told_before_the_weights_are_read(tmp_path, monkeypatch):
    """By the number in config.json, or the tokenizer's where that is smaller."""
    monkeypatch.setattr(local, "_load", lambda *_: pytest.fail("the weights were read"))
    with pytest.raises(InputError, match="short takes 40 in all; shorten it"):
        write(save_model(tmp_path / "short", positions=40))
    other = save_model(tmp_path / "other")
    path = other / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 50}))
    with pytest.raises(InputError, match="--prompt: .* and 24 to write; other takes 50 in all; shorten it"):
        write(other)
    (other / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="other: cannot be read"):
        write(other)


def test_a_model_too_large_for_the_device(model, monkeypatch):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("no room")

    monkeypatch.setattr(local, "_answer", full)
    with pytest.raises(DeviceError, match="my-qwen: does not fit into cpu; give --prompt_model Qwen/Qwen2.5-1.5B"):
        write(model)
    with pytest.raises(DeviceError, match="cuda:99"):
        prompt("a cat", prompt_model=str(model), device="cuda:99", prompt_fallback=True)
