"""The widgets of preparing, without a browser: what shows, and what their values mean."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest

gr = pytest.importorskip("gradio", reason="the extra demo is not installed")

from vace.errors import InputError  # noqa: E402
from vace.gradios import files, form  # noqa: E402
from vace.gradios.clips import ClipField  # noqa: E402
from vace.gradios.materials_panel import MaterialsPanel  # noqa: E402
from vace.gradios.stills import Still  # noqa: E402
from vace.tasks import LAYERED, TASKS  # noqa: E402


class Folders:
    """What the panel asks of a studio: the folders, and which files are theirs."""

    def __init__(self, folder: Path) -> None:
        self.uploads = folder / "uploads"
        self.uploads.mkdir()

    def own(self, path):
        return files.inside(path, (self.uploads,))

    def take(self, path, kinds, flag):
        own = files.accepted(path, kinds, 10, (self.uploads,), flag)
        return files.taken_in(own, self.uploads / "taken")

    def prepared_twin(self, path):
        return path.with_name("twin-" + path.name)


@pytest.fixture
def studio(tmp_path):
    return Folders(tmp_path)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A panel for what leaves it as it is: building one takes a while."""
    with gr.Blocks():
        return MaterialsPanel(Folders(tmp_path_factory.mktemp("studio")), "x")


@pytest.fixture
def panel(studio, built):
    built.studio = studio
    for clip in built.clips:
        clip.studio = studio
    return built


@pytest.fixture
def upload(studio, media):
    """The path of a file of `media` as Gradio would hand it over."""

    def put(name: str) -> str:
        place = studio.uploads / "cache" / name
        place.parent.mkdir(exist_ok=True)
        shutil.copy(media / name, place)
        return str(place)

    return put


def values(panel, **given) -> list:
    """Values of all widgets: those that were built, changed by `given` (- in names as __)."""
    given = {name.replace("__", "-"): value for name, value in given.items()}
    assert given.keys() <= set(panel.names)
    return [given.get(name, getattr(widget, "value", None)) for name, widget in panel.widgets.items()]


def every_mode():
    for name in TASKS:
        leads, own, _ = form.modes(name)
        yield from ((name, lead, mode) for lead in leads or ("",) for mode in own or ("",))


def test_every_field_has_one_element_of_its_name(panel):
    ids = [widget.elem_id for widget in panel.inputs if getattr(widget, "elem_id", None)]
    assert len(ids) == len(set(ids)) and all(name.startswith("x-") for name in ids)
    flags = form.FIELDS.keys() - {"frame_range"}  # two sliders for each clip
    assert {f"x-{flag}" for flag in flags} <= set(ids)
    assert {"x-group", "x-task", "x-lead", "x-mode", "x-first", "x-last-2", "x-mask-file", "x-layers"} <= set(ids)


def test_another_task_begins_with_its_own_mode(built):
    kept = built._refreshed("inpainting", "", "mask", "inpainting")
    fresh = built._refreshed("inpainting_masktrack", "", "salientmasktrack", "inpainting")
    assert (kept[0], kept[3]["value"]) == ("inpainting", "mask")
    assert (fresh[0], fresh[3]["value"]) == ("inpainting_masktrack", "masktrack")


@pytest.mark.parametrize(("task", "lead", "mode"), list(every_mode()))
def test_only_what_a_task_takes_shows(built, task, lead, mode):
    updates = built._refreshed(task, lead, mode)
    assert len(updates) == built._refreshed_count
    full = form.joined_mode(task, lead, mode)
    taken = form.materials(task, full)
    heads = dict(zip(("shown", "help", "lead", "mode", "video", "video-2", "src_video", "src_video-2", "src_mask",
                      "src_mask-2", "image", "layers", "more"), updates, strict=False))  # fmt: skip
    assert TASKS[task].help.split("'")[0][:20] in heads["help"]
    assert heads["lead"]["visible"] == bool(lead) and heads["mode"]["visible"] == bool(mode)
    assert (heads["lead"].get("value", ""), heads["mode"].get("value", "")) == (lead, mode)
    assert heads["video"]["visible"] == ("video" in taken)
    assert heads["video-2"]["visible"] == ("video" in taken and taken["video"].high == 2)
    assert heads["src_mask-2"]["visible"] == ("src_mask" in taken)
    assert heads["image"]["visible"] == ("image" in taken)
    assert heads["layers"]["visible"] == (task == LAYERED)
    for flag, update in zip(built._changing, updates[13:], strict=True):
        assert update["visible"] == (flag in form.visible(task, full))


