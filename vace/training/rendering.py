"""Worlds into clips with everything that is true of them: masks, depth, flow, boxes, points.

Pixel (x, y) has its centre at (x, y), as OpenCV counts; boxes count edges: x1, y1, x2, y2 with x2 - x1 the width.
Letters of shapes: T frames, N things in the caption's order, H and W pixels, K points of a puppet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vace.training import grounds, motions, puppets, shapes
from vace.training.scene import Thing, World

SHARP = 1.3  # pixels of a surface's raster for each of the picture's
GROUND_DEPTH = (0.08, 0.42)  # at the picture's top and bottom when the camera rests
FIRST_DEPTH, STEP_DEPTH, RELIEF = 0.55, 0.14, 0.08  # of the farthest thing, between two, within one
LENS = 0.6  # pixels: deviation of a point of light in the picture
PIECE_COVER = 0.35  # from which a piece counts as what shows: below a half, so that none of a joint is left out
SHADOW, SHADOW_SOFT, SHADOW_SHIFT = 0.45, 0.028, 0.05  # strength; shares of the short side


@dataclass(frozen=True)
class Clip:
    """A rendered world.

    frames: uint8 [T,H,W,3] RGB. masks: bool [T,N,H,W], what is visible of each thing; full_masks: also what another
    hides. depth: float32 [T,H,W], 0..1, near is large. flow: float32 [T-1,H,W,2], from each frame to the next, (x, y)
    in pixels, of the visible surface. boxes: float32 [T,N,4] round the visible part, zeros where there is none.
    keypoints: float32 [T,N,18,2] in pixels, nan for all but puppets (names: puppets.KEYPOINTS).
    """

    world: World
    frames: np.ndarray
    masks: np.ndarray
    full_masks: np.ndarray
    depth: np.ndarray
    flow: np.ndarray
    boxes: np.ndarray
    keypoints: np.ndarray
    caption: str


@dataclass(frozen=True)
class _Layer:
    """One thing through the clip. rgba: premultiplied [T,H,W,4]; cover: its last. height: [T,H,W]. pieces: [T,H,W],
    which of `to_screen`, a list of [T,3,3], shows. points: [T,18,2] or None."""

    rgba: np.ndarray
    cover: np.ndarray
    height: np.ndarray
    pieces: np.ndarray
    to_screen: list[np.ndarray]
    points: np.ndarray | None


def render(world: World, *, size: tuple[int, int] | None = None, frames: int | None = None) -> Clip:
    """The world as a clip. size: (width, height), at least 16 each; frames: how many show it from start to end."""
    width, height = size or world.size
    time = motions.times(frames or world.frames)
    far_to_near = sorted(range(len(world.things)), key=lambda n: world.things[n].rank)
    layers = [_layer(thing, world, time, width, height) for thing in world.things]
    picture, to_screen, depth = _ground(world, time, width, height)

    owner, piece = np.full(depth.shape, -1, np.int8), np.zeros(depth.shape, np.int16)  # piece 0 is the ground
    full = np.stack([layer.cover >= 0.5 for layer in layers], axis=1)
    matrices = [to_screen]
    for place, n in enumerate(far_to_near):
        layer, inside = layers[n], full[:, n]
        picture = _laid_over(picture, layer, SHADOW * _shadow(layer.cover, world.light, min(width, height)))
        relief = np.float32(FIRST_DEPTH + STEP_DEPTH * place) + np.float32(RELIEF) * layer.height
        np.copyto(depth, relief, where=inside)
        np.copyto(owner, np.int8(n), where=inside)
        np.copyto(piece, layer.pieces + np.int16(len(matrices)), where=inside)
        matrices += layer.to_screen
    masks = owner[:, None] == np.arange(len(layers), dtype=np.int8)[:, None, None]
    return Clip(
        world=world,
        frames=_whole(picture),
        masks=masks,
        full_masks=full,
        depth=depth,
        flow=_flow(piece, np.stack(matrices, axis=1)),
        boxes=boxes_of(masks),
        keypoints=_keypoints(layers, len(time)),
        caption=world.caption,
    )


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """The tightest boxes x1, y1, x2, y2 round masks [...,H,W]: float32 [...,4], zeros where a mask is empty."""
    columns, rows = masks.any(axis=-2), masks.any(axis=-1)
    firsts = columns.argmax(axis=-1), rows.argmax(axis=-1)
    lasts = columns.shape[-1] - columns[..., ::-1].argmax(axis=-1), rows.shape[-1] - rows[..., ::-1].argmax(axis=-1)
    return np.stack([*firsts, *lasts], axis=-1).astype(np.float32) * columns.any(axis=-1)[..., None]


def _laid_over(picture: np.ndarray, layer: _Layer, shadow: np.ndarray) -> np.ndarray:
    """The layer over a picture float32 [T,H,W,4] on which its shadow [T,H,W] falls. OpenCV is 5 times faster here."""
    import cv2

    rows = (-1, picture.shape[2])
    kept = ((1 - shadow) * (1 - layer.cover)).reshape(rows)
    behind = cv2.multiply(picture.reshape(*rows, 4), cv2.merge([kept] * 4))
    return cv2.add(behind, layer.rgba.reshape(*rows, 4)).reshape(picture.shape)


def _whole(picture: np.ndarray) -> np.ndarray:
    """uint8 [T,H,W,3], as a lens shows and a sensor rounds it, of float32 [T,H,W,4]."""
    import cv2

    picture = np.stack([cv2.GaussianBlur(frame, (0, 0), LENS) for frame in picture])
    rows = cv2.convertScaleAbs(picture.reshape(-1, *picture.shape[2:]))
    return cv2.cvtColor(rows, cv2.COLOR_RGBA2RGB).reshape(*picture.shape[:3], 3)


def _keypoints(layers: list[_Layer], count: int) -> np.ndarray:
    points = np.full((count, len(layers), len(puppets.KEYPOINTS), 2), np.nan, np.float32)
    for n, layer in enumerate(layers):
        if layer.points is not None:
            points[:, n] = layer.points
    return points


def _screen(width: int, height: int, shares: np.ndarray) -> np.ndarray:
    """Pixels of places given as shares from the picture's centre."""
    return shares * (width, height) + ((width - 1) / 2, (height - 1) / 2)


