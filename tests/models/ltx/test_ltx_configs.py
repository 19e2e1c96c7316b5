"""Sizes of a VACE-LTX file: read off its tensors, checked against its metadata, every contradiction told."""

from __future__ import annotations

import copy
import json

import pytest
from goldens_io import goldens_dir

from vace.errors import CheckpointError
from vace.models.ltx.configs import scheduler_config, transformer_config, vae_config
from vace.models.ltx.keymaps import class_names
from vace.models.ltx.metadata import read_metadata, stated_config
from vace.weight_files import open_weights

CHECKPOINTS = sorted((goldens_dir() / "ltx").glob("ckpt_*.safetensors"))
each_checkpoint = pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
# A transformer of ours, small and with a gap in its context layers, as its file would state it.
STATED = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 128,
    "out_channels": 128,
    "num_layers": 4,
    "cross_attention_dim": 32,
    "caption_channels": 24,
    "attention_bias": True,
    "qk_norm": "rms_norm",
    "context_num_layers": [0, 2],
    "in_context_channels": 384,
}
# And a VAE of the kind of 0.9.
STATED_VAE = {
    "latent_channels": 128,
    "patch_size": 4,
    "norm_layer": "pixel_norm",
    "blocks": [
        ["res_x", 2],
        ["compress_all", 1],
        ["res_x_y", 1],
        ["res_x", 1],
        ["compress_all", 1],
        ["res_x", 3],
    ],
}


def linear(name, out, into):
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def transformer(context=(0, 2), layers=4, width=32):
    """Shapes of a transformer under the class's spelling: those that tell its sizes."""
    shapes = linear("proj_in", width, 128) | linear("proj_out", 128, width) | {"scale_shift_table": (2, width)}
    shapes |= linear("caption_projection.linear_1", width, 24) | linear("patchify_context_proj", width, 384)
    for layer in range(layers):
        for attention in ("attn1", "attn2"):
            shapes |= linear(f"transformer_blocks.{layer}.{attention}.to_q", width, width)
            shapes |= linear(f"transformer_blocks.{layer}.{attention}.to_k", width, width)
    for layer in context:
        shapes |= linear(f"transformer_context_blocks.{layer}.after_proj", width, width)
    return shapes


def vae():
    """Shapes of the VAE that STATED_VAE speaks of, under the class's spelling."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKLLTXVideo

    with init_empty_weights():
        model = AutoencoderKLLTXVideo(
            block_out_channels=(4, 8),
            decoder_block_out_channels=(8, 16),
            down_block_types=("LTXVideoDownBlock3D",) * 2,
            layers_per_block=(2, 1, 3),
            decoder_layers_per_block=(2, 1, 3),
            spatio_temporal_scaling=(True, True),
            decoder_spatio_temporal_scaling=(True, True),
            decoder_inject_noise=(False,) * 3,
            upsample_residual=(False, False),
            upsample_factor=(1, 1),
        )
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def opened(path, component):
    """(shapes under the class's spelling, stated settings) of one component."""
    shapes = open_weights((path,)).shapes
    names = class_names(component, shapes)
    return {new: shapes[old] for old, new in names.items()}, copy.deepcopy(stated_config(path)[component])


def written(path, config):
    """A safetensors file of one small tensor with `config` as its metadata, None for no metadata."""
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, path, metadata=None if config is None else {"config": config})
    return path


@each_checkpoint
def test_settings_of_the_transformer(path):
    shapes, stated = opened(path, "transformer")
    config = transformer_config(shapes, stated, "file")
    same = (
        "num_attention_heads attention_head_dim in_channels out_channels num_layers cross_attention_dim "
        "caption_channels norm_eps norm_elementwise_affine activation_fn attention_bias timestep_scale_multiplier "
        "in_context_channels"
    ).split()
    assert {key: config[key] for key in same} == {key: stated[key] for key in same}
    assert config["rope_theta"] == stated["positional_embedding_theta"]
    assert config["rope_max_pos"] == stated["positional_embedding_max_pos"]
    assert config["qk_norm"] == "rms_norm_across_heads"
    layers = stated["context_num_layers"]
    assert config["context_layers"] == (list(range(layers)) if isinstance(layers, int) else layers)


