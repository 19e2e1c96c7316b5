"""MiDaS DPT-hybrid: sizes and input as the original's, both layouts of weights, every kind of damage named."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch
from goldens_io import annotator_pack, comparable_cases, equal_within
from parity_fixes import FIXES

from vace.annotators.depth import Depth, levels, pictures
from vace.annotators.nets import midas, midas_keys
from vace.annotators.networks import Networks, Weights
from vace.errors import CheckpointError
from vace.media.clip import ArrayClip

# The class's names -> the original's, by the published conversion read backwards.
TO_ORIGINAL = (
    (r"dpt\.embeddings\.backbone\.bit\.embedder\.convolution", "pretrained.model.patch_embed.backbone.stem.conv"),
    (r"dpt\.embeddings\.backbone\.bit\.embedder\.norm", "pretrained.model.patch_embed.backbone.stem.norm"),
    (
        r"dpt\.embeddings\.backbone\.bit\.encoder\.stages\.(\d+)\.layers\.(\d+)",
        r"pretrained.model.patch_embed.backbone.stages.\1.blocks.\2",
    ),
    (r"dpt\.embeddings\.projection", "pretrained.model.patch_embed.proj"),
    (r"dpt\.embeddings\.position_embeddings", "pretrained.model.pos_embed"),
    (r"dpt\.embeddings", "pretrained.model"),
    (r"dpt\.encoder\.layer\.(\d+)", r"pretrained.model.blocks.\1"),
    (r"dpt\.layernorm", "pretrained.model.norm"),
    (r"attention\.output\.dense", "attn.proj"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"output\.dense", "mlp.fc2"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"neck\.reassemble_stage\.readout_projects\.2\.0", "pretrained.act_postprocess3.0.project.0"),
    (r"neck\.reassemble_stage\.readout_projects\.3\.0", "pretrained.act_postprocess4.0.project.0"),
    (r"neck\.reassemble_stage\.layers\.2\.projection", "pretrained.act_postprocess3.3"),
    (r"neck\.reassemble_stage\.layers\.3\.projection", "pretrained.act_postprocess4.3"),
    (r"neck\.reassemble_stage\.layers\.3\.resize", "pretrained.act_postprocess4.4"),
    *((rf"neck\.convs\.{n}", f"scratch.layer{n + 1}_rn") for n in range(4)),
    *((rf"neck\.fusion_stage\.layers\.{n}\.", f"scratch.refinenet{4 - n}.") for n in range(4)),
    (r"residual_layer", "resConfUnit"),
    (r"convolution", "conv"),
    (r"(refinenet\d\.)projection", r"\1out_conv"),
    (r"head\.head", "scratch.output_conv"),
)


def to_original(state: dict[str, torch.Tensor], table=TO_ORIGINAL) -> dict[str, torch.Tensor]:
    """A state by the original's names, queries, keys and values in one."""
    out = {}
    for name, tensor in state.items():
        if "attention.attention" in name:
            start, _, suffix = name.partition("attention.attention.query")
            if suffix:
                parts = [state[f"{start}attention.attention.{part}{suffix}"] for part in ("query", "key", "value")]
                name, tensor = f"{start}attn.qkv{suffix}", torch.cat(parts)
            else:
                continue
        for pattern, replacement in table:
            name = re.sub(pattern, replacement, name)
        out[name] = tensor
    return out


