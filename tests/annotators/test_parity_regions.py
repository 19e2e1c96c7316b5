"""Regions, outlines of tracks and compositions with references against the original, its networks replaced as there."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from goldens_io import comparable_cases as cases
from goldens_io import equal_within
from parity_fixes import FIXES

from vace import annotators
from vace.annotators.layout import pick_color
from vace.annotators.layout_track import draw_outline
from vace.annotators.maskaug import augment
from vace.annotators.nets.prompts import Detection, Prompt, centres_box, component_centres
from vace.annotators.regions import MODES, Asked, clip_regions, image_region
from vace.media.clip import ArrayClip

pytestmark = pytest.mark.parity
same = partial(equal_within, "drawn and copied annotator output")


def pinned(config):
    """A mask_cfg of a golden, everything random given in it, as a function of a mask."""
    if not config:
        return None
    keys = config.get("kwargs", {})
    given = keys.get("expand_ratio", 0), keys.get("expand_iters", 1), keys.get("expand_lrtp", (0, 0, 0, 0))
    return lambda mask: augment(mask, config["mode"], *given, keys.get("clockwise", True))


class Recorded:
    """The networks of a case: they answer what the original's stubs did, and note what they were asked."""

    def __init__(self, case) -> None:
        given = case["inputs"]
        self.salient, self.sam = given.get("salient"), given.get("sam")
        found = [call["kw"]["input_box"] for call in case["output"]["calls"] if "input_box" in call["kw"]]
        self.box = found[-1] if found else None
        self.calls: list[tuple[str, object]] = []

    def get(self, name):
        return self

    def maps(self, frames):
        self.calls.append(("salient", None))
        return np.asarray(self.salient)[None]

    def find(self, image, label=None, caption=None):
        self.calls.append(("gdino", label or caption))
        return [Detection(tuple(self.box), 0.9, "thing")]

    def mask(self, image, prompt):
        self.calls.append(("sam2", prompt))
        return np.asarray(self.sam).astype(np.uint8) * 255

    def track(self, clip, prompt):
        self.calls.append(("sam2", prompt))
        return iter([np.stack(self.sam)[: clip.frame_count].astype(np.uint8) * 255])


def asked_alike(call: dict, prompt: Prompt) -> bool:
    """Whether our prompt says what the original's call said."""
    kind, given = call["task_type"], call.get("mask")
    if kind == "input_box":
        return tuple(prompt.box) == tuple(call["input_box"])
    if kind == "mask_point":
        return np.array_equal(prompt.points, component_centres(np.squeeze(given)))
    if kind == "mask_box":
        return tuple(prompt.box) == FIXES["box_of_one_part"][1](centres_box(np.squeeze(given)), np.squeeze(given))
    # The original shrinks a picture's mask here; the segmenter does it for us.
    return np.asarray(given).shape != prompt.mask.shape or np.array_equal(np.asarray(given) > 0, prompt.mask > 0)


def test_every_mode_asks_and_grays_as_the_original(cut_mask):
    compared = set()
    for case in cases("inpainting"):
        given, params, expected = case["inputs"], case["params"], case["output"]
        mode = params["mode"]
        if mode not in MODES or ("sam" not in given and MODES[mode][1][-1:] == ("segment",)):
            continue
        nets, video = Recorded(case), "frames" in given
        change = None if mode in FIXES["augmentation_of_still_masks"][1] else pinned(params.get("mask_cfg"))
        mask = np.squeeze(given["mask"]) if given.get("mask") is not None else None
        box = params.get("bbox")
        picture = given["frames"][0] if video else given["image"]
        if box is not None:
            box = FIXES["negative_box_ends"][1](box, picture.shape[1], picture.shape[0])
            if min(box) < 0 or box[2] > picture.shape[1] or box[3] > picture.shape[0] or box[0] >= box[2]:
                continue  # ours refuses boxes that reach outside or cover nothing
        led = MODES[mode][0]
        keys = {"bbox": [box] if led == "bbox" else None, "label": params.get("label") or ()}
        keys |= {"caption": params.get("caption"), "mask": mask if led == "mask" else None}
        if video:
            keys["mask"] = cut_mask(mask[None]) if led == "mask" else None
            clip = ArrayClip(np.stack(given["frames"]))
            masks = np.concatenate(list(clip_regions(clip, Asked(mode, **keys), nets, change)))
            assert same(masks, np.stack(expected["masks"])), case["id"]
        else:
            found = image_region(given["image"], Asked(mode, **keys), nets)
            found = np.where(change(found) > 0, np.uint8(255), np.uint8(0)) if change else found
            assert same(found, np.where(np.squeeze(expected["mask"]) > 0, np.uint8(255), np.uint8(0))), case["id"]
        assert [name for name, _ in nets.calls] == [call["model"] for call in expected["calls"]], case["id"]
        prompts = [what for name, what in nets.calls if name == "sam2"]
        calls = [call["kw"] for call in expected["calls"] if call["model"] == "sam2"]
        assert all(asked_alike(call, prompt) for call, prompt in zip(calls, prompts, strict=True)), case["id"]
        compared.add(mode)
    assert compared >= {"salientmasktrack", "salientbboxtrack", "masktrack", "bboxtrack", "label", "caption"}