def test_what_the_file_states_is_kept_and_goes_through_json():
    stated = {"norm_eps": 1e-5, "positional_embedding_theta": 500.0, "positional_embedding_max_pos": [10, 64, 64]}
    config = transformer_config(transformer(), {**STATED, **stated}, "file")
    assert (config["norm_eps"], config["rope_theta"], config["rope_max_pos"]) == (1e-5, 500.0, [10, 64, 64])
    assert json.loads(json.dumps(config)) == config


def test_a_number_of_context_layers_means_the_first_ones():
    shapes = transformer(context=(0, 1, 2))
    assert transformer_config(shapes, {**STATED, "context_num_layers": 3}, "file")["context_layers"] == [0, 1, 2]
    with pytest.raises(CheckpointError, match=r"context_layers \[0, 1\] and \[0, 1, 2\]"):
        transformer_config(shapes, {**STATED, "context_num_layers": 2}, "file")


def test_context_layers_left_open_are_those_with_tensors():
    stated = {key: value for key, value in STATED.items() if key != "context_num_layers"}
    assert transformer_config(transformer(context=(3, 1)), stated, "file")["context_layers"] == [1, 3]


def test_the_published_size_has_its_heads():
    shapes = transformer(layers=28, width=2048)
    config = transformer_config(shapes, {}, "file")
    assert (config["num_attention_heads"], config["attention_head_dim"]) == (32, 64)


def test_heads_that_nothing_tells_are_asked_for():
    shapes, stated = transformer(), dict(STATED)
    del stated["num_attention_heads"]
    with pytest.raises(CheckpointError, match="num_attention_heads cannot be told .*--config FILE"):
        transformer_config(shapes, stated, "file")
    with pytest.raises(CheckpointError, match="file: a width of 32 does not divide into 3 heads"):
        transformer_config(shapes, {"num_attention_heads": 3}, "file")
    with pytest.raises(CheckpointError, match="a width of 32 does not divide into 4 heads of 16"):
        transformer_config(shapes, {"num_attention_heads": 4, "attention_head_dim": 16}, "file")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("num_layers", 28, "num_layers 28 and 4"),
        ("in_channels", 16, "in_channels 16 and 128"),
        ("in_context_channels", 96, "in_context_channels 96 and 384"),
        ("caption_channels", 4096, "caption_channels 4096 and 24"),
        ("context_num_layers", [0, 1], r"context_layers \[0, 1\] and \[0, 2\]"),
        ("context_num_layers", "two", r"context_layers 'two' and \[0, 2\]"),
        ("attention_bias", False, "attention_bias False and True"),
    ],
)
def test_settings_that_contradict_the_tensors(key, value, told):
    shapes, stated = transformer(), dict(STATED)
    with pytest.raises(CheckpointError, match=f"file: its metadata and its tensors disagree: {told}"):
        transformer_config(shapes, {**stated, key: value}, "file")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("qk_norm", "layer_norm"),
        ("positional_embedding_type", "absolute"),
        ("causal_temporal_positioning", True),
        ("adaptive_norm", "none"),
    ],
)
def test_another_kind_of_transformer(key, value):
    shapes, stated = transformer(), dict(STATED)
    with pytest.raises(CheckpointError, match=f"file: its {key} is {value!r}, where VACE-LTX has"):
        transformer_config(shapes, {**stated, key: value}, "file")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", "2"),
        ("norm_eps", -1.0),
        ("positional_embedding_theta", "10000"),
        ("positional_embedding_max_pos", [20, 2048]),
        ("timestep_scale_multiplier", 0),
    ],
)
def test_settings_that_make_no_sense(key, value):
    shapes, stated = transformer(), dict(STATED)
    with pytest.raises(CheckpointError, match="file: its settings make no sense: "):
        transformer_config(shapes, {**stated, key: value}, "file")


def test_context_blocks_must_fit_the_layers():
    shapes, stated = transformer(), dict(STATED)
    del stated["context_num_layers"]
    beyond = {**shapes, "transformer_context_blocks.9.after_proj.bias": (32,)}
    with pytest.raises(CheckpointError, match=r"context blocks \[0, 2, 9\] do not fit 4 layers"):
        transformer_config(beyond, stated, "file")
    without = {key: shape for key, shape in shapes.items() if "context_blocks" not in key}
    with pytest.raises(CheckpointError, match=r"context blocks \[\] do not fit 4 layers"):
        transformer_config(without, stated, "file")


def test_a_transformer_without_its_first_tensor():
    shapes, stated = transformer(), dict(STATED)
    del shapes["proj_in.weight"]
    with pytest.raises(CheckpointError, match="file: not a VACE-LTX transformer .no usable 'proj_in.weight'"):
        transformer_config(shapes, stated, "file")


