"""Extension, layout and the pictures-in-motion compositions against the original."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
from goldens_io import comparable_cases as cases
from goldens_io import equal_within
from parity_fixes import FIXES

from vace import annotators
from vace.annotators.align import align_frames
from vace.annotators.colors import color_of
from vace.annotators.frameref import extension, kept, picture
from vace.annotators.framerefext import choose_mode, kept_indices
from vace.annotators.layout import box_path, draw_path
from vace.media.clip import ArrayClip

pytestmark = pytest.mark.parity
same = partial(equal_within, "drawn and copied annotator output")


def stored(frames) -> np.ndarray:
    """Golden frames as they would be on disk."""
    return np.stack([FIXES["float_filler"][1](np.asarray(frame)) for frame in frames])


def test_gray(gather):
    for case in cases("gray"):
        given = case["inputs"]
        if "frames" in given:
            frames, _ = gather(annotators.get("gray")(frames=ArrayClip(np.stack(given["frames"]))))
            assert same(frames, np.stack(case["output"])), case["id"]
        else:
            (image,) = annotators.get("image_gray")(images=[given["image"]]).images
            assert same(image, case["output"]), case["id"]


def extend(case):
    """The Result for a case of frameref."""
    given, params = case["inputs"], case["params"]
    if params["expand_num"] < 1 or "REF_COLOR" in params:
        part = kept(picture(given["image"]))
        ends = (part, None) if params["mode"].startswith("first") else (None, part)
        return extension(ends[0], params["expand_num"], ends[1], filler=params.get("REF_COLOR", 127))
    needed = 2 if params["mode"].startswith("firstlast") else 1
    if params["mode"].endswith("clip"):
        material = {"clips": [ArrayClip(np.stack(given[key])) for key in ("frames", "frames_2")[:needed]]}
    else:
        material = {"images": [given[key] for key in ("image", "image_2")[:needed]]}
    return annotators.get("frameref")(**material, mode=params["mode"], expand_num=params["expand_num"])


def test_frameref(gather):
    for case in cases("frameref"):
        if "fn" in case["params"]:
            height, width = case["inputs"]["first"].shape[:2]
            aligned = align_frames(case["inputs"]["last"][None], width, height)[0]
            assert same(aligned, case["output"]), case["id"]
            continue
        frames, masks = gather(extend(case))
        expected = case["output"]
        if isinstance(expected, dict):
            assert same(masks, np.stack(expected["masks"])), case["id"]
            expected = expected["frames"]
        assert same(frames, stored(expected)), case["id"]


def test_framerefext(gather):
    for case in cases("framerefext"):
        params, clip = case["params"], ArrayClip(np.stack(case["inputs"]["frames"]))
        seed = params.get("random_seed", 0)
        result = annotators.get("framerefext")(
            frames=clip, ref_num=params["ref_num"], ref_cfg=params["ref_cfg"], seed=seed
        )
        frames, masks = gather(result)
        assert same(frames, stored(case["output"]["frames"])), case["id"]
        assert same(masks, np.stack(case["output"]["masks"])), case["id"]
        if "kept" in case["output"]:
            rng = random.Random(seed)
            indices = kept_indices(choose_mode(params["ref_cfg"], rng), params["ref_num"], clip.frame_count, rng)
            assert indices == case["output"]["kept"], case["id"]


def test_layout_bbox():
    include_end = FIXES["layout_end"][1]
    for case in cases("layout_bbox"):
        params, expected = case["params"], case["output"]
        if isinstance(expected, dict):
            result = annotators.get("layout_bbox")(bbox=params["bbox"])
            assert (result.frame_count, (result.height, result.width, 3)) == (expected["n"], tuple(expected["shape"]))
            continue
        height, width = params["frame_size"]
        default = params.get("color") or params.get("BOX_COLOR", (0, 0, 0))
        color = color_of(params.get("label"), params.get("color_table") or {}, default)
        path = box_path(*params["bbox"], params["num_frames"], include_end=include_end)
        drawn = draw_path(path, width, height, color, params.get("BG_COLOR", (255, 255, 255)))
        assert same(np.concatenate(list(drawn)), np.stack(expected)), case["id"]


def moved(case, expand_num: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames and masks of move_anything, the end box not reached and boxes not checked."""
    params, image = case["params"], case["inputs"]["image"]
    path = box_path(*params["bbox"], expand_num, include_end=FIXES["layout_end"][1])
    color = color_of(params["label"], params["color_table"], (0, 0, 0))
    drawn = np.concatenate(list(draw_path(path, image.shape[1], image.shape[0], color)))
    masks = np.full((1 + expand_num, *image.shape[:2]), 255, np.uint8)
    masks[0] = 0
    return np.concatenate([image[None], drawn]), masks


def test_move_anything(gather):
    for case in (case for case in cases("anything") if case["id"].startswith("move")):
        image, expected, params = case["inputs"]["image"], case["output"], case["params"]
        height, width = image.shape[:2]
        if "n_frames" in expected:
            box = [0, 0, width // 2, height // 2]
            number = FIXES["move_default"][1]
            result = annotators.get("move_anything")(images=[image], bbox=[box, box], expand_num=number)
            assert result.frame_count == expected["n_frames"] == expected["n_masks"], case["id"]
            continue
        frames, masks = moved(case, params["expand_num"])
        assert same(frames, np.stack(expected["frames"])), case["id"]
        assert same(masks, np.stack(expected["masks"])), case["id"]
        inside = all(0 <= x1 and 0 <= y1 and x2 <= width and y2 <= height for x1, y1, x2, y2 in params["bbox"])
        if inside:
            keys = {key: params[key] for key in ("bbox", "label", "expand_num", "color_table")}
            ours, our_masks = gather(annotators.get("move_anything")(images=[image], **keys))
            assert same(ours[:2], frames[:2]) and same(our_masks, masks), case["id"]


def test_expand_anything(gather):
    for case in (case for case in cases("anything") if case["id"].startswith("expand")):
        params, expected = case["params"], case["output"]
        lead = params["mode"].partition(",")[0] if "," in params["mode"] else "firstframe"
        keys = {key: params[key] for key in ("direction", "expand_ratio", "expand_num")}
        result = annotators.get("expand_anything")(images=case["inputs"]["images"], mode=f"{lead},plain", **keys)
        frames, masks = gather(result)
        golden = np.stack(expected["masks"])
        if lead == "lastframe":
            golden = FIXES["expand_lastframe_mask"][1](golden)
        assert same(frames, stored(expected["frames"])), case["id"]
        assert same(masks, golden), case["id"]
        stub = FIXES["subject_stub"][1]
        for ours, golden in zip(result.images, expected["images"], strict=True):
            assert same(ours, stub(golden)), case["id"]
