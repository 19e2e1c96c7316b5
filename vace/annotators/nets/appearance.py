"""What a thing looks like: its colours against those around it, its picture at a pose, and how to find it again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vace.annotators.nets.track_pose import Samples, angle_of, fitted, moved, pose_at, sampled, size_of

BINS = 16  # of each colour channel
TOLERANCE = 11.0  # levels that a pixel may differ and still be the thing's
PER_SLOPE = 0.6  # more of them for each level per pixel that the picture changes there: for what lies between pixels
INSIDE, AROUND = 1600, 700  # points at most
LEVELS = 3
REACH_LEAST = 6.0  # pixels of reach that a thing must have on the coarsest level


class Colours:
    """How likely each colour is the thing's, from smoothed histograms."""

    def __init__(self) -> None:
        self._thing = np.zeros((BINS,) * 3, np.float32)
        self._ground = np.zeros((BINS,) * 3, np.float32)
        self._table: np.ndarray | None = None

    @staticmethod
    def codes(picture: np.ndarray) -> np.ndarray:
        """The bin of each pixel of uint8 [H,W,3], int32 [H,W]."""
        bins = (picture >> 4).astype(np.int32)
        return (bins[..., 0] * BINS + bins[..., 1]) * BINS + bins[..., 2]

    def learn(self, codes: np.ndarray, thing: np.ndarray, ground: np.ndarray, rate: float) -> None:
        """Mix in the colours of one picture; thing, ground: bool [H,W]; rate: 1 forgets what was before."""
        for past, where in ((self._thing, thing), (self._ground, ground)):
            if where.any():
                now = _smooth(np.bincount(codes[where], minlength=BINS**3).reshape(past.shape))
                past += (1.0 if not past.any() else rate) * (now - past)
        floor = 0.02 / BINS**2
        chance = (self._thing + floor) / (self._thing + self._ground + 2 * floor)
        self._table = chance.astype(np.float32).reshape(-1)

    def chances(self, codes: np.ndarray) -> np.ndarray:
        """How likely each pixel is the thing's by its colour alone, float32 [H,W]; 0.5 where nothing is known."""
        return self._table[codes]


def _smooth(counts: np.ndarray) -> np.ndarray:
    """Counts [n,n,n] as shares, spread to their neighbours."""
    shares = counts.astype(np.float32) / max(1, counts.sum())
    for axis in range(3):
        padded = np.moveaxis(np.pad(shares, [(1, 1) if i == axis else (0, 0) for i in range(3)], "edge"), axis, 0)
        shares = np.moveaxis(0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:], 0, axis)
    return shares


class Sight:
    """One frame as the tracker sees it, at working size: pictures and colour chances on each level.

    picture: uint8 [H,W,3]. chances: float32 [H,W].
    """

    def __init__(self, picture: np.ndarray, colours: Colours, whole: np.ndarray) -> None:
        import cv2

        self._whole: np.ndarray | None = whole
        self.picture, self.gray = picture, cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        self.codes = Colours.codes(picture)
        self.soft = cv2.GaussianBlur(picture, (0, 0), 0.8).astype(np.float32)
        self.chances = np.zeros(picture.shape[:2], np.float32)
        self.levels: list[list[np.ndarray]] = []
        if colours._table is not None:
            self.judge(colours)

    def whole_gray(self, window: tuple[slice, slice]) -> np.ndarray:
        """Part of the frame at the clip's own size, float32 gray."""
        import cv2

        return cv2.cvtColor(np.ascontiguousarray(self._whole[window]), cv2.COLOR_RGB2GRAY).astype(np.float32)

    def judge(self, colours: Colours) -> None:
        """Make the chances, and the levels, by `colours`."""
        import cv2

        self.chances = cv2.GaussianBlur(colours.chances(self.codes), (0, 0), 1.0)
        self.levels = [[self.soft, self.chances * 100]]
        for _ in range(1, LEVELS):
            self.levels.append([_halved(channels) for channels in self.levels[-1]])


