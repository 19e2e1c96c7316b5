"""The pages in a real browser, with the embedded toy: what a person does, from upload to the downloaded result."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from conftest import moving_frames
from page_driver import PHONE, Driver, steps_told

from vace.media.video import VideoReader, VideoWriter

pytestmark = pytest.mark.slow
LIMIT = 1  # MB of an upload


@pytest.fixture(scope="module")
def served(tmp_path_factory, serve):
    with serve(tmp_path_factory.mktemp("demo"), "--max_upload", str(LIMIT), "--no_download") as running:
        yield running


@pytest.fixture
def driver(browser, served):
    opened = Driver(browser, served.url)
    yield opened
    assert opened.errors == [] and opened.elsewhere == []
    opened.context.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """26 frames of 128x80 at 25 a second, h264 as a camera makes it."""
    path = tmp_path_factory.mktemp("clips") / "my clip, 1.mp4"
    with VideoWriter(path, 25, kind="preview") as writer:
        writer.write(moving_frames(26, 128, 80))
    return path


def prepare_painted(driver: Driver, clip) -> None:
    """On the Create page: a clip, and a mask painted over the left half of its middle."""
    driver.task("pipeline", "repainting", "inpainting", "mask")
    driver.upload("pipeline-video", clip)
    driver.drag("pipeline-mask", (0.1, 0.5), (0.4, 0.5))
    driver.fill("pipeline-prompt", "A red fox in the <b>meadow</b>")


def manifests(served, kind: str) -> list:
    found = sorted((served.out / kind).glob("*/*/manifest.json"), key=lambda path: path.stat().st_mtime)
    return [(path, json.loads(path.read_text())) for path in found]


def set_steps(driver: Driver, prefix: str, steps: int) -> None:
    if not driver.at(f"{prefix}-steps").is_visible():
        driver.unfold(f"{prefix}-more-settings")
    driver.fill(f"{prefix}-steps", str(steps))


def test_from_a_painted_mask_to_the_video_and_its_settings_back(driver, served, clip, tmp_path):
    prepare_painted(driver, clip)
    set_steps(driver, "pipeline", 40)
    said = driver.finish("pipeline")
    steps = steps_told(said)
    assert len(steps) >= 3 and steps == sorted(steps), said
    assert any(" s/step" in text and " left" in text for text in said)
    assert "wan vace-tiny: 17 frames at 16 fps" in said[-1]

    place, manifest = manifests(served, "results")[-1]
    assert manifest["parameters"]["prompt"] == "A red fox in the <b>meadow</b>"
    assert driver.at("pipeline-result").locator("video").get_attribute("src")
    assert f"seed {manifest['seed']}" in driver.at("pipeline-result-words").inner_text()
    with driver.page.expect_download() as download:
        driver.at("pipeline-download").get_by_text(re.compile(r"KB|B ↓")).first.click()
    video = tmp_path / "out_video.mp4"
    download.value.save_as(video)
    assert video.read_bytes() == (place.parent / "out_video.mp4").read_bytes()

    source = next(record for record in manifest["materials"] if record["flag"] == "mask")
    painted = VideoReader(next(served.out.glob("processed/inpainting/*/src_mask-inpainting.mp4")))
    masks = np.concatenate(list(painted.chunks()))[..., 0]
    assert source["bytes"] > 0 and (masks == masks[:1]).all()
    white = masks[0] >= 128
    across, down = np.flatnonzero(white.any(axis=0)) / white.shape[1], np.flatnonzero(white.any(axis=1)) / len(white)
    assert 0.02 < across[0] < 0.12 and 0.38 < across[-1] < 0.48 and 0.4 < down[0] and down[-1] < 0.6

    driver.tab("Generate")
    driver.unfold("generate-load-fold")
    driver.upload("generate-load", video)
    assert driver.value("generate-prompt") == "A red fox in the <b>meadow</b>"
    assert driver.value("generate-seed") == str(manifest["seed"])
    driver.tab("Create")
    driver.at("pipeline-again").click()
    driver.settle()
    assert driver.value("pipeline-seed") == str(manifest["seed"])


def test_cancel_really_stops_and_a_reload_finds_the_job(driver, served, clip):
    before = len(manifests(served, "results"))
    prepare_painted(driver, clip)
    set_steps(driver, "pipeline", 5000)
    driver.run("pipeline")
    driver.until("pipeline", "s/step")
    driver.open()
    assert steps_told(driver.until("pipeline", "s/step"))
    driver.at("pipeline-cancel").click()
    driver.until("pipeline", "Cancelled", timeout=15_000)
    driver.at("pipeline-cancel").wait_for(state="hidden")
    assert len(manifests(served, "results")) == before
    assert not list(served.out.rglob("*.partial*"))
    assert driver.at("pipeline-run").is_enabled()


def test_prepared_files_are_sent_to_generation(driver, served, clip):
    driver.tab("Prepare")
    driver.task("prepare", "repainting", "outpainting")
    driver.upload("prepare-video", clip)
    driver.finish("prepare")
    driver.at("prepare-preview").locator("video").wait_for()
    driver.at("prepare-source").locator("video").wait_for()
    driver.at("prepare-send").click()
    driver.at("generate-run").wait_for()
    driver.settle(1500)
    driver.fill("generate-prompt", "A wide meadow")
    driver.finish("generate")
    prepared, _ = manifests(served, "processed")[-1]
    _, manifest = manifests(served, "results")[-1]
    assert [record["path"] for record in manifest["inputs"]] == [
        str(prepared.parent / f"src_{kind}-outpainting.mp4") for kind in ("video", "mask")
    ]


def test_two_jobs_wait_for_each_other(driver, browser, served, clip):
    prepare_painted(driver, clip)
    set_steps(driver, "pipeline", 5000)
    driver.run("pipeline")
    driver.until("pipeline", "s/step")
    other = Driver(browser, served.url)
    other.tab("Generate")
    other.fill("generate-prompt", "A boat")
    other.run("generate")
    other.until("generate", "Waiting; yours is next")
    other.at("generate-cancel").click()
    other.until("generate", "Cancelled", timeout=10_000)
    other.context.close()
    driver.at("pipeline-cancel").click()
    driver.until("pipeline", "Cancelled", timeout=15_000)


def test_boxes_are_drawn_in_pixels_of_the_source(driver, served, media):
    driver.tab("Prepare")
    driver.task("prepare", "composition", "move_anything")
    driver.upload("prepare-image", media / "image.png")  # 96x64
    driver.drag("prepare-boxes", (0.25, 0.25), (0.5, 0.5))
    driver.drag("prepare-boxes", (0.75, 0.25), (1, 0.5))
    numbers = [int(number) for number in re.findall(r"\d+", driver.value("prepare-bbox"))]
    assert np.abs(np.array(numbers) - [24, 16, 48, 32, 72, 16, 96, 32]).max() <= 1, numbers
    driver.fill("prepare-expand_num", "8")
    driver.finish("prepare")
    _, manifest = manifests(served, "processed")[-1]
    assert re.findall(r"\d+", str(manifest["parameters"]["bbox"])) == [str(number) for number in numbers]


def test_errors_are_the_one_line_of_the_command(driver, tmp_path):
    driver.tab("Prepare")
    driver.task("prepare", "repainting", "outpainting")
    driver.run("prepare")
    said = driver.until("prepare", "vace preprocess:")[-1]
    assert "vace preprocess: --video: task outpainting needs one video" in said and "Traceback" not in said
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all" * 100)
    driver.upload("prepare-video", broken)
    driver.run("prepare")
    said = driver.until("prepare", "broken.mp4")[-1]
    assert str(tmp_path) not in said and "Traceback" not in said


def test_an_upload_above_the_limit_is_refused(driver, served, tmp_path):
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(LIMIT * 1_000_000 + 300_000))
    driver.tab("Prepare")
    driver.task("prepare", "repainting", "outpainting")
    driver.upload("prepare-video", large)
    driver.page.get_by_text(re.compile("size exceeds|too large|exceed", re.IGNORECASE)).first.wait_for()
    assert not [path for path in served.out.rglob("*") if path.is_file() and path.stat().st_size > LIMIT * 1_000_000]
    driver.run("prepare")
    driver.until("prepare", "--video: task outpainting needs one video")


def test_a_phone_shows_it_all_and_a_finger_draws(browser, served, media):
    phone = Driver(browser, served.url, PHONE, touch=True)
    for name in ("Create", "Prepare", "Generate", "Results"):
        phone.tab(name)
        assert not phone.is_too_wide(), name
    phone.tab("Prepare")
    phone.task("prepare", "composition", "move_anything")
    phone.upload("prepare-image", media / "image.png")
    assert not phone.is_too_wide()
    stage = phone.at("prepare-boxes").locator(".vace-stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    touch = phone.context.new_cdp_session(phone.page)
    for kind, x, y in (("touchStart", 0.2, 0.2), ("touchMove", 0.5, 0.5), ("touchMove", 0.6, 0.6), ("touchEnd", 0, 0)):
        point = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if kind == "touchEnd" else [point]})
    phone.settle()
    numbers = [int(number) for number in re.findall(r"\d+", phone.value("prepare-bbox"))]
    assert np.abs(np.array(numbers) - [19, 13, 58, 38]).max() <= 2, numbers
    phone.context.close()


def test_results_are_found_again_with_their_settings(driver, served, clip):
    driver.tab("Generate")
    driver.fill("generate-prompt", "A lighthouse at night")
    driver.fill("generate-seed", "77")
    driver.finish("generate")
    driver.open()
    driver.tab("Results")
    driver.at("results-refresh").click()
    driver.settle(1500)
    driver.at("results-gallery").locator("button:has(img)").first.click()
    driver.at("results-load").wait_for()
    driver.settle(1000)
    assert "A lighthouse at night" in driver.at("results-words").inner_text()
    driver.at("results-load").click()
    driver.at("generate-run").wait_for()
    driver.settle(1000)
    assert driver.value("generate-prompt") == "A lighthouse at night" and driver.value("generate-seed") == "77"
