"""The colour wheel of optical flow: direction as hue, length as saturation, standing still as white.

The wheel is that of Baker et al., "A Database and Evaluation Methodology for Optical Flow" (ICCV 2007).
"""

from __future__ import annotations

import functools

import numpy as np

# Hues from red round to red: the channel that changes, whether it rises, and over how many steps.
_ARCS = ((1, True, 15), (0, False, 6), (2, True, 4), (1, False, 11), (0, True, 13), (2, False, 6))
_EPSILON = 1e-5  # pixels, added to the radius so that a still picture divides by something
_BLOCK = 1 << 15  # pixels coloured at a time: their float64 arrays stay in the cache


@functools.cache
def wheel() -> np.ndarray:
    """The wheel's 55 colours, RGB float64 [55,3] in 0..1."""
    steps = sum(length for *_, length in _ARCS)
    out, color, at = np.zeros((steps, 3)), np.array([255.0, 0.0, 0.0]), 0
    for channel, rises, length in _ARCS:
        ramp = np.floor(255 * np.arange(length) / length)
        out[at : at + length] = color
        out[at : at + length, channel] = ramp if rises else 255 - ramp
        color[channel] = 255 if rises else 0
        at += length
    out /= 255
    out.flags.writeable = False
    return out


def flow_radius(flow: np.ndarray) -> float:
    """The length of the longest vector in `flow` (float32 [...,2], pixels); 0 for an empty one."""
    u, v = flow[..., 0], flow[..., 1]
    return float(np.sqrt(np.square(u) + np.square(v)).max(initial=0))


def flow_to_image(flow: np.ndarray, radius: float | None = None) -> np.ndarray:
    """Flow, float32 [H,W,2] in pixels right and down -> its colours, RGB uint8 [H,W,3].

    radius: the length that is shown at full saturation, by default the longest in this flow (as in the original, so
    that colours of different frames cannot be compared); longer vectors are shown darker.
    """
    flow = np.asarray(flow, np.float32)
    radius = flow_radius(flow) if radius is None else radius
    scale = np.float32(np.float32(radius) + np.float32(_EPSILON))
    vectors = flow.reshape(-1, 2)
    out = np.empty((len(vectors), 3), np.uint8)
    for start in range(0, len(vectors), _BLOCK):
        out[start : start + _BLOCK] = _colors(vectors[start : start + _BLOCK] / scale)
    return out.reshape(*flow.shape[:2], 3)


def _colors(vectors: np.ndarray) -> np.ndarray:
    """Vectors, float32 [n,2] of length 1 at full saturation -> RGB uint8 [n,3]."""
    u, v = np.ascontiguousarray(vectors.T)
    length = np.sqrt(u * u + v * v)
    place = (np.arctan2(-v, -u) / np.float32(np.pi) + 1) / 2 * (len(wheel()) - 1)
    low = place.astype(np.int32)
    part = place - low
    rest, beyond = 1 - part, length > 1
    out = np.empty((len(vectors), 3), np.uint8)
    for channel, shades in enumerate(wheel().T):  # one plane at a time: three times faster than [n,3]
        hue = rest * np.take(shades, low)
        hue += part * np.take(np.roll(shades, -1), low)
        shown = 1 - length * (1 - hue)
        if beyond.any():
            shown[beyond] = hue[beyond] * 0.75
        out[:, channel] = 255 * shown
    return out
