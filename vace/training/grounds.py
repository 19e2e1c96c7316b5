"""Grounds: procedural textures of muted colour, seeded, the same at every resolution.

Each takes the world's coordinates in short sides of the picture, x float32 [1,W] and y [H,1], and noise(cell_x, cell_y,
octaves) -> float32 [H,W] in 0..1, and gives RGB float32 [H,W,3] in 0..255.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LATTICE = 64  # values a side of a noise, repeated beyond
DRIFT = {"water": (0.10, 0.05), "night": (0.04, 0.0)}  # shares of the picture that a ground itself moves in a clip
Noise = Callable[..., np.ndarray]


def paint(ground: str, seed: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The ground's colours at regularly spaced x [W] and y [H]: float32 [H,W,3], 0..255."""
    rng = np.random.default_rng(seed)
    x, y = x.astype(np.float32)[None], y.astype(np.float32)[:, None]

    def noise(cell_x: float, cell_y: float | None = None, octaves: int = 1) -> np.ndarray:
        total, weight = 0.0, 1.0
        for octave in range(octaves):
            cells = cell_x / 2**octave, (cell_y or cell_x) / 2**octave
            total, weight = total + weight * _value_noise(rng, x[0], y[:, 0], *cells), weight / 2
        return (total / (2 - 2 * weight)).clip(0, 1)

    picture = _PAINTERS[ground](x, y, noise)
    exposure = 0.9 + 0.2 * rng.random()
    return (picture.astype(np.float32) * np.float32(exposure)).clip(0, 255)


def _value_noise(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, cell_x: float, cell_y: float) -> np.ndarray:
    """Random values on a lattice of the given cells, cubic between them: float32 [H,W]."""
    import cv2

    lattice, (shift_x, shift_y) = rng.random((LATTICE, LATTICE), np.float32), rng.random(2) * LATTICE
    rows, first_y = _lattice_span(y, cell_y, shift_y)
    columns, first_x = _lattice_span(x, cell_x, shift_x)
    step_x, step_y = (x[1] - x[0]) / cell_x, (y[1] - y[0]) / cell_y
    to_lattice = np.array([[step_x, 0, first_x], [0, step_y, first_y]])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(lattice[rows][:, columns], to_lattice, (len(x), len(y)), flags=how)


def _lattice_span(values: np.ndarray, cell: float, shift: float) -> tuple[np.ndarray, float]:
    """The lattice indices under `values`, with a border, and where the first value lies among them."""
    low, high = values[0] / cell + shift, values[-1] / cell + shift
    first = int(np.floor(low)) - 2
    return np.arange(first, int(np.ceil(high)) + 3) % LATTICE, low - first


def _mix(first: tuple, second: tuple, share: np.ndarray) -> np.ndarray:
    first, second = np.float32(first), np.float32(second)
    return first + (second - first) * share[..., None].astype(np.float32)


