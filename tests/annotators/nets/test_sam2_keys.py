"""SAM 2's own weight files under transformers' names: every published size, and files that do not fit."""

from __future__ import annotations

import pytest
import tiny_sam2
import torch

from vace.annotators.nets import loading_hf, sam2_keys
from vace.annotators.nets.sam2 import load
from vace.annotators.networks import Weights
from vace.errors import CheckpointError

# What the published configurations say of each size: heads, windows, blocks that see all.
PUBLISHED = {
    "tiny": ([1, 2, 4, 8], [8, 4, 14, 7], [5, 7, 9]),
    "small": ([1, 2, 4, 8], [8, 4, 14, 7], [7, 10, 13]),
    "base_plus": ([2, 4, 8, 16], [8, 4, 14, 7], [12, 16, 20]),
    "large": ([2, 4, 8, 16], [8, 4, 16, 8], [23, 33, 43]),
    "large 2.0": ([2, 4, 8, 16], [8, 4, 16, 8], [23, 33, 43]),
}


@pytest.fixture
def tiny_size(monkeypatch):
    key = (tiny_sam2.TINY.width, tiny_sam2.TINY.blocks)
    monkeypatch.setitem(sam2_keys.SIZES, key, sam2_keys.Size(**tiny_sam2.TINY_SIZE))


