"""LoRAs fused into a transformer: equal to the sums written out, to one another in every style, to peft's own pass."""

from __future__ import annotations

import copy
import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file
from wan_folders import write_original

from vace.errors import CheckpointError, InputError
from vace.models.checkpoints import open_checkpoint
from vace.models.loading import build
from vace.models.parts import read_part
from vace.speed.lora import LoraSpec, check_loras, facts_of, fingerprint_of, fuse_loras

# The original's name of a module -> the class's: linear layers, both patch layers, context blocks.
MODULES = {
    "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
    "blocks.1.cross_attn.o": "blocks.1.attn2.to_out.0",
    "blocks.2.ffn.0": "blocks.2.ffn.net.0.proj",
    "blocks.3.ffn.2": "blocks.3.ffn.net.2",
    "vace_blocks.0.self_attn.k": "vace_blocks.0.attn1.to_k",
    "vace_blocks.0.before_proj": "vace_blocks.0.proj_in",
    "vace_blocks.1.after_proj": "vace_blocks.1.proj_out",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "head.head": "proj_out",
    "patch_embedding": "patch_embedding",
    "vace_patch_embedding": "vace_patch_embedding",
}
STYLES = {  # (spelling, form of the name, with underscores, first and second matrix)
    "diffusers": ("class", "transformer.{}", False, "lora_A.weight", "lora_B.weight"),
    "bare": ("class", "{}", False, "lora_A.weight", "lora_B.weight"),
    "peft": ("class", "base_model.model.{}", False, "lora_A.default.weight", "lora_B.default.weight"),
    "original": ("original", "diffusion_model.{}", False, "lora_down.weight", "lora_up.weight"),
    "original A B": ("original", "diffusion_model.{}", False, "lora_A.weight", "lora_B.weight"),
    "original peft": ("original", "{}", False, "lora_A.default.weight", "lora_B.default.weight"),
    "kohya": ("original", "lora_unet__{}", True, "lora_down.weight", "lora_up.weight"),
    "musubi": ("original", "lora_unet_{}", True, "lora_down.weight", "lora_up.weight"),
    "kohya class": ("class", "lora_transformer_{}", True, "lora_down.weight", "lora_up.weight"),
}
RANK = 4


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    return read_part(open_checkpoint(write_original(tmp_path_factory.mktemp("wan"))), "transformer")


@pytest.fixture(scope="module")
def built(part):
    model = build(part, torch.float32)
    return model, weights_of(model)


@pytest.fixture
def model(built):
    """The transformer as its file has it, in float32."""
    return restored(*built)


@pytest.fixture
def lora(tmp_path, part):
    """A LoRA file of these tensors, checked: lora(tensors, weight, metadata, name)."""

    def make(tensors, weight=1.0, metadata=None, name="style.safetensors"):
        save_file(tensors, tmp_path / name, metadata=metadata)
        return check_loras([LoraSpec(str(tmp_path / name), weight=weight)], part)[0]

    return make


def restored(model, weights):
    for name, tensor in model.named_parameters():
        tensor.data = weights[name].clone()
    return model


def weights_of(model):
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def pairs(model, seed=0, rank=RANK):
    """module in the class -> (up, down) as a convolution or a linear layer has them."""
    generator, found = torch.Generator().manual_seed(seed), {}
    for name in MODULES.values():
        shape = model.get_parameter(f"{name}.weight").shape
        down = torch.randn(rank, *shape[1:], generator=generator) / shape[1:].numel() ** 0.5
        up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=generator) * 0.1
        found[name] = (up, down)
    return found


def styled(matrices, style, alpha=None):
    spelling, form, is_flat, first, second = STYLES[style]
    tensors = {}
    for original, own in MODULES.items():
        module = original if spelling == "original" else own
        module = form.format(module.replace(".", "_") if is_flat else module)
        up, down = matrices[own]
        tensors |= {f"{module}.{first}": down.contiguous(), f"{module}.{second}": up.contiguous()}
        if alpha is not None:
            tensors[f"{module}.alpha"] = torch.tensor(alpha)
    return tensors


def summed(before, *terms):
    """The explicit sum in float64: terms are (factor, matrices)."""
    after = {name: tensor.double() for name, tensor in before.items()}
    for factor, matrices in terms:
        for module, (up, down) in matrices.items():
            name = f"{module}.weight"
            product = up.double().flatten(1) @ down.double().flatten(1)
            after[name] = after[name] + factor * product.reshape(after[name].shape)
    return after


