"""Sizes read off names and shapes: the published models, and what no shape can tell."""

from __future__ import annotations

import pytest
from goldens_io import model_document

from vace.errors import CheckpointError
from vace.models.configs import text_config, transformer_config, vae_config
from vace.models.keymaps import class_names

SIZES = {
    "1.3B": {"width": 1536, "ffn": 8960, "heads": 12, "layers": 30, "context": list(range(0, 30, 2))},
    "14B": {"width": 5120, "ffn": 13824, "heads": 40, "layers": 40, "context": list(range(0, 40, 5))},
}
PARAMETERS = {"1.3B": 2.154e9, "14B": 17.338e9}  # counted on the published models


def published_shapes(width, ffn, heads, layers, context) -> dict[str, tuple[int, ...]]:
    """The original's names and shapes at that size."""

    def linear(name, out, into):
        return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}

    block = {"modulation": (1, 6, width), "norm3.weight": (width,), "norm3.bias": (width,)}
    for attention in ("self_attn", "cross_attn"):
        for name in "qkvo":
            block |= linear(f"{attention}.{name}", width, width)
        block |= {f"{attention}.norm_{name}.weight": (width,) for name in "qk"}
    block |= linear("ffn.0", ffn, width) | linear("ffn.2", width, ffn)

    shapes = {"head.modulation": (1, 2, width)} | linear("head.head", 64, width)
    for name, channels in (("patch_embedding", 16), ("vace_patch_embedding", 96)):
        shapes |= {f"{name}.weight": (width, channels, 1, 2, 2), f"{name}.bias": (width,)}
    shapes |= linear("text_embedding.0", width, 4096) | linear("text_embedding.2", width, width)
    shapes |= linear("time_embedding.0", width, 256) | linear("time_embedding.2", width, width)
    shapes |= linear("time_projection.1", 6 * width, width) | linear("vace_blocks.0.before_proj", width, width)
    for kind, count in (("blocks", layers), ("vace_blocks", len(context))):
        shapes |= {f"{kind}.{i}.{name}": shape for i in range(count) for name, shape in block.items()}
    for i in range(len(context)):
        shapes |= linear(f"vace_blocks.{i}.after_proj", width, width)
    return shapes


def in_class_spelling(component, shapes):
    return {new: shapes[old] for old, new in class_names(component, shapes).items()}


@pytest.mark.parametrize("size", SIZES)
def test_published_transformers_need_no_json(size):
    facts = SIZES[size]
    config = transformer_config(in_class_spelling("transformer", published_shapes(**facts)), {}, size)
    assert config["num_attention_heads"] == facts["heads"]
    assert config["attention_head_dim"] == 128
    assert config["vace_layers"] == facts["context"]
    assert (config["ffn_dim"], config["num_layers"]) == (facts["ffn"], facts["layers"])
    assert (config["text_dim"], config["freq_dim"], config["text_len"]) == (4096, 256, 512)
    assert (config["in_channels"], config["out_channels"], config["vace_in_channels"]) == (16, 16, 96)


@pytest.mark.parametrize("size", SIZES)
def test_published_key_sets_are_the_classes(size):
    """Names and shapes, one to one, against diffusers' class built at that size without memory."""
    import math

    from accelerate import init_empty_weights
    from diffusers import WanVACETransformer3DModel

    shapes = in_class_spelling("transformer", published_shapes(**SIZES[size]))
    config = transformer_config(shapes, {}, size)
    config.pop("text_len")
    config["patch_size"] = tuple(config["patch_size"])
    with init_empty_weights():
        model = WanVACETransformer3DModel(**config)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == shapes
    assert sum(math.prod(shape) for shape in shapes.values()) == pytest.approx(PARAMETERS[size], rel=1e-3)


def test_the_originals_config_spelling():
    document = model_document("wan", "transformer_tiny")
    shapes = in_class_spelling("transformer", {key: tuple(shape) for key, shape in document["weights_keys"].items()})
    stated = document["config"]
    config = transformer_config(shapes, stated, "golden")
    assert config["num_attention_heads"] == stated["num_heads"]
    assert config["attention_head_dim"] == stated["dim"] // stated["num_heads"]
    assert config["vace_layers"] == stated["vace_layers"]
    assert config["text_len"] == stated["text_len"]


def test_context_layers_left_open_are_every_second():
    """The original's class puts context on every second layer when config.json has null."""
    document = model_document("wan", "transformer_tiny")
    shapes = in_class_spelling("transformer", {key: tuple(shape) for key, shape in document["weights_keys"].items()})
    stated = {**document["config"], "vace_layers": None}
    assert transformer_config(shapes, stated, "golden")["vace_layers"] == list(range(0, stated["num_layers"], 2))


@pytest.mark.parametrize("left_out", ["num_heads", "vace_layers", "text_len"])
def test_what_shapes_cannot_tell_is_asked_for(left_out):
    document = model_document("wan", "transformer_tiny")
    shapes = in_class_spelling("transformer", {key: tuple(shape) for key, shape in document["weights_keys"].items()})
    stated = {key: value for key, value in document["config"].items() if key != left_out}
    with pytest.raises(CheckpointError, match="cannot be told from the tensors.*--config FILE"):
        transformer_config(shapes, stated, "golden")


def test_the_vae_from_its_shapes():
    document = model_document("wan", "vae_tiny")
    shapes = in_class_spelling("vae", {key: tuple(shape) for key, shape in document["weights_keys"].items()})
    config, stated = vae_config(shapes, {}, "vae"), document["config"]
    assert config["base_dim"] == config["decoder_base_dim"] == stated["dim"]
    for key in ("z_dim", "dim_mult", "num_res_blocks", "temperal_downsample"):
        assert config[key] == stated[key]


def test_a_vae_of_other_latents_must_state_its_statistics():
    document = model_document("wan", "vae_tiny")
    shapes = in_class_spelling("vae", {key: tuple(shape) for key, shape in document["weights_keys"].items()})
    shapes["post_quant_conv.weight"] = (48, 48, 1, 1, 1)
    with pytest.raises(CheckpointError, match="48 latent channels without latents_mean"):
        vae_config(shapes, {}, "vae")
    with pytest.raises(CheckpointError, match="a Wan2.2 VAE"):
        vae_config(shapes, {"is_residual": True}, "vae")


def test_the_text_encoder_from_its_shapes():
    document = model_document("wan", "t5_tiny")
    shapes = in_class_spelling("text_encoder", {key: tuple(shape) for key, shape in document["weights_keys"].items()})
    config, stated = text_config(shapes, {}, "t5"), document["config"]
    assert (config["vocab_size"], config["d_model"]) == (stated["vocab"], stated["dim"])
    assert config["d_ff"] == stated["dim_ffn"]
    assert (config["num_heads"], config["num_layers"]) == (stated["num_heads"], stated["num_layers"])
    assert config["d_kv"] == stated["dim_attn"] // stated["num_heads"]
    assert config["relative_attention_num_buckets"] == stated["num_buckets"]


def test_unknown_names_are_left_as_they_are():
    keys = ["blocks.0.self_attn.q.weight", "blocks.0.self_attn.q.scale_weight", "img_emb.proj.0.weight"]
    assert class_names("transformer", keys) == {
        keys[0]: "blocks.0.attn1.to_q.weight",
        keys[1]: "blocks.0.attn1.q.scale_weight",
        keys[2]: "img_emb.proj.0.weight",
    }
