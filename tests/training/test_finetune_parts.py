"""The parts of `vace train`: rows and what is wrong with them, encoded rows, the forward pass, what is written."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from conftest import moving_frames

from vace.errors import CheckpointError, InputError
from vace.job import prepare_job
from vace.media.image import write_image
from vace.media.video import VideoWriter
from vace.models.loading import build
from vace.models.wan import transformer as wan
from vace.models.wan import vae
from vace.models.wan.engine import load_engine
from vace.training.finetune_cache import Cache, encode_missing
from vace.training.finetune_model import Tuned, lora_targets, make_trainable, trained_count, velocity
from vace.training.finetune_output import changed_weights, write_weights
from vace.training.finetune_plan import shapes_of, split_rows
from vace.training.finetune_rows import plan_rows, read_rows, read_tensors_of


@pytest.fixture(scope="module")
def job():
    return prepare_job("a", ckpt_dir="tiny", size="48x48")


@pytest.fixture
def transformer(job):
    return build(job.checked[0]["transformer"], torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """5 frames a.mp4; short.mp4 of 3; wide.mp4; small.mp4; mask.png, ref.png; text.mp4 that is none."""
    folder = tmp_path_factory.mktemp("media")
    for name, (count, width, height) in {
        "a": (5, 48, 48), "b": (5, 48, 48), "short": (3, 48, 48), "wide": (5, 96, 48), "small": (5, 12, 12),
    }.items():  # fmt: skip
        with VideoWriter(folder / f"{name}.mp4", 16, kind="exact") as writer:
            writer.write(moving_frames(count, width, height, len(name)))
    mask = np.zeros((48, 48), np.uint8)
    mask[:, :24] = 255
    write_image(folder / "mask.png", mask)
    write_image(folder / "ref.png", moving_frames(1, 48, 48, 5)[0])
    (folder / "text.mp4").write_text("no video")
    return folder


def written(folder, *values):
    path = folder / "rows.jsonl"
    path.write_text("".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values))
    return path


GOOD = {"prompt": "a", "target": "a.mp4"}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("{", "line 2: not JSON"), ("[]", "line 2: a list where"), ({"target": "a.mp4"}, '"prompt" is missing'),
        ({"prompt": " ", "target": "a.mp4"}, '"prompt" is missing'), ({"prompt": "a"}, '"target" is missing'),
        (GOOD | {"src_vide": "a.mp4"}, "did you mean 'src_video'"),
        (GOOD | {"target": "none.mp4"}, "none.mp4: no such"),
        (GOOD | {"src_ref_images": ["ref.png", "no.png"]}, "no.png: no such"), (GOOD | {"src_video": 3}, "give a path"),
        (GOOD | {"src_video": ["a.mp4", "b.mp4"]}, "2 files given"), (GOOD | {"prepared": "nowhere"}, '"prepared"'),
        (GOOD | {"validation": "yes"}, "true or false"),
        (GOOD | {"prepared": "p", "src_video": "a.mp4"}, "give one of them"),
        (GOOD | {"src_video": "short.mp4"}, "5 frames and src_video 3"),
        (GOOD | {"src_video": "wide.mp4"}, "48x48 and src_video 96x48"), (GOOD | {"src_mask": "mask.png"}, "without a"),
        (GOOD | {"target": "small.mp4"}, "at least 16x16"), (GOOD | {"target": "text.mp4"}, "line 2: .*text.mp4"),
        (GOOD | {"src_video": "wide.mp4", "target": "wide.mp4", "src_mask": "mask.png"}, "aspects differ"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(value, told, folder, job):
    path = written(folder, GOOD, value, GOOD)
    with pytest.raises(InputError, match=told) as caught:
        plan_rows(path, read_rows(path), job.settings)
    assert "1 of 3 rows cannot be used: line 2" in str(caught.value)


def test_all_bad_rows_are_told_at_once(folder, job):
    path = written(folder, {"prompt": 1}, GOOD, "?")
    with pytest.raises(InputError, match="2 of 3 rows cannot be used: line 1: .*; line 3: "):
        read_rows(path)
    with pytest.raises(InputError, match="holds no row to train on"):
        read_rows(written(folder, "# nothing", ""))
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(folder / "none.jsonl")


def test_the_target_takes_the_frames_of_the_source(folder, job):
    row = GOOD | {"src_video": "b.mp4", "src_mask": "mask.png", "src_ref_images": "ref.png"}
    path = written(folder, row, GOOD)
    planned = plan_rows(path, read_rows(path), job.settings)
    target, frames, mask, refs = read_tensors_of(planned[0], job.settings)
    assert target.shape == frames.shape == (3, 5, 48, 48) and mask.shape == (1, 5, 48, 48) and len(refs) == 1
    expected = torch.from_numpy(moving_frames(5, 48, 48, 1)).permute(3, 0, 1, 2) / 127.5 - 1
    assert torch.allclose(target, expected, atol=1e-6)
    assert mask[..., :24].min() == 1 and mask[..., 24:].max() == 0
    target, frames, mask, refs = read_tensors_of(planned[1], job.settings)  # words alone
    assert not frames.any() and mask.min() == 1 and refs == [] and target.shape == frames.shape


def test_encoded_rows_are_what_the_engine_encodes(folder, job, tmp_path):
    row = GOOD | {"src_video": "b.mp4", "src_mask": "mask.png", "src_ref_images": "ref.png"}
    path = written(folder, row)
    planned = plan_rows(path, read_rows(path), job.settings)
    parts, engine = job.checked[0], load_engine(job.checkpoint, checked=job.checked)
    cache = Cache(tmp_path, parts["vae"], parts["text_encoder"], engine.dtype)
    (item,) = cache.items(planned, job.settings)
    shares = [encode_missing(engine, cache, planned, [item], job.settings, part=(i, 2), progress=False) for i in (0, 1)]
    assert shares == [2, 2]  # two processes share the two prompts and the two clips
    assert encode_missing(engine, cache, planned, [item], job.settings, progress=False) == 0
    target, frames, mask, refs = read_tensors_of(planned[0], job.settings)
    model, row = build(parts["vae"], torch.float32), item.load()
    clip = torch.cat([vae.encode(model, [ref])[0] for ref in refs] + vae.encode(model, [target]), dim=1)
    assert item.shape == clip.shape[1:] == (3, 6, 6) and item.refs == 1
    assert torch.allclose(row["target"], clip, atol=5e-3)
    assert torch.allclose(row["context"], engine.encode_context(frames, mask, refs), atol=5e-3)
    assert torch.allclose(row["text"], engine.encode_prompts("a", None)[0])
    blank = engine.encode_context(torch.zeros_like(frames), torch.ones_like(mask), refs)
    assert torch.allclose(item.load_empty(row["context"]), blank, atol=5e-3)
    other = Cache(tmp_path, parts["vae"], parts["transformer"], engine.dtype)
    assert other.text("a") != cache.text("a") and other.items(planned, job.settings)[0].row == item.row


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_forward_pass_is_the_engines(checkpointing, transformer):
    rng, text_len = torch.Generator().manual_seed(0), 64
    width = transformer.config.text_dim
    latents, context = (torch.randn(2, channels, 2, 6, 8, generator=rng) for channels in (16, 96))
    texts = [torch.randn(length, width, generator=rng) for length in (3, 9)]
    expected = []
    for number, timestep in enumerate((900.0, 37.5)):
        task = wan.prepare(transformer, context[number])
        states = wan.embed_text(transformer, texts[number], text_len)
        expected.append(wan.predict_velocity(transformer, latents[number], timestep, states, task))
    make_trainable(transformer, "lora", rank=2)
    tuned = Tuned(transformer, text_len, checkpointing=checkpointing)
    made = tuned(latents, [900.0, 37.5], texts, context)
    assert torch.allclose(made, torch.stack(expected), atol=1e-4)
    made.square().mean().backward()
    assert all(weight.grad is not None for weight in tuned.parameters())


def test_only_what_is_trained_has_gradients(transformer, job):
    shapes = shapes_of(job.checked[0]["transformer"])
    for kind, blocks in (("context", "context"), ("lora", "context"), ("lora", "all")):
        model = copy.deepcopy(transformer)
        make_trainable(model, kind, rank=3, blocks=blocks)
        tensors = Tuned(model, 64).tensors()
        assert sum(tensor.numel() for tensor in tensors.values()) == trained_count(shapes, kind, 3, blocks)
        assert all(name.startswith("vace_") for name in tensors) == (blocks == "context")
    assert "vace_blocks.0.proj_in" not in lora_targets(list(dict(transformer.named_modules())))
    with pytest.raises(InputError, match="--lora_blocks none"):
        lora_targets([], "none")


def test_a_copy_has_weights_of_its_own(transformer):
    make_trainable(transformer, "context")
    tuned = Tuned(transformer, 64)
    twin = copy.deepcopy(tuned)
    name = "vace_blocks.0.proj_out.weight"
    with torch.no_grad():
        twin.tensors()[name].add_(1)
    before = transformer.get_parameter(name).clone()
    with twin.in_place() as inside:
        assert torch.equal(inside.get_parameter(name), before + 1)
    assert torch.equal(transformer.get_parameter(name), before)
    assert twin.state_dict().keys() == tuned.state_dict().keys() and len(list(tuned.modules())) == 1


@pytest.fixture
def lora(transformer, job, tmp_path):
    """A transformer with a drawn LoRA in all blocks, and its file."""
    model = copy.deepcopy(transformer)
    make_trainable(model, "lora", rank=4, alpha=6.0, blocks="all")
    tuned, rng = Tuned(model, 64), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in tuned.tensors().items():
            if ".lora_B." in name:
                weight.copy_(0.05 * torch.randn(weight.shape, generator=rng))
    path = tmp_path / "lora.safetensors"
    write_weights(path, "lora", tuned.tensors(), {"rank": 4, "alpha": 6.0, "base_model": "tiny"})
    return model, path


def outputs_of(model):
    rng = torch.Generator().manual_seed(2)
    latents, context = (torch.randn(1, channels, 2, 4, 4, generator=rng) for channels in (16, 96))
    text = torch.randn(1, 64, model.config.text_dim, generator=rng)
    with torch.no_grad():
        return velocity(model, latents, [500.0], text, context)


def test_a_lora_merged_is_the_lora_applied(lora, transformer, job):
    model, path = lora
    applied, plain = outputs_of(model), outputs_of(transformer)
    assert (applied - plain).abs().max() > 1e-2
    with torch.no_grad():
        for name, make in changed_weights(path, job.checked[0]["transformer"]).items():
            weight = transformer.get_parameter(name)
            weight.copy_(make(weight))
    assert torch.allclose(outputs_of(transformer), applied, atol=1e-5)


def test_diffusers_reads_the_lora(lora, transformer):
    from safetensors import safe_open

    model, path = lora
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
    transformer.load_lora_adapter(tensors, prefix="transformer", metadata=metadata)
    assert torch.allclose(outputs_of(transformer), outputs_of(model), atol=1e-5)


def test_a_file_of_another_model_is_refused(tmp_path, job):
    path = tmp_path / "context.safetensors"
    write_weights(path, "context", {"vace_blocks.99.proj_out.bias": torch.zeros(3)}, {})
    with pytest.raises(CheckpointError, match="vace_blocks.99"):
        changed_weights(path, job.checked[0]["transformer"])


def test_validation_never_sees_a_target_of_training(folder, job):
    values = [GOOD | {"target": name} for name in ("a.mp4", "b.mp4", "short.mp4", "wide.mp4")] * 2
    (folder / "c.mp4").write_bytes((folder / "a.mp4").read_bytes())
    path = written(folder, *values, GOOD | {"target": "c.mp4"})
    planned = plan_rows(path, read_rows(path), job.settings)
    train, judged = split_rows(planned, 0.4, 0)
    sides = [{planned[i].row.target.name for i in side} for side in (train, judged)]
    assert len(sides[1]) == 2 and not sides[0] & sides[1] and sorted(train + judged) == list(range(9))
    marked = plan_rows(path, read_rows(written(folder, GOOD | {"validation": True}, *values)), job.settings)
    assert split_rows(marked, 0.4, 0) == (list(range(1, 9)), [0])
    assert split_rows(planned, 0.0, 0)[1] == [] and split_rows(planned[:4], 0.4, 0)[1] == []
