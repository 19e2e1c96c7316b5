"""A jointed figure: its pose at each moment, the pieces it is made of, and its 18 points in OpenPose's order.

Local coordinates: x right, y down; the figure stands from about -1 to 1 and faces the viewer, its right hand on the
left of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vace.training.scene import COLOURS, Texture
from vace.training.shapes import DARK, Surface, painted

KEYPOINTS = (
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
    "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle", "right eye", "left eye",
    "right ear", "left ear",
)  # fmt: skip
SKIN = (214, 176, 148)
ARM, SHANK, THIGH = 0.27, 0.36, 0.36
HANGING = {"arm": 0.35, "hand": 0.2, "leg": 0.1, "shin": 0.02}  # angles of limbs at rest, outwards
STRIDES, WAVES, BEATS, JUMPS = 2, 2.5, 2, 2  # in a clip


@dataclass(frozen=True)
class Piece:
    """A stiff part: a bar that is `length` long between round ends, `wide` at its start and its end."""

    length: float
    wide: tuple[float, float]
    role: str  # which colour: "coat", "dark", "skin", "head"


PIECES = {  # in the order they are drawn
    "left leg": Piece(THIGH, (0.125, 0.11), "dark"),
    "left shin": Piece(SHANK, (0.11, 0.115), "dark"),
    "right leg": Piece(THIGH, (0.125, 0.11), "dark"),
    "right shin": Piece(SHANK, (0.11, 0.115), "dark"),
    "torso": Piece(0.36, (0.235, 0.185), "coat"),
    "head": Piece(0.06, (0.235, 0.215), "head"),
    "left arm": Piece(ARM, (0.10, 0.09), "coat"),
    "left hand": Piece(ARM, (0.09, 0.095), "skin"),
    "right arm": Piece(ARM, (0.10, 0.09), "coat"),
    "right hand": Piece(ARM, (0.09, 0.095), "skin"),
}


@dataclass(frozen=True)
class Poses:
    """to_local: from each piece's coordinates to the figure's, float [T,3,3] by its name. points: float [T,18,2]."""

    to_local: dict[str, np.ndarray]
    points: np.ndarray


def poses(action: str, phase: float, time: np.ndarray) -> Poses:
    """The figure through the clip. Walking it looks where it goes; `phase` 0..1 shifts the swing of its limbs."""
    swing = _angles(action, phase, time)
    look = {"left": -1.0, "right": 1.0}.get(action, 0.0)
    half = 0.5 if look else 1.0  # from the side it is narrower
    zero, base = np.zeros_like(time), swing["bob"]
    hips = np.stack([zero, 0.14 + base], axis=-1)
    up = np.stack([np.sin(swing["lean"]), -np.cos(swing["lean"])], axis=-1)
    across = np.stack([-up[:, 1], up[:, 0]], axis=-1)  # to the picture's right
    neck, head = hips + 0.58 * up, hips + 0.80 * up
    joints = {"neck": neck, "nose": head - 0.02 * up + 0.12 * look * across}
    to_local = {
        "torso": _frames(hips + 0.40 * up, hips + 0.04 * up),
        "head": _frames(head + 0.03 * up, head - 0.03 * up),
    }
    for side, sign in (("right", -1), ("left", 1)):
        joints[f"{side} eye"] = head + 0.06 * up + (0.09 * sign + 0.10 * look) * across
        joints[f"{side} ear"] = head + 0.02 * up + (0.19 * sign * (0.6 if look else 1) - 0.04 * look) * across
        shoulder = hips + 0.46 * up + 0.22 * sign * half * across
        elbow = shoulder + ARM * _down(swing[f"{side} arm"])
        wrist = elbow + ARM * _down(swing[f"{side} hand"])
        hip = hips + 0.11 * sign * half * across
        knee = hip + THIGH * _down(swing[f"{side} leg"])
        ankle = knee + SHANK * _down(swing[f"{side} shin"])
        joints |= {f"{side} shoulder": shoulder, f"{side} elbow": elbow, f"{side} wrist": wrist}
        joints |= {f"{side} hip": hip, f"{side} knee": knee, f"{side} ankle": ankle}
        ends = {"arm": (shoulder, elbow), "hand": (elbow, wrist), "leg": (hip, knee), "shin": (knee, ankle)}
        to_local |= {f"{side} {name}": _frames(*pair) for name, pair in ends.items()}
    return Poses(to_local, np.stack([joints[name] for name in KEYPOINTS], axis=1))


def _down(angle: np.ndarray) -> np.ndarray:
    """A unit step that hangs down at 0 and points to the picture's right at a quarter turn."""
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)