def _halved(picture: np.ndarray) -> np.ndarray:
    import cv2

    size = ((picture.shape[1] + 1) // 2, (picture.shape[0] + 1) // 2)
    grow = np.float32([[2, 0, 0.5], [0, 2, 0.5]])
    soft = cv2.GaussianBlur(picture, (0, 0), 1.2)
    return cv2.warpAffine(
        soft, grow, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )


class Look:
    """The thing as one frame shows it: what it is matched with from then on.

    sight: that frame. mask: float32 [H,W], 0..1, at working size. whole: uint8 [H,W], 0 or 255, at the clip's size.
    """

    def __init__(self, sight: Sight, mask: np.ndarray, whole: np.ndarray) -> None:
        import cv2

        self.sight, self.mask, self.whole = sight, mask, whole
        solid = (mask > 0.5).astype(np.uint8)
        self.area = float(np.count_nonzero(solid))
        y, x = np.nonzero(solid)
        self.centre = np.array([x.mean(), y.mean()])
        self.reach = max(2.0, float(np.sqrt(self.area / np.pi)))
        framed = cv2.copyMakeBorder(solid, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        self.depth = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1]  # pixels inside from the outline
        self.core = (self.depth > min(1.5, 0.5 * self.depth.max())).astype(np.float32)
        self.away = cv2.distanceTransform(1 - solid, cv2.DIST_L2, 5)
        near = (self.away > 1.5) & (self.away < 6)
        inner = (self.depth > 1.5) & (self.depth < 6)
        gap = (sight.chances[inner].mean() if inner.any() else 0) - (sight.chances[near].mean() if near.any() else 0)
        self.contrast = float(
            np.clip((gap - 0.25) / 0.5, 0, 1)
        )  # how well colours alone tell it from what is around it
        self.gap = float(gap)
        self.box = cv2.boundingRect(solid)
        self._sample(near)

    def _sample(self, near: np.ndarray) -> None:
        inside = _spread((self.depth > min(1.6, 0.4 * self.depth.max())), INSIDE)
        inside, self.cells = _in_cells(inside)
        self.samples = Samples(self.sight.soft, inside, self.centre, self.reach)
        self.tolerance = TOLERANCE + PER_SLOPE * self.samples.slope
        self.levels, self.ring = [], None
        if self.contrast > 0:
            ring = _spread((self.away < 5) & (self.depth < 5), AROUND)
            self.ring = Samples(self.sight.chances, ring, self.centre, self.reach)
        for level in range(LEVELS):
            factor = 2.0**-level
            if level and self.reach * factor < REACH_LEAST:
                break
            middle, reach = (self.centre + 0.5) * factor - 0.5, self.reach * factor
            points = _thinned((inside + 0.5) * factor - 0.5, INSIDE >> level)
            kinds = [(Samples(self.sight.levels[level][0], points, middle, reach), 0, 4.0, 1.0)]
            if self.contrast > 0:
                ring = _spread((self.away < 5 / factor) & (self.depth < 5 / factor), AROUND)
                ring = (ring + 0.5) * factor - 0.5
                share = len(points) / max(1, len(ring))
                kinds.append(
                    (Samples(self.sight.levels[level][1], ring, middle, reach), 1, 12.0, self.contrast**2 * share)
                )
            self.levels.append(kinds)

    def fit(
        self,
        sight: Sight,
        pose: np.ndarray,
        coarsest: int = LEVELS,
        is_rigid: bool = False,
        is_strict: bool = False,
        finest: int = 0,
    ) -> np.ndarray:
        """`pose` moved to where `sight` fits best; the rest as for track_pose.fitted (is_rigid: by shifts alone)."""
        levels = self.levels[:coarsest]
        return fitted(levels, sight.levels, pose, self.centre, self.reach, is_rigid, is_strict, finest)

    def reveal(self, open_: np.ndarray | None) -> None:
        """Let only the points count for fitting that lie where `open_` (float32 [H,W] of the look) is above 0.5."""
        for level, kinds in enumerate(self.levels):
            for samples, *_ in kinds:
                if open_ is None:
                    samples.open[:] = 1
                else:
                    whole = (samples.points + 0.5) * 2.0**level - 0.5
                    samples.open[:] = np.nan_to_num(sampled(open_, whole)[:, 0], nan=1.0) > 0.5

    def matches(self, sight: Sight, pose: np.ndarray) -> Match:
        """How the thing's points compare with `sight` under `pose`."""
        off = self._off(sight, moved(self.samples.points, pose), self.samples.values, self.tolerance)
        known = np.isfinite(off)
        count = max(1, np.count_nonzero(known))
        close = float(np.maximum(0, 1 - off[known] ** 2).sum()) / count
        return Match(_alike(off[None], self.cells)[0], np.count_nonzero(known) / len(off), close)

    @staticmethod
    def _off(sight: Sight, points, values, tolerance) -> np.ndarray:
        """Differences in tolerances, NaN outside the frame."""
        return np.abs(sampled(sight.soft, points) - values).mean(-1) / tolerance

    def outlined(self, sight: Sight, pose: np.ndarray) -> float:
        """How well the colours around the outline fit, 0..1."""
        if self.ring is None:
            return 0.0
        found = sampled(sight.chances, moved(self.ring.points, pose))[:, 0]
        off = np.abs(found - self.ring.values[:, 0])
        known = np.isfinite(off)
        return 1 - float(off[known].mean()) / max(0.25, self.gap) if np.count_nonzero(known) > 8 else 0.0

    def chance_matches(self, sight: Sight, pose: np.ndarray, rng: np.random.Generator, tries: int = 40) -> float:
        """The share of points that look the same at most places of the frame where the thing is not: 0.9 quantile."""
        height, width = sight.chances.shape
        some = self.cells[:: max(1, len(self.cells) // 40)]
        ends = np.append(self.cells[1:], len(self.tolerance))[:: max(1, len(self.cells) // 40)]
        pick = np.concatenate([np.arange(a, b) for a, b in zip(some, ends, strict=True)])
        cells = np.concatenate([[0], np.cumsum(ends - some)[:-1]])
        at = moved(self.samples.points[pick], pose)
        at = at - at.mean(0)
        places = at[None] + rng.uniform((0, 0), (width, height), (tries, 1, 2))
        off = self._off(sight, places, self.samples.values[pick], self.tolerance[pick])
        return float(np.quantile(_alike(off, cells), 0.9))

    def centre_at(self, pose: np.ndarray) -> np.ndarray:
        return moved(self.centre[None], pose)[0]

    def pose(self, centre: np.ndarray, angle: float, size: float) -> np.ndarray:
        """The pose with the middle of the thing at `centre`."""
        return pose_at(self.centre, centre, angle, size)


@dataclass(frozen=True)
class Match:
    """same: share of the thing's cells within the frame that look the same; inside: share of it within the frame;
    close: 0..1, how little its points differ."""

    same: float
    inside: float
    close: float


def _alike(off: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """For differences [k,n], sorted by cells that start at `cells`: the share of cells that look the same, [k].

    Chance makes single points alike, seldom all of a cell.
    """
    known = np.isfinite(off)
    total = np.add.reduceat(np.where(known, np.minimum(off, 3), 0), cells, axis=1)
    count = np.add.reduceat(known.astype(np.float64), cells, axis=1)
    alike = (total < 0.8 * count) * count
    return alike.sum(1) / np.maximum(1, count.sum(1))


def _in_cells(points: np.ndarray, side: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Points [n,2] sorted by squares of `side` pixels, and where each square starts."""
    names = (points[:, 1] // side) * 100000 + points[:, 0] // side
    order = np.argsort(names, kind="stable")
    return points[order], np.unique(names[order], return_index=True)[1]


def _spread(where: np.ndarray, most: int) -> np.ndarray:
    """Points (x, y) of `where`, at most `most`, evenly: float64 [n,2]."""
    y, x = np.nonzero(where)
    return _thinned(np.stack([x, y], 1).astype(np.float64), most)


def _thinned(points: np.ndarray, most: int) -> np.ndarray:
    if len(points) <= most:
        return points
    return points[np.linspace(0, len(points) - 1, most).astype(int)]


def shape_places(look: Look, sight: Sight, angle: float, size: float, most: int = 3) -> list[np.ndarray]:
    """Poses where colours form the thing's shape, best first."""
    import cv2

    factor = min(1.0, 160 / max(sight.chances.shape), 14 / max(1.0, look.reach * size))
    small = cv2.resize(sight.chances, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    found = []
    for grow in (1.0, 0.8, 1.25):
        kernel, _ = _shape_kernel(look, angle, size * grow * factor)
        pad = [side // 2 for side in kernel.shape]
        framed = cv2.copyMakeBorder(small, pad[0], pad[0], pad[1], pad[1], cv2.BORDER_CONSTANT, value=0.0)
        answer = cv2.matchTemplate(framed, kernel, cv2.TM_CCORR)
        for value, (x, y) in _peaks(answer, most, max(2, int(look.reach * size * factor))):
            found.append((value, look.pose((np.array([x, y]) + 0.5) / factor - 0.5, angle, size * grow)))
    return [pose for value, pose in sorted(found, key=lambda one: -one[0])[:most] if value > 0.2]


def _shape_kernel(look: Look, angle: float, size: float) -> tuple[np.ndarray, int]:
    """The thing's shape less a ring of the same weight around it, odd sides, the thing's middle at its middle."""
    import cv2

    reach = int(np.ceil(np.hypot(look.box[2], look.box[3]) * 0.6 * size + 3))
    side = 2 * reach + 1
    pose = pose_at(look.centre, (reach, reach), angle, size)
    inner = cv2.warpAffine(look.mask, pose, (side, side), flags=cv2.INTER_AREA)
    outer = cv2.dilate(inner, np.ones((5, 5), np.uint8)) - inner
    return (inner / max(1e-6, inner.sum()) - outer / max(1e-6, outer.sum())).astype(np.float32), reach


def _peaks(answer: np.ndarray, most: int, apart: int) -> list[tuple[float, tuple[int, int]]]:
    """The `most` highest places of `answer`, at least `apart` pixels from each other."""
    import cv2

    answer, found = answer.copy(), []
    for _ in range(most):
        _, value, _, (x, y) = cv2.minMaxLoc(answer)
        if not np.isfinite(value):
            break
        found.append((value, (x, y)))
        answer[max(0, y - apart) : y + apart + 1, max(0, x - apart) : x + apart + 1] = -np.inf
    return found


def patch_places(look: Look, sight: Sight, angle: float, size: float, most: int = 2) -> list[np.ndarray]:
    """Poses where parts of the thing's picture, turned and scaled so, are found again, best first."""
    import cv2

    reach = int(np.ceil(np.hypot(look.box[2], look.box[3]) * 0.55 * size + 1))
    side = 2 * reach + 1
    pose = pose_at(look.centre, (reach, reach), angle, size)
    turned = cv2.warpAffine(look.sight.gray, pose, (side, side), flags=cv2.INTER_LINEAR)
    cover = cv2.warpAffine((look.depth > 1).astype(np.float32), pose, (side, side), flags=cv2.INTER_LINEAR)
    edge = int(np.clip(look.reach * size * 0.9, 10, 40))
    found = []
    for x, y in _patches(turned, cover, edge):
        patch = turned[y : y + edge, x : x + edge]
        if min(sight.gray.shape) <= edge:
            continue
        answer = cv2.matchTemplate(sight.gray, patch, cv2.TM_CCOEFF_NORMED)
        for value, (left, top) in _peaks(answer, most, edge // 2):
            if value > 0.45:
                found.append((value, look.pose(np.array([left - x + reach, top - y + reach]), angle, size)))
    return [pose for _, pose in sorted(found, key=lambda one: -one[0])[: 2 * most]]


def _patches(turned: np.ndarray, cover: np.ndarray, edge: int, most: int = 3) -> list[tuple[int, int]]:
    """Left upper corners of the squares that lie in the thing and vary most."""
    import cv2

    if min(turned.shape) <= edge:
        return []
    gray = turned.astype(np.float32)
    size = (edge, edge)
    at = slice(edge // 2, edge // 2 + turned.shape[0] - edge + 1)
    mean, square = (cv2.boxFilter(one, -1, size)[at, at] for one in (gray, gray * gray))
    share = cv2.boxFilter(cover, -1, size)[at, at]
    worth = np.where(share > 0.85, np.maximum(square - mean * mean, 0), -1)
    return [corner for value, corner in _peaks(worth, most, max(1, edge // 2)) if value > 9]


class Features:
    """ORB features of a look, to find the thing turned or scaled."""

    def __init__(self, look: Look) -> None:
        import cv2

        self._orb = cv2.ORB_create(600, 1.2, 6, edgeThreshold=8, patchSize=21, fastThreshold=8)
        mask = (look.mask > 0.5).astype(np.uint8) * 255
        self._points, self._words = self._orb.detectAndCompute(look.sight.gray, mask)
        self._matcher = cv2.BFMatcher(cv2.NORM_HAMMING)

    def places(self, sight: Sight) -> list[np.ndarray]:
        """At most one pose that many features agree on."""
        import cv2

        if self._words is None or len(self._words) < 8:
            return []
        points, words = self._orb.detectAndCompute(sight.gray, None)
        if words is None or len(words) < 8:
            return []
        pairs = [
            (self._points[best.queryIdx].pt, points[best.trainIdx].pt)
            for best, second in (pair for pair in self._matcher.knnMatch(self._words, words, k=2) if len(pair) == 2)
            if best.distance < 0.85 * second.distance and best.distance < 70
        ]
        if len(pairs) < 5:
            return []
        then, now = (np.float32([pair[i] for pair in pairs]) for i in (0, 1))
        pose, inliers = cv2.estimateAffinePartial2D(then, now, ransacReprojThreshold=3.0, maxIters=1000)
        if pose is None or inliers.sum() < 5 or not 0.3 < size_of(pose) < 3 or not np.isfinite(angle_of(pose)):
            return []
        return [pose]
