"""Grounding DINO's own weight files under transformers' names: every published tensor, and files that do not fit."""

from __future__ import annotations

import pytest
import tiny_grounding_dino as tiny
import torch

from vace.annotators.nets import grounding_dino_keys as keys
from vace.annotators.nets import loading_hf
from vace.annotators.nets.grounding_dino import load
from vace.annotators.networks import Weights
from vace.errors import CheckpointError, MissingWeights

BACKBONE = "model.backbone.conv_encoder.model."


def config(dims: tiny.Dims):
    from transformers import BertConfig

    return keys.config_of(tiny.original_shapes(dims), BertConfig(**tiny.text_config(dims)))


@pytest.mark.parametrize("name", tiny.PUBLISHED)
def test_every_published_tensor_finds_its_place(name):
    """transformers' own loader, at full size but without memory, takes the renamed tensors, each of them, no other."""
    from transformers import GroundingDinoForObjectDetection

    dims = tiny.PUBLISHED[name]
    tensors = {}
    for old, shape in tiny.original_shapes(dims).items():
        targets = keys.renamed(old)
        for target in targets:
            assert target not in tensors, (old, target)
            tensors[target] = torch.empty(shape[0] // len(targets), *shape[1:], device="meta")
    with loading_hf.quiet():
        _, report = GroundingDinoForObjectDetection.from_pretrained(
            None, config=config(dims), state_dict=tensors, device_map="meta", output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    assert report == {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set(), "error_msgs": []}


def test_config_of_the_published_is_transformers_own():
    from transformers import GroundingDinoConfig

    with loading_hf.quiet():
        own = GroundingDinoConfig().to_dict()
    found = config(tiny.PUBLISHED["swint_ogc"]).to_dict()
    for name in ("model_type", "num_attention_heads"):
        assert found["text_config"][name] == own["text_config"][name]
    assert found == own


def test_config_of_the_larger_one():
    found = config(tiny.PUBLISHED["swinb_cogcoor"]).backbone_config
    assert (found.embed_dim, found.window_size, found.depths) == (128, 12, [2, 2, 18, 2])
    assert found.num_heads == [4, 8, 16, 32] and found.out_features == ["stage2", "stage3", "stage4"]


@pytest.mark.parametrize(
    "old, new",
    [
        ("backbone.0.patch_embed.norm.bias", BACKBONE + "embeddings.norm.bias"),
        ("backbone.0.norm2.weight", BACKBONE + "hidden_states_norms.stage3.weight"),
        ("backbone.0.layers.1.downsample.reduction.weight", BACKBONE + "encoder.layers.1.downsample.reduction.weight"),
        ("backbone.0.layers.2.blocks.5.attn.proj.bias",
         BACKBONE + "encoder.layers.2.blocks.5.attention.output.dense.bias"),
        ("bert.encoder.layer.3.output.LayerNorm.bias", "model.text_backbone.encoder.layer.3.output.LayerNorm.bias"),
        ("transformer.encoder.fusion_layers.4.gamma_l", "model.encoder.layers.4.fusion_layer.text_param"),
        ("transformer.encoder.fusion_layers.4.attn.values_v_proj.bias",
         "model.encoder.layers.4.fusion_layer.attn.values_vision_proj.bias"),
        ("transformer.encoder.text_layers.0.norm1.bias",
         "model.encoder.layers.0.text_enhancer_layer.layer_norm_before.bias"),
        ("transformer.encoder.layers.0.norm2.bias", "model.encoder.layers.0.deformable_layer.final_layer_norm.bias"),
        ("transformer.decoder.layers.5.norm2.bias", "model.decoder.layers.5.self_attn_layer_norm.bias"),
        ("transformer.decoder.layers.5.catext_norm.bias", "model.decoder.layers.5.encoder_attn_text_layer_norm.bias"),
        ("transformer.enc_output_norm.bias", "model.enc_output_norm.bias"),
        ("bbox_embed.3.layers.1.bias", "bbox_embed.3.layers.1.bias"),
    ],
)  # fmt: skip
def test_renamed(old, new):
    assert keys.renamed(old) == (new,)


def test_queries_keys_and_values_are_thirds():
    found = keys.renamed("transformer.decoder.layers.2.ca_text.in_proj_weight")
    start = "model.decoder.layers.2.encoder_attn_text."
    assert found == (start + "query.weight", start + "key.weight", start + "value.weight")
    found = keys.renamed("backbone.0.layers.0.blocks.1.attn.qkv.bias")
    assert found[1] == BACKBONE + "encoder.layers.0.blocks.1.attention.self.key.bias"


@pytest.mark.parametrize("name", ["label_enc.weight", "bert.pooler.dense.bias", "bert.embeddings.position_ids",
                                  "backbone.0.layers.0.blocks.0.attn.relative_position_index"])  # fmt: skip
def test_what_nothing_reads_is_left_out(name):
    assert keys.renamed(name) == ()


@pytest.fixture
def write(tmp_path):
    return lambda tensors: tiny.write_original(tmp_path / "gdino" / "groundingdino_swint_ogc.pth", tensors)


def test_tensors_keep_their_values(write):
    from transformers import BertConfig

    tensors = tiny.drawn_tensors()
    _, found = keys.read(write(tensors), BertConfig(**tiny.text_config(tiny.TINY)))
    start = "model.encoder.layers.1.text_enhancer_layer.self_attn."
    thirds = [found[f"{start}{part}.weight"] for part in ("query", "key", "value")]
    assert torch.equal(torch.cat(thirds), tensors["transformer.encoder.text_layers.1.self_attn.in_proj_weight"])
    assert torch.equal(found["model.query_position_embeddings.weight"], tensors["transformer.tgt_embed.weight"])


def _without(name):
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (_without("feat_map.bias"), r"1 missing: model\.text_projection\.bias"),
        (_without("transformer.level_embed"), r"transformer\.level_embed is missing"),
        (lambda tensors: tensors.update({"queue.weight": torch.zeros(3)}), r"1 unknown: queue\.weight"),
        (
            lambda tensors: tensors.update({"feat_map.bias": torch.zeros(7)}),
            r"text_projection\.bias \(7,\), not \(32,\)",
        ),
        (lambda tensors: tensors.update({"bert.embeddings.LayerNorm.bias": torch.zeros(5)}), r"LayerNorm\.bias \(5,\)"),
    ],
)
def test_files_that_do_not_fit_are_refused(write, spoil, message):
    tensors = tiny.drawn_tensors()
    spoil(tensors)
    path = write(tensors)
    with pytest.raises(CheckpointError, match=message) as told:
        load(Weights("original", (path,)))
    assert path.name in str(told.value)


def test_another_networks_file_is_refused(write):
    with pytest.raises(CheckpointError, match="not the weights of Grounding DINO"):
        load(Weights("original", (write({"conv.weight": torch.zeros(3, 3)}),)))


@pytest.mark.parametrize("absent", ["config.json", "vocab.txt"])
def test_the_text_encoder_beside_it_is_needed(write, absent):
    path = write(tiny.drawn_tensors())
    (path.parent / "bert-base-uncased" / absent).unlink()
    with pytest.raises(MissingWeights, match=r"bert-base-uncased: config\.json and tokenizer\.json .*google-bert"):
        load(Weights("original", (path,)))


def test_a_damaged_text_encoder_is_told(write):
    path = write(tiny.drawn_tensors())
    (path.parent / "bert-base-uncased" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="bert-base-uncased: cannot be read"):
        load(Weights("original", (path,)))
