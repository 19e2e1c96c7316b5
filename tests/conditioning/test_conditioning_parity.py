"""Sizes, frame ids, resizing, letterboxing, mask channels and contexts against the original's numbers."""

import numpy as np
import pytest
import torch
from goldens_io import annotator_document, annotator_pack, equal_within, model_document, model_tensors
from parity_fixes import FIXES

from vace.conditioning.context import empty_source, encode_context, fold_mask, trim_refs
from vace.conditioning.frames import constant_timestamps, opening_ids, uniform_fps, uniform_ids
from vace.conditioning.pixels import letterbox, mask_to_unit, resize_crop, resize_crop_mask, to_model_space
from vace.conditioning.sizes import Size, fit_area, source_frames

pytestmark = pytest.mark.parity


def levels(video: torch.Tensor | np.ndarray) -> np.ndarray:
    """uint8 values of a model-space array."""
    return np.round((np.asarray(video, dtype=np.float64) + 1) * 127.5).astype(np.uint8)


def test_the_table_of_sizes_and_frame_ids():
    document = annotator_document("video_processor_table")
    compared = 0
    for row in document["rows"]:
        if "raises" in row:
            continue
        stride, area, tokens, max_fps = document["profiles"][row["profile"]]
        stride = tuple(stride)
        size = fit_area(row["w"], row["h"], area, stride)
        assert equal_within("sizes of source videos", size, (row["out_w"], row["out_h"])), row
        stamps = constant_timestamps(row["n"], row["fps"])
        limit = source_frames(row["w"], row["h"], Size(area, 1, tokens), stride)
        if row["keep_last"]:
            ids = uniform_ids(stamps, limit, stride[0])
            assert uniform_fps(stamps, len(ids)) == row["target_fps"]
        else:
            ids = opening_ids(stamps, row["fps"], max_fps, limit, stride[0])
        assert equal_within("frame ids", ids, row["frame_ids"]), row
        compared += 1
    assert compared > 0


def test_frame_sampling():
    cases = model_document("wan", "preprocess_units")["frame_sampling"]
    for case in cases:
        stamps = constant_timestamps(case["n_frames"], case["fps"])
        limit = source_frames(case["w"], case["h"], Size(case["max_area"], 1, case["seq_len"]))
        uniform = case["_get_frameid_bbox_adjust_last"]
        assert uniform_ids(stamps, limit) == uniform["frame_ids"]
        assert uniform_fps(stamps, uniform["n"]) == uniform["target_fps"]
        opening = case["_get_frameid_bbox_default"]
        if "error" not in opening:
            assert opening_ids(stamps, case["fps"], 16, limit) == opening["frame_ids"]
        for rule in (uniform, opening):
            if "error" not in rule:
                assert fit_area(case["w"], case["h"], case["max_area"]) == (rule["out_w"], rule["out_h"])
    assert cases


def test_resized_and_cropped_videos():
    compared = 0
    for name, case in annotator_pack("video_processor_resize").items():
        if "raises" in case or case["params"].get("input") == FIXES["resize_on_uint8"][1]:
            continue
        video, width, height = case["inputs"]["video"], case["params"]["ow"], case["params"]["oh"]
        if "post" in case["params"]:
            unit = mask_to_unit(resize_crop_mask(video[..., 0], width, height)).numpy()
            assert np.array_equal(unit, case["output"]), name
        else:
            assert np.array_equal(resize_crop(video, width, height), levels(case["output"]).transpose(1, 2, 3, 0)), name
            assert np.array_equal(to_model_space(levels(case["output"]).transpose(1, 2, 3, 0)), case["output"]), name
        compared += 1
    document, tensors = model_document("wan", "preprocess_units"), model_tensors("wan", "preprocess_units")
    for case in document["resize_crop"]:
        height, width = case["out_hw"]
        video = to_model_space(resize_crop(tensors[case["name"] + ".in"].numpy(), width, height))
        assert equal_within("resized video", video, tensors[case["name"] + ".out"]), case["name"]
        compared += 1
    assert compared > 0


def test_letterboxed_references():
    compared = 0
    for name, case in annotator_pack("ref_letterbox").items():
        if "raises" in case:
            continue
        if "image" in case["inputs"]:
            canvas = letterbox(case["inputs"]["image"], case["params"]["canvas_w"], case["params"]["canvas_h"])
            assert equal_within("letterboxed references", canvas, case["output"], 1e-6), name
            assert np.array_equal(levels(canvas), levels(case["output"])), name
        else:
            height, width = case["params"]["image_size"]
            frames, mask = empty_source(case["params"]["num_frames"], width, height)
            assert np.array_equal(frames, case["output"]["src_video"])
            assert list(mask.shape) == case["output"]["src_mask_shape"]
            assert mask.mean() == case["output"]["src_mask_mean"]
        compared += 1
    assert compared > 0