@each_checkpoint
def test_settings_of_the_vae(path):
    shapes, stated = opened(path, "vae")
    config = vae_config(shapes, stated, "file")
    same = ("in_channels", "out_channels", "latent_channels", "patch_size")
    assert {key: config[key] for key in same} == {key: stated[key] for key in same}
    assert config["timestep_conditioning"] == bool(stated.get("timestep_conditioning"))
    assert config["decoder_causal"] == stated["causal_decoder"]

    def listed(half):
        return stated.get(f"{half}_blocks") or stated["blocks"]

    def layers(half):
        settings = [inner for kind, inner in listed(half) if kind == "res_x"]
        return [inner if isinstance(inner, int) else inner["num_layers"] for inner in settings]

    assert config["layers_per_block"] == layers("encoder")
    assert config["decoder_layers_per_block"] == layers("decoder")
    resampled = [inner for kind, inner in listed("decoder") if kind == "compress_all"]
    factors = [inner.get("multiplier", 1) if isinstance(inner, dict) else 1 for inner in resampled]
    residual = [bool(inner.get("residual")) if isinstance(inner, dict) else False for inner in resampled]
    scaled = [place for place, scales in enumerate(config["decoder_spatio_temporal_scaling"]) if scales]
    assert [config["upsample_factor"][place] for place in scaled] == factors
    assert [config["upsample_residual"][place] for place in scaled] == residual
    blocks = [inner for kind, inner in listed("decoder") if kind == "res_x"]
    noise = [isinstance(inner, dict) and inner.get("inject_noise", False) for inner in blocks]
    assert config["decoder_inject_noise"] == noise


def test_a_stated_way_around_the_upsampling_is_kept():
    """No tensor shows it, so the settings decide; without them it goes with the narrowing, as published."""
    shapes, stated = vae(), copy.deepcopy(STATED_VAE)
    side = "decoder_blocks"
    blocks = [
        [kind, {"residual": True, "multiplier": 1} if kind == "compress_all" else inner]
        for kind, inner in stated["blocks"]
    ]
    config = vae_config(shapes, {**stated, side: blocks}, "file")
    assert config["upsample_residual"] == config["decoder_spatio_temporal_scaling"]
    assert not any(vae_config(shapes, {}, "file")["upsample_residual"])


@pytest.mark.parametrize(
    ("place", "block", "told"),
    [
        (0, ["res_x", 3], "block 0 of the VAE's encoder res_x {'num_layers': 3} and res_x {'num_layers': 2};"),
        (1, ["compress_time", 1], "block 1 of the VAE's encoder compress_time {} and compress_all {};"),
        (2, ["res_x_y", {"multiplier": 4}], "block 2 of .* res_x_y {'multiplier': 4} and res_x_y {'multiplier': 2};"),
        (6, ["res_x", 1], "blocks of the VAE's encoder 7 and 6;"),
    ],
)
def test_blocks_that_contradict_the_tensors(place, block, told):
    blocks = copy.deepcopy(STATED_VAE["blocks"])
    blocks[place : place + 1] = [block]
    with pytest.raises(CheckpointError, match=f"file: its metadata and its tensors disagree: {told}"):
        vae_config(vae(), {**STATED_VAE, "blocks": blocks}, "file")


@pytest.mark.parametrize(
    ("key", "value"), [("latent_channels", 64), ("patch_size", 8), ("timestep_conditioning", True)]
)
def test_a_vae_that_contradicts_its_tensors(key, value):
    with pytest.raises(CheckpointError, match=f"its tensors disagree: {key} {value} and (128|4|False);"):
        vae_config(vae(), {**STATED_VAE, key: value}, "file")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"norm_layer": "group_norm"}, "its norm_layer is 'group_norm', where VACE-LTX has 'pixel_norm'"),
        ({"use_quant_conv": True}, "its use_quant_conv is True"),
        ({"latent_log_var": "per_channel"}, "its latent_log_var is 'per_channel'"),
        ({"blocks": "res_x"}, "lists 'r' among the VAE's blocks"),
        ({"blocks": 3}, "lists None among the VAE's blocks"),
        ({"blocks": [["res_x", "four"]]}, r"lists \['res_x', 'four'\] among the VAE's blocks"),
        ({"in_channels": "three"}, "not an LTX VAE of kind 0.9 or 0.9.1"),
        ({"in_channels": 0}, "not an LTX VAE of kind 0.9 or 0.9.1"),
    ],
)
def test_another_kind_of_vae(settings, told):
    shapes, stated = vae(), copy.deepcopy(STATED_VAE)
    with pytest.raises(CheckpointError, match=f"file: .*{told}"):
        vae_config(shapes, {**stated, **settings}, "file")


