"""Mask augmentation, inpainting, outpainting, references, canvas and composition against the original."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
from goldens_io import annotator_pack, equal_within
from goldens_io import comparable_cases as cases
from parity_fixes import FIXES

from vace import annotators
from vace.annotators.boxes import box_mask
from vace.annotators.canvas import region_canvas
from vace.annotators.composition import PROCESS_GROUPS, compose
from vace.annotators.maskaug import MaskAugmenter, augment
from vace.annotators.masks import clip_masks, fill_under, still_masks
from vace.annotators.outpainting import inner_geometry, outer_geometry, place
from vace.annotators.subject import cut_subject
from vace.errors import InputError
from vace.media.clip import ArrayClip

pytestmark = pytest.mark.parity
same = partial(equal_within, "drawn and copied annotator output")


def pinned(config: dict | None):
    """A mask_cfg of a golden, everything random given in it, as a function of a mask."""
    if not config:
        return None
    keys = config.get("kwargs", {})
    given = keys.get("expand_ratio", 0), keys.get("expand_iters", 1), keys.get("expand_lrtp", (0, 0, 0, 0))
    return lambda mask: augment(mask, config["mode"], *given, keys.get("clockwise", True))


def test_maskaug():
    for case in cases("maskaug"):
        params, masks, expected = case["params"], case["inputs"]["mask"], case["output"]
        config, keys = params["mask_cfg"], params["mask_cfg"].get("kwargs", {})
        change = pinned(config)
        if "random_seed" in params:
            ratios = (keys["min_expand_ratio"], keys["max_expand_ratio"])
            change = MaskAugmenter(config["mode"], ratios, params["random_seed"])
        if not isinstance(masks, list):
            masks, expected = [masks], [expected]
        for mask, golden in zip(masks, expected, strict=True):
            assert same(change(mask), golden), case["id"]


def source_masks(case, clip: ArrayClip, cut_mask):
    """The region masks the original had in a case: given, from the box, or from what its networks would have said."""
    given, params = case["inputs"], case["params"]
    mode, change = params["mode"], pinned(params.get("mask_cfg"))
    if mode in FIXES["augmentation_of_still_masks"][1]:
        change = None
    if mode == "bbox":
        box = FIXES["negative_box_ends"][1](params["bbox"], clip.width, clip.height)
        return still_masks(clip, box_mask(box, clip.width, clip.height), change)
    if mode in ("mask", "salient"):
        mask = np.squeeze(given["mask" if mode == "mask" else "salient"])
        return clip_masks(clip, cut_mask(mask[None]), change)
    tracked = np.stack(given["sam"])[: clip.frame_count] if "frames" in given else given["sam"][None]
    return clip_masks(clip, cut_mask(tracked.astype(np.uint8) * 255), change)


def test_inpainting(cut_mask, gather):
    compared = set()
    for case in cases("inpainting"):
        given, params, expected = case["inputs"], case["params"], case["output"]
        if params["mode"] not in ("mask", "bbox", "salient") and "sam" not in given:
            continue  # no mask is stored with the case
        clip = ArrayClip(np.stack(given["frames"]) if "frames" in given else given["image"][None])
        golden = np.stack(expected["frames"]) if "frames" in expected else expected["image"][None]
        golden_masks = np.stack(expected["masks"]) if "masks" in expected else expected["mask"][None]
        masks = np.concatenate(list(source_masks(case, clip, cut_mask)))
        frames = fill_under(clip.frames, masks, params.get("mask_color", 128))
        assert same(masks, golden_masks), case["id"]
        assert same(frames, golden), case["id"]
        compared.add(params["mode"])
        if params["mode"] == "mask":
            mask = cut_mask(np.squeeze(given["mask"])[None])
            frames, masks = gather(annotators.get("inpainting")(frames=clip, mode="mask", mask=mask))
            assert same(frames, golden) and same(masks, golden_masks), case["id"]
    assert {"mask", "bbox"} <= compared


def geometry(case, find, height: int, width: int):
    params = case["params"]
    return find(
        width, height, params["direction"], params["expand_ratio"],
        params.get("KEEP_PADDING_RATIO", 1), params.get("MASK_BLUR", 0),
    )  # fmt: skip


def test_outpainting(gather):
    for case in cases("outpainting"):
        given, params, expected = case["inputs"], case["params"], case["output"]
        keys = {"direction": params["direction"], "expand_ratio": params["expand_ratio"]}
        if "frames" in given:
            frames, masks = gather(annotators.get("outpainting")(frames=ArrayClip(np.stack(given["frames"])), **keys))
            assert same(frames, np.stack(expected["frames"])), case["id"]
            assert same(masks, np.stack(expected["masks"])), case["id"]
            continue
        height, width = given["image"].shape[:2]
        if FIXES["outpainting_given_mask"][1] in given:
            continue
        keys |= {"keep_padding_ratio": params.get("KEEP_PADDING_RATIO", 1), "mask_blur": params.get("MASK_BLUR", 0)}
        result = annotators.get("image_outpainting")(images=[given["image"]], **keys)
        found = geometry(case, outer_geometry, height, width)
        image = place(given["image"][None], found, fill=0)[0] if "MASK_COLOR" in params else result.images[0]
        golden = FIXES["outpainting_padding"][1](expected["mask"], found)
        assert same(image, expected["image"]), case["id"]
        assert same(result.image_masks[0], golden), case["id"]


def test_outpainting_inner(gather):
    for case in cases("outpainting_inner"):
        given, params, expected = case["inputs"], case["params"], case["output"]
        clip = ArrayClip(np.stack(given["frames"]) if "frames" in given else given["image"][None])
        keys = {"direction": params["direction"], "expand_ratio": params["expand_ratio"]}
        keys |= {"keep_padding_ratio": params.get("KEEP_PADDING_RATIO", 1), "mask_blur": params.get("MASK_BLUR", 0)}
        frames, masks = gather(annotators.get("outpainting_inner")(frames=clip, **keys))
        found = geometry(case, inner_geometry, clip.height, clip.width)
        if "MASK_COLOR" in params:
            frames = place(clip.frames, found, fill=0)
        golden = np.stack(expected["frames"]) if "frames" in expected else expected["image"][None]
        golden_masks = np.stack(expected["masks"]) if "masks" in expected else expected["mask"][None]
        assert same(frames, golden), case["id"]
        assert same(masks, FIXES["outpainting_inner_edge"][1](golden_masks, found)), case["id"]


def test_canvas():
    for case in cases("canvas"):
        params, config, given = case["params"], case["params"]["cfg"], case["inputs"]
        options = {
            "scale_range": tuple(config.get("SCALE_RANGE", (0.75, 1.0))),
            "canvas_value": config.get("CANVAS_VALUE", 255),
            "use_resize": config.get("USE_RESIZE", True),
            "use_canvas": config.get("USE_CANVAS", True),
            "augment": pinned(params["mask_cfg"]) if config.get("USE_AUG") else None,
        }
        rng = random.Random(params["random_seed"])
        if not case["output"]["image"].size:
            with pytest.raises(FIXES["canvas_of_nothing"][1]):
                region_canvas(given["image"], given["mask"], rng, **options)
            continue
        image = region_canvas(given["image"], given["mask"], rng, **options)
        assert same(image, case["output"]["image"]), case["id"]
        draws = random.Random(params["random_seed"])
        assert [getattr(draws, name)(a, b) for name, a, b, _ in case["output"]["draws"]] == [
            drawn for *_, drawn in case["output"]["draws"]
        ], case["id"]


def test_subject():
    for case in cases("subject"):
        given, params, expected = case["inputs"], case["params"], case["output"]
        if params["mode"] == "plain":
            (image,) = annotators.get("image_reference")(images=[given["image"]], mode="plain").images
            assert same(image, expected["image"]) and expected["mask"] is None, case["id"]
            continue
        found = {"mask": "mask", "salient": "salient"}.get(params["mode"], "sam")
        mask = given[found].astype(np.uint8) * 255 if found == "sam" else given[found]
        _, crop, roi_only = params.get("USE_AUG,USE_CROP,ROI_ONLY", (True, True, True))
        region = np.where(mask > 0, np.uint8(255), np.uint8(0))
        change = pinned(params.get("mask_cfg"))
        image, cut = cut_subject(given["image"], region, change, crop=crop, roi_only=roi_only)
        assert same(image, expected["image"]) and same(cut, expected["mask"]), case["id"]
        if crop and roi_only and change is None and not region.any():
            with pytest.raises(FIXES["subject_of_nothing"][1]):
                annotators.get("image_reference")(images=[given["image"]], mode="mask", masks=[mask])
        elif crop and roi_only and change is None:
            result = annotators.get("image_reference")(images=[given["image"]], mode="mask", masks=[mask])
            assert same(result.images[0], image) and same(result.image_masks[0], cut), case["id"]


def test_composition(cut_mask, gather):
    to_bool = FIXES["composition_mask_form"][1]
    for case in cases("composition"):
        given, params, expected = case["inputs"], case["params"], case["output"]
        if not given:
            if "frames" not in expected:
                assert {name: PROCESS_GROUPS[name] for name in expected} == expected
            continue  # otherwise the inputs were not kept
        count = min(len(given["frames_1"]), len(given["frames_2"]))
        v1, v2 = (np.stack(given[key][:count]) for key in ("frames_1", "frames_2"))
        m1, m2 = (to_bool(np.stack(given[key][:count])) for key in ("masks_1", "masks_2"))
        types = params["process_type_1"], params["process_type_2"]
        frames, masks = compose(v1, m1, v2, m2, *types)
        golden_masks = to_bool(np.stack(expected["masks"]))
        assert same(frames, np.stack(expected["frames"])), case["id"]
        assert same(masks, golden_masks), case["id"]
        if v1.dtype == np.uint8:
            sources = {f"frames_{i}": ArrayClip(np.stack(given[f"frames_{i}"])) for i in (1, 2)}
            sources |= {
                f"masks_{i}": cut_mask(to_bool(np.stack(given[f"masks_{i}"])).astype(np.uint8) * 255) for i in (1, 2)
            }
            frames, masks = gather(annotators.get("composition")(**sources, **params))
            assert same(frames, np.stack(expected["frames"])), case["id"]
            assert same(masks > 0, golden_masks), case["id"]


def test_unknown_mode_is_refused():
    """Where the original raises, so do we, in words."""
    for case in annotator_pack("maskaug").values():
        config = case["params"]["mask_cfg"]
        if "raises" in case and "kwargs" not in config and config["mode"] != "bbox":
            with pytest.raises(InputError, match="maskaug_mode"):
                MaskAugmenter(config["mode"])
