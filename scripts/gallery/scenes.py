"""Toy worlds made by hand, and the files that examples are made from: clips, pictures, cut-outs, masks, boxes.

Everything follows from the descriptions here and from assets/: made twice, the files decode to the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from make_assets import ASSETS, write_clip
from PIL import Image

from vace.media.image import read_image, write_image
from vace.media.video import VideoReader, VideoWriter
from vace.training.captions import facts
from vace.training.rendering import Clip, boxes_of, render
from vace.training.scene import KINDS, Camera, Texture, Thing, World
from vace.training.worlds import PUPPET_SCALE, RADII, SPRITE_SCALE

FPS, FRAMES, SIZE = 16, 17, (96, 64)  # of every clip: what vace-tiny makes; width first
SQUARE = (64, 64)  # of what is widened to SIZE
KEPT = 5  # frames of a clip that is continued
MARGIN = 2  # pixels between a thing and the box somebody draws round it
CUT_OUT = 56  # pixels of a cut-out's longer side
PERSON = (96, 64)  # of the real clip, in which the embedded networks still see the person
PORTRAIT = 160  # pixels of the real picture's sides
CRF, PERSON_CRF = 10, 18  # so few pixels deserve good ones; of the real clip there are more


def thing(
    colour: str,
    name: str,
    motion: str = "still",
    start: tuple[float, float] = (0.0, 0.0),
    *,
    reach: float = 0.0,
    size: str = "medium",
    rank: int = 0,
    pattern: str = "stripes",
    mirrored: bool = False,
) -> Thing:
    """A thing of a scene. start: shares (x, y) from the picture's centre; the rest as in `vace.training.scene`."""
    kind = next(kind for kind, names in KINDS.items() if name in names)
    scale = {"puppet": PUPPET_SCALE, "sprite": SPRITE_SCALE}.get(kind, 1)
    texture = Texture(pattern, pitch=1.3, angle=0.7, shift=0.2, strength=0.3)
    return Thing(
        kind=kind, name=name, colour=colour, size=size, radius=sum(RADII[size]) / 2 * scale, motion=motion, start=start,
        reach=reach, phase=0.1, tilt=0.0, turns=0.0, rank=rank, is_mirrored=mirrored, texture=texture,
    )  # fmt: skip


def scene(caption: str, *things: Thing, ground_seed: int = 1, amount: float = 0.2) -> World:
    """A world; its ground and camera are those of the caption, which names the things in order."""
    said = facts(caption)
    camera = Camera(said.camera or "still", amount)
    return World(0, "train", things, said.ground, ground_seed, -2.2, camera, caption, SIZE, FRAMES)


SCENES: Mapping[str, World] = MappingProxyType(
    {
        # The clip of ./run_vace_pipeline.sh: one thing moves past another, the camera stands still.
        "toy": scene(
            "a red square moves right and a small yellow star rests over grass",
            thing("red", "square", "right", (-0.26, 0.17), reach=0.36),
            thing("yellow", "star", start=(0.33, -0.26), size="small", rank=1, pattern="dots"),
        ),
        "car": scene(
            "an orange car moves right on sand, the camera pans right",
            thing("orange", "car", "right", (-0.2, 0.08), reach=0.4, pattern="checks"),
            amount=0.16,
        ),
        "fish": scene(
            "a pink fish moves right over blue water",
            thing("pink", "fish", "right", (-0.24, 0.05), reach=0.46),
        ),
        "house": scene(
            "a red house rests on the grass and a small blue bird moves left",
            thing("red", "house", start=(-0.2, 0.1), pattern="checks"),
            thing("blue", "bird", "left", (0.4, -0.28), reach=0.3, size="small", rank=1, mirrored=True),
            ground_seed=4,
        ),
        "boat": scene(
            "a green boat moves in circles over blue water",
            thing("green", "boat", "circles", (0.1, 0.05), reach=0.24),
            ground_seed=3,
        ),
        "heart": scene(
            "a blue heart rests on a wooden floor",
            thing("blue", "heart", start=(-0.08, 0.02), pattern="dots"),
        ),
        "puppet": scene(
            "a purple puppet waves in front of a brick wall",
            thing("purple", "puppet", "waves", (0.0, 0.02)),
        ),
    }
)  # fmt: skip
CUT_OUTS = MappingProxyType(
    {
        "blue_heart": thing("blue", "heart", pattern="dots"),
        "green_tree": thing("green", "tree", pattern="noise"),
        "purple_puppet": thing("purple", "puppet"),
    }
)


@cache
def clip_of(name: str, size: tuple[int, int] = SIZE) -> Clip:
    """The scene called `name`, rendered."""
    return render(SCENES[name], size=size)


