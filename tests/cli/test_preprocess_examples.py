"""Every line of run_vace_preprocess.sh on the embedded networks, on a part of the real media, looked at for content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from example_lines import is_repeated, lines_of
from media_io import frames_of

from vace.media.image import read_image, read_mask_image
from vace.runs import split_list
from vace.tasks import LAYERED, find_task, resolve_mode

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 18  # of each clip: one more than the longest --clip_frames
EXAMPLES = lines_of("run_vace_preprocess.sh")
ONE_EACH = [name for name in EXAMPLES if name != "guide"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder with what the lines name; of the videos only the first frames."""
    from vace.media.video import VideoReader, VideoWriter

    folder = tmp_path_factory.mktemp("clone")
    for kind in ("images", "masks"):
        shutil.copytree(ROOT / "assets" / kind, folder / "assets" / kind)
    (folder / "assets/videos").mkdir()
    for path in sorted((ROOT / "assets/videos").glob("*.mp4")):
        with (
            VideoReader(path) as reader,
            VideoWriter(folder / "assets/videos" / path.name, reader.fps, kind="exact") as writer,
        ):
            writer.write(reader.get(range(min(FRAMES, reader.frame_count))))
    return folder


@pytest.fixture(scope="module")
def truth(clone):
    """Where the thing really is in the first frame: bool [H,W] by video's name."""
    rabbit = read_mask_image(clone / "assets/masks/test.png")
    person = read_mask_image(clone / "assets/masks/test2.png")
    move = cv2.getRotationMatrix2D((256.0, 216.0), 0.0, 1.06)  # the camera of person.mp4 at its first frame
    move[:, 2] += np.float64((240.0, 180.0)) - (256.0, 216.0)
    return {"test.mp4": cv2.erode(rabbit, np.ones((17, 17))) > 0,
            "person.mp4": cv2.warpAffine(person, move, (480, 360)) > 127}  # fmt: skip


def iou(found, wanted) -> float:
    return float((found & wanted).sum() / max(1, (found | wanted).sum()))


class Made:
    """What a line made: the source's frames, src_video, src_mask, references, the task and its mode."""

    def __init__(self, arguments: list[str], answer: dict) -> None:
        self.options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
        self.task = find_task(self.options["--task"])
        self.mode = None if self.task.name == LAYERED else resolve_mode(self.task, self.options.get("--mode"))
        self.lead = self.mode.split(",")[0] if self.mode else None
        videos = split_list(self.options.get("--video"), files=True)
        self.video_name = Path(videos[0]).name if videos else None
        self.source = frames_of(Path(videos[0])) if videos else None
        self.images = [read_image(path) for path in split_list(self.options.get("--image"), files=True)]
        self.frames = frames_of(Path(answer["src_video"])) if answer["src_video"] else None
        self.masks = frames_of(Path(answer["src_mask"]))[..., 0] > 127 if answer["src_mask"] else None
        self.references = [read_image(path) for path in answer["src_ref_images"]]
        self.manifest = json.loads(Path(answer["manifest"]).read_text())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if is_repeated(name) else []) for name in ONE_EACH]
)
def test_line(name, vace, clone, truth, monkeypatch):
    monkeypatch.chdir(clone)
    for arguments in EXAMPLES[name]:
        outcome = vace(*arguments, "--backend", "embedded", "--quiet")
        assert outcome.code == 0, outcome.err
        made = Made(arguments, outcome.json)
        chosen = made.manifest.get("networks", [])
        assert all(choice["backend"] == "embedded" for choice in chosen)
        look(made, truth)
    shutil.rmtree(clone / "processed", ignore_errors=True)


def look(made: Made, truth: dict) -> None:
    """The content that any row of this group must have."""
    assert bool(made.references) == ("src_ref_images" in made.task.outputs) or made.task.name == LAYERED
    assert all(image.std() > 3 for image in made.references)  # nothing empty, nothing of one colour
    if made.task.group == "reference" or made.task.name == "reference_anything":
        look_at_references(made)
    elif made.task.group == "control" or made.task.name == "animate_anything":
        look_at_control(made, truth)
    elif made.task.group == "repainting" or made.task.name == "swap_anything":
        look_at_repainting(made, truth)
    elif made.task.group == "extension":
        look_at_extension(made)
    elif made.masks is not None:
        assert made.masks.any() and not made.masks.all()