def test_layout_mask():
    for case in cases("layout_mask"):
        params, given, expected = case["params"], case["inputs"], case["output"]
        masks = given.get("mask", given.get("masks"))
        masks, goldens = (masks, expected) if isinstance(masks, list) else ([masks], [expected])
        change = pinned(params.get("mask_cfg"))
        table = {name: tuple(color) for name, color in (params.get("color_table") or {}).items()}
        color = tuple(params["color"]) if params.get("color") else pick_color(params.get("label"), table)
        for mask, golden in zip(masks, goldens, strict=True):
            canvas = np.full((*mask.shape, 3), 255, np.uint8)
            draw_outline(canvas, change(mask) if change else mask, color)
            assert same(canvas, golden), case["id"]


class Subjects:
    """References come back inverted, as from the original's stub."""

    def __init__(self, sam=None) -> None:
        self.sam = sam

    def get(self, name):
        return self

    def once(self, materials, make):
        return make()

    def find(self, image, label=None, caption=None):
        return [Detection((0, 0, 4, 4), 0.9, "thing")]

    def maps(self, frames):
        return np.full(frames.shape[:3], 255, np.uint8)

    def mask(self, image, prompt):
        return np.full(image.shape[:2], 255, np.uint8)

    def track(self, clip, prompt):
        return iter([np.stack(self.sam)[: clip.frame_count].astype(np.uint8) * 255])


def references(images) -> list[np.ndarray]:
    return [FIXES["subject_stub"][1](image) for image in images]


def test_reference_anything():
    for case in (case for case in cases("anything") if case["id"].startswith("reference")):
        images = case["inputs"]["images"]
        if not images or "first_is_dict" in case["output"]:
            continue
        found = annotators.get("reference_anything")(images=images, mode=case["params"]["mode"]).images
        assert all(same(one, golden) for one, golden in zip(found, references(case["output"]["images"]), strict=True))


def test_swap_anything(gather):
    for case in (case for case in cases("anything") if case["id"].startswith("swap")):
        given, params, expected = case["inputs"], case["params"], case["output"]
        lead = params["mode"].split(",")[0]
        from vace.annotators.inpainting import Inpainting

        frames = ArrayClip(np.stack(given["frames"]))
        keys = {"bbox": [params["bbox"]], "label": params["label"]} if lead in ("bboxtrack", "label") else {}
        change, nets = pinned(params["mask_cfg"]), Subjects(given["sam"])
        if change is None or params["mask_cfg"]["mode"] == "bbox":
            mode = f"{lead},plain"
            more = {"maskaug_mode": "bbox"} if change else {}
            result = annotators.get("swap_anything")(
                frames=frames, images=given["images"], mode=mode, networks=nets, seed=0, **keys, **more
            )
            assert [one.tolist() for one in result.images] == [one.tolist() for one in references(expected["images"])]
        else:
            result = Inpainting()(frames=frames, mode=lead, networks=nets, **keys)
        video, masks = gather(result)
        if change is not None and params["mask_cfg"]["mode"] != "bbox":
            masks = np.stack([np.where(change(mask) > 0, np.uint8(255), np.uint8(0)) for mask in masks])
            assert same(masks, np.stack(expected["masks"])), case["id"]
            continue
        assert same(masks, np.stack(expected["masks"])) and same(video, np.stack(expected["frames"])), case["id"]