def test_mask_channels():
    document, tensors = model_document("wan", "preprocess_units"), model_tensors("wan", "preprocess_units")
    folded = [name[: -len(".in")] for name in tensors if name.startswith("mask_") and name.endswith(".in")]
    for name in folded:
        assert equal_within("mask channels", fold_mask(tensors[name + ".in"]), tensors[name + ".out"]), name
    picks = document["mask_temporal_nearest_exact_picks"]
    for count, expected in picks.items():
        times = torch.arange(int(count), dtype=torch.float32).reshape(1, -1, 1, 1).expand(1, -1, 8, 8)
        assert fold_mask(times)[0, :, 0, 0].tolist() == expected
    assert folded and picks


def as_seen(case: dict, tensors: dict):
    """(frames, mask, refs) of a vace_context case, made from the stored media by our own functions."""
    count, height, width = case["frames"][1:]
    frames, mask = empty_source(count, width, height)
    if case["src_video"]:
        frames = to_model_space(resize_crop(tensors["media.src_video"].numpy()[case["frame_ids"]], width, height))
    if case["src_mask"]:
        masks = tensors["media.src_mask"].numpy()[case["frame_ids"]][..., 0]
        mask = mask_to_unit(resize_crop_mask(masks, width, height))
    refs = [letterbox(tensors[f"media.ref{j}"].numpy(), width, height) for j in range(len(case["refs"] or []))]
    return frames, mask, refs


def test_sources_as_the_model_sees_them():
    document, tensors = model_document("wan", "vace_context"), model_tensors("wan", "vace_context")
    processor = document["video_processor"]
    size, stride = Size(processor["max_area"], 1, processor["seq_len"]), tuple(processor["downsample"])
    video, stamps = tensors["media.src_video"], tensors["media.frame_timestamps"].numpy()
    compared = 0
    for case in document["cases"]:
        name = case["name"]
        frames, mask, refs = as_seen(case, tensors)
        if case["src_video"]:
            limit = source_frames(video.shape[2], video.shape[1], size, stride)
            assert uniform_ids(stamps, limit, stride[0]) == case["frame_ids"], name
            assert fit_area(video.shape[2], video.shape[1], size.area, stride) == frames.shape[:1:-1], name
        if f"{name}.frames" in tensors:
            assert torch.equal(frames, tensors[f"{name}.frames"]), name
            compared += 1
        if f"{name}.mask" in tensors:
            assert torch.equal(mask, FIXES["mask_has_one_channel"][1](tensors[f"{name}.mask"])), name
            compared += 1
        for index, ref in enumerate(refs):
            if f"{name}.ref{index}" in tensors:
                assert equal_within("letterboxed references", ref, tensors[f"{name}.ref{index}"], 1e-6), name
                compared += 1
    assert compared > 0


class StoredVae:
    """Answers with the latents the original got, after making sure that it is given what the original encoded."""

    def __init__(self, frames, mask, refs, context):
        white = (mask[:1] > 0.5).float()
        latents = trim_refs(context, len(refs))
        self.known = [(frames * (1 - white), latents[:16]), (frames * white, latents[16:32])]
        self.known += [(ref, context[:16, index : index + 1]) for index, ref in enumerate(refs)]

    def __call__(self, videos):
        return [self.stored(video) for video in videos]

    def stored(self, video):
        matches = [latent for known, latent in self.known if torch.equal(known, video)]
        assert matches, "a video the original did not encode"
        return matches[0]


def check_context(frames, mask, refs, context, name):
    made = encode_context(StoredVae(frames, mask, refs, context), frames, mask, refs)
    assert made.shape == context.shape, name
    assert (made - context).abs().max() <= 1e-5, name


def test_contexts_from_stored_latents():
    document, tensors = model_document("wan", "vace_context"), model_tensors("wan", "vace_context")
    compared = 0
    for case in document["cases"]:
        name = case["name"]
        frames, mask, refs = as_seen(case, tensors)
        if f"{name}.mask64" in tensors:
            assert torch.equal(fold_mask(mask, len(refs)), tensors[f"{name}.mask64"]), name
        if f"{name}.context96" in tensors:
            check_context(frames, mask, refs, tensors[f"{name}.context96"], name)
            compared += 1
    assert compared > 0


def test_contexts_of_whole_pipelines():
    tensors, compared = model_tensors("wan", "pipeline_e2e"), 0
    for case in model_document("wan", "pipeline_e2e")["cases"]:
        name = case["name"]
        if not all(f"{name}.{part}" in tensors for part in ("frames", "mask", "vace_context")):
            continue
        mask = FIXES["mask_has_one_channel"][1](tensors[f"{name}.mask"])
        context = tensors[f"{name}.vace_context"]
        refs = [tensors[f"{name}.ref{j}"] for j in range(context.shape[1]) if f"{name}.ref{j}" in tensors]
        check_context(tensors[f"{name}.frames"], mask, refs, context, name)
        compared += 1
    assert compared > 0
