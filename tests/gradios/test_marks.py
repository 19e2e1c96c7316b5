"""Boxes drawn and masks painted, in a real browser: with a mouse at a desk's width, by touch at a phone's."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

gr = pytest.importorskip("gradio", reason="the extra demo is not installed")

from vace.gradios.marks import HERE, BoxField, MaskField  # noqa: E402
from vace.gradios.stills import Still  # noqa: E402

PICTURE = Image.new("RGB", (640, 320), "gray")
WIDTHS = {"desk": (1280, False), "phone": (390, True)}


def address() -> str:
    stream = io.BytesIO()
    PICTURE.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


@pytest.fixture(scope="module")
def served():
    """A page with both fields and a button for each thing the server does."""
    still = Still(*PICTURE.size, address())
    with gr.Blocks() as app:
        mask, boxes = MaskField("x", "mask", "picture"), BoxField("x", "bbox", "picture")
        mask.group.visible = boxes.group.visible = True
        painted = gr.Textbox(elem_id="painted")
        actions = {
            "one": (lambda: [*mask.shown(still, True), *boxes.shown(still, False, 1)], [mask.paint, *boxes.outputs]),
            "two": (lambda: boxes.shown(Still(640, 320), False, 2), boxes.outputs),
            "next": (lambda: mask.shown(Still(640, 320, still.picture + "="), False)[0], mask.paint),
            "other": (lambda: mask.shown(Still(320, 160, still.picture), True)[0], mask.paint),
        }
        for name, (action, outputs) in actions.items():
            gr.Button(name, elem_id=name).click(action, None, outputs)
        gr.Button("read", elem_id="read").click(lambda value: value, mask.paint, painted)
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, css_paths=[HERE / "boxes.css"], ssr_mode=False)
    yield url
    app.close()


class Finger:
    """Drags on an element of a page, by mouse or touch; places are parts of its width and height."""

    def __init__(self, page, touch: bool) -> None:
        self.page, self.touch = page, page.context.new_cdp_session(page) if touch else None

    def drag(self, selector: str, x1: float, y1: float, x2: float, y2: float) -> None:
        place = self.page.locator(selector)
        place.scroll_into_view_if_needed()
        frame = place.bounding_box()
        points = [
            (frame["x"] + (x1 + (x2 - x1) * i / 5) * frame["width"],
             frame["y"] + (y1 + (y2 - y1) * i / 5) * frame["height"]) for i in range(6)
        ]  # fmt: skip
        if self.touch:
            self._touch("touchStart", points[0])
            for point in points[1:]:
                self._touch("touchMove", point)
            self._touch("touchEnd")
        else:
            self.page.mouse.move(*points[0])
            self.page.mouse.down()
            for point in points[1:]:
                self.page.mouse.move(*point)
            self.page.mouse.up()

    def _touch(self, kind: str, *points) -> None:
        self.touch.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]}
        )


@pytest.fixture(params=list(WIDTHS))
def opened(served, browser, request):
    """(page, finger) with the picture loaded into both fields."""
    width, touch = WIDTHS[request.param]
    context = browser.new_context(viewport={"width": width, "height": 900}, has_touch=touch, is_mobile=touch)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(served)
    page.click("#one")
    page.wait_for_selector("#x-boxes .vace-stage svg[viewBox='0 0 640 320']")
    yield page, Finger(page, touch)
    assert not errors
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def boxes(page) -> list[list[int]]:
    page.wait_for_timeout(400)
    text = page.input_value("#x-bbox textarea, #x-bbox input")
    return [[int(number) for number in box.split(",")] for box in text.split()]


def near(found: list, wanted: list, slack: int) -> bool:
    return len(found) == len(wanted) and bool(np.abs(np.subtract(found, wanted)).max() <= slack)


@pytest.mark.slow
def test_boxes_follow_the_pointer_and_the_numbers(opened):
    page, finger = opened
    slack = 3  # a phone's pixel covers two of the picture's
    canvas = "#x-boxes .vace-stage svg"
    finger.drag(canvas, 0.25, 0.25, 0.75, 0.75)
    assert near(boxes(page), [[160, 80, 480, 240]], slack)
    finger.drag(canvas, 0.75, 0.75, 0.9, 0.9)  # by its corner
    assert near(boxes(page), [[160, 80, 576, 288]], slack)
    finger.drag(canvas, 0.575, 0.575, 0.475, 0.475)  # by its number
    assert near(boxes(page), [[96, 48, 512, 256]], slack)
    finger.drag(canvas, 0.97, 0.02, 1.2, 0.3)  # another in its place, cut to the picture
    assert near(boxes(page), [[621, 6, 640, 96]], slack)
    page.click("#two")
    page.wait_for_selector("#x-boxes [data-box='1']")
    finger.drag(canvas, 0.1, 0.4, 0.3, 0.9)
    assert near(boxes(page), [[621, 6, 640, 96], [64, 128, 192, 288]], slack)
    assert page.locator(f"{canvas} polygon").count() == 1  # the arrow
    page.click("#x-boxes [data-box='0']")
    finger.drag(canvas, 0.4, 0.1, 0.6, 0.3)
    assert near(boxes(page), [[256, 32, 384, 96], [64, 128, 192, 288]], slack)
    page.fill("#x-bbox textarea, #x-bbox input", "10,20,110,120 200 100 300 300")
    page.wait_for_function("document.querySelector('#x-boxes rect')?.getAttribute('x') === '10'")
    assert page.locator(f"{canvas} rect").last.get_attribute("height") == "200"
    page.click("#x-boxes [data-clear]")
    assert boxes(page) == []


def mask_of(page) -> np.ndarray | None:
    page.click("#read")
    page.wait_for_timeout(900)
    text = page.input_value("#painted textarea")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.split(",")[1]))).convert("L")) if text else None


@pytest.mark.slow
def test_masks_have_the_size_of_what_they_are_painted_on(opened):
    page, finger = opened
    canvas = "#x-mask canvas"
    assert mask_of(page) is None
    finger.drag(canvas, 0.2, 0.5, 0.8, 0.5)
    mask = mask_of(page)
    assert mask.shape == (320, 640)
    assert mask[160, 140:500].min() == 255 and mask[100].max() == 0 and mask[160, :80].max() == 0
    page.click("#x-mask [data-erase]")
    finger.drag(canvas, 0.5, 0.1, 0.5, 0.9)
    assert mask_of(page)[160, 315:325].max() == 0
    page.click("#x-mask [data-undo]")
    assert (mask_of(page) == mask).all()
    page.click("#next")  # another frame of the same clip: what is painted stays
    page.wait_for_timeout(500)
    assert (mask_of(page) == mask).all()
    page.click("#other")
    page.wait_for_function("document.querySelector('#x-mask canvas').width === 320")
    assert mask_of(page) is None
    page.click("#x-mask [data-paint]")
    finger.drag(canvas, 0.2, 0.5, 0.8, 0.5)
    assert mask_of(page).shape == (160, 320)
    page.click("#x-mask [data-clear]")
    assert mask_of(page) is None


def test_scripts_and_styles_ask_for_nothing_from_elsewhere():
    for name in ("boxes.js", "paint.js", "boxes.css"):
        text = (HERE / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text and "//cdn" not in text and "import" not in text.replace("!important", "")