def look_at_references(made: Made) -> None:
    assert len(made.references) == len(made.images)
    for image, found in zip(made.images, made.references, strict=True):
        if made.task.annotator in ("depth", "depthv2", "scribble", "image_gray"):
            assert found.shape == image.shape and (found[..., 0] == found[..., 2]).all()
        elif made.mode in ("mask", "salient", "salientmasktrack", "masktrack", "label", "caption"):
            if made.task.name == "image_inpainting":
                assert (found == 128).all(-1).mean() > 0.3 and (found == image).all(-1).mean() > 0.2
            else:  # the person, cut out: white in the corners, her suit within
                assert (found[:20, :20] == 255).all() and (found != 255).any(-1).mean() > 0.4
                assert ((found[..., 0] > 180) & (found[..., 2] < 90)).mean() > 0.1


def look_at_control(made: Made, truth: dict) -> None:
    if made.source is None:  # drawn from boxes alone
        assert (made.frames == 255).all(-1).mean() > 0.9 and (made.frames != 255).any(axis=(1, 2, 3)).all()
        return
    assert made.frames.shape == made.source.shape  # no frame lost, the size kept
    person = truth.get(made.video_name)
    name = made.task.annotator
    if name in ("pose", "pose_body", "animate_anything"):
        drawn = made.frames[0].max(-1) > 60
        near = cv2.dilate(person.astype(np.uint8), np.ones((15, 15))) > 0
        assert drawn.sum() > 200 and (drawn & near).sum() > 0.9 * drawn.sum()
        assert all((frame.max(-1) > 60).sum() > 200 for frame in made.frames)
    elif name == "layout_track":
        line = (made.frames[0] != 255).any(-1)
        box = cv2.boundingRect(cv2.findNonZero(line.astype(np.uint8)))
        wanted = cv2.boundingRect(cv2.findNonZero(person.astype(np.uint8)))
        assert 0 < line.mean() < 0.2 and box_iou(box, wanted) > 0.6
    elif name in ("depth", "depthv2"):
        assert (made.frames[..., 0] == made.frames[..., 1]).all() and made.frames[0].min() == 0
        assert made.frames[0][person].mean() > made.frames[0][:90].mean() + 20  # the rabbit is nearer than the sky
    elif name == "flow":
        assert (made.frames[1] != 255).any() and np.array_equal(made.frames[0], made.frames[1])
    elif name == "scribble":
        assert 0.5 < (made.frames == 255).mean() < 0.999 and (made.frames < 100).any(axis=(1, 2, 3)).all()


def box_iou(one, other) -> float:
    """Of two boxes (x, y, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    inner = max(0, width) * max(0, height)
    return inner / (one[2] * one[3] + other[2] * other[3] - inner)


def look_at_repainting(made: Made, truth: dict) -> None:
    if made.frames.shape == made.source.shape:
        kept = ~made.masks
        assert np.array_equal(made.frames[kept], made.source[kept])  # what is kept is untouched
    assert (made.frames[made.masks] == 128).all() and made.masks.any(axis=(1, 2)).all()
    assert not made.masks.all(axis=(1, 2)).any()
    if made.lead is None or made.lead == "bbox" or "--maskaug_mode" in made.options:
        return
    thing = truth[made.video_name]
    least = 0.45 if made.lead.startswith("salient") or made.lead == "maskbboxtrack" else 0.6
    if made.lead == "maskpointtrack":
        least = 0.3
    assert iou(made.masks[0], thing) > least
    assert iou(made.masks[-1], thing) > least - 0.15  # it hardly moves in these frames


def look_at_extension(made: Made) -> None:
    kept = [index for index, mask in enumerate(made.masks) if not mask.all()]
    assert kept and len(kept) < len(made.masks)
    assert (made.frames[made.masks] == 127).all()
    if made.images and kept[0] == 0:
        assert np.array_equal(made.frames[0], made.images[0])
    if made.source is not None and made.task.name in ("firstclip", "clipref") and kept[0] == 0:
        first = FRAMES - int(made.options["--clip_frames"])  # its last frames are what goes on
        assert np.array_equal(made.frames[0], made.source[first])