def test_a_page_that_generates_offers_words_alone_and_leaves_seed_and_length_to_its_settings(studio):
    with gr.Blocks():
        panel = MaterialsPanel(studio, "y", with_words_only=True)
    assert panel.flags(values(panel, task="txt2vid")) == ("txt2vid", {})
    task, flags = panel.flags(values(panel, task="layout_bbox", bbox="1,2,30,40 5,6,50,60", seed="3", frame_num="9"))
    assert flags == {"bbox": "1,2,30,40 5,6,50,60", "size": "832x480"}


def test_an_uploaded_clip_is_taken_in_with_its_range(panel, studio, upload):
    clip = upload("clip.mp4")
    note, first, last, known = panel.clips[0].loaded(clip)
    assert note.startswith("96x64, all of 30 frames") and last["value"] == last["maximum"] == 29
    task, flags = panel.flags(values(panel, task="gray", video=clip, first=3, last=29, known=known))
    assert task == "gray" and flags["frame_range"] == ["3:"]
    assert Path(flags["video"][0]).parent == studio.uploads / "taken"
    whole = panel.flags(values(panel, task="gray", video=clip, first=0, last=29, known=known))[1]
    assert whole.keys() == {"video"}
    # The sliders still show what was known of another clip.
    assert ClipField.range(clip, 3, 9, known | {"path": "other"}) == ":"


def test_two_clips_have_a_range_each(panel, upload):
    clips = upload("clip.mp4"), upload("clip2.mp4")
    known = [panel.clips[0].loaded(clip)[3] for clip in clips]
    given = {"task": "firstlastclip", "video": clips[0], "video__2": clips[1], "known": known[0], "known__2": known[1]}
    flags = panel.flags(values(panel, **given, first=0, last=29, first__2=2, last__2=9))[1]
    assert flags["frame_range"] == [":", "2:9"] and len(flags["video"]) == 2


def test_a_damaged_clip_is_told_without_folders(panel, studio):
    broken = studio.uploads / "broken.mp4"
    broken.write_bytes(b"no video at all")
    note = panel.clips[0].loaded(str(broken))[0]
    assert "--video broken.mp4: " in note and str(studio.uploads) not in note
    outside = panel.clips[0].loaded("/etc/passwd")[0]
    assert "not a file of these pages" in outside and "/etc" not in outside


def test_a_painted_mask_serves_unless_one_is_uploaded(panel, upload, media):
    drawn = "data:image/png;base64," + base64.b64encode((media / "mask.png").read_bytes()).decode()
    given = {"task": "inpainting", "mode": "mask", "video": upload("clip.mp4")}
    flags = panel.flags(values(panel, **given, mask=drawn))[1]
    assert flags["mode"] == "mask" and Path(flags["mask"][0]).name.startswith("painted-")
    flags = panel.flags(values(panel, **given, mask=drawn, mask__file=[upload("mask.mp4")]))[1]
    assert [Path(path).name for path in flags["mask"]] == ["mask.mp4"]
    with pytest.raises(InputError, match=r"--mask: task inpainting \(mode mask\) needs"):
        panel.flags(values(panel, **given))


def test_what_does_not_show_is_not_used(panel, upload):
    given = {"task": "inpainting", "mode": "salient", "video": upload("clip.mp4"), "bbox": "1,2,3,4",
             "mask": "data:nonsense", "image": [("/etc/passwd", None)]}  # fmt: skip
    assert panel.flags(values(panel, **given))[1].keys() == {"mode", "video"}


def test_prepared_sources_find_their_manifest(panel, upload):
    flags = panel.flags(values(
        panel, task="composition", src_video=upload("clip.mp4"), src_video__2=upload("clip2.mp4"),
        src_mask__2=upload("mask.mp4"), process_type="depth", process_type__2="inpainting",
    ))[1]  # fmt: skip
    assert [Path(path).name for path in flags["src_video"]] == ["twin-clip.mp4", "twin-clip2.mp4"]
    assert [Path(path).name for path in flags["src_mask"]] == ["twin-mask.mp4"]
    assert flags["process_type"] == ["depth", "inpainting"]


def test_joined_tasks_name_uploads_only(panel, upload, studio):
    given = {"task": LAYERED, "layers": "gray+image_face(image=image.png)", "video": upload("clip.mp4")}
    task, flags = panel.flags(values(panel, **given, files=[upload("image.png")]))
    assert task.startswith("gray()+image_face(image=") and str(studio.uploads / "taken" / "image.png") in task
    assert flags.keys() == {"video"}
    with pytest.raises(InputError, match="not among the uploaded files"):
        panel.flags(values(panel, **given))


