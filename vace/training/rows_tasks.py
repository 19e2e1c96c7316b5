"""Rows of words alone, and of pictures of what shall appear: alone, and together with controls and edits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vace.training.rows_controls import control, controlled, moving_box
from vace.training.rows_draft import Draft, annotated, clip_of, mask_of
from vace.training.rows_edits import outpainting, part_of, repainted
from vace.training.rows_masks import region
from vace.training.rows_world import (
    Asked,
    enlarged,
    picture_of,
    pictures,
    reference_prompt,
    straight,
    subject,
    subjects,
    with_puppet,
)

CONTROLS = ("depth", "scribble", "gray", "pose")


def txt2vid(asked: Asked) -> Draft:
    return Draft(asked.clip())


def reference(asked: Asked) -> Draft:
    clip = asked.clip()
    things = subjects(asked, clip)
    prompt = reference_prompt(asked, clip, things)
    return Draft(clip, images=pictures(asked, clip, things), mode=str(len(things)), things=things, prompt=prompt)


def swap(asked: Asked) -> Draft:
    """A thing gives way to that of a picture: as inpainting, mostly by wide masks, so that its outline is not told."""
    clip = asked.clip()
    mode = asked.weighted({"exact": 0.1, "dilated": 0.4, "hull": 0.1, "box": 0.2, "still": 0.08, "still_box": 0.12})
    draft = repainted(asked, clip, region(asked, clip, mode))
    prompt = draft.prompt if asked.chance(0.3) else reference_prompt(asked, clip, draft.things)
    images = pictures(asked, clip, draft.things)
    return replace(draft, row="swap_anything", images=images, prompt=prompt)


def move(asked: Asked) -> Draft:
    """The first frame, then a box that shows where one of its things goes."""
    clip, n, boxes = straight(asked)
    given = moving_box(asked, clip, n, boxes)
    width, height = given.pop("size")
    scale = width // asked.size[0]
    image = enlarged(clip.frames[:1], scale)[0] if scale > 1 else clip.frames[0]
    video, masks = annotated("move_anything", images=[image], expand_num=asked.frames - 1, **given)
    return Draft(clip, video, masks, row="move_anything", mode="bbox", source=clip.frames, things=(n,))


def control_reference(asked: Asked) -> Draft:
    """A control and references; with pose, as `animate_anything` makes it, the figure is among the references."""
    name = asked.one(CONTROLS)
    clip, puppets = with_puppet(asked) if name == "pose" else (asked.clip(), ())
    things = puppets or subjects(asked, clip)
    draft = controlled(asked, clip, name)
    row = "animate_anything" if name == "pose" else name
    images, prompt = pictures(asked, clip, things), reference_prompt(asked, clip, things)
    return replace(draft, row=row, mode=name, images=images, things=things, prompt=prompt)


def expand(asked: Asked) -> Draft:
    """Outpainting with references: of the footage, or (`expand_anything`) of one picture that becomes a clip too."""
    if asked.chance(0.4):
        draft = outpainting(asked)
        things = subjects(asked, draft.clip)
        images, prompt = pictures(asked, draft.clip, things), reference_prompt(asked, draft.clip, things)
        return replace(draft, mode="video", images=images, things=things, prompt=prompt)
    from vace import annotators

    clip = asked.clip()
    frames = asked.material(clip.frames)
    lead = asked.weighted({"firstframe": 0.75, "lastframe": 0.25})
    direction, ratio, (x1, y1, x2, y2) = part_of(asked, *frames.shape[2:0:-1])
    part = np.ascontiguousarray(frames[0 if lead == "firstframe" else -1, y1:y2, x1:x2])
    n = subject(asked, clip)
    image, mask = picture_of(clip.world.things[n], asked.rng)
    is_cut = asked.chance(0.85)
    result = annotators.get("expand_anything")(
        images=[part, image], mode=f"{lead},{'mask' if is_cut else 'plain'}", direction=direction, expand_ratio=ratio,
        expand_num=asked.frames - 1, ref_masks=[mask] if is_cut else None,
    )  # fmt: skip
    chunks = list(result.chunks)
    video, masks = (np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("frames", "masks"))
    return Draft(clip, video, masks, result.images, "expand_anything", lead, frames[:, y1:y2, x1:x2], (n,),
                 reference_prompt(asked, clip, (n,)))  # fmt: skip


def composition(asked: Asked) -> Draft:
    """A control in the place of what is to be made: in a repainted region, or after a first frame."""
    clip = asked.clip()
    name = asked.one(("depth", "scribble", "gray", "flow"))
    if asked.chance(0.6):
        where = region(asked, clip, asked.one(("dilated", "box", "still", "block", "ground")))
        base, kind = repainted(asked, clip, where), "inpainting"
    else:
        frames = asked.material(clip.frames)
        video, masks = annotated("frameref", images=[frames[0]], mode="firstframe", expand_num=asked.frames - 1)
        base, kind = Draft(clip, video, masks, source=frames), "firstframe"
    drawn = control(asked, clip, name, asked.material(clip.frames))
    video, masks = annotated(
        "composition", frames_1=clip_of(base.video), frames_2=clip_of(drawn), masks_1=mask_of(base.masks),
        masks_2=None, process_type_1=kind, process_type_2=name,
    )  # fmt: skip
    return replace(base, video=video, masks=masks, row="composition", mode=f"{kind},{name}")
