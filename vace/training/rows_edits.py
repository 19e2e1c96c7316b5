"""Rows of edits: a region of the clip, what lies around it, or the time before and after it is made anew."""

from __future__ import annotations

import numpy as np

from vace.training.rendering import Clip
from vace.training.rows_draft import Draft, annotated, clip_of, mask_of
from vace.training.rows_masks import Region, region
from vace.training.rows_world import Asked, edit_prompt

DIRECTIONS = {
    ("left", "right"): 0.24, ("up", "down"): 0.12, ("left",): 0.12, ("right",): 0.12, ("up",): 0.08, ("down",): 0.08,
    ("left", "right", "up", "down"): 0.16, ("left", "up"): 0.04, ("right", "down"): 0.04,
}  # fmt: skip
RATIOS = (0.1, 0.15, 0.2, 0.25, 0.25, 0.3, 0.4, 0.5, 0.5, 0.75, 1.0)
LEAST_SOURCE = 24  # pixels of a side of what is outpainted


def inpainting(asked: Asked) -> Draft:
    clip = asked.clip()
    return repainted(asked, clip, region(asked, clip))


def repainted(asked: Asked, clip: Clip, where: Region) -> Draft:
    before = clip.frames if where.before is None else where.before
    source, given = asked.material(before), _region_flags(asked, where)
    video, masks = annotated("inpainting", frames=clip_of(source), **given, **where.augment)
    made = _at_model_size(asked, masks)
    target = clip.frames if where.before is None else np.where(made[..., None] > 127, clip.frames, before)
    prompt = edit_prompt(asked, clip, where.things)
    return Draft(clip, video, masks, row="inpainting", mode=where.mode, source=source, things=where.things,
                 prompt=prompt, target=target)  # fmt: skip


def _region_flags(asked: Asked, where: Region) -> dict:
    """The region as `vace preprocess` takes it, for the material at its size."""
    if where.box is not None:
        return {"mode": "bbox", "bbox": [tuple(value * (2 if asked.is_enlarged else 1) for value in where.box)]}
    masks = where.masks if where.masks.ndim == 3 else where.masks[None]
    return {"mode": "mask", "mask": mask_of(asked.material(masks))}


def _at_model_size(asked: Asked, masks: np.ndarray) -> np.ndarray:
    from vace.conditioning.pixels import resize_crop_mask

    return resize_crop_mask(masks, *asked.size)


def outpainting(asked: Asked) -> Draft:
    """The picture made larger; one time in six its border made anew instead."""
    clip = asked.clip()
    frames = asked.material(clip.frames)
    height, width = frames.shape[1:3]
    if asked.chance(0.16):
        direction, ratio = asked.weighted(DIRECTIONS), float(asked.rng.uniform(0.1, 0.35))
        video, masks = annotated("outpainting_inner", frames=clip_of(frames), direction=direction, expand_ratio=ratio)
        return Draft(clip, video, masks, row="outpainting_inner", mode="inner", source=frames)
    direction, ratio, box = part_of(asked, width, height)
    source = frames[:, box[1] : box[3], box[0] : box[2]]
    blur = asked.whole(1, 2) if asked.chance(0.12) else 0
    video, masks = annotated(
        "outpainting", frames=clip_of(source), direction=direction, expand_ratio=ratio, mask_blur=blur
    )
    return Draft(clip, video, masks, row="outpainting", mode=",".join(direction), source=source)


def part_of(asked: Asked, width: int, height: int) -> tuple[tuple[str, ...], float, tuple[int, int, int, int]]:
    """A direction, a ratio, and the part of a picture that outpainting makes into all of it: a box x1, y1, x2, y2."""
    for _ in range(60):
        direction = asked.weighted(DIRECTIONS)
        ratio = asked.one(RATIOS) if asked.chance(0.7) else round(float(asked.rng.uniform(0.08, 1)), 2)
        across = _shrunk(width, ratio, len({"left", "right"} & set(direction)))
        down = _shrunk(height, ratio, len({"up", "down"} & set(direction)))
        if across and down and across * down < width * height:
            x = int(ratio * across) if "left" in direction else 0
            y = int(ratio * down) if "up" in direction else 0
            return direction, ratio, (x, y, x + across, y + down)
    return ("left",), 1.0, (width // 2, 0, width, height)  # both sides are even


def _shrunk(length: int, ratio: float, sides: int) -> int | None:
    """The length that a ratio on so many sides makes into exactly `length`, if there is one."""
    found = (short for short in range(LEAST_SOURCE, length + 1) if short + sides * int(ratio * short) == length)
    return next(found, None)


# Given frames kept, the rest made.


def frameref(asked: Asked) -> Draft:
    clip = asked.clip()
    frames = asked.material(clip.frames)
    mode = asked.weighted({"firstframe": 0.5, "firstlastframe": 0.25, "lastframe": 0.15, "random": 0.1})
    if mode == "random":
        given = {"frames": clip_of(frames), "ref_num": asked.whole(2, 4), "ref_cfg": "random"}
        video, masks = annotated("framerefext", **given, seed=asked.whole(0, 9999))
        return Draft(clip, video, masks, row="framerefext", mode=mode, source=frames)
    kept = {"firstframe": [0], "lastframe": [-1], "firstlastframe": [0, -1]}[mode]
    images = [frames[k] for k in kept]
    video, masks = annotated("frameref", images=images, mode=mode, expand_num=asked.frames - len(kept))
    return Draft(clip, video, masks, row="frameref", mode=mode, source=frames)


def clipref(asked: Asked) -> Draft:
    """A third to a half of the clip kept at its beginning or its end, or a fifth to a third at both."""
    clip = asked.clip()
    frames = asked.material(clip.frames)
    mode = asked.weighted({"firstclip": 0.6, "lastclip": 0.2, "firstlastclip": 0.2})
    low, high = (4, asked.frames // 3) if mode == "firstlastclip" else (5, asked.frames // 2 + 1)
    kept = min(asked.one((5, 8, 9)), high) if asked.chance(0.5) else asked.whole(min(low, high), high)
    parts = {"firstclip": [frames[:kept]], "lastclip": [frames[-kept:]]}.get(mode, [frames[:kept], frames[-kept:]])
    made = asked.frames - kept * len(parts)
    video, masks = annotated("frameref", clips=[clip_of(part) for part in parts], mode=mode, expand_num=made)
    return Draft(clip, video, masks, row="clipref", mode=mode, source=frames)