def _layer(thing: Thing, world: World, time: np.ndarray, width: int, height: int) -> _Layer:
    places, radii = motions.on_screen(thing, world.camera, time)
    to_screen = _similarity(_screen(width, height, places), radii * min(width, height), thing, time)
    scale = SHARP * radii.max() * min(width, height)
    if thing.kind == "puppet":
        poses = puppets.poses(thing.motion, thing.phase, time)
        look = {"left": -1.0, "right": 1.0}.get(thing.motion, 0.0)
        surfaces = [puppets.piece_surface(name, thing.colour, thing.texture, scale, look) for name in puppets.PIECES]
        pieces = [to_screen @ poses.to_local[name] for name in puppets.PIECES]
        points = poses.points @ np.swapaxes(to_screen[:, :2, :2], 1, 2) + to_screen[:, None, :2, 2]
    else:
        pixels = max(8, int(np.ceil(2 * shapes.EXTENT * scale)))
        surfaces, pieces = [shapes.surface_of(thing.name, thing.colour, thing.texture, pixels)], [to_screen]
        points = None
    shape = (len(time), height, width)
    rgba, relief, shown = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.int16)
    for index, (surface, matrices) in enumerate(zip(surfaces, pieces, strict=True)):
        _stamp(rgba, relief, shown, index, surface, matrices, world.light)
    return _Layer(rgba, np.ascontiguousarray(rgba[..., 3]), relief, shown, pieces, points)


def _similarity(centres: np.ndarray, scales: np.ndarray, thing: Thing, time: np.ndarray) -> np.ndarray:
    """From the thing's coordinates to the screen: float [T,3,3]."""
    angles = thing.tilt + 2 * np.pi * thing.turns * time
    cos, sin = scales * np.cos(angles), scales * np.sin(angles)
    flip = -1 if thing.is_mirrored else 1
    matrices = np.tile(np.eye(3), (len(time), 1, 1))
    matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1] = cos * flip, -sin, sin * flip, cos
    matrices[:, :2, 2] = centres
    return matrices


def _stamp(rgba, relief, shown, index: int, surface: shapes.Surface, to_screen: np.ndarray, light: float) -> None:
    """Lays a surface over what a layer holds, in every frame."""
    import cv2

    maps = to_screen @ surface.to_local
    firsts, lasts = _extents(maps, surface.alpha.shape, rgba.shape[1:3])
    lights = _local_light(to_screen, light)
    is_turning = abs(lights - lights[0]).max() > 1e-6
    lit = surface.lit(lights if is_turning else lights[:1])
    maps[:, :2, 2] -= firsts
    for t, ((x1, y1), (x2, y2)) in enumerate(zip(firsts.tolist(), lasts.tolist(), strict=True)):
        if x2 <= x1 or y2 <= y1:
            continue
        size, here = (x2 - x1, y2 - y1), np.s_[t, y1:y2, x1:x2]
        patch = cv2.warpAffine(lit[t if is_turning else 0], maps[t, :2], size)
        height = cv2.warpAffine(surface.height, maps[t, :2], size)
        if index == 0:
            rgba[here], relief[here] = patch, height
            continue
        cover = patch[..., 3]
        rgba[here] *= 1 - patch[..., 3:]
        rgba[here] += patch
        is_over = cover >= PIECE_COVER
        np.copyto(relief[here], height, where=is_over)
        np.copyto(shown[here], np.int16(index), where=is_over)