def furthest(model, expected):
    found = dict(model.named_parameters())
    assert found.keys() == expected.keys()
    return max(float((found[name].double() - expected[name].double()).abs().max()) for name in found)


@pytest.mark.parametrize(("weight", "alpha", "scale"), [(1.0, None, 1.0), (0.7, 2.0, 0.5), (-1.5, 16, 4.0)])
def test_equal_to_the_explicit_sum(weight, alpha, scale, model, lora):
    before, matrices = weights_of(model), pairs(model)
    found = fuse_loras(model, [lora(styled(matrices, "original", alpha), weight)])
    assert furthest(model, summed(before, (weight * scale, matrices))) <= 1e-6
    assert furthest(model, before) > 0.01
    assert found.tensors == len(MODULES)
    assert str(found) == f"LoRA style.safetensors at {weight:g}: {len(MODULES)} weights, rank {RANK}"


def test_all_styles_are_bit_equal(model, lora):
    before, results = weights_of(model), {}
    for style in STYLES:
        restored(model, before)
        fuse_loras(model, [lora(styled(pairs(model), style), 0.8)])
        results[style] = weights_of(model)
    first = results.pop("diffusers")
    for style, found in results.items():
        assert all(torch.equal(found[name], first[name]) for name in first), style


def test_alpha_is_the_same_stored_stated_or_in_a_file_of_peft(model, lora, tmp_path):
    """As a tensor of the file, in diffusers' metadata, in adapter_config.json: alpha 2 at rank 4."""
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 2})}
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 2}))
    before, results = weights_of(model), []
    for style, alpha, stated, name in (
        ("original", 2.0, None, "a.safetensors"),
        ("kohya", 2, None, "b.safetensors"),
        ("diffusers", None, metadata, "c.safetensors"),
        ("peft", None, None, "adapter_model.safetensors"),
    ):
        restored(model, before)
        fuse_loras(model, [lora(styled(pairs(model), style, alpha), metadata=stated, name=name)])
        results.append(weights_of(model))
    assert all(torch.equal(results[0][name], other[name]) for other in results[1:] for name in other)


def test_two_with_weights_add(model, lora):
    before, one, two = weights_of(model), pairs(model, 1), pairs(model, 2, rank=7)
    first = lora(styled(one, "diffusers"), 0.6)
    second = lora(styled(two, "kohya", 14.0), -1.3, name="b.safetensors")
    found = fuse_loras(model, [first, second])
    assert furthest(model, summed(before, (0.6, one), (-2.6, two))) <= 1e-6
    assert found.tensors == len(MODULES) and len(found.lines) == 2


def test_weight_0_and_there_and_back(model, lora):
    before = weights_of(model)
    nothing = lora(styled(pairs(model), "original"), 0.0)
    assert fuse_loras(model, [nothing]).tensors == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())
    for weight in (0.9, -0.9):
        fuse_loras(model, [lora(styled(pairs(model), "original"), weight)])
    assert furthest(model, before) <= 1e-6


def test_differences_of_weights_biases_norms_and_tables(model, lora):
    targets = {
        "diffusion_model.blocks.0.self_attn.norm_q.diff": "blocks.0.attn1.norm_q.weight",
        "diffusion_model.vace_blocks.1.norm3.diff": "vace_blocks.1.norm2.weight",
        "diffusion_model.vace_blocks.1.norm3.diff_b": "vace_blocks.1.norm2.bias",
        "diffusion_model.blocks.2.ffn.0.diff_b": "blocks.2.ffn.net.0.proj.bias",
        "diffusion_model.patch_embedding.diff": "patch_embedding.weight",
        "diffusion_model.patch_embedding.diff_b": "patch_embedding.bias",
        "diffusion_model.head.head.diff": "proj_out.weight",
        "diffusion_model.blocks.3.modulation.diff": "blocks.3.scale_shift_table",
        "diffusion_model.head.modulation.diff": "scale_shift_table",
    }
    before, matrices = weights_of(model), pairs(model)
    shapes = {key: before[name].shape for key, name in targets.items()}
    tensors = {key: torch.randn(shape, generator=torch.Generator().manual_seed(1)) for key, shape in shapes.items()}
    pair = {key: value for key, value in styled(matrices, "original", 1.0).items() if ".ffn.0." in key}
    fuse_loras(model, [lora(tensors | pair, 0.5)])
    # The alpha of a pair does not touch the differences of the same module.
    module = "blocks.2.ffn.net.0.proj"
    expected = summed(before, (0.5 / RANK, {module: matrices[module]}))
    for key, name in targets.items():
        expected[name] = expected[name] + 0.5 * tensors[key].double()
    assert furthest(model, expected) <= 1e-6


