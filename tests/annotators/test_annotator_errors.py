"""Every input that cannot be used is refused at once, in one line that says what was found and what to do."""

from __future__ import annotations

import numpy as np
import pytest

from vace import annotators
from vace.errors import InputError
from vace.media.clip import ArrayClip

CLIP = ArrayClip(np.zeros((4, 48, 64, 3), np.uint8), name="clip.mp4")
LARGER = ArrayClip(np.zeros((4, 64, 64, 3), np.uint8), name="square.mp4")
IMAGE = np.zeros((48, 64, 3), np.uint8)
BOX, OUTSIDE = (1, 1, 20, 20), (1, 1, 65, 20)


class Mask:
    name = "mask.png"

    def __init__(self, count: int = 1, height: int = 48, width: int = 64) -> None:
        self.frame_count, self.height, self.width = count, height, width

    def chunks(self, size: int = 16):
        yield np.full((self.frame_count, self.height, self.width), 255, np.uint8)


SOURCES = {"frames_1": CLIP, "frames_2": CLIP, "masks_1": Mask(), "masks_2": Mask()}
TYPES = {"process_type_1": "inpainting", "process_type_2": "frameref"}

REFUSED = [
    ("inpainting", {"frames": CLIP, "mode": "mask"}, ["--mask"]),
    ("inpainting", {"frames": CLIP, "mode": "bbox"}, ["--bbox", "64x48"]),
    ("inpainting", {"frames": CLIP, "mode": "bbox", "bbox": [BOX, BOX]}, ["--bbox", "one box"]),
    ("inpainting", {"frames": CLIP, "mode": "bbox", "bbox": [OUTSIDE]}, ["--bbox", "outside", "64x48"]),
    ("inpainting", {"frames": CLIP, "mode": "bbx", "bbox": [BOX]}, ["--mode", "'bbox'"]),
    ("inpainting", {"frames": CLIP, "mode": None}, ["--mode"]),
    ("inpainting", {"frames": CLIP, "mode": "mask", "mask": Mask(1, 64, 48)}, ["mask.png", "48x64", "64x48"]),
    ("inpainting", {"frames": CLIP, "mode": "mask", "mask": Mask(3)}, ["mask.png", "3 frames", "clip of 4"]),
    ("inpainting", {"frames": CLIP, "mode": "bbox", "bbox": [BOX], "maskaug_mode": "huge"}, ["--maskaug_mode huge"]),
    ("outpainting", {"frames": CLIP, "direction": ["up", "lft"]}, ["--direction lft", "'left'"]),
    ("outpainting", {"frames": CLIP, "direction": []}, ["--direction"]),
    ("outpainting", {"frames": CLIP, "direction": ["up"], "expand_ratio": 1.5}, ["--expand_ratio 1.5", "0 to 1"]),
    ("outpainting", {"frames": CLIP, "direction": ["up"], "expand_ratio": -0.1}, ["--expand_ratio -0.1"]),
    ("outpainting", {"frames": CLIP, "direction": ["up"], "expand_ratio": float("nan")}, ["--expand_ratio nan"]),
    ("outpainting_inner", {"frames": CLIP, "direction": ["up", "down"], "expand_ratio": 0.7}, ["--expand_ratio 0.7"]),
    ("image_outpainting", {"images": [IMAGE], "direction": ["north"]}, ["--direction north"]),
    ("frameref", {"images": [IMAGE], "mode": "firstfrme"}, ["--mode firstfrme", "'firstframe'"]),
    ("frameref", {"images": [IMAGE], "mode": "firstclip"}, ["--image", "clips, not pictures", "--video"]),
    ("frameref", {"clips": [CLIP], "mode": "lastframe"}, ["--video", "pictures, not clips", "--image"]),
    ("frameref", {"images": [IMAGE], "mode": "firstlastframe"}, ["--image", "1 given", "two"]),
    ("frameref", {"images": [IMAGE] * 2, "mode": "firstframe"}, ["--image", "2 given", "one"]),
    ("frameref", {"clips": [CLIP], "mode": "firstlastclip"}, ["--video", "1 given", "two"]),
    ("frameref", {"mode": "firstclip"}, ["--video", "0 given"]),
    ("frameref", {"images": [IMAGE], "mode": "firstframe", "expand_num": 0}, ["--expand_num 0"]),
    ("frameref", {"images": [IMAGE], "mode": "firstframe", "expand_num": 2.5}, ["--expand_num 2.5"]),
    ("frameref", {"clips": [CLIP], "mode": "firstclip", "clip_frames": 0}, ["--clip_frames 0"]),
    ("framerefext", {"frames": CLIP, "ref_num": 0}, ["--ref_num 0"]),
    ("framerefext", {"frames": CLIP, "ref_cfg": "frist"}, ["--ref_cfg frist", "'first'"]),
    ("layout_bbox", {"bbox": [BOX]}, ["--bbox", "two boxes", "1280x720"]),
    ("layout_bbox", {"bbox": [BOX, OUTSIDE], "size": (64, 48)}, ["--bbox", "64x48"]),
    ("layout_bbox", {"bbox": [BOX, BOX], "frame_num": 0}, ["--frame_num 0"]),
    ("move_anything", {"images": [IMAGE], "bbox": [BOX]}, ["--bbox", "two boxes", "64x48"]),
    ("move_anything", {"images": [IMAGE] * 2, "bbox": [BOX, BOX]}, ["--image", "2 given"]),
    ("expand_anything", {"images": []}, ["--image"]),
    ("expand_anything", {"images": [IMAGE], "mode": "middleframe,plain"}, ["middleframe", "firstframe"]),
    ("expand_anything", {"images": [IMAGE] * 2, "mode": "firstframe,plane"}, ["plane", "'plain'"]),
    ("image_reference", {"images": [IMAGE], "mode": "mask"}, ["--mask"]),
    ("image_reference", {"images": [IMAGE], "mode": "bbox"}, ["--bbox"]),
    ("image_reference", {"images": [IMAGE], "mode": "maks"}, ["--mode maks", "'mask'"]),
    ("image_reference", {"images": [IMAGE] * 3, "mode": "bbox", "bbox": [BOX] * 2}, ["--bbox", "2 given for 3"]),
    ("image_reference", {"images": [IMAGE], "mode": "bbox", "bbox": [OUTSIDE]}, ["--bbox", "outside"]),
    (
        "image_reference",
        {"images": [IMAGE], "mode": "mask", "masks": [np.zeros((64, 48), np.uint8)]},
        ["--mask", "48x64", "64x48"],
    ),
    (
        "image_reference",
        {"images": [IMAGE], "mode": "mask", "masks": [np.zeros((48, 64), np.uint8)], "canvas": True},
        ["--mask", "black everywhere"],
    ),
    ("composition", {**SOURCES, **TYPES, "frames_2": LARGER}, ["square.mp4", "64x64", "clip.mp4", "64x48"]),
    ("composition", {**SOURCES, **TYPES, "masks_2": Mask(3)}, ["mask.png", "3 frames", "4 of clip.mp4"]),
    ("composition", {**SOURCES, **TYPES, "masks_1": Mask(4, 64, 64)}, ["mask.png", "64x64", "64x48"]),
    ("composition", {**SOURCES, **TYPES, "masks_1": None}, ["--src_mask", "clip.mp4", "inpainting"]),
    ("composition", {**SOURCES, **TYPES, "process_type_2": "framref"}, ["--process_type framref", "'frameref'"]),
]


def label(value) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("name", "arguments", "words"), REFUSED, ids=label)
def test_refused(name, arguments, words):
    with pytest.raises(InputError) as error:
        annotators.get(name)(**arguments)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
