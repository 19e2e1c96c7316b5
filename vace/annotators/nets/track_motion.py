"""Motion between neighbouring frames, and the ground behind a thing, gathered while the camera moves."""

from __future__ import annotations

import numpy as np

from vace.annotators.nets.track_pose import IDENTITY

MIX = 0.3  # share of a new frame in the ground's picture
POINTS = 400  # places at most that a motion is fitted to
GRID = 8  # pixels between the places that the motion of the ground is fitted to
CUT_LEVELS, CUT_SHARE = 25, 0.45  # levels; share of pixels, and of colours, that stay within a scene
SURE_AFTER = 3  # frames that a pixel must look like ground before it counts as known


class Flow:
    """OpenCV's DIS flow from each frame back to the one before it."""

    def __init__(self, longest: int) -> None:
        import cv2

        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(1 if longest > 200 else 0)
        self._flow.setGradientDescentIterations(16)
        self._flow.setVariationalRefinementIterations(0)  # twice the time, and no better
        self._before: np.ndarray | None = None

    def back(self, gray: np.ndarray) -> np.ndarray | None:
        """float32 [H,W,2]: where each pixel was in the frame given before, less its place; None for the first."""
        before, self._before = self._before, gray
        return None if before is None else self._flow.calc(gray, before, None)


def fitted_motion(flow: np.ndarray, where: np.ndarray, step: int, shape: str = "similarity") -> np.ndarray | None:
    """The motion from the frame before to this one, [2,3], that most flow within `where` (bool [H,W]) agrees on.

    None where too little of it agrees on any.
    """
    import cv2

    y, x = np.nonzero(where[::step, ::step])
    if len(x) < 6:
        return None
    if len(x) > POINTS:
        some = np.linspace(0, len(x) - 1, POINTS).astype(int)
        x, y = x[some], y[some]
    now = np.stack([x * step, y * step], 1).astype(np.float32)
    before = now + flow[::step, ::step][y, x]
    fit = cv2.estimateAffine2D if shape == "affine" else cv2.estimateAffinePartial2D
    motion, inliers = fit(before, now, ransacReprojThreshold=1.0, maxIters=200, confidence=0.99)
    return None if motion is None or inliers.mean() < 0.3 else motion


def is_cut(before, now, flow: np.ndarray) -> bool:
    """Whether another scene begins: little of the picture is found again, and its colours are others.

    before, now: appearance.Sight. flow: back from now to before.
    """
    from vace.annotators.nets.track_pose import sampled

    step = max(2, min(now.gray.shape) // 40)
    y, x = (one.ravel() for one in np.mgrid[0 : now.gray.shape[0] : step, 0 : now.gray.shape[1] : step])
    came_from = np.stack([x, y], 1) + flow[y, x]
    off = np.abs(sampled(before.soft, came_from) - now.soft[y, x]).mean(1)
    known = np.isfinite(off)
    if known.any() and (off[known] < CUT_LEVELS).mean() > CUT_SHARE:
        return False
    counts = [np.bincount(one.codes[y, x] // 2, minlength=2048).astype(np.float64) for one in (before, now)]
    return bool(np.minimum(*(count / count.sum() for count in counts)).sum() < CUT_SHARE)


class Ground:
    """What was seen behind the thing, kept in step with the camera."""

    def __init__(self) -> None:
        self.picture: np.ndarray | None = None
        self.seen: np.ndarray | None = None  # float32 [H,W]: for how many frames, up to SURE_AFTER
        self.motion = IDENTITY

    def follow(self, flow: np.ndarray, outside: np.ndarray) -> None:
        """Move along with the camera. outside: bool [H,W], away from the thing."""
        import cv2

        self.motion = fitted_motion(flow, outside, GRID, "affine")
        if self.motion is None:
            self.motion, self.picture = IDENTITY, None
        still = np.abs(self.motion - IDENTITY)
        if self.picture is None or (still[:, :2].max() < 5e-4 and still[:, 2].max() < 0.15):
            self.motion = IDENTITY if self.picture is not None else self.motion
            return
        size = self.seen.shape[::-1]
        self.picture = cv2.warpAffine(
            self.picture, self.motion, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        self.seen = cv2.warpAffine(self.seen, self.motion, size, flags=cv2.INTER_LINEAR)

    def learn(self, picture: np.ndarray, outside: np.ndarray) -> None:
        """Take what `picture` (float32 [H,W,3]) shows `outside` (bool [H,W]) for ground."""
        import cv2

        if self.picture is None:
            self.picture, self.seen = picture.copy(), np.zeros(picture.shape[:2], np.float32)
        new = outside & (self.seen < 0.5)
        cv2.copyTo(picture, new.view(np.uint8), self.picture)
        cv2.accumulateWeighted(picture, self.picture, MIX, outside.view(np.uint8))
        self.seen += outside
        np.minimum(self.seen, SURE_AFTER, out=self.seen)

    @property
    def is_known(self) -> np.ndarray:
        return self.seen > SURE_AFTER - 0.5
