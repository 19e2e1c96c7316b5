"""The widgets of preparing: a task, and whatever that task takes; which those are is read from the task table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import gradio as gr
from gradio.context import Context

from vace.errors import InputError
from vace.gradios import form
from vace.gradios.clips import ClipField
from vace.gradios.fields import Choice, shown, widget
from vace.gradios.files import IMAGE_TYPES, MASK_TYPES, VIDEO_TYPES
from vace.gradios.joined import joined_tasks
from vace.gradios.marking import TURNS, Marking
from vace.gradios.marks import BoxField, MaskField
from vace.gradios.recall import recalled
from vace.gradios.stills import painted
from vace.gradios.studio import Studio
from vace.tasks import GROUPS, LAYERED, TASKS

QUIET = {"show_progress": "hidden", "api_visibility": "private"}
OF_RUN = ("seed", "frame_num")  # on a page that also generates, these are asked for there
MASKS, BOXES = ("mask", "ref_mask"), ("bbox", "ref_bbox")
WORDS = ("label", "caption", "ref_label", "ref_caption")
SOURCES = {"src_video": ("Prepared video {0}", VIDEO_TYPES), "src_mask": ("Its mask, where it has one", MASK_TYPES)}
CANVAS = "832x480"  # a size that every model takes
LAYERS_HELP = (
    "Tasks with their flags in brackets and + between them; files by the names of those you upload below. "
    "`scribble+image_face(image=face.jpg)`"
)


class MaterialsPanel:
    """Built in the current Blocks context. prefix: of the elements, #PREFIX-FLAG.

    with_words_only: for a page that generates too: tasks without materials are offered, and what its settings ask for
    is left to them. canvas: WxH of what is drawn without a picture, to begin with. inputs: the widgets, whose values
    `flags` takes.
    """

    def __init__(self, studio: Studio, prefix: str, with_words_only: bool = False, canvas: str = CANVAS) -> None:
        self.studio, self.prefix, self.canvas = studio, prefix, canvas
        self.groups = form.task_groups(with_words_only)
        self.left_out = OF_RUN if with_words_only else ()
        self.widgets: dict[str, gr.components.Component] = {}
        self.shown_by: dict[str, list] = {}  # flag -> what is shown where the task takes it
        self._build_task()
        self._build_files()
        self._build_marks()
        self._build_parameters()
        self.names, self.inputs = list(self.widgets), list(self.widgets.values())
        self._wire()

    def _build_task(self) -> None:
        group, _, names = self.groups[0]
        with gr.Column(elem_classes="vace-task"):
            labels = [name for name, _, _ in self.groups]
            self.widgets["group"] = gr.Radio(
                form.group_choices(labels), value=group, label="Kind", elem_id=f"{self.prefix}-group"
            )
            self.widgets["task"] = Choice(
                form.task_choices(names), value=names[0], label="Task", elem_id=f"{self.prefix}-task"
            )
            self.widgets["shown"] = gr.State(names[0])  # the task that the other widgets are shown for
            self.help = gr.HTML(self._help(names[0], None), js_on_load=None, elem_id=f"{self.prefix}-help")
            with gr.Row():
                for name, label in (("lead", "Mode of the video part"), ("mode", "Mode")):
                    self.widgets[name] = Choice(
                        [], label=label, visible=False, min_width=240, filterable=False,
                        elem_id=f"{self.prefix}-{name}",
                    )  # fmt: skip

    def _build_files(self) -> None:
        with gr.Row():
            self.clips = [ClipField(self.studio, self.prefix, number) for number in range(2)]
        for clip in self.clips:
            self.widgets |= dict(zip(clip.names, clip.inputs, strict=True))
        self.sources: dict[str, list[gr.File]] = {flag: [] for flag in SOURCES}
        for number in (1, 2):
            with gr.Row():
                for flag, (label, kinds) in SOURCES.items():
                    name = flag + ("-2" if number == 2 else "")
                    self.widgets[name] = gr.File(
                        label=label.format(number), file_types=list(kinds), visible=False, height=130, min_width=240,
                        elem_id=f"{self.prefix}-{name}",
                    )  # fmt: skip
                    self.sources[flag].append(self.widgets[name])
                name = "process_type" + ("-2" if number == 2 else "")
                self.widgets[name] = gr.Dropdown(
                    list(form.FIELDS["process_type"].choices), label=f"Task that source {number} comes from",
                    value=None, visible=False, min_width=240, elem_id=f"{self.prefix}-{name}",
                )  # fmt: skip
                self.shown_by.setdefault("process_type", []).append(self.widgets[name])
        self.widgets["image"] = gr.Gallery(
            label="Pictures", type="filepath", file_types=list(IMAGE_TYPES), interactive=True, columns=4, height=260,
            object_fit="contain", visible=False, sources=["upload"], buttons=[], elem_id=f"{self.prefix}-image",
        )  # fmt: skip
        with gr.Column(visible=False) as self.layers:
            self.widgets["layers"] = gr.Textbox(
                label="Joined tasks", lines=3, info=LAYERS_HELP, elem_id=f"{self.prefix}-layers",
                placeholder="inpainting(mode=masktrack,mask=mask.png)+scribble",
            )  # fmt: skip
            self.widgets["files"] = gr.File(
                label="Files that the tasks name", file_count="multiple", file_types=list(MASK_TYPES), height=150,
                elem_id=f"{self.prefix}-files",
            )  # fmt: skip

    def _build_marks(self) -> None:
        self.marks: dict[str, MaskField | BoxField] = {}
        self.widgets["marked"] = gr.State({})
        for start in ("", "ref_"):
            kind = "reference picture" if start else "video or picture"
            for mark in (MaskField(self.prefix, f"{start}mask", kind), BoxField(self.prefix, f"{start}bbox", kind)):
                self.marks[mark.flag] = mark
                names = [mark.flag, f"{mark.flag}-file"][: len(mark.inputs)]
                self.widgets |= dict(zip(names, mark.inputs, strict=True))
                self.shown_by[mark.flag] = [mark.group]

    def _build_parameters(self) -> None:
        flags = [flag for flag in form.FIELDS if flag not in (*self._built(), *WORDS)]
        for flag in WORDS:
            self._add(flag)
        with gr.Row():
            for flag in (flag for flag in flags if flag not in form.FOLDED):
                self._add(flag)
        with gr.Accordion("More", open=False, elem_id=f"{self.prefix}-more", visible=False) as self.more:
            for flag in (flag for flag in flags if flag in form.FOLDED):
                self._add(flag)
        self.widgets["size"].value = self.canvas

    def _built(self) -> tuple[str, ...]:
        """Flags that have widgets of their own making."""
        return (*SOURCES, *MASKS, *BOXES, "video", "image", "frame_range", "process_type")

    def _add(self, flag: str) -> None:
        self.widgets[flag] = widget(form.FIELDS[flag], f"{self.prefix}-{flag}")
        self.shown_by[flag] = [self.widgets[flag]]

    def _wire(self) -> None:
        choice = [self.widgets[name] for name in ("task", "lead", "mode", "shown")]
        changing = [(name, part) for name, parts in self.shown_by.items() for part in parts]
        self._changing = [name for name, _ in changing]
        fixed = [self.widgets["shown"], self.help, *choice[1:3], *(clip.group for clip in self.clips),
                 *self.sources["src_video"], *self.sources["src_mask"], self.widgets["image"], self.layers,
                 self.more]  # fmt: skip
        refreshed = [*fixed, *(part for _, part in changing)]
        self._refreshed_count = len(refreshed)
        marking = Marking(self.studio, self.marks, self.canvas, self.widgets["marked"])
        self.widgets["group"].input(self._tasks_of, self.widgets["group"], choice[0], **QUIET)
        for part, refresh in zip(choice[:3], (self._refreshed, self._rearranged, self._rearranged), strict=True):
            event = part.change(refresh, choice, refreshed, **QUIET)
            marking.after(event, self.widgets)
        for clip in self.clips:
            event = clip.video.change(clip.loaded, clip.video, clip.facts, **QUIET, **TURNS)
            marking.after(event, self.widgets)
            for slider in (clip.first, clip.last):
                slider.change(clip.moved, [clip.first, clip.last, clip.known], clip.note, **QUIET)
            marking.after(clip.first.change, self.widgets)
        for name in ("image", "size"):
            marking.after(self.widgets[name].change, self.widgets)
        # A page begins with its first task as any other choice would be shown.
        Context.root_block.load(self._refreshed, choice, refreshed, **QUIET)

    def _tasks_of(self, group: str):
        names = next((names for known, _, names in self.groups if known == group), [])
        return gr.update(choices=form.task_choices(names), value=names[0] if names else None)

    def _refreshed(self, task: str, lead: str | None, mode: str | None, before: str | None = None) -> list:
        """Updates of everything that shows or not, in the order `_wire` lists it.

        before: the task shown so far; another one begins with its own modes, not with those that were chosen.
        """
        if task not in TASKS:
            return [gr.skip()] * self._refreshed_count
        if before not in (None, task):
            lead = mode = None
        full = form.joined_mode(task, lead, mode)
        shown = form.visible(task, full) - {*self.left_out}
        leads, own, _ = form.modes(task)
        lead, mode = form.parted_mode(task, full) if full else ("", "")
        slots = {flag: form.slots(task, full, flag) for flag in ("video", *SOURCES)}
        visible = [slots[flag] > number for flag in ("video", *SOURCES) for number in range(2)]
        picture = form.materials(task, full).get("image")
        label = "Picture" if picture and picture.high == 1 else f"Pictures: {picture.describe()}" if picture else ""
        return [
            task,
            self._help(task, full),
            _choice(leads, lead),
            _choice(own, mode, label="Mode of the pictures" if leads else "Mode"),
            *(gr.update(visible=is_shown) for is_shown in visible),
            gr.update(visible=picture is not None, label=label),
            gr.update(visible=task == LAYERED),
            gr.update(visible=any(flag in shown for flag in form.FOLDED)),
            *(gr.update(visible=flag in shown) for flag in self._changing),
        ]  # fmt: skip

    def _rearranged(self, *chosen) -> list:
        """The same for another mode, which is left as it was chosen, however late this comes."""
        updates = self._refreshed(*chosen)
        return [*updates[:2], gr.skip(), gr.skip(), *updates[4:]]

    def _help(self, task: str, mode: str | None) -> str:
        row = TASKS[task]
        takes = form.takes(task, mode)
        needs = f" Takes {takes}." if takes else "" if row.annotator else " Write it below."
        about = escape(f"{row.group}: {GROUPS[row.group].partition(' (')[0]}")
        return f'<p class="vace-help"><b>{escape(row.help)}</b>{escape(needs)}<br><small>{about}</small></p>'

    def flags(self, values: Sequence) -> tuple[str, dict]:
        """The task and the keywords of `vace.preprocess` for values of `inputs`.

        Raises InputError for what is missing, as the command line does, and for files that are none of these pages'.
        """
        given = dict(zip(self.names, values, strict=True))
        task = given["task"]
        if not isinstance(task, str) or task not in TASKS:
            raise InputError("--task: choose one")
        mode = form.joined_mode(task, given["lead"], given["mode"])
        shown = form.visible(task, mode) - {*self.left_out}
        found = {flag: given.get(flag) for flag in form.FIELDS if flag in shown}
        found |= {flag: self._files(task, mode, flag, given) for flag in shown if self._is_file(flag)}
        if "frame_range" in shown:
            found["frame_range"] = self._ranges(task, mode, given)
        if "process_type" in shown:
            found["process_type"] = [given["process_type"], given["process_type-2"]]
        flags = form.flags_from(task, mode, found)
        form.check(task, mode, flags)
        if task == LAYERED:
            task = self._joined(given)
        return task, flags

    def _is_file(self, flag: str) -> bool:
        return form.FIELDS[flag].kind in form.FILE_KINDS

    def _files(self, task: str, mode: str | None, flag: str, given: Mapping) -> list[Path]:
        """The files of one flag, checked and taken in."""
        kinds = {"videos": VIDEO_TYPES, "pictures": IMAGE_TYPES, "masks": MASK_TYPES}[form.FIELDS[flag].kind]
        names = [flag] if flag in ("image", *MASKS) else [flag, f"{flag}-2"][: form.slots(task, mode, flag)]
        if flag in MASKS:
            uploads = given[f"{flag}-file"] or []
            drawn = None if uploads else painted(given[flag], self.studio.uploads / "taken", f"--{flag}")
            if drawn:
                return [drawn]
        elif flag == "image":
            uploads = [item[0] for item in given[flag] or []]
        else:
            uploads = [given.get(name) for name in names]
        taken = [self.studio.take(path, kinds, flag) for path in uploads if path]
        return [self.studio.prepared_twin(path) for path in taken] if flag in SOURCES else taken

    def _ranges(self, task: str, mode: str | None, given: Mapping) -> list[str]:
        used = self.clips[: form.slots(task, mode, "video")]
        return [clip.range(*(given[name] for name in clip.names)) for clip in used if given[clip.names[0]]]

    def _joined(self, given: Mapping) -> str:
        uploads = given["files"] or []
        return joined_tasks(given["layers"] or "", {Path(path).name: self.studio.take(path, MASK_TYPES, "task")
                                                    for path in uploads})  # fmt: skip

    def updates(self, parameters: Mapping) -> list:
        """An update for each of `inputs`: task, mode and parameters of an earlier run, never files.

        Raises InputError for a task or mode that is not known.
        """
        task, (lead, mode), values = recalled(parameters)
        row = TASKS[task]
        names = next((names for group, _, names in self.groups if group == row.group), [])
        if task not in names:
            raise InputError(f"--task {task}: is not for this page")
        leads, own, _ = form.modes(task)
        pair = values.get("process_type") or []
        fresh = {
            "group": row.group, "task": gr.update(choices=form.task_choices(names), value=task), "shown": task,
            "marked": {},
            "layers": values.get("task", ""), "lead": _choice(leads, lead), "mode": _choice(own, mode),
            "process_type": pair[0] if pair else None, "process_type-2": pair[1] if len(pair) > 1 else None,
        }  # fmt: skip
        plain = [flag for flag in self.names if flag in form.FIELDS and not self._is_file(flag) and flag not in fresh]
        fresh |= {flag: shown(form.FIELDS[flag], values.get(flag)) for flag in plain}
        return [fresh.get(name, gr.skip()) for name in self.names]


def _choice(names: Sequence[str], chosen: str, **more) -> dict:
    """The update of a dropdown of modes. Without any it is only hidden: its value must stay among its choices."""
    if not names:
        return gr.update(visible=False)
    return gr.update(choices=form.mode_choices(names), value=chosen, visible=True, **more)
