"""People by MediaPipe's networks: on a real picture, small, doubled, moved, hidden, and where there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vace.annotators.nets import mediapipe_pose
from vace.annotators.nets.blaze import Roi
from vace.annotators.nets.mediapipe_pose import MediapipePose, Person, find_people, is_same, refine, seen_box
from vace.annotators.nets.poses import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND, Memory, OneEuro

NOSE, LEFT_SHOULDER, RIGHT_SHOULDER = 0, 11, 12


@pytest.fixture(scope="module")
def woman(request) -> np.ndarray:
    """The astronaut, RGB uint8 [512,512,3]: the face about (224,118), the shoulders about (103,235) and (305,240)."""
    from vace.media.image import read_image

    return read_image(request.config.rootpath / "assets" / "images" / "test.jpg")


@pytest.fixture(scope="module")
def seen(woman) -> Person:
    (person,) = find_people(woman)
    return person


def moved(image: np.ndarray, x: int, y: int) -> np.ndarray:
    return np.roll(image, (y, x), axis=(0, 1))


def test_points_and_box_lie_on_the_person(seen):
    assert seen.points33.shape == (33, 2) and seen.visibility.shape == (33,)
    assert seen.points33[NOSE] == pytest.approx((218, 128), abs=15)
    assert seen.points33[RIGHT_SHOULDER] == pytest.approx((103, 235), abs=35)
    assert seen.points33[LEFT_SHOULDER] == pytest.approx((305, 240), abs=35)
    assert seen.visibility[[NOSE, LEFT_SHOULDER, RIGHT_SHOULDER]].min() > 0.9
    assert seen.visibility[[27, 28, 31, 32]].max() == 0  # feet are far below the picture
    assert seen.score > 0.9 and seen.follows is None
    x1, y1, x2, y2 = seen.box
    assert 0 <= x1 < 103 and 0 <= y1 < 110 and 305 < x2 <= 512 and 400 < y2 <= 512


def test_the_matte_covers_the_person_alone(seen):
    assert seen.mask.shape == (512, 512) and seen.mask.dtype == np.uint8
    assert all(seen.mask[y, x] > 200 for x, y in ((224, 118), (200, 300), (80, 400), (150, 460)))
    assert all(seen.mask[y, x] < 50 for x, y in ((20, 40), (480, 100), (400, 250), (330, 60)))


def test_without_masks_there_are_none_and_the_points_are_the_same(woman, seen):
    (person,) = find_people(woman, with_masks=False, search="whole")
    assert person.mask is None and np.array_equal(person.points33, seen.points33)


@pytest.mark.parametrize("name", ["test2.jpg", "test3.jpg"])
def test_no_people_in_a_cat_or_a_cup(root, name):
    from vace.media.image import read_image

    assert find_people(read_image(root / "assets" / "images" / name)) == []


def test_small_people_are_found_in_parts(woman):
    import cv2

    small = cv2.resize(woman, (100, 100), interpolation=cv2.INTER_AREA)
    image = np.full((360, 640, 3), 120, np.uint8)
    image[130:230, 300:400] = small
    assert find_people(image, search="whole") == []
    (person,) = find_people(image)
    assert person.points33[NOSE] == pytest.approx((300 + 218 * 100 / 512, 130 + 128 * 100 / 512), abs=8)


def test_two_people_are_two(woman):
    image = np.hstack([woman, woman[:, ::-1]])
    people = find_people(image, search="whole")
    noses = sorted(person.points33[NOSE, 0] for person in people)
    assert noses == pytest.approx([218, 1024 - 218], abs=20)
    left = min(people, key=lambda person: person.points33[NOSE, 0])
    assert left.mask[:, 512:].mean() < 5 and left.mask[300, 200] > 200


def test_somebody_is_followed(woman, seen):
    (person,) = find_people(moved(woman, 12, 4), [seen], search="lost")
    assert person.follows == 0
    assert person.points33[NOSE] - seen.points33[NOSE] == pytest.approx((12, 4), abs=6)


def test_who_is_gone_is_not_followed(woman, seen):
    assert find_people(np.zeros_like(woman), [seen], search="lost") == []


def test_who_is_found_anew_where_one_was_lost_follows_it(woman, seen, monkeypatch):
    look = mediapipe_pose._look
    monkeypatch.setattr(
        mediapipe_pose, "_look", lambda *given: None if len(given) > 3 and given[3] is not None else look(*given)
    )
    (person,) = find_people(woman, [seen], search="lost")
    assert person.follows == 0
    (person,) = find_people(woman, [replace(seen, points33=seen.points33 + 400)], search="lost")
    assert person.follows is None


def test_followed_squares_are_calm_but_never_left_behind():
    before = Roi(100, 100, 50, 0.0)
    near = mediapipe_pose._calmed(before, Roi(100.5, 100, 50, 0.0))
    assert near.x == pytest.approx(100.1)
    far = Roi(130, 90, 70, 3.0)
    assert mediapipe_pose._calmed(before, far) == far
    around = mediapipe_pose._calmed(replace(before, angle=3.1), Roi(100, 100, 50, -3.1))  # past half a turn
    assert around.angle == pytest.approx(2 * np.pi - 3.1)


def test_finds_are_the_same_by_their_points(seen):
    assert is_same(seen, replace(seen, points33=seen.points33 + 0.1 * seen.roi.side))
    assert not is_same(seen, replace(seen, points33=seen.points33 + 0.2 * seen.roi.side))


def test_a_point_moves_to_the_middle_of_its_heat():
    heat = np.full((8, 8, 2), -20.0)
    heat[4, 3, 0] = heat[4, 4, 0] = 5.0
    heat[4, 3, 1] = -1.0  # not hot enough
    points = np.array([[0.5, 0.5], [0.55, 0.5]])
    refined = refine(points, heat)
    assert refined[0] == pytest.approx((3.5 / 8, 4 / 8), abs=1e-3)
    assert refined[1].tolist() == points[1].tolist()
    outside = np.array([[1.5, 0.5], [-0.2, 0.5]])
    assert refine(outside, heat).tolist() == outside.tolist()


def test_a_box_needs_three_points_and_stays_in_the_picture():
    points, visibility = np.array([[-5.0, 10], [50, 90], [20, 30], [500, 500]]), np.array([1, 1, 1, 0.0])
    x1, y1, x2, y2 = seen_box(points, visibility, 52, 100)
    assert (x1, x2) == (0, 52) and y1 < 10 and 90 < y2 < 100
    assert seen_box(points, np.array([1, 1, 0, 0.0]), 52, 100) is None


@pytest.fixture(scope="module")
def clip(woman) -> np.ndarray:
    """Eight frames in which the woman drifts to the right, 200x200."""
    import cv2

    small = cv2.resize(woman, (200, 200), interpolation=cv2.INTER_AREA)
    return np.stack([moved(small, shift, 0) for shift in range(8)])


@pytest.fixture(scope="module")
def poses(clip):
    return MediapipePose().poses(clip, hands=False)


def test_whole_bodies_in_dwposes_order(poses):
    people = poses[0]
    assert people.points.shape == (1, 134, 2) and people.scores.shape == (1, 134)
    points, scores = people.points[0], people.scores[0]
    nose, neck, right, left = points[0], points[1], points[2], points[5]
    assert nose == pytest.approx((85, 50), abs=6)
    assert right[0] < neck[0] < left[0] and neck == pytest.approx((right + left) / 2, abs=1e-3)
    assert points[14, 0] < nose[0] < points[15, 0]  # the right eye is on the picture's left
    assert scores[[0, 1, 2, 5, 14, 15]].min() > 0.9
    assert scores[FEET].max() < 0.3 and scores[LEFT_HAND].max() == scores[RIGHT_HAND].max() == 0
    face = points[FACE]
    assert scores[FACE].min() > 0.9
    assert face[8, 1] > face[:, 1].mean() > face[19, 1]  # the chin is below, a brow above
    assert face[0, 0] < face[36, 0] < face[45, 0] < face[16, 0]  # jaw, eye, eye, jaw from left to right
    assert np.abs(face[30] - nose).max() < 10


def test_points_go_with_the_person(poses):
    shift = poses[7].points[0, BODY] - poses[0].points[0, BODY]
    shown = (poses[7].scores[0, BODY] > 0.9) & (poses[0].scores[0, BODY] > 0.9)
    assert shown.sum() >= 6 and shift[shown].mean(axis=0) == pytest.approx((7, 0), abs=2.5)


def test_chunks_of_a_clip_are_one_clip(clip, poses):
    net, memory, found = MediapipePose(), Memory(), []
    for chunk in np.split(clip, [1, 3]):
        found += net.poses(chunk, memory, hands=False)
    for one, other in zip(found, poses, strict=True):
        assert np.array_equal(one.points, other.points) and np.array_equal(one.scores, other.scores)


def test_one_network_serves_two_clips_at_a_time(clip, poses):
    net, one, other = MediapipePose(), Memory(), Memory()
    for frame, backwards, expected in zip(clip[:3], clip[::-1], poses, strict=False):
        (found,) = net.poses(frame[None], one, hands=False)
        net.poses(backwards[None], other, hands=False)
        assert np.array_equal(found.points, expected.points)


def test_nobody_goes_on_behind_a_cut(clip):
    found = MediapipePose().poses(np.stack([clip[0], np.full_like(clip[0], 200)]), hands=False)
    assert [len(people.points) for people in found] == [1, 0]


def test_who_is_lost_for_two_frames_is_drawn_on_where_it_was(clip, monkeypatch):
    find, gone = mediapipe_pose.find_people, []

    def find_or_not(*given, **options):
        gone.append(1)
        return [] if 2 <= len(gone) <= 5 else find(*given, **options)

    monkeypatch.setattr(mediapipe_pose, "find_people", find_or_not)
    found = MediapipePose().poses(clip[:6], hands=False)
    assert [len(people.points) for people in found] == [1, 1, 1, 0, 0, 1]
    assert np.array_equal(found[2].points, found[0].points)


def test_hands_are_asked_for_at_seen_wrists_only(seen, woman, monkeypatch):
    asked = []
    monkeypatch.setattr(mediapipe_pose, "find_hand", lambda image, wrist, near, old: asked.append((wrist, near)))
    mediapipe_pose._hand(woman, replace(seen, visibility=np.zeros(33, np.float32)), mediapipe_pose.ARMS[0], None)
    assert asked == []
    points = seen.points33.copy()
    points[[13, 15, 17, 19]] = (100, 100), (100, 200), (90, 220), (110, 220)
    mediapipe_pose._hand(woman, replace(seen, points33=points, visibility=np.ones(33)), mediapipe_pose.ARMS[0], None)
    ((wrist, near),) = asked
    assert wrist.tolist() == [100, 200] and (near.x, near.y, near.side) == pytest.approx((100, 224, 160))


def test_the_smoother_calms_what_rests_and_follows_what_moves():
    rng = np.random.default_rng(0)
    resting, moving = OneEuro(), OneEuro()
    noise = rng.normal(0, 0.5, (60, 1, 2))
    calm = np.stack([resting(np.array([[100.0, 100.0]]) + part, 200, 16) for part in noise])
    assert np.diff(calm[10:], axis=0).std() < 0.4 * np.diff(noise[10:], axis=0).std()
    path = np.stack([np.array([[10.0 * t, 0]]) for t in range(30)])
    followed = np.stack([moving(point, 200, 16) for point in path])
    assert np.abs(followed - path)[5:].max() < 2.5  # of 10 pixels a frame
