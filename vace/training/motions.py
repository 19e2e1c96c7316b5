"""Where things and the camera are at each moment: pure functions of time 0..1, in shares of the picture."""

from __future__ import annotations

import numpy as np

from vace.training.scene import Camera, Thing

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
BOUNCES = 2  # in a clip
GROWTH = 0.66  # from this share of the radius to its inverse


def times(count: int) -> np.ndarray:
    """The moments of `count` frames, 0..1."""
    return np.linspace(0, 1, count) if count > 1 else np.zeros(1)


def offsets(motion: str, reach: float, phase: float, time: np.ndarray) -> np.ndarray:
    """The way from the start, float [T,2] as (x, y): straight, in a circle, or bouncing."""
    if motion == "circles":
        angle = 2 * np.pi * (phase + time)
        return reach / 2 * (np.stack([np.cos(angle), np.sin(angle)], axis=-1) - [np.cos(angle[0]), np.sin(angle[0])])
    if motion in ("bounces", "jumps"):
        height = np.abs(np.sin(np.pi * BOUNCES * time))
        return np.stack([np.zeros_like(time), -reach * height], axis=-1)
    step = np.sum([DIRECTIONS[word] for word in motion.split() if word in DIRECTIONS], axis=0, initial=0)
    step = np.asarray(step if np.ndim(step) else (0, 0), float)
    return reach * time[:, None] * step / max(1.0, np.linalg.norm(step))


def growth(motion: str, time: np.ndarray) -> np.ndarray:
    """What the radius is multiplied by, float [T]."""
    way = {"grows": 1, "shrinks": -1}.get(motion, 0)
    return np.exp(way * (1 - 2 * time) * np.log(GROWTH))


def camera_track(camera: Camera, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the camera looks, float [T,2], and its zoom, float [T], never below 1."""
    look, zoom = np.zeros((len(time), 2)), np.ones(len(time))
    verb, _, where = camera.move.partition(" ")
    if verb == "pan":
        look = (time[:, None] - 0.5) * camera.amount * np.array(DIRECTIONS[where], float)
    elif verb == "zoom":
        zoom = (1 + camera.amount) ** (time if where == "in" else 1 - time)
    return look, zoom


def on_screen(thing: Thing, camera: Camera, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The thing's centre from the picture's, as shares, float [T,2], and its radius as share of the short side, [T]."""
    look, zoom = camera_track(camera, time)
    places = np.array(thing.start) + offsets(thing.motion, thing.reach, thing.phase, time) - look
    return places * zoom[:, None], thing.radius * growth(thing.motion, time) * zoom


def starts_in_view(thing: Thing, camera: Camera, time: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest start (x, y) that keep the centre inside the picture, `margin` radii from its edge.

    Where no start does, both are the one that comes nearest.
    """
    places, radii = on_screen(thing, camera, time)
    _, zoom = camera_track(camera, time)
    drift, room = places / zoom[:, None] - thing.start, ((0.5 - margin * radii) / zoom)[:, None]
    low, high = (-room - drift).max(axis=0), (room - drift).min(axis=0)
    middle = (low + high) / 2
    return np.minimum(low, middle), np.maximum(high, middle)
