"""The region a mode asks for: drawn, boxed, standing out, or a thing named or shown and followed through the clip.

One table says what each mode is led by; pictures and clips share it. What a network has to find is looked for in the
picture, or in the clip's first frame, and followed from there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vace.annotators.align import check_mask_size, fit_mask
from vace.annotators.base import MaskClip
from vace.annotators.boxes import box_mask, check_boxes, mask_box
from vace.annotators.masks import Augment, binary, clip_masks, still_masks, warn_if_useless
from vace.annotators.nets.prompts import Prompt, centres_box, component_centres
from vace.annotators.networks import Networks
from vace.annotators.streams import zip_chunks
from vace.errors import InputError, nearest
from vace.media.clip import Clip

log = logging.getLogger("vace")

# mode -> (what it is led by, the networks it asks for)
MODES: dict[str, tuple[str, tuple[str, ...]]] = {
    "salient": ("", ("salient",)),
    "mask": ("mask", ()),
    "bbox": ("bbox", ()),
    "salientmasktrack": ("", ("salient", "segment")),
    "salientbboxtrack": ("", ("salient", "segment")),
    "maskpointtrack": ("mask", ("segment",)),
    "maskbboxtrack": ("mask", ("segment",)),
    "masktrack": ("mask", ("segment",)),
    "bboxtrack": ("bbox", ("segment",)),
    "label": ("label", ("detect", "segment")),
    "caption": ("caption", ("detect", "segment")),
}
DOT = 127  # above it, a mask's pixel is part of a drawn dot


@dataclass(frozen=True)
class Asked:
    """What leads to a region.

    mode: a key of MODES. mask: a MaskClip beside a clip, uint8 [H,W] beside a picture. bbox: one box. label: names of
    things. caption: one thing described. flags: how the flags begin that brought them, "--" or "--ref_". name: of the
    task, which: of several pictures, for messages.
    """

    mode: str
    mask: MaskClip | np.ndarray | None = None
    bbox: Sequence | None = None
    label: Sequence[str] = ()
    caption: str | None = None
    flags: str = "--"
    name: str = "inpainting"
    which: str = ""

    def check(self) -> Asked:
        """Itself. Raises InputError for an unknown mode and where what leads it is absent (boxes: see check_boxes)."""
        if self.mode not in MODES:
            raise InputError(f"--mode {self.mode}: {self.name} has no such mode; {nearest(str(self.mode), MODES)}")
        needed = MODES[self.mode][0]
        if needed and needed != "bbox" and not _is_given(getattr(self, needed)):
            raise InputError(f"{self.flags}{needed}: mode {self.mode} needs {_NEEDS[needed]}")
        return self


_NEEDS = {
    "mask": "a mask; give a picture, a video or a folder, white where something shall change",
    "label": "the name of a thing, e.g. person",
    "caption": "a few words for a thing, e.g. 'a woman in orange'",
}


def _is_given(value) -> bool:
    return value is not None and (isinstance(value, np.ndarray) or not hasattr(value, "__len__") or len(value) > 0)


def clip_regions(
    frames: Clip, asked: Asked, networks: Networks, augment: Augment | None = None
) -> Iterator[np.ndarray]:
    """The region of every frame, 0 or 255 uint8 [t,H,W], enlarged by `augment` where given.

    Raises InputError at once for what is absent or does not fit the clip; what a network does not find is told when
    the first chunk is asked for.
    """
    asked = asked.check()
    if asked.mode == "bbox":
        box = check_boxes(asked.bbox, frames.width, frames.height, 1, f"{asked.flags}bbox")[0]
        return still_masks(frames, box_mask(box, frames.width, frames.height), augment)
    if asked.mode == "mask":
        return clip_masks(frames, asked.mask, augment)
    nets = _networks_for(frames, asked, networks)
    if asked.mode == "salient":
        return _standing_out(frames, asked, nets["salient"], augment)
    return _merged(_labelled(frames, asked, nets), frames.frame_count, augment)


def labelled_tracks(frames: Clip, asked: Asked, networks: Networks) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Chunks of one (name, uint8 [t,H,W] of 0 and 255) for every thing that is followed: one for each label.

    asked.mode: one of the modes that track. name: the label it answers to, "" where none led to it. Raises as
    `clip_regions` does.
    """
    asked = asked.check()
    return _labelled(frames, asked, _networks_for(frames, asked, networks))


def _networks_for(frames: Clip, asked: Asked, networks: Networks) -> dict:
    """The networks the mode asks for, by name, once mask and box are known to fit the clip."""
    if asked.mask is not None:
        check_mask_size((asked.mask.width, asked.mask.height), frames.width, frames.height, f"--mask {asked.mask.name}")
    if MODES[asked.mode][0] == "bbox":
        check_boxes(asked.bbox, frames.width, frames.height, 1, f"{asked.flags}bbox")
    return {name: networks.get(name) for name in MODES[asked.mode][1]}


def _standing_out(frames: Clip, asked: Asked, network, augment: Augment | None) -> Iterator[np.ndarray]:
    """What stands out of the first frame, for every frame."""
    yield from still_masks(frames, salient_map(_first_frame(frames), network, asked), augment)


def _first_frame(frames: Clip) -> np.ndarray:
    return next(iter(frames.chunks(1)))[0]


