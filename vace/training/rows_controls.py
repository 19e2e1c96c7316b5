"""Rows of controls: the whole clip is made anew, led by what the project's annotators draw of it, or by boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vace.training.rendering import Clip
from vace.training.rows_draft import Draft, annotated, clip_of, networks
from vace.training.rows_world import Asked, enlarged, straight, subjects, white, with_puppet

MAGNIFIED = {1: 0.5, 2: 0.2, 4: 0.15, 8: 0.15}  # sizes that layouts are drawn at against the model's: 8 is about 720p
LABELS = {"puppet": "person"}  # words that the colour table knows, where a thing's own name is none


def plain(asked: Asked) -> Draft:
    return controlled(asked, asked.clip(), "plain")


def gray(asked: Asked) -> Draft:
    return controlled(asked, asked.clip(), "gray")


def depth(asked: Asked) -> Draft:
    return controlled(asked, asked.clip(), "depth")


def scribble(asked: Asked) -> Draft:
    return controlled(asked, asked.clip(), "scribble")


def flow(asked: Asked) -> Draft:
    return controlled(asked, asked.clip(), "flow")


def pose(asked: Asked) -> Draft:
    clip, puppets = with_puppet(asked)
    return replace(controlled(asked, clip, "pose"), things=puppets)


def controlled(asked: Asked, clip: Clip, name: str) -> Draft:
    source = asked.material(clip.frames)
    return Draft(clip, control(asked, clip, name, source), row=name, source=source)


def control(asked: Asked, clip: Clip, name: str, source: np.ndarray) -> np.ndarray:
    """What annotator `name` draws of the source, which shows the clip: uint8 [T,h,w,3]."""
    given = {"frames": clip_of(source)}
    if name == "pose":
        given["networks"] = _TruePoints(clip, source.shape[2] / clip.frames.shape[2])
    elif name not in ("gray", "plain"):
        given["networks"] = networks()
    return annotated(name, **given)[0]


class _TruePoints:
    """The network "pose", and the networks of a run, for a clip whose points are known: puppets deceive MediaPipe."""

    short_side = None

    def __init__(self, clip: Clip, scale: float):
        puppets = [n for n, thing in enumerate(clip.world.things) if thing.kind == "puppet"]
        self.points, self.next = clip.keypoints[:, puppets] * scale, 0

    def get(self, name: str) -> _TruePoints:
        return self

    def poses(self, frames: np.ndarray, memory, hands: bool):
        """One People for each of the frames, which come in the clip's order. Points outside the picture are unsure."""
        from vace.annotators.nets.poses import BODY, POINTS, People

        for frame in frames:
            found = self.points[self.next]
            points = np.zeros((len(found), POINTS, 2), np.float32)
            scores = np.zeros((len(found), POINTS), np.float32)
            points[:, BODY] = found
            scores[:, BODY] = ((found >= 0) & (found < frame.shape[1::-1])).all(axis=-1)
            self.next += 1
            yield People(points, scores)


def layout(asked: Asked) -> Draft:
    """A box that goes a straight way, or outlines of one thing or of all, with the colour of a label or in black."""
    if asked.chance(0.45):
        clip, n, boxes = straight(asked)
        drawn = annotated("layout_bbox", frame_num=asked.frames, **moving_box(asked, clip, n, boxes))[0]
        return Draft(clip, drawn, row="layout_bbox", mode="bbox", things=(n,))
    clip = asked.clip()
    things = subjects(asked, clip) if asked.chance(0.6) else tuple(range(len(clip.world.things)))
    augment = asked.weighted({None: 0.35, "bbox": 0.45, "hull": 0.1, "bbox_expand": 0.1})
    drawn = _outlined(asked, clip, things, augment)
    return Draft(clip, drawn, row="layout_track", mode="box" if augment in ("bbox", "bbox_expand") else "outline",
                 things=things)  # fmt: skip


def _magnified(asked: Asked) -> int:
    return asked.weighted(MAGNIFIED) if asked.split == "train" else 1


def moving_box(asked: Asked, clip: Clip, n: int, boxes: np.ndarray) -> dict:
    """What a person gives for a moving box: where it is at first and at last, perhaps a label, the picture's size."""
    from vace.annotators.colors import label_colors

    scale = _magnified(asked)
    width, height = asked.size[0] * scale, asked.size[1] * scale
    given = {"bbox": [tuple(box) for box in boxes[[0, -1]] * scale], "size": (width, height)}
    return given | {"label": _label(asked, clip, n), "color_table": label_colors()}


def _label(asked: Asked, clip: Clip, n: int) -> str | None:
    """The thing's name, or a word for it, if the colour table knows one; half of the people give none."""
    from vace.annotators.colors import LABELS as KNOWN

    thing = clip.world.things[n]
    name = LABELS.get(thing.kind, thing.name)
    return name if name in KNOWN and asked.chance(0.6) else None


def _outlined(asked: Asked, clip: Clip, things: Sequence[int], augment: str | None) -> np.ndarray:
    """What `layout_track` draws of things that are followed without a fault: uint8 [T,h,w,3]."""
    from vace.annotators.colors import label_colors
    from vace.annotators.layout import pick_color
    from vace.annotators.layout_track import draw_outline
    from vace.annotators.maskaug import augmenter
    from vace.annotators.masks import binary

    scale, table = _magnified(asked), label_colors()
    change = augmenter(augment, None, asked.whole(0, 9999))
    width, height = asked.size
    canvas = np.full((asked.frames, height * scale, width * scale, 3), 255, np.uint8)
    for n in things:
        color = pick_color(_label(asked, clip, n), table)
        masks = white(clip.masks[:, n])
        for frame, mask in zip(canvas, enlarged(masks, scale) if scale > 1 else masks, strict=True):
            draw_outline(frame, binary(change(mask)) if change else mask, color)
    return canvas
