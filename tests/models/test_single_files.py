"""Wan's transformer as single files: every layout gives the same tensors, every wrong file is named."""

from __future__ import annotations

import sys

import pytest
import torch
from wan_folders import write_original
from wan_single_files import (
    COMFY_TEXT,
    embedded,
    halves,
    link_companions,
    sentencepiece_model,
    tensors,
    write,
    write_settings,
)

from vace.bases import LTX
from vace.errors import CheckpointError, InputError, MissingDependency, MissingWeights, VaceError
from vace.models import single_files
from vace.models.checkpoints import find_checkpoint
from vace.models.companions import given_vae
from vace.models.embedded_tokenizer import embedded_tokenizer
from vace.models.engine import check_checkpoint
from vace.models.loading import build
from vace.models.parts import COMPONENTS, read_part
from vace.models.text import load_tokenizer

PREFIXES = ("", "diffusion_model.", "model.diffusion_model.")


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """A working folder without models, an empty hub cache, a cache of its own."""
    import huggingface_hub.constants

    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("VACE_MODELS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("VACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    write_settings(tmp_path / "toy.json")
    return tmp_path


@pytest.fixture
def place(tmp_path, original_folder):
    """A folder with the companions, where the transformer's files go."""
    link_companions(tmp_path / "files", original_folder)
    return tmp_path / "files"


@pytest.fixture(scope="module")
def spiece():
    return sentencepiece_model()


def found(tmp_path, ckpt_dir, **given):
    return find_checkpoint(str(ckpt_dir), None, config=str(tmp_path / "toy.json"), **given)


def assert_equal(checkpoint, golden_models, components=("transformer",)):
    """The components come out bit by bit as those of the folder."""
    for name in components:
        expected = golden_models[name].state_dict()
        state = build(read_part(checkpoint, name), torch.float32).state_dict()
        assert state.keys() == expected.keys()
        for key, tensor in state.items():
            assert torch.equal(tensor, expected[key]), key


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("names", ["original", "class"])
def test_a_whole_file_is_the_folder(tmp_path, place, golden_models, prefix, names):
    file = write(place / "any name.safetensors", tensors("transformer", prefix, names=names))
    checkpoint = found(tmp_path, file)
    assert (checkpoint.layout, checkpoint.base, checkpoint.name) == ("single", "wan", "any-name")
    assert_equal(checkpoint, golden_models)
    assert len(checkpoint.fingerprint()) == 16


SPLITS = {
    "plus": "{t2v}+{module}",
    "plus, module first": "{module}+{t2v}",
    "comma": "{t2v},{module}",
    "folder": "{folder}",
}


@pytest.mark.parametrize("how", SPLITS)
@pytest.mark.parametrize(("prefixes", "names"), [(PREFIXES[1:], "original"), (("", ""), "class")])
def test_a_t2v_file_and_a_module_are_the_folder(tmp_path, place, golden_models, how, prefixes, names):
    """The module keeps the original's names, whatever the main file has."""
    t2v = write(place / "t2v_14B.safetensors", halves(tensors("transformer", prefixes[0], names=names))[0])
    module = write(place / "VACE_module.safetensors", halves(tensors("transformer", prefixes[1]))[1])
    checkpoint = found(tmp_path, SPLITS[how].format(t2v=t2v, module=module, folder=place))
    assert checkpoint.transformer.files == (t2v, module)
    assert_equal(checkpoint, golden_models)


def test_one_file_of_everything(tmp_path, golden_models, spiece):
    """A ComfyUI checkpoint that bundles transformer, text encoder, its tokenizer and VAE."""
    everything = {
        **tensors("transformer", "model.diffusion_model."),
        **tensors("text_encoder", COMFY_TEXT, names="class"),
        **tensors("vae", "vae."),
        f"{COMFY_TEXT}spiece_model": embedded(spiece),
    }
    checkpoint = found(tmp_path, write(tmp_path / "one" / "all.safetensors", everything))
    assert_equal(checkpoint, golden_models, COMPONENTS)
    check_checkpoint(checkpoint)


def test_a_comfyui_tree(tmp_path, golden_models, spiece):
    """Text encoder and VAE in their folders, told from others there; the more exact of two is taken."""
    tree = tmp_path / "ComfyUI" / "models"
    texts = tensors("text_encoder", names="class")
    texts["spiece_model"] = embedded(spiece)
    file = write(tree / "diffusion_models" / "Wan" / "vace.safetensors", tensors("transformer"))
    write(tree / "text_encoders" / "z_umt5_fp16.safetensors", texts)
    low = {key: value if value.dtype == torch.uint8 else value.to(torch.float8_e4m3fn) for key, value in texts.items()}
    write(tree / "text_encoders" / "a_umt5_fp8.safetensors", low)
    write(tree / "text_encoders" / "b_clip.safetensors", {"text_model.weight": torch.zeros(2, 2)})
    tables = {key: value for key, value in texts.items() if "block.1" not in key or "relative" not in key}
    write(tree / "text_encoders" / "c_t5xxl.safetensors", tables)  # T5: positions in its first block alone
    (tree / "text_encoders" / "d_cut.safetensors").write_bytes(b"short")
    write(tree / "vae" / "a_other.safetensors", {"encoder.conv_in.weight": torch.zeros(8, 3, 3, 3)})
    write(tree / "vae" / "sub" / "wan.safetensors", tensors("vae", "model."))
    checkpoint = found(tmp_path, file)
    assert checkpoint.text_encoder.files[0].name == "z_umt5_fp16.safetensors"
    assert checkpoint.vae.files[0].name == "wan.safetensors"
    assert checkpoint.tokenizer.parent == tmp_path / "cache" / "tokenizers"
    assert_equal(checkpoint, golden_models, COMPONENTS)
    check_checkpoint(checkpoint)


def test_a_text_encoder_of_another_width_is_passed_over(tmp_path, place, original_folder):
    texts = tensors("text_encoder")
    other = {key: torch.cat([value] * 2, -1) if value.ndim == 2 else value for key, value in texts.items()}
    file = write(tmp_path / "alone" / "vace.safetensors", tensors("transformer"))
    write(tmp_path / "alone" / "umt5.safetensors", other)
    with pytest.raises(MissingWeights, match="no text encoder, no VAE, no tokenizer"):
        found(tmp_path, file)


def test_other_models_of_the_machine_serve(tmp_path, original_folder, golden_models):
    file = write(tmp_path / "alone" / "vace.safetensors", tensors("transformer"))
    link_companions(tmp_path / "work" / "models" / "Wan2.1-T2V-14B", original_folder)
    checkpoint = found(tmp_path, file)
    assert checkpoint.vae.files[0].parent.name == "Wan2.1-T2V-14B"
    assert_equal(checkpoint, golden_models, COMPONENTS)


def test_what_is_nowhere_is_told_with_the_command(tmp_path):
    file = write(tmp_path / "alone" / "vace.safetensors", tensors("transformer"))
    with pytest.raises(MissingWeights) as error:
        found(tmp_path, file)
    assert (
        "give --text_encoder_path FILE and --vae_path FILE, or get it with: hf download Wan-AI/Wan2.1-T2V-1.3B "
        "models_t5_umt5-xxl-enc-bf16.pth Wan2.1_VAE.pth google/umt5-xxl/tokenizer.json "
        "google/umt5-xxl/tokenizer_config.json --local-dir models/Wan2.1-T2V-1.3B"
    ) in str(error.value)


@pytest.mark.parametrize("layout", ["single", "folder"])
def test_text_encoder_and_vae_by_flag(tmp_path, place, original_folder, golden_models, spiece, layout):
    texts = {**tensors("text_encoder"), "spiece_model": embedded(spiece)}
    given = {
        "text_encoder_path": str(write(tmp_path / "my" / "t5.safetensors", texts)),
        "vae_path": str(write(tmp_path / "my" / "decoder.safetensors", tensors("vae", "first_stage_model."))),
    }
    whole = write(place / "vace.safetensors", tensors("transformer"))
    checkpoint = found(tmp_path, whole if layout == "single" else original_folder, **given)
    assert checkpoint.text_encoder.files[0].name == "t5.safetensors"
    assert checkpoint.vae.files[0].name == "decoder.safetensors"
    assert checkpoint.tokenizer.parent.name == "tokenizers"
    assert_equal(checkpoint, golden_models, COMPONENTS)


def test_folders_by_flag(tmp_path, original_folder, diffusers_folder, golden_models):
    """The folder of another whole model, in either layout."""
    file = write(tmp_path / "alone" / "vace.safetensors", tensors("transformer"))
    given = {"text_encoder_path": str(diffusers_folder), "vae_path": str(original_folder)}
    checkpoint = found(tmp_path, file, **given)
    assert checkpoint.tokenizer == diffusers_folder / "tokenizer"
    assert checkpoint.vae.files[0] == original_folder / "Wan2.1_VAE.pth"
    assert given_vae(str(diffusers_folder / "vae")).config == diffusers_folder / "vae" / "config.json"
    assert_equal(checkpoint, golden_models, COMPONENTS)


def lora(weights):
    return {"diffusion_model.blocks.0.self_attn.q.lora_down.weight": torch.zeros(4, 96)}


def of_images(weights):
    return {**weights, "img_emb.proj.0.weight": torch.zeros(4)}


WRONG = {
    "T2V alone": (lambda weights: halves(weights)[0], InputError, "without VACE's context blocks; add the module: T2V"),
    "module alone": (lambda weights: halves(weights)[1], InputError, "which completes a T2V model; name both"),
    "LoRA": (lora, CheckpointError, "a LoRA, where a transformer of Wan-VACE is expected"),
    "I2V": (of_images, CheckpointError, "an image-to-video transformer, where"),
    "text encoder": (
        lambda _: tensors("text_encoder"),
        CheckpointError,
        "a text encoder .--text_encoder_path takes",
    ),
    "VAE": (lambda _: tensors("vae"), CheckpointError, "a VAE .--vae_path takes it"),
    "unknown": (
        lambda _: {f"layer.{i}.w": torch.zeros(1) for i in range(6)},
        CheckpointError,
        "no model that is known here.*its tensors: layer.0.w, layer.1.w, layer.2.w, layer.3.w and 2 more",
    ),
    "integers": (
        lambda _: {"a": torch.zeros(2, dtype=torch.int8)},
        CheckpointError,
        "no floating-point .*I8: a",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_told(tmp_path, place, kind):
    change, error, said = WRONG[kind]
    with pytest.raises(error, match=said):
        found(tmp_path, write(place / "wrong.safetensors", change(tensors("transformer"))))


def test_files_that_do_not_go_together(tmp_path, place):
    t2v, module = halves(tensors("transformer"))
    first, second = write(place / "a.safetensors", t2v), write(place / "b.safetensors", module)
    write(place / "c.safetensors", module)
    with pytest.raises(InputError, match="a.safetensors is a T2V transformer; c.safetensors is a T2V"):
        found(tmp_path, f"{first}+{write(tmp_path / 'c.safetensors', t2v)}")
    with pytest.raises(CheckpointError, match="several models could be meant .a.safetensors, b.safetensors, c.safet"):
        found(tmp_path, place)
    with pytest.raises(MissingWeights, match="no such file: .*absent.safetensors"):
        found(tmp_path, f"{first}+{place / 'absent.safetensors'}")
    second.unlink(), first.unlink()
    with pytest.raises(CheckpointError, match="holds a VACE module .c.safetensors. and no T2V transformer"):
        found(tmp_path, place)


def test_a_piece_of_a_sharded_transformer_is_told(tmp_path):
    folder = write_original(tmp_path / "sharded", shards=3)
    with pytest.raises(InputError, match="one piece of several; give the folder"):
        found(tmp_path, folder / "diffusion_pytorch_model-00001-of-00003.safetensors")


def test_a_tensor_under_two_names_is_told(tmp_path, place):
    both = {**tensors("transformer"), "proj_out.bias": torch.zeros(64)}
    checkpoint = found(tmp_path, write(place / "both.safetensors", both))
    with pytest.raises(CheckpointError, match="proj_out.bias is there twice, as head.head.bias and as proj_out.bias"):
        read_part(checkpoint, "transformer")


def test_missing_and_unknown_tensors_are_told_with_both_files(tmp_path, place):
    t2v, module = halves(tensors("transformer"))
    del t2v["blocks.3.ffn.0.bias"]
    first = write(place / "t.safetensors", t2v)
    second = write(place / "m.safetensors", {**module, "vace_blocks.0.extra": torch.zeros(1)})
    with pytest.raises(CheckpointError) as error:
        check_checkpoint(found(tmp_path, f"{first}+{second}"))
    assert f"{first} + {second}: tensors do not fit the transformer: 1 missing" in str(error.value)
    assert "1 unknown (vace_blocks.0.extra)" in str(error.value)


def test_a_file_of_another_size_than_the_name_says_is_told(tmp_path, place, monkeypatch):
    file = write(place / "vace.safetensors", tensors("transformer"))
    monkeypatch.setattr(single_files, "_SIZES", {96: "1.3B"})
    config = str(tmp_path / "toy.json")
    assert find_checkpoint(str(file), "vace-1.3B", config=config).layout == "single"
    with pytest.raises(InputError, match="is of the size 1.3B, --model_name says vace-14B; leave one of them out"):
        find_checkpoint(str(file), "vace-14B", config=config)


def test_gguf_files_in_a_folder_ask_for_the_package_only_where_nothing_else_serves(tmp_path, place, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    (place / "a.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(MissingDependency, match="a.gguf: reading GGUF needs the package gguf"):
        found(tmp_path, place)
    write(place / "b.safetensors", tensors("transformer"))
    assert found(tmp_path, place).transformer.files[0].name == "b.safetensors"


@pytest.mark.parametrize("flag", ["text_encoder_path", "vae_path"])
@pytest.mark.parametrize("content", ["absent", "other"])
def test_a_wrong_companion_is_told(tmp_path, place, flag, content):
    write(place / "vace.safetensors", tensors("transformer"))
    other = tmp_path / "other.safetensors"
    if content == "other":
        write(other, {"some.weight": torch.zeros(2)})
    said = "no such file or folder" if content == "absent" else "its tensors: some.weight"
    with pytest.raises(InputError, match=f"--{flag} .*{said}"):
        found(tmp_path, place / "vace.safetensors", **{flag: str(other)})
    with pytest.raises(VaceError, match="vae_path: for --base wan"):
        find_checkpoint("tiny", None, base=LTX, vae_path=str(other))


TEXTS = ["a boat on the sea", "Snow! \u591c x", "", "a  b ", " the caf\u00e9\u0301 \u2026", "\u2581odd<unk>", "A\tb\nc"]


def test_the_embedded_tokenizer_gives_sentencepiece_s_tokens(tmp_path, spiece):
    import sentencepiece

    file = write(tmp_path / "t5.safetensors", {"spiece_model": embedded(spiece), "shared.weight": torch.zeros(2, 2)})
    tokenizer = load_tokenizer(embedded_tokenizer(file))
    plain = sentencepiece.SentencePieceProcessor(model_proto=spiece)
    for text in TEXTS:
        text = text.replace("<unk>", "")  # of a special token's own spelling nobody writes
        assert tokenizer(text)["input_ids"] == [*plain.encode(text), 1], text
    assert tokenizer.pad_token_id == 0


def test_a_damaged_embedded_tokenizer_is_told(tmp_path):
    file = write(tmp_path / "t5.safetensors", {"spiece_model": embedded(b"\xff" * 40)})
    with pytest.raises(CheckpointError, match="its embedded tokenizer is"):
        embedded_tokenizer(file)
    assert embedded_tokenizer(write(tmp_path / "none.safetensors", {"a": torch.zeros(1)})) is None
