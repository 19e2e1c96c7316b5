"""The web pages as a person uses them: clicks, drags and files, through Playwright. For tests and screenshots."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP, PHONE = (1280, 900), (390, 844)
SLOW = 90_000  # milliseconds: the first job waits for torch to be imported, beside other tests


@contextmanager
def chromium():
    """Chromium without a window; scripts/chromium.sh installs it where there is none."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("VACE_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Driver:
    """One open page. elsewhere: addresses it asked for outside the server; errors: of its scripts."""

    def __init__(self, browser, url: str, size: tuple[int, int] = DESKTOP, touch: bool = False, context=None) -> None:
        self.url, self.elsewhere, self.errors = url, [], []
        self.context = context or browser.new_context(
            viewport={"width": size[0], "height": size[1]}, has_touch=touch, accept_downloads=True
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(SLOW)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._note)
        self.open()

    def _note(self, request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.elsewhere.append(request.url)

    def open(self) -> None:
        """(Re)load the pages and wait until they answer."""
        self.page.goto(self.url)
        self.page.locator("[role=tab]").first.wait_for()
        self.settle()

    def settle(self, milliseconds: int = 600) -> None:
        """Let the server answer what was just changed."""
        self.page.wait_for_timeout(milliseconds)

    def at(self, name: str):
        """The element #NAME."""
        return self.page.locator(f"#{name}")

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()
        self.settle()

    def choose(self, name: str, words: str) -> None:
        """An option of the dropdown #NAME, by the beginning of its words."""
        self.at(name).locator("input").click()
        self.page.get_by_role("option", name=re.compile(f"^{re.escape(words)}(:|$| )")).first.click()
        self.settle()

    def task(self, prefix: str, group: str, task: str, mode: str | None = None) -> None:
        self.at(f"{prefix}-group").get_by_label(group).check()
        self.settle()
        if not self.at(f"{prefix}-task").locator("input").input_value().startswith(f"{task}:"):
            self.choose(f"{prefix}-task", task)
        if mode and not self.at(f"{prefix}-mode").locator("input").input_value().startswith(f"{mode}:"):
            self.choose(f"{prefix}-mode", mode)
        self.settle()

    def upload(self, name: str, *files: Path) -> None:
        self.at(name).locator("input[type=file]").first.set_input_files([str(file) for file in files])
        self.settle(1500)

    def fill(self, name: str, text: str) -> None:
        field = self.at(name).locator("textarea, input").first
        field.fill(text)
        field.blur()
        self.settle(300)

    def value(self, name: str) -> str:
        return self.at(name).locator("textarea, input").first.input_value()

    def unfold(self, name: str) -> None:
        self.at(name).locator("button").first.click()
        self.settle()

    def drag(self, name: str, *points: tuple[float, float]) -> None:
        """With the mouse over the picture in #NAME; points: parts of its width and height."""
        stage = self.at(name).locator(".vace-stage")
        stage.wait_for()
        self.page.wait_for_function(f"document.querySelector('#{name} img').naturalWidth > 0")
        self.settle()
        stage.scroll_into_view_if_needed()
        box, mouse = stage.bounding_box(), self.page.mouse
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        mouse.move(*places[0])
        mouse.down()
        for place in places[1:]:
            mouse.move(*place, steps=5)
        mouse.up()
        self.settle()

    def words(self, prefix: str) -> str:
        """What the status of a job says."""
        return self.at(f"{prefix}-status").inner_text()

    def run(self, prefix: str) -> None:
        self.at(f"{prefix}-run").click()

    def until(self, prefix: str, *words: str, timeout: int = SLOW) -> list[str]:
        """Wait until the status says one of `words`; everything it said until then."""
        said: list[str] = []
        for _ in range(timeout // 50):
            text = self.words(prefix)
            if not said or said[-1] != text:
                said.append(text)
            if any(word in text for word in words):
                return said
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never said {words}: {said[-3:]}")

    def finish(self, prefix: str) -> list[str]:
        """Run, and wait for the end; fails unless it is a good one."""
        self.run(prefix)
        self.page.wait_for_timeout(300)
        said = self.until(prefix, "Done", "It did not work")
        assert "Done" in said[-1], said[-1]
        self.settle(1500)
        return said

    def is_too_wide(self) -> bool:
        return self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")

    def picture(self, path: Path, full: bool = True) -> None:
        self.page.mouse.move(1, 1)
        self.page.screenshot(path=str(path), full_page=full)


def steps_told(said: Sequence[str]) -> list[int]:
    """The numbers of steps in what a status said, in order, each once."""
    found = [int(match[1]) for text in said if (match := re.search(r"step (\d+) of", text))]
    return list(dict.fromkeys(found))
