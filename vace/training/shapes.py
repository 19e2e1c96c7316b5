"""Silhouettes of shapes, letters and sprites, made into shaded, textured surfaces that can be turned and lit.

Local coordinates: x right, y down, the radius is 1; a surface is a raster over [-EXTENT, EXTENT] in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from vace.training.scene import COLOURS, Texture

EXTENT = 1.12
_MASTER, _FINE = 128, 4  # pixels of a kept silhouette, and how much finer it is drawn
_BEVEL = 0.34  # how far the round edge reaches in
FIRST_LIGHT, LIGHT_SIDE, LIGHT_FRONT = 0.46, 0.62, 0.78
DARK, PALE, TRUNK, BEAK = (44, 42, 50), (236, 240, 244), (112, 78, 54), (206, 150, 70)


@dataclass(frozen=True)
class Surface:
    """A flat piece of a thing. rgb: float32 [h,w,3], unlit. alpha, height, nx, ny: float32 [h,w], height 0..1.

    to_local: float [3,3], from raster pixels (x, y) to local coordinates.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    height: np.ndarray
    nx: np.ndarray
    ny: np.ndarray
    to_local: np.ndarray

    def lit(self, lights: np.ndarray) -> np.ndarray:
        """Premultiplied RGBA, float32 [n,h,w,4], under each of the lights from (x, y), unit vectors [n,2], local."""
        lights = lights.astype(np.float32)[:, :, None, None]
        front = LIGHT_FRONT * np.sqrt(np.maximum(1 - self.nx**2 - self.ny**2, 0))
        facing = front + LIGHT_SIDE * (lights[:, 0] * self.nx + lights[:, 1] * self.ny)
        shade = FIRST_LIGHT + 0.68 * np.maximum(facing, 0)
        shine = 300 * np.maximum(facing - 0.88, 0)
        lit = np.empty((*facing.shape, 4), np.float32)
        for k in range(3):
            lit[..., k] = np.minimum(self.rgb[..., k] * shade + shine, 255) * self.alpha
        lit[..., 3] = self.alpha
        return lit


def surface_of(name: str, colour: str, texture: Texture, pixels: int) -> Surface:
    """The thing as a raster of `pixels` a side."""
    import cv2

    how = cv2.INTER_AREA if pixels <= _MASTER else cv2.INTER_LINEAR
    form, own = (cv2.resize(maps, (pixels, pixels), interpolation=how) for maps in _master(name))
    alpha, height, nx, ny = (np.ascontiguousarray(form[..., k]) for k in range(4))
    to_local = local_raster(pixels)
    places = (np.arange(pixels) * to_local[0, 0] + to_local[0, 2]).astype(np.float32)
    rgb = painted(colour, texture, places[None], places[:, None])
    rgb = rgb * (1 - own[..., 3:]) + own[..., :3]
    return Surface(rgb, alpha, height, nx, ny, to_local)


def local_raster(pixels: int) -> np.ndarray:
    step = 2 * EXTENT / pixels
    return np.array([[step, 0, step / 2 - EXTENT], [0, step, step / 2 - EXTENT], [0, 0, 1]])