@pytest.fixture(scope="module")
def tiny():
    """A random DPT-hybrid small enough for tests, trained on 64x64 as it were."""
    from transformers import DPTConfig, DPTForDepthEstimation

    torch.manual_seed(0)
    config = DPTConfig(
        is_hybrid=True, hidden_size=64, num_hidden_layers=4, num_attention_heads=1, intermediate_size=128,
        backbone_out_indices=[0, 1, 2, 3], image_size=64, neck_hidden_sizes=[128, 256, 64, 64], fusion_hidden_size=32,
        reassemble_factors=[1, 1, 1, 0.5], backbone_featmap_shape=[1, 256, 4, 4], layer_norm_eps=1e-6,
        backbone_config={
            "model_type": "bit", "global_padding": "same", "layer_type": "bottleneck", "depths": [1, 2, 1],
            "hidden_sizes": [128, 256, 256], "embedding_size": 32, "embedding_dynamic_padding": True,
            "out_features": ["stage1", "stage2", "stage3"],
        },
    )  # fmt: skip
    model = DPTForDepthEstimation(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(std=0.1 if parameter.ndim < 3 else 1 / parameter[0].numel() ** 0.5)
        model.head.head[4].bias.fill_(1)
    return model


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "dpt-hybrid-midas"
    tiny.save_pretrained(path)
    return path


@pytest.fixture
def original(tiny, tmp_path):
    """original(change) -> Weights of a file with the original's names, `change` made to its state first."""

    def make(change=lambda state: None) -> Weights:
        state = to_original(tiny.state_dict())
        for suffix, shape in (("weight", (10, 64)), ("bias", (10,))):
            state[f"pretrained.model.head.{suffix}"] = torch.zeros(shape)  # ImageNet's classes, in the real file too
        change(state)
        torch.save(state, tmp_path / "dpt_hybrid-midas-501f0c75.pt")
        return Weights("original", (tmp_path / "dpt_hybrid-midas-501f0c75.pt",))

    return make


def run(weights: Weights, batch_size: int | None = None) -> midas.Midas:
    return midas.Midas(weights, device=torch.device("cpu"), batch_size=batch_size)


@pytest.mark.parity
def test_network_input_and_sizes():
    for case in comparable_cases("depth_midas"):
        if "rows" in case:
            continue
        found = midas.network_input(case["inputs"]["image"][None])
        assert equal_within("network pre-processing", found, case["output"]["net_input"], 1e-4), case["id"]
    side = FIXES["smallest_network_side"][1]
    for height, width, rows, columns in annotator_pack("depth_midas")["net_size_table"]["rows"]:
        assert midas.network_size(height, width) == (side(rows), side(columns)), (height, width)


def test_both_layouts_agree_with_the_class(tiny, folder, original, noise):
    frames = noise(2, 64, 64)
    pixels = torch.from_numpy(midas.network_input(frames))
    with torch.inference_mode():
        expected = tiny(pixels).predicted_depth.numpy()
    assert expected.std() > 0.01
    hub, file = run(Weights("transformers", folder=folder)), run(original())
    np.testing.assert_allclose(hub.maps(frames), expected, atol=1e-5)
    np.testing.assert_array_equal(file.maps(frames), hub.maps(frames))


def test_other_sizes_and_batches(folder, noise):
    net = run(Weights("transformers", folder=folder), batch_size=2)
    frames = noise(3, 70, 150)
    maps, depths = net.maps(frames), net.depths(frames)
    assert maps.shape == (3, 64, 128) and depths.shape == (3, 70, 150)
    assert maps.dtype == depths.dtype == np.float32 and maps.min() >= 0
    one_by_one = np.concatenate([net.maps(frame[None]) for frame in frames])
    np.testing.assert_allclose(maps, one_by_one, atol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 0.01
    assert levels(maps).max() == 255


def test_found_and_run_as_the_task_does(folder, noise, monkeypatch):
    monkeypatch.setenv("VACE_MODELS", str(folder.parent))
    networks, frames = Networks("neural", no_download=True), noise(3, 64, 90)
    (chunk,) = Depth()(frames=ArrayClip(frames), networks=networks).chunks
    assert networks.chosen["depth"].as_dict() == {
        "name": "depth", "backend": "neural", "weights": "Intel/dpt-hybrid-midas",
    }  # fmt: skip
    expected = pictures(levels(run(Weights("transformers", folder=folder)).maps(frames)), 64, 90)
    np.testing.assert_array_equal(chunk.frames, expected)


@pytest.mark.parametrize(("height", "width"), [(20, 90), (31, 31), (8, 300)])
def test_small_frames_have_a_map(folder, noise, height, width):
    assert min(midas.network_size(height, width)) == 64
    assert run(Weights("transformers", folder=folder)).depths(noise(1, height, width)).shape == (1, height, width)


def test_names_of_the_published_file():
    """366 tensors beside the unused classes: 12 layers, and 3, 4 and 9 blocks of the ResNet."""
    shapes = {f"pretrained.model.blocks.{layer}.norm1.weight": () for layer in range(12)}
    for stage, blocks in enumerate((3, 4, 9)):
        start = f"pretrained.model.patch_embed.backbone.stages.{stage}.blocks"
        shapes |= {f"{start}.{block}.conv1.weight": () for block in range(blocks)}
    names = midas_keys.original_names(shapes)
    assert len(names) == 366
    targets = [target for row in names.values() for target in row]
    assert len(targets) == len(set(targets)) == 366 + 12 * 2 * 2


def test_idle_tensors_may_be_absent(tiny, folder, original, noise, tmp_path):
    """The published folder lacks the unit of the first fusion that nothing enters."""
    from safetensors.torch import load_file, save_file

    frames = noise(1, 64, 64)
    expected = run(Weights("transformers", folder=folder)).maps(frames)
    idle = "neck.fusion_stage.layers.0.residual_layer1"
    shutil.copytree(folder, tmp_path / "hub")
    state = load_file(folder / "model.safetensors")
    save_file({key: value for key, value in state.items() if idle not in key}, tmp_path / "hub" / "model.safetensors")
    np.testing.assert_array_equal(run(Weights("transformers", folder=tmp_path / "hub")).maps(frames), expected)

    def change(state):
        for key in [key for key in state if key.startswith(midas_keys.IDLE_ORIGINAL)]:
            del state[key]

    np.testing.assert_array_equal(run(original(change)).maps(frames), expected)


def drop(key):
    return lambda state: state.pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("scratch.output_conv.2.bias"), r"1 missing \(scratch\.output_conv\.2\.bias\)"),
        (drop("pretrained.model.blocks.1.attn.qkv.bias"), r"missing \(pretrained\.model\.blocks\.1\.attn\.qkv\.bias\)"),
        (lambda state: state.update(stranger=torch.zeros(1)), r"1 unknown \(stranger\)"),
        (
            lambda state: state.update({"scratch.output_conv.0.bias": torch.zeros(5)}),
            r"mis-shaped \(scratch\.output_conv\.0\.bias \[5\] where \[16\]",
        ),
        (drop("pretrained.model.cls_token"), r"it has no 'pretrained\.model\.cls_token'"),
        (
            lambda state: state.update({"pretrained.model.patch_embed.backbone.stem.conv.weight": torch.zeros(5, 3)}),
            "make no network",
        ),
    ],
)
def test_damaged_originals_are_named(original, change, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        run(original(change))
    assert "dpt_hybrid-midas-501f0c75.pt" in str(caught.value)


def test_damaged_folders_are_named(folder, tmp_path):
    with pytest.raises(CheckpointError, match="'dpt', not 'depth_anything'"):
        midas_keys.folder_files(folder, "depth_anything")
    shutil.copytree(folder, tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        run(Weights("transformers", folder=tmp_path / "bare"))
    shutil.copytree(folder, tmp_path / "cut")
    whole = (folder / "model.safetensors").read_bytes()
    (tmp_path / "cut" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        run(Weights("transformers", folder=tmp_path / "cut"))
