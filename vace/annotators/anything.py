"""Compositions of pictures and motion: reference, animate, swap, expand and move_anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vace.annotators.base import Chunk, MaskClip, Result
from vace.annotators.boxes import check_boxes
from vace.annotators.colors import Color
from vace.annotators.frameref import DEFAULT_EXPAND_NUM, Part, check_expand_num, extension, picture
from vace.annotators.inpainting import Inpainting
from vace.annotators.layout import box_path, draw_path, pick_color
from vace.annotators.networks import Networks
from vace.annotators.outpainting import DEFAULT_DIRECTION, keep_mask, outer_geometry, place
from vace.annotators.streams import still
from vace.annotators.subject import ImageReference
from vace.errors import InputError, nearest
from vace.media.clip import Clip

LEAD_MODES = ("firstframe", "lastframe")
MOST_REFERENCES = 3  # of reference_anything, as the original says


class MoveAnything:
    """A picture as first frame, then a box that shows where its thing goes.

    images: one RGB uint8 [H,W,3]. bbox: two boxes within it; the first is drawn in the frame after the picture, the
    second in the last frame (the original never reaches it). label, color_table: as for LayoutBbox. expand_num: frames
    with the box; the default makes 81 frames in all, as --expand_num 80 does everywhere (the original's own default,
    81 of them, makes 82). The picture is kept, the rest is made. Raises InputError for more than one picture and for
    boxes that are not two or do not lie in it.
    """

    def __call__(
        self,
        *,
        images: Sequence[np.ndarray],
        bbox: Sequence,
        label: str | list[str] | None = None,
        expand_num: int = DEFAULT_EXPAND_NUM,
        color_table: Mapping[str, Color] | None = None,
    ) -> Result:
        if len(images) != 1:
            raise InputError(f"--image: {len(images)} given, move_anything takes one")
        expand_num = check_expand_num(expand_num)
        height, width = images[0].shape[:2]
        start, end = check_boxes(bbox, width, height, 2)
        drawn = draw_path(box_path(start, end, expand_num), width, height, pick_color(label, color_table))
        return Result(_moved(images[0], drawn), 1 + expand_num, width, height, has_masks=True)


def _moved(image: np.ndarray, drawn: Iterator[np.ndarray]) -> Iterator[Chunk]:
    yield Chunk(image[None], np.zeros((1, *image.shape[:2]), np.uint8))
    white = np.full(image.shape[:2], 255, np.uint8)
    for frames in drawn:
        yield Chunk(frames, still(white, len(frames)))


@dataclass(frozen=True)
class References:
    """What leads to the subjects of pictures: see ImageReference. flags: how the flags begin that brought them."""

    masks: Sequence[np.ndarray] | None = None
    bbox: Sequence | None = None
    label: Sequence[str] = ()
    caption: Sequence[str] = ()
    flags: str = "--ref_"
    together: bool = False

    def cut(
        self, name: str, images: Sequence[np.ndarray], mode: str, networks: Networks | None, augment: dict
    ) -> Result:
        def make():
            return ImageReference()(
                images=images, mode=mode, masks=self.masks, bbox=self.bbox, label=self.label, caption=self.caption,
                networks=networks, flags=self.flags, together=self.together, name=name, **augment,
            )  # fmt: skip

        return networks.once(images, make) if networks else make()


class ReferenceAnything:
    """Up to three pictures of what shall appear in the video, each subject cut out on white; see ImageReference.

    Raises InputError for more than three pictures.
    """

    def __call__(self, *, images: Sequence[np.ndarray], mode: str, **values) -> Result:
        if not 1 <= len(images) <= MOST_REFERENCES:
            raise InputError(f"--image: {len(images)} given, reference_anything takes 1 to {MOST_REFERENCES}")
        return ImageReference()(images=images, mode=mode, name="reference_anything", **values)


class AnimateAnything:
    """The movement of the people in a clip as pose, and subjects of pictures as references who shall move so.

    frames: the clip. images, mode, ref_masks, ref_bbox, ref_label, ref_caption, maskaug_mode, maskaug_ratio, seed: for
    the references, see ImageReference. networks: what sees poses and subjects.
    """

    def __call__(
        self,
        *,
        frames: Clip,
        images: Sequence[np.ndarray],
        mode: str,
        ref_masks: Sequence[np.ndarray] | None = None,
        ref_bbox: Sequence | None = None,
        ref_label: Sequence[str] = (),
        ref_caption: Sequence[str] = (),
        networks: Networks | None = None,
        **augment,
    ) -> Result:
        references = References(ref_masks, ref_bbox, ref_label, ref_caption)
        from vace.annotators.pose import Pose

        result = Pose()(frames=frames, networks=networks)
        cut = references.cut("animate_anything", images, mode, networks, augment)
        result.images, result.image_masks = cut.images, cut.image_masks
        return result


class SwapAnything:
    """A thing of the clip grayed out wherever it goes, and subjects of pictures as references that take its place.

    frames: the clip. mode: "VIDEO,IMAGES", both keys of `regions.MODES` (the second may be "plain"). mask, bbox, label,
    caption lead the video's mode, ref_masks, ref_bbox, ref_label, ref_caption that of the pictures; without words of
    their own the pictures are searched for the video's. maskaug_mode, maskaug_ratio: enlarge the video's region; the
    references are cut as they are (the original lets one setting serve both, so that a swapped thing's outline would
    bring its picture's background along).
    """

    def __call__(
        self,
        *,
        frames: Clip,
        images: Sequence[np.ndarray],
        mode: str,
        mask: MaskClip | None = None,
        bbox: Sequence | None = None,
        label: Sequence[str] = (),
        caption: str | None = None,
        ref_masks: Sequence[np.ndarray] | None = None,
        ref_bbox: Sequence | None = None,
        ref_label: Sequence[str] = (),
        ref_caption: Sequence[str] = (),
        networks: Networks | None = None,
        **augment,
    ) -> Result:
        lead, _, own = mode.rpartition(",")
        led = {"mask": mask, "bbox": bbox, "label": label, "caption": caption}
        result = Inpainting()(frames=frames, mode=lead or own, networks=networks, **led, **augment)
        words = ref_label or label, ref_caption or ([caption] if caption else [])
        flags = "--ref_" if ref_label or ref_caption or own not in ("label", "caption") else "--"
        references = References(ref_masks, ref_bbox, *words, flags=flags, together=not ref_label)
        cut = references.cut("swap_anything", images, own, networks, {})
        result.images, result.image_masks = cut.images, cut.image_masks
        return result


def split_mode(mode: str) -> tuple[str, str]:
    """ "firstframe,plain" -> what the first picture is, and how references are cut; one word is the second.

    Raises InputError for a first word other than firstframe and lastframe.
    """
    lead, _, own = mode.rpartition(",")
    lead = lead.strip() or LEAD_MODES[0]
    if lead not in LEAD_MODES:
        raise InputError(f"--mode {mode}: expand_anything cannot lead with '{lead}'; {nearest(lead, LEAD_MODES)}")
    return lead, own.strip()


class ExpandAnything:
    """The first picture outpainted and extended into a video; the other pictures are references.

    images: RGB uint8 [H,W,3] each; without a second one there are no references (the original fails). mode: how the
    references are cut (see ImageReference), after "firstframe," or "lastframe," for the place of the first picture.
    direction, expand_ratio: as for Outpainting. expand_num: gray frames to make. ref_masks, ref_bbox, ref_label,
    ref_caption, maskaug_mode, maskaug_ratio, seed, networks: for the references. The mask of the outpainted frame
    stands beside it at whichever end it is (the original leaves it at the beginning). Raises InputError for what is
    absent or does not fit.
    """

    def __call__(
        self,
        *,
        images: Sequence[np.ndarray],
        mode: str = "plain",
        direction: Sequence[str] = DEFAULT_DIRECTION,
        expand_ratio: float = 0.25,
        expand_num: int = DEFAULT_EXPAND_NUM,
        ref_masks: Sequence[np.ndarray] | None = None,
        ref_bbox: Sequence | None = None,
        ref_label: Sequence[str] = (),
        ref_caption: Sequence[str] = (),
        networks: Networks | None = None,
        **augment,
    ) -> Result:
        if not images:
            raise InputError("--image: expand_anything needs the picture to expand, then any references")
        lead, reference_mode = split_mode(mode)
        height, width = images[0].shape[:2]
        found = outer_geometry(width, height, direction, expand_ratio)
        expanded = picture(place(images[0][None], found)[0])
        part = Part(expanded, keep_mask(found.width, found.height, found.keep))
        ends = (part, None) if lead == "firstframe" else (None, part)
        result = extension(ends[0], check_expand_num(expand_num), ends[1])
        if len(images) > 1:
            references = References(ref_masks, ref_bbox, ref_label, ref_caption)
            cut = references.cut("expand_anything", images[1:], reference_mode, networks, augment)
            result.images, result.image_masks = cut.images, cut.image_masks
        return result