def _cells(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A repeatable value 0..1 for each whole (x, y)."""
    mixed = x.astype(np.int64) * 73856093 ^ y.astype(np.int64) * 19349663
    return (((mixed ^ mixed >> 13) * 0x5BD1E995 >> 11) & 0xFFFF).astype(np.float32) / 0xFFFF


def _grass(x, y, noise) -> np.ndarray:
    blades, patches = noise(0.09, 0.16), noise(0.3)
    return _mix((58, 84, 40), (136, 156, 84), 0.5 * blades + 0.5 * patches)


def _sand(x, y, noise) -> np.ndarray:
    ripples = 0.5 + 0.5 * np.sin(2 * np.pi * (y * 5 + x * 1.2 + 1.6 * noise(0.4)))
    return _mix((186, 164, 120), (228, 208, 164), 0.6 * ripples + 0.4 * noise(0.2))


def _water(x, y, noise) -> np.ndarray:
    ridges = 1 - np.abs(2 * noise(0.3, 0.18) - 1)
    depths = _mix((44, 84, 112), (72, 120, 142), noise(0.5))
    return depths + 56 * (ridges.clip(0.6, 1) - 0.6)[..., None] / 0.4


def _bricks(x, y, noise) -> np.ndarray:
    high, wide, joint = 0.2, 0.4, 0.016
    row = np.floor(y / high)
    along = x / wide + 0.5 * (row % 2)
    column = np.floor(along)
    edge = np.minimum(*np.broadcast_arrays(_to_edge(y / high) * high, _to_edge(along) * wide))
    brick = _mix((124, 78, 64), (166, 112, 92), _cells(column, row)) * (0.9 + 0.2 * noise(0.15))[..., None]
    share = ((edge - joint) / 0.02).clip(0, 1)[..., None]
    return brick * share + np.float32((176, 168, 156)) * (1 - share)


def _to_edge(values: np.ndarray) -> np.ndarray:
    return 0.5 - np.abs(values % 1 - 0.5)


def _wood(x, y, noise) -> np.ndarray:
    wide = 0.3
    plank = np.floor(y / wide)
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * (y * 9 + 2.4 * noise(0.7, 0.25) + 5 * _cells(plank, plank)))
    tone = _mix((104, 76, 54), (152, 116, 84), 0.5 * grain + 0.5 * noise(0.5, 0.14))
    tone = tone * (0.84 + 0.32 * _cells(plank, plank + 1))[..., None]
    return tone * (0.6 + 0.4 * (_to_edge(y / wide) * wide / 0.03).clip(0, 1))[..., None]


def _snow(x, y, noise) -> np.ndarray:
    hills = noise(0.32, 0.2)
    return _mix((188, 200, 222), (244, 246, 250), hills.clip(0.2, 0.8) / 0.6 - 1 / 3)


def _night(x, y, noise) -> np.ndarray:
    sky = _mix((14, 16, 36), (50, 44, 84), (noise(0.5) * 1.4 - 0.3).clip(0, 1))
    wide = 0.2
    column, row = np.broadcast_arrays(np.floor(x / wide), np.floor(y / wide))
    at_x = (column + 0.15 + 0.7 * _cells(column, row + 7)) * wide
    at_y = (row + 0.15 + 0.7 * _cells(column + 3, row)) * wide
    far = np.hypot(x - at_x, y - at_y) / (0.02 + 0.015 * _cells(column, row + 2))
    stars = np.exp(-(far**2)) * (_cells(column + 5, row + 1) > 0.45)
    return sky + (190 * stars)[..., None]


def _stones(x, y, noise) -> np.ndarray:
    wide = 0.3
    column, row = np.floor(x / wide), np.floor(y / wide)
    nearest = second = tone = None
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            i, j = np.broadcast_arrays(column + right, row + down)
            at_x, at_y = i + 0.2 + 0.6 * _cells(i, j), j + 0.2 + 0.6 * _cells(i + 11, j + 5)
            far = np.hypot(x / wide - at_x, y / wide - at_y)
            if nearest is None:
                nearest, second, tone = far, np.full_like(far, 9), _cells(i + 1, j + 3)
                continue
            is_nearer = far < nearest
            second = np.where(is_nearer, nearest, np.minimum(second, far))
            tone, nearest = np.where(is_nearer, _cells(i + 1, j + 3), tone), np.where(is_nearer, far, nearest)
    round_ = ((second - nearest) / 0.35).clip(0, 1)
    stone = _mix((104, 104, 108), (172, 168, 162), tone) * (0.92 + 0.16 * noise(0.2))[..., None]
    return stone * (0.55 + 0.45 * np.sqrt(round_))[..., None]


_PAINTERS = {
    "grass": _grass, "sand": _sand, "water": _water, "bricks": _bricks, "wood": _wood, "snow": _snow,
    "night": _night, "stones": _stones,
}  # fmt: skip