def _frames(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """From a piece's coordinates (its bar on +y from the origin) to where it lies: float [T,3,3]."""
    along = (end - start) / np.linalg.norm(end - start, axis=-1, keepdims=True)
    frames = np.tile(np.eye(3), (len(start), 1, 1))
    frames[:, :2, 1], frames[:, :2, 2] = along, start
    frames[:, 0, 0], frames[:, 1, 0] = along[:, 1], -along[:, 0]
    return frames


def _angles(action: str, phase: float, time: np.ndarray) -> dict[str, np.ndarray]:
    """Of each limb from hanging down, positive to the picture's right; lean of the back; bob of the hips."""
    zero = np.zeros_like(time)
    angles = {name: zero for name in ("lean", "bob")}
    for side, sign in (("right", -1), ("left", 1)):
        angles |= {f"{side} {limb}": zero + sign * rest for limb, rest in HANGING.items()}
    if action in ("left", "right"):
        look, step = (-1 if action == "left" else 1), 2 * np.pi * (STRIDES * time + phase)
        angles |= {"bob": -0.03 * np.abs(np.cos(step)), "lean": zero + 0.08 * look}
        for side, sign in (("right", 1), ("left", -1)):
            wave = sign * np.sin(step)
            bend = 0.5 * np.maximum(sign * np.cos(step), 0)
            angles |= {f"{side} leg": 0.55 * wave, f"{side} shin": 0.55 * wave - look * bend}
            angles |= {f"{side} arm": -0.7 * wave, f"{side} hand": -0.7 * wave + 0.5 * look}
    elif action == "waves":
        side, sign = ("right", -1) if phase < 0.5 else ("left", 1)
        wave = np.sin(2 * np.pi * (WAVES * time + phase))
        angles |= {f"{side} arm": zero + sign * 2.0, f"{side} hand": sign * (2.8 + 0.55 * wave)}
    elif action == "dances":
        beat = np.sin(2 * np.pi * (BEATS * time + phase))
        angles |= {"lean": 0.16 * beat, "bob": 0.05 * beat**2}
        for side, sign in (("right", -1), ("left", 1)):
            angles |= {f"{side} arm": 1.5 * sign + 0.5 * beat, f"{side} hand": 2.2 * sign + 0.7 * beat}
            knee = 0.45 * np.maximum(sign * beat, 0)
            angles |= {f"{side} leg": sign * (0.14 + knee), f"{side} shin": sign * (0.05 - 0.6 * knee)}
    elif action == "jumps":
        air = np.abs(np.sin(np.pi * JUMPS * time))
        for side, sign in (("right", -1), ("left", 1)):
            angles |= {f"{side} arm": sign * (0.5 + 2.0 * air), f"{side} hand": sign * (0.3 + 2.4 * air)}
            angles |= {f"{side} leg": sign * (0.35 - 0.2 * air), f"{side} shin": sign * (-0.12 + 0.2 * air)}
    return angles


def piece_surface(name: str, colour: str, texture: Texture, scale: float, look: float) -> Surface:
    """A piece as a raster with `scale` pixels a unit. look: -1 faces left, 1 right, 0 the viewer (the head's face)."""
    piece = PIECES[name]
    reach = max(piece.wide) + 2 / scale
    wide, high = (int(np.ceil(length * scale)) for length in (2 * reach, 2 * reach + piece.length))
    x = ((np.arange(wide) + 0.5) / scale - reach).astype(np.float32)[None]
    y = ((np.arange(high) + 0.5) / scale - reach).astype(np.float32)[:, None]
    along = (y / piece.length).clip(0, 1)
    radius = piece.wide[0] + (piece.wide[1] - piece.wide[0]) * along
    off_y = y - along * piece.length
    far = np.hypot(x, off_y)
    alpha = ((radius - far) * scale + 0.5).clip(0, 1)
    nx, ny = x / radius * 0.9, off_y / radius * 0.9 + 0 * x
    over = np.maximum(np.hypot(nx, ny) / 0.95, 1)
    height = 0.4 + 0.6 * np.sqrt(np.maximum(1 - (far / radius) ** 2, 0))
    rgb = _piece_colours(piece, colour, texture, x, y, look)
    to_local = np.array([[1 / scale, 0, 0.5 / scale - reach], [0, 1 / scale, 0.5 / scale - reach], [0, 0, 1]])
    return Surface(rgb, alpha, height, nx / over, ny / over, to_local)


def _piece_colours(piece: Piece, colour: str, texture: Texture, x, y, look: float) -> np.ndarray:
    base = np.float32(COLOURS[colour])
    if piece.role == "coat":
        return painted(colour, texture, x, y)
    if piece.role == "dark":
        return np.broadcast_to(base * 0.62, (*np.broadcast_shapes(x.shape, y.shape), 3))
    skin = np.broadcast_to(np.float32(SKIN), (*np.broadcast_shapes(x.shape, y.shape), 3)).copy()
    if piece.role == "head":
        # The head's bar points from the crown to the chin, so its x runs as the picture's does.
        for eye in (-0.09, 0.09):
            at = eye + 0.10 * look
            skin[np.hypot(x - at, y - 0.02) < 0.042] = DARK
        skin[np.broadcast_to(y < -0.08, skin.shape[:2])] = base * 0.85  # a cap in its colour
    return skin