def _extents(maps: np.ndarray, raster: tuple[int, int], picture: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The first and one past the last pixel (x, y) that a raster [h,w] touches in a picture [H,W]: int [T,2] each."""
    right, bottom = raster[1] - 1, raster[0] - 1
    corners = np.array([[0, 0, 1], [right, 0, 1], [0, bottom, 1], [right, bottom, 1]], float).T
    ends, limit = (maps @ corners)[:, :2], picture[::-1]
    firsts, lasts = np.floor(ends.min(axis=2)), np.ceil(ends.max(axis=2)) + 1
    return firsts.clip(0, limit).astype(int), lasts.clip(0, limit).astype(int)


def _local_light(to_screen: np.ndarray, light: float) -> np.ndarray:
    """The direction of the light in the surface's own coordinates, unit vectors [T,2]."""
    turned = np.swapaxes(to_screen[:, :2, :2], 1, 2) @ np.array([np.cos(light), np.sin(light)])
    return turned / np.linalg.norm(turned, axis=1, keepdims=True)


def _shadow(cover: np.ndarray, light: float, short: int) -> np.ndarray:
    """Where a thing's soft shadow falls, 0..1 [T,H,W]: away from the light."""
    import cv2

    count, height, width = cover.shape
    away, soft = SHADOW_SHIFT * short * np.array([np.cos(light), np.sin(light)]), SHADOW_SOFT * short
    less = max(2, short // 32)  # soft as it is, it is made from fewer pixels
    border = int(np.ceil(SHADOW_SHIFT * short + 4 * soft))  # between the frames, which are one tall picture here
    border += -(height + border) % less
    tall = np.zeros((count, height + border, width), np.float32)
    tall[:, :height] = cover
    tall = tall.reshape(-1, width)
    few = cv2.resize(tall, (-(-width // less), len(tall) // less), interpolation=cv2.INTER_AREA)
    few = cv2.GaussianBlur(few, (0, 0), soft / less)
    shift = np.array([[few.shape[1] / width, 0, 0], [0, 1 / less, 0]])
    shift[:, 2] = (shift[:, :2] @ (0.5 + away)) - 0.5
    tall = cv2.warpAffine(few, shift, tall.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return tall.reshape(count, -1, width)[:, :height]


def _ground(world: World, time: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures float32 [T,H,W,4] (the last unused), the way from the ground's pixels to the screen's [T,3,3], depth."""
    import cv2

    look, zoom = motions.camera_track(world.camera, time)
    drift = time[:, None] * grounds.DRIFT.get(world.ground, (0.0, 0.0))
    centres = look - drift  # of the screen, in shares of the ground
    sharp = SHARP if world.camera.move.startswith("zoom") else 1.0
    unit, border = sharp * min(width, height), 2 / min(width, height)
    low, high = centres.min(axis=0) - 0.5 - border, centres.max(axis=0) + 0.5 + border
    step = np.array([width, height]) * sharp
    columns, rows = (int(np.ceil((high[k] - low[k]) * step[k])) + 1 for k in (0, 1))
    x, y = (np.arange(columns) + low[0] * step[0]) / unit, (np.arange(rows) + low[1] * step[1]) / unit
    slope = 1.06 + 0.10 * (np.cos(world.light) * x[None] + np.sin(world.light) * y[:, None])  # brighter to the light
    canvas = grounds.paint(world.ground, world.ground_seed, x, y) * slope[..., None].astype(np.float32)
    canvas = cv2.cvtColor(canvas, cv2.COLOR_RGB2RGBA)

    to_screen = np.tile(np.eye(3), (len(time), 1, 1))
    to_screen[:, 0, 0] = to_screen[:, 1, 1] = zoom / sharp
    to_screen[:, :2, 2] = _screen(width, height, zoom[:, None] * (low - centres))
    distinct = to_screen if np.ptp(to_screen, axis=0).any() else to_screen[:1]
    warps = [cv2.warpAffine(canvas, one[:2], (width, height), borderMode=cv2.BORDER_REPLICATE) for one in distinct]
    pictures = np.stack(warps) if len(warps) == len(time) else np.repeat(warps[0][None], len(time), axis=0)
    shares = (np.arange(height) - (height - 1) / 2) / height / zoom[:, None] + look[:, 1:]
    depth = GROUND_DEPTH[0] + (GROUND_DEPTH[1] - GROUND_DEPTH[0]) * (shares + 0.5).clip(0, 1)
    return pictures, to_screen, np.repeat(depth[:, :, None].astype(np.float32), width, axis=2)


def _flow(piece: np.ndarray, to_screen: np.ndarray) -> np.ndarray:
    """Where each pixel goes: piece int [T,H,W] picks from to_screen [T,P,3,3]."""
    steps = (to_screen[1:] @ np.linalg.inv(to_screen[:-1]) - np.eye(3))[:, :, :2].astype(np.float32)
    index = piece[:-1] + (np.arange(len(steps)) * steps.shape[1])[:, None, None]
    x, y = (np.arange(size, dtype=np.float32) for size in piece.shape[:0:-1])
    flow = np.empty((*index.shape, 2), np.float32)
    for k in (0, 1):
        by_x, by_y, shift = (np.ascontiguousarray(steps[:, :, k, j]).ravel()[index] for j in range(3))
        flow[..., k] = by_x * x + by_y * y[:, None] + shift
    return flow