def box_round(mask: np.ndarray) -> str:
    """A box 'x1,y1,x2,y2' a little larger than what is white in `mask`, [H,W] bool."""
    x1, y1, x2, y2 = boxes_of(mask)
    height, width = mask.shape
    edges = max(0, x1 - MARGIN), max(0, y1 - MARGIN), min(width, x2 + MARGIN), min(height, y2 + MARGIN)
    return ",".join(f"{edge:.0f}" for edge in edges)


def boxes() -> dict[str, str]:
    """The boxes that the table of examples names."""
    toy, car, fish, heart = (clip_of(name).masks for name in ("toy", "car", "fish", "heart"))
    return {
        "square_box": box_round(toy[0, 0]),
        "star_box": box_round(toy[0, 1]),
        "heart_box": box_round(heart[0, 0]),
        "car_path": f"{box_round(car[0, 0])} {box_round(car[-1, 0])}",
        "fish_path": f"{box_round(fish[0, 0])} {box_round(fish[-1, 0])}",
    }


def cut_out(subject: Thing) -> np.ndarray:
    """A thing alone on white, RGB uint8 [H,W,3], cropped with a little room."""
    world = scene("a red square rests on snow", subject)
    clip = render(world, size=(192, 192), frames=1)
    mask = clip.full_masks[0, 0]
    picture = np.where(mask[..., None], clip.frames[0], 255).astype(np.uint8)
    x1, y1, x2, y2 = boxes_of(mask).astype(int)
    return reduced(np.pad(picture[y1:y2, x1:x2], ((6, 6), (6, 6), (0, 0)), constant_values=255), CUT_OUT)


def reduced(picture: np.ndarray, longest: int) -> np.ndarray:
    """RGB uint8 [H,W,3] at a size whose longer side is `longest` pixels."""
    import cv2

    height, width = picture.shape[:2]
    share = longest / max(height, width)
    size = max(1, round(width * share)), max(1, round(height * share))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def person_clip() -> np.ndarray:
    """Every third frame of assets/videos/person.mp4, the bottom cut off: RGB uint8 [FRAMES,H,W,3]."""
    import cv2

    with VideoReader(ASSETS / "videos/person.mp4") as reader:
        frames = reader.get(list(range(0, 3 * FRAMES - 2, 3)))
    width, height = PERSON
    kept = frames.shape[2] * height // width  # rows, from the top down, where the head is
    return np.stack([cv2.resize(frame[:kept], PERSON, interpolation=cv2.INTER_AREA) for frame in frames])


def write_mask(path: Path, mask: np.ndarray) -> None:
    """A mask as a picture or, [T,H,W] bool, as an exact clip."""
    white = mask.astype(np.uint8) * 255
    if mask.ndim == 3:
        with VideoWriter(path, FPS, kind="exact") as writer:
            writer.write(white)
    else:
        write_image(path, white)


def write_toy(assets: Path = ASSETS) -> None:
    """The clip of ./run_vace_pipeline.sh, the true mask of what moves in it, and that mask in the first frame."""
    toy = clip_of("toy")
    for folder in ("videos", "masks"):
        (assets / folder).mkdir(parents=True, exist_ok=True)
    write_clip(assets / "videos/toy.mp4", toy.frames, FPS, crf=CRF)
    write_mask(assets / "masks/toy.mp4", toy.masks[:, 0])
    write_mask(assets / "masks/toy.png", toy.masks[0, 0])


def write_materials(folder: Path) -> None:
    """Every file that the table of examples names, into `folder`; those of `write_toy` are in assets/."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("car", "fish", "house", "puppet"):
        write_clip(folder / f"{name}.mp4", clip_of(name).frames, FPS, crf=CRF)
    fish, car, heart = clip_of("fish").frames, clip_of("car"), clip_of("heart")
    write_clip(folder / "car_begin.mp4", car.frames[:KEPT], FPS, crf=CRF)
    write_clip(folder / "fish_begin.mp4", fish[:KEPT], FPS, crf=CRF)
    write_clip(folder / "fish_end.mp4", fish[-KEPT:], FPS, crf=CRF)
    write_image(folder / "fish_first.png", fish[0])
    write_image(folder / "fish_last.png", fish[-1])
    write_image(folder / "car.png", car.frames[0])
    write_image(folder / "heart.png", heart.frames[0])
    write_mask(folder / "heart_mask.png", heart.masks[0, 0])
    write_mask(folder / "star_mask.png", clip_of("toy").masks[0, 1])
    boat = clip_of("boat", SQUARE).frames
    write_clip(folder / "boat.mp4", boat, FPS, crf=CRF)
    write_image(folder / "boat.png", boat[0])
    for name, subject in CUT_OUTS.items():
        write_image(folder / f"{name}.png", cut_out(subject))
    write_clip(folder / "person.mp4", person_clip(), FPS, crf=PERSON_CRF)
    portrait = Image.fromarray(reduced(read_image(ASSETS / "images/test.jpg"), PORTRAIT))
    portrait.save(folder / "person.jpg", quality=92, subsampling=0)