def test_vaes_whose_tensors_are_of_another_kind():
    shapes = vae()
    with pytest.raises(CheckpointError, match=r"not an LTX VAE .*no usable 'encoder\.conv_in"):
        vae_config({}, {}, "file")
    newer = {**shapes, "encoder.down_blocks.0.downsamplers.0.conv.conv.weight": (4, 4, 3, 3, 3)}
    with pytest.raises(CheckpointError, match="file: a VAE of LTX-Video 0.9.5 or later"):
        vae_config(newer, {}, "file")
    width = shapes["encoder.conv_out.conv.weight"][1:]
    with pytest.raises(CheckpointError, match="gives 256 channels for 128 latent ones"):
        vae_config({**shapes, "encoder.conv_out.conv.weight": (256, *width)}, {}, "file")
    last = {**shapes, "encoder.down_blocks.1.conv_out.conv1.conv.weight": (16, 8, 3, 3, 3)}
    with pytest.raises(CheckpointError, match="no usable last stage in its encoder"):
        vae_config(last, {}, "file")
    headless = {key: shape for key, shape in shapes.items() if not key.startswith("decoder.up_blocks.")}
    with pytest.raises(CheckpointError, match="no usable stage in its decoder"):
        vae_config(headless, {}, "file")


@each_checkpoint
def test_settings_of_the_scheduler(path):
    stated = stated_config(path)["scheduler"]
    config = scheduler_config(stated)
    assert config == {key: stated[key] for key in ("num_train_timesteps", "shifting", "target_shift_terminal")}


def test_a_scheduler_left_open_is_the_originals():
    assert scheduler_config({}) == {"num_train_timesteps": 1000, "shifting": "SD3", "target_shift_terminal": 0.1}
    assert scheduler_config({"target_shift_terminal": None})["target_shift_terminal"] is None


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"shifting": "SimpleDiffusion"}, "shifts by 'SimpleDiffusion'"),
        ({"shifting": None}, "shifts by None"),
        ({"target_shift_terminal": 1.0}, "make no sense"),
        ({"target_shift_terminal": "0.1"}, "make no sense"),
        ({"num_train_timesteps": 0}, "make no sense"),
        ({"num_train_timesteps": True}, "make no sense"),
    ],
)
def test_schedulers_that_do_not_serve(stated, told):
    with pytest.raises(CheckpointError, match=f"file: its scheduler.*{told}"):
        scheduler_config(stated, "file")


def test_a_file_without_metadata_states_nothing(tmp_path):
    assert stated_config(written(tmp_path / "a.safetensors", None)) == {}
    assert read_metadata(tmp_path / "a.safetensors") == {}


def test_only_the_known_parts_are_read(tmp_path):
    config = {"vae": {"patch_size": 4}, "scheduler": {}, "_class_name": "Pipeline"}
    assert stated_config(written(tmp_path / "a.safetensors", json.dumps(config))) == {
        "vae": {"patch_size": 4},
        "scheduler": {},
    }


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ('{"vae": {', "not readable JSON"),
        ("", "not readable JSON"),
        ("[1, 2]", "no JSON object"),
        ('"transformer"', "no JSON object"),
        ('{"transformer": 28}', "no JSON object"),
        ('{"vae": null}', "no JSON object"),
    ],
)
def test_damaged_settings_are_told(tmp_path, config, told):
    path = written(tmp_path / "a.safetensors", config)
    with pytest.raises(CheckpointError, match=f"{path.name}: the settings in its metadata are .*{told}"):
        stated_config(path)


def test_damaged_files_are_told(tmp_path):
    path = written(tmp_path / "a.safetensors", "{}")
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(CheckpointError, match="truncated"):
        stated_config(path)
    path.write_bytes(whole.replace(b'"__metadata__":{"config":"{}"}', b'"__metadata__":["config","{}"]'))
    with pytest.raises(CheckpointError, match="its metadata is no JSON object"):
        stated_config(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        stated_config(tmp_path / "absent.safetensors")
