"""The annotators: what turns raw media into src_video, src_mask and src_ref_images. Looked up here by name."""

from __future__ import annotations

import importlib

from vace.annotators.base import Annotator
from vace.errors import InputError, nearest

REGISTRY: dict[str, str] = {
    "plain": "vace.annotators.plain:Plain",
    "gray": "vace.annotators.plain:Gray",
    "image_plain": "vace.annotators.plain:ImagePlain",
    "image_gray": "vace.annotators.plain:ImageGray",
    "frameref": "vace.annotators.frameref:FrameRef",
    "framerefext": "vace.annotators.framerefext:FrameRefExt",
    "inpainting": "vace.annotators.inpainting:Inpainting",
    "outpainting": "vace.annotators.outpainting:Outpainting",
    "outpainting_inner": "vace.annotators.outpainting:OutpaintingInner",
    "image_outpainting": "vace.annotators.outpainting:ImageOutpainting",
    "layout_bbox": "vace.annotators.layout:LayoutBbox",
    "layout_track": "vace.annotators.layout_track:LayoutTrack",
    "depth": "vace.annotators.depth:Depth",
    "depthv2": "vace.annotators.depth:DepthV2",
    "flow": "vace.annotators.flow:Flow",
    "pose": "vace.annotators.pose:Pose",
    "pose_body": "vace.annotators.pose:PoseBody",
    "scribble": "vace.annotators.scribble:Scribble",
    "image_salient": "vace.annotators.salient:ImageSalient",
    "image_face": "vace.annotators.face:ImageFace",
    "image_reference": "vace.annotators.subject:ImageReference",
    "image_inpainting": "vace.annotators.inpainting:ImageInpainting",
    "composition": "vace.annotators.composition:Composition",
    "reference_anything": "vace.annotators.anything:ReferenceAnything",
    "animate_anything": "vace.annotators.anything:AnimateAnything",
    "swap_anything": "vace.annotators.anything:SwapAnything",
    "move_anything": "vace.annotators.anything:MoveAnything",
    "expand_anything": "vace.annotators.anything:ExpandAnything",
}


def get(name: str, **options) -> Annotator:
    """The annotator called `name`, its module imported only now; options go to its constructor.

    Raises InputError that names the nearest known ones.
    """
    if name not in REGISTRY:
        raise InputError(f"annotator '{name}': there is no such annotator; {nearest(name, REGISTRY)}")
    module, _, attribute = REGISTRY[name].partition(":")
    return getattr(importlib.import_module(module), attribute)(**options)
