"""What the trainer's stages see: batches of clips that are a pure function of seed and step, rendered ahead.

    batch = clips(seed=0, step=17, count=4, frames=17, size=(64, 64))      uint8 [4,17,64,64,3]
    for step, batch in ahead(make, range(0, 100)): ...                     make(step) runs in another process

Most clips are toy worlds of split "train". Some show what the VAE meets besides them: the same world as a control
(depth, gray, lines, flow, parts painted neutral), and patterns and letters that slide by.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from vace.training import grounds
from vace.training.rendering import Clip, render
from vace.training.scene import GROUNDS
from vace.training.worlds import sample_world

CONTROL_SHARE, PATTERN_SHARE = 0.18, 0.08
NEUTRAL = 127.5  # 0.0 in the model's space; clips are whole numbers, so it is drawn as 127 or 128
HELD_OUT_SEED = 900_000  # worlds of evaluation are counted from here
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
FASTEST = 1.6  # pixels a frame that patterns slide


def clips(seed: int, step: int, count: int, frames: int, size: tuple[int, int]) -> np.ndarray:
    """A batch of training clips, uint8 [count,frames,H,W,3]. size: (width, height). One frame: two from each world."""
    rng = np.random.default_rng([seed, step])
    per_world, length = (2, 2) if frames == 1 else (1, frames)
    found = []
    for _ in range(-(-count // per_world)):
        clip = _varied(_content(rng, size, length), rng)
        found += [clip] if frames > 1 else [clip[:1], clip[1:]]
    return np.ascontiguousarray(np.stack(found[:count]))


def held_out_clips(count: int, frames: int = 17, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """The clips of evaluation, uint8 [count,frames,H,W,3]: always the same, with pairs that training never shows."""
    worlds = [sample_world(HELD_OUT_SEED + k, split="held_out") for k in range(count)]
    return np.stack([render(world, size=size, frames=frames).frames for world in worlds])


def ahead(make: Callable[[int], Any], steps: Iterable[int], *, workers: int = 1) -> Iterator[tuple[int, Any]]:
    """(step, make(step)) in order; made by `workers` processes ahead of time, or here when there are none."""
    from torch.utils.data import DataLoader

    steps = list(steps)
    loader = DataLoader(
        _Made(make),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_start_worker,
        multiprocessing_context="spawn" if workers else None,  # OpenCV's threads do not survive a fork
    )
    yield from zip(steps, loader, strict=True)


class _Made:
    """A data set whose item at a step is made for it."""

    def __init__(self, make: Callable[[int], Any]):
        self.make = make

    def __getitem__(self, step: int) -> Any:
        return self.make(step)


def _start_worker(index: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the trainer ends its workers


def _content(rng: np.random.Generator, size: tuple[int, int], frames: int) -> np.ndarray:
    kind = rng.random()
    if kind < PATTERN_SHARE:
        return _pattern(rng, size, frames)
    clip = render(sample_world(int(rng.integers(2**31)), objects=(1, 3)), size=size, frames=frames)
    if kind < PATTERN_SHARE + CONTROL_SHARE:
        return _CONTROLS[rng.integers(len(_CONTROLS))](clip, rng)
    return clip.frames


def _varied(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip mirrored, turned over, run backwards or neither."""
    flips = rng.random(3) < 0.5
    return frames[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1, :: -1 if flips[2] else 1]


def _pattern(rng: np.random.Generator, size: tuple[int, int], frames: int) -> np.ndarray:
    """A ground or blots of colour, with letters on it, that slides by."""
    import cv2

    (width, height), short = size, min(size)
    speed = rng.uniform(-FASTEST, FASTEST, 2) * (rng.random() < 0.8)
    reach = np.ceil(abs(speed) * (frames - 1)).astype(int) + 1
    columns, rows = width + reach[0], height + reach[1]
    if rng.random() < 0.5:
        x, y = np.arange(columns) / short, np.arange(rows) / short
        canvas = grounds.paint(GROUNDS[rng.integers(len(GROUNDS))], int(rng.integers(2**31)), x, y)
    else:
        cells = int(rng.integers(2, 12))
        canvas = cv2.resize(rng.uniform(0, 255, (cells, cells, 3)).astype(np.float32), (columns, rows),
                            interpolation=int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_NEAREST])))  # fmt: skip
    canvas = np.ascontiguousarray(canvas.clip(0, 255).astype(np.uint8))
    for _ in range(int(rng.integers(0, 5))):
        place = int(rng.integers(columns)), int(rng.integers(rows))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        scale, thick = float(rng.uniform(0.3, 1.6)) * short / 64, int(rng.integers(1, 4))
        cv2.putText(canvas, LETTERS[rng.integers(len(LETTERS))], place, 0, scale, colour, thick, cv2.LINE_AA)
    starts = np.where(speed < 0, reach - 1, 0)
    pictures = []
    for t in range(frames):
        left, top = (starts + speed * t).clip(0, reach - 1)
        shift = np.array([[1, 0, left], [0, 1, top]], float)
        pictures.append(cv2.warpAffine(canvas, shift, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))
    return np.stack(pictures)


def _depth(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    return _gray_to_rgb(clip.depth * 255)


def _gray(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    return _gray_to_rgb(clip.frames @ np.float32((0.299, 0.587, 0.114)))


def _lines(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """Edges, white on black or black on white."""
    import cv2

    edges = np.stack([cv2.Canny(cv2.GaussianBlur(frame, (3, 3), 0), 60, 140) for frame in clip.frames])
    return _gray_to_rgb(edges if rng.random() < 0.5 else 255 - edges)


def _flow(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """The flow as colours: hue is where to, whiteness is rest."""
    import cv2

    along_x, along_y = np.moveaxis(clip.flow, -1, 0).reshape(2, -1, clip.flow.shape[2])
    speed, angle = cv2.cartToPolar(along_x, along_y, angleInDegrees=True)
    share = (speed / max(1.0, float(speed.max()))).clip(0, 1)
    hsv = cv2.merge([(angle / 2).astype(np.uint8), (share * 255).astype(np.uint8), np.full(angle.shape, 255, np.uint8)])
    colours = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).reshape(*clip.flow.shape[:3], 3)
    return np.concatenate([colours, colours[-1:]])


def _neutral(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """A thing, all but it, or a box of each frame painted neutral."""
    n, kind = int(rng.integers(clip.masks.shape[1])), int(rng.integers(4))
    white = clip.full_masks[:, n]
    if kind >= 2:
        (top, left), (bottom, right) = (np.sort(rng.random((2, 2)), axis=0) * white.shape[1:]).astype(int)
        white = np.zeros_like(white)
        white[:, top : bottom + 1, left : right + 1] = True
    if kind % 2:
        white = ~white
    return np.where(white[..., None], np.uint8(NEUTRAL + rng.random()), clip.frames)


def _paper(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """A thing cut out on white, as references are."""
    mask = clip.masks[:, rng.integers(clip.masks.shape[1])]
    return np.where(mask[..., None], clip.frames, np.uint8(255))


def _layout(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """Boxes drawn as lines of a colour on white."""
    import cv2

    pictures = np.full_like(clip.frames, 255)
    colours = rng.integers(0, 256, (clip.boxes.shape[1], 3)).tolist()
    for picture, boxes in zip(pictures, clip.boxes.round().astype(int).tolist(), strict=True):
        for (x1, y1, x2, y2), colour in zip(boxes, colours, strict=True):
            cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 2)
    return pictures


def _gray_to_rgb(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray.round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


_CONTROLS = (_depth, _gray, _lines, _flow, _neutral, _neutral, _paper, _layout)