def test_half_precision_is_summed_in_float32_and_rounded_once(part, lora):
    model = build(part, torch.bfloat16)
    before, one, two = weights_of(model), pairs(model, 1), pairs(model, 2)
    fuse_loras(model, [lora(styled(one, "original"), 0.3), lora(styled(two, "peft"), 0.4, name="b.safetensors")])
    expected = summed(before, (0.3, one), (0.4, two))
    for name, tensor in model.named_parameters():
        assert tensor.dtype == before[name].dtype
        if tensor.dtype == torch.float32:
            assert (tensor - expected[name]).abs().max() <= 1e-6, name
        else:  # a sum within 1e-6 of the middle between two numbers may be rounded to either: hardly ever
            assert (tensor != expected[name].to(tensor.dtype)).float().mean() <= 0.002, name
    assert before["blocks.0.attn1.to_q.weight"].dtype == torch.bfloat16


def test_matrices_in_any_stored_type_and_pickles(model, part, tmp_path):
    before = weights_of(model)
    matrices = {name: (up.bfloat16(), down.half()) for name, (up, down) in pairs(model).items()}
    torch.save(styled(matrices, "peft"), tmp_path / "adapter.pt")
    fuse_loras(model, check_loras([LoraSpec(str(tmp_path / "adapter.pt"))], part))
    assert furthest(model, summed(before, (1.0, matrices))) <= 1e-6


def test_the_checkpoints_files_are_not_written_to(part, lora):
    def digests():
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in part.weights.files]

    before = digests()
    for dtype in (torch.float32, torch.bfloat16):
        model = build(part, dtype)
        made = lora(styled(pairs(model), "original"))
        fuse_loras(model, [made])
        assert not made.file.weights._readers
    assert digests() == before


def output_of(model):
    """One forward pass of the class itself, on fixed inputs."""
    generator, config = torch.Generator().manual_seed(9), model.config
    latents = torch.randn(1, config.in_channels, 2, 4, 6, generator=generator)
    context = torch.randn(1, config.vace_in_channels, 2, 4, 6, generator=generator)
    texts = torch.randn(1, 7, config.text_dim, generator=generator)
    with torch.no_grad():
        return model(latents, torch.tensor([500]), texts, control_hidden_states=context, return_dict=False)[0]


def test_equal_to_diffusers_own_loading(model, part, lora):
    """Linear layers and kernels, context blocks too, in the style that diffusers reads for VACE."""
    theirs = build(part, torch.float32)
    # peft would take the name proj_out for that of the context blocks' layers too.
    tensors = {key: value for key, value in styled(pairs(model), "diffusers").items() if ".proj_out." not in key}
    theirs.load_lora_adapter(dict(tensors), prefix="transformer")
    plain = output_of(model)
    fuse_loras(model, [lora(tensors)])
    assert (output_of(model) - output_of(theirs)).abs().max() <= 1e-5
    assert (output_of(model) - plain).abs().max() > 0.05


@pytest.mark.parametrize("style", ["original", "musubi"])
def test_equal_to_diffusers_own_converters(style, model, part, lora):
    """They read the base blocks: every matrix of them, with alpha; of the original style biases too."""
    from diffusers.loaders import lora_conversion_utils as theirs_converters

    generator, tensors = torch.Generator().manual_seed(2), {}
    theirs = build(part, torch.float32)
    layers = [f"{kind}_attn.{one}" for kind in ("self", "cross") for one in "qkvo"] + ["ffn.0", "ffn.2"]
    for module in [f"blocks.{i}.{layer}" for i in range(4) for layer in layers]:
        rows, columns = {"ffn.0": (192, 96), "ffn.2": (96, 192)}.get(module[-5:], (96, 96))
        name = f"diffusion_model.{module}" if style == "original" else f"lora_unet_{module.replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"] = torch.randn(RANK, columns, generator=generator) * 0.1
        tensors[f"{name}.lora_up.weight"] = torch.randn(rows, RANK, generator=generator) * 0.2
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
        if style == "original":
            tensors[f"{name}.diff_b"] = torch.randn(rows, generator=generator) * 0.1
    convert = {
        "original": theirs_converters._convert_non_diffusers_wan_lora_to_diffusers,
        "musubi": theirs_converters._convert_musubi_wan_lora_to_diffusers,
    }[style]
    theirs.load_lora_adapter(convert({key: tensor.clone() for key, tensor in tensors.items()}), prefix="transformer")
    plain = output_of(model)
    fuse_loras(model, [lora(tensors)])
    assert (output_of(model) - output_of(theirs)).abs().max() <= 1e-5
    assert (output_of(model) - plain).abs().max() > 0.05


