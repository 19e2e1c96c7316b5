"""Names of the single file and of the classes: every tensor of every checkpoint, there and back, at any size."""

from __future__ import annotations

import math

import pytest
from goldens_io import goldens_dir

from vace.errors import CheckpointError
from vace.models.ltx.configs import check_is_ltx, is_ltx, transformer_config, vae_config
from vace.models.ltx.keymaps import class_names, file_names
from vace.models.ltx.metadata import stated_config
from vace.weight_files import open_weights

CHECKPOINTS = sorted((goldens_dir() / "ltx").glob("ckpt_*.safetensors"))
COMPONENTS = ("transformer", "vae")
# The published VAE of 0.9.1 as diffusers' converter builds it; that of 0.9 is the class's default.
VAE_091 = {
    "decoder_block_out_channels": (256, 512, 1024),
    "decoder_layers_per_block": (5, 6, 7, 8),
    "decoder_spatio_temporal_scaling": (True, True, True),
    "decoder_inject_noise": (True, True, True, False),
    "upsample_residual": (True, True, True),
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
}


def shapes_of_class(component, config) -> dict[str, tuple[int, ...]]:
    """The class's own names and shapes, built without memory."""
    from accelerate import init_empty_weights

    from vace.models.ltx.transformer import LTXVACETransformer3DModel

    with init_empty_weights():
        if component == "transformer":
            model = LTXVACETransformer3DModel(config)
        else:
            from diffusers import AutoencoderKLLTXVideo

            model = AutoencoderKLLTXVideo(**config)
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def in_class_spelling(component, shapes):
    return {new: shapes[old] for old, new in class_names(component, shapes).items()}


def inferred(component, shapes, stated):
    return {"transformer": transformer_config, "vae": vae_config}[component](shapes, stated, component)


def published_transformer(layers=28, heads=32, head=64, context=range(14)):
    """The config of a transformer of the published kind."""
    width = heads * head
    return {
        "num_attention_heads": heads,
        "attention_head_dim": head,
        "in_channels": 128,
        "out_channels": 128,
        "num_layers": layers,
        "cross_attention_dim": width,
        "caption_channels": 4096,
        "norm_eps": 1e-6,
        "norm_elementwise_affine": False,
        "qk_norm": "rms_norm_across_heads",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "rope_theta": 10000.0,
        "rope_max_pos": [20, 2048, 2048],
        "timestep_scale_multiplier": 1000,
        "context_layers": list(context),
        "in_context_channels": 384,
    }


@pytest.mark.parity
@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_every_tensor_finds_its_place(path, component):
    """With the settings in the file, and from its tensors alone but for the head count, which they do not show."""
    shapes = open_weights((path,)).shapes
    ours = in_class_spelling(component, shapes)
    stated = stated_config(path)[component]
    config = inferred(component, ours, stated)
    assert shapes_of_class(component, config) == ours
    heads = {key: stated[key] for key in ("num_attention_heads",) if key in stated}
    assert inferred(component, ours, heads) == config


@pytest.mark.parity
@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_each_tensor_belongs_to_one_component(path):
    keys = list(open_weights((path,)).shapes)
    taken = [set(class_names(component, keys)) for component in COMPONENTS]
    assert taken[0] | taken[1] == set(keys)
    assert not taken[0] & taken[1]


@pytest.mark.parity
@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_names_come_back(path, component):
    names = class_names(component, open_weights((path,)).shapes)
    assert file_names(component, names.values()) == {new: old for old, new in names.items()}


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_a_component_alone_needs_no_prefix(path, component):
    names = class_names(component, open_weights((path,)).shapes)
    bare = {"transformer": "model.diffusion_model.", "vae": "vae."}[component]
    expected = {old.removeprefix(bare): new for old, new in names.items()}
    assert class_names(component, expected) == expected


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_classes_own_spelling_passes(component):
    config = published_transformer(2, 2, 8, [1]) if component == "transformer" else {}
    keys = list(shapes_of_class(component, config))
    assert class_names(component, keys) == {key: key for key in keys}


@pytest.mark.parametrize("options", [{}, VAE_091], ids=["0.9", "0.9.1"])
def test_the_published_vaes(options):
    """Names and shapes one to one, and the sizes found again from them, without any settings."""
    shapes = shapes_of_class("vae", options)
    in_file = {old: shapes[new] for new, old in file_names("vae", shapes).items()}
    assert all(key.startswith("vae.") and "resnets" not in key and "mid_block" not in key for key in in_file)
    assert in_class_spelling("vae", in_file) == shapes
    assert shapes_of_class("vae", vae_config(shapes, {}, "vae")) == shapes