@pytest.fixture
def write(tmp_path):
    return lambda tensors, name="sam2.1_hiera_tiny.pt": tiny_sam2.write_original(tmp_path / name, tensors)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_tensor_finds_its_place(name):
    """transformers itself, at full size but without memory, takes the renamed tensors: none missing, none too many."""
    from transformers import Sam2VideoModel

    dims = tiny_sam2.PUBLISHED[name]
    shapes = tiny_sam2.original_shapes(dims)
    config = sam2_keys.config_of(shapes)
    tensors = {new: torch.empty(shapes[old], device="meta") for old, new in sam2_keys.names(shapes).items()}
    tensors["prompt_encoder.point_embed.weight"] = torch.empty(4, dims.hidden, device="meta")
    grid = shapes["sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
    tensors["shared_image_embedding.positional_embedding"] = torch.empty(grid, device="meta")
    with torch.device("meta"), loading_hf.quiet():
        wanted = {key: value.shape for key, value in Sam2VideoModel(config).state_dict().items()}
    assert {key: value.shape for key, value in tensors.items()} == wanted
    backbone = config.vision_config.backbone_config
    heads, windows, global_blocks = PUBLISHED[name]
    assert backbone.num_attention_heads_per_stage == heads
    assert backbone.window_size_per_stage == windows
    assert backbone.global_attention_blocks == global_blocks
    assert backbone.embed_dim_per_stage == [dims.width << stage for stage in range(4)]
    assert config.image_size == backbone.image_size[0] == config.prompt_encoder_config.image_size == 1024
    assert config.memory_attention_rope_feat_sizes == [64, 64] and config.num_maskmem == 7
    assert config.enable_occlusion_spatial_embedding is not dims.is_first_version
    assert config.enable_temporal_pos_encoding_for_object_pointers is not dims.is_first_version


def test_published_defaults_are_transformers_own():
    """The tiny 2.1 is what transformers' configuration describes when nothing is said."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

    with loading_hf.quiet():
        own = Sam2VideoConfig(vision_config=Sam2VisionConfig(backbone_config=Sam2HieraDetConfig())).to_dict()
        found = sam2_keys.config_of(tiny_sam2.original_shapes(tiny_sam2.PUBLISHED["tiny"])).to_dict()
    assert found == own


@pytest.mark.parametrize(
    "old, new",
    [
        ("image_encoder.trunk.blocks.3.mlp.layers.1.bias", "vision_encoder.backbone.blocks.3.mlp.proj_out.bias"),
        ("image_encoder.neck.convs.2.conv.weight", "vision_encoder.neck.convs.2.weight"),
        ("sam_mask_decoder.iou_prediction_head.layers.1.bias", "mask_decoder.iou_prediction_head.layers.0.bias"),
        ("sam_mask_decoder.output_hypernetworks_mlps.3.layers.2.bias",
         "mask_decoder.output_hypernetworks_mlps.3.proj_out.bias"),
        ("sam_mask_decoder.transformer.norm_final_attn.bias", "mask_decoder.transformer.layer_norm_final_attn.bias"),
        ("sam_mask_decoder.output_upscaling.3.bias", "mask_decoder.upscale_conv2.bias"),
        ("sam_prompt_encoder.mask_downscaling.6.bias", "prompt_encoder.mask_embed.conv3.bias"),
        ("memory_attention.layers.1.cross_attn_image.out_proj.bias",
         "memory_attention.layers.1.cross_attn_image.o_proj.bias"),
        ("memory_encoder.out_proj.bias", "memory_encoder.projection.bias"),
        ("memory_encoder.fuser.layers.0.gamma", "memory_encoder.memory_fuser.layers.0.scale"),
        ("obj_ptr_proj.layers.0.weight", "object_pointer_proj.proj_in.weight"),
        ("no_obj_ptr", "no_object_pointer"),
    ],
)  # fmt: skip
def test_renamed(old, new):
    assert sam2_keys.renamed(old) == new


def test_downsampler_ends_in_a_convolution_of_its_own():
    names = sam2_keys.names(tiny_sam2.original_shapes(tiny_sam2.TINY))
    start = "memory_encoder.mask_downsampler."
    assert names[start + "encoder.6.weight"] == start + "layers.2.conv.weight"
    assert names[start + "encoder.7.weight"] == start + "layers.2.layer_norm.weight"
    assert names[start + "encoder.12.bias"] == start + "final_conv.bias"


def test_tensors_keep_their_values(tiny_size, write):
    tensors = tiny_sam2.drawn_tensors()
    config, found = sam2_keys.read(write(tensors))
    assert config.image_size == 64
    assert torch.equal(found["vision_encoder.neck.convs.0.bias"], tensors["image_encoder.neck.convs.0.conv.bias"])
    points = [tensors[f"sam_prompt_encoder.point_embeddings.{i}.weight"] for i in range(4)]
    assert torch.equal(found["prompt_encoder.point_embed.weight"], torch.cat(points))
    grid = tensors["sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
    assert torch.equal(found["prompt_encoder.shared_embedding.positional_embedding"], grid)
    assert torch.equal(found["shared_image_embedding.positional_embedding"], grid)
    assert len(found) == len(tensors) - 3 + 1  # four points in one, the grid twice


def test_half_precision_files_come_as_float32(tiny_size, write):
    _, found = sam2_keys.read(write({name: value.half() for name, value in tiny_sam2.drawn_tensors().items()}))
    assert {value.dtype for value in found.values()} == {torch.float32}


def _without(name):
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (_without("memory_attention.norm.bias"), r"1 missing: memory_attention\.layer_norm\.bias"),
        (_without("maskmem_tpos_enc"), "maskmem_tpos_enc is missing"),
        (_without("image_encoder.trunk.pos_embed"), "pos_embed is missing"),
        (_without("sam_prompt_encoder.point_embeddings.2.weight"), r"missing: .*point_embeddings\.2\.weight"),
        (lambda tensors: tensors.update({"obj_ptr_proj.layers.9.bias": torch.zeros(3)}),
         "1 unknown: object_pointer_proj.9.bias"),
        (lambda tensors: tensors.update({"mask_downsample.bias": torch.zeros(7)}), r"mask_downsample\.bias \(7,\)"),
        (lambda tensors: tensors.update({"sam_prompt_encoder.point_embeddings.1.weight": torch.zeros(1, 5)}),
         "point embeddings differ in shape"),
        (lambda tensors: tensors.update({"trainer.step": torch.zeros(3)}), "1 unknown: trainer.step"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(tiny_size, write, spoil, message):
    tensors = tiny_sam2.drawn_tensors()
    spoil(tensors)
    path = write(tensors)
    with pytest.raises(CheckpointError, match=message) as told:
        load(Weights("original", (path,)))
    assert path.name in str(told.value)


def test_unknown_size_names_the_known_ones(write):
    path = write(tiny_sam2.drawn_tensors(dims=tiny_sam2.SMALLER))
    with pytest.raises(CheckpointError, match=r"width 8 with \(1, 1, 1, 1\).*144, \(2, 6, 36, 4\)"):
        sam2_keys.read(path)


def test_another_networks_file_is_refused(write):
    with pytest.raises(CheckpointError, match="not the weights of SAM 2"):
        sam2_keys.read(write({"conv.weight": torch.zeros(3, 3)}))
