"""The embedded model does what it is asked, not only something of the right shape: a small part of `vace eval`, and one
edit from end to end. The bars lie below what the whole evaluation measured (the card of vace-tiny)."""

from __future__ import annotations

import numpy as np

from vace.evaluation import evaluate
from vace.media.video import VideoReader
from vace.pipeline import pipeline
from vace.training import judge

TASKS = "txt2vid,gray,depth,inpainting,outpainting,frameref,reference"
BARS = {"vae_psnr": 28, "kept_psnr": 22, "prompt_color": 0.7, "reference_color": 0.5}
CONTROLS = {"gray": 0.5, "depth": 0.5, "frameref": 0.3}  # shares of the way to the truth


def test_the_embedded_model_follows_words_controls_masks_and_references(tmp_path):
    scores = evaluate("tiny", tasks=TASKS, fast=True, progress=False, out=tmp_path).scores
    measured = {name: scores[name] for name in BARS} | {name: scores["control"][name] for name in CONTROLS}
    missed = {name: measured[name] for name, bar in (BARS | CONTROLS).items() if not measured[name] >= bar}
    assert not missed, measured


def frames_of(path) -> np.ndarray:
    with VideoReader(path) as reader:
        return reader.get(list(range(reader.frame_count)))


def test_the_example_edit_repaints_one_thing_and_leaves_the_rest(root, tmp_path):
    video, masks = root / "assets/videos/toy.mp4", root / "assets/masks/toy.mp4"
    made = pipeline(
        task="inpainting", mode="mask", video=str(video), mask=str(masks), ckpt_dir="tiny", progress=False,
        prompt="a blue heart moves right and a small yellow star rests over grass", save_dir=tmp_path / "out",
        pre_save_dir=tmp_path / "prepared",
    )  # fmt: skip
    before, after = frames_of(video), frames_of(made.out_videos[0])
    inside = frames_of(masks)[..., 0] > 127
    assert before.shape == after.shape
    errors = np.square(after.astype(np.float32) - before)
    assert 10 * np.log10(255**2 / errors[~inside].mean()) > 22  # straight from the model: nothing is pasted over
    assert judge.colour_of(before, inside) != "blue" and judge.colour_of(after, inside) == "blue"
