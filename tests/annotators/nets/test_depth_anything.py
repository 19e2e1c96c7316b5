"""Depth Anything V2: sizes and input as the original's, positions too, both layouts of weights, damage named."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch
from goldens_io import annotator_pack, comparable_cases, equal_within

from vace.annotators.depth import DepthV2, levels, pictures
from vace.annotators.nets import depth_anything, depth_anything_keys
from vace.annotators.networks import Networks, Weights
from vace.errors import CheckpointError
from vace.media.clip import ArrayClip

# Published names -> the original's, by the published conversion read backwards.
TO_ORIGINAL = (
    (r"backbone\.embeddings\.patch_embeddings\.projection", "pretrained.patch_embed.proj"),
    (r"backbone\.embeddings\.position_embeddings", "pretrained.pos_embed"),
    (r"backbone\.embeddings", "pretrained"),
    (r"backbone\.encoder\.layer\.(\d+)", r"pretrained.blocks.\1"),
    (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
    (r"attention\.output\.dense", "attn.proj"),
    (r"backbone\.layernorm", "pretrained.norm"),
    (r"neck\.reassemble_stage\.layers\.(\d)\.projection", r"depth_head.projects.\1"),
    (r"neck\.reassemble_stage\.layers\.(\d)\.resize", r"depth_head.resize_layers.\1"),
    *((rf"neck\.convs\.{n}", f"depth_head.scratch.layer{n + 1}_rn") for n in range(4)),
    *((rf"neck\.fusion_stage\.layers\.{n}\.", f"depth_head.scratch.refinenet{4 - n}.") for n in range(4)),
    (r"residual_layer", "resConfUnit"),
    (r"convolution", "conv"),
    (r"(refinenet\d\.)projection", r"\1out_conv"),
    (r"^head\.conv1", "depth_head.scratch.output_conv1"),
    (r"^head\.conv2", "depth_head.scratch.output_conv2.0"),
    (r"^head\.conv3", "depth_head.scratch.output_conv2.2"),
)


def to_original(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A published state by the original's names, queries, keys and values in one."""
    out = {}
    for name, tensor in state.items():
        start, _, suffix = name.partition("attention.attention.query")
        if suffix:
            parts = [state[f"{start}attention.attention.{part}{suffix}"] for part in ("query", "key", "value")]
            name, tensor = f"{start}attn.qkv{suffix}", torch.cat(parts)
        elif "attention.attention" in name:
            continue
        for pattern, replacement in TO_ORIGINAL:
            name = re.sub(pattern, replacement, name)
        out[name] = tensor
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Depth Anything small enough for tests, as its class saves it."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

    torch.manual_seed(0)
    config = DepthAnythingConfig(
        backbone_config={
            "model_type": "dinov2", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 1,
            "image_size": 70, "patch_size": 14, "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False,
            "mlp_ratio": 2,
        },
        reassemble_hidden_size=64, neck_hidden_sizes=[8, 16, 32, 32], fusion_hidden_size=16, head_hidden_size=32,
    )  # fmt: skip
    model = DepthAnythingForDepthEstimation(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(std=0.1 if parameter.ndim < 3 else 1 / parameter[0].numel() ** 0.5)
        model.head.conv3.bias.fill_(1)
    path = tmp_path_factory.mktemp("hub") / "Depth-Anything-V2-Small-hf"
    model.save_pretrained(path)
    return path


@pytest.fixture
def original(folder, tmp_path):
    """original(change) -> Weights of a file with the original's names, `change` made to its state first."""
    from safetensors.torch import load_file

    def make(change=lambda state: None) -> Weights:
        published = load_file(folder / "model.safetensors")
        state = to_original({depth_anything_keys.published(name): tensor for name, tensor in published.items()})
        change(state)
        torch.save(state, tmp_path / "depth_anything_v2_vitl.pth")
        return Weights("original", (tmp_path / "depth_anything_v2_vitl.pth",))

    return make


def run(weights: Weights, **options) -> depth_anything.DepthAnything:
    return depth_anything.DepthAnything(weights, device=torch.device("cpu"), **options)


@pytest.mark.parity
def test_network_input_and_sizes():
    for case in comparable_cases("depth_anything_v2"):
        if "rows" in case:
            continue
        found, expected = depth_anything.network_input(case["inputs"]["image"][None]), case["output"]
        assert list(found.shape) == expected["net_shape"], case["id"]
        sampled = found[:, :, ::7, ::7]
        assert equal_within("network pre-processing", sampled, expected["net_input_s7"], 1e-4), case["id"]
    for height, width, rows, columns in annotator_pack("depth_anything_v2")["net_size_table"]["rows"]:
        assert depth_anything.network_size(height, width) == (rows, columns), (height, width)


def test_channels_are_reversed_unless_told(noise):
    frames = noise(1, 40, 50)
    plain = depth_anything.network_input(frames, bgr=False)
    np.testing.assert_array_equal(
        depth_anything.network_input(np.ascontiguousarray(frames[..., ::-1]), bgr=True), plain
    )
    assert np.abs(depth_anything.network_input(frames) - plain).max() > 1


def test_both_layouts_agree(folder, original, noise):
    frames = noise(2, 36, 40)
    hub, file = run(Weights("transformers", folder=folder)), run(original(), batch_size=2)
    depths = hub.depths(frames)
    assert depths.shape == (2, 36, 40) and depths.dtype == np.float32 and depths.min() >= 0
    assert depths.std() > 0.01 and np.abs(depths[0] - depths[1]).max() > 0.01
    np.testing.assert_allclose(file.depths(frames), depths, atol=1e-5)
    assert np.abs(run(Weights("transformers", folder=folder), bgr=False).depths(frames) - depths).max() > 0.01


def test_found_and_run_as_the_task_does(folder, noise, monkeypatch):
    monkeypatch.setenv("VACE_MODELS", str(folder.parent))
    networks, frames = Networks("neural", no_download=True), noise(1, 36, 40)
    (chunk,) = DepthV2()(frames=ArrayClip(frames), networks=networks).chunks
    assert networks.chosen["depthv2"].weights == "depth-anything/Depth-Anything-V2-Small-hf"
    expected = pictures(levels(run(Weights("transformers", folder=folder)).depths(frames)), 36, 40)
    np.testing.assert_array_equal(chunk.frames, expected)


def test_agrees_with_the_class_where_positions_are_not_resized(folder):
    from transformers import DepthAnythingForDepthEstimation

    pixels = torch.randn(1, 3, 70, 70, generator=torch.Generator().manual_seed(1))
    net = run(Weights("transformers", folder=folder))
    with torch.inference_mode():
        expected = DepthAnythingForDepthEstimation.from_pretrained(folder)(pixels).predicted_depth
        found = net._run.module(pixels, 70, 70)
    assert torch.allclose(found, expected, atol=1e-5)


def cubic(values: np.ndarray, at: float) -> float:
    """The value at a place between samples by the cubic kernel of torch and OpenCV (sharpness -0.75)."""
    first = int(np.floor(at)) - 1
    distance = np.abs(at - np.arange(first, first + 4))
    near = 1.25 * distance**3 - 2.25 * distance**2 + 1
    far = -0.75 * distance**3 + 3.75 * distance**2 - 6 * distance + 3
    return float(np.sum(np.where(distance <= 1, near, far) * values[first : first + 4]))


def test_positions_are_resized_with_the_offset():
    """Patch i of n is taken at (i + 0.5) * side / (n + 0.1) - 0.5 of the table, along rows and columns."""
    rng = np.random.default_rng(0)
    down, across = rng.normal(size=(2, 9)).astype(np.float32)

    class Embeddings:
        patch_size = 14
        grid = torch.from_numpy(np.stack(np.broadcast_arrays(down[:, None], across[None]), -1).reshape(1, 81, 2).copy())
        position_embeddings = torch.cat([torch.full((1, 1, 2), 7.0), grid], 1)

    tokens = torch.zeros(1, 1 + 12 * 16, 2)
    found = depth_anything.grid_positions(Embeddings(), tokens, 12 * 14, 16 * 14)
    assert found.shape == (1, 193, 2) and (found[0, 0] == 7).all()
    grid = found[0, 1:].reshape(12, 16, 2)
    for axis, (values, count) in enumerate(((down, 12), (across, 16))):
        inner = range(3, count - 3)  # where no sample lies beyond the table
        expected = [cubic(values, (i + 0.5) * 9 / (count + 0.1) - 0.5) for i in inner]
        line = grid[:, 5, 0] if axis == 0 else grid[5, :, 1]
        np.testing.assert_allclose(line[3 : count - 3], expected, atol=1e-4)
    trained = depth_anything.grid_positions(Embeddings(), torch.zeros(1, 82, 2), 126, 126)
    assert trained is Embeddings.position_embeddings


@pytest.mark.parametrize(
    ("layers", "width", "taken"), [(12, 384, [3, 6, 9, 12]), (12, 768, [3, 6, 9, 12]), (24, 1024, [5, 12, 18, 24])]
)
def test_settings_by_shapes(layers, width, taken):
    """What Small, Base and Large differ in is told by their shapes."""
    sizes = {384: (64, [48, 96, 192, 384]), 768: (128, [96, 192, 384, 768]), 1024: (256, [256, 512, 1024, 1024])}
    features, channels = sizes[width]
    shapes = {
        "pretrained.patch_embed.proj.weight": (width, 3, 14, 14),
        "pretrained.pos_embed": (1, 1370, width),
        "depth_head.scratch.layer1_rn.weight": (features, channels[0], 3, 3),
        "depth_head.scratch.output_conv2.0.weight": (32, features // 2, 3, 3),
    }
    shapes |= {f"depth_head.projects.{n}.weight": (channel, width, 1, 1) for n, channel in enumerate(channels)}
    shapes |= {f"pretrained.blocks.{layer}.mlp.fc1.weight": (4 * width, width) for layer in range(layers)}
    config = depth_anything_keys.config_of(shapes)
    backbone = config["backbone_config"]
    assert (backbone["num_hidden_layers"], backbone["num_attention_heads"]) == (layers, width // 64)
    assert (backbone["out_indices"], backbone["image_size"], backbone["mlp_ratio"]) == (taken, 518, 4)
    assert (config["fusion_hidden_size"], config["neck_hidden_sizes"]) == (features, channels)
    assert len(depth_anything_keys.original_names(shapes)) == 14 * layers + 71  # 239 in Small's and Base's files


def test_idle_tensors_may_be_absent(folder, original, noise):
    frames = noise(1, 30, 30)

    def change(state):
        for key in [key for key in state if key.startswith(depth_anything_keys.IDLE_ORIGINAL)]:
            del state[key]

    expected = run(Weights("transformers", folder=folder)).depths(frames)
    np.testing.assert_allclose(run(original(change)).depths(frames), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("pretrained.blocks.2.ls1.gamma"), r"1 missing \(pretrained\.blocks\.2\.ls1\.gamma\)"),
        (lambda state: state.update(stranger=torch.zeros(1)), r"1 unknown \(stranger\)"),
        (
            lambda state: state.update({"pretrained.norm.bias": torch.zeros(3)}),
            r"mis-shaped \(pretrained\.norm\.bias \[3\] where \[64\]",
        ),
        (lambda state: state.pop("pretrained.patch_embed.proj.weight"), "it has no 'pretrained.patch_embed.proj"),
    ],
)
def test_damaged_originals_are_named(original, change, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        run(original(change))
    assert "depth_anything_v2_vitl.pth" in str(caught.value)


def test_damaged_folders_are_named(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "hub")
    state = load_file(folder / "model.safetensors")
    del state["head.conv1.bias"]
    save_file(state, tmp_path / "hub" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing \(head\.conv1\.bias\)"):
        run(Weights("transformers", folder=tmp_path / "hub"))
