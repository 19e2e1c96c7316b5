"""Clips drawn from a seed with the true mask of every frame: what a tracker has to follow.

Kinds: "shift" (a thing moves over a ground), "turn" (it turns and grows or shrinks as well), "hide" (it is hidden for
20 frames, by a bar or by vanishing or leaving, and returns). Shape, surface, ground, path, camera pan and sensor noise
are drawn from the seed, so no two clips are alike. Only numpy and OpenCV, and pictures from assets/images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

IMAGES = Path(__file__).resolve().parent.parent / "assets" / "images"
KINDS = ("shift", "turn", "hide")
HIDDEN = 20  # frames
SHAPES = ("ellipse", "box", "polygon", "star", "blob")
SURFACES = ("flat", "noise", "picture", "shaded", "checks")
GROUNDS = ("noise", "blocks", "smooth", "picture", "stripes")
HIDINGS = ("vanish", "vanish elsewhere", "bar", "passing bar", "leave")


@dataclass(frozen=True)
class TrueClip:
    """frames: RGB uint8 [T,H,W,3]; masks: uint8 [T,H,W], 255 where the thing is seen; says: how it was drawn."""

    frames: np.ndarray
    masks: np.ndarray
    says: str


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    """Of two masks; 1 where both are empty."""
    found, truth = found > 0, truth > 0
    union = np.count_nonzero(found | truth)
    return np.count_nonzero(found & truth) / union if union else 1.0


def mean_iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([iou(one, other) for one, other in zip(found, truth, strict=True)]))


def draw_clip(kind: str, seed: int, width: int = 240, height: int = 160, count: int = 60, **fixed) -> TrueClip:
    """A clip of `kind`. fixed: shape, surface, ground or hiding by name, instead of a drawn one."""
    rng = np.random.default_rng(seed)
    names = {"shape": SHAPES, "surface": SURFACES, "ground": GROUNDS, "hiding": HIDINGS}
    chosen = {key: fixed.get(key, str(rng.choice(values))) for key, values in names.items()}
    radius = min(width, height) * rng.uniform(0.12, 0.22)
    speed = rng.uniform(0.005, 0.02 if kind == "shift" else 0.012) * min(width, 480)
    pan = rng.uniform(-1, 1, 2) * (min(2.0, speed) if rng.random() < 0.3 else 0)
    noise = rng.choice([0.0, 0.0, 2.0, 4.0])
    is_soft = rng.random() < 0.7

    if kind == "hide" and chosen["hiding"] == "bar":
        radius = min(radius, width / 11)  # else it would not fit beside the bar

    alpha = _shape(rng, chosen["shape"], radius)
    surface = _unlike(rng, chosen, alpha)
    ground = _ground(rng, chosen["ground"], width, height, count, pan)
    poses, seen, bars = _script(rng, kind, chosen["hiding"], width, height, count, radius, speed)

    frames, masks = np.empty((count, height, width, 3), np.uint8), np.zeros((count, height, width), np.uint8)
    for t in range(count):
        frame = _view(ground, pan * t, width, height)
        if seen[t]:
            cover = _placed(alpha, poses[t], width, height)
            cover = cover if is_soft else (cover > 0.5).astype(np.float32)
            frame = frame + cover[..., None] * (_placed(surface, poses[t], width, height) - frame)
            masks[t] = (cover > 0.5) * np.uint8(255)
        if bars is not None:
            left, right, color = bars[t]
            frame[:, left:right], masks[t][:, left:right] = color, 0
        frame = frame + rng.normal(0, noise, frame.shape) if noise else frame
        frames[t] = np.clip(np.rint(frame), 0, 255)
    size = f"{width}x{height}, radius {radius:.0f}, speed {speed:.1f}, pan {pan.round(1)}, noise {noise:g}"
    return TrueClip(frames, masks, f"{kind}, seed {seed}: {chosen}, {size}")


def _shape(rng, name: str, radius: float) -> np.ndarray:
    """How much of each pixel the shape covers, float32 [n,n] in 0..1, its centre in the middle."""
    side, fine = int(2 * radius * 1.5) // 2 * 2 + 5, 4
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    across = rng.uniform(0.6, 1.0)
    if name == "box":
        points = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (0.9, 0.9 * across)
    elif name == "polygon":
        turns = np.sort(angles[:: 72 // rng.integers(3, 8)] + rng.uniform(-0.25, 0.25))
        points = np.stack([np.cos(turns), np.sin(turns)], 1) * 1.1
    else:
        reach = np.ones(72)
        if name == "star":
            reach = 0.85 + 0.3 * np.cos(rng.integers(4, 7) * angles)
        elif name == "blob":
            reach = 0.95 + sum(rng.uniform(-0.12, 0.12) * np.cos(k * angles + rng.uniform(0, 6)) for k in (2, 3, 4))
        points = np.stack([np.cos(angles), across * np.sin(angles)], 1) * reach[:, None]
    canvas = np.zeros((side * fine, side * fine), np.uint8)
    cv2.fillPoly(canvas, [np.rint((points * radius + side / 2) * fine).astype(np.int32)], 255)
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _unlike(rng, chosen: dict, alpha: np.ndarray) -> np.ndarray:
    """The thing's surface, float32 [n,n,3]. A flat thing in the ground's own colours could not be seen at all."""
    side = alpha.shape[0]
    if chosen["surface"] != "flat":
        return _texture(rng, chosen["surface"], side, side)
    color = rng.choice([20, 235], 3).astype(np.float32)
    return np.broadcast_to(color + rng.uniform(-15, 15, 3), (side, side, 3)).astype(np.float32)


def _texture(rng, name: str, width: int, height: int) -> np.ndarray:
    if name == "picture":
        path = rng.choice(sorted(IMAGES.glob("*.jpg")))
        picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        scale = max(rng.uniform(0.4, 1.0), (width + 2) / picture.shape[1], (height + 2) / picture.shape[0])
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        x, y = rng.integers(picture.shape[1] - width + 1), rng.integers(picture.shape[0] - height + 1)
        return picture[y : y + height, x : x + width].astype(np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    low, high = rng.uniform(20, 110, 3), rng.uniform(130, 240, 3)
    if name in ("smooth", "shaded"):
        turn = rng.uniform(0, 2 * np.pi)
        level = (x * np.cos(turn) + y * np.sin(turn)) / max(width, height)
        level = (level - level.min()) / np.ptp(level)
    elif name in ("stripes", "checks"):
        step = rng.uniform(5, 14)
        level = 0.5 + 0.5 * np.sign(np.sin(x * np.pi / step) * (np.sin(y * np.pi / step) if name == "checks" else 1))
        level = cv2.GaussianBlur(level.astype(np.float32), (0, 0), 0.7)
        level = level + cv2.GaussianBlur(rng.normal(0, 3, (height, width)).astype(np.float32), (0, 0), 6)
    elif name == "blocks":
        side = int(rng.integers(3, 9))
        level = rng.uniform(0, 1, (height // side + 1, width // side + 1)).astype(np.float32)
        return np.stack([_enlarged(rng.permutation(level), side, width, height)] * 3, -1) * (high - low) + low
    else:
        field = rng.normal(0, 1, (height, width, 3)).astype(np.float32)
        if rng.random() < 0.85:  # else every pixel is drawn by itself
            field = cv2.GaussianBlur(field, (0, 0), rng.uniform(0.8, 4))
        return np.clip((low + high) / 2 + field / field.std() * rng.uniform(20, 45), 0, 255).astype(np.float32)
    return np.clip(low + level[..., None] * (high - low), 0, 255).astype(np.float32)


def _enlarged(level: np.ndarray, side: int, width: int, height: int) -> np.ndarray:
    return level.repeat(side, 0).repeat(side, 1)[:height, :width]


def _ground(rng, name: str, width: int, height: int, count: int, pan: np.ndarray) -> np.ndarray:
    more = np.ceil(np.abs(pan) * count).astype(int) + 2
    ground = _texture(rng, name, width + 2 * more[0], height + 2 * more[1])
    return ground


def _view(ground: np.ndarray, at: np.ndarray, width: int, height: int) -> np.ndarray:
    middle = ((ground.shape[1] - width) / 2, (ground.shape[0] - height) / 2)
    move = np.float32([[1, 0, middle[0] + at[0]], [0, 1, middle[1] + at[1]]])
    return cv2.warpAffine(
        ground, move, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    )


def _placed(layer: np.ndarray, pose: tuple, width: int, height: int) -> np.ndarray:
    """`layer` with its middle at (x, y), turned by `angle` and scaled by `size`; pose: (x, y, angle, size)."""
    x, y, angle, size = pose
    middle = (layer.shape[0] - 1) / 2
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    move = np.column_stack([turn, (x, y) - turn @ (middle, middle)])
    border = cv2.BORDER_CONSTANT if layer.ndim == 2 else cv2.BORDER_REPLICATE
    return cv2.warpAffine(layer, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)


def _script(rng, kind, hiding, width, height, count, radius, speed):
    """Poses [(x, y, angle, size)] of every frame, whether the thing is drawn, bars (left, right, colour) or None."""
    angles, sizes = np.full(count, rng.uniform(0, 2 * np.pi)), np.ones(count)
    if kind == "turn":
        t = np.arange(count)
        angles = angles + rng.choice([-1, 1]) * np.radians(rng.uniform(1, 5)) * t
        rate = rng.uniform(1.0, 2.0) / count * 2 * np.pi
        sizes = np.exp(rng.choice([-1, 1]) * rng.uniform(0.15, 0.5) * np.sin(rate * t))
    room = radius * 1.2 * sizes.max()
    if kind == "hide" and hiding in ("bar", "passing bar", "leave"):
        places, bars = _crossing(rng, hiding, width, height, count, room)
        return [(x, y, a, s) for (x, y), a, s in zip(places, angles, sizes, strict=True)], np.ones(count, bool), bars
    places = _bouncing(rng, width, height, count, room, speed)
    seen = np.ones(count, bool)
    if kind == "hide":
        start = int(rng.integers(8, count - HIDDEN - 8))
        seen[start : start + HIDDEN] = False
        if hiding == "vanish elsewhere":
            places[start:] = _bouncing(rng, width, height, count - start, room, speed)
    return [(x, y, a, s) for (x, y), a, s in zip(places, angles, sizes, strict=True)], seen, None


def _bouncing(rng, width, height, count, room, speed) -> np.ndarray:
    """Places [count,2] on a straight path that is mirrored at the sides, `room` away from them."""
    low, high = np.array([room, room]), np.array([width - room, height - room])
    span = np.maximum(high - low, 1)
    turn = rng.uniform(0, 2 * np.pi)
    path = rng.uniform(0, span) + np.outer(np.arange(count), speed * np.array([np.cos(turn), np.sin(turn)]))
    return low + span - np.abs(path % (2 * span) - span)


def _crossing(rng, hiding, width, height, count, room):
    """Places of a thing that is hidden for about HIDDEN frames in mid-clip by a bar, or by leaving; and the bars."""
    t, y = np.arange(count), rng.uniform(room, height - room) * np.ones(count)
    color = rng.uniform(0, 255, 3)
    middle = count / 2 + rng.uniform(-4, 4)
    if hiding == "leave":  # out at the side and back again
        pace = rng.uniform(0.5, 1.0) * 2 * room / 8
        x = -room - pace * HIDDEN / 2 + pace * np.abs(t - middle)
        x = np.minimum(x, width - room)
        return np.stack([x if rng.random() < 0.5 else width - x, y], 1), None
    pace = room / 10 * rng.uniform(1.05, 1.4)  # in the open at first, wholly hidden in mid-clip, in the open at last
    wide = 2 * room + pace * HIDDEN
    across = pace * (t - middle)
    if hiding == "bar":
        x, left = width / 2 + across, np.full(count, width / 2 - wide / 2)
    else:
        x = np.full(count, rng.uniform(room, width - room)) + rng.uniform(-0.3, 0.3) * t
        left = x - wide / 2 + across
    bars = [(round(a), round(a + wide)) for a in left]
    if rng.random() < 0.5:
        x, bars = width - x, [(width - b, width - a) for a, b in bars]
    bars = [(max(0, a), max(0, b), color) for a, b in bars]
    return np.stack([x, y], 1), bars