def painted(colour: str, texture: Texture, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The texture in a colour, its lighter and its darker kind: float32 [H,W,3] for x [1,W] and y [H,1]."""
    base = np.float32(COLOURS[colour])
    pattern = _pattern(texture, x, y)[..., None].astype(np.float32)
    dark, light = base * (1 - 0.42 * texture.strength), base + (255 - base) * 0.30 * texture.strength
    return dark + (light - dark) * pattern


def _pattern(texture: Texture, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """0..1 [H,W]."""
    cos, sin = np.cos(texture.angle), np.sin(texture.angle)
    along = texture.pitch * (cos * x + sin * y) + texture.shift
    across = texture.pitch * (cos * y - sin * x) + texture.shift * 1.7
    waves = np.cos(2 * np.pi * along), np.cos(2 * np.pi * across)
    if texture.kind == "stripes":
        return 0.5 + 0.5 * np.tanh(2.2 * waves[0])
    if texture.kind == "checks":
        return 0.5 + 0.5 * np.tanh(3 * waves[0] * waves[1])
    if texture.kind == "dots":
        return 0.5 + 0.5 * np.tanh(2.5 * (waves[0] + waves[1] - 0.6))
    blotches = np.sin(3.1 * along + 2 * waves[1]) + np.sin(4.3 * across + 1.5 * waves[0])
    return 0.5 + 0.5 * np.tanh(1.2 * blotches)


@cache  # a constant of each name, made when first needed
def silhouette(name: str) -> np.ndarray:
    """Coverage, float32 [128,128] over the local coordinates."""
    return _master(name)[0][..., 0]


@cache
def _master(name: str) -> tuple[np.ndarray, np.ndarray]:
    """alpha, height, nx, ny; premultiplied RGBA of what has a colour of its own: float32 [128,128,4] each."""
    import cv2

    side = _MASTER * _FINE
    drawing = _Drawing(np.zeros((side, side), np.uint8), np.zeros((side, side, 4), np.float32))
    _DRAWINGS[name](drawing)
    inside = cv2.distanceTransform(np.pad(drawing.body, 1), cv2.DIST_L2, 5)[1:-1, 1:-1] * (2 * EXTENT / side)
    rise = 1 - (inside / _BEVEL).clip(0, 1)
    height = np.sqrt(1 - rise**2) * (drawing.body > 0)
    height = cv2.GaussianBlur(height.astype(np.float32), (0, 0), 0.03 * side / (2 * EXTENT))
    slope_y, slope_x = np.gradient(height * _BEVEL * 0.9, 2 * EXTENT / side)
    steep = np.sqrt(1 + slope_x**2 + slope_y**2)
    form = np.dstack([drawing.body / 255.0, height, -slope_x / steep, -slope_y / steep]).astype(np.float32)
    return tuple(cv2.resize(maps, (_MASTER, _MASTER), interpolation=cv2.INTER_AREA) for maps in (form, drawing.own))


@dataclass
class _Drawing:
    """Where a thing is (body, uint8) and where it has colours of its own (own, premultiplied RGBA, 0..255 and 0..1)."""

    body: np.ndarray
    own: np.ndarray

    def polygon(self, points, colour=None) -> _Drawing:
        import cv2

        pixels = (np.asarray(points, float) + EXTENT) * len(self.body) / (2 * EXTENT)
        pixels = np.round(pixels * 16).astype(np.int32)[None]
        cv2.fillPoly(self.body, pixels, 255, shift=4)
        if colour is not None:
            cv2.fillPoly(self.own, pixels, (*colour, 1.0), shift=4)
        return self

    def oval(self, x, y, radius_x, radius_y=None, colour=None, turn=0.0) -> _Drawing:
        angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        points = np.stack([radius_x * np.cos(angle), (radius_y or radius_x) * np.sin(angle)], axis=-1)
        return self.polygon(points @ _turn(turn).T + (x, y), colour)

    def line(self, *points, wide=0.40, colour=None) -> _Drawing:
        for (x1, y1), (x2, y2) in zip(points, points[1:], strict=False):
            along = np.array([x2 - x1, y2 - y1]) / np.hypot(x2 - x1, y2 - y1) * wide / 2
            side = np.array([-along[1], along[0]])
            first, last = np.array([x1, y1]) - along, np.array([x2, y2]) + along
            self.polygon([first + side, last + side, last - side, first - side], colour)
        return self

    def hole(self, x, y, radius) -> _Drawing:
        import cv2

        scale = len(self.body) / (2 * EXTENT)
        cv2.circle(self.body, (round((x + EXTENT) * scale), round((y + EXTENT) * scale)), round(radius * scale), 0, -1)
        return self


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _star_points() -> np.ndarray:
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2, 0.43, 1.06)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle) + 0.06], axis=-1)


def _heart_points() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x / 16.5, y / 15.5 - 0.08], axis=-1)


def _cross(d: _Drawing) -> None:
    d.polygon([(-0.3, -0.98), (0.3, -0.98), (0.3, 0.98), (-0.3, 0.98)])
    d.polygon([(-0.98, -0.3), (0.98, -0.3), (0.98, 0.3), (-0.98, 0.3)])


def _fish(d: _Drawing) -> None:
    d.polygon([(-0.45, 0), (-1.05, -0.6), (-0.9, 0), (-1.05, 0.6)]).polygon([(-0.2, -0.4), (0.25, -0.85), (0.4, -0.35)])
    d.oval(0.2, 0, 0.82, 0.54).oval(0.62, -0.12, 0.15, colour=PALE).oval(0.66, -0.12, 0.08, colour=DARK)


def _car(d: _Drawing) -> None:
    d.polygon([(-1.05, 0.42), (-1.05, -0.02), (-0.7, -0.1), (0.66, -0.1), (1.05, 0.04), (1.05, 0.42)])
    d.polygon([(-0.7, -0.1), (-0.45, -0.6), (0.35, -0.6), (0.66, -0.1)])
    d.polygon([(-0.5, -0.1), (-0.33, -0.45), (-0.06, -0.45), (-0.06, -0.1)], PALE)
    d.polygon([(0.08, -0.1), (0.08, -0.45), (0.28, -0.45), (0.47, -0.1)], PALE)
    for x in (-0.58, 0.58):
        d.oval(x, 0.42, 0.29, colour=DARK).oval(x, 0.42, 0.11, colour=PALE)


def _house(d: _Drawing) -> None:
    d.polygon([(-0.72, 0.95), (-0.72, -0.1), (0.72, -0.1), (0.72, 0.95)])
    d.polygon([(-1.05, -0.08), (0, -1.0), (1.05, -0.08)])
    d.polygon([(-0.5, 0.95), (-0.5, 0.32), (-0.12, 0.32), (-0.12, 0.95)], DARK)
    d.polygon([(0.14, 0.58), (0.14, 0.18), (0.52, 0.18), (0.52, 0.58)], PALE)


def _tree(d: _Drawing) -> None:
    d.polygon([(-0.17, 1.05), (-0.13, 0.2), (0.13, 0.2), (0.17, 1.05)], TRUNK)
    for x, y, radius in ((-0.42, 0.02, 0.44), (0.42, 0.02, 0.44), (0, -0.46, 0.56)):
        d.oval(x, y, radius)
    d.own[: round((0.4 + EXTENT) / (2 * EXTENT) * len(d.own))] = 0  # the crown hangs over the trunk


def _boat(d: _Drawing) -> None:
    d.polygon([(-1.05, 0.34), (1.05, 0.34), (0.68, 0.95), (-0.68, 0.95)])
    d.polygon([(-0.06, 0.4), (-0.06, -1.05), (0.06, -1.05), (0.06, 0.4)], TRUNK)
    d.polygon([(0.1, -0.95), (0.85, 0.2), (0.1, 0.2)]).polygon([(-0.1, -0.7), (-0.1, 0.2), (-0.68, 0.2)], PALE)


def _bird(d: _Drawing) -> None:
    d.polygon([(0.8, -0.55), (1.1, -0.38), (0.78, -0.26)], BEAK)
    d.polygon([(-0.5, 0.1), (-1.1, -0.28), (-1.02, 0.2), (-0.5, 0.6)])
    d.oval(-0.08, 0.28, 0.7, 0.52).oval(0.5, -0.42, 0.4)
    d.oval(0.6, -0.5, 0.12, colour=PALE).oval(0.63, -0.5, 0.07, colour=DARK)
    d.line((-0.1, 0.7), (-0.1, 1.0), wide=0.12, colour=BEAK).line((0.2, 0.7), (0.2, 1.0), wide=0.12, colour=BEAK)


_SPINE = (-0.55, -0.8), (-0.55, 0.8)
_STROKES = {
    "E": (_SPINE, ((-0.55, -0.8), (0.6, -0.8)), ((-0.55, 0), (0.45, 0)), ((-0.55, 0.8), (0.6, 0.8))),
    "F": (_SPINE, ((-0.55, -0.8), (0.6, -0.8)), ((-0.55, 0.02), (0.42, 0.02))),
    "H": (_SPINE, ((0.55, -0.8), (0.55, 0.8)), ((-0.55, 0), (0.55, 0))),
    "K": (_SPINE, ((-0.35, 0.1), (0.5, -0.75)), ((-0.2, -0.05), (0.55, 0.75))),
    "M": (((-0.75, 0.8), (-0.75, -0.8)), ((0.75, 0.8), (0.75, -0.8)), ((-0.7, -0.7), (0, 0.3), (0.7, -0.7))),
    "T": (((-0.75, -0.8), (0.75, -0.8)), ((0, -0.8), (0, 0.8))),
}


def _letter(name: str, d: _Drawing) -> None:
    for stroke in _STROKES[name]:
        d.line(*stroke)


_DRAWINGS: dict[str, Callable[[_Drawing], object]] = {
    "circle": lambda d: d.oval(0, 0, 0.92),
    "square": lambda d: d.polygon([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]),
    "triangle": lambda d: d.polygon([(0, -1.0), (1.02, 0.78), (-1.02, 0.78)]),
    "star": lambda d: d.polygon(_star_points()),
    "cross": _cross,
    "ring": lambda d: d.oval(0, 0, 1.0).hole(0, 0, 0.5),
    "heart": lambda d: d.polygon(_heart_points()),
    "diamond": lambda d: d.polygon([(0, -1.08), (0.62, 0), (0, 1.08), (-0.62, 0)]),
    "fish": _fish, "car": _car, "house": _house, "tree": _tree, "boat": _boat, "bird": _bird,
    **{name: partial(_letter, name) for name in _STROKES},
}  # fmt: skip