def _labelled(frames: Clip, asked: Asked, nets: dict) -> Iterator[list[tuple[str, np.ndarray]]]:
    if asked.mask is not None:
        asked = replace(asked, mask=fit_mask(next(iter(asked.mask.chunks(1)))[0], frames.width, frames.height))
    led = prompts(_first_frame(frames), asked, nets)
    tracks = [nets["segment"].track(frames, prompt) for prompt, _ in led]
    for together in zip_chunks(*tracks):
        yield [(name, binary(masks)) for (_, name), masks in zip(led, together, strict=True)]


def _merged(tracks: Iterator, frame_count: int, augment: Augment | None) -> Iterator[np.ndarray]:
    """All tracks of a clip of frame_count frames as one region; warns where it is empty throughout."""
    any_white, seen = False, 0
    for together in tracks:
        masks = np.bitwise_or.reduce([masks for _, masks in together])
        if augment:
            masks = np.stack([binary(augment(mask)) for mask in masks])
        any_white, seen = any_white or bool(masks.any()), seen + len(masks)
        if seen == frame_count:  # before the last chunk goes out: nobody may ask for one after it
            warn_if_useless(any_white, False)
        yield masks


def image_region(image: np.ndarray, asked: Asked, networks: Networks | None) -> np.ndarray:
    """The region of one picture (RGB uint8 [H,W,3]): uint8 [H,W], 0 or 255.

    asked.mask: uint8 [H,W] of any size of the picture's aspect. Raises InputError for what is absent, does not fit or
    is not found.
    """
    asked = asked.check()
    height, width = image.shape[:2]
    if asked.mode == "bbox":
        return box_mask(check_boxes(asked.bbox, width, height, 1, f"{asked.flags}bbox")[0], width, height)
    if asked.mask is not None:
        check_mask_size((asked.mask.shape[1], asked.mask.shape[0]), width, height, f"{asked.flags}mask{asked.which}")
    if asked.mode == "mask":
        return binary(fit_mask(asked.mask, width, height))
    if asked.mask is not None:
        asked = replace(asked, mask=fit_mask(asked.mask, width, height))
    nets = {name: networks.get(name) for name in MODES[asked.mode][1]}
    if asked.mode == "salient":
        return binary(salient_map(image, nets["salient"], asked))
    found = [nets["segment"].mask(image, prompt) for prompt, _ in prompts(image, asked, nets)]
    return binary(np.bitwise_or.reduce(found))


def salient_map(image: np.ndarray, network, asked: Asked) -> np.ndarray:
    """What stands out of one picture: uint8 [H,W]. Raises InputError where nothing does."""
    found = network.maps(image[None])[0]
    if not found.any():
        raise InputError(f"--mode {asked.mode}: nothing stands out in this picture{asked.which}; mark it with "
                         f"{asked.flags}mask or {asked.flags}bbox instead")  # fmt: skip
    return found


def prompts(image: np.ndarray, asked: Asked, nets: dict) -> list[tuple[Prompt, str]]:
    """What the segmenter is asked for, each with its label ("" without one). asked.mask: uint8 [H,W] of the picture.

    A box around what stands out ends at its last pixels, as the original passes it (vace/annotators/inpainting.py).
    Raises InputError where nothing is marked or found.
    """
    height, width = image.shape[:2]
    if asked.mode in ("label", "caption"):
        return _named(image, asked, nets["detect"])
    if asked.mode == "bboxtrack":
        return [(Prompt(box=check_boxes(asked.bbox, width, height, 1, f"{asked.flags}bbox")[0]), "")]
    if asked.mode.startswith("salient"):
        found = salient_map(image, nets["salient"], asked)
        if asked.mode == "salientmasktrack":
            return [(Prompt(mask=found), "")]
        x1, y1, x2, y2 = mask_box(found)
        return [(Prompt(box=(x1, y1, x2 - 1, y2 - 1)), "")]
    if not asked.mask.any():
        raise InputError(f"{asked.flags}mask{asked.which}: it is black everywhere; mark the thing to follow with white")
    if asked.mode == "masktrack":
        return [(Prompt(mask=binary(asked.mask)), "")]
    dots = np.where(asked.mask > DOT, np.uint8(255), np.uint8(0))
    if asked.mode == "maskpointtrack":
        return [(Prompt(points=component_centres(dots)), "")]
    box = centres_box(dots)
    if box is None or box[0] >= box[2] or box[1] >= box[3]:  # a single part: its own box, the original's has no area
        x1, y1, x2, y2 = mask_box(asked.mask)
        box = (x1, y1, x2 - 1, y2 - 1)
    return [(Prompt(box=box), "")]


def _named(image: np.ndarray, asked: Asked, detector) -> list[tuple[Prompt, str]]:
    if asked.mode == "caption":
        wanted = {asked.caption: detector.find(image, caption=asked.caption)}
    else:
        wanted = {label: detector.find(image, label=[label]) for label in asked.label}
    lost = [words for words, found in wanted.items() if not found]
    if lost:
        where = "the picture" if asked.flags == "--ref_" or asked.name.startswith("image") else "the first frame"
        words = f"{asked.flags}{asked.mode} {', '.join(lost)}"
        raise InputError(f"{words}: not found in {where}{asked.which}; use other words, or mark it with "
                         f"{asked.flags}bbox or {asked.flags}mask")  # fmt: skip
    best = {words: found[0] for words, found in wanted.items()}
    return [(Prompt(box=d.box) if d.mask is None else Prompt(mask=d.mask), words) for words, d in best.items()]