def test_the_published_vae_has_the_counted_parameters():
    shapes = shapes_of_class("vae", {})
    halves = {
        half: sum(math.prod(shape) for key, shape in shapes.items() if key.startswith(half))
        for half in ("encoder.", "decoder.")
    }
    assert halves["encoder."] == pytest.approx(180e6, rel=3e-3)
    assert halves["decoder."] == pytest.approx(239e6, rel=3e-3)
    assert sum(halves.values()) == pytest.approx(419e6, rel=2e-3)


def test_block_numbers_of_the_published_vae():
    """The lists of block kinds that the published files state, against the numbers in the names."""
    kinds = ["res_x", "compress_all", "res_x_y", "res_x", "compress_all", "res_x_y", "res_x", "compress_all"]
    kinds += ["res_x", "res_x"]
    names = set(file_names("vae", shapes_of_class("vae", {})).values())
    first = {"res_x": "res_blocks.0.conv1.conv.weight", "res_x_y": "conv_shortcut.weight"}
    for half, blocks, order in (("encoder", "down", kinds), ("decoder", "up", kinds[::-1])):
        for number, kind in enumerate(order):
            inner = first.get(kind) or ("conv.weight" if half == "encoder" else "conv.conv.weight")
            assert f"vae.{half}.{blocks}_blocks.{number}.{inner}" in names
    assert {name for name in names if "statistics" in name} == {
        "vae.per_channel_statistics.mean-of-means",
        "vae.per_channel_statistics.std-of-means",
    }


def test_the_published_transformer_needs_no_settings():
    config = published_transformer()
    shapes = shapes_of_class("transformer", config)
    in_file = {old: shapes[new] for new, old in file_names("transformer", shapes).items()}
    assert in_class_spelling("transformer", in_file) == shapes
    assert transformer_config(shapes, {}, "file") == config
    context = [math.prod(shape) for key, shape in shapes.items() if "context" in key]
    count = sum(math.prod(shape) for shape in shapes.values())
    assert count == pytest.approx(2.927e9, rel=1e-3)
    assert count - sum(context) == pytest.approx(1.923e9, rel=1e-3)


def test_what_is_not_the_models_is_left_out():
    statistics = "vae.per_channel_statistics."
    keys = [
        "model.diffusion_model.patchify_proj.weight",
        "text_encoders.t5xxl.shared.weight",
        f"{statistics}mean-of-means",
        f"{statistics}std-of-means",
        f"{statistics}mean-of-stds",
        f"{statistics}channel",
    ]
    assert class_names("transformer", keys) == {keys[0]: "proj_in.weight"}
    assert class_names("vae", keys) == {keys[2]: "latents_mean", keys[3]: "latents_std"}


def test_unknown_names_are_left_as_they_are():
    names = class_names("vae", ["vae.encoder.down_blocks.0.attention_blocks.0.to_q.weight", "vae.quant_conv.weight"])
    assert list(names.values()) == ["encoder.down_blocks.0.attention_blocks.0.to_q.weight", "quant_conv.weight"]
    key = "model.diffusion_model.transformer_blocks.0.attn1.to_q.scale_weight"
    assert class_names("transformer", [key]) == {key: "transformer_blocks.0.attn1.to_q.scale_weight"}


def test_stages_without_residual_blocks_keep_their_places():
    """A resampling that follows another begins a stage of its own."""
    last = {"resnets": "res_blocks.0.conv1.conv.weight", "down": "conv.weight", "wider": "conv1.conv.weight"}
    kinds = ["down", "down", "wider", "resnets"]
    keys = [f"vae.encoder.down_blocks.{number}.{last[kind]}" for number, kind in enumerate(kinds)]
    assert list(class_names("vae", keys).values()) == [
        "encoder.down_blocks.0.downsamplers.0.conv.weight",
        "encoder.down_blocks.1.downsamplers.0.conv.weight",
        "encoder.down_blocks.1.conv_out.conv1.conv.weight",
        "encoder.mid_block.resnets.0.conv1.conv.weight",
    ]


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_a_file_of_vace_ltx_is_known_by_its_names(path):
    keys = list(open_weights((path,)).shapes)
    assert is_ltx(keys)
    check_is_ltx(keys, "file")


def test_a_transformer_alone_is_known_too():
    keys = list(shapes_of_class("transformer", published_transformer(2, 2, 8, [1])))
    assert is_ltx(keys)
    assert is_ltx(file_names("transformer", keys).values())
    check_is_ltx(keys, "file")


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["patchify_proj.weight"], "this is LTX-Video without VACE; get ali-vilab/VACE-LTX-Video-0.9"),
        (["patch_embedding.weight", "vace_patch_embedding.weight"], "these are weights of Wan, .*--base wan"),
        (["patch_embedding.bias"], "these are weights of Wan"),
        (["shared.weight"], "no weights of VACE-LTX-Video"),
    ],
)
def test_other_files_are_told_apart(prefix, keys, told):
    keys = [prefix + key for key in keys]
    assert not is_ltx(keys)
    with pytest.raises(CheckpointError, match=f"file: {told}"):
        check_is_ltx(keys, "file")
