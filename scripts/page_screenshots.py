"""Take the pictures of benchmarks/pages: the web pages as a browser shows them, with the embedded toy at work.

    python scripts/page_screenshots.py [--out DIR]

Needs the extras demo and dev, and Chromium (scripts/chromium.sh). Takes about two minutes on two cores.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from page_driver import DESKTOP, PHONE, Driver, chromium  # noqa: E402
from PIL import Image  # noqa: E402

ASSETS = ROOT / "assets"
PATIENCE = 60  # seconds for the server to answer


@contextmanager
def served(out: Path):
    """`vace demo` with its results below `out`; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vace.cli", "demo", "--port", str(port), "--out", str(out), "--no_download"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(PATIENCE * 2):
            time.sleep(0.5)
            try:
                urllib.request.urlopen(url, timeout=10).read()
                break
            except OSError:
                continue
        yield url
    finally:
        process.terminate()
        process.wait(30)


def create(driver: Driver, out: Path) -> None:
    """A masked thing made anew: the form, the job at work, the result."""
    driver.task("pipeline", "repainting", "inpainting", "masktrack")
    driver.upload("pipeline-video", ASSETS / "videos/test.mp4")
    driver.drag("pipeline-mask", (0.32, 0.2), (0.36, 0.55), (0.34, 0.8), (0.38, 0.5), (0.3, 0.4))
    driver.fill("pipeline-prompt", "A red fox stands in the meadow, soft morning light")
    driver.fill("pipeline-seed", "2025")
    driver.picture(out / "create.png")
    driver.unfold("pipeline-more-settings")
    driver.fill("pipeline-steps", "100")
    driver.run("pipeline")
    driver.at("pipeline-status").locator(".vace-preview").wait_for()
    driver.picture(out / "create-at-work.png", full=False)
    driver.until("pipeline", "Done")
    driver.settle(2000)
    driver.picture(out / "create-done.png", full=False)


def prepare(driver: Driver, out: Path) -> None:
    """A swap beside its preview, and boxes for a move."""
    driver.tab("Prepare")
    driver.task("prepare", "composition", "move_anything")
    driver.upload("prepare-image", ASSETS / "images/test.jpg")
    driver.drag("prepare-boxes", (0.32, 0.1), (0.7, 0.6))
    driver.drag("prepare-boxes", (0.03, 0.35), (0.3, 0.9))
    driver.picture(out / "prepare-boxes.png")
    driver.task("prepare", "repainting", "outpainting")
    driver.upload("prepare-video", ASSETS / "videos/test.mp4")
    driver.finish("prepare")
    driver.at("prepare-preview").locator("video").wait_for()
    driver.settle(2000)
    driver.picture(out / "prepare-done.png")
    driver.at("prepare-send").click()
    driver.settle(2000)
    driver.fill("generate-prompt", "A wide green meadow under a summer sky")
    driver.finish("generate")
    driver.picture(out / "generate-done.png")


def results(driver: Driver, out: Path) -> None:
    driver.tab("Results")
    driver.at("results-refresh").click()
    driver.settle(2000)
    driver.at("results-gallery").locator("button:has(img)").first.click()
    driver.settle(2000)
    driver.picture(out / "results.png")


def phone(browser, url: str, out: Path) -> None:
    driver = Driver(browser, url, PHONE, touch=True)
    driver.task("pipeline", "extension", "firstframe")
    driver.upload("pipeline-image", ASSETS / "images/test2.jpg")
    driver.picture(out / "phone-create.png")
    driver.tab("Results")
    driver.at("results-refresh").click()
    driver.settle(2000)
    driver.picture(out / "phone-results.png")
    driver.context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/pages")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="vace-pages-") as folder,
        served(Path(folder)) as url,
        chromium() as browser,
    ):
        driver = Driver(browser, url, DESKTOP)
        create(driver, out)
        prepare(driver, out)
        results(driver, out)
        phone(browser, url, out)
    for path in sorted(out.glob("*.png")):  # 256 colours are enough to look at, and a third of the size
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