@pytest.mark.parametrize(
    "given",
    [
        {"task": "gray", "video": "/etc/passwd"},
        {"task": "image_gray", "image": [("../../secret.png", None)]},
        {"task": "inpainting", "mode": "mask", "mask__file": ["/etc/hostname"]},
        {"task": LAYERED, "layers": "gray", "files": ["/etc/passwd"]},
        {"task": ["gray"]},
        {"task": "nothing"},
    ],
)
def test_paths_of_elsewhere_are_refused(panel, upload, given):
    given = {"video": upload("clip.mp4")} | given
    with pytest.raises(InputError) as error:
        panel.flags(values(panel, **given))
    assert "/etc" not in str(error.value)


def test_settings_of_an_earlier_run_fill_the_fields(panel):
    given = {"task": "swap_anything", "mode": "bbox,caption", "bbox": "1,2,3,4", "ref_caption": ["a cat", "a dog"],
             "seed": 7, "maskaug_mode": "hull", "video": "/home/me/a.mp4"}  # fmt: skip
    updates = dict(zip(panel.names, panel.updates(given), strict=True))
    assert updates["group"] == "composition" and updates["task"]["value"] == "swap_anything"
    assert (updates["lead"]["value"], updates["mode"]["value"]) == ("bbox", "caption")
    assert (updates["bbox"], updates["ref_caption"]) == ("1,2,3,4", "a cat\na dog")
    assert (updates["seed"], updates["maskaug_mode"], updates["batch_size"]) == ("7", "hull", "")
    for name in ("video", "image", "mask", "mask-file", "first", "known"):
        assert updates[name] == gr.skip()
    with pytest.raises(InputError, match="txt2vid: is not for this page"):
        panel.updates({"task": "txt2vid"})


def test_marks_show_what_belongs_to_them(panel, upload):
    from vace.gradios.marking import WATCHED, Marking

    with gr.Blocks():
        marking = Marking(panel.studio, panel.marks, "832x480", gr.State({}))

    def look(known=None, **given) -> tuple[dict, dict]:
        known, *updates = marking.look(known, *(given.get(name) for name in WATCHED))
        names = [name for flag, mark in panel.marks.items() for name in (flag, f"{flag}-text")[: len(mark.outputs)]]
        return known, dict(zip(names, updates, strict=True))

    pictures = [(upload("image.png"), None), (upload("image2.png"), None)]
    known, shown = look(task="swap_anything", lead="mask", mode="bbox", video=upload("clip.mp4"), image=pictures)
    assert shown["bbox"] == shown["ref_mask"] == gr.skip()  # not asked for
    assert shown["mask"]["width"] == 96 and "value" not in shown["mask"]  # nothing was marked before
    assert (shown["ref_bbox"]["height"], shown["ref_bbox"]["most"]) == (64, 1)
    again = {"task": "swap_anything", "lead": "mask", "mode": "bbox", "image": pictures}
    known, shown = look(known, **again, video=upload("clip.mp4"))
    assert all(update == gr.skip() for update in shown.values())
    _, shown = look(known, **again, video=upload("clip.mp4"), first=4)
    assert "value" not in shown["mask"]  # another frame of the clip: what is painted stays
    _, shown = look(known, **again, video=upload("clip2.mp4"))
    assert shown["mask"]["value"] == ""  # another clip: it goes
    other, shown = look(known, task="layout_bbox", size="640x352")
    assert shown["bbox"]["width"] == 640
    _, shown = look(other, task="move_anything", image=pictures)
    assert shown["bbox"]["value"] == "" == shown["bbox-text"]["value"]  # boxes of the canvas mean nothing here
    _, shown = look({}, task="move_anything", image=pictures)
    assert "value" not in shown["bbox"] and shown["bbox-text"] == gr.skip()  # boxes that were just loaded stay
    first = look(task="image_inpainting", mode="mask", image=pictures)[1]["mask"]["picture"]
    second = look(task="expand_anything", mode="mask", image=pictures)[1]["ref_mask"]["picture"]
    assert first and second and first != second  # the first picture becomes the video there
    assert look(task="move_anything", image=pictures)[1]["bbox"]["most"] == 2
    canvas = look(task="layout_bbox", size="640x352")[1]["bbox"]
    assert (canvas["width"], canvas["height"], canvas["picture"], canvas["most"]) == (640, 352, "", 2)
    assert panel.marks["bbox"].shown(Still(1, 1), False, 2)[0]["names"] == ["start", "end"]
    assert look(task="gray", video="/etc/passwd")[1]["mask"] == gr.skip()
    assert look(task="inpainting", mode="mask", video="/etc/passwd")[1]["mask"]["width"] == 0