def test_what_vace_train_writes(model, part, tmp_path):
    """Equal to the trained module's own pass, and to the checkpoint that training would write."""
    from vace.training.finetune_model import Tuned, make_trainable
    from vace.training.finetune_output import changed_weights, write_weights

    trained = build(part, torch.float32)
    make_trainable(trained, "lora", rank=4, alpha=10.0, blocks="all")
    for name, weight in trained.named_parameters():
        if ".lora_B." in name:
            weight.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    path = tmp_path / "lora.safetensors"
    write_weights(path, "lora", Tuned(trained, 32).tensors(), {"rank": 4, "alpha": 10.0})
    before, plain = weights_of(model), output_of(model)
    found = fuse_loras(model, check_loras([LoraSpec(str(tmp_path))], part))
    changed = changed_weights(path, part)
    assert found.tensors == len(changed) == 6 * 10
    assert furthest(model, before | {name: make(before[name]) for name, make in changed.items()}) <= 1e-6
    assert (output_of(model) - output_of(trained)).abs().max() <= 1e-5
    assert (output_of(model) - plain).abs().max() > 0.05


class Wrapped(torch.Tensor):
    """What a quantising library puts in a weight's place."""


def float8(layer):
    layer.weight.data = layer.weight.data.to(torch.float8_e4m3fn)


def wrapped(layer):
    layer.weight = torch.nn.Parameter(layer.weight.data.as_subclass(Wrapped), requires_grad=False)


@pytest.mark.parametrize(("damage", "told"), [(float8, "stored as float8_e4m3fn"), (wrapped, "stored as Wrapped")])
def test_quantised_weights_are_refused_before_anything_changes(damage, told, model, lora):
    made = lora(styled(pairs(model), "original"))
    model = copy.deepcopy(model)
    damage(model.vace_patch_embedding)  # the last target
    before = {name: tensor.data for name, tensor in model.named_parameters()}
    with pytest.raises(InputError, match=f"vace_patch_embedding.weight is {told}.*quantise after"):
        fuse_loras(model, [made])
    assert all(tensor.data_ptr() == before[name].data_ptr() for name, tensor in model.named_parameters())


def test_other_models_are_refused(model, lora):
    made = lora(styled(pairs(model), "original"))
    with pytest.raises(InputError, match="has not been read yet"):
        fuse_loras(copy.deepcopy(model).to("meta"), [made])
    with pytest.raises(CheckpointError, match="no plain weight blocks.0.attn1.to_q.weight"):
        fuse_loras(torch.nn.Linear(2, 2), [made])


@pytest.mark.parametrize("where", ["up", "alpha"])
def test_numbers_that_are_not_finite(where, model, lora):
    tensors = styled(pairs(model), "original", float("nan") if where == "alpha" else 1.0)
    if where == "up":
        tensors["diffusion_model.blocks.0.self_attn.q.lora_up.weight"][3, 1] = float("inf")
    told = "alpha is no usable number" if where == "alpha" else "style.safetensors: brings numbers into blocks.0.attn1"
    with pytest.raises(CheckpointError, match=told):
        fuse_loras(model, [lora(tensors)])


def test_the_arithmetic_setting_is_put_back(model, lora):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        fuse_loras(model, [lora(styled(pairs(model), "original"))])
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_fingerprints_tell_runs_apart(model, lora, tmp_path):
    one, two = styled(pairs(model, 1), "peft"), styled(pairs(model, 2), "peft")
    first, second = lora(one, 0.5, name="a.safetensors"), lora(two, 0.5, name="b.safetensors")
    runs = {
        fingerprint_of(loras)
        for loras in (
            [first], [second], [first, second], [second, first], [first, first],
            [lora(one, 0.25, name="a.safetensors")], [lora(two, 0.5, name="a.safetensors")],
        )
    }  # fmt: skip
    assert len(runs) == 6  # a file written over: the first is then what the last is
    assert all(len(run) == 16 for run in runs)
    assert fingerprint_of([]) == fingerprint_of([lora(one, 0.0)]) == ""
    stated = lora(one, name="adapter_model.safetensors")
    before = fingerprint_of([stated])
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    assert fingerprint_of([stated]) != before
    (facts,) = facts_of([second])
    assert facts == {"file": "b.safetensors", "weight": 0.5, "fingerprint": facts["fingerprint"]}
